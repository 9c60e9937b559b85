"""Removing what does not end with a run's processes, from its name alone: control groups, node data,
containers and networks of this machine's Docker daemon, rules on the host.

The agent does it at a proper close, the controller when the agent is gone, and `splitbrain heal`
when the whole run is. Each is idempotent.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from clusters.means import cgroup, dockerd, loopdisk
from clusters.means.nft import Nft, discard, queue_table_of, table_of


class Kind(NamedTuple):
    """One kind of `resource` in a ledger. All take the run's id, its directory and the resource's name.

    `there` says whether it exists, `remove` makes it go, and raises OSError when it stays.
    """

    there: Callable[[str, Path, str], bool]
    remove: Callable[[str, Path, str], object]


def clear(work: Path) -> list[str]:
    """Remove the nodes' data below `work`; returns sentences about what stayed. Anything else is left alone: a
    path that was never set is the current folder, and that is somebody's."""
    if not work.is_absolute() or work.name != "work":
        return [f"{work} is not a folder of nodes' data, and was left alone"]
    problems = []
    for data in sorted(work.iterdir()) if work.is_dir() else ():
        try:
            shutil.rmtree(data)
        except FileNotFoundError:
            continue
        except OSError as e:
            problems.append(f"data of node {data.name} could not be removed: {e}")
    with contextlib.suppress(OSError):  # something stayed, or it was never made
        work.rmdir()
    return problems


def _clear_or_fail(_run: str, run_dir: Path, _name: str) -> None:
    problems = clear(run_dir.resolve() / "work")
    if problems:
        raise OSError("; ".join(problems))


def _clear_daemon(run: str, _run_dir: Path, _name: str) -> None:
    problems = dockerd.clear(run)
    if problems:
        raise OSError("; ".join(problems))


def _owned(run: str) -> list[tuple[str, str]]:
    """What bears the run's label; where no daemon runs, what it had will be there when one does."""
    path = dockerd.usual_socket()
    return [] if path is None else dockerd.Daemon(path).owned(run)


def _tables() -> list[str]:
    """The names of the host's nftables tables; none where they cannot be asked for."""
    try:
        text = Nft().run("list tables")
    except OSError:
        return []
    return [line.split()[2] for line in text.splitlines()]


CGROUP: Final = Kind(
    there=lambda run, _run_dir, _name: any(path.name == cgroup.name(run) for path in cgroup.leftovers()),
    remove=lambda run, _run_dir, _name: cgroup.remove(run),
)
CONTAINER: Final = Kind(
    there=lambda run, _run_dir, name: ("container", name) in _owned(run), remove=_clear_daemon
)
LOOP: Final = Kind(
    there=lambda run, _run_dir, _name: bool(loopdisk.devices(loopdisk.image_of(run))),
    remove=lambda run, _run_dir, _name: loopdisk.detach(run),
)
NETWORK: Final = Kind(
    there=lambda run, _run_dir, name: ("network", name) in _owned(run), remove=_clear_daemon
)
TABLE: Final = Kind(
    there=lambda run, _run_dir, _name: {table_of(run), queue_table_of(run)} & {*_tables()} != set(),
    remove=lambda run, _run_dir, _name: discard(run),
)
WORK: Final = Kind(
    there=lambda _run, run_dir, _name: (run_dir / "work").is_dir(),
    remove=_clear_or_fail,
)
