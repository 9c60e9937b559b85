"""Faults `slow-disk` and `hung-disk`: what a program syncs takes long, or does not come to an end.

A tracer holds each fsync and fdatasync of the nodes' processes back at its entry, for `delay_ms` or until
the fault is over; with `at=write` each write to the node's data instead, and with `files` what goes to those alone.
Everything else runs on: heartbeats are sent by a leader that can commit nothing. (All of its system calls cost a
little more while a process is traced, some tens of microseconds each.)

A disk is slow for whoever uses it: a process that is killed and started again meanwhile finds it so, and
`kill` and its like can have the same node (not one whose disk hangs: what waits for it does not die). What did
not reach the disk by then is lost with the process: a system that acknowledges before it writes shows itself.

Proof: how long a thread was seen in such a call without having run, by what the kernel says of it, is
above four fifths of the delay during the fault, and was below before. Nodes on which nothing runs are left
out, since nothing could be seen there; one that makes no such call is watched for longer, and where it made none
at all it is told to have been idle, and the others decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from harness.core.descriptor import Descriptor
from harness.core.fault import Evidence, FaultContext, Phase, Plan
from harness.core.options import Option
from nemesis import _calls, _node_fault, targets

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
        _calls.at("sync", "write"),
        _calls.FILES,
    ),
)
HUNG_DISK: Final = Descriptor(
    name="hung-disk",
    summary="no sync of the system's processes on some nodes comes to an end",
    target="nemesis.slow_disk:HungDisk",
    needs=_NEEDS,
    targets=targets.KINDS,
    options=(_calls.at("sync", "write"), _calls.FILES),
)
_WATCH_S: Final = 0.9  # for a sync to be seen
_PATIENCE_S: Final = 3.0  # and for as long again and again, of all nodes together, where none was
_BEFORE_S: Final = 0.2
_HUNG_MS: Final = 500  # what is seen of one that never ends
_FOREVER_S: Final = 1000


class SlowDisk(_node_fault.NodeFault):
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
        self._calls, self._files, self._words = _calls.asked(options, data=True)

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        chosen, _, doubt = self.choose(ctx, target)
        chosen = tuple(n for n in chosen if any(s.alive for s in ctx.cluster.process.state(n)))
        head = targets.leader([n.name for n in ctx.cluster.nodes], ctx.roles)
        whom = targets.listed(chosen, head) if chosen else "nobody that runs"
        return self.planned(
            ctx,
            target,
            chosen,
            f"on {whom} {self._says()}{doubt}",
            args={"delay_ms": self._delay_ms, "least_ms": 0.8 * self._seen_ms()},
            undo=_node_fault.each(chosen, "untrace", fault=ctx.fault),
        )

    def _says(self) -> str:
        return f"each {self._words} takes {self._delay_ms} ms more"

    def _seen_ms(self) -> float:
        return self._delay_ms

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        for node in plan.nodes:
            ctx.cluster.tracer.trace(
                plan.fault,
                node,
                self._calls,
                f"delay_enter={plan.args['delay_ms']}ms",
                files=self._files,
                follow=True,
            )

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        least_ms = plan.args["least_ms"]
        watch_s = (_WATCH_S if phase == "during" else _BEFORE_S) / max(1, len(plan.nodes))
        tries = 1
        if phase == "during":
            watch_s = max(watch_s, 2 * plan.args["least_ms"] / 1e3)
            tries = max(1, round(_PATIENCE_S / (watch_s * max(1, len(plan.nodes)))))
        longest = dict.fromkeys(plan.nodes, 0.0)
        watched_s = dict.fromkeys(plan.nodes, 0.0)
        for node in (node for _ in range(tries) for node in plan.nodes):
            if longest[node] < least_ms:
                ms = ctx.cluster.tracer.longest_ms(node, self._calls, watch_s, least_ms, files=self._files)
                longest[node] = round(max(longest[node], ms), 1)
                watched_s[node] += watch_s
        earlier = ctx.before.facts.get("longest_ms", {}) if ctx.before is not None else {}
        idle = [n for n in plan.nodes if not longest[n]] if phase == "during" else []
        told = ", ".join(
            f"none on {n}, which was idle" if n in idle else f"{ms:g} ms on {n}" for n, ms in longest.items()
        )
        looked_s = max(watched_s.values(), default=0.0)
        says = f"longest stay of a thread in a {self._words}, seen in {looked_s:.2g} s: {told}"
        if phase == "before":
            effect = None
        elif phase == "during":
            seen = [longest[n] >= least_ms > earlier.get(n, least_ms) for n in plan.nodes if n not in idle]
            effect = bool(seen) and all(seen)
        else:
            effect = any(ms >= least_ms for ms in longest.values())
        return Evidence(phase=phase, effect=effect, says=says, facts={"longest_ms": longest, "idle": idle})


class HungDisk(SlowDisk):
    """Holds syncs back until the fault is over."""

    name = "hung-disk"
    label = "hung disk"
    glyph = "◯"
    # A process does not die before its call is over, not even by SIGKILL: whoever has to end it cannot have the node.
    claims = SlowDisk.claims | {"signal", "restart"}

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__({**options, "delay_ms": _FOREVER_S * 1000})

    def _says(self) -> str:
        return f"no {self._words} comes to an end"

    def _seen_ms(self) -> float:
        return _HUNG_MS
