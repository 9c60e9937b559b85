"""What the commands share: the application they register with, the words of their signatures, runs by name."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from splitbrain.talk import print_json

if TYPE_CHECKING:
    from harness.core.spec import Spec

RUNS = Path("runs")
HISTORIES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".edn", ".edn.gz", ".edn.zst")

app = typer.Typer(
    name="splitbrain",
    help="Run a real consensus cluster, break it, and prove whether it kept its promises.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's directory, its id, or `latest`.")]
Offline = Annotated[bool, typer.Option("--offline", help="Use what is in the cache; download nothing.")]


class Stopped(BaseException):
    """A signal asked us to stop while no run was on. No `Exception`: nobody may take it for one."""


def find(text: str) -> Path:
    """The directory of a run that is named by its path, its id or `latest`."""
    from results.rundir import find_run

    return find_run(RUNS, text)


def results_of(run_dir: Path) -> dict[str, Any]:
    """Raises: UsageError for a run that has none."""
    from harness.core.errors import UsageError

    path = run_dir / "results.json"
    try:
        value = json_module.loads(path.read_bytes())
    except FileNotFoundError:
        raise UsageError(
            f"{run_dir} has no results.json: the run has not ended, or was killed; `splitbrain check"
            f" {run_dir}` judges its journal"
        ) from None
    except (OSError, ValueError) as e:
        raise UsageError(f"cannot read {path}: {e}; `splitbrain check {run_dir}` writes it again") from None
    if not isinstance(value, dict):
        raise UsageError(f"{path} is no JSON object; `splitbrain check {run_dir}` writes it again")
    return value


def fail(sentence: str, code: int, *, json: bool, spec: Spec | None = None) -> int:
    """Say why on stderr, and as an object on stdout where that was asked for."""
    sys.stderr.write(f"splitbrain: {sentence}\n")
    if json:
        from splitbrain.launch import error_results

        found = error_results(sentence, spec)
        print_json(found if code != 130 else {**found, "error": None, "interrupted": True})
    return code
