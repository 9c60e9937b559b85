"""How much a node may use: of processors and memory by its control group, of descriptors by each process.

Only groups that hold the node's processes and nobody else's are touched, and only the soft limit of
descriptors, which can be raised again without any right. Before the first limit the old value is
noted as the kernel words it; the last one to be lifted writes it back. The room that a limit of memory
leaves is kept taken by a process of ours (`clusters.means.hog`): without it nobody would notice.

Version 1 of control groups has quota and period in two files, and a hard limit of memory, at which the
kernel takes back the page cache and, where that is not enough, kills. Version 2 has `memory.high`, at
which it takes back and slows down and never kills, so that is used there.

Sources: Documentation/admin-guide/cgroup-v1/memory.rst, cgroup-v2.rst, scheduler/sched-bwc.rst, prlimit(2).
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from clusters.means import procfs
from harness.core.errors import InfrastructureError, MissingCapability, unknown_name

if TYPE_CHECKING:  # on hosts there is nothing but the standard library
    from harness.core.cluster import ProcessState

KINDS: Final = ("cpu", "memory", "descriptors")
_roots: Final = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
_period_us: Final = 100_000  # the kernel's default
_least_quota_us: Final = 1_000  # what the kernel takes at the least
_end_s: Final = 2.0
_endless: Final = 1 << 62  # version 1 words "no limit" as a number near 2^63

_Saved = dict[Path, str]  # file -> its text


class Nodes(Protocol):
    """What limits are set on: the init of each node, and the processes that it runs."""

    inits: Mapping[str, tuple[int, int]]

    def state(self, node: str) -> tuple[ProcessState, ...]:
        """See `harness.core.cluster.Processes`."""

    def spawn_helper(self, argv: Sequence[str], name: str) -> int:
        """See `harness.core.cluster.Cluster`."""


class Group(NamedTuple):
    """A control group with some controller, and the version of its interface."""

    path: Path
    version: int


class NodeLimits:
    """Implements `harness.core.cluster.Limits` on this machine's nodes."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._lock = threading.Lock()
        self._held: dict[tuple[str, str], dict[str, float]] = {}  # (node, kind) -> fault -> amount
        self._before: dict[tuple[str, str], tuple[_Saved, float]] = {}  # and what that means
        self._hogs: dict[tuple[str, str], tuple[int, int]] = {}  # (fault, node) -> process
        self._soft: dict[tuple[int, int], dict[str, int]] = {}  # process -> fault -> its soft limit
        self._soft_before: dict[tuple[int, int], tuple[int, int]] = {}

    @property
    def faults(self) -> set[str]:
        """Those that limit anything now."""
        held = {fault for faults in self._held.values() for fault in faults}
        return held | {fault for softs in self._soft.values() for fault in softs}

    def refusal(self, node: str, kind: str) -> str | None:
        """Why the node's control group cannot limit `kind`, or None where it can."""
        try:
            group = self._group(node, kind)
        except (OSError, MissingCapability) as e:
            return str(e)
        return (
            None if os.access(_file(group, kind), os.W_OK) else f"{_file(group, kind)} cannot be written to"
        )

    def limit(self, fault: str, node: str, kind: str, amount: float) -> None:
        """See `harness.core.cluster.Limits`.

        Raises: InfrastructureError when the kernel refuses.
        """
        with self._lock, _sentences(f"limit {kind} of {node}"):
            if kind == "descriptors":
                self._limit_descriptors(fault, node, int(amount))
                return
            group = self._group(node, kind)
            now = _measure(group, kind)
            most = now["limit"] if now["limit"] is not None else float("inf")
            _, before = self._before.setdefault((node, kind), (_save(group, kind), most))
            held = self._held.setdefault((node, kind), {})
            if kind == "cpu":
                held[fault] = min(amount, held.get(fault, amount))
            elif fault in held:
                return
            else:
                held[fault] = now["used"] - now["cache"] + amount
            _write(group, kind, min(before, *held.values()))
            if kind == "memory":
                self._hog(fault, node, group, int(amount))

    def unlimit(self, fault: str) -> None:
        """See `harness.core.cluster.Limits`.

        Raises: InfrastructureError when the kernel refuses.
        """
        with self._lock:
            for key in [key for key in self._hogs if key[0] == fault]:
                _end(*self._hogs.pop(key))
            for (node, kind), held in list(self._held.items()):
                if fault not in held:
                    continue
                with _sentences(f"lift the limit of {kind} of {node}"):
                    rest = {name: amount for name, amount in held.items() if name != fault}
                    saved, before = self._before[node, kind]
                    if rest:
                        _write(self._group(node, kind), kind, min(before, *rest.values()))
                        self._held[node, kind] = rest
                    else:
                        for path, text in saved.items():
                            path.write_text(text)
                        del self._before[node, kind], self._held[node, kind]
            for process, softs in list(self._soft.items()):
                if fault in softs:
                    del softs[fault]
                    self._settle_descriptors(process)

    def usage(self, node: str, kind: str) -> Mapping[str, Any]:
        """See `harness.core.cluster.Limits`.

        Raises: InfrastructureError when it cannot be read.
        """
        if kind == "descriptors":
            found = [one for s in self._nodes.state(node) if s.alive and (one := _descriptors(s)) is not None]
            least = min(found, key=lambda one: int(one["room"]), default={"limit": None, "room": None})
            return {"limit": least["limit"], "room": least["room"], "processes": found}
        with _sentences(f"read the use of {kind} of {node}"):
            return _measure(self._group(node, kind), kind)

    def _group(self, node: str, kind: str) -> Group:
        if kind not in KINDS:
            raise unknown_name("kind of limit", kind, KINDS)
        return group_of(self._nodes.inits[node][0], kind)

    def _hog(self, fault: str, node: str, group: Group, room: int) -> None:
        program = Path(__file__).with_name("hog.py")
        argv = [sys.executable, "-I", "-S", str(program), str(group.path), str(room)]
        pid = self._nodes.spawn_helper(argv, f"memory-{node}")
        found = procfs.stat(pid)
        if found is not None:
            self._hogs[fault, node] = pid, found.start

    def _limit_descriptors(self, fault: str, node: str, more: int) -> None:
        for state in self._nodes.state(node):
            if not state.alive:
                continue
            process = state.pid, state.start
            try:
                before, taken = _prlimit(process), _open(state.pid)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has just ended, perhaps by another fault
            self._soft_before.setdefault(process, before)
            self._soft.setdefault(process, {}).setdefault(fault, _lowest_free(taken) + more)
            self._settle_descriptors(process)

    def _settle_descriptors(self, process: tuple[int, int]) -> None:
        """Give a process the tightest of its limits, or what it had; one that has ended has none."""
        softs, (soft, hard) = self._soft[process], self._soft_before[process]
        with contextlib.suppress(ProcessLookupError):
            _prlimit(process, (min([*softs.values(), soft], key=_tightness), hard))
        if not softs:
            del self._soft[process], self._soft_before[process]


