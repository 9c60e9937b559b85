"""A node that is a host: what the agent owns of a machine that it does not own.

The node's processes run in mount, PID and host name namespaces of their own, as in a container that sees the
host's files read-only; the network is the host's, as is its clock. Whatever is done to them is done by the same
means as with namespaces of ours. What is done to the host itself, rules in its packet filter, has an entry in
the file of the dead man's switch (`clusters.means.switch`) before it is made.

The harness may die, or the way to it may. When it has been silent for too long, or its end of the channel is
closed, everything that faults did is undone here, and the node's processes go on: they belong to a run whose ledger
is open, and end with `splitbrain heal`, or after `LINGER_S`. A node that is kept (`splitbrain run --keep`) ends at
the time that was set, whoever is heard of by then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from clusters.agent import clocks, hostclock, leaving, node
from clusters.agent.atrest import AtRest
from clusters.agent.house import Answer, Refusal
from clusters.agent.shaping import Shaper
from clusters.means import (
    cgroup,
    echo,
    hostqueue,
    hostrules,
    kernel,
    limits,
    loopdisk,
    procfs,
    strace,
    userns,
)
from clusters.means.nft import Nft, queue_table_of
from harness.core.errors import MissingCapability

LINGER_S: Final = 3600.0
_effect_s: Final = 5.0
_beat_s: Final = 0.5  # how often the switch is shown that the harness lives, at the most
_chunk: Final = 256 << 10  # of logs, in one answer
_stopped: Final = frozenset({"T", "t"})


class State(NamedTuple):
    """A process as `clusters.means.limits` wants it."""

    name: str
    pid: int
    start: int
    state: str | None

    @property
    def alive(self) -> bool:
        return self.state is not None and self.state not in "ZX"


class Limited:
    """The host's node, as `clusters.means.limits` wants it."""

    def __init__(self, estate: HostEstate) -> None:
        self._estate = estate
        self.inits: Mapping[str, tuple[int, int]] = {}

    def state(self, node: str) -> tuple[Any, ...]:
        return tuple(
            State(one["name"], one["pid"], one["start"], one["state"])
            for one in self._estate.do_state(node=node)[0]
        )

    def spawn_helper(self, argv: Sequence[str], name: str) -> int:
        pid: int = self._estate.do_helper(argv=list(argv), name=name)[0]
        return pid


