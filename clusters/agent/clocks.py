"""The agent's part in clocks: which course each node's clocks are on, and that every process keeps to it.

A course is set in all processes of the node that run, and in those to come: while a node is on one, a
process that is started there is held when it has executed its program, before its first instruction, and
changed then; only such nodes pay for that. What moves by itself (drift, strobe, freeze) is computed by the
changed processes at each reading, so nothing here has to keep up with it.

Clocks are read by the process itself, through its own function. That takes ptrace for a fraction of a
millisecond, in a child of ours, so that a thread which cannot be held costs a child and not the agent.
Where another tracer holds the process, or it is paused, its memory is evaluated instead, and the reading says so.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NoReturn

from clusters.agent.house import Answer, House, Refusal
from clusters.means import kernel, procfs, tracing, vdso
from clusters.means.tracing import Reading
from clusters.means.vdso import RATE_ONE, Block, Unfit, Vdso, standing

_read_s: Final = 3.0
_clocks: Final = (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC)

Course = tuple[Block, Block]
_true: Final = (Block(), Block())


def course_of(wire: dict[str, Any]) -> Course:
    """The blocks of a course that begins now. `wire`: see `harness.core.cluster.Course`."""
    real, mono = (
        Block(
            t0=time.clock_gettime_ns(clock),
            offset=wire["offset_ns"],
            rate=round((wire["rate"] - 1) * RATE_ONE),
            half=wire["half_ns"],
            amount=wire["swing_ns"],
        )
        for clock in _clocks
    )
    return real, mono if wire["monotonic"] else Block()


class Clocks:
    """What `Estate` has of clocks: the requests `shift`, `unshift` and `clocks`."""

    _houses: dict[str, House]

    def __init__(self) -> None:
        self._courses: dict[str, dict[str, Course]] = {}  # node -> fault -> course; the last is in force

    def do_shift(self, *, node: str, fault: str, course: dict[str, Any]) -> Answer:
        """Put a node's processes on a course; returns what was done to each."""
        courses = self._courses.setdefault(node, {})
        courses.pop(fault, None)
        courses[fault] = course_of(course)
        return self._follow(node), []

    def do_unshift(self, *, node: str, fault: str) -> Answer:
        """Take them off it again, to the one before, or to true time and their own functions."""
        courses = self._courses.get(node, {})
        if courses.pop(fault, None) is None:
            return [], []
        return self._follow(node), []

    def do_clocks(self, *, node: str) -> Answer:
        """What the clocks of the node's processes show, against the true ones."""
        house = self._houses[node]
        house.settle()
        return [one for name, pid, start in _members(house) for one in reading(name, pid, start)], []

    def _follow(self, node: str) -> list[dict[str, Any]]:
        """Have every process of the node go as the node does now."""
        house, courses = self._houses[node], self._courses.get(node, {})
        course = list(courses.values())[-1] if courses else None
        house.at_exec = partial(_begin, course) if course is not None else None
        house.settle()
        done = []
        for name, pid, start in _members(house):
            began = time.perf_counter_ns()
            try:
                fresh = apply(course, pid, start)
            except ProcessLookupError:
                continue
            except Unfit as e:
                raise Refusal("capability", f"{node}: the clock of {name}: {e}") from None
            except OSError as e:
                raise Refusal("setup", f"{node}: the clock of {name} cannot be changed: {e}") from None
            took_ms = (time.perf_counter_ns() - began) / 1e6
            done.append({"name": name, "pid": pid, "start": start, "fresh": fresh, "took_ms": took_ms})
        return done


def apply(course: Course | None, pid: int, start: int) -> bool:
    """Put one process on a course, or back to its own functions; whether its code had to be changed.

    Raises: OSError; ProcessLookupError when it has ended.
    """
    with Vdso(pid) as one:
        if course is None and not one.installed:
            return False
        one.install()
        one.set(*(course or _true))  # at once, for whoever is in our code; then the code, which takes a stop
        fresh = one.engaged is (course is None)
        if fresh:
            with standing(one, start):
                if course is None:
                    one.disengage()
                else:
                    one.engage()
        return fresh


def _begin(course: Course, pid: int) -> None:
    """Hold a process that is about to execute a program, and put it on its course then."""

    def act() -> None:
        with Vdso(pid) as one:
            one.install()
            one.set(*course)
            one.engage()

    tracing.at_exec(pid, act)


