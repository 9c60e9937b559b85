"""The life of one run, from making the cluster to collecting its logs; it ends with a journal.

    setup -> start -> load -> heal -> recover -> final -> collect

*start* ends when a write has succeeded through every node. *load* is clients and nemesis at work.
*heal* undoes whatever the ledger holds. *recover* waits, at most 30 s, until writes succeed
through every node again. *final* reads every key through every node, once each has applied what a
last barrier write committed, and writes down what each holds at that revision; a key of which nobody answers is
asked for again, for at most 30 s. Judging is not done here: `history.jsonl` and everything after it
can be made again from the run directory.

Whatever happens, in whichever phase, the cluster is closed and the journal gets its last line.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from harness import sampler
from harness.asking import ask_all
from harness.core.admin import OF_SYSTEMS
from harness.core.cluster import DATA_DIR, PROGRAM_DIR, Cluster, Node, Provider, View
from harness.core.errors import (
    InfrastructureError,
    Interrupted,
    MissingCapability,
    NodeFailed,
    OperationError,
    SplitbrainError,
)
from harness.core.fault import Fault
from harness.core.generator import Generator, op
from harness.core.generators import ops, rate, reserve, time_limit
from harness.core.ledger import Ledger
from harness.core.spec import Spec
from harness.core.system import Install, LogEvent, System
from harness.core.workload import Workload
from harness.dumps import CATCH_UP_S, barrier, write_dumps
from harness.journal import Journal
from harness.lag import Lag
from harness.logs import log_stamps, timed_lines
from harness.members import Keeper
from harness.nemesis import Nemesis, Step, heal
from harness.programs import Programs
from harness.roster import Roster, roster
from harness.scheduler import Hole, Scheduler, Seat

RECOVER_S: Final = 30.0  # after the last fault was undone
_CHECK_S: Final = 1.0
_TIDY_S: Final = 1.0
_AGAIN_S: Final = 0.5  # between two rounds of final reads
_AMPLE_BYTES: Final = 200_000_000
_LOG_TAIL: Final = 12  # lines of a failed node's log that go into the error


class Stop:
    """Whether somebody asked the run to end; set from a signal handler.

    Where a phase may be cut short at any point it is `abrupt`, and the request is raised there and
    then; elsewhere it is looked at now and then.
    """

    def __init__(self) -> None:
        self.requested: str | None = None
        self.abrupt = False

    def request(self, why: str) -> None:
        """Raises: Interrupted, where that is safe."""
        self.requested = why
        if self.abrupt:
            self.abrupt = False
            raise Interrupted(f"interrupted: {why}")


class Parts(msgspec.Struct, kw_only=True, frozen=True):
    """What a run is put together from. `system_ref` is the system by reference, for the sampler;
    without an `install` the system runs already, and goes on when the run is over.

    `others` are further versions, for faults that change them.

    `helpers` are command lines by name, started beside the load; each ends by itself when the load is over
    and with the cluster at the latest. `early` says why load is to end before its time, or None.
    """

    run: str
    run_dir: Path
    spec: Spec
    provider: Provider
    system: System
    system_ref: str
    install: Install | None
    workload: Workload
    faults: Mapping[str, Fault]
    steps: Sequence[Step]
    most: int | None = None  # nodes that may be out at once
    others: Sequence[Install] = ()
    helpers: Mapping[str, Sequence[str]] = {}
    early: Callable[[], str | None] | None = None
    nemesis: Callable[..., Nemesis] = Nemesis


class Outcome(msgspec.Struct, kw_only=True):
    """What only the run itself can say; it becomes the journal's last line.

    `notes` are sentences about what did not go as it should and is no error.
    """

    end: Literal["done", "interrupted", "error"] = "error"
    error: str | None = None
    holes: list[Hole] = []
    lag_ms: dict[str, float] = {}
    capabilities: dict[str, str | None] = {}
    notes: list[str] = []


def run(parts: Parts, stop: Stop, left: list[Cluster] | None = None) -> Outcome:
    """Live through a run. Raises nothing that a run can meet: it is in the outcome.

    With `left`, a cluster that got as far as being launched is not closed but put there.
    """
    outcome = Outcome()
    journal: Journal | None = None
    try:
        journal = Journal(parts.run_dir / "journal.jsonl", parts.run)
        ledger = Ledger(parts.run_dir / "faults.jsonl", parts.run)
        try:
            _Run(parts, stop, outcome, journal, ledger, left).live()
            outcome.end = "interrupted" if stop.requested else "done"
            outcome.error = f"interrupted: {stop.requested}" if stop.requested else None
        finally:
            stop.abrupt = False
            ledger.close()
    except Interrupted as e:
        outcome.end, outcome.error = "interrupted", str(e)
    except SplitbrainError as e:
        outcome.error = _with_a_hint(str(e), parts.run_dir)
    except OSError as e:
        where = f": {e.filename}" if e.filename else ""
        outcome.error = f"{e.strerror or e}{where}"
    except Exception as e:  # noqa: BLE001 - a bug of ours must not cost the journal its last line
        traceback.print_exc()
        outcome.error = f"a fault in splitbrain itself: {type(e).__name__}: {e}"
    if journal is not None:
        body = msgspec.to_builtins(outcome)
        try:
            journal.end(body.pop("end"), **body)
        except SplitbrainError as e:
            outcome.end, outcome.error = "error", outcome.error or str(e)
    return outcome


def _with_a_hint(error: str, run_dir: Path) -> str:
    """The error, and what may be behind it: systems fail in many words where a disk is full."""
    free = shutil.disk_usage(run_dir).free
    if free > _AMPLE_BYTES:
        return error
    return (
        f"{error}\nthe disk that holds {run_dir} has {free / 1e6:.1f} MB left; more room may be what it takes"
    )


def _wanting(names: Sequence[str], need: str) -> str:
    """Who needs what.

    >>> _wanting(["kill", "pause"], "signal")
    'kill, pause need signal'
    """
    return f"{', '.join(names)} need{'s' if len(names) == 1 else ''} {need}"


class _Run:
    """One run's state, phase by phase."""

    def __init__(
        self,
        parts: Parts,
        stop: Stop,
        outcome: Outcome,
        journal: Journal,
        ledger: Ledger,
        left: list[Cluster] | None,
    ) -> None:
        self.parts, self.stop, self.outcome, self.left = parts, stop, outcome, left
        self._launched = False
        self._made: tuple[tuple[str, str], ...] = ()
        self._sampler: int | None = None
        self._members: Keeper | None = None
        self._programs: Programs | None = None
        self.journal, self.ledger = journal, ledger
        self.spec, self.system = parts.spec, parts.system
        self.cluster: Cluster
        self._lost: InfrastructureError | None = None
        self._early: str | None = None
        self._checked = 0.0  # when the cluster was last looked at

    def live(self) -> None:
        """All phases. The cluster is closed whatever happens."""
        self.journal.phase("setup")
        self.stop.abrupt = True
        if self.stop.requested:
            self.stop.request(self.stop.requested)
        installs = [self.parts.install, *self.parts.others] if self.parts.install else []
        needs = frozenset(need for fault in self.parts.faults.values() for need in fault.needs)
        nodes = self.spec.nodes + sum(getattr(f, "spares", 0) for f in self.parts.faults.values())
        self._made = self.parts.provider.resources(run=self.parts.run, nodes=nodes, needs=needs)
        for kind, name in self._made:
            self.ledger.resource(kind, name)
        try:
            self.cluster = self.parts.provider.create(
                run=self.parts.run,
                run_dir=self.parts.run_dir,
                nodes=nodes,
                mounts={
                    path: _mounted(name, one, self.parts.install)
                    for one in installs
                    for name, path in one.program.items()
                },
                needs=needs,
            )
        except BaseException:
            if getattr(self.parts.provider, "unmade", False):
                self._release()
            raise
        if needs & OF_SYSTEMS and getattr(self.system, "admin", None) is not None:
            self.cluster = roster(self.cluster, self.spec.nodes)
        try:
            self.outcome.capabilities = dict(self.cluster.capabilities)
            self._refuse_what_cannot_be_had()
            self._start()
            self.stop.abrupt = False
            if not self.stop.requested:
                self._load_and_heal()
            self._collect()
        finally:
            self.stop.abrupt = False
            if self.parts.install is None:
                self._tidy()
            self._leave()

    def _leave(self) -> None:
        """Close the cluster, or leave it standing; then nobody watches it any more."""
        if self.left is None or not self._launched:
            self.cluster.close()
            self._release()
            return
        self.left.append(self.cluster)
        if self._sampler is not None:
            with suppress(ProcessLookupError):
                os.kill(self._sampler, signal.SIGTERM)

    def _release(self) -> None:
        """Note that all that was announced is gone."""
        for kind, name in self._made:
            self.ledger.released(kind, name)

    def _refuse_what_cannot_be_had(self) -> None:
        """Raises: MissingCapability that names every fault's every missing need, and --keep's, and each reason
        once."""
        have = self.outcome.capabilities
        wanted = [(name, need) for name, fault in self.parts.faults.items() for need in sorted(fault.needs)]
        if self.left is not None:
            wanted.append(("--keep", "keep"))
        missing: dict[str, dict[str, list[str]]] = {}
        for name, need in wanted:
            reason = have.get(need, "this provider has no such thing")
            if reason is not None:
                missing.setdefault(reason, {}).setdefault(need, []).append(name)
        if missing:
            raise MissingCapability(
                "; ".join(
                    f"{' and '.join(_wanting(names, need) for need, names in needs.items())}, which cannot be had"
                    f" here: {reason}"
                    for reason, needs in missing.items()
                )
            )

    def _start(self) -> None:
        self.journal.phase("start")
        if self.parts.install is not None:
            self._launch(self.parts.install)
        for name, argv in self.parts.helpers.items():  # now, so that they are up before the load begins
            self.cluster.spawn_helper(argv, name)
        silent = self._await_writes(self.spec.ready_s, watch_exits=True)
        if silent:
            node, why = next(iter(silent.items()))
            where = "".join(
                f" at {n.address} port {n.port}" for n in self.cluster.nodes if n.name == node and n.port
            )
            log = f"\n{self._tail(node)}" if self.parts.install else ""
            raise NodeFailed(
                f"{node}{where} did not get ready within {self.spec.ready_s:g} s (last answer: {why}){log}"
            )
        if self._flushes("flush_first"):
            self.cluster.disk.flush([n.name for n in self.cluster.nodes])
        config = sampler.Config(
            system=self.parts.system_ref,
            options=self.spec.of(self.spec.system),
            nodes=list(self._hosts),
            monitor=str(self.parts.run_dir / "monitor.jsonl"),
            logs=str(self.parts.run_dir / "logs"),
            epoch=self.journal.epoch,
        )
        self._sampler = self.cluster.spawn_helper(sampler.command(config), "sampler")
        if isinstance(self.cluster, Roster) and self.parts.install is not None:
            self.cluster.look_after(
                self.system,
                (self.parts.install, *self.parts.others),
                self._view,
                members=any("members" in fault.needs for fault in self.parts.faults.values()),
                record=self.parts.run_dir / "members.jsonl",
                now=self.journal.now,
            )
            self._members, self._programs = self.cluster.members, self.cluster.programs

    def _flushes(self, when: str) -> bool:
        """Whether nodes have disks that can be flushed, and the system wants it then (`core.system`)."""
        disks = any("loop-disk" in fault.needs for fault in self.parts.faults.values())
        return disks and bool(getattr(self.system, when, False))

    @property
    def _hosts(self) -> Sequence[Node]:
        """All nodes, members or not."""
        return self.cluster.hosts if isinstance(self.cluster, Roster) else self.cluster.nodes

    def _launch(self, install: Install) -> None:
        self._launched = True
        view = self._view(install, self.cluster.nodes)
        self.cluster.launch({n.name: self.system.launch(n, view) for n in self.cluster.nodes})

    def _view(self, install: Install, nodes: tuple[Node, ...], *, joining: bool = False) -> View:
        return View(
            nodes=nodes,
            run=self.parts.run,
            version=install.version,
            options=self.spec.of(self.spec.system),
            program={name: _mounted(name, install, self.parts.install) for name in install.program},
            data_dir=DATA_DIR,
            joining=joining,
        )

    def _tidy(self) -> None:
        """Take what the run wrote out of a cluster that goes on."""
        why: Exception | None = None
        for node in self.cluster.nodes:
            try:
                self.system.tidy(node, _TIDY_S)
            except (OSError, OperationError) as e:
                why = e
            else:
                return
        prefix = self.spec.of(self.spec.system).get("prefix")
        self.outcome.notes.append(f"what the run wrote below {prefix} could not be removed: {why}")

    def _load_and_heal(self) -> None:
        journal, workload = self.journal, self.parts.workload
        plan = rate(self.spec.rate, workload.generator) if self.spec.rate else workload.generator
        load = self._scheduler(time_limit(self.spec.time_s, plan), self._seats(self.spec.concurrency))
        nemesis = self.parts.nemesis(
            cluster=self.cluster,
            system=self.system,
            faults=self.parts.faults,
            steps=self.parts.steps,
            ledger=self.ledger,
            journal=journal,
            seed=self.spec.seed,
            on_failure=load.stop,
            most=self.parts.most,
            members=self._members,
            programs=self._programs,
            flush_restarts=self._flushes("flush_restarts"),
        )
        with Lag() as lag:
            journal.phase("load")
            nemesis.start()
            try:
                load.run(self._load_is_over)
            finally:
                try:
                    journal.phase("heal")
                finally:
                    nemesis.stop()
                    heal(self.cluster, self.ledger, journal)
        self.outcome.notes += nemesis.notes
        self.outcome.lag_ms = lag.quantiles()
        self.outcome.holes = list(load.holes.values())
        if self._lost is not None:
            raise self._lost
        if self.stop.requested:
            return
        journal.phase("recover")
        if getattr(self.system, "supervised", False):
            self._supervise()
        if self._programs is not None:  # of what could not be done while other faults were in the way
            self._programs.run([n.name for n in self.cluster.nodes], self._programs.first, serve_s=RECOVER_S)
            if why := self._programs.refused():
                self.outcome.notes.append(
                    f"not all nodes run {self._programs.first} again, with which they began: {why}"
                )
        if self._members is not None and not self._members.settle(RECOVER_S):
            self.outcome.notes.append(
                f"the members were not those of the beginning again within {RECOVER_S:g} s of healing:"
                f" {self._members.pending}"
            )
        silent = self._await_writes(RECOVER_S)
        heard = [n.name for n in self.cluster.nodes if n.name not in silent]
        revision, behind = barrier(self.cluster, self.system, heard, lambda: bool(self.stop.requested))
        if silent:
            names = ", ".join(f"{n} ({why})" for n, why in silent.items())
            self.outcome.notes.append(f"no write through {names} within {RECOVER_S:g} s of healing")
        if behind:
            names = ", ".join(behind)
            self.outcome.notes.append(f"{names} had not applied the last write after {CATCH_UP_S:g} s")
        journal.phase("final", silent=sorted(silent), behind=behind)
        if self._members is not None:
            self._members.end()
        if revision is not None and not self.stop.requested:
            self._dump(revision, silent, behind)
        if workload.final_read is not None:
            patience_s = RECOVER_S if len(silent) < len(self.cluster.nodes) else 0.0
            self._read_finally(workload.final_read, list(load.keys), load.next_process, patience_s)

    def _supervise(self) -> None:
        """Start what has ended by itself, as the supervisor would under which the system is to be run."""
        for node in self.cluster.nodes:
            ended = [state for state in self.cluster.process.state(node.name) if not state.alive]
            if ended:
                self.cluster.process.start(node.name)
            self.outcome.notes += [
                f"{state.name} on {node.name} had ended by itself with exit code {state.exit}, and was started"
                " again as a supervisor would have done"
                for state in ended
            ]

    def _read_finally(self, f: str, keys: list[Any], first_process: int, patience_s: float) -> None:
        """Read every key through every node; those of which nobody has answered, again, by new operations, until
        somebody does or `patience_s` are over: what the recovery waited for is not all that clients worked on."""
        seats = self._seats(max(self.spec.concurrency, len(self.cluster.nodes)))
        deadline = time.monotonic() + patience_s
        while keys and not self.stop.requested:
            generator = final_reads(f, keys, seats)
            final = self._scheduler(generator, seats, first_process=first_process, final=True)
            final.run(self._is_over)
            self.outcome.holes += final.holes.values()
            if self._lost is not None:
                raise self._lost
            keys = [key for key in keys if key not in final.answered]
            first_process = final.next_process
            if keys:
                if time.monotonic() > deadline:
                    return
                time.sleep(_AGAIN_S)

    def _load_is_over(self) -> bool:
        """The same for load under faults, which may have shown already what it was to show."""
        if self._early is None and self.parts.early is not None:
            self._early = self.parts.early()
            if self._early is not None:
                at_s = self.journal.now() / 1e9
                self.outcome.notes.append(
                    f"load was ended at {at_s:.1f} s, at the first violation: {self._early}"
                )
        return self._early is not None or self._is_over()

    def _is_over(self) -> bool:
        """Whether load is to end early: somebody asked for it, or the cluster itself is broken, which is no
        fault of the system's and must not be judged by what comes after."""
        if self._lost is None and time.monotonic() - self._checked > _CHECK_S:
            try:
                self.cluster.check()
            except InfrastructureError as e:
                self._lost = e
            self._checked = time.monotonic()
        return self.stop.requested is not None or self._lost is not None

    def _collect(self) -> None:
        self.journal.phase("collect")
        lines = self.parts.run_dir / "events.jsonl"
        found: list[LogEvent] = []
        stamps = log_stamps(self.parts.run_dir / "monitor.jsonl")
        for node in self._hosts:
            for log in sorted(self.cluster.log_dir(node.name).glob("*.log")):
                timed = timed_lines(log, stamps.get(f"{node.name}/{log.name}", []), self.journal.now())
                found += self.system.events(node.name, timed)
        found.sort(key=lambda e: e.time)
        lines.write_bytes(b"".join(msgspec.json.encode(e) + b"\n" for e in found))

    def _scheduler(
        self, generator: Generator, seats: Sequence[Seat], *, first_process: int = 0, final: bool = False
    ) -> Scheduler:
        return Scheduler(
            journal=self.journal,
            generator=generator,
            seats=seats,
            client=self.system.client,
            options=self.spec.of(self.spec.system),
            enter=self.cluster.enter,
            first_process=first_process,
            final=final,
            calls=self.parts.workload.calls,
        )

    def _seats(self, n: int) -> list[Seat]:
        """Seats round the nodes, so that each group of clients sees all of them."""
        places = {p.node: p for p in self.cluster.places}
        nodes = self.cluster.nodes
        return [Seat(nodes[i % len(nodes)], places.get(nodes[i % len(nodes)].name)) for i in range(n)]

    def _await_writes(self, wait_s: float, *, watch_exits: bool = False) -> dict[str, str]:
        """Wait until a write has succeeded through every node; what the silent ones last said.

        Raises: NodeFailed as soon as a process has ended by itself, if `watch_exits`.
        """
        deadline = time.monotonic() + wait_s
        nodes = {n.name: n for n in self.cluster.nodes}
        beside = {p.node: p.name for p in self.cluster.places}
        waiting = {beside.get(name, name): node for name, node in nodes.items()}
        said: dict[str, str] = {}
        while waiting and time.monotonic() < deadline and not self._is_over():
            answers = ask_all(
                self.cluster, waiting, lambda name: self.system.ready(waiting[name], 1.0), wait_s=3.0
            )
            for name, answer in answers.items():
                if watch_exits and isinstance(answer, InfrastructureError):
                    raise answer  # not the node's doing, and no better next time
                if isinstance(answer, Exception):
                    said[waiting[name].name] = str(answer) or type(answer).__name__
                else:
                    said.pop(waiting.pop(name).name, None)
            if watch_exits:
                self._refuse_the_dead()
            if waiting:
                time.sleep(0.05)
        if self._lost is not None:
            raise self._lost
        return {node.name: said.get(node.name, "nothing") for node in waiting.values()}

    def _refuse_the_dead(self) -> None:
        for node in self.cluster.nodes:
            for state in self.cluster.process.state(node.name):
                if not state.alive:
                    raise NodeFailed(
                        f"{state.name} on {node.name} ended by itself with exit code {state.exit}\n"
                        f"{self._tail(node.name)}"
                    )

    def _tail(self, node: str) -> str:
        """The last lines of a node's logs, for an error message."""
        parts = []
        for log in sorted(self.cluster.log_dir(node).glob("*.log")):
            lines = log.read_text(errors="replace").splitlines()[-_LOG_TAIL:]
            parts.append(f"last lines of {log}:\n" + "\n".join(f"  {line[:300]}" for line in lines))
        return "\n".join(parts) or f"{node} has written no log"

    def _dump(self, revision: int, silent: Mapping[str, str], behind: Sequence[str]) -> None:
        """Write down what every node has at the barrier's revision."""
        unfit = {name: f"took no write after healing: {why}" for name, why in silent.items()}
        unfit |= dict.fromkeys(behind, f"had not applied revision {revision}")
        failed = write_dumps(self.cluster, self.system, revision, unfit, self.parts.run_dir / "dump")
        for name, why in failed.items():
            self.outcome.notes.append(f"{name} did not say what it holds at revision {revision}: {why}")


def _mounted(name: str, install: Install, first: Install | None) -> str:
    """Where the nodes see a program of a version; the first one's have their plain names."""
    own = first is None or install.version == first.version
    return f"{PROGRAM_DIR}/{name}" if own else f"{PROGRAM_DIR}/{install.version}-{name}"


def final_reads(f: str, keys: Sequence[Any], seats: Sequence[Seat]) -> Generator:
    """Every key once through every node, shared out among the seats of each node."""
    seats_of = {
        node: [i for i, _ in group]
        for node, group in groupby(
            sorted(enumerate(seats), key=lambda e: e[1].node.name), key=lambda e: e[1].node.name
        )
    }
    shares: list[Generator] = []
    for i, seat in enumerate(seats):
        mine = seats_of[seat.node.name]
        shares.append(ops(*(op(f, key=key) for key in keys[mine.index(i) :: len(mine)])))
    return reserve(*((1, share) for share in shares), rest=ops())
