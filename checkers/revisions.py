"""Property `revisions`: the store's revisions never contradict real time, whatever the keys.

A store with one global revision (etcd) tells with each answer at which revision the operation took
effect (`ext.revision`; of a read, the state that it saw). So the order of all linearizable operations
is known, across keys, and comparing it with real time takes O(n):

* `went-back`: an operation that began after another had completed has a smaller revision, or the same
  one although it mutates;
* `shared`: two acknowledged mutations have the same revision.

Which operations mutate: all, except those whose `f` is listed in the option `reads`, and a transaction
(`txn`) of read micro-operations alone. Only `ok` completions are looked at; what failed or is unknown
has no revision. A history without revisions is valid, there is nothing to compare.

It does not look at values, and of two operations that overlap it asks nothing but distinct revisions.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from checkers._windows import anomaly, malformed, more, operation, settle, summary
from checkers.explain import Clock, Operation, count, text, who
from harness.core.checker import Anomaly, CheckContext, Result
from harness.core.descriptor import Descriptor
from harness.core.options import Option

if TYPE_CHECKING:
    from collections.abc import Iterable

    from harness.core.history import History

_options: Final = (
    Option(
        name="reads",
        default="read,leader",
        summary="which operations do not mutate, so that their revision is the state's that they saw",
    ),
)
REVISIONS: Final = Descriptor(
    name="revisions",
    summary="the order of the store's revisions never contradicts real time, across all keys",
    target="checkers.revisions:Revisions",
    options=_options,
)
KINDS: Final = ("went-back", "shared")


class _Row(msgspec.Struct, gc=False):
    ext: dict[str, Any] | None = None


class Revisions:
    """The checker; see the options of `REVISIONS`."""

    name = "revisions"

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        """Raises: UsageError for an option that does not exist."""
        self.reads = frozenset(
            f.strip() for f in str(settle(options, "revisions", _options)["reads"]).split(",")
        )

    def check(self, ctx: CheckContext) -> Result:
        """Compare all revisions with real time.

        Raises: HistoryError for a revision that is no integer.
        """
        import numpy as np

        history = ctx.history()
        began = time.monotonic()
        at, revision = _revisions(ctx, history)
        if not len(at):
            return Result(
                verdict="valid",
                reason="no answer carries a revision, so there is nothing to compare",
                seconds=time.monotonic() - began,
                detail={"revisions": 0},
            )
        asked = history.pair[at]
        mutates = self._mutates(history, asked)
        # The greatest revision among the completions so far, and whose it is: the first with it.
        top = np.maximum.accumulate(revision)
        fresh = np.concatenate(([True], revision[1:] > top[:-1]))
        whose = np.maximum.accumulate(np.where(fresh, np.arange(len(at)), 0))
        before = np.searchsorted(at, asked) - 1  # the last completion before each invocation
        prior = np.maximum(before, 0)
        back = (before >= 0) & np.where(mutates, revision <= top[prior], revision < top[prior])
        pairs = [("went-back", i, int(whose[prior[i]])) for i in np.flatnonzero(back).tolist()]
        mutations = np.flatnonzero(mutates)
        order = mutations[np.argsort(revision[mutations], kind="stable")]
        same = np.flatnonzero((revision[order][1:] == revision[order][:-1]) & ~back[order[1:]])
        pairs += [("shared", int(order[i + 1]), int(order[i])) for i in same.tolist()]
        anomalies = _anomalies(history, at, revision, pairs)
        good = f"{count(len(at), 'revision')} in an order that fits real time"
        return Result(
            verdict="invalid" if anomalies else "valid",
            reason=summary(anomalies) if anomalies else good,
            seconds=time.monotonic() - began,
            anomalies=anomalies,
            detail={
                "revisions": len(at),
                "mutations": len(mutations),
                "highest": int(revision.max()),
                "went_back": int(back.sum()),
                "shared": len(same),
            },
        )

    def _mutates(self, history: History, asked: Any) -> Any:
        """For each of the operations invoked at `asked`, whether it changes the store."""
        import numpy as np

        by_f = np.array([name not in self.reads for name in history.f_names])
        out = by_f[history.f[asked]]
        if "txn" in history.f_names:
            for i in np.flatnonzero(out & (history.f[asked] == history.f_names.index("txn"))).tolist():
                out[i] = not _only_reads(history.ops[int(asked[i])].value)
        return out


def _only_reads(txn: Any) -> bool:
    return isinstance(txn, list) and all(isinstance(m, list) and m[:1] == ["r"] for m in txn)


def _revisions(ctx: CheckContext, history: History) -> tuple[Any, Any]:
    """The positions of the ok completions with a revision, in order, and the revisions."""
    from array import array

    import numpy as np

    from harness.core.history import OK

    answers = (history.client & (history.type == OK)).tobytes()
    at, revisions = array("q"), array("q")
    for position, (row, answer) in enumerate(zip(history.rows(_Row), answers, strict=True)):
        if not answer or not row.ext:
            continue
        revision = row.ext.get("revision")
        if type(revision) is int and -(2**63) <= revision < 2**63:
            at.append(position)
            revisions.append(revision)
        elif revision is not None:
            raise malformed(ctx, position, f"ext.revision is {text(revision)}; expected an integer")
    return np.array(at, dtype=np.int64), np.array(revisions, dtype=np.int64)


def _anomalies(
    history: History, at: Any, revision: Any, pairs: Iterable[tuple[str, int, int]]
) -> list[Anomaly]:
    """One for each kind and key of the operation that contradicts, with the first as its example."""
    from harness.core.history import identity

    first: dict[tuple[str, Any], list[int]] = {}
    for kind, later, earlier in pairs:
        key = history.ops[int(history.pair[at[later]])].key
        first.setdefault((kind, identity(key)), [later, earlier, 0])[2] += 1
    found = sorted(first.items(), key=lambda x: (KINDS.index(x[0][0]), x[1][0]))
    out = []
    for (kind, _), (later, earlier, times) in found:
        positions = [int(history.pair[at[earlier]]), int(history.pair[at[later]])]
        one, two = (operation(history, p) for p in positions)
        said = _say(kind, one, two, (int(revision[earlier]), int(revision[later])))
        nodes = [two["node"] or ""]
        out.append(
            anomaly(history, kind, two["key"], positions, said + more(times - 1, "such operation"), nodes)
        )
    return out


def _say(kind: str, one: Operation, two: Operation, revisions: tuple[int, int]) -> str:
    clock = Clock([one, two])
    a, b = (
        f"{o['f']}{' of ' + text(o['key'], bare=True) if o['key'] is not None else ''} by {who(o)}"
        for o in (one, two)
    )
    if kind == "shared":
        return (
            f"the {a} and the {b} both changed the store at revision {revisions[0]}, acknowledged at"
            f" {clock(one['end_ns'])} and {clock(two['end_ns'])}; every change has a revision of its own"
        )
    than = "is no later than" if revisions[0] == revisions[1] else "is before"
    return (
        f"the {b} began at {clock(two['start_ns'])} and took effect at revision {revisions[1]}, which {than}"
        f" revision {revisions[0]} of the {a}, answered already at {clock(one['end_ns'])}"
    )