class HostEstate(AtRest):
    """All of it; see `Estate`. It has one node."""

    def __init__(self) -> None:
        super().__init__()
        self._home: Path | None = None
        self._name = ""
        self._rules: hostrules.Rules | None = None
        self._cuts: dict[str, list[hostrules.Cut]] = {}
        self._flapping: dict[str, tuple[float, float, bool]] = {}  # fault -> every_s, due, on
        self._stopped: set[tuple[int, int]] = set()
        self._shapes: set[str] = set()
        self._ports: tuple[int, ...] = ()  # of the system
        self._clock: hostclock.HostClock | None = None  # the host's own, where that is to be set
        self._silence_s = 0.0
        self._heard = time.monotonic()
        self._beaten = 0.0
        self._beats = 0
        self._fired = ""
        self._switch: subprocess.Popen[bytes] | None = None
        self._parted: float | None = None  # when the harness hung up
        self._until: float | None = None  # when all ends that is kept
        self._limited = Limited(self)
        self._limits = limits.NodeLimits(self._limited)

    # life

    def do(self, request: dict[str, Any]) -> Answer:
        self._beat()
        try:
            return super().do(request)
        finally:
            self._beat()

    def do_settle(
        self,
        *,
        run: str,
        home: str,
        name: str,
        addresses: dict[str, str],
        mounts: dict[str, str],
        data_dir: str,
        spared: list[int],
        silence_s: int,
        set_clock: bool,
    ) -> Answer:
        """Make the node. `run` names what is made here, in the folder `home`; `addresses` are those of all nodes by
        name, `spared` the ports of SSH. Returns what cannot be had here, by capability."""
        self._run, self._name, self._silence_s = run, name, silence_s
        self._clock = hostclock.HostClock() if set_clock else None
        place = self._home = Path(home)
        self._work, self._logs = place / "work", place / "logs"
        (self._logs / name).mkdir(parents=True, exist_ok=True)
        data = self._work / name / "data"
        data.mkdir(parents=True, exist_ok=True)
        self._sides = {other: (address, None) for other, address in addresses.items()}
        self._ssh_ports = spared
        self._watch()
        hosts = "127.0.0.1 localhost\n::1 localhost\n"
        hosts += "".join(f"{address} {other}\n" for other, address in addresses.items())
        setup = {"name": name, "data": str(data), "data_dir": data_dir, "mounts": mounts, "hosts": hosts}
        house = self._houses[name] = self._settle_in(name, partial(_move_out, setup))
        house.ready()
        leaving.note_node(place, house.pid)
        stat = procfs.stat(house.pid)
        self._limited.inits = {name: (house.pid, stat.start if stat else 0)}
        limited = {f"{c}-limit": self._group(c) or self._limits.refusal(name, c) for c in cgroup.CONTROLLERS}
        cannot = {
            "block": self._no_rules(),
            "shape": hostqueue.why_not(),
            "clock": hostclock.why_not() if set_clock else clocks.why_not(),
            "cgroup": self._group(),
            "users": userns.lonely(),
            **limited,
        }
        return cannot, []

    def do_survey(self, *, run: str) -> Answer:
        """What can be had on this host, each tried or looked up once; nothing stays."""
        try:
            hostrules.make(run, ()).remove()
            block = None
        except OSError as e:
            block = str(e)
        loop = loopdisk.probe()
        return {
            **dict.fromkeys(("signal", "restart", "keep", "descriptor-limit", "at-rest")),
            "block": block,
            "shape": hostqueue.why_not(),
            "clock": clocks.why_not(),
            "users": userns.lonely(),
            **{f"{c}-limit": cgroup.controlling(c)[1] for c in cgroup.CONTROLLERS},
            "loop-disk": loop,
            "trace": strace.probe(),
        }, []

    def do_beat(self, *, known: dict[str, int]) -> Answer:
        """Be there. `known`: log file -> how much of it the harness has; returns what came since (the agent's own
        log is under the name ""), and what the dead man's switch did, if it did anything."""
        logs = {}
        left = _chunk
        paths = {path.name: path for path in sorted((self._logs / self._name).glob("*.log"))}
        for name, path in {**paths, "": self._logs.parent / "agent.log"}.items():
            with path.open("rb") as file:
                file.seek(known.get(name, 0))
                data = file.read(left)
            left -= len(data)
            if data:
                logs[name] = data.decode("latin-1")  # any bytes, through JSON and back
        return {"logs": logs, "fired": self._what_fired()}, []

    def do_keep(self, *, limit_s: float) -> Answer:
        """Leave the node standing for so long, with nothing in its way, and end it then: whether the harness is still
        there, has hung up, or is silent."""
        self._until = time.monotonic() + limit_s
        self._restore(None)
        return None, []

    def hang_up(self) -> None:
        """The harness's end of the channel is closed: it has ended, or the way to it has."""
        if self._until is None and not any(house.processes for house in self._houses.values()):
            self.close()  # nothing has begun yet
            return
        self._parted = time.monotonic()
        self._restore("the harness is gone")

    def tick(self) -> float | None:
        now = time.monotonic()
        for fault, (every_s, due, on) in list(self._flapping.items()):
            if due <= now:
                self._flapping[fault] = (every_s, now + every_s, not on)
                self._enforce()
        if now > (self._heard if self._parted is None else self._parted) + LINGER_S:
            self.close()  # nobody comes back to this
        elif self._until is not None and now > self._until:
            self.close()  # it was kept as long as it was to be
        elif self._parted is None and self._houses and now > self._heard + self._silence_s - 1:
            self._restore("the harness was silent")  # the switch would, a second later
        soonest = min((due - now for _every, due, _on in self._flapping.values()), default=1.0)
        return max(0.0, min(soonest, 1.0))

    def close(self) -> list[str]:
        if not self.open:
            return []
        self._restore(None)
        problems = super().close()
        if self._rules is not None:
            try:
                self._rules.remove()
            except OSError as e:
                problems.append(f"the rules of run {self._run} could not be removed: {e}")
        if self._switch is not None and not problems:  # else there may still be something for it to do
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._switch.pid, signal.SIGTERM)
            self._switch.wait()
        if self._home is not None and not problems:
            problems += leaving.remove_home(self._run, self._home)
        return problems

    # processes

    def do_launch(self, *, processes: dict[str, list[dict[str, Any]]], ports: Sequence[int] = ()) -> Answer:
        """The same as with nodes of ours; `ports` are those of the system, on whichever node."""
        for name, specs in processes.items():
            for one in specs:
                for port in one["ports"]:
                    self._refuse_port(name, one["name"], port)
        self._ports = tuple(sorted({*self._ports, *ports}))
        return super().do_launch(processes=processes)

    def do_signal(self, *, node: str, number: int, pid: int | None, start: int | None) -> Answer:
        """Signal the node's processes; returns their state before, once the effect is there."""
        before, _ = super().do_state(node=node)
        hit = [
            one
            for one in before
            if one["state"] is not None
            and one["state"] not in "ZX"
            and (pid is None or (one["pid"], one["start"]) == (pid, start))
        ]
        if number == signal.SIGSTOP:
            self._stopped |= {(one["pid"], one["start"]) for one in hit}
            self._arm()
        self._houses[node].signal(signal.Signals(number), pid, start)
        for one in hit:
            if not _until(partial(_shows, number, one["pid"], one["start"])):
                raise Refusal(
                    "agent",
                    f"{node}: {one['name']} (pid {one['pid']}) shows no effect of"
                    f" {signal.Signals(number).name} after {_effect_s:g} s; it may hang in the kernel",
                )
        if number in (signal.SIGCONT, signal.SIGKILL):
            self._stopped -= {(one["pid"], one["start"]) for one in hit}
            self._arm()
        return before, []

    def do_limit(self, *, fault: str, node: str, kind: str, amount: float) -> Answer:
        """See `harness.core.cluster.Limits`."""
        try:
            self._limits.limit(fault, node, kind, amount)
        except MissingCapability as e:
            raise Refusal("capability", f"{node}: {e}") from None
        return None, []

    def do_unlimit(self, *, fault: str) -> Answer:
        """Lift what a fault limits."""
        self._limits.unlimit(fault)
        return None, []

    def do_usage(self, *, node: str, kind: str) -> Answer:
        """How much the node's processes use."""
        return dict(self._limits.usage(node, kind)), []

    # clocks

    def do_shift(self, *, node: str, fault: str, course: dict[str, Any]) -> Answer:
        if self._clock is None:
            return super().do_shift(node=node, fault=fault, course=course)
        if (why := hostclock.refusal_of(course)) is not None:
            raise Refusal("capability", f"{node}: {why}")
        self._clock.shift(fault, course["offset_ns"], self._arm)
        return [], []

    def do_unshift(self, *, node: str, fault: str) -> Answer:
        if self._clock is None:
            return super().do_unshift(node=node, fault=fault)
        self._clock.unshift(fault)
        self._arm()
        return [], []

    def do_clocks(self, *, node: str) -> Answer:
        readings, _ = super().do_clocks(node=node)
        moved = self._clock.moved() if self._clock is not None else 0
        return [
            {**one, "offset_ns": one["offset_ns"] + moved, "true_ns": one["true_ns"] - moved}
            for one in readings
        ], []

    # network

    def do_cut(self, *, fault: str, cuts: list[list[Any]], flap_s: float | None) -> Answer:
        """Drop packets by [address, ports]; returns how many such pairs are in force."""
        if self._rules is None and (why := self._no_rules()) is not None:
            raise Refusal("capability", f"partitions cannot be made on this host: {why}")
        self._flapping.pop(fault, None)
        self._cuts[fault] = [hostrules.Cut(address, tuple(ports)) for address, ports in cuts]
        if flap_s is not None and cuts:
            self._flapping[fault] = (flap_s, time.monotonic() + flap_s, True)
        return self._enforce(), []

    def do_uncut(self, *, fault: str) -> Answer:
        """Lift a cut; returns how many are still in force."""
        self._flapping.pop(fault, None)
        if self._cuts.pop(fault, None) is None:
            return sum(map(len, self._cuts.values())), []
        return self._enforce(), []

    def do_shape(self, *, fault: str, pairs: list[list[Any]], spec: dict[str, Any]) -> Answer:
        self._shapes.add(fault)
        self._arm()
        return super().do_shape(fault=fault, pairs=pairs, spec=spec)

    def do_unshape(self, *, fault: str) -> Answer:
        try:
            return super().do_unshape(fault=fault)
        except OSError:
            if not self._what_fired():  # else the switch has taken the table away, and nothing is shaped
                raise
            return 0, []
        finally:
            self._shapes.discard(fault)
            self._arm()

    def _make_shaper(self) -> Shaper:
        def feed(nft: Nft, table: str, queue: int) -> hostqueue.HostFeed:
            return hostqueue.HostFeed(nft, table, queue, self._ports)

        return Shaper(queue_table_of(self._run), self._logs, feed, "host")

    def do_dropped(self) -> Answer:
        return self._rules.dropped() if self._rules else 0, []

    def do_reaches(self, *, address: str, port: int, wait_s: float) -> Answer:
        """Whether a TCP connection is accepted, or refused, in time."""
        try:
            with socket.create_connection((address, port), timeout=wait_s):
                return True, []
        except ConnectionRefusedError:
            return True, []
        except OSError:
            return False, []

    def do_echo(self, *, address: str, count: int, interval_s: float, size: int, wait_s: float) -> Answer:
        """Send echo requests from here; what the other end's kernel discarded is to be asked there."""
        try:
            return echo.send(address, count, interval_s, size, wait_s), []
        except OSError as e:
            raise Refusal("capability", f"echo requests cannot be sent from {self._name}: {e}") from None

    def do_bad_checksums(self) -> Answer:
        """Packets that this host's kernel has discarded for a wrong checksum."""
        return echo.bad_checksums(), []

    # the switch

    def _watch(self) -> None:
        """Start the dead man's switch: a process of its own, which outlives us and the connection."""
        home = self._home
        assert home is not None
        self._beat()
        (home / "undo").touch()
        switch = Path(__file__).resolve().parents[1] / "means" / "switch.sh"
        self._switch = subprocess.Popen(
            ["/bin/sh", str(switch), str(home), str(self._silence_s)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def _beat(self) -> None:
        """The harness has been heard."""
        self._heard = time.monotonic()
        if self._heard > self._beaten + _beat_s and self._home is not None:
            self._beats += 1
            self._beaten = self._heard
            with contextlib.suppress(OSError):  # a full disk; then the switch fires, which does no harm
                (self._home / "beat").write_text(str(self._beats))

    def _arm(self) -> None:
        """Have on disk what the switch is to do, before it can be needed."""
        lines = [*self._rules.undo] if self._rules is not None and self._cuts else []
        lines += self._clock.undo if self._clock is not None else ()
        lines += [f"nft {queue_table_of(self._run)}"] if self._shapes else []
        lines += [f"cont {pid} {start}" for pid, start in sorted(self._stopped)]
        if self._home is not None:
            part = self._home / "undo.part"
            part.write_text("".join(f"{line}\n" for line in lines))
            part.replace(self._home / "undo")

    def _what_fired(self) -> str:
        if not self._fired and self._home is not None:
            with contextlib.suppress(OSError):
                self._fired = (self._home / "fired").read_text(errors="replace").strip()
        return self._fired

    def _restore(self, why: str | None) -> None:
        """Undo all that faults have done here; `why` says what made us do it unasked."""
        ours: list[tuple[str, Callable[[], Any]]] = []
        if self._cuts:
            self._cuts.clear()
            self._flapping.clear()
            ours.append(("network restored", self._enforce))
        if self._stopped:
            still, self._stopped = self._stopped, set()
            ours.append(("processes resumed", partial(_continue, still)))
        shaping = self._shaper.shaping if self._shaper is not None else ()
        ours += [("packets let alone", partial(self.do_unshape, fault=fault)) for fault in shaping]
        ours += [
            ("clocks put right", partial(self.do_unshift, node=name, fault=fault))
            for name, courses in self._courses.items()
            for fault in courses
        ]
        host_clock = self._clock.faults if self._clock is not None else ()
        ours += [
            ("clock set right", partial(self.do_unshift, node=self._name, fault=fault))
            for fault in host_clock
        ]
        ours += [
            ("tracers ended", partial(self.do_untrace, fault=fault, node=name))
            for fault, name in self._tracers
        ]
        ours += [("limits lifted", partial(self._limits.unlimit, fault)) for fault in self._limits.faults]
        if not ours:
            return
        done = []
        for what, undo in ours:
            try:
                undo()
                done.append(what)
            except Exception as e:  # noqa: BLE001 - whatever cannot be undone must not keep the rest from it
                done.append(f"not {what}: {e}")
        if why is not None and done:
            self._fired = f"{why}: {', '.join(dict.fromkeys(done))}"
            if self._home is not None:
                with contextlib.suppress(OSError):
                    (self._home / "fired").write_text(f"{self._fired}\n")
        with contextlib.suppress(OSError):
            self._arm()

    def _enforce(self) -> int:
        """Have those cuts in force that are to be now; the switch knows before, and forgets after."""
        now = {
            cut
            for fault, cuts in self._cuts.items()
            if self._flapping.get(fault, (0.0, 0.0, True))[2]
            for cut in cuts
        }
        if self._rules is None:
            return 0
        if self._cuts:
            self._arm()
        try:
            self._rules.set(now)
        except OSError:
            # the switch has taken the table away; without it nothing is cut, and nothing else is to be made of it
            if now or not self._what_fired():
                raise
        if not self._cuts:
            self._arm()
        return len(now)

    def _no_rules(self) -> str | None:
        """Make the host's table, once; why there can be none, or None."""
        if self._rules is None:
            try:
                self._rules = hostrules.make(self._run, self._ssh_ports)
            except OSError as e:
                return str(e)
        return None

    def _refuse_port(self, name: str, process: str, port: int) -> None:
        """Raises: Refusal for a port of SSH's, and for one that somebody else listens on."""
        if port in self._ssh_ports:
            raise Refusal(
                "setup", f"{name}: {process} would listen on port {port}, which is that of SSH here"
            )
        address = self._sides[name][0]
        kind = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(kind, socket.SOCK_STREAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((address, port))
            except OSError as e:
                raise Refusal(
                    "setup",
                    f"{name}: {process} cannot have port {port} of {address}: {e.strerror or e}; what listens there"
                    " may be what a run has left (splitbrain heal --all), or not ours",
                ) from None


def _move_out(setup: dict[str, Any], theirs: socket.socket) -> NoReturn:
    """Be the node's init, in namespaces of its own, but for the network."""
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS)
    node.main(theirs, partial(node.furnish, setup))


def _continue(some: set[tuple[int, int]]) -> None:
    for pid, start in some:
        procfs.send(pid, start, signal.SIGCONT)


def _shows(number: int, pid: int, start: int) -> bool:
    """Whether a process shows the effect of a signal."""
    if number == signal.SIGKILL:
        found = procfs.same(pid, start)
        return found is None or found.state in "ZX"
    if number == signal.SIGSTOP:
        return procfs.thread_states(pid, start) <= _stopped
    if number == signal.SIGCONT:
        return "T" not in procfs.thread_states(pid, start)
    return True


def _until(done: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + _effect_s
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.001)
    return True
