"""Property `availability`: the system comes back after what it promises to survive.

Not that it stayed up: a cluster without a majority has every right to refuse. Once a fault was undone,
and no other followed within 30 s, an operation must succeed through every node within those 30 s. The
evidence for it is in the history, final reads included, and in the journal's `final` line, where the
harness names the nodes through which no write succeeded while it waited for recovery.

Nodes of which too little was seen are not accused: where the history ends sooner, the answer is unknown.
Failing to come back is a violation when all faults so far are of families that the system promises to
survive (by default partition, kill and pause), and had no more nodes out at once than it allows; and an
observation otherwise.

Told beside the verdict, in `detail`: the windows without success, of the cluster and of each node; how long
recovery took after each healing; and `needs_person`, whether some node never came back by itself
although nothing was wrong any more (null where too little was seen to say so).
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from checkers._beyond import applied, beyond
from checkers._windows import window
from harness.core.checker import Anomaly, CheckContext, Result
from harness.core.descriptor import Descriptor
from harness.core.ledger import FaultRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.core.history import History

AVAILABILITY: Final = Descriptor(
    name="availability",
    summary="the system comes back after what it promises to survive",
    target="checkers.availability:Availability",
)
RECOVER_NS: Final = 30 * 10**9
_WINDOW_NS: Final = 10**9
_SHOWN_WINDOWS: Final = 100
_SHOWN_NODE_WINDOWS: Final = 20
_SHOWN_OPS: Final = 5
_never: Final = 2**63 - 1


class Availability:
    """Checks recovery after each fault, and notes how long nothing succeeded."""

    name = "availability"

    def __init__(self, options: Mapping[str, Any]) -> None:
        del options  # it has none

    def check(self, ctx: CheckContext) -> Result:
        faults = applied(ctx.run_dir)
        if not faults:
            return Result(
                verdict="valid", reason="no fault was applied, so there was nothing to recover from"
            )
        seen = _Seen(ctx.history(), _silent(ctx.run_dir))
        if not seen.nodes:
            return Result(verdict="unknown", reason="the history holds no client operation; run it again")
        healed = sorted((f for f in faults if f.undone is not None), key=_undone)
        recovery = [{"fault": f.fault, **seen.recovery(f)} for f in healed]
        detail: dict[str, Any] = {"recovery_s": recovery, **seen.windows(), "nodes": seen.windows_by_node()}
        detail |= _person(seen, faults)
        observations: list[str] = []
        unseen: list[str] = []
        for fault in healed:
            found = _judge(seen, fault, faults)
            unseen += found.unseen
            if not found.gone:
                continue
            past = beyond(faults, ctx.spec, _undone(fault), "availability")
            if not past:
                broken = found.anomalies(seen, fault)
                return Result(verdict="invalid", reason=found.reason, anomalies=broken, detail=detail)
            observations.append(
                f"{found.reason}, but the system does not promise to survive {', '.join(past)}"
            )
        if observations:
            detail["observations"] = observations
        open_still = [f.fault for f in faults if f.undone is None]
        if open_still:
            reason = (
                f"{', '.join(open_still)} was never healed, so no recovery from it was seen; run it again"
            )
            return Result(verdict="unknown", reason=reason, detail=detail)
        if unseen:
            return Result(verdict="unknown", reason=unseen[0], detail=detail)
        if observations:
            return Result(verdict="valid", reason=observations[0], detail=detail)
        return Result(verdict="valid", reason=_success(recovery), detail=detail)


def _success(recovery: Sequence[Mapping[str, Any]]) -> str:
    times = [r["seconds"] for r in recovery if r["seconds"] is not None]
    which = "the fault" if len(recovery) == 1 else f"each of {len(recovery)} faults"
    if not times:
        return f"every node came back after {which}"
    longest = max(0.001, *times)
    return f"after {which} was healed an operation succeeded within {longest:.2g} s; every node came back"


class _Found(msgspec.Struct):
    """What became of the nodes after one fault: `gone` did not come back, for `reason`; `unseen` has a
    sentence for each of which too little was seen."""

    gone: list[str] = []
    unseen: list[str] = []
    reason: str = ""

    def anomalies(self, seen: _Seen, fault: FaultRecord) -> list[Anomaly]:
        return [
            Anomaly(
                kind="unavailable",
                key=None,
                window=seen.attempts(node, _undone(fault)),
                explanation=f"{self.reason} ({fault.says}). Every fault had been undone by then: nothing was"
                " cut off, and what had been stopped or killed was started again.",
                nodes=[node] if node else [],
            )
            for node in self.gone
        ]


def _judge(seen: _Seen, fault: FaultRecord, faults: Sequence[FaultRecord]) -> _Found:
    """Judge the nodes between the undoing of `fault` and the next fault or the end."""
    healed = _undone(fault)
    deadline = healed + RECOVER_NS
    others = [f for f in faults if f is not fault]
    if any(_applied(f) <= healed < _undone(f) for f in others):
        return _Found()  # another fault was in force still
    later = min((_applied(f) for f in others if _applied(f) > healed), default=None)
    until = seen.end if later is None else later
    silent, waited = seen.silent if later is None else ((), False)
    if silent and waited:
        words = (
            f"no write through {_names(silent)} succeeded in the 30 s that the run waited for recovery from"
        )
        return _Found(gone=list(silent), reason=f"{words} {fault.family} {fault.fault}")
    gone: list[str] = []
    unseen: list[str] = []
    for node in seen.nodes:
        served, tried = seen.served(node, healed), seen.tried(node, healed)
        if served is not None and served <= deadline:
            continue
        if until >= deadline and tried is not None and (served is None or tried <= deadline):
            gone.append(node)
        elif later is None and served is None and not waited:
            so_far = f"{max(0, until - healed) / 1e9:.1f} s after {fault.family} {fault.fault} was healed"
            unseen.append(
                f"the history ends {so_far}, before an operation through {_names([node])} succeeded"
            )
    words = f"no operation through {_names(gone)} succeeded within 30 s after"
    return _Found(gone, unseen, f"{words} {fault.family} {fault.fault} was healed")


class _Seen:
    """What was seen of each node: the clients' operations as columns, final reads included, and what
    the run's own recovery found (`silent`: nodes, and whether it waited to the end for them)."""

    def __init__(self, history: History, silent: tuple[tuple[str, ...], bool]) -> None:
        import numpy as np  # here, since the descriptor above is read by every `--help`

        from harness.core.history import OK

        self._np = np
        self._history = history
        self.silent = silent
        self._at = history.invocations()
        pair = history.pair[self._at]
        self._begin: NDArray[np.int64] = history.time[self._at]
        self._end: NDArray[np.int64] = np.where(pair >= 0, history.time[pair], _never)
        self._ok = history.outcome() == OK
        self._soonest = self._first_success(np.ones(len(self._at), dtype=np.bool_))
        codes = history.node[self._at]
        self._of = {history.node_names[c]: np.flatnonzero(codes == c) for c in np.unique(codes).tolist()}
        self._soonest_of = {node: self._first_success(here) for node, here in self._of.items()}
        self.nodes = sorted(self._of)
        client = history.time[history.client]
        self.end = int(client[-1]) if len(client) else 0

    def served(self, node: str | None, since: int) -> int | None:
        """When the first success came that was asked for at `since` or later; through any node for None."""
        if node is None:
            begins, soonest = self._begin, self._soonest
        else:
            begins, soonest = self._begin[self._of[node]], self._soonest_of[node]
        found = int(soonest[self._np.searchsorted(begins, since)])
        return None if found == _never else found

    def tried(self, node: str, since: int) -> int | None:
        """When the first attempt through `node` was made at `since` or later."""
        begins = self._begin[self._of[node]]
        i = int(self._np.searchsorted(begins, since))
        return int(begins[i]) if i < len(begins) else None

    def recovery(self, fault: FaultRecord) -> dict[str, Any]:
        """Seconds from healing to the first success asked for after it, anywhere and by node hit."""
        healed = _undone(fault)

        def seconds(node: str | None) -> float | None:
            served = self.served(node, healed)
            return None if served is None else round((served - healed) / 1e9, 3)

        return {"seconds": seconds(None), "nodes": {n: seconds(n) for n in fault.nodes if n in self._of}}

    def windows(self) -> dict[str, Any]:
        """The longest times in which operations were under way and none succeeded, over a second."""
        return self._windows(self._np.arange(len(self._at)), _SHOWN_WINDOWS)

    def windows_by_node(self) -> dict[str, Any]:
        """The same through each node, and the sum of them all in seconds."""
        return {node: self._windows(here, _SHOWN_NODE_WINDOWS) for node, here in self._of.items()}

    def _windows(self, here: NDArray[np.intp], shown: int) -> dict[str, Any]:
        """Windows of the operations `here`, in the order of their invocations."""
        np = self._np
        begins, all_ends = self._begin[here], self._end[here]
        edges = np.concatenate(([begins[0]], np.sort(all_ends[self._ok[here]]), [self.end]))
        latest = np.maximum.accumulate(np.where(all_ends == _never, begins, all_ends))
        found = []
        for i in np.flatnonzero(np.diff(edges) > _WINDOW_NS).tolist():
            begin, end = int(edges[i]), int(edges[i + 1])
            k = int(np.searchsorted(begins, begin, side="right"))
            if k and latest[k - 1] <= begin:  # nobody was waiting: it begins when somebody asks
                begin = int(begins[k]) if k < len(begins) else end
            if end - begin > _WINDOW_NS:
                found.append({"from": begin, "to": end, "seconds": round((end - begin) / 1e9, 3)})
        longest = sorted(found, key=lambda w: -w["seconds"])[:shown]
        without_s = round(sum(w["seconds"] for w in found), 3)
        return {
            "windows": sorted(longest, key=lambda w: w["from"]),
            "windows_found": len(found),
            "without_success_s": without_s,
        }

    def attempts(self, node: str, since: int) -> list[dict[str, Any]]:
        """The last attempts through `node`, as they stand in an anomaly's window."""
        here = self._of.get(node, self._np.zeros(0, dtype=self._np.int64))
        last = here[self._begin[here] >= since][-_SHOWN_OPS:]
        return window(self._history, self._at[last].tolist())

    def _first_success(self, here: NDArray[np.intp] | NDArray[np.bool_]) -> NDArray[np.int64]:
        """For each of the operations `here`, and for none: the least end of an ok one from there on."""
        ends = self._np.append(self._np.where(self._ok[here], self._end[here], _never), _never)
        soonest: NDArray[np.int64] = self._np.minimum.accumulate(ends[::-1])[::-1]
        return soonest


