"""`splitbrain replay`: a recorded run again, and how often its finding comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from splitbrain.commands.app import RUNS, Json, Offline, Run, app, fail, find
from splitbrain.talk import print_json, say


@app.command()
def replay(
    target: Run,
    times: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="How many runs.")] = 1,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where run directories go.")] = RUNS,
    opt: Annotated[
        list[str] | None,
        typer.Option(metavar="OWNER.NAME=VALUE", help="A secret that the run does not show; repeatable."),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the checks of the runs as JUnit XML.")
    ] = None,
    *,
    exact: Annotated[
        bool, typer.Option("--exact", help="The nodes and times that were recorded, not the roles.")
    ] = False,
    json: Json = False,
    offline: Offline = False,
) -> int:
    """Run a recorded seed and schedule again; exit 1 where a violation came back."""
    import msgspec

    from harness.core.errors import SplitbrainError
    from harness.core.exits import ERROR, overall
    from splitbrain import replay as again
    from splitbrain import running
    from splitbrain.launch import error_results
    from splitbrain.told import Telling

    run_dir = find(target)
    spec = None
    telling = Telling(junit, times, error_results("the run has not come to its end"))
    try:
        again.refuse_itself(run_dir, out)
        spec = again.spec_of(run_dir, opt or ())
        notes: list[str] = []
        if exact:
            spec, notes = again.exactly(spec, run_dir)
        for note in notes:
            say(f"note: {note}")
        telling.first = error_results("the run has not come to its end", spec)
        telling.begin()
        if not spec.addresses:
            spec = msgspec.structs.replace(spec, version=running.exact_version(spec, offline=offline))
        ended = running.run_all([spec] * times, out, json=json, each=telling.add)
    except SplitbrainError as e:
        telling.failed(error_results(str(e), spec))
        return fail(str(e), e.exit_code, json=json, spec=spec)
    telling.end()
    runs = [e.results for e in ended]
    told = again.tell(run_dir, runs, planned=times, exact=exact)
    told["other_programs"] = sorted(
        {name for r in runs if r.get("run") for name in again.other_programs(run_dir, Path(r["run"]))}
    )
    for name in told["other_programs"]:
        say(f"note: {name} is not the program that the recorded run had; its sha256 differs")
    if json:
        print_json(told)
    else:
        say(told["reason"])
    return overall([*(e.code for e in ended), *([ERROR] if telling.lost else [])])
