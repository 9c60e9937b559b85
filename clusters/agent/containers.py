"""Nodes that are containers: what the agent owns of a cluster that the Docker daemon made.

The controller has the daemon make network and containers; from then on everything is as with
namespaces of our own. Each node's init is forked by the agent and moves into the container's
namespaces and control groups, with the container's capabilities: so it needs nothing of the image,
and processes are started, known by pid and signalled without the daemon in between. Places are
namespaces whose interfaces are plugged into the network's bridge; the rules of partitions stand in a
table of the run's own where that bridge is, on the host.

A container lives as long as somebody holds its standard input, and the agent does: should even the
agent be killed, the containers end, and the kernel takes the table and the places down.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import signal
import socket
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

from clusters.agent import clocks, network, node
from clusters.agent.atrest import AtRest
from clusters.agent.house import Answer, Refusal
from clusters.means import cgroup, kernel, namespaces, nfqueue, procfs
from clusters.means.dockerd import Daemon, DaemonError, clear
from clusters.means.nft import Blocks, Nft, table_of

_exit_s: Final = 0.5  # for a container to end, once its processes are gone
_shared: Final = {  # what a node's init moves into; the mounts last, since /proc is read until then
    "net": kernel.CLONE_NEWNET,
    "uts": kernel.CLONE_NEWUTS,
    "ipc": kernel.CLONE_NEWIPC,
    "cgroup": kernel.CLONE_NEWCGROUP,
    "mnt": kernel.CLONE_NEWNS,
}


class Container(NamedTuple):
    """A container's first process, and its standard input, which we hold."""

    name: str
    pid: int
    start: int
    life: int  # a pidfd
    held: socket.socket


