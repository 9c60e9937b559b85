"""The nemesis at work: one thread that takes the schedule's steps, each planned, proven, undone.

For every step: ask the nodes for their roles, plan, put plan and undo on disk, measure, apply,
measure, hold, undo, measure. Which faults there are, and what they measure, is not known here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from harness.asking import ask_all
from harness.core.cluster import Cluster
from harness.core.errors import InfrastructureError, SplitbrainError
from harness.core.fault import Evidence, Fault, FaultContext, Phase, Plan
from harness.core.ledger import Ledger, read_faults
from harness.core.seeds import stream
from harness.core.system import Status, System
from harness.journal import Journal
from harness.undo import work_off

_ASK_S = 0.5  # a node that does not say what it is within this time has no role


class Step(Protocol):
    """One entry of a schedule, times in seconds after the load began."""

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


class Nemesis:
    """Takes `steps` in a thread of its own from `start()` until they are done or `stop()`."""

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
    ) -> None:
        self._cluster = cluster
        self._system = system
        self._faults = faults
        self._steps = steps
        self._ledger = ledger
        self._journal = journal
        self._seed = seed
        self._on_failure = on_failure
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nemesis", daemon=True)
        self._lasting: list[tuple[Fault, FaultContext, Plan]] = []
        self.failure: SplitbrainError | None = None

    def start(self) -> None:
        """Begin; the schedule's zero is now."""
        self._thread.start()

    def stop(self) -> None:
        """Let no further fault begin, heal the one in force, and wait for that.

        Raises: InfrastructureError when the cluster failed under the nemesis' hands.
        """
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(60)
            if self._thread.is_alive():
                raise InfrastructureError("the nemesis did not come to an end within 60 s of being told to")
        if self.failure is not None:
            raise self.failure

    def _run(self) -> None:
        begin = time.monotonic()
        try:
            for step in self._steps:
                if self._stopping.wait(max(0.0, begin + step.at_s - time.monotonic())):
                    break
                self._take(step)
            if self._lasting:
                self._stopping.wait()
            while self._lasting:
                self._end(*self._lasting.pop(0))
        except SplitbrainError as e:
            self.failure = e
            self._on_failure()
        except Exception as e:  # noqa: BLE001 - a fault's bug ends the run with a sentence, not in silence
            self.failure = InfrastructureError(f"the nemesis failed: {type(e).__name__}: {e}")
            self.failure.__cause__ = e
            self._on_failure()

    def _take(self, step: Step) -> None:
        fault, journal, ledger = self._faults[step.family], self._journal, self._ledger
        ctx = FaultContext(
            cluster=self._cluster,
            system=self._system,
            roles=roles(self._cluster, self._system),
            rng=stream(self._seed, "nemesis", step.n),
            fault=f"f{step.n}",
            now=journal.now(),
        )
        plan = fault.plan(ctx, step.target)
        ledger.plan(journal.now(), plan, fault.label, fault.glyph, fault.colour)
        ctx.before = self._observe(fault, ctx, plan, "before")
        journal.nemesis(step.family, self._event(plan, "begin"))
        try:
            fault.apply(ctx, plan)
            ledger.note("applied", journal.now(), plan.fault)
            self._observe(fault, ctx, plan, "during")
            self._stopping.wait(step.hold_s)
        except BaseException as e:
            if isinstance(e, SplitbrainError):
                ledger.note("failed", journal.now(), plan.fault, error=str(e))
            self._undo(plan)
            raise
        if plan.lasting:
            self._lasting.append((fault, ctx, plan))
        else:
            self._end(fault, ctx, plan)

    def _end(self, fault: Fault, ctx: FaultContext, plan: Plan) -> None:
        self._undo(plan)
        self._observe(fault, ctx, plan, "after")

    def _undo(self, plan: Plan) -> None:
        work_off(self._cluster, plan.undo)
        self._ledger.note("undone", self._journal.now(), plan.fault)
        self._journal.nemesis(plan.family, self._event(plan, "end"))

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


def roles(cluster: Cluster, system: System, wait_s: float = _ASK_S) -> dict[str, Status]:
    """What every node says of itself now; those that do not answer are absent."""
    nodes = {node.name: node for node in cluster.nodes}
    answers = ask_all(cluster, nodes, lambda name: system.status(nodes[name], wait_s), wait_s=wait_s + 0.2)
    return {name: a for name, a in answers.items() if isinstance(a, Status)}


def heal(cluster: Cluster, ledger: Ledger, journal: Journal) -> list[str]:
    """Undo whatever the ledger says is still in force; returns the ids. Done again it does nothing.

    Raises: InfrastructureError when something could not be undone.
    """
    outstanding = [f for f in read_faults(ledger.path) if f.outstanding]
    for fault in outstanding:
        work_off(cluster, fault.undo)
        ledger.note("undone", journal.now(), fault.fault)
    return [f.fault for f in outstanding]
