"""Provider `netns`: every node in network, mount, PID and UTS namespaces of its own, on this machine.

As root, or as an ordinary user where the host allows user namespaces; then what needs more than one
user, or the host's control groups, is not to be had, and `capabilities` says so.

The embedded default. The controller's side is here; namespaces, nodes and rules belong to the agent
(`clusters.agent`), a process of the run's own to which requests go over one socket. What needs no
owner is done here directly: a thread enters a network, a probe connects, a pid's state is read.
"""

from __future__ import annotations

import errno
import json
import os
import signal as signals
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from clusters.means.crashloop import Loops
from clusters.means.limits import NodeLimits
from clusters.providers import _beside, _clocks, _disks, _tracer, _zones
from clusters.providers._ranges import MOST_NODES, addresses, claimed, in_use, prefix6
from harness.core.cluster import (
    CAPABILITIES,
    DATA_DIR,
    Echoes,
    Endpoint,
    Node,
    Pair,
    Place,
    Process,
    ProcessState,
    Shaping,
)
from harness.core.descriptor import Descriptor
from harness.core.errors import (
    InfrastructureError,
    MissingCapability,
    NodeFailed,
    SplitbrainError,
    UsageError,
    unknown_name,
)
from harness.core.options import Option

if TYPE_CHECKING:
    from clusters.agent.channel import Channel

NETNS = Descriptor(
    name="netns",
    summary="nodes in network namespaces on this machine",
    target="clusters.providers.netns:Netns",
    options=(
        Option(
            name="subnet",
            default=None,
            summary="IPv4 range of the nodes, such as 10.73.0.0/24 (default: the first one that is free)",
        ),
        Option(
            name="pcap",
            default=False,
            summary="capture the packets between nodes and clients, the latest 256 MB",
        ),
        *_zones.OPTIONS,
        _disks.SIZE,
    ),
)

_agent_dir: Final = Path(__file__).resolve().parents[1] / "agent"
_create_s: Final = 30.0
_answer_s: Final = 20.0
_effect_s: Final = 5.0
_close_s: Final = 10.0


class Netns:
    """The provider; implements `harness.core.cluster.Provider`."""

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        self._options = dict(options or {})
        self._subnet: str | None = self._options.get("subnet")
        self._pcap: bool = (options or {}).get("pcap", False)
        self._disk_mb: int = (options or {}).get("disk_mb", _disks.SIZE_MB)

    def probe(self) -> Mapping[str, str | None]:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(_agent_dir / "probe.py")],
            capture_output=True,
            text=True,
            timeout=_create_s,
            check=False,
        )
        if done.returncode:
            reason = f"the probe itself failed: {done.stderr.strip().splitlines()[-1:]}"
            return dict.fromkeys(("netns", *CAPABILITIES, "cgroup", "users"), reason)
        found: dict[str, str | None] = json.loads(done.stdout)
        return found

    def enclose(self) -> None:
        """Go on in a child that has PID and mount namespaces of its own; the caller's process waits
        for it, hands on SIGINT and SIGTERM, and exits as it does.

        Raises: MissingCapability when this host does not allow it, InfrastructureError when the
        process has threads already.
        """
        from clusters.means.enclosure import enclose

        try:
            enclose()
        except OSError as e:
            reason = self.probe()["netns"]
            if reason is not None:
                raise MissingCapability(f"provider netns cannot work here: {reason}") from None
            raise InfrastructureError(f"the run cannot be enclosed in namespaces of its own: {e}") from None

    def resources(
        self, *, run: str, nodes: int, needs: frozenset[str] = frozenset()
    ) -> tuple[tuple[str, str], ...]:
        return (("cgroup", f"splitbrain-{run}"), *_disks.resources(needs), ("work", "work"))

    def create(
        self,
        *,
        run: str,
        run_dir: Path,
        nodes: int,
        mounts: Mapping[str, str],
        needs: frozenset[str] = frozenset(),
    ) -> NetnsCluster:
        if not 1 <= nodes <= MOST_NODES:
            raise UsageError(f"{nodes} nodes: provider netns takes 1 to {MOST_NODES}")
        from clusters.means import userns

        if not userns.privileged():
            raise InfrastructureError(
                "provider netns cannot work here: this process is neither root nor enclosed; call enclose() first"
            )
        for source in mounts:
            if not Path(source).exists():
                raise InfrastructureError(f"{source} is to be mounted in the nodes, but is not there")
        network, claim = claimed(self._subnet, in_use())
        plan = addresses(network, nodes, six=prefix6())
        zones, trips = _zones.parse(self._options, [node.name for node in plan[0]])
        cluster = NetnsCluster(run, run_dir.resolve(), *plan, claim=claim)
        cluster.zones = zones
        try:
            cluster.make(network.prefixlen, mounts)
            disks, tracer = cluster.disk.make(needs, self._disk_mb), cluster.tracer.make(needs)
            cluster.capabilities = {**cluster.capabilities, **disks, **tracer}
            _zones.stand(cluster, zones, trips)
            if self._pcap:
                from clusters.means.nft import SWITCH

                cluster.capture(SWITCH)
        except BaseException as e:
            cluster.close()
            if isinstance(e, InfrastructureError):
                reason = self.probe()["netns"]
                if reason is not None:
                    raise MissingCapability(f"provider netns cannot work here: {reason}") from e
            if isinstance(e, OSError):
                raise InfrastructureError(f"the cluster cannot be made in {run_dir}: {e}") from e
            raise
        return cluster


