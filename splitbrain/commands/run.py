"""`splitbrain run`: a cluster under load and faults, and the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from splitbrain.commands.app import RUNS, Json, Offline, app, fail
from splitbrain.talk import print_json, say


@app.command()
def run(
    spec_file: Annotated[
        Path | None, typer.Argument(metavar="SPEC.toml", help="A spec; flags override it.")
    ] = None,
    system: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What to test (default etcd), or a FILE.toml."),
    ] = None,
    version: Annotated[
        str | None, typer.Option(metavar="VERSION", help="Its version; 3.6 is the newest known 3.6.")
    ] = None,
    workload: Annotated[
        str | None, typer.Option(metavar="NAME", help="What clients do (default register).")
    ] = None,
    faults: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Families, family:target or walk:kill+pause, by commas; none (default partition,kill,pause).",
        ),
    ] = None,
    nodes: Annotated[
        str | None,
        typer.Option(
            metavar="N",
            help="How many, 1 to 9 (default 3); attach: HOST:PORT,...; ssh: USER@HOST:PORT,...",
        ),
    ] = None,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where nodes run (default netns).")
    ] = None,
    time: Annotated[str | None, typer.Option(metavar="TIME", help="Load under faults (default 30s).")] = None,
    rate: Annotated[
        str | None,
        typer.Option(metavar="N", help="Operations/s over all clients, 0: no limit (default 200)."),
    ] = None,
    concurrency: Annotated[str | None, typer.Option(metavar="N", help="Clients (default 10).")] = None,
    seed: Annotated[
        str | None, typer.Option(metavar="N", help="Repeats a run (default: drawn, shown).")
    ] = None,
    repeat: Annotated[
        int, typer.Option(min=1, max=100_000, metavar="N", help="Runs, with seeds N, N+1 ...")
    ] = 1,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where run directories go.")] = RUNS,
    opt: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An option of whoever declares it; repeatable."),
    ] = None,
    expect: Annotated[
        str | None,
        typer.Option(
            metavar="VERDICT",
            help="valid, invalid, or invalid:CHECKER or SIGNATURE: exit 0 if met, 1 if not.",
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Known findings: a run with no others does not fail."),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the checks of the runs as JUnit XML.")
    ] = None,
    run_id: Annotated[str | None, typer.Option(hidden=True)] = None,
    *,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave a cluster that failed standing, for exec and logs.")
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="End load at the first violation seen while it runs.")
    ] = False,
    no_admission: Annotated[
        bool, typer.Option("--no-admission", help="Do not wait for other runs where the machine is full.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the spec and the schedule only.")] = False,
    json: Json = False,
    offline: Offline = False,
) -> int:
    """Run a cluster under load and faults, and judge its history."""
    if run_id is not None:  # a campaign's: it ends with whoever has started it
        from splitbrain.running import end_with_starter

        end_with_starter(repeat)
    import msgspec

    from harness.core.errors import SplitbrainError
    from splitbrain import running
    from splitbrain import spec as specs
    from splitbrain.baseline import read
    from splitbrain.launch import error_results
    from splitbrain.told import Telling

    flags = {
        "system": system,
        "version": version,
        "workload": workload,
        "faults": faults,
        "nodes": nodes,
        "provider": provider,
        "time": time,
        "rate": rate,
        "concurrency": concurrency,
        "seed": seed,
        "expect": expect,
        "opt": opt or None,
        "admission": False if no_admission else None,
        "keep": keep or None,
        "fail-fast": fail_fast or None,
    }
    spec = None
    telling = Telling(junit, repeat, error_results("the run has not come to its end"))
    try:
        spec = specs.resolve(spec_file, flags)
        known = None if baseline is None else read(baseline)
        planned = specs.successors(spec, repeat)
        if dry_run:
            running.show_plan(spec, json=json)
            return 0
        telling.first = error_results("the run has not come to its end", spec)
        telling.begin()
        if not spec.addresses:
            exact = running.exact_version(spec, offline=offline)
            planned = [msgspec.structs.replace(s, version=exact) for s in planned]
        ended = running.run_all(planned, out, json=json, baseline=known, each=telling.add, run=run_id)
    except SplitbrainError as e:
        telling.failed(error_results(str(e), spec))
        return fail(str(e), e.exit_code, json=json, spec=spec)
    from harness.core.exits import ERROR, overall
    from splitbrain.launch import several

    telling.end()
    if json:
        results = [e.results for e in ended]
        print_json(results[0] if repeat == 1 else several(results, repeat))
    elif repeat > 1:
        say(several([e.results for e in ended], repeat)["reason"])
    return overall([*(e.code for e in ended), *([ERROR] if telling.lost else [])])
