"""What `splitbrain bugs` does between its flags and its exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from harness.core.errors import UsageError
from harness.core.exits import overall
from harness.core.spec import Spec
from splitbrain import running, series
from splitbrain.bugs import data, runner, table
from splitbrain.talk import console, print_json, say

KEPT: Final = Path(".bugs")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The flags. `out` None: `runs` for one pair, `.bugs` for a series."""

    name: str | None
    repeat: int | None
    seed: str | None
    every: bool
    write: Path | None
    out: Path | None
    runs: Path
    admission: bool
    offline: bool
    json: bool

    @property
    def several(self) -> bool:
        """Whether runs are kept, and those missing made."""
        return self.every or self.repeat is not None


def answer(asked: Asked) -> int:
    """List, run or tabulate; the exit code.

    Raises: UsageError for flags that do not go together, or a bug that nobody knows.
    """
    _refuse(asked)
    known = data.known()
    chosen = [data.bug(asked.name)] if asked.name is not None else list(known.values())
    commit, where = series.revision(), asked.out or KEPT

    def run_one(spec: Spec, folder: Path) -> dict[str, Any]:
        version = running.exact_version(spec, offline=asked.offline)
        exact = msgspec.structs.replace(spec, version=version, admission=asked.admission)
        return running.run_one(exact, folder, json=asked.json, brief=asked.several).results

    code = 0
    if asked.several:
        if series.changed():
            say(f"note: this checkout holds changes that commit {series.short(commit)} does not have")
        tallies = runner.run_series(chosen, asked.repeat or 1, where, commit, run_one, say)
        code = overall(t.code() for t in tallies)
    elif asked.name is not None:
        tallies = [runner.run_pair(chosen[0], asked.seed, asked.out or asked.runs, commit, run_one, say)]
        code = tallies[0].code()
    else:
        tallies = runner.collected(chosen, where, commit)
    if asked.write is not None:
        table.write(asked.write, runner.collected(list(known.values()), where, commit))
        say(f"{asked.write} written")
    if asked.json:
        print_json(table.results(tallies, code))
        return code
    page = console()
    if asked.name is None and not asked.several:
        table.print_bugs(page, chosen)
    if not page.is_terminal:
        page.width = max(page.width, table.WIDTH)  # of a file, which need not fit a screen
    table.print_tallies(page, tallies)
    if asked.name is not None or asked.several:
        say(table.reason(tallies))
    return code


def _refuse(asked: Asked) -> None:
    if asked.every and asked.name is not None:
        raise UsageError(f"bugs takes an id or --all; leave one of {asked.name!r} and --all out")
    if asked.repeat is not None and not asked.every and asked.name is None:
        raise UsageError(
            f"bugs --repeat {asked.repeat} needs an id or --all; `splitbrain bugs` lists the ids"
        )
    if asked.seed is not None and (asked.several or asked.name is None):
        raise UsageError(
            f"--seed {asked.seed} is for one pair; those of a series come from the commit's hash"
        )
