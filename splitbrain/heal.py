"""`splitbrain heal`: works off the ledger of a run that was killed, whatever killed it.

A ledger names what does not end with a run's processes before it is made, and every fault before it
is applied. Neither the fault that wrote a line nor its module is needed: resources are removed by
their kind, and faults are undone once the nodes they acted on are gone. A run that is alive is left
alone, its spec, journal and row in the index are kept, and a second call finds nothing to do.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.core import secrets
from harness.core.descriptor import load
from harness.core.errors import SplitbrainError, UsageError
from harness.core.ledger import Ledger, read_faults, read_resources
from harness.undo import PRIMITIVES

_LEDGER: Final = "faults.jsonl"
_wait_s: Final = 2.0  # a run that has just been killed takes a moment to end
_agent_s: Final = 20.0  # for an agent, which removes what its run has made
_kinds: Final = {  # kind of resource -> a `clusters.means.removal.Kind`, by reference
    "cgroup": "clusters.means.removal:CGROUP",
    "container": "clusters.means.removal:CONTAINER",
    "host": "clusters.providers._ssh_heal:HOST",
    "loop": "clusters.means.removal:LOOP",
    "network": "clusters.means.removal:NETWORK",
    "table": "clusters.means.removal:TABLE",
    "work": "clusters.means.removal:WORK",
}


class Deed(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a run had left: what it is, what became of it, or why it is still there."""

    run: str
    what: str
    outcome: str = ""
    problem: str | None = None


def heal(run_dir: Path, *, wait_s: float = _wait_s) -> list[Deed]:
    """Undo and remove what the run left; nothing, if it left nothing.

    Raises: UsageError for a run that is alive `wait_s` from now, or that has no readable spec.
    """
    from splitbrain import alive, kept

    released = kept.release(run_dir)  # a cluster left standing by --keep, which ends by itself otherwise
    with alive.grasp(run_dir, wait_s) as dead:
        if not dead or not _agent_ends(_run(run_dir)):
            raise UsageError(
                f"run {_run(run_dir)} is alive, and undoes everything when it ends; stop it first"
                f" (Ctrl-C, or SIGTERM to its `splitbrain run`), then heal {run_dir}"
            )
        deeds = _work_off(run_dir)
        if released:
            deeds.insert(
                0, Deed(run=_run(run_dir), what="the cluster that --keep left standing", outcome="ended")
            )
        return deeds


def heal_all(root: Path) -> list[Deed]:
    """Heal every run below `root` that is not alive, and on this machine remove control groups,
    containers and networks of runs whose directories are elsewhere or gone."""
    from results.rundir import run_dirs
    from splitbrain import kept

    deeds: list[Deed] = []
    standing = [run_dir for run_dir in run_dirs(root) if kept.handed_over(run_dir)]
    for run_dir in dict.fromkeys([*standing, *_dead(root)]):
        try:
            deeds += heal(run_dir, wait_s=_wait_s if run_dir in standing else 0)
        except UsageError as e:
            deeds.append(Deed(run=_run(run_dir), what=str(run_dir), problem=str(e)))
    return deeds + [_remove(run, root, kind, name) for run, kind, name in sorted(_strays())]


def left_behind(root: Path) -> list[str]:
    """One sentence for each run below `root`, or on this machine, that left something."""
    found = []
    known = set()
    for run_dir in _dead(root):
        run = _run(run_dir)
        known.add(run)
        try:
            what = [_says(kind, name) for kind, name in _outstanding(run_dir)]
        except (SplitbrainError, OSError) as e:
            found.append(f"the ledger of run {run} cannot be read: {e}")
            continue
        if what:
            found.append(f"run {run} was cut off and left {', '.join(what)}")
    strays = sorted(stray for stray in _strays() if stray[0] not in known)
    return found + [f"a run left {_says(kind, name)}" for _run, kind, name in strays]


def plain(deeds: Iterable[Deed]) -> dict[str, Any]:
    """What `--json` prints."""
    rows = msgspec.to_builtins(list(deeds))
    problems = [f"{row['what']} of run {row['run']}: {row['problem']}" for row in rows if row["problem"]]
    return {"format": 1, "deeds": rows, "error": "; ".join(problems) or None}


