"""Whether a run is alive: its processes hold a lock on its `spec.json` while any of them lives.

The kernel lets go of the lock when the last one has ended, whatever ended it. It goes along with a
fork (a run's launcher, init and controller share it) and not with an exec: what a run has started
ends with these three. See flock(2).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from harness.core.errors import UsageError

YOUNG_S = 30.0  # a run of that age may not have taken its lock yet


def hold(run_dir: Path) -> None:
    """Be the run, until this process and all that it forks have ended.

    Raises: UsageError when somebody else is.
    """
    if _lock(run_dir) is None:
        raise UsageError(f"{run_dir} is in use: its run is still alive, or is being healed; start a new run")


@contextlib.contextmanager
def grasp(run_dir: Path, wait_s: float) -> Iterator[bool]:
    """Whether the run is dead, waiting for its end so long; if it is, nobody else has it meanwhile."""
    deadline = time.monotonic() + wait_s
    fd = _lock(run_dir)
    while fd is None and time.monotonic() < deadline:
        time.sleep(0.02)
        fd = _lock(run_dir)
    try:
        yield fd is not None
    finally:
        if fd is not None:
            os.close(fd)


def _lock(run_dir: Path) -> int | None:
    """A descriptor that holds the lock, or None. Raises: UsageError where there is no spec."""
    try:
        fd = os.open(run_dir / "spec.json", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise UsageError(
            f"cannot read {run_dir / 'spec.json'}: {e.strerror}; expected a run's directory"
        ) from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def goes_on(run_dir: Path) -> bool:
    """Whether a run without results is alive, as seen by somebody who must not get in its way.

    To try the lock is to have it for a moment. A run takes it within a second of writing its spec and before it has a
    journal; one that is that young is taken for alive and left alone.
    """
    try:
        age_s = time.time() - (run_dir / "spec.json").stat().st_mtime
    except OSError:
        return False
    if not (run_dir / "journal.jsonl").exists() and 0 <= age_s < YOUNG_S:
        return True
    return held(run_dir / "spec.json")


def held(path: Path) -> bool:
    """Whether somebody has an exclusive lock (flock) on a file that there is."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