class Containers(AtRest):
    """All of it; see `Estate`."""

    def __init__(self) -> None:
        super().__init__()
        self._daemon: Daemon | None = None
        self._containers: dict[str, Container] = {}
        self._plugs: list[str] = []
        self._lost: dict[str, str] = {}  # node -> a sentence about what became of it

    def do(self, request: dict[str, Any]) -> Answer:
        self._look()
        for name in (request.get("node"), *request.get("processes", ())):
            if name in self._lost:
                raise Refusal("lost", self._lost[name])
        return super().do(request)

    def do_prepare(self, *, run: str, run_dir: str, daemon: str) -> Answer:
        """Answer for all that bears the run's label from now on; it is about to be made."""
        self._run, self._work, self._logs = run, Path(run_dir) / "work", Path(run_dir) / "logs"
        self._daemon = Daemon(daemon)
        return None, []

    def do_join(
        self,
        *,
        nodes: dict[str, list[Any]],
        ports: dict[str, list[str | None]],
        bridge: str,
        prefix: int,
    ) -> Answer:
        """Move into the containers, and make the places. `nodes`: name -> [container's name, its id,
        its first process]; `ports` as in `do_create`. Returns the namespaces."""
        assert self._daemon is not None
        self._sides = {name: (str(v4), v6) for name, (v4, v6) in ports.items()}
        pwd.getpwnam("root")  # users are looked up in containers later, with what is loaded here
        os.getgrouplist("root", 0)
        for name, (container, number, pid) in nodes.items():
            life = _open_process(container, number, pid)
            held = self._daemon.hold(number)
            self._containers[name] = Container(container, pid, self._started(pid), life, held)
            self._nets[name] = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            pids = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
            self._houses[name] = self._settle_in(name, partial(_move_in, pid), pids)
            os.close(pids)
        home = namespaces.current()
        self._close_ways_out(home)
        places = {name: namespaces.make() for name in ports if name not in nodes}
        self._nets |= places
        mark = f"{bridge}-"
        self._plugs = [f"{mark}{name}" for name in places]
        joined = [network.Port(name, fd, *self._sides[name]) for name, fd in places.items()]
        network.plug(joined, bridge, home, prefix, mark=mark)
        os.close(home)
        try:
            self._blocks = Blocks(Nft(), table_of(self._run), owned=True)
        except OSError as e:
            self._no_block = str(e)
        for house in self._houses.values():
            house.ready()
        inits = {name: [one.pid, one.start] for name, one in self._containers.items()}
        cannot = {"block": self._no_block, "shape": nfqueue.why_not(), "clock": clocks.why_not()}
        result = {"names": list(self._nets), "inits": inits, "cannot": cannot}
        return result, list(self._nets.values())

    def do_check(self) -> Answer:
        """Whether every node is still there."""
        if self._lost:
            raise Refusal("lost", next(iter(self._lost.values())))
        return super().do_check()

    def reap(self) -> None:
        """Let the inits of lost nodes go: until then the kernel keeps their container from ending."""
        super().reap()
        for name, house in list(self._houses.items()):
            if os.waitpid(house.pid, os.WNOHANG)[0]:
                del self._houses[name]
                self._look(patience_s=_exit_s)
                self._lost.setdefault(name, f"the init of node {name} was killed from outside")

    def close(self) -> list[str]:
        if not self.open:
            return []
        for one in self._containers.values():
            procfs.send(one.pid, one.start, signal.SIGKILL)
        problems = super().close()
        with contextlib.suppress(OSError):  # those whose namespace has gone already have gone with it
            network.batch([f"link del {name}" for name in self._plugs])
        if self._blocks is not None:
            try:
                self._blocks.remove()
            except OSError as e:
                problems.append(f"the rules of run {self._run} could not be removed: {e}")
        for one in self._containers.values():
            one.held.close()
        if self._daemon is not None:
            problems += clear(self._run, self._daemon.path)
        return problems

    def _spared(self, name: str) -> set[int]:
        return {*super()._spared(name), self._containers[name].pid}

    def _close_ways_out(self, home: int) -> None:
        """Take the route to the host away that some versions of Docker give even to an internal network:
        what cannot be reached is refused at once, as in namespaces of our own, and not waited for."""
        try:
            for name in self._containers:
                namespaces.enter(self._nets[name])
                for everything in ("0.0.0.0/0", "::/0"):
                    with contextlib.suppress(OSError):  # there is none
                        network.batch([f"route del {everything}"])
        finally:
            kernel.setns(home, kernel.CLONE_NEWNET)

    def _look(self, patience_s: float = 0.0) -> None:
        """Take note of containers that have ended, and of a daemon that has let go."""
        for name, one in self._containers.items():
            if name in self._lost or not self.open:
                continue
            gone = name not in self._houses  # then its container is about to end, in all likelihood
            ended = bool(select.select([one.life], [], [], patience_s if gone else 0)[0])
            if not ended and not _closed(one.held):
                continue
            self._lost[name] = self._why(name, one.name, ended=ended)

    def _why(self, name: str, container: str, *, ended: bool) -> str:
        assert self._daemon is not None
        try:
            self._daemon.owned(self._run)
        except DaemonError as e:
            return f"{e} any more; it must run for as long as the run does"
        if ended:
            return f"container {container} was ended from outside (docker kill, stop or rm), and node {name} with it"
        return f"the Docker daemon has let go of container {container}; was it restarted?"


def _open_process(container: str, number: str, pid: int) -> int:
    """A pidfd of a container's first process; makes sure that it is just that."""
    try:
        life = os.pidfd_open(pid)
        groups = Path(f"/proc/{pid}/cgroup").read_text()
    except (OSError, ValueError):
        groups = ""
    if number not in groups:
        raise Refusal(
            "capability",
            f"process {pid} here is not that of container {container}: the Docker daemon runs on another machine,"
            " or splitbrain in a container of its own; run both on one host",
        )
    return life


def _move_in(pid: int, theirs: socket.socket) -> NoReturn:
    """Be the init of a node, in the container whose first process is `pid`."""
    node.main(theirs, partial(_settle, pid))


def _settle(pid: int) -> None:
    """Move into the container: its control groups, its namespaces, and for what is executed here
    its capabilities. (Its PID namespace has been chosen before the fork.)"""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            kernel.limit_capabilities(int(line.split()[1], 16))
    for group in cgroup.of(pid):
        cgroup.add(group, 0)
    doors = {kind: os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in _shared}
    for kind, flag in _shared.items():
        kernel.setns(doors[kind], flag)
        os.close(doors[kind])
    kernel.adopt_orphans()
    os.chdir("/")


def _closed(held: socket.socket) -> bool:
    """Whether the other end is gone; what it said is of no interest."""
    try:
        while held.recv(4096, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
