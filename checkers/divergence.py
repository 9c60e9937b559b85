"""Do all replicas hold the same, once everything was healed and one last write has reached them?

A majority that answers correctly hides a replica that has gone astray until that one leads. So at the
end of a run every node is asked for what it holds at one and the same revision, that of a
barrier write which it has applied (`dump/<node>.json`), and for its hash of that, where it has one.
Contents that differ are a violation (`content`), and so are hashes that differ over equal contents
(`hash`): then they differ in what the contents do not show, such as history or leases.

Nodes whose dump failed are named and left out. It cannot see what differed before and was repaired,
nor what lies outside the dumped keys, but for the hash.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from checkers._beyond import applied, beyond
from harness.core.checker import Anomaly, CheckContext, Result
from harness.core.descriptor import Descriptor

DIVERGENCE: Final = Descriptor(
    name="divergence",
    summary="all replicas hold the same at one revision, after everything was healed",
    target="checkers.divergence:Divergence",
)
_named: Final = 20  # keys that differ
_text: Final = 120  # characters of a value
_always: Final = 2**63 - 1


class Dump(msgspec.Struct):
    """What one node holds at `revision`, or the `error` that kept it from saying so."""

    node: str
    format: int = 1
    revision: int | None = None
    hash: str | None = None
    content: dict[str, str] | None = None
    error: str | None = None


class Divergence:
    """The checker. It has no options."""

    name = "divergence"

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        del options

    def check(self, ctx: CheckContext) -> Result:
        dumps = _read(ctx.run_dir)
        if not dumps:
            return Result(verdict="valid", reason="no node was asked for a dump, so none contradicts another")
        at = Counter(d.revision for d in dumps if d.error is None).most_common(1)
        revision = at[0][0] if at else None
        same = [d for d in dumps if d.error is None and d.revision == revision]
        left_out = {d.node: _why(d, revision) for d in dumps if d not in same}
        detail: dict[str, Any] = {
            "revision": revision,
            "nodes": [d.node for d in same],
            "left_out": left_out,
            "keys": len(same[0].content or {}) if same else 0,
            "hashes": {d.node: d.hash for d in same},
        }
        if len(same) < 2:
            if len(dumps) == 1 and same and ctx.spec.get("nodes") == 1:
                return Result(verdict="valid", reason="there is one replica, equal to itself", detail=detail)
            why = "; ".join(f"{node}: {text}" for node, text in left_out.items()) or "no other was dumped"
            reason = f"{len(same)} of {len(dumps)} dumps can be compared ({why}); run it again"
            return Result(verdict="unknown", reason=reason, detail=detail)
        anomalies = _content(same) or _hash(same)
        if not anomalies:
            what = "content and hash" if sum(d.hash is not None for d in same) > 1 else "content"
            reason = f"{' and '.join(d.node for d in same)} have the same {what} at revision {revision}"
            reason += "".join(f"; {node} was left out: {text}" for node, text in left_out.items())
            return Result(verdict="valid", reason=reason, detail=detail)
        reason = anomalies[0].explanation
        if past := beyond(applied(ctx.run_dir), ctx.spec, _always):
            reason += (
                f", but there was a fault that the system does not promise to survive: {', '.join(past)}"
            )
            observations = [a.explanation for a in anomalies]
            return Result(verdict="valid", reason=reason, detail={**detail, "observations": observations})
        return Result(verdict="invalid", reason=reason, anomalies=anomalies, detail=detail)


def _read(run_dir: Path | None) -> list[Dump]:
    """The dumps of a run by node. One that cannot be read is one that failed."""
    folder = None if run_dir is None else run_dir / "dump"
    if folder is None or not folder.is_dir():
        return []
    out = []
    for path in sorted(folder.glob("*.json")):
        try:
            dump = msgspec.json.decode(path.read_bytes(), type=Dump)
        except (msgspec.DecodeError, OSError, UnicodeDecodeError) as e:
            dump = Dump(node=path.stem, error=f"the dump cannot be read: {e}")
        if dump.error is None and (dump.content is None or dump.revision is None):
            dump.error = "the dump has neither an error nor both revision and content"
        out.append(dump)
    return out


def _why(dump: Dump, revision: int | None) -> str:
    return dump.error or f"dumped at revision {dump.revision}, the others at {revision}"


def _content(dumps: Sequence[Dump]) -> list[Anomaly]:
    """One violation for each key that differs, as far as they are named."""
    contents = [(d.node, d.content or {}) for d in dumps]
    first = contents[0][1]
    differ = {
        key
        for _, content in contents[1:]
        for key in first.keys() | content.keys()
        if first.get(key) != content.get(key)
    }
    anomalies = []
    for key in sorted(differ)[:_named]:
        values = {node: content.get(key) for node, content in contents}
        said = ", ".join(f"{node} {_shown(value)}" for node, value in values.items())
        text = f"replicas differ at revision {dumps[0].revision}: of {key}, {said}"
        if len(differ) > 1:
            text += f" ({len(differ)} keys differ)"
        anomalies.append(Anomaly(kind="content", key=key, window=[], explanation=text, nodes=_odd(values)))
    return anomalies


def _hash(dumps: Sequence[Dump]) -> list[Anomaly]:
    hashes = {d.node: d.hash for d in dumps if d.hash is not None}
    if len(set(hashes.values())) < 2:
        return []
    said = ", ".join(f"{node} {value}" for node, value in hashes.items())
    text = (
        f"the nodes' own hashes differ at revision {dumps[0].revision} ({said}) although all dumped keys and"
        " values are equal: they differ in something that reads do not show, such as the keys' history"
    )
    return [Anomaly(kind="hash", key=None, window=[], explanation=text, nodes=_odd(hashes))]


def _odd(values: Mapping[str, str | None]) -> list[str]:
    """The nodes that differ from a majority of them; all where no majority agrees."""
    usual, count = Counter(values.values()).most_common(1)[0]
    return [node for node, value in values.items() if value != usual or count * 2 <= len(values)]


def _shown(value: str | None) -> str:
    if value is None:
        return "has nothing"
    return f"has {value if len(value) <= _text else value[:_text] + '...'}"
