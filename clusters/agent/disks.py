"""Disks that can lose their power: what the agent owns of them, and the requests it answers about them.

A node's data lives on a file system of its own (`clusters.means.loopdisk`), mounted in the node's mount
namespace and nowhere else. It is entered by a child of ours, which may move into a mount namespace since it
has one thread, and never by the node's init. In containers it is the same, from outside.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from clusters.agent.estate import Estate
from clusters.agent.house import Answer, Refusal
from clusters.means import kernel, loopdisk, procfs

_freeze_s: Final = 2.0
_end_s: Final = 3.0


class Disks(Estate):
    """An estate whose nodes may have disks of their own. A request about one names its node."""

    def __init__(self) -> None:
        super().__init__()
        self._disks: dict[str, loopdisk.Disk] = {}
        self._data_dir = ""

    def do_disk_make(self, *, data_dir: str, megabytes: int) -> Answer:
        """Give each node a disk, before anything was launched on it; returns why not, or None."""
        reason = loopdisk.probe()
        if reason is not None:
            return reason, []
        self._data_dir = data_dir
        for name in self._houses:
            image = self._work / name / loopdisk.image_of(self._run)
            image.parent.mkdir(parents=True, exist_ok=True)
            self._disks[name] = loopdisk.Disk(image, megabytes)
            self._mount(name)
        return None, []

    def do_disk_mount(self, *, node: str) -> Answer:
        """Mount the node's disk unless it is; returns whether it was mounted already."""
        there = self._disk(node).mounted()
        if not there:
            self._mount(node)
        return there, []

    def do_disk_spoil(self, *, node: str, error: str) -> Answer:
        """Have writes on the node's disk fail.

        Out of a good disk nothing may be lost that was synced. A sync under way in the moment at which ext4 gives
        its journal up may succeed all the same, while the blocks that it wrote are never entered into their file
        (the kernel says "failed to convert unwritten extents"): so everything stands still then, with all
        written out.
        """
        self._disk(node)
        if error == "ENOSPC":
            self._inside(node, lambda: loopdisk.spoil(error))
            return None, []
        with self._standing_still(node):
            self._inside(node, loopdisk.flush)
            self._inside(node, lambda: loopdisk.spoil(error))
        return None, []

    def do_disk_mend(self, *, node: str) -> Answer:
        """Make writes work again: by making room, and if that does not help by a new mount, for which everything
        on the node is killed. Nothing happens where they work."""
        self._disk(node)
        self._inside(node, loopdisk.make_room)
        if self._inside(node, loopdisk.try_write) is not None:
            _kill(lambda: self._inhabitants([node]))
            self._houses[node].settle()
            self._inside(node, lambda: loopdisk.displace(self._data_dir))
            self._mount(node)
        return None, []

    def do_disk_try(self, *, node: str) -> Answer:
        """What a synced write beside the node's data meets."""
        self._disk(node)
        return self._inside(node, loopdisk.try_write), []

    def do_disk_flush(self, *, nodes: list[str]) -> Answer:
        """Write out all that was written on these nodes."""
        for name in nodes:
            self._disk(name)
            self._inside(name, loopdisk.flush)
        return None, []

    def do_disk_plant(self, *, node: str, name: str) -> Answer:
        """Write a file beside the node's data that is not synced."""
        self._disk(node)
        return self._inside(node, lambda: loopdisk.plant(name)), []

    def do_disk_planted(self, *, node: str, name: str) -> Answer:
        """Whether it, and one that was synced, hold what was written."""
        self._disk(node)
        return self._inside(node, lambda: loopdisk.planted(name)), []

    def do_disk_power_loss(self, *, nodes: list[str]) -> Answer:
        """Everything on `nodes` stands still, then their disks lose what is not on them, then all ends.

        Nothing runs on with a disk that fails: what a process could make of that is another fault. Whatever
        goes wrong, what was stopped is killed.
        """
        for name in nodes:
            self._disk(name)
        began = time.perf_counter_ns()
        frozen = self._inhabitants(nodes)
        try:
            still = freeze(lambda: self._inhabitants(nodes))
            frozen_ns = time.perf_counter_ns()
            for name in nodes:
                self._inside(name, loopdisk.cut_power)
        finally:
            _kill(lambda: self._inhabitants(nodes))
        for name in nodes:
            self._houses[name].settle()
            self._inside(name, lambda: loopdisk.displace(self._data_dir))
            if self._disks[name].mounted():
                raise Refusal(
                    "agent", f"the disk of {name} is still mounted somewhere after its power was cut"
                )
            self._mount(name)
        facts = {
            "processes": len(frozen),
            "still": still,
            "freeze_ms": (frozen_ns - began) / 1e6,
            "took_ms": (time.perf_counter_ns() - began) / 1e6,
        }
        return facts, []

    def close(self) -> list[str]:
        if not self.open:
            return []
        problems = super().close()
        for name, disk in self._disks.items():
            try:
                disk.close()
            except OSError as e:
                problems.append(f"the disk of node {name} could not be removed: {e}")
        return problems

    def _disk(self, name: str) -> loopdisk.Disk:
        if name not in self._disks:
            raise Refusal(
                "capability", f"node {name} has no disk of its own: no fault of this run asked for it"
            )
        return self._disks[name]

    def _mount(self, name: str) -> None:
        mount = self._disks[name].mount()
        try:
            self._inside(name, lambda: loopdisk.place(mount, self._data_dir))
        finally:
            os.close(mount)

    def _inside(self, name: str, work: Callable[[], Any]) -> Any:
        """What `work` returns in the mount namespace of a node; it runs in a child.

        Raises: OSError with what it met.
        """
        door = os.open(f"/proc/{self._houses[name].pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        told, tells = os.pipe2(os.O_CLOEXEC)
        child = os.fork()
        if child == 0:
            answer: dict[str, Any] = {"error": "it ended early"}
            try:
                kernel.setns(door, kernel.CLONE_NEWNS)
                answer = {"result": work()}
            except OSError as e:
                answer = {"error": str(e), "number": e.errno}
            except BaseException as e:  # noqa: BLE001 - a forked child must never return
                answer = {"error": repr(e)}
            finally:
                with contextlib.suppress(BaseException):
                    os.write(tells, json.dumps(answer).encode())
                os._exit(0)
        os.close(tells)
        os.close(door)
        with os.fdopen(told, "rb") as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        answer = json.loads(said) if said else {"error": "its helper ended without a word"}
        if "error" in answer:
            raise OSError(answer.get("number"), f"{name}: {answer['error']}")
        return answer["result"]

    @contextlib.contextmanager
    def _standing_still(self, node: str) -> Iterator[bool]:
        """Everything on a node stands still meanwhile, and goes on afterwards but for what was stopped before.
        Yields whether it came to that in time."""
        resting = {one for one in self._inhabitants([node]) if procfs.is_stopped(*one)}
        try:
            yield freeze(lambda: self._inhabitants([node]))
        finally:
            for pid, start in self._inhabitants([node]) - resting:
                procfs.send(pid, start, signal.SIGCONT)

    def _spared(self, name: str) -> set[int]:
        """Who on a node is no process of the system's."""
        return {self._houses[name].pid}

    def _inhabitants(self, names: Iterable[str]) -> set[tuple[int, int]]:
        """Everything that runs in the mount namespaces of these nodes, by pid and start time, but their inits."""
        spared = {pid for name in names for pid in self._spared(name)}
        there = {_mounts_of(self._houses[name].pid) for name in names}
        found = set()
        for path in Path("/proc").iterdir():
            if not path.name.isdecimal() or int(path.name) in spared:
                continue
            with contextlib.suppress(OSError):  # it has just ended, or is a kernel's thread
                if _mounts_of(int(path.name)) in there:
                    stat = procfs.stat(int(path.name))
                    if stat is not None and stat.state not in "ZX":
                        found.add((int(path.name), stat.start))
        return found


def _mounts_of(pid: int) -> str:
    """The mount namespace of a process: what its link says is enough to compare."""
    return str(Path(f"/proc/{pid}/ns/mnt").readlink())


def freeze(inhabitants: Callable[[], set[tuple[int, int]]]) -> bool:
    """Stop everything until nothing moves any more; whether it came to that in time. What hangs in the kernel
    is left to it: it never gets back to where it could tell anybody."""
    deadline = time.monotonic() + _freeze_s
    stopped: set[tuple[int, int]] = set()
    while True:
        everybody = inhabitants()
        for pid, start in everybody - stopped:
            procfs.send(pid, start, signal.SIGSTOP)
        if everybody <= stopped and _still(everybody):
            return True
        stopped |= everybody
        while not _still(everybody):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.0005)


def _still(some: Iterable[tuple[int, int]]) -> bool:
    return all(procfs.stands_still(pid, start) for pid, start in some)


def _kill(inhabitants: Callable[[], Iterable[tuple[int, int]]]) -> None:
    deadline = time.monotonic() + _end_s
    while some := list(inhabitants()):
        for pid, start in some:
            procfs.send(pid, start, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise Refusal("agent", f"processes {some} do not end after KILL")
        time.sleep(0.0005)
