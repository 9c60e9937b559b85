"""What runs have left on this machine, or still use: for tests, `doctor` and `heal`.

Looks where a run could leave something, by the names that runs give: control groups, processes in
them, agents, rules, interfaces and mounts of the caller's own namespaces, containers and networks of
this machine's Docker daemon. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clusters.means import cgroup, loopdisk, procfs
from clusters.means.dockerd import Daemon, DaemonError, usual_socket
from clusters.means.nft import BRIDGE_PREFIX, SWITCH, TABLE, Nft, queue_table_of, table_of


def leftovers(run: str | None = None) -> list[str]:
    """One sentence for each thing found, of `run` or (with None) of any; empty where all is clean.

    Rules, the switch and mounts of clusters in namespaces bear no run's id, since none should ever be
    in the caller's own; they are listed whatever `run` is.
    """
    mark = cgroup.PREFIX if run is None else cgroup.name(run)
    found = [f"control group {path}" for path in cgroup.leftovers() if _named(path.name, mark, run)]
    found += _processes(mark, run)
    found += [f"interface {i.name}" for i in Path("/sys/class/net").iterdir() if _is_interface(i.name, run)]
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.split()[4].startswith("/run/splitbrain/"):
            found.append(f"mount {line.split()[4]}")
    image = "" if run is None else loopdisk.image_of(run)
    found += [f"loop device {device}" for device in loopdisk.devices(image)]
    return found + _tables(run) + _docker(run)


def alive() -> set[str]:
    """The ids of the runs that have a process, controller or agent: what they have is in use."""
    found = set()
    for argv in _command_lines():
        if _is_agent(argv):
            found |= {a.removeprefix(cgroup.PREFIX) for a in argv if a.startswith(cgroup.PREFIX)}
        elif any("splitbrain" in a for a in argv):  # a runner, whose last argument is the run's directory
            found.add([a for a in argv if a][-1].rpartition("-")[2])
    return found


def abandoned() -> set[tuple[str, str, str]]:
    """(run's id, kind, name) of the control groups, containers and networks here of runs that have no
    process of their own."""
    named = [("cgroup", path.name) for path in cgroup.leftovers()] + _owned(None)
    found = {(name.removeprefix(cgroup.PREFIX).partition("-")[0], kind, name) for kind, name in named}
    living = alive() if found else set()
    return {one for one in found if one[0] not in living}


def has_agent(run: str) -> bool:
    """Whether the agent of a run lives; it ends by itself soon after the run, having removed everything."""
    return any(_is_agent(argv) and cgroup.name(run) in argv for argv in _command_lines())


def _command_lines() -> Iterator[list[str]]:
    for directory in Path("/proc").iterdir():
        try:
            yield (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (NotADirectoryError, FileNotFoundError, ProcessLookupError, PermissionError):
            continue


def _is_agent(argv: list[str]) -> bool:
    return any(a.endswith(("/agent/main.py", "/agent/remote.py")) for a in argv)


def _named(text: str, mark: str, run: str | None) -> bool:
    return text == mark if run is not None else text.startswith(mark)


def _processes(mark: str, run: str | None) -> list[str]:
    found = []
    for directory in Path("/proc").iterdir():
        if not directory.name.isdecimal():
            continue
        try:
            if procfs.parse((directory / "stat").read_text(errors="replace")).state in "ZX":
                continue  # over; whoever adopted it has only not taken note yet
            argv = (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")
            groups = (directory / "cgroup").read_text().replace(":", "/").split("/")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        agent = _is_agent(argv) and any(_named(a, mark, run) for a in argv)
        if agent or any(_named(part.strip(), mark, run) for line in groups for part in line.split("\n")):
            found.append(f"process {directory.name}: {' '.join(argv).strip()}")
    return found


def _is_interface(name: str, run: str | None) -> bool:
    ours = BRIDGE_PREFIX if run is None else f"{BRIDGE_PREFIX}{run}"
    return name in (SWITCH, ours) or name.startswith(ours if run is None else f"{ours}-")


def _docker(run: str | None) -> list[str]:
    return [f"Docker {kind} {name}" for kind, name in _owned(run)]


def _owned(run: str | None) -> list[tuple[str, str]]:
    """What Docker has of ours; nothing where no daemon answers."""
    path = usual_socket()
    if path is None:
        return []
    try:
        return Daemon(path).owned(run)
    except DaemonError:
        return []


def _tables(run: str | None) -> list[str]:
    try:
        text = Nft().run("list tables")
    except OSError:  # no nftables, or not root: then there is no table of ours either
        return []
    names = {line: line.split()[2] for line in text.splitlines()}
    lines = [line for line, name in names.items() if name.startswith(TABLE) and "_probe_" not in name]
    ours = None if run is None else (TABLE, table_of(run), queue_table_of(run))
    return [f"nftables {line}" for line in lines if ours is None or names[line] in ours]
