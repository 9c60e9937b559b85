"""A started cluster for tests written by hand: operations of clients, faults in `with` blocks, a checker's verdict.

    with LiveCluster.start(system="etcd", workload="register", faults="partition,kill") as cluster:
        one = cluster.client("n1")
        one.write("k", 5)
        with cluster.fault("partition"):
            two = cluster.client("n2")
            two.call("read", "k")              # ok, fail or info; nothing is raised
        assert cluster.check("linearizable").verdict == "valid"

Every operation and every fault is recorded as in any run, whose directory, results and report are made when the cluster
is closed. The cluster is the child process `splitbrain.byhand`; should this process die, it heals and ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import msgspec

from harness.core.errors import Definite, Indeterminate, InfrastructureError, UsageError, unknown_name
from harness.core.spec import Spec, families_of
from splitbrain.asking import RunResult

if TYPE_CHECKING:
    from harness.core.checker import Result
    from harness.core.history import History

PER_NODE: Final = 4  # clients
LONGEST_S: Final = 3600.0
_START_S: Final = 300.0  # beside `ready`: it may wait for other runs
_FAULT_S: Final = 60.0
_CALL_S: Final = 30.0  # a call has a time limit of its own; this is for a process that has died
_CLOSE_S: Final = 300.0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an operation: `ok` with its value, `fail` (it did not happen), or `info` (nobody knows)."""

    type: Literal["ok", "fail", "info"]
    value: Any
    error: str | None = None


class Injected(msgspec.Struct, frozen=True, kw_only=True):
    """A fault in force: the nodes that it hit, what it is in words, and whether it was measured to have an effect."""

    fault: str
    target: str
    nodes: tuple[str, ...]
    says: str
    effective: bool


class LiveClient:
    """A client beside one node. Each operation of the system's client is a method: `write(key, value)`, `read(key)`,
    `cas(key, old, new)`, named as the workload's operations are. It returns the value.

    Raises: Definite where the operation did not happen, Indeterminate where nobody knows.
    """

    def __init__(self, cluster: LiveCluster, node: str, thread: int) -> None:
        self._cluster, self.node, self._thread = cluster, node, thread

    def call(self, f: str, key: Any = None, value: Any = None) -> Outcome:
        """One operation, whatever comes of it. A cas has the value [old, new]."""
        return self._cluster._call(self._thread, f, key, value)  # noqa: SLF001 - one thing in two classes

    def __getattr__(self, f: str) -> Any:
        if f.startswith("_") or f not in self._cluster.operations:
            raise AttributeError(
                f"clients of this workload have no operation {f!r}; they have {', '.join(self._cluster.operations)}"
            )

        def operation(key: Any = None, *values: Any) -> Any:
            answer = self.call(f, key, values[0] if len(values) == 1 else list(values) or None)
            if answer.type == "ok":
                return answer.value
            raise (Definite if answer.type == "fail" else Indeterminate)(answer.error or answer.type)

        return operation


