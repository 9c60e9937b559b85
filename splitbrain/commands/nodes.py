"""What reaches into a run's nodes and cleans up behind it: exec, logs, heal."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from splitbrain.commands.app import RUNS, Json, Run, Stopped, app, find
from splitbrain.talk import console, print_json


@app.command(name="exec", context_settings={"ignore_unknown_options": True})
def execute_in_node(
    target: Run,
    node: Annotated[str, typer.Argument(metavar="NODE", help="n1, n2 ...")],
    words: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="What to run there.")],
) -> int:
    """Run a command inside a node of a cluster that was kept; on hosts over SSH, of one that runs as well."""
    from splitbrain.inside import execute

    try:
        return execute(find(target), node, words)
    except Stopped:
        return 130
    except BrokenPipeError:  # of what the command said; it would have met that itself
        return 128 + 13


@app.command()
def logs(
    target: Run,
    node: Annotated[
        str | None,
        typer.Argument(metavar="[NODE]", help="n1 ..., or controller, agent, sampler; default: all."),
    ] = None,
    *,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as they grow.")] = False,
) -> int:
    """Print the logs of a run's nodes, also while it goes on."""
    from splitbrain.logs import write_logs

    def write(block: bytes) -> None:
        sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()

    try:
        write_logs(find(target), node, write, follow=follow)
    except Stopped:
        return 130  # the way to end -f
    return 0


@app.command()
def heal(
    target: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="A run's directory, its id, or `latest` (default).")
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every run that is not alive.")] = False,
    json: Json = False,
) -> int:
    """Undo what a killed run left behind, from its ledger."""
    from harness.core.errors import UsageError
    from splitbrain import heal as healing

    if every and target is not None:
        raise UsageError(f"heal takes a run or --all; leave one of {target!r} and --all out")
    deeds = healing.heal_all(RUNS) if every else healing.heal(find(target or "latest"))
    if json:
        print_json(healing.plain(deeds))
    else:
        healing.print_deeds(console(), deeds)
    return 4 if any(deed.problem for deed in deeds) else 0
