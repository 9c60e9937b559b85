"""`splitbrain export`: a run in a form that others read. Its flags are the table of forms."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Annotated

import typer

from results.export import FORMS
from splitbrain.commands.app import HISTORIES, app, find
from splitbrain.talk import say


def export(
    target: Annotated[str, typer.Argument(metavar="RUN|HISTORY", help="A run, or a history file.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Where to (default: stdout; of what is no text a new file here).",
        ),
    ] = None,
    keyed: Annotated[
        bool | None,
        typer.Option("--keyed/--no-keyed", help="Values of an EDN history are [key value], or are not."),
    ] = None,
    **forms: bool,
) -> int:
    """Write a run, or a history, in a form that other tools read."""
    from splitbrain import exporting

    form = exporting.form_of(forms)
    path = Path(target)
    if not path.is_file() and not target.endswith(HISTORIES):
        path = find(target)
    written = exporting.export(path, form, out, keyed=keyed)
    if written is None:
        return 0
    if out is None:
        sys.stdout.write(f"{written}\n")
    say(f"{written} written")
    return 0


_own = inspect.signature(export, eval_str=True)
_flags = [
    inspect.Parameter(
        form.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, typer.Option(f"--{form.name}", help=form.summary)],
    )
    for form in FORMS
]
export.__signature__ = _own.replace(  # type: ignore[attr-defined]
    parameters=[p for p in _own.parameters.values() if p.kind is not p.VAR_KEYWORD] + _flags
)
app.command()(export)
