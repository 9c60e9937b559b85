"""`splitbrain completion`: the words of the command line for a shell."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from splitbrain.commands.app import RUNS, app


@app.command()
def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> int:
    """Print what a shell reads to complete splitbrain's words: eval "$(splitbrain completion bash)"."""
    from harness.core.errors import unknown_name
    from splitbrain.completion import SCRIPTS

    if shell not in SCRIPTS:
        raise unknown_name("shell", shell, SCRIPTS)
    sys.stdout.write(SCRIPTS[shell])
    return 0


@app.command(hidden=True)
def complete(
    line: Annotated[str, typer.Argument(metavar="LINE", help="The command line up to the cursor.")],
    breaks: Annotated[str, typer.Option(help="Where the shell ends words besides spaces.")] = "",
) -> int:
    """What the last word of a command line may become, one a line."""
    import typer.main as typers

    from splitbrain.completion import candidates, shortened

    found = candidates(typers.get_command(app), line, RUNS)  # type: ignore[arg-type]  # of several commands it is a group
    sys.stdout.writelines(f"{word}\n" for word in shortened(found, line, breaks))
    return 0
