"""What the agent owns, and the requests it answers about it.

Everything hangs on descriptors and child processes of this one process: namespaces have no names,
so they cannot be left behind. Control groups and data directories do have names; `close` removes
them, and `clusters.means.cgroup.remove` does when nobody was left to call it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from clusters.agent import clocks, network, node
from clusters.agent.house import Answer, House, Incarnation, Refusal
from clusters.agent.shaping import Broken, Shaper, hardware_address
from clusters.means import cgroup, kernel, namespaces, nfqueue, procfs, userns
from clusters.means.nft import Blocks, Nft, Side, queue_table_of
from clusters.means.removal import clear

_end_s: Final = 3.0
_exit_s: Final = 0.5


class Flap(NamedTuple):
    """A block that comes and goes: how often, what it blocks, when it changes next, whether it is there."""

    every_s: float
    sides: set[tuple[Side, Side]]
    due: float
    on: bool = True


class Estate(clocks.Clocks):
    """All of it. `do` answers one request; see the methods that begin with `do_`."""

    def __init__(self) -> None:
        super().__init__()
        self.open = True
        self._pids = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._run = ""
        self._work = Path()
        self._logs = Path()
        self._sides: dict[str, tuple[str, str | None]] = {}
        self._nets: dict[str, int] = {}
        self._houses: dict[str, House] = {}
        self._helpers: list[subprocess.Popen[bytes]] = []
        self._blocks: Blocks | None = None
        self._no_block: str | None = None
        self._flaps: dict[str, Flap] = {}
        self._shaper: Shaper | None = None
        self._hardware: dict[str, str] = {}  # address -> MAC

    def do(self, request: dict[str, Any]) -> Answer:
        """Answer a request, by the method named for its `op`; returns the result and descriptors."""
        operation = request.pop("op")
        answer: Answer = getattr(self, f"do_{operation}")(**request)
        return answer

    def do_create(
        self,
        *,
        run: str,
        run_dir: str,
        nodes: list[str],
        ports: dict[str, list[str | None]],
        prefix: int,
        mounts: dict[str, str],
        data_dir: str,
    ) -> Answer:
        """Make everything. `ports`: node or place -> [IPv4, IPv6 or None]. Returns the namespaces."""
        kernel.unshare(kernel.CLONE_NEWNET)
        switch = namespaces.current()
        self._run, self._work, self._logs = run, Path(run_dir) / "work", Path(run_dir) / "logs"
        self._sides = {name: (str(v4), v6) for name, (v4, v6) in ports.items()}
        self._nets = {name: namespaces.make() for name in ports}
        hosts = "127.0.0.1 localhost\n::1 localhost\n"
        hosts += "".join(f"{v4} {name}\n" for name, (v4, _v6) in self._sides.items())
        for name in nodes:
            data = self._work / name / "data"
            data.mkdir(parents=True, exist_ok=True)
            (self._logs / name).mkdir(parents=True, exist_ok=True)
            setup = {"name": name, "data": str(data), "data_dir": data_dir, "mounts": mounts, "hosts": hosts}
            self._houses[name] = self._settle_in(name, partial(self._unshare, self._nets[name], setup))
        no_group = self._group()
        no_limit = {f"{c}-limit": self._group(c) for c in cgroup.CONTROLLERS}
        joined = [network.Port(n, self._nets[n], *sides) for n, sides in self._sides.items()]
        network.build(joined, switch, prefix)
        try:
            self._blocks = Blocks(Nft())
        except OSError as e:
            self._no_block = str(e)
        for house in self._houses.values():
            house.ready()
        inits = {name: [house.pid, self._started(house.pid)] for name, house in self._houses.items()}
        cannot = {
            "block": self._no_block,
            "shape": nfqueue.why_not(),
            "clock": clocks.why_not(),
            "cgroup": no_group,
            "users": userns.lonely(),
            **no_limit,
        }
        result = {"names": list(self._nets), "inits": inits, "cannot": cannot}
        return result, list(self._nets.values())

    def do_launch(self, *, processes: dict[str, list[dict[str, Any]]]) -> Answer:
        """Say what runs where, and start it."""
        for name, specs in processes.items():
            house = self._houses[name]
            house.settle()
            for spec in specs:
                known = house.processes.get(spec["name"])
                if known is not None and not known.ended:
                    raise Refusal("setup", f"{name}: {spec['name']} runs already and cannot be launched anew")
                house.processes[spec["name"]] = Incarnation(spec)
        for name in processes:
            self.do_start(node=name)
        return None, []

    def do_start(self, *, node: str) -> Answer:
        """Start what does not run on the node."""
        house = self._houses[node]
        house.settle()
        for one in list(house.processes.values()):
            if one.ended:
                house.start(one.spec)
        return house.states(), []

    def do_state(self, *, node: str) -> Answer:
        """The node's processes."""
        return self._houses[node].states(), []

    def do_signal(self, *, node: str, number: int, pid: int | None, start: int | None) -> Answer:
        """Signal the node's processes; returns their state before."""
        before = self._houses[node].states()
        self._houses[node].signal(signal.Signals(number), pid, start)
        return before, []

    def do_block(self, *, fault: str, pairs: list[list[Any]], flap_s: float | None = None) -> Answer:
        """Block pairs of [name, port, name, port], on and off with `flap_s`; returns how many pairs are
        in force."""
        if self._blocks is None:
            raise Refusal("capability", f"partitions cannot be made here: {self._no_block}")
        sides = {(self._side(a, p), self._side(b, q)) for a, p, b, q in pairs}
        self._flaps.pop(fault, None)
        count = self._blocks.block(fault, sides)
        if flap_s is not None:
            self._flaps[fault] = Flap(flap_s, sides, time.monotonic() + flap_s)
        return count, []

    def do_unblock(self, *, fault: str) -> Answer:
        """Lift a block; returns how many pairs are still in force."""
        self._flaps.pop(fault, None)
        return self._blocks.unblock(fault) if self._blocks else 0, []

    def do_dropped(self) -> Answer:
        """Packets dropped so far."""
        return self._blocks.dropped() if self._blocks else 0, []

    def do_shape(self, *, fault: str, pairs: list[list[Any]], spec: dict[str, Any]) -> Answer:
        """Shape pairs of [name, port, name, port]; returns how many pairs are shaped."""
        try:
            if self._shaper is None:
                self._shaper = self._make_shaper()
                self._hardware = self._macs()
            sides = [(self._side(a, p), self._side(b, q)) for a, p, b, q in pairs]
            return self._shaper.shape(fault, sides, spec, self._hardware), []
        except Broken as e:
            raise Refusal("lost", str(e)) from None
        except OSError as e:
            raise Refusal("capability", f"packets cannot be shaped here: {e}") from None

    def do_unshape(self, *, fault: str) -> Answer:
        """Take a shape away; returns how many pairs are still shaped."""
        return self._shaper.unshape(fault, self._hardware) if self._shaper else 0, []

    def do_shaped(self) -> Answer:
        """What the packet queue's listener has counted; nothing where none was needed yet."""
        try:
            return self._shaper.facts() if self._shaper else {}, []
        except Broken as e:
            raise Refusal("lost", str(e)) from None

    def do_check(self) -> Answer:
        """Whether what the network stands on is still there."""
        try:
            if self._shaper is not None:
                self._shaper.check()
        except Broken as e:
            raise Refusal("lost", str(e)) from None
        return None, []

    def do_helper(self, *, argv: list[str], name: str) -> Answer:
        """Start a helper with the networks of all nodes in its hands; it has none of the host's."""
        agent = os.getpid()

        def before_exec() -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            kernel.die_with_parent()
            if os.getppid() != agent:
                os._exit(1)

        self._logs.mkdir(parents=True, exist_ok=True)
        with (self._logs / f"{name}.log").open("ab") as log:
            try:
                helper = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    env={
                        **os.environ,
                        "SPLITBRAIN_NETNS": json.dumps(self._nets),
                        "SPLITBRAIN_ENTER": "clusters.means.namespaces:enter_inherited",
                    },
                    pass_fds=list(self._nets.values()),
                    start_new_session=True,
                    preexec_fn=before_exec,  # noqa: PLW1509 - one thread, nothing to deadlock with
                )
            except OSError as e:
                raise Refusal("setup", f"helper {name} cannot be executed: {argv[0]}: {e.strerror}") from None
        self._helpers.append(helper)
        return helper.pid, []

    def do_close(self) -> Answer:
        """End everything; returns sentences about what could not be removed."""
        return self.close(), []

    def tick(self) -> float | None:
        """Do what is due by now; returns in how many seconds there is more, None for never."""
        now = time.monotonic()
        for fault, flap in self._flaps.items():
            if flap.due <= now and self._blocks is not None:
                if flap.on:
                    self._blocks.unblock(fault)
                else:
                    self._blocks.block(fault, flap.sides)
                self._flaps[fault] = flap._replace(on=not flap.on, due=now + flap.every_s)
        return min((max(0.0, flap.due - now) for flap in self._flaps.values()), default=None)

    def reap(self) -> None:
        """Let children go that have ended. A node whose init has died stays in the list: dead."""
        for helper in self._helpers:
            helper.poll()

    def close(self) -> list[str]:
        """End every process, remove control groups and data. Idempotent."""
        if not self.open:
            return []
        self.open = False
        problems = []
        for helper in self._helpers:
            helper.terminate()
        for house in self._houses.values():
            os.kill(house.pid, signal.SIGKILL)  # ours and not waited for: the pid is still its own
        stuck = [house.name for house in self._houses.values() if not _wait(house.pid)]
        problems += [f"processes of node {name} are still there {_end_s:g} s after KILL" for name in stuck]
        for helper in self._helpers:
            try:
                helper.wait(_exit_s)
            except subprocess.TimeoutExpired:
                helper.kill()
                helper.wait(_end_s)
        if self._shaper is not None:
            problems += self._shaper.close()
        for fd in self._nets.values():
            os.close(fd)
        try:
            if self._run:
                cgroup.remove(self._run)
        except OSError as e:
            problems.append(f"a control group of the run could not be removed: {e}")
        if self._run:  # else nothing has been made yet, and there is no such folder
            problems += clear(self._work)
        for problem in problems:
            print(problem, file=sys.stderr, flush=True)
        return problems

    def _make_shaper(self) -> Shaper:
        return Shaper(queue_table_of(self._run), self._logs)

    def _side(self, name: str, port: int | None) -> Side:
        v4, v6 = self._sides[name]
        return Side(v4, v6, port)

    def _macs(self) -> dict[str, str]:
        """The MAC behind each address of nodes and places."""
        home = namespaces.current()
        found: dict[str, str] = {}
        for name, fd in self._nets.items():
            mac = hardware_address(
                "eth0", partial(namespaces.enter, fd), partial(kernel.setns, home, kernel.CLONE_NEWNET)
            )
            found |= {address: mac for address in self._sides[name] if address}
        os.close(home)
        return found

    def _started(self, pid: int) -> int:
        stat = procfs.stat(pid)
        return stat.start if stat else 0

    def _unshare(self, net: int, setup: dict[str, Any], theirs: socket.socket) -> NoReturn:
        """Be a node's init, in namespaces of its own."""
        namespaces.enter(net)
        kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS)
        node.main(theirs, partial(node.furnish, setup))

    def _settle_in(
        self, name: str, become: Callable[[socket.socket], None], pids: int | None = None
    ) -> House:
        """Fork a node's init into the PID namespace behind `pids` (None: a new one); it makes itself
        at home there while we go on."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        sys.stderr.flush()
        if pids is None:
            kernel.unshare(kernel.CLONE_NEWPID)
        else:
            kernel.setns(pids, kernel.CLONE_NEWPID)
        try:
            pid = os.fork()
            if pid == 0:
                try:
                    become(theirs)
                finally:
                    os._exit(1)
        finally:
            kernel.setns(self._pids, kernel.CLONE_NEWPID)
        theirs.close()
        return House(name, pid, ours, self._logs / name)

    def _group(self, controller: str | None = None) -> str | None:
        """Put each node into its control group, of a `controller` or that it belongs to; returns why not."""
        root, reason = cgroup.controlling(controller) if controller else cgroup.hierarchy()
        if root is None:
            return reason
        try:
            for name, house in self._houses.items():
                cgroup.add(cgroup.make(root, self._run, name), house.pid)
        except OSError as e:
            return f"control groups cannot be made below {root}: {e}"
        return None


def _wait(pid: int) -> bool:
    """Reap a child that has been killed; whether it ended in time."""
    deadline = time.monotonic() + _end_s
    while time.monotonic() < deadline:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return True
        except ChildProcessError:
            return True
        time.sleep(0.0005)
    return False
