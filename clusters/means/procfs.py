"""Processes as the kernel sees them, from /proc: state, start time, processor time.

A pid alone names nobody, since it is used again; pid and start time together name a process for
ever. See proc_pid_stat(5).
"""

from __future__ import annotations

import os
import platform
import signal
from pathlib import Path
from typing import Final, NamedTuple

# The numbers of clone, vfork and clone3: who waits in one of them waits for its child to execute something.
_making_children: Final = {"x86_64": {"56", "58", "435"}, "aarch64": {"220", "435"}}.get(
    platform.machine(), frozenset[str]()
)


class Stat(NamedTuple):
    """What /proc/PID/stat says. `start` is in clock ticks after boot, `cpu_ticks` user plus system."""

    state: str
    start: int
    cpu_ticks: int


def parse(text: str) -> Stat:
    """The fields of a stat line; the command's name may hold blanks and brackets."""
    fields = text[text.rindex(")") + 2 :].split()
    return Stat(fields[0], int(fields[19]), int(fields[11]) + int(fields[12]))


def stat(pid: int) -> Stat | None:
    """The process `pid` as it is now, or None where there is none."""
    try:
        return parse(Path(f"/proc/{pid}/stat").read_text(errors="replace"))
    except (FileNotFoundError, ProcessLookupError):
        return None


def own_start() -> int:
    """When the calling process started; the same number in every PID namespace."""
    return parse(Path("/proc/self/stat").read_text(errors="replace")).start


class Identity(NamedTuple):
    """A process as every PID namespace can find it: its pid in its own namespace, its start time, and
    that namespace's number."""

    pid: int
    start: int
    namespace: int


def identity(pid: int) -> Identity | None:
    """The identity of the process `pid`, or None where there is none.

    Raises: PermissionError for a process of another user's.
    """
    inner, found = _innermost(pid), stat(pid)
    try:
        namespace = Path(f"/proc/{pid}/ns/pid").stat().st_ino
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if inner is None or found is None else Identity(inner, found.start, namespace)


def find(wanted: Identity) -> int | None:
    """The pid, as the caller has it, of the process with this identity; None if it has ended.

    Raises: PermissionError when it seems to be another user's.
    """
    for pid in (int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal()):
        found = stat(pid)
        if found is None or found.start != wanted.start or found.state in "ZX":
            continue
        if _innermost(pid) == wanted.pid and identity(pid) == wanted:
            return pid
    return None


def _innermost(pid: int) -> int | None:
    """The pid that a process has in its own PID namespace."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return next((int(line.split()[-1]) for line in lines if line.startswith("NSpid:")), None)


def same(pid: int, start: int) -> Stat | None:
    """The process `pid` if it is the one that started at `start`; zombies included."""
    found = stat(pid)
    return found if found is not None and found.start == start else None


def thread_states(pid: int, start: int) -> set[str]:
    """The state letters of all threads of one process; empty when it is gone or a zombie.

    A stop reaches the threads one after the other: a process is stopped when all of them are.
    """
    letters = set()
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            text = (thread / "stat").read_text(errors="replace")
            letters.add(parse(text).state)
    except (FileNotFoundError, ProcessLookupError):
        pass  # a thread, or the whole process, ended meanwhile; what was seen still counts
    return letters - {"Z", "X"} if same(pid, start) else set()


def stands_still(pid: int, start: int) -> bool:
    """Whether no thread of a process runs, nor will before somebody lets it: each is stopped, or waits in the kernel
    for the child that it made by vfork to execute something. Such a one takes no signal; it stops the moment it is
    let go, before it has done anything. A process that is gone stands still, too."""
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            state = parse((thread / "stat").read_text(errors="replace")).state
            if state == "D" and (thread / "syscall").read_text().split()[0] in _making_children:
                continue
            if state not in "TtZX":
                return same(pid, start) is None
    except OSError:
        return same(pid, start) is None  # a thread has ended while one looked: look again
    return True


def is_stopped(pid: int, start: int) -> bool:
    """Whether somebody has stopped a process: all of its threads are stopped, or will be before they do anything.

    That is more than to stand still: who waits for a child made by vfork is stopped only if told to (SIGSTOP is
    pending), and goes on by itself otherwise.
    """
    states = thread_states(pid, start)
    return bool(states) and (states <= {"T", "t"} or (stands_still(pid, start) and _stop_is_pending(pid)))


def _stop_is_pending(pid: int) -> bool:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return False
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(mask >> (signal.SIGSTOP - 1) & 1 for mask in masks)


def send(pid: int, start: int, number: signal.Signals) -> bool:
    """Signal a process if it still is the one that started at `start`; whether it was.

    The pidfd pins whoever has the pid while its start time is compared, so no stranger can be hit.
    """
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        found = same(pid, start)
        if found is None or found.state in "ZX":
            return False
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True
