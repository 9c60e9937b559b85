"""Did every term have at most one leader? (Election safety; Ongaro and Ousterhout 2014, section 5.2.)

Decided from what the nodes themselves logged when they *became* leader, with the term that they became it
in, and from nothing else. A node's status is no evidence: etcd's pairs a new leader with an old
term for a moment, and a deposed leader that does not know it yet is legal. One node may say so of one
term as often as it likes (a log that is read again after a restart). Leaders of two terms at once
are legal too; whether clients suffer from that is for `lock` and `linearizable` to say.

A fault after which the nodes are another cluster (a snapshot restored) begins the terms anew, on each node with the
line by which it tells of its next start.

It cannot see a leader whose log is lost, or cut off by a kill in mid-line. Times are of the harness, when it
first saw that the line was there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from checkers._beyond import applied, beyond
from checkers._events import events, has_logs, seconds, told_terms
from harness.core.checker import Anomaly, CheckContext, Result
from harness.core.descriptor import Descriptor
from harness.core.system import LogEvent

TERMS: Final = Descriptor(
    name="terms",
    summary="every term has at most one leader, by the nodes' own logs",
    target="checkers.terms:Terms",
)
_listed: Final = 200  # elections in the results


class Terms:
    """The checker. It has no options."""

    name = "terms"

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        del options

    def check(self, ctx: CheckContext) -> Result:
        faults = applied(ctx.run_dir)
        # Of each cluster that there was: term -> node -> the first line that says so.
        first: dict[tuple[int, int], dict[str, LogEvent]] = {}
        for cluster, e in _told(events(ctx.run_dir), [f.anew for f in faults if f.anew is not None]):
            first.setdefault((cluster, e.term or 0), {}).setdefault(e.node, e)
        anomalies: list[Anomaly] = []
        observations: list[str] = []
        for (_, term), leaders in sorted(first.items()):
            if len(leaders) < 2:
                continue
            lines = sorted(leaders.values(), key=lambda e: e.time)
            text = _explain(term, lines)
            if past := beyond(faults, ctx.spec, lines[-1].time):
                observations.append(
                    f"{text}, after a fault that the system does not promise to survive: {', '.join(past)}"
                )
                continue
            nodes = [e.node for e in lines]
            anomalies.append(
                Anomaly(kind="two-leaders", key=f"term {term}", window=[], explanation=text, nodes=nodes)
            )
        elections = [(e.time, t, n) for (_, t), nodes in first.items() for n, e in nodes.items()]
        detail: dict[str, Any] = {
            "terms": len(first),
            "leaders": len({n for _, _, n in elections}),
            "elections": [
                {"time": at, "term": term, "node": node} for at, term, node in sorted(elections)[-_listed:]
            ],
            "leader_changes": _changes(elections),
            "observations": observations,
        }
        if anomalies:
            more = f" (and so had {len(anomalies) - 1} more terms)" if len(anomalies) > 1 else ""
            reason = anomalies[0].explanation + more
            return Result(verdict="invalid", reason=reason, anomalies=anomalies, detail=detail)
        if observations:
            return Result(verdict="valid", reason=observations[0], detail=detail)
        if first:
            which = f"each of {len(first)} terms" if len(first) > 1 else "the one term"
            reason = f"{which} had one leader"
            return Result(verdict="valid", reason=reason, detail=detail)
        if has_logs(ctx.run_dir) and told_terms(ctx.run_dir):
            reason = (
                "the nodes' status has terms and their logs tell of no election; this version may word it"
                " otherwise than the system's `events` expects"
            )
            return Result(verdict="unknown", reason=reason, detail=detail)
        reason = "no log tells of an election, so none contradicts that each term had one leader"
        return Result(verdict="valid", reason=reason, detail=detail)


def _explain(term: int, lines: list[LogEvent]) -> str:
    said = ", and ".join(f'{e.node} logged "{e.text}" by {seconds(e.time)}' for e in lines)
    return f"term {term} had {len(lines)} leaders: {said}; each was elected by a majority, or believed so"


def _told(lines: Iterable[LogEvent], begun: Sequence[int]) -> Iterator[tuple[int, LogEvent]]:
    """Each election in a term, and in the how manieth cluster it was; others were `begun` at these times."""
    cluster: dict[str, int] = {}  # node -> of how many of them it has told a start
    for e in lines:
        at = cluster.get(e.node, 0)
        if e.kind == "start" and at < len(begun) and e.time > begun[at]:
            cluster[e.node] = at + 1
        elif e.kind == "election" and e.term is not None:
            yield at, e


def _changes(elections: list[tuple[int, int, str]]) -> int:
    """How often another node led than in the term before."""
    nodes = [node for _, _, node in sorted(elections, key=lambda e: (e[1], e[0]))]
    return sum(a != b for a, b in pairwise(nodes))
