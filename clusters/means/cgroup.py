"""One control group for each node, named `splitbrain-RUN/NODE`, in whatever hierarchies the host has.

They say to whom a process belongs, end it surely (`cgroup.kill`, Linux 5.14), and outlive the run's
namespaces, which nothing else does; `remove` clears what a run that was killed left behind. Where
no hierarchy can be written to, runs go on without, and `hierarchy` says why. What a node may use of
processors and memory is limited through them too (`clusters.means.limits`): with version 1 in
hierarchies of their own, and memory is accounted to the group in which it was first touched, so nodes
are in them from the start.

Source: Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Final

PREFIX: Final = "splitbrain-"
_v2: Final = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
_v1: Final = Path("/sys/fs/cgroup/freezer")
CONTROLLERS: Final = ("cpu", "memory")


def hierarchy() -> tuple[Path | None, str | None]:
    """Where groups are made, and None; or None, and the reason why there is no such place."""
    candidates = [root for root in _v2 if (root / "cgroup.controllers").exists()]
    if (_v1 / "tasks").exists():
        candidates.append(_v1)
    if not candidates:
        return None, "no cgroup hierarchy is mounted at /sys/fs/cgroup"
    found = [_writable(root) for root in candidates]
    return next((one for one in found if one[0] is not None), found[0])


def controlling(controller: str) -> tuple[Path | None, str | None]:
    """Where groups that limit `controller` (`cpu`, `memory`) are made, and None; or None, and why there is
    no such place, and which fault comes nearest."""
    root, reason = _controlling(controller)
    return root, None if reason is None else f"{reason}; fault pause stalls a node without them"


def _controlling(controller: str) -> tuple[Path | None, str | None]:
    old = _v2[0] / controller
    if (old / "tasks").exists():
        return _writable(old)
    for root in _v2:
        if controller in _words(root / "cgroup.controllers"):
            if controller in _words(root / "cgroup.subtree_control"):
                return _writable(root)
            enable = f"echo +{controller} > {root}/cgroup.subtree_control"
            return (
                None,
                f"control groups here do not pass on the controller {controller}; as root, `{enable}`",
            )
    return None, f"no control group of this kernel has the controller {controller}"


def _writable(root: Path) -> tuple[Path | None, str | None]:
    if os.statvfs(root).f_flag & os.ST_RDONLY:
        return None, f"{root} is read-only here; a container needs a writable cgroup mount"
    if not os.access(root, os.W_OK):
        return None, f"{root} is not ours to write to; control groups need root (sudo)"
    return root, None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def name(run: str) -> str:
    """The group of a run.

    >>> name("a1b2c3")
    'splitbrain-a1b2c3'
    """
    return PREFIX + run


def make(root: Path, run: str, node: str) -> Path:
    """The group of one node; it may exist."""
    path = root / name(run) / node
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = set(CONTROLLERS) & set(_words(root / "cgroup.subtree_control"))  # version 2 alone
    if wanted:
        (path.parent / "cgroup.subtree_control").write_text(" ".join(f"+{one}" for one in sorted(wanted)))
    path.mkdir(exist_ok=True)
    return path


def add(group: Path, pid: int) -> None:
    """Move a process (0: the caller), and with it all its children to come, into `group`."""
    (group / "cgroup.procs").write_text(str(pid))


def of(pid: int) -> list[Path]:
    """The groups that a process is in, of every hierarchy that is mounted in its usual place."""
    found = []
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        roots = _v2 if number == "0" else (_v2[0] / controllers.removeprefix("name="),)
        found += [group for root in roots if (group := root / path.lstrip("/")).is_dir()]
    return found


def remove(run: str, *, timeout_s: float = 2.0) -> list[str]:
    """End whatever is left in the groups of `run` and remove them; returns the paths removed.

    Idempotent, and callable from any process: the name says that they are ours.

    Raises: OSError for a group that is still busy after `timeout_s`.
    """
    removed = []
    for root in _roots():
        top = root / name(run)
        if not top.is_dir():
            continue
        deadline = time.monotonic() + timeout_s
        groups = [*sorted(p for p in top.iterdir() if p.is_dir()), top]
        for group in groups:
            _remove_one(group, deadline)
            removed.append(str(group))
    return removed


def leftovers() -> list[Path]:
    """The groups of all runs, of those that still go on as well."""
    return sorted(p for root in _roots() if root.is_dir() for p in root.glob(PREFIX + "*"))


def _roots() -> tuple[Path, ...]:
    """All places where groups of ours may be, each once: some are links to others."""
    places = (*_v2, _v1, *(_v2[0] / controller for controller in CONTROLLERS))
    return tuple({place.resolve(): place for place in places}.values())


def _remove_one(group: Path, deadline: float) -> None:
    while True:
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            _kill(group)
            time.sleep(0.002)
        else:
            return


def _kill(group: Path) -> None:
    try:
        (group / "cgroup.kill").write_text("1")
    except OSError:  # older than 5.14, or version 1
        try:
            members = (group / "cgroup.procs").read_text().split()
        except OSError:
            return
        for pid in members:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
