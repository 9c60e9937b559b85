"""A cluster of hosts over SSH: what each host's agent is asked, and what the answers come to.

A few times a second each host is told that the harness lives, and hands over what its logs have gained. A host that
does not answer any more ends the run; what was to be undone there stays open in the ledger, for `splitbrain heal`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from clusters.means.crashloop import Loops
from clusters.providers import _beside, _clocks, _disks, _tracer
from clusters.providers._ssh_host import Host, digest_of
from harness.core.cluster import (
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
from harness.core.errors import (
    InfrastructureError,
    MissingCapability,
    SplitbrainError,
    UsageError,
    unknown_name,
)

CANNOT: Final[Mapping[str, str | None]] = {
    "client-places": "clients of hosts over SSH all connect from this machine",
}
_about_itself: Final = frozenset({"echo"})  # requests that no node has to be named in
_beat_s: Final = 0.2
_lost_s: Final = 6.0  # of beats that were not answered
_settle_s: Final = 60.0
_launch_s: Final = 40.0
_close_s: Final = 30.0
_T = TypeVar("_T")


class SshCluster:
    """A cluster of hosts; implements `harness.core.cluster.Cluster`, `Network`, `Processes`, `Limits`, `Clocks`."""

    def __init__(
        self, run: str, run_dir: Path, hosts: Sequence[Host], silence_s: int, *, set_clock: bool = False
    ) -> None:
        self.run = run
        self.nodes = tuple(Node(host.name, host.address) for host in hosts)
        self.places: tuple[Place, ...] = ()
        self.zones: Mapping[str, tuple[str, ...]] = {}
        self.capabilities: Mapping[str, str | None] = {}
        self.inits: Mapping[str, tuple[int, int]] = {}
        self.network = self
        self.process = self
        self.clock = _clocks.Clocks(self._ask, self._node)
        self.limits = self
        self.disk = _disks.Disks(self._ask)
        self.tracer = _tracer.Tracer(self._ask)
        self._hosts = {host.name: host for host in hosts}
        self._logs = run_dir / "logs"
        self._silence_s = silence_s
        self._set_clock = set_clock
        self._ports: tuple[int, ...] = ()
        self._pool = ThreadPoolExecutor(len(hosts), thread_name_prefix="splitbrain-host")
        self._helpers = _beside.Helpers(self._logs)
        self._loops = Loops(self)
        self._over = threading.Event()
        self._beats: list[threading.Thread] = []
        self._known: dict[str, dict[str, int]] = {host.name: {} for host in hosts}
        self._lost: dict[str, str] = {}  # node -> a sentence about what became of its host
        self._open = True

    # life

    def make(self, mounts: Mapping[str, str]) -> None:
        """Bring what is needed to the hosts, start the agents, and have them make the nodes."""
        addresses = {node.name: node.address for node in self.nodes}
        spared = sorted({22, *(host.link.target.port for host in self._hosts.values())})

        for source in mounts:
            digest_of(Path(source).resolve())  # once, for all of them

        def settle(host: Host) -> dict[str, str | None]:
            there = {host.send(Path(source).resolve()): target for source, target in mounts.items()}
            host.begin(self.run)
            cannot: dict[str, str | None] = host.ask(
                "settle",
                run=host.tag(self.run),
                home=host.home(self.run),
                name=host.name,
                addresses=addresses,
                mounts=there,
                data_dir=DATA_DIR,
                spared=spared,
                silence_s=self._silence_s,
                set_clock=self._set_clock,
                timeout_s=_settle_s,
            )
            return cannot

        found = self._each(settle)
        works: dict[str, str | None] = dict.fromkeys(("ssh", "signal", "restart", "keep", "descriptor-limit"))
        asked = {name: _first(name, found) for cannot in found.values() for name in cannot}
        self.capabilities = {**works, **CANNOT, **asked}
        for host in self._hosts.values():
            self.log_dir(host.name).mkdir(parents=True, exist_ok=True)
            self._log(host.name, "").touch()
            beat = threading.Thread(
                target=self._keep_beating, args=(host,), name=f"splitbrain-beat-{host.name}"
            )
            beat.daemon = True
            beat.start()
            self._beats.append(beat)

    def check(self) -> None:
        """Raises: InfrastructureError when a host does not answer any more, or has undone faults by itself."""
        if self._lost:
            raise InfrastructureError(next(iter(self._lost.values())))

    def keep(self, limit_s: float) -> None:
        """See `harness.core.cluster.Cluster`. A host that cannot be told has not heard us for a while, and ends its
        node before the others do."""

        def tell(host: Host) -> None:
            with contextlib.suppress(InfrastructureError):
                host.ask("keep", limit_s=limit_s)

        self._each(tell, self._hosts.keys() - self._lost.keys())

    def close(self) -> None:
        if not self._open:
            return
        self._open = False
        self._loops.close()
        self._helpers.close()
        self._stop_beating()
        problems: list[str] = []
        for host in self._hosts.values():
            if host.name not in self._lost:
                self._hand_over(host, problems)
        ended = dict(zip(self._hosts, self._pool.map(self._end, self._hosts.values()), strict=True))
        problems += [problem for some in ended.values() for problem in some]
        self._pool.shutdown()
        for host in self._hosts.values():
            host.link.close()
        if problems:
            raise InfrastructureError(
                f"run {self.run} left something behind: {'; '.join(problems)}; `splitbrain heal {self.run}` removes it"
                " once the host is back"
            )

    def abandon(self) -> bool:
        """Close what could not be made, whose error says more; whether nothing is left of it. What is still being
        sent somewhere is not waited for."""
        for host in self._hosts.values():
            if not host.begun:
                host.link.close()
        try:
            self.close()
        except SplitbrainError:
            return False
        return True

    def _end(self, host: Host) -> list[str]:
        try:
            return host.end(_close_s)
        except InfrastructureError as e:
            return [str(e)]

    # logs and life signs

    def _keep_beating(self, host: Host) -> None:
        since = time.monotonic()
        while not self._over.wait(_beat_s):
            try:
                self._beat(host)
                since = time.monotonic()
            except InfrastructureError as e:
                if time.monotonic() > since + _lost_s or not host.link.alive:
                    host.give_up("it does not answer any more")
                    self._lost.setdefault(
                        host.name,
                        f"{e}; what was to be undone on {host.name} stays open: `splitbrain heal {self.run}` does it"
                        " when the host is back",
                    )
                    return

    def _beat(self, host: Host) -> bool:
        """Be heard by a host, and take over what its logs have gained; whether there may be more."""
        said = host.ask("beat", known=self._known[host.name], timeout_s=_lost_s)
        for name, text in said["logs"].items():
            data = text.encode("latin-1")
            with self._log(host.name, name).open("ab") as log:
                log.write(data)
            self._known[host.name][name] = self._known[host.name].get(name, 0) + len(data)
        if said["fired"]:
            self._lost.setdefault(
                host.name,
                f"{host.link.says}: the host heard nothing of the harness for {self._silence_s} s and has undone"
                f" what faults did there ({said['fired'].splitlines()[-1]}); was this machine, or the way there, too"
                " slow? --opt ssh.silence_s=SECONDS allows more",
            )
        return bool(said["logs"])

    def _stop_beating(self) -> None:
        self._over.set()
        for beat in self._beats:
            beat.join(2 * _lost_s)

    def _hand_over(self, host: Host, problems: list[str]) -> None:
        """The rest of a host's logs."""
        try:
            while self._beats and self._beat(host):
                pass
        except (InfrastructureError, OSError) as e:
            problems.append(f"the last of its logs is missing: {e}")

    # processes

    def launch(self, processes: Mapping[str, Sequence[Process]]) -> None:
        ports = {port for some in processes.values() for process in some for port in process.ports}
        self._ports = tuple(sorted(ports | {*self._ports}))
        no_users = self.capabilities.get("users")
        for name in processes:
            for one in processes[self._node(name)]:
                if one.user is not None and no_users is not None:
                    text = f"{one.name} on {name} is to run as user {one.user!r}"
                    raise MissingCapability(f"{text}, which cannot be had there: {no_users}")
        begun = time.monotonic()

        def start(host: Host) -> None:
            some = processes.get(host.name, ())
            time.sleep(
                max(0.0, begun + max((p.start_after_ms for p in some), default=0) / 1e3 - time.monotonic())
            )
            wire = [{**msgspec.to_builtins(process), "data_dir": DATA_DIR} for process in some]
            host.ask("launch", processes={host.name: wire}, ports=list(self._ports), timeout_s=_launch_s)

        self._each(start, processes)

    def start(self, node: str) -> tuple[ProcessState, ...]:
        return _states(self._ask("start", node=node, timeout_s=_launch_s))

    def state(self, node: str) -> tuple[ProcessState, ...]:
        return _states(self._ask("state", node=node))

    def signal(
        self, node: str, signal: str, *, pid: int | None = None, start: int | None = None
    ) -> tuple[ProcessState, ...]:
        """See `harness.core.cluster.Processes`. Returns when the effect is there.

        Raises: InfrastructureError when that takes longer than 5 s.
        """
        if (pid is None) != (start is None):
            raise UsageError("pid and start name a process together; one of them alone names nobody")
        number = int(_beside.signal_of(signal))
        return _states(self._ask("signal", node=node, number=number, pid=pid, start=start))

    def loop(self, fault: str, node: str, *, up_s: float, down_s: float) -> None:
        self._loops.loop(fault, self._node(node), up_s=up_s, down_s=down_s)

    def unloop(self, fault: str) -> None:
        self._loops.unloop(fault)

    def limit(self, fault: str, node: str, kind: str, amount: float) -> None:
        self._ask("limit", fault=fault, node=node, kind=kind, amount=amount)

    def unlimit(self, fault: str) -> None:
        self._each(lambda host: host.ask("unlimit", fault=fault))

    def usage(self, node: str, kind: str) -> Mapping[str, Any]:
        found: dict[str, Any] = self._ask("usage", node=node, kind=kind)
        return found

    def log_dir(self, node: str) -> Path:
        return self._logs / self._node(node)

    def _log(self, node: str, name: str) -> Path:
        """Where a log of a host's is written on: `name` in the node's folder, or without one the agent's."""
        return self.log_dir(node) / name if name else self._logs / f"agent-{node}.log"

    def spawn_helper(self, argv: Sequence[str], name: str) -> int:
        return self._helpers.spawn(argv, name)

    def enter(self, endpoint: str) -> None:
        """Every host is reached from where we are."""

    # network

    def block(self, fault: str, pairs: Sequence[Pair], *, flap_s: float | None = None) -> Mapping[str, Any]:
        began = time.perf_counter_ns()
        cuts: dict[str, list[Any]] = {name: [] for name in self._hosts}
        for source, target in pairs:
            cuts[self._node(target.name)].append([self._address(source), list(self._matched(source, target))])

        def cut(host: Host) -> int:
            if not cuts[host.name]:
                found: int = host.ask("uncut", fault=fault)
            else:
                found = host.ask("cut", fault=fault, cuts=cuts[host.name], flap_s=flap_s)
            return found

        return _timed(began, self._each(cut))

    def unblock(self, fault: str) -> Mapping[str, Any]:
        began = time.perf_counter_ns()
        return _timed(began, self._each(lambda host: int(host.ask("uncut", fault=fault))))

    def dropped(self) -> int:
        return sum(self._each(lambda host: int(host.ask("dropped"))).values())

    def shape(self, fault: str, pairs: Sequence[Pair], shaping: Shaping) -> Mapping[str, Any]:
        began = time.perf_counter_ns()
        sent: dict[str, list[Any]] = {name: [] for name in self._hosts}
        for source, target in pairs:
            self._node(target.name)
            sent[self._node(source.name)].append([source.name, source.port, target.name, target.port])
        spec = msgspec.to_builtins(shaping)

        def shape(host: Host) -> int:
            if sent[host.name]:
                own = {**spec, "seed": spec["seed"] + list(self._hosts).index(host.name)}  # draws of its own
                return int(host.ask("shape", fault=fault, pairs=sent[host.name], spec=own))
            return int(host.ask("unshape", fault=fault))

        return _timed(began, self._each(shape))

    def unshape(self, fault: str) -> Mapping[str, Any]:
        began = time.perf_counter_ns()
        return _timed(began, self._each(lambda host: int(host.ask("unshape", fault=fault))))

    def shaped(self) -> Mapping[str, Any]:
        found = self._each(lambda host: dict(host.ask("shaped")))
        every = [one for one in found.values() if one]
        return {name: sum(one[name] or 0 for one in every) for name in (every[0] if every else ())}

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
        there, address = self._hosts[self._node(target)], self._address(Endpoint(target))
        bad = -int(there.ask("bad_checksums"))
        found: dict[str, Any] = self._ask(
            "echo", node=source, address=address, count=count, interval_s=interval_s, size=size, wait_s=wait_s
        )
        bad += int(there.ask("bad_checksums"))
        found["bad_checksums"] += bad
        return Echoes(**{**found, "rtt_ms": tuple(found["rtt_ms"])})

    def reaches(self, source: str, target: str, port: int, timeout_s: float = 0.3) -> bool:
        found: bool = self._hosts[self._node(source)].ask(
            "reaches", address=self._address(Endpoint(target)), port=port, wait_s=timeout_s
        )
        return found

    # the agents

    def _ask(self, operation: str, *, timeout_s: float = 20.0, **arguments: Any) -> Any:
        """Ask the agent of the `node` among the arguments; of those in `nodes`, each about itself, all at once and
        the facts put together; of every host where there is neither, for the first answer that is not None."""
        if "node" in arguments:
            host = self._hosts[self._node(arguments["node"])]
            if operation in _about_itself:
                del arguments["node"]
            return host.ask(operation, timeout_s=timeout_s, **arguments)
        if "nodes" in arguments:
            names = arguments.pop("nodes")
            found = self._each(
                lambda host: host.ask(operation, timeout_s=timeout_s, nodes=[host.name], **arguments), names
            )
            return _together([one for one in found.values() if isinstance(one, dict)])
        found = self._each(lambda host: host.ask(operation, timeout_s=timeout_s, **arguments))
        return next((f"{name}: {one}" for name, one in found.items() if one is not None), None)

    def _each(self, work: Callable[[Host], _T], names: Any = None) -> dict[str, _T]:
        """What `work` returns for each host (of those named), all at the same time.

        Raises: InfrastructureError with what every host that failed said, once all have ended.
        """
        hosts = [host for host in self._hosts.values() if names is None or host.name in names]
        futures = {host.name: self._pool.submit(work, host) for host in hosts}
        errors = [e for future in futures.values() if (e := future.exception()) is not None]
        if errors:
            first = errors[0]
            others = [e for e in errors[1:] if isinstance(e, SplitbrainError)]
            if others and isinstance(first, InfrastructureError):
                raise type(first)("; ".join(map(str, [first, *others])))
            raise first
        return {name: future.result() for name, future in futures.items()}

    def _matched(self, source: Endpoint, target: Endpoint) -> tuple[int, ...]:
        """The ports by which packets of a pair are known."""
        named = tuple(port for port in (source.port, target.port) if port is not None)
        if not named and not self._ports:
            raise InfrastructureError("nothing was launched, so that there are no ports by which to cut")
        return named or self._ports

    def _address(self, endpoint: Endpoint) -> str:
        return self._hosts[self._node(endpoint.name)].address

    def _node(self, name: str) -> str:
        if name not in self._hosts:
            raise unknown_name("node", name, self._hosts)
        return name


def _first(name: str, found: Mapping[str, Mapping[str, str | None]]) -> str | None:
    """Why something cannot be had: on the first host where it cannot."""
    return next((f"on {node}: {cannot[name]}" for node, cannot in found.items() if cannot.get(name)), None)


def _states(wire: list[dict[str, Any]]) -> tuple[ProcessState, ...]:
    return tuple(ProcessState(**one) for one in wire)


def _timed(began: int, pairs: Mapping[str, int]) -> Mapping[str, Any]:
    return {"pairs": sum(pairs.values()), "took_ms": (time.perf_counter_ns() - began) / 1e6}


def _together(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Facts of several hosts about one thing: numbers in sum, times the longest, truths only if all say so."""
    found: dict[str, Any] = {}
    for name in facts[0] if facts else ():
        values = [one[name] for one in facts]
        whole = all if isinstance(values[0], bool) else max if name.endswith("_ms") else sum
        found[name] = whole(values)
    return found