def _person(seen: _Seen, faults: Sequence[FaultRecord]) -> dict[str, Any]:
    """Whether the system stayed broken after the last healing, so that a person has to look after it."""
    if any(f.undone is None for f in faults):
        return {"needs_person": None}
    last = max(faults, key=_undone)
    found = _judge(seen, last, faults)
    silent = seen.silent[0]
    for_ever = [n for n in found.gone if n in silent or seen.served(n, _undone(last)) is None]
    if for_ever:
        says = f"{_names(for_ever)} needs a person: nothing was wrong any more, and {found.reason}"
        if not set(for_ever) & set(silent):
            end_s = max(0, seen.end - _undone(last)) / 1e9
            says += f", nor in all of the {end_s:.0f} s to the end of the history"
        return {"needs_person": True, "needs_person_says": says}
    return {"needs_person": None if found.unseen else False}


def _applied(fault: FaultRecord) -> int:
    return 0 if fault.applied is None else fault.applied


def _undone(fault: FaultRecord) -> int:
    return _never if fault.undone is None else fault.undone


def _names(nodes: Sequence[str]) -> str:
    return " and ".join(n or "the cluster" for n in nodes)


def _silent(run_dir: Path | None) -> tuple[tuple[str, ...], bool]:
    """The nodes through which no write succeeded in the run's recovery, and whether the run waited the
    whole time for them (or they all came): an interrupted one did not, and accuses nobody."""
    path = run_dir / "journal.jsonl" if run_dir is not None else None
    if path is None or not path.exists() or path.stat().st_size == 0:
        return (), False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        recover, final = _phase(data, "recover"), _phase(data, "final")
    if recover is None or final is None or "silent" not in final:
        return (), False
    silent = tuple(final["silent"])
    return silent, not silent or final["time"] - recover["time"] >= RECOVER_NS


def _phase(data: mmap.mmap, name: str) -> dict[str, Any] | None:
    """The journal's last line about a phase; found from the end, the file may be large."""
    start = data.rfind(f'\n{{"phase":"{name}",'.encode())
    stop = data.find(b"\n", start + 1)
    if start < 0 or stop < 0:
        return None
    line: dict[str, Any] = msgspec.json.decode(data[start + 1 : stop])
    return line
