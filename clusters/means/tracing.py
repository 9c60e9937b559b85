"""Holding one thread of another process for a moment, by ptrace: to have it make a call, or to be there
when it executes a program.

The thread is seized, which sends it no signal, and interrupted, from which system calls restart by
themselves, but for a few (`epoll_wait` is the one that is met), which end as they do after SIGSTOP; a
thread in one of those is left alone where there is another. What it then does for us uses no memory of
the process: system calls need registers only, and a page that is mapped for the call and unmapped after
it serves as its stack (that of a Go program's thread may have no room at all). Signals wait meanwhile.

Only one tracer can hold a process; where there is one already, the kernel says EPERM. Source: ptrace(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

_POKEDATA: Final = 5
_CONT: Final = 7
_GETREGS: Final = 12
_SETREGS: Final = 13
_DETACH: Final = 17
_SEIZE: Final = 0x4206
_INTERRUPT: Final = 0x4207
_GETSIGMASK: Final = 0x420A
_SETSIGMASK: Final = 0x420B
_O_TRACEEXEC: Final = 0x10
_EVENT_EXEC: Final = 4
_EVENT_STOP: Final = 128
_WALL: Final = 0x40000000

_MMAP: Final = 9
_MUNMAP: Final = 11
_page: Final = 4096
_never_restarted: Final = frozenset(  # see signal(7); epoll, semaphores, signals waited for, io_getevents
    {"232", "281", "441", "65", "220", "128", "208", "333"}
)
_looks: Final = 5
_brief_ns: Final = 100_000  # a look that takes longer was disturbed
_released: Final = signal.SIGCONT
_interrupt_s: Final = 1.0
_exec_s: Final = 10.0

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


class _Registers(ctypes.Structure):
    """`user_regs_struct` of x86-64."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx"),
            *("rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base"),
            *("ds", "es", "fs", "gs"),
        )
    ]


def _ptrace(request: int, tid: int, address: int = 0, data: object = 0) -> None:
    if _libc.ptrace(request, tid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace({request:#x}) of {tid}: {os.strerror(number)}")


class Reading(NamedTuple):
    """What a clock showed, and the true times before and after that, all in ns."""

    before: int
    shown: int
    after: int


class Held:
    """A thread that is stopped by us, from `with` to its end. `gate`: address of a `syscall` and an
    `int3` in its memory."""

    def __init__(self, tid: int, gate: int = 0) -> None:
        self.tid = tid
        self._gate = gate
        self._registers = _Registers()
        self._mask = ctypes.c_uint64()

    def __enter__(self) -> Held:
        _ptrace(_SEIZE, self.tid)
        _ptrace(_INTERRUPT, self.tid)
        deadline = time.monotonic() + _interrupt_s
        while True:
            status = self._wait(os.WNOHANG)
            if status is None:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"thread {self.tid} does not stop; it may hang in the kernel")
                time.sleep(0.00005)
            elif status >> 16 == _EVENT_STOP:
                break
            else:  # a signal that was on its way
                _ptrace(_CONT, self.tid, 0, status >> 8 & 0xFF)
        if self._gate:
            _ptrace(_GETREGS, self.tid, 0, ctypes.addressof(self._registers))
            _ptrace(_GETSIGMASK, self.tid, 8, ctypes.addressof(self._mask))
            every = ctypes.c_uint64(~(1 << signal.SIGTRAP - 1) & (1 << 64) - 1)
            _ptrace(_SETSIGMASK, self.tid, 8, ctypes.addressof(every))
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._gate:
                _ptrace(_SETREGS, self.tid, 0, ctypes.addressof(self._registers))
                _ptrace(_SETSIGMASK, self.tid, 8, ctypes.addressof(self._mask))
            _ptrace(_DETACH, self.tid)

    def system_call(self, number: int, *arguments: int) -> int:
        """Have the thread make a system call; its answer, negative for an error."""
        return self._run(self._gate, number, arguments, self._registers.rsp)

    def run(self, routine: int, page: int, *arguments: int) -> int:
        """Have it run a routine that ends with an `int3`, with the end of `page` for its stack; the answer."""
        return self._run(routine, 0, arguments, page + _page)

    def _run(self, address: int, number: int, arguments: tuple[int, ...], stack: int) -> int:
        now = _Registers.from_buffer_copy(self._registers)
        now.orig_rax = (1 << 64) - 1  # no system call is to be restarted on the way out
        now.rip, now.rax, now.rsp = address, number, stack
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), arguments, strict=False):
            setattr(now, name, value & (1 << 64) - 1)
        _ptrace(_SETREGS, self.tid, 0, ctypes.addressof(now))
        while True:
            _ptrace(_CONT, self.tid)
            status = self._wait(0)
            assert status is not None
            if status >> 8 == signal.SIGTRAP:
                break
        _ptrace(_GETREGS, self.tid, 0, ctypes.addressof(now))
        answer: int = ctypes.c_int64(now.rax).value
        return answer

    def _wait(self, flags: int) -> int | None:
        pid, status = os.waitpid(self.tid, _WALL | flags)
        if pid == 0:
            return None
        if not os.WIFSTOPPED(status):
            raise ProcessLookupError(errno.ESRCH, f"thread {self.tid} has ended")
        return status


