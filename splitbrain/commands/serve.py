"""What looks at many runs: diff, serve."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from splitbrain.commands.app import RUNS, Json, app, find
from splitbrain.commands.campaign import CAMPAIGNS
from splitbrain.talk import console, print_json


@app.command()
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A run's directory, its id, or `latest`.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The run to compare it with.")],
    *,
    json: Json = False,
) -> int:
    """Say what differs between two runs: spec, versions, verdict, checks, figures, faults."""
    import msgspec

    from results.compare import compare, read_side
    from splitbrain.differences import print_comparison

    found = compare(read_side(find(first)), read_side(find(second)))
    if json:
        print_json(msgspec.to_builtins(found))
    else:
        print_comparison(console(), found)
    return 0


@app.command()
def serve(
    runs: Annotated[
        Path, typer.Option("--runs", metavar="DIR", help="The folder that holds the runs.")
    ] = RUNS,
    campaigns: Annotated[
        Path, typer.Option("--campaigns", metavar="DIR", help="The folder that holds the campaigns.")
    ] = CAMPAIGNS,
    bind: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; elsewhere than here a token is needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="0: any that is free.")] = 8470,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            envvar="SPLITBRAIN_TOKEN",
            help="What a visitor has to know, also here (default: drawn and printed where one is needed).",
        ),
    ] = None,
) -> int:
    """Browse runs: search, compare, trends, and what goes on, in a browser."""
    from splitbrain.serving import serve_forever

    return serve_forever(runs, campaigns, bind, port, token)
