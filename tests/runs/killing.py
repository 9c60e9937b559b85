"""Killing one process of a run with SIGKILL, at a moment drawn from a seed, and looking for what stays."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from clusters.means import procfs
from clusters.means.leftovers import leftovers
from clusters.means.nft import find_program
from tests.runs.commands import start_altered

VICTIMS = ("controller", "agent", "launcher", "init")
MOMENTS = {  # name -> (file, the text in it that begins the moment, its length in seconds)
    "setup": ("journal.jsonl", '"phase":"setup"', 0.3),
    "start": ("journal.jsonl", '"phase":"start"', 0.8),
    "load": ("journal.jsonl", '"phase":"load"', 1.0),
    "between plan and apply": ("faults.jsonl", '"event":"plan"', 0.3),
    "fault in force": ("faults.jsonl", '"event":"applied"', 1.0),
    "healing": ("journal.jsonl", '"phase":"heal"', 0.4),
    "checking": ("journal.jsonl", '{"end":', 0.5),
}
# Moments that would be over too soon otherwise.
STRETCHED = """
import time
from harness.core.ledger import Ledger
from harness.journal import Journal
def stretch(owner, name, seconds, when):
    real = getattr(owner, name)
    def slow(self, *args, **more):
        real(self, *args, **more)
        if when(args):
            time.sleep(seconds)
    setattr(owner, name, slow)
stretch(Ledger, "plan", 0.3, lambda args: True)
stretch(Journal, "phase", 0.3, lambda args: args[0] == "heal")
from splitbrain import runner
judge = runner.judge
def judge_slowly(*args, **more):
    time.sleep(0.25)
    results = judge(*args, **more)
    time.sleep(0.25)
    return results
runner.judge = judge_slowly
"""


class Case(NamedTuple):
    """Who is killed, when, and whether the command that started the run is killed along with it."""

    moment: str
    victim: str
    with_command: bool
    fault: str
    delay_s: float
    seed: int


def case(n: int) -> Case:
    """The n-th case: every pair of moment and victim occurs in 28 in a row, the rest is drawn."""
    rng = random.Random(f"killed {n}")
    moment = list(MOMENTS)[n % 7]
    return Case(
        moment=moment,
        victim=VICTIMS[(n % 7 + n // 7) % 4],
        with_command=rng.random() < 0.5,
        fault=rng.choice(("partition", "kill", "pause")),
        delay_s=rng.uniform(0, MOMENTS[moment][2]),
        seed=rng.randrange(1000),
    )


class Killed(NamedTuple):
    """What there was just before the kill: processes by (pid, start), and namespaces of their own."""

    run_dir: Path
    processes: set[tuple[int, int]]
    namespaces: set[str]
    ticks: int  # when, in the unit of a process's start
    strangers: set[tuple[int, int]]  # who was in none of the namespaces then


def kill_one(folder: Path, what: Case, *given: str) -> Killed:
    """Start a run with the arguments `given`, kill it as `what` says, and wait until its command has ended."""
    arguments = ("--faults", what.fault, "--time", "4s", "--seed", what.seed, *given)
    process = start_altered(STRETCHED, folder, *arguments)
    try:
        name, text, _ = MOMENTS[what.moment]
        run_dir = _await_text(process, folder, name, text)
        time.sleep(what.delay_s)
        victim = _find(process.pid, what.victim)
        below = set(_below(process.pid))
        starts = {(pid, found.start) for pid in below if (found := procfs.stat(pid)) is not None}
        own = set(_namespaces(os.getpid()))
        namespaces = {ns for pid in below for ns in _namespaces(pid)} - own
        ticks = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
        everybody = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
        strangers = {
            (pid, found.start)
            for pid in everybody
            if (found := procfs.stat(pid)) is not None and namespaces.isdisjoint(_namespaces(pid))
        }
        for pid in (process.pid, victim) if what.with_command else (victim,):
            os.kill(pid, signal.SIGKILL)
        process.communicate(timeout=90)
    finally:
        process.kill()
        process.communicate()
    return Killed(run_dir, starts, namespaces, ticks, strangers)


def still_there(killed: Killed) -> list[str]:
    """What is left on this machine of a run that is over."""
    found = leftovers(killed.run_dir.name.rpartition("-")[2])
    found += [f"process {pid}" for pid, start in killed.processes if _lives(pid, start)]
    for directory in Path("/proc").iterdir():
        stat = procfs.stat(int(directory.name)) if directory.name.isdecimal() else None
        if stat is None or stat.state in "ZX" or stat.start > killed.ticks:
            continue
        if (int(directory.name), stat.start) not in killed.strangers:  # numbers of namespaces are used again
            inside = killed.namespaces & set(_namespaces(int(directory.name)))
            found += [f"process {directory.name} in {ns}" for ns in sorted(inside)]
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if str(killed.run_dir) in line:
            found.append(f"mount {line.split()[4]}")
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        if backing.read_text().startswith(str(killed.run_dir)):
            found.append(f"loop device {backing.parts[3]}")
    run = killed.run_dir.name.rpartition("-")[2]
    found += [f"rules: {line}" for line in _tables().splitlines() if run in line]
    if (killed.run_dir / "work").exists():
        found.append("data of its nodes")
    return found


def _tables() -> str:
    """The host's tables; an ordinary user is not told of any, and can have none."""
    program = find_program("nft")
    if program is None:
        return ""
    return subprocess.run([program, "list", "tables"], capture_output=True, text=True, check=False).stdout


def wall_minus_monotonic_s() -> float:
    """By how much the wall clock is ahead of the clock that nobody sets."""
    return time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def _await_text(process: subprocess.Popen[str], folder: Path, name: str, text: str) -> Path:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in folder.glob(f"runs/etcd-register/*/{name}"):
            if text in path.read_text():
                return path.parent
        assert process.poll() is None, "the run ended before its moment"
        time.sleep(0.002)
    raise AssertionError(f"no {text} in {name} within 60 s")


def _find(command: int, victim: str) -> int:
    """The victim's pid. Before there is an agent, and after, the controller stands in for it; and where
    a run has no enclosure, it stands in for launcher and init."""
    launcher = _children(command)[0]
    inits = [pid for pid in _children(launcher) if _argv(pid) == _argv(launcher)]
    init = (*inits, launcher)[0]
    controller = (*(pid for pid in _children(init) if _argv(pid) == _argv(init)), init)[0]
    agents = [pid for pid in _children(controller) if b"/agent/main.py" in _argv(pid)]
    found = {"launcher": launcher, "init": init, "controller": controller, "agent": (*agents, controller)[0]}
    return found[victim]


def _children(pid: int) -> list[int]:
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(text) for text in tasks.read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _below(pid: int) -> Iterator[int]:
    for child in _children(pid):
        yield child
        yield from _below(child)


def _argv(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def _namespaces(pid: int) -> list[str]:
    """The namespaces of a process, as `net:[4026531833]`; none of one that is gone or not ours."""
    found = []
    for kind in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts"):
        try:
            found.append(str(Path(f"/proc/{pid}/ns/{kind}").readlink()))
        except OSError:
            continue
    return found


def _lives(pid: int, start: int) -> bool:
    found = procfs.same(pid, start)
    return found is not None and found.state not in "ZX"
