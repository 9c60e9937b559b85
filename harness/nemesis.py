"""The nemesis at work: one thread that takes the schedule's steps, each planned, proven, undone.

For every step: ask the nodes for their roles, plan, put plan and undo on disk, measure, apply,
measure, hold, undo, measure. Several may be in force at once. Which faults there are, and what they
measure, is not known here.

Together they keep to two rules. With a bound, never more nodes are out than it says, over all faults in
force: those are counted that a plan names as its own or as `down`. And two that claim the same of a node
(`harness.core.fault.claims`) are never in force on it at once. A step that would break one of them waits
until something has been healed; if its own time is over before it could begin, it is skipped, and the
ledger and the run's notes say so. A fault is healed no sooner than its hold after it was measured, so
that what is late begins late and still lasts.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec

from harness.asking import ask_all
from harness.core.admin import Members, Programs
from harness.core.cluster import Cluster
from harness.core.errors import InfrastructureError, SplitbrainError, UsageError
from harness.core.fault import Evidence, Fault, FaultContext, Phase, Plan, claims
from harness.core.ledger import Ledger, read_faults
from harness.core.seeds import stream
from harness.core.system import Status, System
from harness.journal import Journal
from harness.programs import inside_or_raise
from harness.triggers import Trigger
from harness.undo import work_off

_ASK_S = 0.5  # a node that does not say what it is within this time has no role
_SETTLE_S = 0.2  # how often a node that is to have its next fault is asked whether it is back
_LOOK_S = 0.05  # how often it is looked whether a condition has come true
_LONG_S = 60.0  # at the longest between two looks at the schedule
_STOP_S = 60.0


class Step(Protocol):
    """One entry of a schedule: `at_s` seconds after the load began, or after `when` came true, and not
    before the steps `follows` are over, nor, for up to `settle_s` more, before its target, a node by name,
    is back. Steps of one `group` wait for the same `when`, which is watched from the moment on at which the
    step `since` has begun."""

    @property
    def n(self) -> int: ...
    @property
    def at_s(self) -> float: ...
    @property
    def hold_s(self) -> float: ...
    @property
    def family(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def follows(self) -> tuple[int, ...]: ...
    @property
    def when(self) -> Mapping[str, Any] | None: ...
    @property
    def group(self) -> int: ...
    @property
    def since(self) -> int | None: ...
    @property
    def settle_s(self) -> float: ...


class _Active(msgspec.Struct):
    """A fault in force, and when it is to be healed (on CLOCK_MONOTONIC)."""

    step: Step
    fault: Fault
    ctx: FaultContext
    plan: Plan
    due: float


class Nemesis:
    """Takes `steps` in a thread of its own from `start()` until they are done or `stop()`.

    `most` nodes may be out at once, None for any number. `notes` are sentences about steps that were
    not taken. `flush_restarts`: what stands on a node's disk unsynced is written out before it is started again.
    """

    def __init__(
        self,
        *,
        cluster: Cluster,
        system: System,
        faults: Mapping[str, Fault],
        steps: Sequence[Step],
        ledger: Ledger,
        journal: Journal,
        seed: int,
        on_failure: Callable[[], None],
        most: int | None = None,
        members: Members | None = None,
        programs: Programs | None = None,
        flush_restarts: bool = False,
    ) -> None:
        self._cluster = cluster
        self._system = system
        self._faults = faults
        self._waiting = list(steps)
        self._ledger = ledger
        self._journal = journal
        self._seed = seed
        self._on_failure = on_failure
        self._most = most
        self._members = members
        self._programs = programs
        self._flush_restarts = flush_restarts
        self._active: list[_Active] = []
        self._over: set[int] = set()  # the steps that were healed or skipped
        self._settling: dict[int, tuple[float, float]] = {}  # step -> until when, and when it is looked again
        self._settled: set[int] = set()
        self._refused: dict[int, str] = {}  # step -> why it could not begin when it was last tried
        self._begins: dict[int, float] = {}  # of each group: when its clock began to run
        self._triggers: dict[int, Trigger] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nemesis", daemon=True)
        self.failure: SplitbrainError | None = None
        self.notes: list[str] = []

    def start(self) -> None:
        """Begin; the schedule's zero is now."""
        self._thread.start()

    def stop(self) -> None:
        """Let no further fault begin, heal those in force, and wait for that.

        Raises: InfrastructureError when the cluster failed under the nemesis' hands.
        """
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_S)
            if self._thread.is_alive():
                raise InfrastructureError(
                    f"the nemesis did not come to an end within {_STOP_S:g} s of being told to"
                )
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        try:
            try:
                self._live()
            finally:
                now = time.monotonic()
                left = [(step, self._waited_for(step, now)) for step in self._waiting]
                self._end_all()
            self._left_over(left)
        except SplitbrainError as e:
            self.failure = e
            self._on_failure()
        except Exception as e:  # noqa: BLE001 - a fault's bug ends the run with a sentence, not in silence
            self.failure = InfrastructureError(f"the nemesis failed: {type(e).__name__}: {e}")
            self.failure.__cause__ = e
            self._on_failure()

    def _live(self) -> None:
        """Whatever is due, what ends before what begins, until there is nothing left."""
        self._begins[0] = time.monotonic()
        while (self._waiting or self._active) and not self._stopping.is_set():
            now = time.monotonic()
            self._look(now)
            if self._active and self._active_first().due <= now:
                self._end(self._active_first())
                continue
            if not any(self._at(s) <= now and self._may(s, now) for s in self._in_order()):
                self._stopping.wait(self._pause(now))

    def _look(self, now: float) -> None:
        """Watch conditions, each from its time on, and start the clocks of groups whose has come true."""
        ahead = {s.n for s in self._waiting}
        for step in self._waiting:
            known = step.group in self._triggers or step.group in self._begins
            if step.when is not None and not known and step.since not in ahead:
                self._triggers[step.group] = Trigger(step.when, self._ledger.path.parent)
        for group, trigger in list(self._triggers.items()):
            why = trigger.look()
            if why is not None:
                self._begins[group] = now
                del self._triggers[group]
                line = {"event": "triggered", "time": self._journal.now(), "group": group, "says": why}
                self._ledger.append(line)

    def _in_order(self) -> list[Step]:
        return sorted((s for s in self._waiting if s.group in self._begins), key=self._at)

    def _at(self, step: Step) -> float:
        return self._begins[step.group] + step.at_s

    def _active_first(self) -> _Active:
        return min(self._active, key=lambda a: a.due)

    def _pause(self, now: float) -> float:
        """How long nothing is due."""
        soonest = [a.due for a in self._active] + [self._at(s) for s in self._in_order() if self._at(s) > now]
        soonest += (again for _, again in self._settling.values())
        wait = max(0.0, min(soonest, default=now) - now)
        return min(wait, _LOOK_S if self._triggers or not soonest else _LONG_S)

    def _may(self, step: Step, now: float) -> bool:
        """Take the step if it can be taken now; whether anything was done about it."""
        late = now > self._at(step) + step.hold_s
        if not self._over.issuperset(step.follows) or self._settles(step, now):
            return False
        refused = self._begin(step)
        if refused is None:
            return True
        self._refused[step.n] = refused
        changing = self._members is not None and not self._members.settled
        if late or not (self._active or changing):  # nothing will change that
            return self._skip(step, refused)
        return False

    def _settles(self, step: Step, now: float) -> bool:
        """Whether a step still waits for its node, which a fault before has taken down, to be back."""
        if step.n in self._settled or not step.settle_s:
            return False
        until, again = self._settling.get(step.n, (now + step.settle_s, now))
        if now >= again:
            if now >= until or self._serves(step.target):
                self._settling.pop(step.n, None)
                self._settled.add(step.n)
                return False
            again = min(until, time.monotonic() + _SETTLE_S)
        self._settling[step.n] = (until, again)
        return True

    def _serves(self, name: str) -> bool:
        nodes = {n.name: n for n in self._cluster.nodes if n.name == name}
        said = ask_all(
            self._cluster,
            nodes,
            lambda name: self._system.status(nodes[name], _SETTLE_S),
            wait_s=2 * _SETTLE_S,
        ).get(name)
        return isinstance(said, Status) and said.role != "candidate"

    def _waited_for(self, step: Step, now: float) -> str:
        """What a step still waits for now that the load is over."""
        if step.when is not None and step.group not in self._begins:
            when = ", ".join(f"{key} {value}" for key, value in step.when.items())
            return f"its condition ({when}) did not come true"
        if step.group not in self._begins or now < self._at(step):
            return "the load was over before its time had come"
        late = f"the load was over {now - self._at(step):.1f} s after its time had come, and until then"
        before = sorted(set(step.follows) - self._over)
        if before:
            return f"{late} what it follows (step {', '.join(map(str, before))}) was not over"
        if step.n in self._settling:
            return f"{late} {step.target} did not serve again after what it had before"
        return f"{late} {self._refused.get(step.n, 'other faults took the time')}"

    def _left_over(self, left: Sequence[tuple[Step, str]]) -> None:
        """Tell of each step why it never began; for people, of those that follow such a one in one sentence."""
        never = {step.n for step, _ in left}
        chained = []
        for step, why in left:
            self._record_skipped(step, why)
            if never.isdisjoint(step.follows):
                self.notes.append(f"{_named(step)} never began: {why}")
            else:
                chained.append(_named(step))
        if chained:
            self.notes.append(f"nor did what follows: {', '.join(chained)}")

    def _skip(self, step: Step, why: str) -> bool:
        self._record_skipped(step, why)
        self.notes.append(f"{_named(step)} was left out: {why}")
        return True

    def _record_skipped(self, step: Step, why: str) -> None:
        self._waiting.remove(step)
        self._over.add(step.n)
        said = {"step": step.n, "family": step.family, "target": step.target, "says": why}
        self._ledger.append({"event": "skipped", "time": self._journal.now(), **said})

    def _begin(self, step: Step) -> str | None:
        """Plan, and if it goes together with what is in force, apply; else why it does not."""
        fault, journal, ledger = self._faults[step.family], self._journal, self._ledger
        own = claims(fault)
        ctx = FaultContext(
            cluster=self._cluster,
            system=self._system,
            roles=roles(self._cluster, self._system, self._patience(step)),
            rng=stream(self._seed, "nemesis", step.n),
            fault=f"f{step.n}",
            now=journal.now(),
            active=tuple(a.plan for a in self._active),
            busy=frozenset(n for a in self._active if claims(a.fault) & own for n in a.plan.nodes),
            members=self._members,
            programs=self._programs,
            inside=partial(inside_or_raise, self._cluster),
            clock=journal.now,
        )
        try:
            plan = fault.plan(ctx, step.target)
        except UsageError as e:
            return str(e)
        refused = self._refusal(ctx, plan)
        if refused is not None:
            return refused
        self._waiting.remove(step)
        ledger.plan(journal.now(), plan, fault.label, fault.glyph, fault.colour)
        ctx.before = self._observe(fault, ctx, plan, "before")
        journal.nemesis(step.family, self._event(plan, "begin"))
        active = _Active(step, fault, ctx, plan, math.inf)
        self._active.append(active)
        try:
            fault.apply(ctx, plan)
            ledger.note("applied", journal.now(), plan.fault)
            self._observe(fault, ctx, plan, "during")
        except SplitbrainError as e:
            ledger.note("failed", journal.now(), plan.fault, error=str(e))
            raise
        active.due = math.inf if plan.lasting else time.monotonic() + step.hold_s
        return None

    def _patience(self, step: Step) -> float:
        """How long to wait for roles: who is hit by name has a role for the plan's words only."""
        return (
            _ASK_S / 4 if {n.name for n in self._cluster.nodes}.issuperset(step.target.split("+")) else _ASK_S
        )

    def _refusal(self, ctx: FaultContext, plan: Plan) -> str | None:
        """Why a plan does not go together with what is in force, or None where it does."""
        twice = sorted(ctx.busy.intersection(plan.nodes))
        if twice:
            return f"{', '.join(twice)} had a fault already that cannot be joined by it"
        if not plan.nodes:
            return "no node was left that it could hit"
        out = plan.out.union(*(p.out for p in ctx.active))
        if self._most is not None and len(out) > self._most:
            return f"{', '.join(sorted(out))} would have been out at once, where {self._most} may be"
        return None

    def _end(self, active: _Active) -> None:
        """Undo one fault and measure; of those that go on it is known."""
        plan, journal = active.plan, self._journal
        self._active.remove(active)
        self._over.add(active.step.n)
        try:
            work_off(self._cluster, plan.undo, flush=self._flush_restarts)
            self._ledger.note("undone", journal.now(), plan.fault)  # else it stays open, for whoever heals
        finally:
            journal.nemesis(active.step.family, self._event(plan, "end"))
        active.ctx.active = tuple(a.plan for a in self._active)
        self._observe(active.fault, active.ctx, plan, "after")

    def _end_all(self) -> None:
        """Undo whatever is in force, the last first, and all of it even where one cannot be undone."""
        problems = []
        for active in reversed(list(self._active)):
            try:
                self._end(active)
            except SplitbrainError as e:
                problems.append(e)
        if problems:
            raise problems[0]

    def _event(self, plan: Plan, phase: str) -> dict[str, Any]:
        return {"id": plan.fault, "phase": phase, "targets": list(plan.nodes), "says": plan.says}

    def _observe(self, fault: Fault, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        """Measure; what cannot be measured is no evidence, and says so."""
        ctx.now = self._journal.now()
        try:
            evidence = fault.observe(ctx, plan, phase)
        except (OSError, TimeoutError) as e:
            effect = None if phase == "before" else False
            evidence = Evidence(phase=phase, effect=effect, says=f"could not be measured: {e}")
        self._ledger.evidence(self._journal.now(), plan.fault, evidence)
        return evidence


def _named(step: Step) -> str:
    return f"{step.family}:{step.target} (step {step.n})"


def roles(cluster: Cluster, system: System, wait_s: float = _ASK_S) -> dict[str, Status]:
    """What every node says of itself now; those that do not answer are absent."""
    nodes = {node.name: node for node in cluster.nodes}
    answers = ask_all(cluster, nodes, lambda name: system.status(nodes[name], wait_s), wait_s=wait_s * 1.4)
    return {name: a for name, a in answers.items() if isinstance(a, Status)}


def heal(cluster: Cluster, ledger: Ledger, journal: Journal) -> list[str]:
    """Undo whatever the ledger says is still in force; returns the ids. Done again it does nothing.

    Raises: InfrastructureError when something could not be undone.
    """
    outstanding = [f for f in read_faults(ledger.path) if f.outstanding]
    problems: list[str] = []
    for fault in outstanding:
        try:
            work_off(cluster, fault.undo)
        except InfrastructureError as e:
            problems.append(f"{fault.fault} ({fault.says}): {e}")
        else:
            ledger.note("undone", journal.now(), fault.fault)
    if problems:
        raise InfrastructureError("; ".join(problems))
    return [f.fault for f in outstanding]
