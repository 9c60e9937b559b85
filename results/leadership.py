"""How stable leadership was, from what the nodes said of themselves (`monitor.jsonl`): pure figures, no verdict.

There is a *leader* while a node calls itself so and a majority of the nodes, itself among them, names it in
what they say of that moment; where no node ever names anybody, its own word is enough. An *election* is the
first sight of a leader in a higher term than any before, or, where there are no terms, of another one. A cluster that
was restored begins its terms anew: there it is the first sight of a leader at all.
How long a leader's *term* of office was goes from that to the last moment at which it was the leader of
that term. Nodes are asked five times a second, so that what is shorter is not seen, and all times are good to 0.2 s.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from harness.core.ledger import FaultRecord
from harness.core.system import majority

_AFTER_NS: Final = 2 * 10**9  # an election so long after a fault was undone still belongs to it
_LISTED: Final = 100  # terms, and times without a leader, in the results


class _Election(NamedTuple):
    """Who was first seen to lead in which term, and when."""

    time: int
    node: str
    term: int | None


def leadership(
    monitor: Path, faults: Sequence[FaultRecord], begin: int, end: int, nodes: int
) -> dict[str, Any] | None:
    """Figures of the time from `begin` to `end` (ns since the run's start) among so many `nodes`; None where
    nobody was ever seen to lead.

    `elections`, `elections_by_fault` (family -> how many began while one of its faults was in force, or within
    2 s of its undoing), `elections_unprovoked` (the others), `terms` and `without` (the latest of them, times
    in s since the run's start), `term_s` (`median`, `shortest`, `longest`), `without_leader_s` (in sum),
    `longest_without_s`, `seconds` (all of it).
    """
    lines = list(_lines(monitor))
    found, spans = _watched(lines, nodes, [f.anew for f in faults if f.anew is not None])
    if not found:
        return None
    begin = max(begin, int(lines[0]["time"]))  # nobody looked before
    now = [e for e in found[1:] if begin <= e.time <= end]  # the first was there when one began to look
    led = _clipped(spans, begin, end)
    reigns: dict[tuple[str, int | None], list[int]] = {}
    for left, right, node, term in led:
        reign = reigns.setdefault((node, term), [left, right])
        reign[1] = right
    gaps = _gaps([(left, right) for left, right, _, _ in led], begin, end)
    lengths = [(right - left) / 1e9 for left, right in reigns.values()]
    blamed = _by_fault(now, faults)
    return {
        "elections": len(now),
        "elections_by_fault": blamed,
        "elections_unprovoked": sum(not any(_provoked(e, f) for f in faults) for e in now),
        "terms": [
            {"node": node, "term": term, "from_s": _s(left), "to_s": _s(right), "seconds": _s(right - left)}
            for (node, term), (left, right) in reigns.items()
        ][-_LISTED:],
        "term_s": (
            {
                "median": round(statistics.median(lengths), 3),
                "shortest": round(min(lengths), 3),
                "longest": round(max(lengths), 3),
            }
            if lengths
            else None
        ),
        "without": [{"from_s": _s(a), "to_s": _s(b), "seconds": _s(b - a)} for a, b in gaps][-_LISTED:],
        "without_leader_s": _s(sum(b - a for a, b in gaps)),
        "longest_without_s": _s(max((b - a for a, b in gaps), default=0)),
        "seconds": _s(end - begin),
    }


def sentence(figures: Mapping[str, Any]) -> str:
    """The figures in one line.

    >>> sentence({"elections": 2, "elections_by_fault": {"kill": 2}, "elections_unprovoked": 0,
    ...     "term_s": {"median": 8.25, "shortest": 3, "longest": 9}, "without_leader_s": 1.5, "seconds": 30.0,
    ...     "longest_without_s": 1.0})
    '2 elections (2 under kill), a leader for 8.2 s in the median, none for 1.5 of 30.0 s (1.0 s at the longest)'
    """
    number = figures["elections"]
    because = [f"{n} under {family}" for family, n in figures["elections_by_fault"].items() if n]
    if figures["elections_unprovoked"]:
        because.append(f"{figures['elections_unprovoked']} under nothing")
    told = f"{number} election{'' if number == 1 else 's'}" + (f" ({', '.join(because)})" if because else "")
    if figures["term_s"]:
        told += f", a leader for {figures['term_s']['median']:.1f} s in the median"
    told += f", none for {figures['without_leader_s']:.1f} of {figures['seconds']:.1f} s"
    longest = figures["longest_without_s"]
    return told + (f" ({longest:.1f} s at the longest)" if longest else "")


def _lines(monitor: Path) -> Iterator[dict[str, Any]]:
    """What nodes said, in order; a torn last line is left out."""
    if not monitor.exists():
        return
    for raw in monitor.read_bytes().splitlines():
        try:
            line = msgspec.json.decode(raw, type=dict)
        except msgspec.DecodeError:
            continue
        if "node" in line:
            yield line


def _watched(
    lines: Sequence[Mapping[str, Any]], nodes: int, begun: Sequence[int]
) -> tuple[list[_Election], list[tuple[int, int, str, int | None]]]:
    """The elections, and from when to when who led in which term."""
    named = any(line.get("leader") for line in lines)
    last: dict[str, Mapping[str, Any]] = {}
    found: list[_Election] = []
    spans: list[tuple[int, int, str, int | None]] = []
    since, who = 0, None
    for line in lines:
        last[line["node"]] = line
        time = int(line["time"])
        anew = not found or any(found[-1].time < b <= time for b in begun)
        if line.get("role") == "leader" and (anew or _new(line, found[-1])):
            found.append(_Election(time, line["node"], line.get("term")))
        now = _leader(last, nodes, named=named)
        if now != who:
            if who is not None:
                spans.append((since, time, *who))
            since, who = time, now
    if who is not None and lines:
        spans.append((since, 2**63 - 1, *who))
    return found, spans


def _new(line: Mapping[str, Any], latest: _Election) -> bool:
    term = line.get("term")
    if term is None or latest.term is None:
        return bool(line["node"] != latest.node)
    return bool(term > latest.term)


def _leader(
    last: Mapping[str, Mapping[str, Any]], nodes: int, *, named: bool
) -> tuple[str, int | None] | None:
    """Who leads, and in which term, by what each node said last."""
    claims = [line for line in last.values() if line.get("ok") and line.get("role") == "leader"]
    for line in sorted(claims, key=lambda c: -(c.get("term") or 0)):
        node = line["node"]
        follows = sum(1 for n, o in last.items() if n == node or (o.get("ok") and o.get("leader") == node))
        if not named or follows >= majority(nodes):
            return node, line.get("term")
    return None


def _clipped(
    spans: Iterable[tuple[int, int, str, int | None]], begin: int, end: int
) -> list[tuple[int, int, str, int | None]]:
    cut = [(max(a, begin), min(b, end), node, term) for a, b, node, term in spans]
    return [span for span in cut if span[0] < span[1]]


def _gaps(led: Iterable[tuple[int, int]], begin: int, end: int) -> list[tuple[int, int]]:
    """What of the time is not in `led`, which is in order."""
    gaps = []
    at = begin
    for left, right in led:
        if left > at:
            gaps.append((at, left))
        at = max(at, right)
    return [*gaps, (at, end)] if at < end else gaps


def _provoked(election: _Election, fault: FaultRecord) -> bool:
    if fault.applied is None and fault.planned > election.time:
        return False
    begin = min(fault.planned, fault.applied or fault.planned)
    return begin <= election.time and (fault.undone is None or election.time <= fault.undone + _AFTER_NS)


def _by_fault(elections: Sequence[_Election], faults: Sequence[FaultRecord]) -> dict[str, int]:
    """Family -> elections that one of its faults may have brought about."""
    families = dict.fromkeys(f.family for f in faults)
    return {
        family: sum(any(_provoked(e, f) for f in faults if f.family == family) for e in elections)
        for family in families
    }


def _s(ns: int) -> float:
    return round(ns / 1e9, 3)
