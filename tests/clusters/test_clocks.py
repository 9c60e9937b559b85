"""Clocks of processes of our own: the replaced functions, the moment of replacing, reading through them."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import platform
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.agent import clocks
from clusters.means import procfs, tracing, vdso
from clusters.means import vdso_x86_64 as stub
from clusters.means.vdso import RATE_ONE, SECOND, Block, Unfit, Vdso, standing

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="clocks are changed on x86-64 only")

HOUR = 3600 * SECOND
CLOSE = 5_000_000
# Says, for each line that it is sent, what all the ways to ask for the time say.
TELLER = """
import ctypes, json, os, sys, threading, time
libc = ctypes.CDLL(None)
tv = (ctypes.c_long * 2)()
for _ in range(int(sys.argv[1])):
    threading.Thread(target=lambda: [time.time() for _ in iter(int, 1)], daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    libc.gettimeofday(ctypes.byref(tv), None)
    raw = (ctypes.c_long * 2)()
    libc.syscall(228, 0, ctypes.byref(raw))
    print(json.dumps({
        "clock_gettime": time.time_ns(),
        "gettimeofday": tv[0] * 10**9 + tv[1] * 1000,
        "time": libc.time(None),
        "monotonic": time.monotonic_ns(),
        "coarse": time.clock_gettime_ns(5),
        "cpu": time.process_time_ns(),
        "raw": raw[0] * 10**9 + raw[1],
    }), flush=True)
"""


class Teller:
    """A process that tells the time when asked."""

    def __init__(self, threads: int = 0) -> None:
        argv = [sys.executable, "-c", TELLER, str(threads)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"
        self.pid = self.process.pid
        self.start = procfs.stat(self.pid).start  # type: ignore[union-attr]

    def ask(self) -> dict[str, int]:
        """What it says, each less the true time."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        real, mono = time.time_ns(), time.monotonic_ns()
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        said: dict[str, int] = json.loads(self.process.stdout.readline())
        real, mono = (real + time.time_ns()) // 2, (mono + time.monotonic_ns()) // 2
        found = {k: v - real for k, v in said.items() if k not in ("monotonic", "time", "cpu")}
        return {
            **found,
            "monotonic": said["monotonic"] - mono,
            "time": said["time"] - real // SECOND,
            "cpu": said["cpu"],
        }

    def go(self, **how: Any) -> None:
        """Put it on a course."""
        wire = {"offset_ns": 0, "rate": 1.0, "half_ns": 0, "swing_ns": 0, "monotonic": False, **how}
        clocks.apply(clocks.course_of(wire), self.pid, self.start)

    def read(self) -> dict[str, Any]:
        (one,) = clocks.reading("teller", self.pid, self.start)
        return one


@contextmanager
def telling(threads: int = 0) -> Iterator[Teller]:
    one = Teller(threads)
    try:
        yield one
    finally:
        one.process.kill()
        one.process.communicate()


@pytest.fixture
def teller() -> Iterator[Teller]:
    with telling() as one:
        yield one


def test_every_way_to_ask_for_the_time_is_shifted_and_a_raw_call_is_not(teller: Teller) -> None:
    before = teller.ask()
    teller.go(offset_ns=HOUR)
    during = teller.ask()
    clocks.apply(None, teller.pid, teller.start)
    after = teller.ask()
    room = 50_000_000  # the other process answers when it is scheduled
    for name in ("clock_gettime", "gettimeofday", "coarse"):
        assert abs(before[name]) < room
        assert abs(during[name] - HOUR) < room
        assert abs(after[name]) < room
    assert abs(during["time"] - 3600) <= 1
    assert abs(after["time"]) <= 1
    for name in ("raw", "monotonic"):
        assert abs(during[name]) < room
    assert during["cpu"] < 60 * SECOND, "time on the processor is no clock of the day"


def test_the_monotonic_clock_goes_along_when_asked_for(teller: Teller) -> None:
    teller.go(offset_ns=-SECOND * 30, monotonic=True)
    assert abs(teller.ask()["monotonic"] + 30 * SECOND) < 50_000_000
    assert abs(teller.read()["monotonic_ns"] + 30 * SECOND) < CLOSE


@pytest.mark.parametrize("offset", [1, -1, HOUR, -2 * HOUR, 86400 * 365 * SECOND, -7_300_000])
def test_what_is_read_is_what_was_set(teller: Teller, offset: int) -> None:
    first = teller.read()
    teller.go(offset_ns=offset)
    now = teller.read()
    assert (first["how"], now["how"]) == ("call", "call")
    assert (first["shifted"], now["shifted"]) == (False, True)
    assert now["doubt_ns"] < CLOSE
    assert abs(now["offset_ns"] - first["offset_ns"] - offset) < CLOSE
    assert abs(now["monotonic_ns"] - first["monotonic_ns"]) < CLOSE


def test_a_clock_that_stands_drifts_and_strobes(teller: Teller) -> None:
    teller.go(rate=0.0)
    one, two = teller.read(), teller.read()
    shown = [r["offset_ns"] + r["true_ns"] for r in (one, two)]
    assert abs(shown[1] - shown[0]) < CLOSE
    teller.go(rate=3.0)
    one = teller.read()
    time.sleep(0.05)
    two = teller.read()
    passed = two["true_ns"] - one["true_ns"]
    assert abs(two["offset_ns"] - one["offset_ns"] - 2 * passed) < CLOSE
    teller.go(half_ns=10_000_000, swing_ns=60 * SECOND)
    seen = {round(teller.read()["offset_ns"] / SECOND) for _ in range(40) if not time.sleep(0.002)}
    assert seen == {0, 60}


def test_busy_threads_survive_being_changed_again_and_again() -> None:
    with telling(threads=4) as teller:
        for i in range(30):
            teller.go(offset_ns=HOUR + i)
            clocks.apply(None, teller.pid, teller.start)
        teller.go(offset_ns=HOUR)
        assert abs(teller.read()["offset_ns"] - HOUR) < CLOSE
        assert teller.process.poll() is None
        assert abs(teller.ask()["clock_gettime"] - HOUR) < SECOND


def test_a_change_back_leaves_the_functions_as_the_kernel_made_them(teller: Teller) -> None:
    base, size = vdso.where(teller.pid)
    image, layout = vdso.pristine()
    teller.go(offset_ns=HOUR)
    clocks.apply(None, teller.pid, teller.start)
    clocks.apply(None, teller.pid, teller.start)
    with Path(f"/proc/{teller.pid}/mem").open("rb", buffering=0) as memory:
        now = os.pread(memory.fileno(), size, base)
    assert now[: layout.room] == image[: layout.room]


def test_a_forked_child_goes_on_as_its_parent() -> None:
    code = "import os, sys, time; sys.stdin.readline(); os.fork(); print(time.time_ns()); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-uc", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        time.sleep(0.1)
        with Vdso(process.pid) as one:
            one.install()
            one.set(Block(offset=HOUR), Block())
            with standing(one, procfs.stat(process.pid).start):  # type: ignore[union-attr]
                one.engage()
        process.stdin.write("\n")
        process.stdin.flush()
        both = [int(process.stdout.readline()) - time.time_ns() for _ in range(2)]
        process.kill()
    assert all(abs(b - HOUR) < SECOND for b in both)


# Each call must come back as if nobody had looked: a poll that times out returns 0 and not EINTR.
WAITER = """
import ctypes, time
libc = ctypes.CDLL(None, use_errno=True)
print("ready", flush=True)
began = time.monotonic()
found = [libc.poll(None, 0, 150), libc.usleep(150000)]
spec = (ctypes.c_long * 2)(0, 150000000)
libc.nanosleep.restype = ctypes.c_int
found.append(libc.nanosleep(spec, None))
print(*found, time.monotonic() - began)
"""


def test_a_process_that_is_read_while_it_waits_notices_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITER], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        start = procfs.stat(process.pid).start  # type: ignore[union-attr]
        looks = 0
        while process.poll() is None and (found := clocks.reading("w", process.pid, start)):
            looks += found[0]["how"] == "call"
            time.sleep(0.01)
        *answers, took_s = process.stdout.read().split()
    assert looks > 0
    assert answers == ["0", "0", "0"]
    assert 0.4 < float(took_s) < 2


