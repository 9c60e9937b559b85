"""Exports: a run, or a history, in a form that somebody else reads.

A form is a module of this folder with one function, `write(source, path)`, and a line in `FORMS`, from which the
command line takes its flags and their help. `path` is new, and takes its place under the name that was asked for once
`write` has returned (`results.writing.whole`); a form need not care for what happens when it fails. Nothing heavy is
imported before a form is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from results.report_data import Run


class Form(NamedTuple):
    """A form. `binary` ones have a file of their own by default, others go to stdout; `run_only` ones say what a bare
    history knows nothing of; `same` are the endings of files that have the form already; `extra` is the optional part
    of splitbrain that is needed, with the package in it."""

    name: str
    summary: str
    suffix: str
    binary: bool = False
    run_only: bool = False
    same: tuple[str, ...] = ()
    extra: tuple[str, str] | None = None

    def writer(self) -> Callable[[Source, Path], None]:
        """The function that writes it. Raises: UsageError when the optional part is not installed."""
        from harness.core.errors import UsageError

        try:
            write: Callable[[Source, Path], None] = import_module(f"{__name__}.{self.name}").write
        except ModuleNotFoundError as e:
            if self.extra is None or e.name is None or e.name.partition(".")[0] != self.extra[1]:
                raise
            raise UsageError(
                f"export --{self.name} needs {self.extra[1]}, which is not installed;"
                f" `pip install 'splitbrain[{self.extra[0]}]'` brings it"
            ) from None
        return write


FORMS: Final = (
    Form("csv", "One row an operation, for spreadsheets.", "csv"),
    Form(
        "parquet",
        "One row an operation, typed columns.",
        "parquet",
        binary=True,
        extra=("parquet", "pyarrow"),
    ),
    Form("perfetto", "A trace for ui.perfetto.dev: operations, roles, faults, violations.", "trace.json"),
    Form("jepsen", "As Jepsen's history.edn.", "edn", same=(".edn", ".edn.gz", ".edn.zst")),
    Form("junit", "The checks as JUnit XML.", "xml", run_only=True),
    Form("svg", "Latency and rate over time, with the faults.", "svg", extra=("plots", "matplotlib")),
    Form("png", "The same as a picture.", "png", binary=True, extra=("plots", "matplotlib")),
    Form("bundle", "One archive for the system's maintainers.", "tar.gz", binary=True, run_only=True),
)


class Source:
    """What is exported: `path` is the run's directory, or a history file's (`run_dir` is then None).

    `history` is a `history.jsonl` in the order of real time, compressed or not; None of a run that ended before it
    had one. `folder` has that history, and all that a run left.
    """

    def __init__(self, path: Path, *, folder: Path, history: Path | None) -> None:
        self.path = path
        self.run_dir = path if path.is_dir() else None
        self.folder = folder
        self.history = history

    @cached_property
    def run(self) -> Run:
        """All that there is, read as tolerantly as the report reads it; of a bare history the operations."""
        from results.report_data import read_run

        return read_run(self.folder)

    @cached_property
    def about(self) -> dict[str, Any]:
        """Spec and results, whichever there are, in one; of a bare history nothing."""
        from results.rundir import read_object

        both = [read_object(self.folder / f"{name}.json") or {} for name in ("spec", "results")]
        return {k: v for values in both for k, v in values.items() if v is not None}

    @property
    def name(self) -> str:
        """What a file is called that was made of it: `etcd-register-x7we36`, or the history's own name."""
        if self.run_dir is None:
            return self.path.name.partition(".")[0] or "history"
        from results.rundir import run_id

        about = (self.about.get("system"), self.about.get("workload"), run_id(self.path))
        return "-".join(re.sub(r"[^\w.-]+", "_", str(x)) for x in about if x)

    def needed(self) -> Path:
        """The history. Raises: UsageError when there is none."""
        from harness.core.errors import UsageError

        if self.history is None:
            raise UsageError(f"{self.path} has no history: it ended before its first operation")
        return self.history


def summary(source: Source) -> dict[str, Any]:
    """What a run was, in a few words that go with every form that has room for them; no key without a value."""
    named = (
        "system",
        "version",
        "workload",
        "provider",
        "nodes",
        "seed",
        "started",
        "verdict",
        "reason",
        "command",
    )
    return {name: source.about[name] for name in named if source.about.get(name) is not None}