def reading(name: str, pid: int, start: int) -> list[dict[str, Any]]:
    """One process's clocks; none when it has ended.

    Raises: OSError when they can be read in neither way.
    """
    how, found = "memory", None
    try:
        with Vdso(pid) as one:
            one.install()  # its gate is what the call returns to; nothing else leads there
            shifted = one.engaged
            threads = procfs.thread_states(pid, start)
            if threads and "T" not in threads and "t" not in threads and not tracing.delicate(pid):
                found = _aside(partial(tracing.read_clocks, pid, one.gate, one.probe, one.function, _clocks))
            if found is not None:
                how = "call"
            else:
                blocks = one.blocks() if shifted else _true
                found = [_evaluated(c, b) for c, b in zip(_clocks, blocks, strict=True)]
    except (ProcessLookupError, FileNotFoundError):
        return []
    (before, shown, after), (mono_before, mono_shown, mono_after) = found
    return [
        {
            "name": name,
            "pid": pid,
            "start": start,
            "offset_ns": shown - (before + after) // 2,
            "true_ns": (before + after) // 2,
            "monotonic_ns": mono_shown - (mono_before + mono_after) // 2,
            "true_monotonic_ns": (mono_before + mono_after) // 2,
            "doubt_ns": max(after - before, mono_after - mono_before) // 2,
            "shifted": shifted,
            "how": how,
        }
    ]


def _evaluated(clock: int, block: Block) -> Reading:
    now = time.clock_gettime_ns(clock)
    return Reading(now, block.shown(now), now)


def _members(house: House) -> list[tuple[str, int, int]]:
    """(name, pid, start time) of the node's processes and of those that they made: each was started in a
    session of its own."""
    sessions = {one.pid: name for name, one in house.processes.items() if one.stat() is not None}
    found = []
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdecimal()) if sessions else ():  # noqa: PTH208 - twice as quick
        try:
            name = sessions.get(os.getsid(pid))
        except OSError:
            continue
        if name is not None and (stat := procfs.stat(pid)) is not None and stat.state not in "ZX":
            found.append((name, pid, stat.start))
    return sorted(found, key=lambda one: (one[1] not in sessions, one[1]))


def _aside(read: Callable[[], list[Reading]]) -> list[Reading] | None:
    """What `read` returns in a child; None when it fails there for another reason than the process's end."""
    told, tells = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _answer(read, tells)
    os.close(tells)
    with os.fdopen(told, "rb", buffering=0) as pipe:
        if not select.select([pipe], [], [], _read_s)[0]:
            # it holds a thread and is in the middle of something: killed, it would leave it there
            raise OSError("a process does not go on while its clock is read")
        answer = json.loads(pipe.read(65536) or b'{"failed": 0}')
    os.waitpid(child, 0)
    if "gone" in answer:
        raise ProcessLookupError
    return [Reading(*one) for one in answer["read"]] if "read" in answer else None


def _answer(read: Callable[[], list[Reading]], tells: int) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        try:
            answer: dict[str, Any] = {"read": read()}
        except (ProcessLookupError, FileNotFoundError):
            answer = {"gone": True}
        except OSError as e:
            answer = {"failed": e.errno}
        os.write(tells, json.dumps(answer).encode())
    finally:
        os._exit(0)


def why_not() -> str | None:
    """Why clocks cannot be changed here, or None: a child of ours is given another, and read."""
    try:
        vdso.pristine()
    except OSError as e:
        return f"{e}; `pause` is the nearest fault that can be had"
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            signal.set_wakeup_fd(-1)
            kernel.die_with_parent()  # who asks may be killed in the middle of it
            while os.getppid() == parent:
                signal.pause()
        finally:
            os._exit(1)
    try:
        stat = procfs.stat(child)
        start = stat.start if stat else 0
        ahead = course_of({"offset_ns": 10**12, "rate": 1.0, "half_ns": 0, "swing_ns": 0, "monotonic": False})
        apply(ahead, child, start)
        (one,) = reading("probe", child, start)
    except (OSError, ValueError) as e:
        return (
            f"this kernel does not let a process's vDSO be changed ({e}); boot with proc_mem.force_override=always,"
            " or use `pause`, the nearest fault that can be had"
        )
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if abs(one["offset_ns"] - 10**12) > 5_000_000:
        return "a process whose vDSO was changed reads the true time here all the same; use `pause`"
    return None
