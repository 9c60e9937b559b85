"""Faults `slow-disk` and `hung-disk`: what a program syncs takes long, or does not come to an end.

A tracer holds each fsync and fdatasync of the nodes' processes back at its entry, for `delay_ms` or until
the fault is over; with `at=write` each write to a file of the node's data instead, of those that `files` names.
Everything else runs on: heartbeats are sent by a leader that can commit nothing. (All of its system calls cost a
little more while a process is traced, some tens of microseconds each.)

A disk is slow for whoever uses it: a process that is killed and started again meanwhile finds it so, and
`kill` and its like can have the same node. What did not reach the disk by then is lost with the process: a
system that acknowledges before it writes shows itself.

Proof: how long a thread was seen in such a call without having run, by what the kernel says of it, is
above four fifths of the delay during the fault, and was below before. Nodes on which nothing runs are left
out, since nothing could be seen there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from harness.core.descriptor import Descriptor
from harness.core.fault import Evidence, FaultContext, Phase, Plan, Undo
from harness.core.options import Option
from nemesis import targets
from nemesis.crash_point import CALLS

_NEEDS: Final = frozenset({"trace", "signal"})
SLOW_DISK: Final = Descriptor(
    name="slow-disk",
    summary="each sync of the system's processes on some nodes takes long",
    target="nemesis.slow_disk:SlowDisk",
    needs=_NEEDS,
    targets=targets.KINDS,
    options=(
        Option(
            name="delay_ms",
            default=100,
            least=20,
            most=500,
            summary="how much longer each sync takes, in ms",
        ),
        Option(name="at", default="sync", choices=("sync", "write"), summary="what takes so long"),
        Option(
            name="files",
            default="*",
            summary="of at=write: the files whose writes do, by the path below the data directory",
        ),
    ),
)
HUNG_DISK: Final = Descriptor(
    name="hung-disk",
    summary="no sync of the system's processes on some nodes comes to an end",
    target="nemesis.slow_disk:HungDisk",
    needs=_NEEDS,
    targets=targets.KINDS,
)
_WATCH_S: Final = 0.9  # for a sync to be seen
_BEFORE_S: Final = 0.2
_HUNG_MS: Final = 500  # what is seen of one that never ends
_FOREVER_S: Final = 1000


class SlowDisk(targets.OnNodes):
    """Holds syncs back, on each of some nodes."""

    name = "slow-disk"
    needs = _NEEDS
    label = "slow disk"
    glyph = "◔"
    colour = "disk"
    # Of what it needs, not the signals: those who kill can have the node as well. Not so who stops what runs there,
    # since a stopped thread stays in its call as well, or copies what nobody may write to.
    claims = frozenset({"trace", "stop", "at-rest"})

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._delay_ms: int = options.get("delay_ms", 100)
        self._at: str = options.get("at", "sync")
        self._files: str | None = options.get("files", "*") if self._at == "write" else None

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        chosen, _, doubt = self.choose(ctx, target)
        chosen = tuple(n for n in chosen if any(s.alive for s in ctx.cluster.process.state(n)))
        head = targets.leader([n.name for n in ctx.cluster.nodes], ctx.roles)
        whom = targets.listed(chosen, head) if chosen else "nobody that runs"
        return Plan(
            fault=ctx.fault,
            family=self.name,
            target=target,
            nodes=chosen,
            says=f"on {whom} {self._says()}{doubt}",
            args={"delay_ms": self._delay_ms, "least_ms": 0.8 * self._seen_ms()},
            undo=tuple(Undo("untrace", {"fault": ctx.fault, "node": node}) for node in chosen),
        )

    def _says(self) -> str:
        what = "sync" if self._files is None else f"write to {self._files}"
        return f"each {what} takes {self._delay_ms} ms more"

    def _seen_ms(self) -> float:
        return self._delay_ms

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        for node in plan.nodes:
            ctx.cluster.tracer.trace(
                plan.fault,
                node,
                CALLS[self._at],
                f"delay_enter={plan.args['delay_ms']}ms",
                files=self._files,
                follow=True,
            )

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        least_ms = plan.args["least_ms"]
        watch_s = (_WATCH_S if phase == "during" else _BEFORE_S) / max(1, len(plan.nodes))
        if phase == "during":
            watch_s = max(watch_s, 2 * plan.args["least_ms"] / 1e3)
        longest = {
            node: round(
                ctx.cluster.tracer.longest_ms(node, CALLS[self._at], watch_s, least_ms, files=self._files),
                1,
            )
            for node in plan.nodes
        }
        told = ", ".join(f"{ms:g} ms on {node}" for node, ms in longest.items())
        says = f"longest stay of a thread in a {self._at}, seen in {watch_s:.2g} s: {told}"
        earlier = ctx.before.facts.get("longest_ms", {}) if ctx.before is not None else {}
        if phase == "before":
            effect = None
        elif phase == "during":
            seen = [longest[n] >= least_ms > earlier.get(n, least_ms) for n in plan.nodes]
            effect = bool(seen) and all(seen)
        else:
            effect = any(ms >= least_ms for ms in longest.values())
        return Evidence(phase=phase, effect=effect, says=says, facts={"longest_ms": longest})


class HungDisk(SlowDisk):
    """Holds syncs back until the fault is over."""

    name = "hung-disk"
    label = "hung disk"
    glyph = "◯"

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__({"delay_ms": _FOREVER_S * 1000})

    def _says(self) -> str:
        return "no sync comes to an end"

    def _seen_ms(self) -> float:
        return _HUNG_MS