def group_of(pid: int, controller: str) -> Group:
    """The control group through which a process is limited.

    Raises: MissingCapability where it has none that is not ours, too; OSError.
    """
    found, ours = _group(pid, controller), _group(os.getpid(), controller)
    if found is None:
        raise MissingCapability(f"no control group here has the controller {controller}")
    if found == ours or found.path in (*_roots, *(root / controller for root in _roots)):
        raise MissingCapability(f"the node has no control group of its own with the controller {controller}")
    return found


def _group(pid: int, controller: str) -> Group | None:
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _number, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return Group(_roots[0] / controller / path.lstrip("/"), 1)
        if not controllers:
            for root in _roots:
                place = root / path.lstrip("/")
                known = place / "cgroup.controllers"
                if known.exists() and controller in known.read_text().split():
                    return Group(place, 2)
    return None


def _file(group: Group, kind: str) -> Path:
    names = {
        ("cpu", 1): "cpu.cfs_quota_us",
        ("cpu", 2): "cpu.max",
        ("memory", 1): "memory.limit_in_bytes",
        ("memory", 2): "memory.high",
    }
    return group.path / names[kind, group.version]


def _save(group: Group, kind: str) -> _Saved:
    """What restores the limit: the files in the order in which to write them."""
    files = [_file(group, kind)]
    if (kind, group.version) == ("cpu", 1):
        files.insert(0, group.path / "cpu.cfs_period_us")
    return {path: path.read_text().strip() for path in files}


def _write(group: Group, kind: str, amount: float) -> None:
    if kind == "memory":
        _file(group, kind).write_text(str(int(amount)))
        return
    quota = max(_least_quota_us, int(amount * _period_us))
    if group.version == 1:
        (group.path / "cpu.cfs_period_us").write_text(str(_period_us))
        _file(group, kind).write_text(str(quota))
    else:
        _file(group, kind).write_text(f"{quota} {_period_us}")


