"""The command line: a contract that scripts rely on.

Data on stdout, talk on stderr; with `--json` exactly one JSON object on stdout, also for exits 2 and
4. Exit codes: 0 valid, 1 violation, 2 usage, 3 unknown, 4 infrastructure or harness error, 130
interrupted. Errors of `harness.core.errors` are one sentence and never a traceback.

The commands stand in `commands/` and only translate; what they do lives in `running`, `spec`, `card`, `listing`,
`new`, `doctor`. Imports stand in the functions that need them: `--help` is quick, and the packages are checked
before one of ours is imported.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from splitbrain.commands import load
from splitbrain.commands.app import Stopped, app, fail

_JUDGING = frozenset({"run", "check", "replay", "bugs", "campaign"})


def main() -> NoReturn:
    """The `splitbrain` command; never returns."""
    sys.exit(execute(sys.argv[1:]))


def _stop(number: int, _frame: object) -> NoReturn:
    raise Stopped(f"interrupted by {signal.Signals(number).name} before there was anything to judge")


def execute(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a glyph must not end a run on an old terminal
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    json = "--json" in arguments
    try:
        import splitbrain

        splitbrain.check_packages()
    except ImportError as e:
        return fail(str(e), 4, json=json)
    load()
    from harness.core.errors import SplitbrainError

    try:
        code = app(args=list(arguments), prog_name="splitbrain", standalone_mode=False)
    except SplitbrainError as e:
        return fail(str(e), e.exit_code, json=json)
    except Stopped as e:
        return fail(str(e), 130, json=json)
    except BrokenPipeError:
        return _unread(arguments)
    except SystemExit as e:  # click's own way to end there, with a code that would read as a violation
        if isinstance(e.__context__, BrokenPipeError):
            return _unread(arguments)
        raise
    except Exception as e:  # noqa: BLE001 - a bug of ours is exit 4 and one JSON object as well
        if hasattr(e, "format_message"):  # typer's own: a missing argument, an unknown option
            return fail(f"{_sentence(e.format_message())}; `splitbrain --help` shows the usage", 2, json=json)
        import traceback

        traceback.print_exc()
        return fail(f"a fault in splitbrain itself: {type(e).__name__}: {e}", 4, json=json)
    return code if isinstance(code, int) else 0


def _unread(arguments: Sequence[str]) -> int:
    """Nobody reads our output any more. After `splitbrain list | head` that is well; a verdict that
    did not arrive is none, and its code says that of no other."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 4 if arguments[:1] and arguments[0] in _JUDGING else 0


def _sentence(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text[:1].lower() + text[1:]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> int | None:
    if version:
        from splitbrain.registry import version as own_version

        sys.stdout.write(f"splitbrain {own_version()}\n")
        raise typer.Exit(0)
    if context.invoked_subcommand is None:
        from harness.core.errors import UsageError

        raise UsageError("a command is missing; `splitbrain --help` lists them")
    return None