# A thread that waits for events is told of an interruption, whoever interrupts; another one is asked.
EVENTS = """
import ctypes, threading, time
libc = ctypes.CDLL(None, use_errno=True)
threading.Thread(target=time.sleep, args=(10,), daemon=True).start()
print("ready", flush=True)
print(libc.epoll_wait(libc.epoll_create1(0), (ctypes.c_long * 2)(), 1, 300))
"""


def test_a_thread_that_must_not_be_interrupted_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", EVENTS], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        start = procfs.stat(process.pid).start  # type: ignore[union-attr]
        time.sleep(0.1)
        assert clocks.reading("e", process.pid, start)[0]["how"] == "call"
        assert process.stdout.read() == "0\n"


def test_a_paused_process_stays_so_and_is_worked_out(teller: Teller) -> None:
    os.kill(teller.pid, signal.SIGSTOP)
    while procfs.thread_states(teller.pid, teller.start) != {"T"}:
        time.sleep(0.001)
    teller.go(offset_ns=HOUR)
    one = teller.read()
    assert (one["how"], one["shifted"]) == ("memory", True)
    assert abs(one["offset_ns"] - HOUR) < CLOSE
    assert procfs.thread_states(teller.pid, teller.start) == {"T"}
    os.kill(teller.pid, signal.SIGCONT)
    assert teller.read()["how"] == "call"


