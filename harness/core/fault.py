"""A fault: planned purely, recorded before it is applied, proven by measurement, undone by name.

The order is plan -> (plan and undo on disk) -> observe before -> apply -> observe during -> undo ->
observe after. The undo is a list of *primitives* with plain arguments, so that whoever heals a
broken run can work it off without importing the fault that wrote it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec

from harness.core.cluster import Cluster
from harness.core.system import Status, System

Phase = Literal["before", "during", "after"]


class Undo(msgspec.Struct, frozen=True):
    """One step back: `do` is a primitive of `harness.undo` (`unblock`, `signal`, `start`)."""

    do: str
    args: dict[str, Any] = {}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a fault will do: `nodes` it targets, `args` of its own, and how to take it back.

    `says` is a sentence for people: "n2, the leader, cut off from n1 and n3". A `lasting` fault is not
    taken back after its step's hold but when the load is over.
    """

    fault: str  # the fault's id in this run: unique, names its blocks
    family: str
    target: str
    nodes: tuple[str, ...]
    says: str
    args: dict[str, Any] = {}
    undo: tuple[Undo, ...] = ()
    lasting: bool = False


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured in one phase. `facts` are plain data.

    `effect` compares with what was seen before: True when the fault shows in the system or the
    network, False when it does not, None in the phase `before`. `says` is a sentence.
    """

    phase: Phase
    effect: bool | None
    says: str
    facts: dict[str, Any] = {}


class FaultContext(msgspec.Struct, kw_only=True):
    """What a fault may look at. `roles` are fresh: asked of every node just before planning
    (nodes that did not answer are absent). `rng` is this step's own stream."""

    cluster: Cluster
    system: System
    roles: Mapping[str, Status]
    rng: random.Random
    fault: str
    now: int  # ns since the run's start
    before: Evidence | None = None  # in the later phases: what `before` had measured


class Fault(Protocol):
    """One family of faults. Created with its options.

    `targets` are the kinds of target it accepts, `default_targets` those that a bare `--faults
    FAMILY` draws from; the first default is used first.
    """

    name: str
    needs: frozenset[str]
    label: str
    glyph: str
    colour: str
    targets: tuple[str, ...]
    default_targets: tuple[str, ...]

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        """Choose nodes for `target` and say what will be done and undone."""

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        """Do it. The plan is on disk already."""

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        """Measure. Must be quick (under a second) and must never assume."""
