"""Another clock for one running process: its vDSO's clock functions, replaced in its memory.

A shared kernel has one CLOCK_REALTIME, and static programs cannot be preloaded; but nearly every
program reads its clocks through the vDSO, code that the kernel maps into each process, and those pages
can be written through /proc/PID/mem: the process then has its own copy. Our code (`vdso_x86_64`) goes
into room behind the image that nothing uses; then only the first five bytes of each clock function
change, into a jump. The rest of the old functions stays as it is, so that whoever is inside one, or
comes back to it from a signal's handler, finishes it. Before the jumps are written the process is
stopped, and no thread may stand among those five bytes.

A *process clock* is what comes of it: raw system calls, the kernel's timers, absolute waits and file
times keep true time. Threads share it, forked children copy it, and a program executed anew has none.

Source: vdso(7), proc_pid_mem(5), Documentation/admin-guide/kernel-parameters.txt (proc_mem.force_override).
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import platform
import signal
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from clusters.means import procfs, tracing
from clusters.means import vdso_x86_64 as stub

SECOND: Final = 1_000_000_000
RATE_ONE: Final = 1 << 32  # a rate: seconds gained in a true second
_block: Final = struct.Struct("<qqqQq")
_blocks: Final = 8  # where they begin, after the version
_data: Final = _blocks + 4 * _block.size
_jump: Final = 5  # bytes of a jump to anywhere within 2 GB
_names: Final = {
    "__vdso_clock_gettime": stub.CLOCK_GETTIME,
    "__vdso_gettimeofday": stub.GETTIMEOFDAY,
    "__vdso_time": stub.TIME,
}
_tries: Final = 200
_stop_s: Final = 2.0
_mask: Final = (1 << 64) - 1


class Unfit(OSError):
    """A process, or the whole machine, cannot have another clock; the message is a reason."""


class Block(NamedTuple):
    """How one kind of clock goes: shown = true + offset + rate * (true - t0) + a square wave.

    Times in ns; `rate` in 1/2^32; the wave adds `amount` in every other `half`, and there is none if
    that is 0.
    """

    t0: int = 0
    offset: int = 0
    rate: int = 0
    half: int = 0
    amount: int = 0

    def shown(self, true: int) -> int:
        """What the clock shows at the true time `true`; as `course` in the assembly has it.

        >>> Block(offset=-5).shown(100), Block(t0=90, rate=-RATE_ONE).shown(100)
        (95, 90)
        """
        since = true - self.t0
        wave = self.amount if self.half and (since & _mask) // self.half & 1 else 0
        return true + self.offset + wave + (since * self.rate >> 32)


class Layout(NamedTuple):
    """A vDSO image: where its clock functions begin, and where there is room for ours."""

    entries: dict[str, int]
    room: int


def layout(image: bytes) -> Layout:
    """Read the image's dynamic symbols, and find room behind what it uses.

    Raises: Unfit.
    """
    if image[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<H", image, 18)[0] != 62:
        raise Unfit("its vDSO is not one for x86-64")
    table, sections = struct.unpack_from("<QQ", image, 32)
    size, count, section_size, section_count = struct.unpack_from("<HHHH", image, 54)
    loaded = 0
    tags: dict[int, int] = {}
    for at in range(table, table + size * count, size):
        kind, _flags, offset, address, _physical, length = struct.unpack_from("<IIQQQQ", image, at)
        if kind == 1:  # PT_LOAD; the image is linked to begin at 0
            if address != offset:
                raise Unfit("its vDSO is linked in an unknown way")
            loaded = max(loaded, offset + length)
        elif kind == 2:  # PT_DYNAMIC
            for entry in range(offset, offset + length, 16):
                tag, value = struct.unpack_from("<QQ", image, entry)
                tags.setdefault(tag, value)
    entries = _entries(image, tags)
    for name, at in entries.items():
        others = (b for n, b in entries.items() if n != name)
        if any(at <= other < at + _jump for other in others):
            raise Unfit(f"its vDSO has no {_jump} bytes for a jump at {name}")
    need = stub.VERSION + _data
    for begin in (max(loaded, sections + section_size * section_count), loaded):
        room = begin + 63 & ~63  # the version's line begins a cache line, so that it is read whole
        if room + need <= len(image):
            return Layout(entries, room)
    raise Unfit(f"its vDSO of {len(image)} bytes has no room for {need} more")


def _entries(image: bytes, tags: dict[int, int]) -> dict[str, int]:
    try:
        strings, symbols, hashes = tags[5], tags[6], tags.get(4)
    except KeyError:
        raise Unfit("its vDSO has no symbols") from None
    # the hash table says how many there are; where it is missing, strings follow the symbols
    count = struct.unpack_from("<I", image, hashes + 4)[0] if hashes else (strings - symbols) // 24
    found = {}
    for at in range(symbols, symbols + 24 * count, 24):
        name, info, _other, section, value, size = struct.unpack_from("<IBBHQQ", image, at)
        end = image.index(b"\0", strings + name)
        text = image[strings + name : end].decode()
        if text in _names and info & 15 == 2 and section:
            if size < _jump:
                raise Unfit(f"its vDSO has no {_jump} bytes for a jump at {text}")
            found[text] = value
    missing = _names.keys() - found.keys()
    if missing:
        raise Unfit(f"its vDSO has no {', '.join(sorted(missing))}")
    return found


@functools.cache
def pristine() -> tuple[bytes, Layout]:
    """The vDSO as this kernel gives it to every 64-bit process: the image, and what is where in it.

    Raises: Unfit.
    """
    if platform.machine() != "x86_64":
        raise Unfit(
            f"the clocks of processes can be changed on x86-64 only, this machine is {platform.machine()}"
        )
    base, size = where(os.getpid())
    with Path("/proc/self/mem").open("rb", buffering=0) as memory:
        memory.seek(base)
        image = memory.read(size)
    return image, layout(image)


def where(pid: int) -> tuple[int, int]:
    """Address and size of a process's vDSO.

    Raises: Unfit when it has none, ProcessLookupError when there is no such process.
    """
    try:
        lines = Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, f"process {pid} has ended") from None
    for line in lines:
        if line.endswith("[vdso]"):
            begin, _, end = line.split(" ", 1)[0].partition("-")
            return int(begin, 16), int(end, 16) - int(begin, 16)
    if not lines:  # a zombie
        raise ProcessLookupError(errno.ESRCH, f"process {pid} has ended")
    raise Unfit(f"process {pid} has no vDSO (is vdso=0 among the kernel's parameters?)")


class Vdso:
    """The vDSO of one process, from `with` to its end. `poke`: write through ptrace, as some kernels demand.

    Raises: OSError (Unfit with a reason, ProcessLookupError) from every method.
    """

    def __init__(self, pid: int, *, poke: bool = False) -> None:
        self.pid = pid
        self._image, self._layout = pristine()
        self._poke = poke
        self.base, size = where(pid)
        self._room = self._layout.room
        with _ended(pid):
            self._memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        if size != len(self._image) or self._read(0, 6) != self._image[:6]:
            os.close(self._memory)
            raise Unfit(f"process {pid} has another vDSO than this machine's 64-bit programs")

    def __enter__(self) -> Vdso:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._memory)

    @property
    def gate(self) -> int:
        """Address of a `syscall` and an `int3` after it."""
        return self.base + self._room + stub.GATE

    @property
    def probe(self) -> int:
        """Address of a routine that reads a clock through `function`, between two true readings."""
        return self.base + self._room + stub.PROBE

    @property
    def function(self) -> int:
        """Address of `clock_gettime`, as the process calls it."""
        return self.base + self._layout.entries["__vdso_clock_gettime"]

    @property
    def installed(self) -> bool:
        """Whether our code is in it, wherever the functions lead."""
        return self._read(self._room, stub.VERSION) == stub.CODE[: stub.VERSION]

    @property
    def engaged(self) -> bool:
        """Whether all functions lead to our code, and it is ours.

        Raises: Unfit when only some do.
        """
        now = {name: self._read(at, _jump) for name, at in self._layout.entries.items()}
        if all(now[name] == self._old(name) for name in now):
            return False
        if all(now[name] == self._new(name) for name in now) and self.installed:
            return True
        raise Unfit(f"the vDSO of process {self.pid} was changed by somebody else")

    def install(self) -> None:
        """Put our code where nothing leads to it."""
        if not self.installed:
            if any(self._read(self._room, stub.VERSION + _data)) and self._foreign():
                raise Unfit(f"the vDSO of process {self.pid} was changed by somebody else")
            self._write(self._room, stub.CODE + bytes(_data))

    def blocks(self) -> tuple[Block, Block]:
        """Those in force: of the real clocks, and of the monotonic ones."""
        data = self._read(self._room + stub.VERSION, _data)
        at = _blocks + (data[0] & 1) * 2 * _block.size
        real, mono = (Block(*_block.unpack_from(data, at + i * _block.size)) for i in range(2))
        return real, mono

    def set(self, real: Block, mono: Block) -> None:
        """Have other blocks in force from now on; our code must be there, and may be running."""
        at = self._room + stub.VERSION
        version = self._read(at, 1)[0]
        idle = _blocks + (version + 1 & 1) * 2 * _block.size
        self._write(at + idle, _block.pack(*real) + _block.pack(*mono))
        self._write(at, bytes([version + 1 & 255]))

    def engage(self) -> None:
        """Lead the functions to our code. The process must stand still, see `standing`."""
        for name, at in self._layout.entries.items():
            self._write(at, self._new(name))

    def disengage(self) -> None:
        """Lead them back, the process standing still."""
        for name, at in self._layout.entries.items():
            self._write(at, self._old(name))

    def among(self, address: int) -> bool:
        """Whether a thread at `address` stands among bytes that change, past the first."""
        return any(0 < address - self.base - at < _jump for at in self._layout.entries.values())

    def _old(self, name: str) -> bytes:
        at = self._layout.entries[name]
        return self._image[at : at + _jump]

    def _new(self, name: str) -> bytes:
        at = self._layout.entries[name]
        return b"\xe9" + struct.pack("<i", self._room + _names[name] - (at + _jump))

    def _foreign(self) -> bool:
        here = self._read(self._room, stub.VERSION + _data)
        return here != self._image[self._room : self._room + len(here)]

    def _read(self, at: int, size: int) -> bytes:
        data = os.pread(self._memory, size, self.base + at)
        if len(data) != size:
            raise ProcessLookupError(errno.ESRCH, f"process {self.pid} has ended")
        return data

    def _write(self, at: int, data: bytes) -> None:
        if self._poke:
            tracing.poke(self.pid, self.base + at, data)
            return
        try:
            done = os.pwrite(self._memory, data, self.base + at)
        except OSError as e:
            if e.errno not in (errno.EIO, errno.EFAULT, errno.EACCES, errno.EPERM):
                raise
            self._poke = True  # this kernel lets none but a tracer write where the process may not
            tracing.poke(self.pid, self.base + at, data)
        else:
            if done != len(data):
                raise ProcessLookupError(errno.ESRCH, f"process {self.pid} has ended")


@contextlib.contextmanager
def standing(vdso: Vdso, start: int) -> Iterator[None]:
    """Stop the process, no thread among the bytes that change; one that was stopped before stays so.

    Raises: OSError when it cannot be brought to stand.
    """
    pid = vdso.pid
    stopped_before = procfs.is_stopped(pid, start)
    try:
        for attempt in range(_tries):
            if attempt and not stopped_before:
                procfs.send(pid, start, signal.SIGCONT)
                time.sleep(0.0002)
            if not stopped_before and not procfs.send(pid, start, signal.SIGSTOP):
                raise ProcessLookupError(errno.ESRCH, f"process {pid} has ended")
            _await_stop(pid, start)
            if not any(vdso.among(address) for address in _counters(pid)):
                break
        else:
            raise OSError(f"a thread of process {pid} is in its vDSO whenever one looks")
        yield
    finally:
        if not stopped_before:
            procfs.send(pid, start, signal.SIGCONT)


def _await_stop(pid: int, start: int) -> None:
    deadline = time.monotonic() + _stop_s
    while True:
        states = procfs.thread_states(pid, start)
        if not states:
            raise ProcessLookupError(errno.ESRCH, f"process {pid} has ended")
        if states <= {"T", "t"}:
            return
        if time.monotonic() > deadline:
            raise OSError(f"process {pid} does not stop within {_stop_s:g} s; it may hang in the kernel")
        time.sleep(0.00005)


def _counters(pid: int) -> Iterator[int]:
    """The program counters of all threads, which are stopped."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            words = (thread / "syscall").read_text().split()
            if words[0] == "running":
                raise OSError(f"thread {thread.name} of process {pid} runs though it was stopped")
            yield int(words[-1], 16)


@contextlib.contextmanager
def _ended(pid: int) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(errno.ESRCH, f"process {pid} has ended") from None
