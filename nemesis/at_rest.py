"""Faults `bit-flip`, `truncate`, `wipe` and `rollback`: a node comes back with other data than it left.

Its processes are killed, and its data damaged while nothing runs: some bits of one file are flipped, one file
loses its end, everything is gone, or a copy takes its place that was made `age_s` before. Then it is started
again. The damage is not taken back: what the system makes of it is the question.

Few systems promise to survive any of this (a voter that forgets what it voted for may elect two leaders), so
that what is found afterwards is an observation, unless the system says otherwise. Of flipped bits it is asked
whether they are detected.

Proof: the checksums of the node's files, taken when it stood still and again after the damage, differ as they
should.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final

from harness.core.descriptor import Descriptor
from harness.core.fault import Evidence, FaultContext, Phase, Plan
from harness.core.options import Option
from nemesis import _node_fault, targets

_NEEDS: Final = frozenset({"at-rest", "signal", "restart"})
_FILES: Final = Option(
    name="files", default="*", summary="which files, by their path below the node's data: a pattern"
)
BIT_FLIP: Final = Descriptor(
    name="bit-flip",
    summary="flip bits in a file of some nodes while they are down",
    target="nemesis.at_rest:BitFlip",
    needs=_NEEDS,
    targets=targets.KINDS,
    options=(_FILES, Option(name="bits", default=1, least=1, most=10_000, summary="how many bits")),
)
TRUNCATE: Final = Descriptor(
    name="truncate",
    summary="cut the end of a file of some nodes off while they are down",
    target="nemesis.at_rest:Truncate",
    needs=_NEEDS,
    targets=targets.KINDS,
    options=(_FILES,),
)
WIPE: Final = Descriptor(
    name="wipe",
    summary="remove all data of some nodes while they are down",
    target="nemesis.at_rest:Wipe",
    needs=_NEEDS,
    targets=targets.KINDS,
)
ROLLBACK: Final = Descriptor(
    name="rollback",
    summary="have an older copy of their data on some nodes when they come back",
    target="nemesis.at_rest:Rollback",
    needs=_NEEDS,
    targets=targets.KINDS,
    options=(
        Option(
            name="age_s", default=1.0, least=0.1, most=10.0, summary="how old the copy is then, in seconds"
        ),
    ),
)
_sleep = time.sleep

_Sums = Mapping[str, Mapping[str, str]]  # node -> file -> checksum


class _AtRest(_node_fault.NodeFault, ABC):
    """What the four have in common."""

    name: str
    needs = _NEEDS
    label: str
    glyph: str
    colour = "disk"
    default_targets = ("follower", "one", "leader")  # of one node: of more there is nothing to come back to

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._left: dict[str, _Sums] = {}  # fault -> what its nodes had when they went down

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        chosen, whom, doubt = self.choose(ctx, target)
        return self.planned(
            ctx,
            target,
            chosen,
            f"{whom} killed, to be started again {self._with()}{doubt}",
            args=self._args(ctx),
            undo=_node_fault.each(chosen, "start"),
        )

    @abstractmethod
    def _with(self) -> str:
        """What a node comes back with, for a sentence."""

    def _args(self, ctx: FaultContext) -> dict[str, Any]:
        return {"given": {}, "age_s": None}

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        disk = ctx.cluster.disk
        if plan.args["age_s"] is not None:
            for node in plan.nodes:
                disk.snapshot(node)
            _sleep(plan.args["age_s"])
        for node in plan.nodes:
            ctx.cluster.process.signal(node, "KILL")
        self._left[plan.fault] = {node: disk.sums(node) for node in plan.nodes}
        for node in plan.nodes:
            disk.tamper(node, self.name, plan.args["given"])

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        if phase == "before":
            return _node_fault.before(ctx, plan)
        if phase == "after":  # whether processes run again; the damage stays
            return _node_fault.after(ctx, plan)
        old, found = _node_fault.ran(ctx), _node_fault.processes(ctx, plan)
        left = self._left.pop(plan.fault, {})
        changed: dict[str, list[str]] = {}
        as_it_should = bool(left)
        for node in plan.nodes:
            was, now = left.get(node, {}), ctx.cluster.disk.sums(node)
            changed[node] = sorted(f for f in {*was, *now} if was.get(f) != now.get(f))
            as_it_should &= bool(changed[node]) and self._proper(was, now, changed[node])
        told = "; ".join(f"{', '.join(files) or 'nothing'} on {node}" for node, files in changed.items())
        says = f"by their checksums, what differs from when the node went down: {told}"
        facts: dict[str, Any] = {"processes": found, "changed": changed}
        return Evidence(phase=phase, effect=bool(old) and as_it_should, says=says, facts=facts)

    def _proper(self, was: Mapping[str, str], now: Mapping[str, str], changed: list[str]) -> bool:
        """Whether the change is the one that was to be made."""
        return True


class BitFlip(_AtRest):
    """Flips bits of one file."""

    name = "bit-flip"
    label = "bit flip"
    glyph = "⊻"

    def _with(self) -> str:
        bits = self.options.get("bits", 1)
        return f"with {bits} bit{'' if bits == 1 else 's'} of a file flipped"

    def _args(self, ctx: FaultContext) -> dict[str, Any]:
        given = {"pattern": self.options.get("files", "*"), "seed": ctx.rng.randrange(2**32)}
        return {"given": {**given, "count": self.options.get("bits", 1)}, "age_s": None}

    def _proper(self, was: Mapping[str, str], now: Mapping[str, str], changed: list[str]) -> bool:
        return len(changed) == 1 and _size(was, changed[0]) == _size(now, changed[0])


class Truncate(_AtRest):
    """Cuts the end of one file off."""

    name = "truncate"
    label = "lost end"
    glyph = "✁"

    def _with(self) -> str:
        return "with the end of a file cut off"

    def _args(self, ctx: FaultContext) -> dict[str, Any]:
        given = {"pattern": self.options.get("files", "*"), "seed": ctx.rng.randrange(2**32)}
        return {"given": given, "age_s": None}

    def _proper(self, was: Mapping[str, str], now: Mapping[str, str], changed: list[str]) -> bool:
        return len(changed) == 1 and _size(was, changed[0]) > _size(now, changed[0])


class Wipe(_AtRest):
    """Removes everything."""

    name = "wipe"
    label = "wiped"
    glyph = "∅"

    def _with(self) -> str:
        return "without any data"

    def _proper(self, was: Mapping[str, str], now: Mapping[str, str], changed: list[str]) -> bool:
        return not now


class Rollback(_AtRest):
    """Restores an older copy."""

    name = "rollback"
    label = "rolled back"
    glyph = "↺"

    def _with(self) -> str:
        return f"with the data that it had {self.options.get('age_s', 1.0):g} s before"

    def _args(self, ctx: FaultContext) -> dict[str, Any]:
        return {"given": {}, "age_s": self.options.get("age_s", 1.0)}


def _size(sums: Mapping[str, str], file: str) -> int:
    return int(sums.get(file, "-1:").partition(":")[0])