def willing(pid: int) -> int:
    """A thread of the process that is best asked: one that is in no call which an interruption ends."""
    threads = sorted((int(t.name) for t in Path(f"/proc/{pid}/task").iterdir()), key=lambda t: t != pid)
    for thread in threads:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/task/{thread}/syscall").read_text().split()[0] not in _never_restarted:
                return thread
    return pid


def read_clocks(pid: int, gate: int, probe: int, function: int, clocks: tuple[int, ...]) -> list[Reading]:
    """What the process's own `clock_gettime` at `function` says of each of `clocks`, called by a thread of
    it that asks the kernel just before and after; `gate` and `probe` are in `vdso_x86_64`.

    Raises: OSError; PermissionError when another tracer holds the process.
    """
    found = []
    with Held(willing(pid), gate) as held, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        page = held.system_call(_MMAP, 0, _page, 3, 0x22, -1, 0)
        if page < 0:
            raise OSError(-page, f"process {pid} has no page left: {os.strerror(-page)}")
        try:
            for clock in clocks:
                looks = []
                for _ in range(_looks):
                    answer = held.run(probe, page, clock, page, function)
                    if answer:
                        text = f"process {pid} cannot read clock {clock}: {os.strerror(-answer)}"
                        raise OSError(-answer, text)
                    words = struct.unpack("<6q", os.pread(memory.fileno(), 48, page))
                    before, shown, after = (
                        s * 1_000_000_000 + ns for s, ns in zip(*[iter(words)] * 2, strict=True)
                    )
                    looks.append(Reading(before, shown, after))
                    if after - before < _brief_ns:
                        break
                found.append(min(looks, key=lambda look: look.after - look.before))
        finally:
            held.system_call(_MUNMAP, page, _page)
    return found


def poke(pid: int, address: int, data: bytes) -> None:
    """Write into a process's memory where it may not itself, as a tracer may.

    Raises: OSError; PermissionError when another tracer holds it.
    """
    begin, end = address & ~7, address + len(data) + 7 & ~7
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        old = os.pread(memory.fileno(), end - begin, begin)
    new = old[: address - begin] + data + old[address - begin + len(data) :]
    words = [
        (begin + at, struct.unpack_from("<Q", new, at)[0])
        for at in range(0, len(new), 8)
        if new[at : at + 8] != old[at : at + 8]
    ]
    try:
        _poke(pid, words)
    except ProcessLookupError:  # we do not hold it yet
        with Held(pid):
            _poke(pid, words)


def _poke(pid: int, words: list[tuple[int, int]]) -> None:
    for address, word in words:
        _ptrace(_POKEDATA, pid, address, word)


def at_exec(pid: int, act: Callable[[], None]) -> None:
    """Seize the process, which waits for that (`await_tracer`), and call `act` when it has executed a
    program and not begun it yet. Returns at once when it ends before that.

    Raises: OSError; what `act` raises, and then the process is killed.
    """
    _ptrace(_SEIZE, pid, 0, _O_TRACEEXEC)
    try:
        os.kill(pid, _released)
        if _executed(pid):
            act()
            with contextlib.suppress(ProcessLookupError):
                _ptrace(_DETACH, pid)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, _WALL)  # before that its parent does not hear of its end
        raise


def _executed(pid: int) -> bool:
    """Wait until the process, which is ours to trace, stands at the beginning of a program; False when it ended."""
    deadline = time.monotonic() + _exec_s
    while True:
        found, status = os.waitpid(pid, _WALL | os.WNOHANG)
        if found == 0:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {pid} executes nothing within {_exec_s:g} s")
            time.sleep(0.0001)
        elif not os.WIFSTOPPED(status):
            return False
        elif status >> 16 == _EVENT_EXEC:
            return True
        else:
            _ptrace(_CONT, pid, 0, 0 if status >> 16 else status >> 8 & 0xFF)


def expect_tracer() -> None:
    """Be ready to `await_tracer`; before it is told of the caller."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {_released})


def await_tracer() -> None:
    """Wait until `at_exec` holds the caller. (Who traces may be in a PID namespace out of sight.)

    Raises: TimeoutError.
    """
    came = signal.sigtimedwait({_released}, _exec_s)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {_released})
    if came is None:
        raise TimeoutError(f"nobody came to hold this process within {_exec_s:g} s")


def delicate(pid: int) -> bool:
    """Whether a call on its behalf could end the process: it has a second stack of return addresses, which
    none of ours would be on, or filters its system calls more than we are filtered."""
    theirs, ours = _status(pid), _status(os.getpid())
    stack = "shstk" in theirs.get("x86_Thread_features", "")
    return stack or any(theirs.get(key) != ours.get(key) for key in ("Seccomp", "Seccomp_filters"))


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)
