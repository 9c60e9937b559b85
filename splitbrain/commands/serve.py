"""What looks at many runs: diff, serve."""

from __future__ import annotations

from typing import Annotated

import typer

from splitbrain.commands.app import Json, app, find
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
