"""What a run leaves on a host: its folder, and who has noted himself there, agent and node. Taking it away."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Final

from clusters.means import cgroup, hostrules, loopdisk, procfs

_mark: Final = "agent"  # a file in a run's folder: the agent's pid and start time
_node: Final = "node"  # another: the identity of the node's init
_end_s: Final = 15.0


def heal(run: str, home: Path) -> list[str]:
    """Take away what a run has left on this host, whoever of it lives; sentences about what stayed."""
    if (agent := agent_of(home)) is not None:
        pid, start = agent
        for number in (signal.SIGTERM, signal.SIGKILL):
            procfs.send(pid, start, number)
            if _ended(pid, start):
                break
    problems = []
    for what, remove in (
        ("rules", partial(hostrules.discard, run)),
        ("control groups", partial(cgroup.remove, run)),
        ("loop devices", partial(loopdisk.detach, run)),
    ):
        try:
            remove()
        except OSError as e:
            problems.append(f"{what} of run {run}: {e}")
    problems += remove_home(run, home) if not problems else []
    for problem in problems:
        print(problem, file=sys.stderr, flush=True)
    return problems


def _ended(pid: int, start: int) -> bool:
    """Wait for the end of a process; whether it came in time."""
    deadline = time.monotonic() + _end_s
    while (found := procfs.same(pid, start)) is not None and found.state not in "ZX":
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def remove_home(run: str, home: Path) -> list[str]:
    """Remove a run's folder; sentences about what stayed. One that is not a run's is left alone: it has the run's
    name, stands in a folder `runs`, and an agent has noted itself there."""
    if not home.exists():
        return []
    if not (
        home.is_absolute() and home.name == run and home.parent.name == "runs" and (home / _mark).is_file()
    ):
        return [f"{home} does not look like the folder of run {run}, and was left alone"]
    (home / "beat").unlink(missing_ok=True)  # the switch ends
    try:
        shutil.rmtree(home)
    except OSError as e:
        return [f"{home}: {e}"]
    return []


def note_pid(home: Path, pid: int) -> None:
    """Let `heal` find the agent."""
    stat = procfs.stat(pid)
    home.mkdir(parents=True, exist_ok=True)
    (home / _mark).write_text(f"{pid} {stat.start if stat else 0}")


def agent_of(home: Path) -> tuple[int, int] | None:
    """Pid and start time of the agent that has noted itself, whether it lives or not."""
    try:
        pid, start = map(int, (home / _mark).read_text().split())
    except (OSError, ValueError):
        return None
    return pid, start


def note_node(home: Path, pid: int) -> None:
    """Let those find the node who would enter it, from whichever PID namespace."""
    (home / _node).write_text(json.dumps(procfs.identity(pid)))


def node_of(home: Path) -> int | None:
    """The pid of the node's init, as the caller has it; None where there is none (any more)."""
    try:
        return procfs.find(procfs.Identity(*json.loads((home / _node).read_text())))
    except (OSError, ValueError, TypeError):
        return None
