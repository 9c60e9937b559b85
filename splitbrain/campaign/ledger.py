"""The ledger of a night: what was started, and what came of it; the truth after a kill.

`ledger.jsonl` is only ever appended to, one object a line, each on disk (fsync) before anything is done on the
strength of it: a `start` names the run's id before there is a process. So at any moment a run is either in the
ledger, or has never been. A line that was torn was never acted on, and is cut away.

    {"event":"session", ...}                             somebody began to work on the night
    {"event":"start","cell","run","n", ...}              attempt `n` of a cell, as run `run`
    {"event":"end","run","how","exit","verdict", ...}    what came of it
    {"event":"stop","why"}                               no more cells are started, and why
    {"event":"note","text"}                              what else has to be told
    {"event":"beat"}                                     it goes on

Every line has `elapsed_s`, the time the campaign has been at work, over all sessions: CLOCK_MONOTONIC, so that
a clock that is set makes a night neither longer nor shorter.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from harness.core.errors import InfrastructureError
from results.tail import json_object
from splitbrain.campaign.home import sync_folder
from splitbrain.campaign.plan import Cell

NAME: Final = "ledger.jsonl"
# ended: it has a verdict or an error of its own. limit: it was ended at its wall-clock limit. cut-off: it was ended
# from outside, with the campaign or with its worker, and the cell has another attempt.
How = Literal["ended", "limit", "cut-off"]


class Attempt(msgspec.Struct, kw_only=True):
    """One run of a cell, as the ledger knows it. `how` None: it goes on, or nobody saw its end."""

    cell: str
    run: str
    n: int
    started: str = ""
    how: How | None = None
    exit: int | None = None
    verdict: str | None = None
    reason: str = ""
    run_dir: str | None = None  # below the night
    version: str | None = None
    ops: int | None = None
    seconds: float | None = None
    bytes: int = 0
    host: str | None = None
    findings: list[dict[str, Any]] = []
    kinds: dict[str, list[str]] = {}  # check -> kinds of its anomalies, where it is invalid
    rest: str | None = (
        None  # the verdict of an invalid run without its findings; None: not invalid, or not known
    )
    unmet: str | None = None  # how it misses what was expected, whatever a baseline says


class State(msgspec.Struct, kw_only=True):
    """A night as its ledger tells it. `drawn` are the cells that stand in no plan."""

    attempts: dict[str, Attempt] = {}
    drawn: dict[str, Cell] = {}
    sessions: int = 0
    elapsed_s: float = 0.0
    stop: str | None = None
    notes: list[str] = []
    last_at: str | None = None

    def done(self) -> set[str]:
        """The cells that have come to an end of their own."""
        return {a.cell for a in self.attempts.values() if a.how in ("ended", "limit")}

    def open(self) -> list[Attempt]:
        """The attempts whose end nobody has seen."""
        return [a for a in self.attempts.values() if a.how is None]

    def tries(self, cell: str) -> int:
        """How many attempts of a cell there are."""
        return sum(a.cell == cell for a in self.attempts.values())


def read(path: Path) -> State:
    """The state that a ledger tells, however its last line was torn; nothing of none."""
    try:
        data = path.read_bytes()
    except OSError:
        return State()
    return replay(line for raw in data.splitlines() if (line := json_object(raw)) is not None)


def replay(lines: Iterable[dict[str, Any]]) -> State:
    """The state after these lines."""
    state = State()
    for line in lines:
        follow(state, line)
    return state


def follow(state: State, line: dict[str, Any]) -> None:
    """Let the state know what a line says. What is not known is left alone."""
    state.elapsed_s = max(state.elapsed_s, float(line.get("elapsed_s") or 0.0))
    state.last_at = line.get("at") or state.last_at
    run = line.get("run")
    match line.get("event"):
        case "session":
            state.sessions += 1
            state.stop = None
        case "start":
            state.attempts[str(run)] = Attempt(
                cell=line["cell"], run=str(run), n=line["n"], started=line.get("at", "")
            )
            if line.get("drawn"):
                state.drawn[line["cell"]] = msgspec.convert(line["drawn"], Cell)
        case "end" if run in state.attempts:
            known = msgspec.to_builtins(state.attempts[run])
            told = {key: value for key, value in line.items() if key in known and key != "cell"}
            state.attempts[run] = msgspec.convert({**known, **told}, Attempt)
        case "stop":
            state.stop = line.get("why")
        case "note":
            state.notes.append(str(line.get("text")))


class Ledger:
    """The ledger of a night that somebody works on; `state` is what it tells so far.

    Raises: InfrastructureError when a line cannot be written whole; then what it would have said has not happened.
    """

    def __init__(self, night: Path, monotonic_s: Callable[[], float]) -> None:
        self.path = night / NAME
        self._clock = monotonic_s
        self.state = read(self.path)
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            self._cut_torn_line()
            sync_folder(night)
        except OSError as e:
            raise self._cannot(e) from None
        self._began_s, self._before_s = monotonic_s(), self.state.elapsed_s

    @property
    def elapsed_s(self) -> float:
        """How long the campaign has been at work, over all sessions."""
        return self._before_s + self._clock() - self._began_s

    def append(self, event: str, **more: Any) -> None:
        """Write a line, and have it on disk."""
        line: dict[str, Any] = {
            "event": event,
            **more,
            "elapsed_s": round(self.elapsed_s, 3),
            "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        }
        data = msgspec.json.encode(line) + b"\n"
        before = os.fstat(self._fd).st_size
        try:
            written = os.write(self._fd, data)
            if written != len(data):
                raise OSError(28, os.strerror(28))
            os.fsync(self._fd)
        except OSError as e:
            os.ftruncate(self._fd, before)
            raise self._cannot(e) from None
        follow(self.state, line)

    def close(self) -> None:
        os.close(self._fd)

    def _cut_torn_line(self) -> None:
        data = self.path.read_bytes()
        if data and not data.endswith(b"\n"):
            os.ftruncate(self._fd, data.rfind(b"\n") + 1)
            os.fsync(self._fd)

    def _cannot(self, e: OSError) -> InfrastructureError:
        return InfrastructureError(
            f"cannot write the campaign's ledger {self.path}: {e.strerror}; nothing is lost: free some space, and go on"
            " with `splitbrain campaign run --resume`"
        )