class NetnsCluster:
    """A cluster; implements `harness.core.cluster.Cluster`, `Network` and `Processes`.

    Any thread may call it; requests to the agent take turns.
    """

    def __init__(
        self,
        run: str,
        run_dir: Path,
        nodes: tuple[Node, ...],
        places: tuple[Place, ...],
        *,
        claim: socket.socket | None = None,
    ) -> None:
        self.run = run
        self._claim = claim  # of the address range, for as long as this process has it open
        self.nodes = nodes
        self.places = places
        self.zones: Mapping[str, tuple[str, ...]] = {}
        self.capabilities: Mapping[str, str | None] = {}
        self.network = self
        self.process = self
        self.clock = _clocks.Clocks(self._ask, self._node)
        self.disk = _disks.Disks(self._ask)
        self.tracer = _tracer.Tracer(self._ask)
        self._run_dir = run_dir
        self._logs = run_dir / "logs"
        self._ends: tuple[Node | Place, ...] = (*nodes, *places)
        self._addresses = {end.name: end.address for end in self._ends}
        self._lock = threading.Lock()
        self._agent: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._asked = 0
        self._lost: str | None = "the cluster has not been made"
        self._nets: dict[str, int] = {}
        self._shaped = False  # whether packets ever were, so that there is a listener to look after
        self.inits: Mapping[str, tuple[int, int]] = {}
        self._loops = Loops(self)
        self.limits = NodeLimits(self)

    # life

    def _start_agent(self, *kind: str) -> None:
        from clusters.agent.channel import Channel

        self._logs.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair()
        tag = f"splitbrain-{self.run}"
        main = str(_agent_dir / "main.py")
        argv = [sys.executable, "-I", "-S", main, tag, str(theirs.fileno()), str(os.getpid()), *kind]
        with theirs, (self._logs / "agent.log").open("ab") as log:
            self._agent = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._channel = Channel(ours)
        self._lost = None

    def make(self, prefix: int, mounts: Mapping[str, str]) -> None:
        """Start the agent and have it make nodes, places and network."""
        self._start_agent()
        ports = {end.name: [end.address, end.address6] for end in self._ends}
        made, fds = self._exchange(
            "create",
            run=self.run,
            run_dir=str(self._run_dir),
            nodes=[node.name for node in self.nodes],
            ports=ports,
            prefix=prefix,
            mounts={str(Path(source).resolve()): target for source, target in mounts.items()},
            data_dir=DATA_DIR,
            timeout_s=_create_s,
        )
        self._know(made, fds)
        works = dict.fromkeys(("netns", "client-places", "signal", "restart", "keep", "descriptor-limit"))
        self.capabilities = {**works, **made["cannot"]}

    def _know(self, made: Mapping[str, Any], fds: Sequence[int]) -> None:
        self._nets = dict(zip(made["names"], fds, strict=True))
        self.inits = {name: (pid, start) for name, (pid, start) in made["inits"].items()}

    def check(self) -> None:
        """Raises: InfrastructureError when the agent is gone, and with it the nodes, or the listener of the
        packet queue, and with it all shapes."""
        if self._agent is not None and self._agent.poll() is not None:
            raise InfrastructureError(self._obituary("has ended"))
        if self._shaped:
            self._ask("check")

    def close(self) -> None:
        self._loops.close()
        if self._claim is not None:
            self._claim.close()
        agent, self._agent = self._agent, None
        if agent is None:
            return
        problems: list[str] = []
        died: str | None = None
        known = self._lost
        try:
            problems = self._ask("close", timeout_s=_close_s)
        except SplitbrainError:  # gone or hung: what it would have done is done below
            died = None if known is not None else self._lost  # news, unless a call has said so before
        with self._lock:
            self._lost = "the cluster is closed"
            if self._channel is not None:
                self._channel.sock.close()
            for fd in self._nets.values():
                os.close(fd)
            self._nets = {}
        try:
            agent.wait(_close_s)
        except subprocess.TimeoutExpired:
            agent.kill()
            agent.wait()
        problems = list(dict.fromkeys([*problems, *self._sweep()]))
        if died is not None:
            raise InfrastructureError("; ".join([died, *problems]))
        if problems:
            raise InfrastructureError(f"run {self.run} left something behind: {'; '.join(problems)}")

    def _sweep(self) -> list[str]:
        """Remove what the agent would have, if it could not. Does nothing after a proper close."""
        from clusters.means import cgroup, procfs
        from clusters.means.removal import clear

        for pid, start in self.inits.values():
            procfs.send(pid, start, signals.SIGKILL)
        problems = []
        for name, (pid, start) in self.inits.items():
            if not _until(partial(_ended, pid, start)):
                problems.append(f"node {name} (pid {pid}) does not end")
        try:
            cgroup.remove(self.run)
        except OSError as e:
            problems.append(str(e))
        return problems + clear(self._run_dir / "work")

    def capture(self, switch: str) -> None:
        """Have what passes the bridge `switch` written to `pcap/`; returns when that has begun.

        Raises: InfrastructureError with what the capturing program said when it does not begin.
        """
        from clusters.means import pcap

        folder = self._run_dir / "pcap"
        folder.mkdir(exist_ok=True)
        self._ask("helper", argv=pcap.command(switch, folder), name="pcap")
        if not _until(lambda: any(path.stat().st_size for path in folder.iterdir())):
            path = self._logs / "pcap.log"
            said = path.read_text(errors="replace").strip().splitlines() or ["its program said nothing"]
            raise InfrastructureError(f"no packet capture begins: {said[-1]} (see {path})")

    # processes

    def launch(self, processes: Mapping[str, Sequence[Process]]) -> None:
        no_users = self.capabilities.get("users")
        for name in processes:
            for one in processes[self._node(name)]:
                if one.user is not None and no_users is not None:
                    text = f"{one.name} on {name} is to run as user {one.user!r}"
                    raise MissingCapability(f"{text}, which cannot be had here: {no_users}")
        delays_s = {
            n: max((p.start_after_ms for p in some), default=0) / 1e3 for n, some in processes.items()
        }
        began = time.monotonic()
        for name in sorted(processes, key=delays_s.__getitem__):
            time.sleep(max(0.0, began + delays_s[name] - time.monotonic()))
            self._ask("launch", processes={name: [self._spec(process) for process in processes[name]]})

    def start(self, node: str) -> tuple[ProcessState, ...]:
        return self._states(self._ask("start", node=self._node(node)))

    def state(self, node: str) -> tuple[ProcessState, ...]:
        return self._states(self._ask("state", node=self._node(node)))

    def signal(
        self, node: str, signal: str, *, pid: int | None = None, start: int | None = None
    ) -> tuple[ProcessState, ...]:
        """See `harness.core.cluster.Processes`. Returns when the effect is there: after KILL the
        processes are gone, after STOP each of their threads stands still, after CONT none does.

        Raises: InfrastructureError when that takes longer than 5 s.
        """

        number = _beside.signal_of(signal)
        if (pid is None) != (start is None):
            raise UsageError("pid and start name a process together; one of them alone names nobody")
        name = self._node(node)
        before = self._states(self._ask("signal", node=name, number=int(number), pid=pid, start=start))
        for one in before:
            if not one.alive or (pid is not None and (one.pid, one.start) != (pid, start)):
                continue
            if not _until(partial(_effects().get(number, _at_once), one.pid, one.start)):
                text = f"{one.name} (pid {one.pid}) shows no effect of {signal} after {_effect_s:g} s"
                raise InfrastructureError(f"{node}: {text}; it may hang in the kernel")
        return before

    def loop(self, fault: str, node: str, *, up_s: float, down_s: float) -> None:
        self._node(node)
        self._loops.loop(fault, node, up_s=up_s, down_s=down_s)

    def unloop(self, fault: str) -> None:
        self._loops.unloop(fault)

    def log_dir(self, node: str) -> Path:
        return self._logs / self._node(node)

    def spawn_helper(self, argv: Sequence[str], name: str) -> int:
        pid: int = self._ask("helper", argv=list(argv), name=name)
        return pid

    # network

    def block(self, fault: str, pairs: Sequence[Pair], *, flap_s: float | None = None) -> Mapping[str, Any]:
        wire = [[*self._end(source), *self._end(target)] for source, target in pairs]
        return self._timed("block", fault=fault, pairs=wire, flap_s=flap_s)

    def unblock(self, fault: str) -> Mapping[str, Any]:
        return self._timed("unblock", fault=fault)

    def dropped(self) -> int:
        count: int = self._ask("dropped")
        return count

    def shape(self, fault: str, pairs: Sequence[Pair], shaping: Shaping) -> Mapping[str, Any]:
        wire = [[*self._end(source), *self._end(target)] for source, target in pairs]
        self._shaped = True
        return self._timed("shape", fault=fault, pairs=wire, spec=msgspec.to_builtins(shaping))

    def unshape(self, fault: str) -> Mapping[str, Any]:
        return self._timed("unshape", fault=fault)

    def shaped(self) -> Mapping[str, Any]:
        found: dict[str, Any] = self._ask("shaped")
        return found

    def echo(
        self,
        source: str,
        target: str,
        *,
        count: int = 20,
        interval_s: float = 0.005,
        size: int = 64,
        wait_s: float = 0.3,
    ) -> Echoes:
        from clusters.means import echo

        address = self._addresses[self._name(target)]
        try:
            return Echoes(
                **echo.run(self._net(source), self._net(target), address, count, interval_s, size, wait_s)
            )
        except OSError as e:
            raise InfrastructureError(f"cannot send echo requests from {source} to {target}: {e}") from None

    def reaches(self, source: str, target: str, port: int, timeout_s: float = 0.3) -> bool:
        from clusters.means import namespaces

        address = self._addresses[self._name(target)]
        try:
            sock = namespaces.tcp_socket(self._net(source))
        except OSError as e:
            raise InfrastructureError(f"the network of {source} cannot be entered: {e}") from None
        with sock:
            sock.settimeout(timeout_s)
            try:
                sock.connect((address, port))
            except ConnectionRefusedError:
                return True
            except (TimeoutError, ConnectionError):
                return False
            except OSError as e:
                if e.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
                    return False
                raise InfrastructureError(f"cannot probe {target}:{port} from {source}: {e}") from None
        return True

    def enter(self, endpoint: str) -> None:
        from clusters.means import namespaces

        try:
            namespaces.enter(self._net(endpoint))
        except OSError as e:
            raise InfrastructureError(f"the network of {endpoint} cannot be entered: {e}") from None

    # the agent

    def _ask(self, operation: str, *, timeout_s: float = _answer_s, **arguments: Any) -> Any:
        return self._exchange(operation, timeout_s=timeout_s, **arguments)[0]

    def _exchange(self, operation: str, *, timeout_s: float, **arguments: Any) -> tuple[Any, list[int]]:
        with self._lock:
            if self._lost is not None or self._channel is None:
                raise InfrastructureError(f"cannot {operation}: {self._lost}")
            self._asked += 1
            try:
                self._channel.send({"id": self._asked, "op": operation, **arguments})
                answer, fds = self._channel.receive(timeout_s=timeout_s)
                while answer["id"] != self._asked:  # to a question whose asker was interrupted or gave up
                    for fd in fds:
                        os.close(fd)
                    answer, fds = self._channel.receive(timeout_s=timeout_s)
            except TimeoutError:
                what = self._obituary(f"did not answer within {timeout_s:g} s")
                raise InfrastructureError(f"cannot {operation}: {what}") from None
            except (OSError, ValueError):
                self._lost = self._obituary("has ended")
                raise InfrastructureError(f"cannot {operation}: {self._lost}") from None
        if "error" in answer:
            raise _errors.get(answer["kind"], InfrastructureError)(answer["error"])
        return answer["result"], fds

    def _obituary(self, what: str) -> str:
        path = self._logs / "agent.log"
        lines = path.read_text(errors="replace").split("\n") if path.exists() else []
        said = [line for line in lines if line.strip()][-1:]
        last = f", its last line: {said[0].strip()}" if said else ""
        return f"the agent that owns the nodes {what}{last} (see {path})"

    def _timed(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        began = time.perf_counter_ns()
        pairs = self._ask(operation, **arguments)
        return {"pairs": pairs, "took_ms": (time.perf_counter_ns() - began) / 1e6}

    def _name(self, name: str) -> str:
        if name not in self._addresses:
            raise unknown_name("node or place", name, self._addresses)
        return name

    def _node(self, name: str) -> str:
        names = [node.name for node in self.nodes]
        if name not in names:
            raise unknown_name("node", name, names)
        return name

    def _net(self, name: str) -> int:
        fd = self._nets.get(self._name(name))
        if fd is None:
            raise InfrastructureError(f"cannot enter the network of {name}: {self._lost}")
        return fd

    def _end(self, endpoint: Endpoint) -> tuple[str, int | None]:
        return self._name(endpoint.name), endpoint.port

    def _spec(self, process: Process) -> dict[str, Any]:
        return {**msgspec.to_builtins(process), "data_dir": DATA_DIR}

    def _states(self, wire: list[dict[str, Any]]) -> tuple[ProcessState, ...]:
        return tuple(ProcessState(**one) for one in wire)


_errors: Final[dict[str, type[InfrastructureError]]] = {
    "exec": NodeFailed,
    "capability": MissingCapability,
}


def _effects() -> dict[signals.Signals, Callable[[int, int], bool]]:
    """What a signal must have brought about before `signal` returns."""
    from clusters.means import procfs

    return {
        signals.SIGKILL: lambda pid, start: not _lives(pid, start),
        signals.SIGSTOP: procfs.stands_still,
        signals.SIGCONT: lambda pid, start: "T" not in procfs.thread_states(pid, start),
    }


def _at_once(_pid: int, _start: int) -> bool:
    return True


def _lives(pid: int, start: int) -> bool:
    from clusters.means import procfs

    return procfs.same(pid, start) is not None


def _ended(pid: int, start: int) -> bool:
    """Whether a process is over; its parent may not have taken note yet."""
    from clusters.means import procfs

    found = procfs.same(pid, start)
    return found is None or found.state in "ZX"


def _until(done: Callable[[], bool]) -> bool:
    """Wait for `done`, looking ever less often; whether it came within the bound."""
    deadline = time.monotonic() + _effect_s
    pause_s = 0.0001
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, 0.02)
    return True
