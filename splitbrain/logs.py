"""The logs of a run's nodes, while it goes on and when it is over: `splitbrain logs`."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from harness.core.errors import UsageError, unknown_name
from results.tail import Tail
from splitbrain import kept

_look_s: Final = 0.2


def write_logs(run_dir: Path, name: str | None, write: Callable[[bytes], object], *, follow: bool) -> None:
    """Write the logs of one node, or of all, each line with its log's name where there are several.

    `name` may also be one of the harness's own logs (`controller`, `agent`, `sampler`; where each host has an agent
    of its own, `agent-n1`, or `agent` for them all). With `follow` go on until the run is over, and what it kept.

    Raises: UsageError for a name that has no log, and where there is none at all.
    """
    tails: dict[Path, Tail] = {}
    begun = False
    while True:
        over = not follow or _over(run_dir)
        for path in _paths(run_dir, name):
            tails.setdefault(path, Tail(path))
        if not tails and over:
            raise _nothing(run_dir, name)
        several = len(tails) > 1 or (name is None and follow)
        for path, tail in tails.items():
            mark = f"{_shown(path)}: ".encode() if several else b""
            for block in tail.blocks():
                begun = True
                write(_marked(block, mark))
            if over and tail.rest:
                begun = True
                write(_marked(tail.rest + b"\n", mark))
        if over:
            break
        time.sleep(_look_s)
    for tail in tails.values():
        tail.close()
    if not begun:
        raise _nothing(run_dir, name)


def _shown(path: Path) -> str:
    return path.stem if path.parent.name == "logs" else f"{path.parent.name}/{path.stem}"


def _marked(block: bytes, mark: bytes) -> bytes:
    return b"".join(mark + line for line in block.splitlines(keepends=True)) if mark else block


def _paths(run_dir: Path, name: str | None) -> list[Path]:
    folder = run_dir / "logs"
    if name is None:
        return sorted(folder.glob("*/*.log"))
    return sorted([p for p in folder.glob("*/*.log") if p.parent.name == name]) + [
        p for p in sorted(folder.glob("*.log")) if name in _names(p)
    ]


def _names(log: Path) -> tuple[str, ...]:
    """What one of the harness's own logs is called."""
    kind, dash, _node = log.stem.rpartition("-")
    return (log.stem, kind) if dash else (log.stem,)


def _over(run_dir: Path) -> bool:
    return (run_dir / "results.json").exists() and not kept.handed_over(run_dir)


def _nothing(run_dir: Path, name: str | None) -> UsageError:
    folder = run_dir / "logs"
    known = {path.name for path in folder.glob("*/")}.union(*map(_names, folder.glob("*.log")))
    if name is not None and name not in known:
        return unknown_name("node", name, known)
    what = "its nodes have" if name is None else f"{name} has"
    return UsageError(f"{what} written no log in {run_dir}; an attached cluster keeps its own")