HOLDER = "import sys; from clusters.means import tracing as t; t._ptrace(t._SEIZE, int(sys.argv[1])); print(); input()"
FILTER = """
import ctypes, time
class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
code = (ctypes.c_uint64 * 1)(0x7FFF000000000006)  # allow everything
prctl = ctypes.CDLL(None).prctl
assert prctl(38, 1, 0, 0, 0) == 0
assert prctl(22, 2, ctypes.byref(Filter(1, ctypes.addressof(code))), 0, 0) == 0
print(flush=True)
time.sleep(100)
"""


def test_what_is_traced_by_another_is_worked_out(teller: Teller) -> None:
    argv = [sys.executable, "-uc", HOLDER, str(teller.pid)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        teller.go(offset_ns=HOUR)
        one = teller.read()
        holder.communicate(b"\n")
    assert (one["how"], one["shifted"]) == ("memory", True)
    assert abs(one["offset_ns"] - HOUR) < CLOSE
    assert teller.read()["how"] == "call"


def test_a_process_that_filters_its_calls_is_asked_for_none() -> None:
    with subprocess.Popen([sys.executable, "-c", FILTER], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (one,) = clocks.reading("f", process.pid, procfs.stat(process.pid).start)  # type: ignore[union-attr]
        process.kill()
    assert one["how"] == "memory"


def test_a_process_that_is_gone_has_no_clock(teller: Teller) -> None:
    teller.process.kill()
    teller.process.wait()
    assert clocks.reading("teller", teller.pid, teller.start) == []
    with pytest.raises(ProcessLookupError):
        teller.go(offset_ns=1)


def test_a_tracer_may_write_where_the_kernel_lets_nobody_else(teller: Teller) -> None:
    with Vdso(teller.pid, poke=True) as one:
        one.install()
        one.set(Block(offset=-HOUR), Block())
        with standing(one, teller.start):
            one.engage()
    assert abs(teller.read()["offset_ns"] + HOUR) < CLOSE


def test_a_program_is_changed_before_it_begins() -> None:
    code = "import time; print(time.time_ns())"
    told, tells = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(tells, 1)
            tracing.expect_tracer()
            os.write(tells, b"\n")
            tracing.await_tracer()
            os.execv(sys.executable, [sys.executable, "-c", code])
        finally:
            os._exit(1)
    os.close(tells)
    assert os.read(told, 1) == b"\n"
    wire = {"offset_ns": HOUR, "rate": 1.0, "half_ns": 0, "swing_ns": 0, "monotonic": False}
    clocks._begin(clocks.course_of(wire), child)
    with os.fdopen(told) as pipe:
        said = int(pipe.read())
    os.waitpid(child, 0)
    assert abs(said - time.time_ns() - HOUR) < 5 * SECOND


def test_this_machine_says_that_it_can() -> None:
    assert clocks.why_not() is None


def test_another_machine_says_why_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    vdso.pristine.cache_clear()
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    try:
        reason = clocks.why_not()
    finally:
        vdso.pristine.cache_clear()
    assert reason is not None
    assert "x86-64 only, this machine is aarch64" in reason
    assert "`pause` is the nearest fault" in reason


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda image: b"\x7fELF\x01" + image[5:], "is not one for x86-64"),
        (lambda image: image[: struct.unpack_from("<Q", image, 64 + 32)[0] + 300], "no room for"),
        (lambda image: image.replace(b"__vdso_time\0", b"__vdso_tame\0"), "has no __vdso_time"),
    ],
)
def test_a_vdso_that_does_not_fit_is_refused(spoil: Any, says: str) -> None:
    with pytest.raises(Unfit, match=says):
        vdso.layout(spoil(vdso.pristine()[0]))


