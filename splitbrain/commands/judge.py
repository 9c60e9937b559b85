"""What reads a run that has ended: check, show, report, open."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from splitbrain.commands.app import HISTORIES, Json, Run, app, find, results_of
from splitbrain.talk import console, print_json, say


@app.command()
def check(
    target: Annotated[str, typer.Argument(metavar="RUN|HISTORY", help="A run, or a history file.")],
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What a bare history is of: register, kv, set ..., or module:attr of your own.",
        ),
    ] = None,
    witness: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the orders that prove a valid verdict.")
    ] = None,
    keyed: Annotated[
        bool | None,
        typer.Option("--keyed/--no-keyed", help="Values of an EDN history are [key value], or are not."),
    ] = None,
    *,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Plant violations: which share would have been seen?")
    ] = False,
    json: Json = False,
) -> int:
    """Judge a run or a history file again, with no cluster."""
    from harness.core.exits import exit_code
    from splitbrain.card import print_anomalies, print_card, print_error
    from splitbrain.progress import Progress
    from splitbrain.runner import check as check_again
    from splitbrain.told import Telling

    path = Path(target)
    if not path.is_file() and not target.endswith(HISTORIES):
        path = find(target)
    if model is not None and ":" in model and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # behind everything else: a model of the user's, beside them
    with Progress(sys.stderr if sys.stderr.isatty() else None) as progress:
        results = check_again(
            path,
            model=model,
            witness=witness,
            sensitivity=sensitivity,
            keyed=keyed,
            progress=progress.note,
        )
    telling = Telling(None, 1, results)
    telling.add(results)
    telling.end()
    if json:
        print_json(results)
    else:
        print_card(console(), results, path if path.is_dir() else None)
        print_error(console(), results)
        print_anomalies(console(), results)
    return exit_code({**results, "interrupted": False})  # the run was, this command is not: unknown


@app.command()
def show(target: Run, *, json: Json = False) -> int:
    """Print the verdict card of a run and its anomalies."""
    from splitbrain.card import print_anomalies, print_card, print_error

    run_dir = find(target)
    results = results_of(run_dir)
    if json:
        print_json(results)
        return 0
    print_card(console(), results, run_dir)
    print_error(console(), results)
    print_anomalies(console(), results)
    return 0


@app.command()
def report(target: Run) -> int:
    """Write report.html of a run again."""
    run_dir = find(target)
    from results.report.page import write_report

    write_report(run_dir)
    sys.stdout.write(f"{run_dir / 'report.html'}\n")
    return 0


@app.command(name="open")
def open_report(target: Run) -> int:
    """Open the report of a run in a browser."""
    import webbrowser

    from harness.core.errors import UsageError

    path = find(target) / "report.html"
    if not path.exists():
        raise UsageError(f"{path} does not exist; `splitbrain report {target}` writes it")
    sys.stdout.write(f"{path}\n")
    sys.stdout.flush()
    graphical = any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    beside = (path.parent / "report.values").is_file()  # which a page from a file cannot read
    if graphical and beside:
        from splitbrain.serving import serve_report

        if serve_report(path, webbrowser.open):
            return 130
    elif graphical and webbrowser.open(path.resolve().as_uri()):
        return 0
    say("no browser here: open this file in one")
    if beside:
        runs = path.parent.parent.parent
        say(f"values of operations stand beside it, and show where `splitbrain serve --runs {runs}` shows it")
    return 0
