"""A failed cluster that is left standing (`--keep`), for `splitbrain exec` and `logs`.

The run's own process stays, and with it all that hangs on it: agent, nodes, namespaces. It is in a
session of its own and heeds no Ctrl-C; whoever started the run goes on without it. It closes the
cluster when its time is over, or when `release` says so. `kept.json` in the run's directory names it
and each node's init; that file stands exactly as long as the cluster does, unless somebody kills it.

A cluster on hosts does not hang on this process. The hosts are told when its time is over, and end it then by
themselves, should the process be gone, or this machine.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from clusters.means import procfs
from harness.core import secrets
from harness.core.cluster import Cluster
from harness.core.errors import InfrastructureError, MissingCapability, UsageError, unknown_name
from harness.core.ledger import Ledger, read_resources

KEEP_S: Final = 3600.0
_FILE: Final = "kept.json"
_END: Final = signal.SIGUSR1
_END_S: Final = 20.0
_AHEAD_S: Final = 10.0  # of hosts that end a cluster by themselves: what one waits for there would be gone


class Kept(msgspec.Struct, kw_only=True, frozen=True):
    """What `kept.json` holds: until when (UTC), who keeps it, and through whom each node is entered."""

    format: int = 1
    run: str
    until: str
    keeper: procfs.Identity
    nodes: dict[str, procfs.Identity]


def until(now_s: float, limit_s: float = KEEP_S) -> str:
    """When what is kept from now on will end.

    >>> until(0.0)
    '1970-01-01T01:00:00Z'
    """
    return datetime.fromtimestamp(now_s + limit_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stay(cluster: Cluster, run_dir: Path, when: str, *, limit_s: float = KEEP_S) -> None:
    """Keep `cluster` from now on, in this process, and end it; main thread only.

    Raises: InfrastructureError where something of it stayed.
    """
    over = threading.Event()
    signal.signal(_END, lambda *_: over.set())
    keeper = procfs.identity(os.getpid())
    found = {node: procfs.identity(pid) for node, (pid, _start) in cluster.inits.items()}
    nodes = {node: identity for node, identity in found.items() if identity is not None}
    keep = getattr(cluster, "keep", None)
    try:
        if keeper is not None:
            if keep is not None:
                keep(limit_s)
            kept = Kept(run=_run(run_dir), until=when, keeper=keeper, nodes=nodes)
            part = run_dir / f"{_FILE}.part"
            part.write_bytes(msgspec.json.format(msgspec.json.encode(kept)) + b"\n")
            part.replace(run_dir / _FILE)
            over.wait(limit_s - (_AHEAD_S if keep is not None else 0.0))
    finally:
        try:
            end(cluster, run_dir)
        finally:
            (run_dir / _FILE).unlink(missing_ok=True)


def end(cluster: Cluster, run_dir: Path) -> None:
    """Close a cluster that outlived its run, and note that nothing is left of it.

    Raises: InfrastructureError where something stayed.
    """
    cluster.close()
    ledger = run_dir / "faults.jsonl"
    if made := read_resources(ledger):
        with closing(Ledger(ledger, _run(run_dir))) as lines:
            for kind, name in made:
                lines.released(kind, name)
    secrets.forget(_run(run_dir))


def handed_over(run_dir: Path) -> bool:
    """Whether the run stays with its cluster from now on."""
    return (run_dir / _FILE).exists()


def read(run_dir: Path) -> Kept | None:
    """What `kept.json` says, whoever lives; None where there is none.

    Raises: UsageError for one that is none of ours.
    """
    try:
        return msgspec.json.decode((run_dir / _FILE).read_bytes(), type=Kept)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as e:
        raise UsageError(
            f"cannot read {run_dir / _FILE}: {e}; `splitbrain heal` removes what is left"
        ) from None


def release(run_dir: Path) -> bool:
    """End the cluster that a run has kept, and wait for that; whether there was one.

    Raises: InfrastructureError when it does not end, MissingCapability when it is another user's.
    """
    kept = read(run_dir)
    if kept is None:
        return False
    pid = _find(kept.keeper, kept.run)
    if pid is not None:
        for number in (_END, signal.SIGKILL):  # the second ends the run's init, and that everything
            procfs.send(pid, kept.keeper.start, number)
            if _ended(pid, kept.keeper.start):
                break
        else:
            raise InfrastructureError(
                f"the cluster of run {kept.run} does not end: its keeper (pid {pid}) outlives SIGKILL"
            )
    (run_dir / _FILE).unlink(missing_ok=True)
    return pid is not None


def command(run_dir: Path, node: str, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in the namespaces of a node of a kept cluster.

    Raises: UsageError for a run that keeps none or has no such node; MissingCapability without
    nsenter; InfrastructureError for a node that has ended.
    """
    from clusters.means.nft import find_program

    kept = read(run_dir)
    run = _run(run_dir)
    if kept is None or _find(kept.keeper, run) is None:
        raise UsageError(
            f"run {run} has no cluster that stands; a run with --keep leaves one when it fails, for"
            f" {KEEP_S / 3600:g} h at most"
        )
    if node not in kept.nodes:
        raise unknown_name("node", node, kept.nodes)
    pid = _find(kept.nodes[node], run)
    if pid is None:
        raise InfrastructureError(
            f"node {node} of run {run} has ended; `splitbrain heal {run}` ends the others"
        )
    program = find_program("nsenter")
    if program is None:
        raise MissingCapability("the command nsenter is missing; install util-linux")
    found = [program, f"--target={pid}", "--mount", "--net", "--pid", "--uts"]
    if _namespace(pid, "user") != _namespace(os.getpid(), "user"):
        found += ["--user", "--preserve-credentials"]
    return [*found, "--", *argv]


def lines(results: Mapping[str, Any], run_dir: Path) -> list[tuple[str, str]]:
    """What a card says about a cluster that stands: (label, text)."""
    if not results.get("kept"):
        return []
    return [
        ("stands", f"until {results['kept']}; sooner: splitbrain heal {run_dir}"),
        ("enter", f"splitbrain exec {run_dir} n1 -- sh"),
        ("logs", f"splitbrain logs {run_dir} -f"),
    ]


def _run(run_dir: Path) -> str:
    return run_dir.name.rpartition("-")[2]


def _find(wanted: procfs.Identity, run: str) -> int | None:
    try:
        return procfs.find(wanted)
    except PermissionError:
        raise MissingCapability(
            f"the cluster of run {run} is another user's; enter or end it as that user, or as root"
        ) from None


def _namespace(pid: int, kind: str) -> int:
    return Path(f"/proc/{pid}/ns/{kind}").stat().st_ino


def _ended(pid: int, start: int) -> bool:
    deadline = time.monotonic() + _END_S
    while time.monotonic() < deadline:
        found = procfs.same(pid, start)
        if found is None or found.state in "ZX":
            return True
        time.sleep(0.01)
    return False