class LiveCluster:
    """A cluster for one test. `start` makes it; `close`, or the end of the `with` block, judges and ends it."""

    def __init__(
        self, spec: Spec, run_dir: Path, operations: Sequence[str], child: subprocess.Popen[bytes]
    ) -> None:
        self.spec, self.run_dir, self.operations = spec, run_dir, tuple(operations)
        self.nodes: tuple[str, ...] = ()
        self._child = child
        self._answers: dict[int, dict[str, Any]] = {}
        self._said = threading.Condition()
        self._over = False
        self._last = 0
        self._taken: dict[str, int] = {}
        self._result: RunResult | None = None
        self._listener = threading.Thread(target=self._listen, daemon=True, name="live-cluster")
        self._listener.start()

    @classmethod
    def start(cls, spec: Path | None = None, *, out: Path = Path("runs"), **flags: Any) -> Self:
        """Start a cluster and wait until a write has succeeded through every node.

        `flags` are those of `splitbrain run` (`system`, `version`, `workload`, `faults`, `nodes`, `provider`, `seed`,
        `opt`, `expect`); `faults` are the families that may be injected.

        Raises: UsageError for what cannot be; InfrastructureError with the reason when it does not get ready.
        """
        from results.rundir import new_run_dir
        from splitbrain import registry, running
        from splitbrain import spec as specs
        from splitbrain.launch import environment, write_spec

        nodes = flags.get("nodes") or 3
        if isinstance(nodes, str) and not nodes.isdecimal():
            raise UsageError(f"nodes = {nodes!r}: expected a number; a cluster for a test is made for it")
        usual = {"time": LONGEST_S, "rate": 0, "concurrency": PER_NODE * int(nodes)}
        made = specs.resolve(spec, {**flags, **usual})
        made = msgspec.structs.replace(made, version=running.exact_version(made, offline=False))
        run_dir = new_run_dir(out, made.system, made.workload, made.seed, datetime.now(UTC))
        made = write_spec(run_dir, made)
        workload = registry.create("workloads", made.workload, made.of(made.workload))(
            made.concurrency, made.seed
        )
        names = {method: f for f, method in workload.calls.items()}
        operations = sorted({names.get(method, method) for method in workload.needs})
        (run_dir / "logs").mkdir(exist_ok=True)
        with (run_dir / "logs" / "controller.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "splitbrain.byhand", str(run_dir)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
                start_new_session=True,
            )
        cluster = cls(made, run_dir, operations, child)
        try:
            cluster._await_ready(made.ready_s + _START_S)
        except BaseException:
            cluster._abandon()
            raise
        return cluster

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def seed(self) -> int:
        return self.spec.seed

    def client(self, node: str | None = None) -> LiveClient:
        """A client of its own beside a node, by default the first.

        Raises: UsageError for an unknown node, and for more than `PER_NODE` clients of one.
        """
        node = self.nodes[0] if node is None else node
        if node not in self.nodes:
            raise unknown_name("node", node, self.nodes)
        number = self._taken.get(node, 0)
        if number >= PER_NODE:
            raise UsageError(f"{node} has {PER_NODE} clients already, which is all; use one of them again")
        self._taken[node] = number + 1
        return LiveClient(self, node, self.nodes.index(node) + number * len(self.nodes))

    @contextmanager
    def fault(self, word: str, target: str | None = None) -> Iterator[Injected]:
        """Have a fault in force during the block: `fault("kill")`, `fault("kill:leader")`, `fault("kill", "n1")`.

        Raises: UsageError for a family that the cluster was not made for, and for a target that does not exist now;
        InfrastructureError when it cannot be applied.
        """
        family, _, given = word.partition(":")
        if family not in (known := {f for w in self.spec.faults for f in families_of(w)}):
            error = unknown_name("fault", family, known)
            raise UsageError(f"{error}; faults= says which ones a cluster is made for")
        answer = self._ask({"do": "begin", "family": family, "target": target or given or None}, _FAULT_S)
        injected = msgspec.convert({"fault": "", **answer, "nodes": tuple(answer["nodes"])}, Injected)
        try:
            yield injected
        finally:
            self._ask({"do": "end", "fault": injected.fault}, _FAULT_S)

    def history(self) -> History:
        """All operations so far. One that is under way has no completion yet."""
        from harness.core.history import read_history

        with tempfile.TemporaryDirectory() as folder:
            return read_history(self._merged(Path(folder)))

    def check(self, name: str | None = None, **options: Any) -> Result:
        """The verdict of a checker on all operations so far; by default the workload's own.

        Raises: UsageError for a checker that there is none of.
        """
        from splitbrain import registry
        from splitbrain.runner import run_checks

        spec = self.spec
        workload = registry.create("workloads", spec.workload, spec.of(spec.workload))(
            spec.concurrency, spec.seed
        )
        name = name or next(iter(workload.checkers))
        which, given = workload.checkers.get(name, (name, {}))
        registry.describe("checkers", which)
        with tempfile.TemporaryDirectory() as folder:
            wanted: Mapping[str, Any] = {name: (which, {**given, **options})}
            return run_checks(wanted, self._merged(Path(folder)), self.run_dir, spec, None)[name]

    def close(self) -> RunResult:
        """Undo what is in force, let the cluster recover, read every key through every node, judge what was recorded,
        and end; what came of it. Done again it does nothing.

        Raises: InfrastructureError where the run ended without results.
        """
        if self._result is None:
            self._send({"do": "close"})
            try:
                self._child.wait(_CLOSE_S)
            except subprocess.TimeoutExpired:
                self._abandon()
                raise InfrastructureError(
                    f"the cluster did not end within {_CLOSE_S:g} s and was ended"
                ) from None
            except BaseException:
                self._abandon()
                raise
            self._result = self._read_result()
        return self._result

    def _let_go(self) -> None:
        """Close what led to the child, which has ended."""
        self._listener.join(_CALL_S)
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _read_result(self) -> RunResult:
        from harness.core.exits import exit_code
        from splitbrain.heal import heal

        self._let_go()
        try:
            results = json.loads((self.run_dir / "results.json").read_bytes())
        except (OSError, ValueError):
            heal(self.run_dir, wait_s=10.0)
            raise InfrastructureError(
                f"the run ended with {self._child.returncode} and without results; {self.run_dir}/logs/controller.log"
                " has its last words"
            ) from None
        if results.get("error") and results["verdict"] != "invalid":
            raise InfrastructureError(str(results["error"]))
        return RunResult(results, exit_code(results))

    def _merged(self, folder: Path) -> Path:
        from harness.journal import merge

        merge(self.run_dir / "journal.jsonl", folder / "history.jsonl")
        return folder / "history.jsonl"

    def _call(self, thread: int, f: str, key: Any, value: Any) -> Outcome:
        if f not in self.operations:
            raise unknown_name("operation", f, self.operations)
        asked = {"do": "call", "thread": thread, "f": f, "key": key, "value": value}
        answer = self._ask(asked, _CALL_S, about_operation=True)
        return Outcome(type=answer["type"], value=answer["value"], error=answer["error"])

    def _ask(
        self, request: dict[str, Any], wait_s: float, *, about_operation: bool = False
    ) -> dict[str, Any]:
        with self._said:
            self._last += 1
            number = self._last
        self._send({"id": number, **request})
        deadline = time.monotonic() + wait_s
        with self._said:
            while number not in self._answers and not self._over:
                if not self._said.wait(max(0.0, deadline - time.monotonic())) and time.monotonic() > deadline:
                    raise InfrastructureError(f"{request['do']} was not answered within {wait_s:g} s")
            answer = self._answers.pop(number, None)
        if answer is None:
            raise InfrastructureError(
                f"the cluster ended; {self.run_dir}/logs/controller.log has its last words"
            )
        if answer.get("error") and not about_operation:
            raise UsageError(str(answer["error"]))
        return answer

    def _send(self, line: dict[str, Any]) -> None:
        assert self._child.stdin is not None
        try:
            with self._said:
                self._child.stdin.write(msgspec.json.encode(line) + b"\n")
                self._child.stdin.flush()
        except (OSError, ValueError):  # it has ended; whoever waits for its answer is told so
            pass

    def _listen(self) -> None:
        assert self._child.stdout is not None
        for raw in self._child.stdout:
            line = msgspec.json.decode(raw, type=dict[str, Any])
            with self._said:
                if line.get("ready"):
                    self.nodes = tuple(line["nodes"])
                else:
                    self._answers[line["id"]] = line
                self._said.notify_all()
        with self._said:
            self._over = True
            self._said.notify_all()

    def _await_ready(self, wait_s: float) -> None:
        with self._said:
            self._said.wait_for(lambda: bool(self.nodes) or self._over, wait_s)
        if self.nodes:
            return
        if self._over:
            self._child.wait(_CLOSE_S)
            self._read_result()
        raise InfrastructureError(f"the cluster did not get ready within {wait_s:g} s")

    def _abandon(self) -> None:
        """End the child whatever it is at: first asked to heal, then killed."""
        from splitbrain.asking import end

        end(self._child)
        self._let_go()
