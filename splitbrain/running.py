"""What `splitbrain run` does between its flags and its exit code: the version made ready, the runs one
after another, each launched and shown as it goes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from clusters.artifacts import Artifacts
from harness.core.errors import Interrupted, UsageError
from harness.core.exits import exit_code
from harness.core.spec import Spec
from harness.core.system import Install
from results.rundir import new_run_dir
from splitbrain import listing, registry
from splitbrain import spec as specs
from splitbrain.baseline import Baseline, lines, weigh
from splitbrain.card import print_card
from splitbrain.display import Live, Plain
from splitbrain.launch import Ended, launch, write_spec
from splitbrain.runner import whose_keys, write_results
from splitbrain.talk import console, print_json, say

STARTER: Final = "SPLITBRAIN_STARTER"  # the pid of who started a run whose id was decided before


def run_all(
    planned: Sequence[Spec],
    out: Path,
    *,
    json: bool,
    baseline: Baseline | None = None,
    each: Callable[[Mapping[str, Any]], None] = lambda _results: None,
    run: str | None = None,
) -> list[Ended]:
    """The runs of a command, one after another, until one is interrupted or leaves its cluster. `each` is told the
    results of one when it has ended; `run` is the id of the only one, where somebody has decided it."""
    ended: list[Ended] = []
    for number, spec in enumerate(planned, 1):
        if len(planned) > 1:
            say(f"run {number} of {len(planned)}, seed {spec.seed}")
        ended.append(run_one(spec, out, json=json, baseline=baseline, run=run))
        each(ended[-1].results)
        if ended[-1].results.get("interrupted") or ended[-1].results.get("kept"):
            break
    return ended


def run_one(
    spec: Spec,
    out: Path,
    *,
    json: bool,
    brief: bool = False,
    baseline: Baseline | None = None,
    run: str | None = None,
) -> Ended:
    """One run, in a new directory below `out`, followed on stderr; its card on stdout unless `json`. A `brief` one
    has a line that lives on a terminal, and nothing else. What a `baseline` says of the results is added to
    them."""
    run_dir = new_run_dir(out, spec.system, spec.workload, spec.seed, datetime.now(UTC), run)
    spec = write_spec(run_dir, spec)
    talk = console(stderr=True)
    if not brief:
        say("\n".join([f"seed {spec.seed}, run directory {run_dir}", *whose_keys(run_dir, spec)]))
    display: Live | Plain | None = None
    if talk.is_terminal:
        display = Live(spec, run_dir, talk)
    elif not brief:
        display = Plain(spec, run_dir, talk)
    try:
        ended = launch(run_dir, spec, update=display.update if display else lambda: None, say=talk.print)
    finally:
        if display is not None:
            display.stop()
    if baseline is not None:
        ended = _weighed(ended, baseline, run_dir)
    if brief:
        return ended
    if ended.log:
        say(f"last lines of {run_dir / 'logs' / 'controller.log'}:\n{ended.log}")
    if ended.results.get("error"):
        say(f"splitbrain: {ended.results['error']}")
    if json:
        say("\n".join(told)) if (told := lines(ended.results)) else None
    if not json:
        print_card(console(), ended.results, run_dir)
    elif talk.is_terminal:
        print_card(talk, ended.results, run_dir)
    return ended


def _weighed(ended: Ended, baseline: Baseline, run_dir: Path) -> Ended:
    """The run's end as a baseline has it; its directory says so too."""
    results = weigh(ended.results, baseline)
    if (run_dir / "results.json").exists():
        write_results(run_dir, results)
    code = ended.code if ended.results.get("verdict") != "invalid" else exit_code(results)
    return msgspec.structs.replace(ended, results=results, code=code)


def end_with_starter(repeat: int) -> None:
    """Have this command be told to stop when whoever has decided its run's id is gone: it heals, judges and ends.

    Raises: UsageError for several runs, which cannot have one id; Interrupted if they are gone already.
    """
    from clusters.means.kernel import die_with_parent

    if repeat != 1:
        raise UsageError(f"--run-id is of one run, and --repeat asks for {repeat}; leave one of them out")
    die_with_parent(signal.SIGTERM)
    starter = os.environ.get(STARTER)
    if starter is not None and starter != str(os.getppid()):
        raise Interrupted("interrupted: whoever started this run had ended before it began")


def exact_version(spec: Spec, *, offline: bool) -> str | None:
    """Make the spec's version ready, and name it so that the same is found later, when `3.6` or the
    default may mean another; a program without a version to ask for (the user's own) stays unnamed."""
    options = spec.of(spec.system)
    made = install(spec.system, spec.version, options, offline=offline)
    for other in registry.other_versions(spec):
        install(spec.system, other, options, offline=offline)
    if registry.restores(spec):
        admin = registry.create("systems", spec.system, options).admin
        admin.equip(made.version, Artifacts(offline=offline, say=say))
    try:
        again = install(spec.system, made.version, options, offline=True)
    except UsageError:
        return spec.version
    return made.version if again.program == made.program else spec.version


def install(system: str, version: str | None, options: Mapping[str, Any], *, offline: bool) -> Install:
    """The version made ready, downloaded or built before anything else is touched."""
    made: Install = registry.create("systems", system, options).install(
        version, Artifacts(offline=offline, say=say)
    )
    return made


def show_plan(spec: Spec, *, json: bool) -> None:
    """The spec and the schedule that its seed gives, and nothing started."""
    plan = specs.schedule(spec)
    if not json:
        listing.print_plan(console(), spec, plan)
        return
    about = {"spec": spec, "schedule": plan, "most_out": specs.limit(spec)}
    print_json(msgspec.to_builtins({"format": 1, **about, "command": specs.command_line(spec)}))
