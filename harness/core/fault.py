"""A fault: planned purely, recorded before it is applied, proven by measurement, undone by name.

The order is plan -> (plan and undo on disk) -> observe before -> apply -> observe during -> undo ->
observe after. The undo is a list of *primitives* with plain arguments, so that whoever heals a
broken run can work it off without importing the fault that wrote it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Protocol

import msgspec

from harness.core.admin import Members, Programs
from harness.core.cluster import Cluster
from harness.core.system import Status, System

Phase = Literal["before", "during", "after"]


class Undo(msgspec.Struct, frozen=True):
    """One step back: `do` is a primitive of `harness.undo` (`unblock`, `signal`, `start`)."""

    do: str
    args: dict[str, Any] = {}


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a fault will do: `nodes` it targets, `args` of its own, and how to take it back.

    `says` is a sentence for people: "n2, the leader, cut off from n1 and n3". `down` are those nodes that
    the system has to do without while it is in force, where they are others than `nodes`. A `lasting` fault
    is not taken back after its step's hold but when the load is over.
    """

    fault: str  # the fault's id in this run: unique, names its blocks
    family: str
    target: str
    nodes: tuple[str, ...]
    says: str
    args: dict[str, Any] = {}
    undo: tuple[Undo, ...] = ()
    down: tuple[str, ...] | None = None
    lasting: bool = False

    @property
    def out(self) -> frozenset[str]:
        """The nodes that count as down while it is in force."""
        return frozenset(self.nodes if self.down is None else self.down)


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
    (nodes that did not answer are absent). `rng` is this step's own stream. `active` are the plans of
    the other faults in force, `busy` the nodes of those among them that this one cannot join. `members` is
    there for faults that need `members`, `programs` for those that need `versions`. `inside(node, question)` puts
    a question from inside a node's network. `clock` gives the time, as `now` was when it was set."""

    cluster: Cluster
    system: System
    roles: Mapping[str, Status]
    rng: random.Random
    fault: str
    now: int  # ns since the run's start
    before: Evidence | None = None  # in the later phases: what `before` had measured
    active: tuple[Plan, ...] = ()
    busy: frozenset[str] = frozenset()
    members: Members | None = None
    programs: Programs | None = None
    inside: Callable[[str, Callable[[], Any]], Any] = lambda _node, question: question()
    clock: Callable[[], int] = lambda: 0


class Fault(Protocol):
    """One family of faults. Created with its options.

    `targets` are the kinds of target it accepts, `default_targets` those that a bare `--faults
    FAMILY` draws from; the first default is used first.

    Some members are optional. `refusal(target, nodes)` says why a target does not exist among so few
    nodes. `reach(target, nodes)` is how many nodes it takes out at most; without it, all. `claims` is
    what it takes hold of on a node, see `claims`. `spares` is how many nodes it needs beside the cluster's,
    `versions` which versions of the system beside the one that is run.
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


_SHARED: Final = frozenset({"block", "client-places"})  # blocks of several faults add up


def claims(fault: Fault) -> frozenset[str]:
    """What a fault takes hold of on each node that it hits: two that claim the same contradict each other
    there. Where it does not say so, all that it needs, but for what adds up by itself.

    A pause of what was killed is none, and who wipes a disk that is being pulled the plug on proves nothing.
    """
    own: frozenset[str] | None = getattr(fault, "claims", None)
    needs: frozenset[str] = getattr(fault, "needs", frozenset())
    return needs - _SHARED if own is None else own