def print_deeds(console: Console, deeds: Sequence[Deed]) -> None:
    """The deeds as a table."""
    if not deeds:
        console.print(Text("✔ nothing is left to heal", style="green"))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in ("run", "what was left", "what became of it"):
        table.add_column(column, no_wrap=column == "run")
    for deed in deeds:
        became = Text(f"✘ {deed.problem}", "red") if deed.problem else Text(f"✔ {deed.outcome}", "green")
        table.add_row(deed.run, Text(deed.what), became)
    console.print(table)


def _run(run_dir: Path) -> str:
    return run_dir.name.rpartition("-")[2]


def _dead(root: Path) -> list[Path]:
    """The runs below `root` that have a ledger and are not alive."""
    from results.rundir import run_dirs
    from splitbrain import alive

    found = []
    for run_dir in run_dirs(root):
        if not (run_dir / _LEDGER).exists():
            continue  # it made nothing
        with contextlib.suppress(UsageError), alive.grasp(run_dir, 0) as dead:
            if dead:
                found.append(run_dir)
    return found


def _agent_ends(run: str) -> bool:
    """Wait for the agent of a run that is dead: one with no PID namespace of its own (in containers)
    outlives its run until it has removed everything."""
    from clusters.means.leftovers import has_agent

    deadline = time.monotonic() + _agent_s
    while has_agent(run):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _strays() -> set[tuple[str, str, str]]:
    """(run, kind, name) of what is on this machine of runs that have nobody who would remove it."""
    from clusters.means.leftovers import abandoned

    return abandoned()


def _outstanding(run_dir: Path) -> list[tuple[str, str]]:
    """(kind, name) of what is still there of a dead run's resources."""
    found = []
    for kind, name in read_resources(run_dir / _LEDGER):
        reference = _kinds.get(kind)
        if reference is None or load(reference).there(_run(run_dir), run_dir, name):
            found.append((kind, name))
    return found


def _work_off(run_dir: Path) -> list[Deed]:
    run, path = _run(run_dir), run_dir / _LEDGER
    if not path.exists():
        return []  # it was cut off before it had made anything
    try:
        faults = [fault for fault in read_faults(path) if fault.outstanding]
        outstanding = _outstanding(run_dir)
    except (SplitbrainError, OSError) as e:
        return [Deed(run=run, what=str(path), problem=f"the ledger cannot be read: {e}")]
    deeds = []
    for kind, name in outstanding:
        deeds.append(_remove(run, run_dir, kind, name))
        if deeds[-1].problem is None:
            with contextlib.closing(Ledger(path, run)) as ledger:
                ledger.released(kind, name)
    stuck = any(deed.problem for deed in deeds)
    for fault in faults:
        unknown = ", ".join(step.do for step in fault.undo if step.do not in PRIMITIVES)
        problem: str | None = "its nodes may still be there" if stuck else None
        if unknown:
            problem = f"nothing here can undo {unknown}; use the splitbrain that did it"
        if problem is None:
            with contextlib.closing(Ledger(path, run)) as ledger:
                ledger.append({"event": "healed", "fault": fault.fault})
        what = f"fault {fault.fault}: {fault.says}"
        deeds.append(Deed(run=run, what=what, outcome="ended with its nodes", problem=problem))
    if not any(deed.problem for deed in deeds):
        secrets.forget(run)
    return deeds


def _says(kind: str, name: str) -> str:
    """A resource in words."""
    return {"cgroup": f"control group {name}", "work": "its nodes' data", "loop": "its nodes' disks"}.get(
        kind, f"{kind} {name}"
    )


def _remove(run: str, run_dir: Path, kind: str, name: str) -> Deed:
    what = _says(kind, name)
    if kind not in _kinds:
        problem = f"nothing here can remove a {kind}; use the splitbrain that made it"
        return Deed(run=run, what=what, problem=problem)
    try:
        load(_kinds[kind]).remove(run, run_dir, name)
    except (SplitbrainError, OSError) as e:
        return Deed(run=run, what=what, problem=f"it could not be removed: {e}")
    return Deed(run=run, what=what, outcome="removed")