class Native:
    """The assembled functions in our own memory, called as C would."""

    def __init__(self) -> None:
        self.map = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self.map[: len(stub.CODE)] = stub.CODE
        base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        kind = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_void_p)
        self.clock_gettime = kind(base + stub.CLOCK_GETTIME)
        self.gettimeofday = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)(
            base + stub.GETTIMEOFDAY
        )
        self.time = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p)(base + stub.TIME)

    def put(self, version: int, *blocks: Block) -> None:
        self.map[stub.VERSION] = version
        at = stub.VERSION + 8 + (version & 1) * 80
        for block in blocks:
            self.map[at : at + 40] = vdso._block.pack(*block)
            at += 40


native = Native()
amounts = st.integers(-(10**17), 10**17)
blocks = st.builds(
    Block,
    t0=st.integers(0, 10**18),
    offset=amounts,
    rate=st.integers(-2 * RATE_ONE, 2 * RATE_ONE),
    half=st.just(0) | st.integers(10**12, 10**15),
    amount=amounts,
)


@settings(deadline=None, max_examples=200)
@given(blocks, blocks, st.integers(0, 255))
def test_the_functions_compute_what_the_block_says(real: Block, mono: Block, version: int) -> None:
    native.put(version, real, mono)
    native.put(version + 1 & 255, Block(offset=1), Block(offset=1))
    native.map[stub.VERSION] = version
    spec, tv, tloc = (ctypes.c_int64 * 2)(), (ctypes.c_int64 * 2)(), ctypes.c_int64()
    for clock, block in ((0, real), (5, real), (1, mono), (6, mono), (7, Block()), (2, Block())):
        before = time.clock_gettime_ns(clock)
        assert native.clock_gettime(clock, ctypes.addressof(spec)) == 0
        after = time.clock_gettime_ns(clock)
        assert 0 <= spec[1] < SECOND
        low, high = sorted((block.shown(before), block.shown(after)))
        shown = spec[0] * SECOND + spec[1]
        wave = block.amount if block.half and block.half < after - before else 0
        assert low - abs(wave) <= shown <= high + abs(wave)
    before = time.time_ns()
    assert native.gettimeofday(ctypes.addressof(tv), None) == 0
    seconds = native.time(ctypes.addressof(tloc))
    after = time.time_ns()
    low, high = sorted((real.shown(before - 10_000_000), real.shown(after)))
    assert 0 <= tv[1] < 1_000_000
    assert low // 1000 - 1 <= tv[0] * 1_000_000 + tv[1] <= high // 1000 + 1
    assert low // SECOND <= seconds <= high // SECOND
    assert tloc.value == seconds


def test_what_is_no_clock_is_refused_as_the_kernel_does() -> None:
    native.put(0, Block(offset=HOUR), Block())
    spec = (ctypes.c_int64 * 2)()
    assert native.clock_gettime(99, ctypes.addressof(spec)) == -22
    assert native.gettimeofday(None, None) == 0
    assert native.time(None) > 0


def test_the_bytes_are_the_source(tmp_path: Path) -> None:
    if shutil.which("as") is None or shutil.which("objcopy") is None:
        pytest.skip("the tools that assemble are not there")
    source = "\n".join(line.split("#")[0] for line in stub.SOURCE.splitlines())
    (tmp_path / "stub.s").write_text(source)
    subprocess.run(["as", "stub.s", "-o", "stub.o"], cwd=tmp_path, check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", "stub.o", "stub"], cwd=tmp_path, check=True)
    assert (tmp_path / "stub").read_bytes() == stub.CODE
