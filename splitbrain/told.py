"""What a command tells besides its card: JUnit XML, and on GitHub a step's summary and annotations.

A command opens one `Telling` for the runs that it is about to make. The XML is there from the beginning on, with an
error in place of each run that is still to come: a job that is killed in between has left no file that looks green,
least of all an older one. On GitHub the summary goes to the file that `GITHUB_STEP_SUMMARY` names, and annotations to
stderr as workflow commands; never to stdout, where `--json` has its one object.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

ACTIONS: Final = "GITHUB_ACTIONS"
SUMMARY: Final = "GITHUB_STEP_SUMMARY"
_annotations: Final = 10  # of a kind, which is what GitHub shows of a step
_bytes: Final = 900_000  # of a step's summary, of which GitHub takes a mebibyte
_chars: Final = 4000


class Telling:
    """What is told of the runs of one command, `planned` in number; `first` is a results object that says what is
    known of them before they have begun."""

    def __init__(self, junit: Path | None, planned: int, first: Mapping[str, Any]) -> None:
        self.junit = junit
        self.planned = planned
        self.first = first
        self.results: list[Mapping[str, Any]] = []
        self.lost = False  # whether the file of `--junit` could not be written any more

    def begin(self) -> None:
        """Raises: InfrastructureError when the file of `--junit` cannot be written."""
        self._write([self.first], self.planned)

    def add(self, results: Mapping[str, Any]) -> None:
        """One run more has ended. A file that cannot be written any more is said, and never touches what was found."""
        from harness.core.errors import InfrastructureError

        self.results.append(results)
        try:
            self._write(self.results, self.planned)
        except InfrastructureError as e:
            self.lost = True
            sys.stderr.write(f"splitbrain: {e}\n")

    def failed(self, results: Mapping[str, Any]) -> None:
        """It came to no run, or to no more: `results` say why. Raises nothing: there is an error to tell already."""
        from harness.core.errors import InfrastructureError

        self.results.append(results)
        with contextlib.suppress(InfrastructureError):
            self._write(self.results, self.planned)
        self.end()

    def end(self) -> None:
        """The summary and the annotations of all, where GitHub asks for them."""
        runs = self.results or [self.first]
        announce(notices(runs))
        if os.environ.get(SUMMARY):
            from results.markdown import summary

            step_summary(summary(runs, self.planned))

    def _write(self, runs: Sequence[Mapping[str, Any]], planned: int) -> None:
        if self.junit is not None:
            from results.junit import write_junit

            write_junit(self.junit, runs, planned=planned)


def announce(lines: Sequence[str]) -> None:
    """Print workflow commands where GitHub reads them, and nowhere else."""
    if os.environ.get(ACTIONS) == "true":
        sys.stderr.write("".join(f"{line}\n" for line in lines))
        sys.stderr.flush()


def notice(kind: str, title: str, text: str) -> str:
    """One workflow command; `kind` is error, warning or notice."""
    from results.report_html import plain

    return f"::{kind} title={_escaped(plain(title, 200), ':,')}::{_escaped(plain(text, _chars))}"


def of_a_night(told: Mapping[str, Any]) -> list[str]:
    """Workflow commands for a campaign's summary: what it came to, and each finding that is new."""
    from harness.core.exits import UNKNOWN, VALID

    if told["exit"] == VALID:
        return []
    name = f"splitbrain: campaign {told['campaign']}"
    new = [
        notice("error", f"{name}, new", f"{f['signature']}: {f['explanation']}")
        for f in told["findings"]
        if f["status"] == "new" and not f["baseline"]
    ]
    kind = "warning" if told["exit"] == UNKNOWN else "error"
    return [notice(kind, name, told["reason"]), *_some(new, _annotations - 1)]


def step_summary(text: str) -> None:
    """Append Markdown to the summary of GitHub's step, where there is one; that it failed is said on stderr."""
    if place := os.environ.get(SUMMARY):
        short = text.encode("utf-8", "replace")[:_bytes].decode("utf-8", "ignore")
        try:
            with Path(place).open("a", encoding="utf-8") as file:
                file.write(short)
        except OSError as e:  # what is told never touches what was found
            sys.stderr.write(f"splitbrain: the step's summary cannot be written to {place}: {e.strerror}\n")


def notices(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    r"""Workflow commands for what is no success: a violation, an error and an expectation that was not met are errors,
    unknown is a warning.

    >>> notices([{"verdict": "unknown", "reason": "100% vacuous:\n1 of 2", "system": "etcd"}])
    ['::warning title=splitbrain%3A etcd unknown::100%25 vacuous:%0A1 of 2']
    """
    from harness.core.exits import UNKNOWN, VALID, exit_code

    found: dict[str, list[str]] = {"error": [], "warning": []}
    for results in runs:
        code = exit_code(results)
        if code == VALID:
            continue
        kind = "warning" if code == UNKNOWN else "error"
        what = "error" if results.get("error") else str(results.get("verdict"))
        about = " ".join(str(results[k]) for k in ("system", "version", "workload") if results.get(k))
        text = str(results.get("error") or results.get("reason") or "")
        if results.get("verdict") == "valid":
            text = f"a violation was expected, and none was found: {text}"
        if results.get("command"):
            text += f"\nagain: {results['command']}"
        found[kind].append(notice(kind, f"splitbrain: {about} {what}", text))
    return [line for lines in found.values() for line in _some(lines)]


def _some(lines: list[str], most: int = _annotations) -> list[str]:
    left = len(lines) - most
    if left <= 0:
        return lines
    kind = lines[0].partition(" ")[0]
    return [*lines[: most - 1], f"{kind} title=splitbrain::and {left + 1} more like these"]


def _escaped(text: str, more: str = "") -> str:
    """Text of a workflow command; in a property `more` must not stand either."""
    for character in ("%", "\r", "\n", *more):
        text = text.replace(character, f"%{ord(character):02X}")
    return text
