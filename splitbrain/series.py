"""Runs in series: seeds that nobody chose, results that are kept, shares with their interval.

Seeds are drawn from the hash of the tested commit, not from a favourite list. Each run's results object is kept in a
folder of the commit's, so that an interrupted series goes on where it stopped; a run that was interrupted
itself is made anew.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from harness.core.seeds import subseed
from splitbrain import registry, root

_z: Final = 1.96  # of a normal distribution, 95% lie within so many standard deviations
_shown: Final = 12  # digits of a commit
_git_s: Final = 20


def revision() -> str:
    """The commit that is tested, or the version of an installed splitbrain."""
    return _git("rev-parse", "HEAD") or registry.version()


def changed() -> bool:
    """Whether the checkout holds what its commit does not."""
    return bool(_git("status", "--porcelain", "--untracked-files=no"))


def _git(*words: str) -> str:
    if not (root() / ".git").exists():
        return ""
    try:
        done = subprocess.run(
            ["git", *words], cwd=root(), capture_output=True, text=True, timeout=_git_s, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def short(commit: str) -> str:
    """A commit as it is written down, and as its folder is called."""
    return commit[:_shown]


def seed(commit: str, name: str, n: int) -> int:
    """The seed of the n-th run of `name`.

    >>> seed("0f", "demo", 0) == seed("0f", "demo", 0) != seed("0e", "demo", 0)
    True
    """
    try:
        number = int(commit, 16)
    except ValueError:  # a version
        number = subseed(0, commit)
    return subseed(number, name, n) >> 33


def kept(path: Path) -> dict[str, Any] | None:
    """The results object that is kept in a file, if there is one."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def keep(path: Path, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What is kept, or else what `run` returns, from now on."""
    found = kept(path)
    if found is None:
        found = run()
        if not found.get("interrupted"):
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(json.dumps(found))
            part.replace(path)
    return found


def interval(k: int, n: int) -> tuple[float, float] | None:
    """Wilson's 95% interval for the share behind k of n; None of none.

    >>> [round(bound, 2) for bound in interval(8, 10)]
    [0.49, 0.94]
    """
    if n == 0:
        return None
    p = k / n
    middle = (p + _z * _z / (2 * n)) / (1 + _z * _z / n)
    half = _z * ((p * (1 - p) / n + _z * _z / (4 * n * n)) ** 0.5) / (1 + _z * _z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def percent(k: int, n: int) -> str:
    """The interval in words.

    >>> percent(8, 10), percent(0, 0)
    ('49-94%', '-')
    """
    bounds = interval(k, n)
    return "-" if bounds is None else f"{bounds[0] * 100:.0f}-{bounds[1] * 100:.0f}%"