def _measure(group: Group, kind: str) -> dict[str, Any]:
    if kind == "cpu":
        stat = _pairs(group.path / "cpu.stat")
        spent_ms = stat["throttled_time"] / 1e6 if group.version == 1 else stat["throttled_usec"] / 1e3
        facts = {"throttled": stat["nr_throttled"], "throttled_ms": round(spent_ms, 3)}
        return {"limit": _cores(group), **facts}
    stat, text = _pairs(group.path / "memory.stat"), _file(group, kind).read_text().strip()
    limit = None if text == "max" or int(text) >= _endless else int(text)
    cache = stat["inactive_file"] + stat["active_file"]
    if group.version == 1:
        used = int((group.path / "memory.usage_in_bytes").read_text())
        pressed = int((group.path / "memory.failcnt").read_text())
        killed = _pairs(group.path / "memory.oom_control").get("oom_kill", 0)
    else:
        used = int((group.path / "memory.current").read_text())
        events = _pairs(group.path / "memory.events")
        pressed, killed = events["high"] + events["max"], events["oom_kill"]
    return {"limit": limit, "used": used, "cache": cache, "pressed": pressed, "killed": killed}


def _cores(group: Group) -> float | None:
    if group.version == 1:
        quota = _file(group, "cpu").read_text().strip()
        period = (group.path / "cpu.cfs_period_us").read_text().strip()
    else:
        quota, period = _file(group, "cpu").read_text().split()
    return None if quota in ("-1", "max") else int(quota) / int(period)


def _pairs(path: Path) -> dict[str, int]:
    """The numbers of a file of `name value` lines."""
    return {name: int(value) for name, value in (line.split() for line in path.read_text().splitlines())}


def _descriptors(state: ProcessState) -> dict[str, Any] | None:
    """What one process has open and may open, read from /proc; None when it has just ended."""
    try:
        taken = _open(state.pid)
        soft = _soft_limit(Path(f"/proc/{state.pid}/limits").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return None
    if procfs.same(state.pid, state.start) is None:
        return None
    limit = resource.RLIM_INFINITY if soft is None else soft
    room = limit if limit < 0 else limit - sum(1 for fd in taken if fd < limit)
    facts = {"name": state.name, "pid": state.pid, "start": state.start}
    return {**facts, "limit": soft, "open": len(taken), "room": room}


def _soft_limit(text: str) -> int | None:
    """The soft limit of descriptors in the text of /proc/PID/limits; None for no limit.

    >>> _soft_limit("Max open files            1024                 4096                 files")
    1024
    """
    line = next(line for line in text.splitlines() if line.startswith("Max open files"))
    word = line.split()[3]
    return None if word == "unlimited" else int(word)


def _open(pid: int) -> set[int]:
    return {int(one.name) for one in Path(f"/proc/{pid}/fd").iterdir()}


def _tightness(soft: int) -> float:
    return soft if soft >= 0 else float("inf")  # RLIM_INFINITY is below zero


def _lowest_free(taken: set[int]) -> int:
    """The number that the next descriptor gets.

    >>> _lowest_free({0, 1, 2, 4})
    3
    """
    return next(fd for fd in range(len(taken) + 1) if fd not in taken)


def _prlimit(process: tuple[int, int], limits: tuple[int, int] | None = None) -> tuple[int, int]:
    """Get, or set, soft and hard limit of descriptors; the pidfd pins the process meanwhile.

    Raises: ProcessLookupError when it is another process by now.
    """
    pid, start = process
    fd = os.pidfd_open(pid)
    try:
        if procfs.same(pid, start) is None:
            raise ProcessLookupError(f"process {pid} has ended")
        if limits is None:
            return resource.prlimit(pid, resource.RLIMIT_NOFILE)
        return resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    finally:
        os.close(fd)


def _end(pid: int, start: int) -> None:
    """Kill a process of ours, and wait until it holds nothing any more."""
    procfs.send(pid, start, signal.SIGKILL)
    deadline = time.monotonic() + _end_s
    while (found := procfs.same(pid, start)) is not None and found.state not in "ZX":
        if time.monotonic() > deadline:
            raise InfrastructureError(f"process {pid}, which kept memory of a node taken, does not end")
        time.sleep(0.001)


@contextlib.contextmanager
def _sentences(what: str) -> Iterator[None]:
    """Say what could not be done."""
    try:
        yield
    except OSError as e:
        where = f" ({e.filename})" if e.filename else ""
        raise InfrastructureError(f"cannot {what}: {e.strerror or e}{where}") from e
