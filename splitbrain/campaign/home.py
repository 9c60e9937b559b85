"""A campaign's home, `OUT/NAME/`, and its nights, `NNNN-<UTC time>/`.

Nights are numbered, and their order is that of the numbers: a clock that is set back changes what a night is called and
nothing else. One campaign at a time is at work in a home; the kernel lets go of its lock (flock) however it dies.

A night: `plan.json`, `ledger.jsonl`, `attempts/<run id>/` (spec, output and talk of each process),
`runs/` (their run directories, with an index of their own), then `summary.json`, `summary.md`, `index.html`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.core.errors import InfrastructureError, UsageError
from results.rundir import read_object
from splitbrain.campaign.plan import Plan

_night: Final = re.compile(r"(\d{4,})-\d{8}T\d{6}Z")
_lock: Final = ".lock"


def nights(home: Path) -> list[Path]:
    """The nights of a home, the first one first."""
    try:
        found = [p for p in home.iterdir() if _night.fullmatch(p.name) and p.is_dir()]
    except OSError:
        return []
    return sorted(found, key=lambda p: (number(p), p.name))


def number(night: Path) -> int:
    """Which night it is, from 1 on."""
    match = _night.fullmatch(night.name)
    return int(match[1]) if match else 0


def new_night(home: Path, plan: Plan, now: datetime) -> Path:
    """Make the directory of a night, with its plan on disk.

    Raises: InfrastructureError when it cannot be made.
    """
    latest = max((number(night) for night in nights(home)), default=0)
    night = home / f"{latest + 1:04d}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    try:
        for folder in ("attempts", "runs"):
            (night / folder).mkdir(parents=True)
        write(night / "plan.json", msgspec.json.format(msgspec.json.encode(plan), indent=1))
    except OSError as e:
        raise InfrastructureError(
            f"cannot make a night below {home}: {e.strerror}; free some space or choose another place with --out"
        ) from None
    return night


def read_plan(night: Path) -> Plan:
    """Raises: UsageError where the plan cannot be read, or is of another format."""
    path = night / "plan.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Plan)
    except (OSError, msgspec.DecodeError) as e:
        raise UsageError(f"cannot read {path}: {e}; the night cannot go on, start a new one") from None


def read_summary(night: Path) -> dict[str, Any] | None:
    """What the night came to; None where it was cut off."""
    return read_object(night / "summary.json")


def write(path: Path, content: bytes | str) -> None:
    """Replace a file in one step, safe on disk before it is seen. Raises: OSError."""
    part = path.with_name(f".{path.name}.part")
    data = content.encode("utf-8", "replace") if isinstance(content, str) else content
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder survive a loss of power."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def held(home: Path) -> Iterator[None]:
    """Be the one campaign that is at work in a home.

    Raises: UsageError when another one is; InfrastructureError where there can be none.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        fd = os.open(home / _lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as e:
        raise InfrastructureError(
            f"cannot use the campaign's folder {home}: {e.strerror}; choose another place with --out"
        ) from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.read(fd, 64).decode("utf-8", "replace").strip() or "another process"
            raise UsageError(
                f"a campaign is at work in {home} already ({who}); wait for its end, or choose another place with --out"
            ) from None
        with contextlib.suppress(OSError):  # a full disk: the name is for a sentence only
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"pid {os.getpid()}".encode(), 0)
        yield
    finally:
        os.close(fd)
