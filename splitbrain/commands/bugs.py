"""`splitbrain bugs`: known bugs, found again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from splitbrain.commands.app import RUNS, Json, Offline, app


@app.command()
def bugs(
    name: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A known bug; without it they are listed.")
    ] = None,
    repeat: Annotated[
        int | None,
        typer.Option(
            min=1, max=100_000, metavar="N", help="Runs of each side, kept; those missing are made."
        ),
    ] = None,
    seed: Annotated[
        str | None, typer.Option(metavar="N", help="Of one pair (default: from the commit's hash).")
    ] = None,
    write: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table into this document.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where runs go (default runs; of --repeat .bugs).")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All of them (with --repeat 1, if not said).")] = False,
    no_admission: Annotated[
        bool, typer.Option("--no-admission", help="Do not wait for other runs where the machine is full.")
    ] = False,
    json: Json = False,
    offline: Offline = False,
) -> int:
    """Known bugs, found again: a broken version and its clean twin under the same faults."""
    from splitbrain.bugs.command import Asked, answer

    asked = Asked(
        name=name,
        repeat=repeat,
        seed=seed,
        every=every,
        write=write,
        out=out,
        runs=RUNS,
        admission=not no_admission,
        offline=offline,
        json=json,
    )
    return answer(asked)
