"""Are the members in the end those that they should be, in every node's own eyes?

For runs that change who is a member (`members.jsonl`). Three things are violations: a change that was
acknowledged and that the cluster's next agreement lacks; a member that was removed, and acknowledged to be, and
is there in the end; and a node that in the end, when it has applied a last write, has other members
than the cluster agrees on. That the members of the beginning could not be had back is unknown: what stood in
the way is told, and whether nodes serve is for `availability` to say.

It cannot see what a node believed in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from checkers._beyond import applied, beyond
from checkers._events import seconds
from checkers._members import lines
from harness.core.checker import Anomaly, CheckContext, Result
from harness.core.descriptor import Descriptor

MEMBERS: Final = Descriptor(
    name="members",
    summary="the members are those that they should be in the end, by every node's own view",
    target="checkers.members:Members",
)
_changes: Final = ("add", "promote", "remove")


class Members:
    """The checker. It has no options."""

    name = "members"

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        del options

    def check(self, ctx: CheckContext) -> Result:
        told = lines(ctx.run_dir)
        if not told:
            return Result(verdict="valid", reason="nobody changed the members")
        end = told[-1] if told[-1]["event"] == "end" else None
        found = [*_lost(told), *(_at_the_end(told, end) if end else [])]
        counts = {
            do: sum(line["event"] == "observed" and line["do"] == do for line in told) for do in _changes
        }
        unseen = sum(line["event"] == "unseen" for line in told)
        detail: dict[str, Any] = {"changes": counts, "unseen": unseen}
        if found:
            faults = applied(ctx.run_dir)
            if past := beyond(faults, ctx.spec, told[-1]["time"]):
                after = f"after a fault that the system does not promise to survive: {', '.join(past)}"
                detail["observations"] = [f"{a.explanation}, {after}" for a in found]
                return Result(verdict="valid", reason=detail["observations"][0], detail=detail)
            return Result(verdict="invalid", reason=found[0].explanation, anomalies=found, detail=detail)
        if end is None:
            reason = "the run ended before the members were asked for a last time; run it again"
            return Result(verdict="unknown", reason=reason, detail=detail)
        if end["agreed"] is None:
            return Result(
                verdict="unknown", reason="in the end no node knew what the cluster agrees on", detail=detail
            )
        if not end["settled"]:
            reason = f"the members of the beginning could not be had back in time: {end['pending']}"
            return Result(verdict="unknown", reason=reason, detail=detail)
        some = ", ".join(f"{n} {do}{'ed' if do == 'add' else 'd'}" for do, n in counts.items())
        names = ", ".join(end["wanted"])
        return Result(
            verdict="valid", reason=f"{some}; in the end they are {names}, by every view", detail=detail
        )


def _lost(told: Sequence[Mapping[str, Any]]) -> list[Anomaly]:
    """Changes that were acknowledged and could not be seen."""
    return [
        _anomaly(
            "member-change-lost",
            f"to {line['do']} the member on {line['node']} was acknowledged, and by {seconds(line['time'])} the"
            " members that the cluster agreed on did not show it",
            line["node"],
        )
        for line in told
        if line["event"] == "contradicted"
    ]


def _at_the_end(told: Sequence[Mapping[str, Any]], end: Mapping[str, Any]) -> list[Anomaly]:
    """What is wrong with the members that there are in the end."""
    found: list[Anomaly] = []
    gone = {line["id"] for line in told if line["event"] == "acknowledged" and line["do"] == "remove"}
    agreed = end["agreed"] or []
    found += [
        _anomaly(
            "removed-member",
            f"member {m['id']} on {m['node']} was removed, which was acknowledged, and is there in the end",
            m["node"],
        )
        for m in agreed
        if m["id"] in gone
    ]
    for node, view in end["views"].items():
        if view is not None and end["agreed"] is not None and _who(view) != _who(agreed):
            text = f"in the end {node} has the members {_names(view)}, and the cluster agrees on {_names(agreed)}"
            found.append(_anomaly("member-view", text, node))
    return found


def _who(members: Sequence[Mapping[str, Any]]) -> set[tuple[str, bool]]:
    return {(m["id"], m["learner"]) for m in members}


def _names(members: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{m['node']} ({m['id']}{', a learner' if m['learner'] else ''})" for m in members)


def _anomaly(kind: str, text: str, node: str) -> Anomaly:
    return Anomaly(kind=kind, key=None, window=[], explanation=text, nodes=[node])
