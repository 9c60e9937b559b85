"""A night from its first cell to its summary: what is started when, and what is written down before.

The loop knows places by their protocol, the ledger, and a clock that nobody sets. Each step is on disk before the next
one depends on it: the plan before the first cell, a run's id before its process, its end before the cell
counts as done. So the night can be killed at any moment, and goes on from its ledger: what had ended stays,
what was cut off is kept, shown and healed, and its cell gets another attempt under a new id with the same
seed. Nothing else is ever tried again.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from harness.core.errors import InfrastructureError, UsageError
from harness.core.exits import ERROR, VALID, VIOLATION
from results.findings import Finding, findings
from results.rundir import new_run_id
from splitbrain import baseline as baselines
from splitbrain import expecting, registry
from splitbrain.campaign import compare, home, ledger, notify, retention, summary
from splitbrain.campaign.baseline import Baseline
from splitbrain.campaign.cell import Order, Outcome, run_dir_of, settle
from splitbrain.campaign.ledger import Attempt, Ledger
from splitbrain.campaign.places import Places
from splitbrain.campaign.plan import Cell, Plan, endless, plan
from splitbrain.campaign.spec import Campaign

CUT_OFF_MOST: Final = 3  # attempts of one cell that end with their worker, before it is given up
_look_s: Final = 0.2
_beat_s: Final = 30.0  # what a kill can take of the time at work that was counted
_reason: Final = 400


class Show(Protocol):
    """Who shows how the night goes."""

    def update(self, night: Night) -> None:
        """It goes on."""

    def ended(self, cell: Cell, attempt: Attempt) -> None:
        """An attempt has come to its end."""

    def say(self, text: str) -> None:
        """One line."""


class Night:
    """A night that is worked on."""

    def __init__(
        self,
        campaign: Campaign,
        folder: Path,
        places: Places,
        show: Show,
        *,
        max_failures: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.campaign, self.folder, self.home = campaign, folder, folder.parent
        self.plan = home.read_plan(folder)
        self.places, self.show = places, show
        self.baseline = Baseline.read(campaign.baseline)
        self.ledger = Ledger(folder, clock)
        self._max_failures = max_failures or campaign.max_failures
        self._cells = {cell.id: cell for cell in self.plan.cells}
        self._given_up: set[str] = set()
        self._again: list[tuple[Cell, str]] = []  # started on paper only, and cells that were cut off
        self._asked: list[int] = []
        self._teller = notify.Teller(campaign.notify)
        earlier = [s for n in home.nights(self.home) if n < folder and (s := home.read_summary(n))]
        self.before = compare.known_of(earlier[-1] if earlier else None)
        self._taken = sum(int(s.get("bytes") or 0) for s in earlier)

    @property
    def state(self) -> ledger.State:
        """What the ledger tells."""
        return self.ledger.state

    def cell(self, ident: str) -> Cell:
        """A cell of the plan, or one that was drawn."""
        return self._cells.get(ident) or self.state.drawn[ident]

    def work(self) -> None:
        """Start what there is to start, until it has ended or there is a reason to stop.

        Raises: InfrastructureError when the ledger cannot be written; what goes on has been ended by then.
        """
        session = {"host": socket.gethostname(), "splitbrain": registry.version()}
        try:
            with _signals(self._asked):
                self.ledger.append("session", **session)
                self._take_up()
                queue = self._queue()
                heard = 0
                while True:
                    for outcome in self.places.ended():
                        self._end(outcome)
                    heard = self._heed(heard)
                    self._note(self._teller.problems())
                    if self.state.stop is None:
                        self._start_what_fits(queue)
                    if not self.places.running() and (self.state.stop or not self._waiting(queue)):
                        for outcome in self.places.ended():
                            self._end(outcome)
                        if self.state.stop or not self._waiting(queue):
                            break
                    if self.ledger.elapsed_s - self.state.elapsed_s > _beat_s:
                        self.ledger.append("beat")
                    self.show.update(self)
                    time.sleep(_look_s)
        except BaseException:
            self._abandon()
            raise

    def _waiting(self, queue: _Queue) -> bool:
        return bool(self._again) or queue.peek() is not None

    def _heed(self, heard: int) -> int:
        """Ctrl-C: no more cells, and those that go on heal, are judged and end. A second time: at once."""
        asked = len(self._asked)
        if asked > heard:
            self.places.stop()
            if heard == 0:
                self.show.say("stopping: cells that go on heal and end; once more to stop at once")
                self._stop("interrupted")
            else:
                self.show.say("stopping at once")
        return asked

    def _stop(self, why: str) -> None:
        if self.state.stop is None:
            self.ledger.append("stop", why=why)

    def _abandon(self) -> None:
        """Nothing may outlive us unseen: what goes on is ended; its end is read from its directory later."""
        for _ in range(2):
            self.places.stop()
        deadline = time.monotonic() + 30.0
        while self.places.running() and time.monotonic() < deadline:
            self.places.ended()
            time.sleep(_look_s)

    def _take_up(self) -> None:
        """The attempts whose end nobody has seen: what they came to, or that they were cut off."""
        for attempt in self.state.open():
            cell = self.cell(attempt.cell)
            if not (self.folder / "attempts" / attempt.run).exists():  # killed before it was started
                self._again.append((cell, attempt.run))
                continue
            self.show.say(
                f"{cell.id}: run {attempt.run} was under way when the campaign ended; clearing up after it"
            )
            self._end(settle(self._order(cell, attempt.run)), counts=False)

    def _queue(self) -> _Queue:
        """Cells that have not come to an end, each once."""
        busy = {cell.id for cell, _ in self._again}
        done = self.state.done() | busy | {a.cell for a in self.state.open()}
        fixed = (cell for cell in self.plan.cells if cell.id not in done)
        return _Queue(fixed, self._endless() if self.plan.endless else iter(()))

    def _endless(self) -> Iterator[Cell]:
        busy = {cell.id for cell, _ in self._again}
        for ident, cell in self.state.drawn.items():
            if ident not in self.state.done() | busy:
                yield cell
        for cell in endless(self.campaign, self.plan.seed, len(self.state.drawn), self.plan.shard):
            if cell.id not in self.state.drawn:
                yield cell

    def _start_what_fits(self, queue: _Queue) -> None:
        while self.state.stop is None:
            cell = self._again[0][0] if self._again else queue.peek()
            if cell is None or not self.places.fits(cell):
                return
            if (why := self._why_not()) is not None:
                self._stop(why)
                return
            if self._again:
                cell, run = self._again.pop(0)
                if run not in self.state.attempts:
                    self._note_start(cell, run)
            else:
                queue.take()
                run = self._new_id()
                self._note_start(cell, run)
            self.places.start(cell, self._order(cell, run))

    def _note_start(self, cell: Cell, run: str) -> None:
        drawn = {} if cell.id in self._cells else {"drawn": msgspec.to_builtins(cell)}
        self.ledger.append("start", cell=cell.id, run=run, n=self.state.tries(cell.id) + 1, **drawn)

    def _new_id(self) -> str:
        while (run := new_run_id()) in self.state.attempts:
            pass
        return run

    def _order(self, cell: Cell, run: str) -> Order:
        return Order(run=run, night=str(self.folder.resolve()), spec=cell.spec, limit_s=cell.limit_s)

    def _why_not(self) -> str | None:
        """Why no more cells are started."""
        budget = self.campaign.budget_s
        if budget is not None and self.ledger.elapsed_s >= budget:
            return f"the budget of {budget:g} s is over"
        failures = sum(self.failed(a) for a in self.state.attempts.values())
        if self._max_failures is not None and failures >= self._max_failures:
            return f"{failures} attempts failed, and --max-failures is {self._max_failures}"
        taken = self._taken + sum(a.bytes for a in self.state.attempts.values())
        full = retention.room(self.home, taken, self.campaign.disk_mb, self.campaign.free_mb)
        if full is not None:
            freed = retention.by_age(self.home, self.campaign.keep, datetime.now(UTC))
            self._taken -= min(self._taken, freed.bytes)
            if freed.bytes:
                return self._why_not()
        return None if full is None else f"the disk is full: {full}"

    def failed(self, attempt: Attempt) -> bool:
        """Whether an attempt is a failure: a violation that no baseline knows, or an error. A canary is none."""
        if self.cell(attempt.cell).kind == "canary":
            return False
        return summary.code_of(attempt, self.baseline) in (VIOLATION, ERROR)

    def _end(self, outcome: Outcome, *, counts: bool = True) -> None:
        attempt = self.state.attempts[outcome.run]
        cell, results = self.cell(attempt.cell), outcome.results
        run_dir = run_dir_of(self.folder, outcome.run)
        found = [] if cell.kind == "canary" else _unexpected(results, outcome.code)
        fresh = self._fresh([f.signature for f in found])
        self.ledger.append(
            "end",
            run=outcome.run,
            how=outcome.how,
            exit=outcome.code,
            verdict=results.get("verdict"),
            reason=str(results.get("reason") or "")[:_reason],
            version=results.get("version"),
            ops=results.get("ops"),
            seconds=results.get("seconds"),
            host=outcome.host,
            findings=[{"signature": f.signature, "explanation": f.explanation[:_reason]} for f in found],
            kinds=_kinds(results),
            **_beside(results),
            **self._made_small(run_dir, results),
        )
        ended = self.state.attempts[outcome.run]
        self.show.ended(cell, ended)
        for signature in fresh:
            report = str(run_dir / "report.html") if run_dir is not None else None
            self._tell(*notify.new_finding(self.campaign.name, signature, report, outcome.run))
        if outcome.how == "cut-off":
            self._cut_off(cell, counts=counts)

    def _cut_off(self, cell: Cell, *, counts: bool) -> None:
        """An attempt that was ended from outside is kept, and the cell has another one."""
        tries = sum(a.cell == cell.id and a.how == "cut-off" for a in self.state.attempts.values())
        if self._asked:
            return
        if counts and tries >= CUT_OFF_MOST:
            self._given_up.add(cell.id)
            self.ledger.append(
                "note", text=f"{cell.id} ({cell.label}) was cut off {tries} times, and is given up"
            )
            return
        self._again.append((cell, self._new_id()))

    def _made_small(self, run_dir: Path | None, results: dict[str, Any]) -> dict[str, Any]:
        if run_dir is None:
            return {"run_dir": None, "bytes": 0}
        with contextlib.suppress(OSError):
            retention.at_once(run_dir, results.get("verdict"))
        return {"run_dir": run_dir.relative_to(self.folder).as_posix(), "bytes": retention.size(run_dir)}

    def _fresh(self, signatures: list[str]) -> list[str]:
        """Of these, the ones that nobody has been told of."""
        known = {k.signature for k in self.before}
        known |= {f["signature"] for a in self.state.attempts.values() for f in a.findings}
        return [s for s in signatures if s not in known and self.baseline.entry(s) is None]

    def _tell(self, event: str, text: str, more: dict[str, Any]) -> None:
        """A shard tells nobody: it sees a part, and no nights before. Who merges the shards tells."""
        if self.plan.shard is not None:
            return
        self._teller.tell(event, text, {"campaign": self.campaign.name, **more})

    def _note(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.show.say(text)
            self.ledger.append("note", text=text)

    def so_far(self) -> dict[str, Any]:
        """The summary object as it stands, which nothing is written of."""
        asked = self.campaign
        return summary.build(self.folder, asked.canary.bug, self.plan, self.state, self.before, self.baseline)

    def conclude(self) -> dict[str, Any]:
        """Compare, write the summaries, tell of a canary that was not found, reduce what is old.

        Who could not be told stands in the summary as well, which is there before anyone is waited for.

        Raises: InfrastructureError when the summary cannot be written.
        """
        told = self._conclude()
        if told["canary"]["verdict"] == "not found":
            self._tell("canary", told["canary"]["sentence"], {})
        if problems := self._teller.finish():
            self._note(problems)
            told = self._conclude()
        freed = retention.by_age(self.home, self.campaign.keep, datetime.now(UTC))
        for problem in freed.problems:
            self.show.say(problem)
        return told

    def _conclude(self) -> dict[str, Any]:
        return summary.conclude(self.folder, self.campaign, self.plan, self.state, self.before, self.baseline)

    def close(self) -> None:
        """Let go of the ledger and the places. Of a night that broke off everyone is told all the same."""
        for problem in self._teller.finish():
            self.show.say(problem)
        self.places.close()
        self.ledger.close()


class _Queue:
    """Cells to be started: those planned, then those drawn, one ahead."""

    def __init__(self, *cells: Iterator[Cell]) -> None:
        self._cells = (cell for source in cells for cell in source)
        self._next: Cell | None = None

    def peek(self) -> Cell | None:
        """The next one; None: there is none."""
        if self._next is None:
            self._next = next(self._cells, None)
        return self._next

    def take(self) -> None:
        """It has been started."""
        self._next = None


def _unexpected(results: dict[str, Any], code: int) -> list[Finding]:
    """The findings of a run but for those that it was made to have."""
    words = results.get("expected") or ()
    if code == VALID and results.get("expect") == "invalid":
        return []
    return [f for f in findings(results) if not expecting.is_named(f, words)]


def _beside(results: dict[str, Any]) -> dict[str, Any]:
    """What an invalid run comes to where all its findings turn out to be known."""
    if results.get("verdict") != "invalid":
        return {}
    known = [f.signature for f in findings(results)]
    unmet = expecting.unmet(results, results.get("expected") or (), known)
    return {"rest": baselines.rest(results), **({"unmet": unmet} if unmet else {})}


def _kinds(results: dict[str, Any]) -> dict[str, list[str]]:
    return {
        name: sorted({str(a.get("kind")) for a in check.get("anomalies") or ()})
        for name, check in (results.get("checks") or {}).items()
        if check.get("verdict") == "invalid"
    }


@contextlib.contextmanager
def _signals(asked: list[int]) -> Iterator[None]:
    """Signals that ask us to stop are noted, and nothing is torn apart."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {n: signal.signal(n, lambda number, _frame: asked.append(number)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def open_night(
    campaign: Campaign, folder: Path, *, resume: bool, seed: int | None, shard: tuple[int, int] | None
) -> tuple[Path, list[Path]]:
    """The night to be worked on, new or taken up again, and the earlier ones that were cut off and stay so.

    Raises: UsageError for a night that cannot go on; InfrastructureError when none can be made.
    """
    nights = home.nights(folder)
    unfinished = [n for n in nights if summary.unfinished(n)]
    source = hashlib.sha256(campaign.path.read_bytes()).hexdigest()
    if resume and unfinished and unfinished[-1] == nights[-1]:
        night = nights[-1]
        if (before := home.read_plan(night)).endless and before.source != source:
            raise UsageError(
                f"{campaign.path} has changed since {night.name} began, and its samples would be drawn from another"
                " file; start a new night without --resume"
            )
        return night, [n for n in unfinished[:-1] if home.read_summary(n) is None]
    drawn = campaign.seed if seed is None else seed
    made = plan(campaign, secrets.randbelow(2**32) if drawn is None else drawn, shard)
    made = msgspec.structs.replace(made, source=source)
    night = home.new_night(folder, made, datetime.now(UTC))
    return night, [n for n in unfinished if home.read_summary(n) is None]


def close_cut_off(campaign: Campaign, nights: list[Path], show: Show) -> None:
    """Write the summary of nights that were killed and not taken up again: they count as far as they came."""
    from splitbrain.campaign.places import Here

    for folder in nights:
        try:
            night = Night(campaign, folder, Here(), show)
        except (UsageError, InfrastructureError) as e:
            show.say(f"{folder} is left as it is: {e}")
            continue
        try:
            for attempt in night.state.open():
                night._end(  # noqa: SLF001 - a night of our own making
                    settle(Order(run=attempt.run, night=str(folder.resolve()), spec={}, limit_s=0)),
                    counts=False,
                )
            night.ledger.append("stop", why=summary.CUT_OFF)
            night.conclude()
        finally:
            night.close()


def new_plan(campaign: Campaign, seed: int | None) -> Plan:
    """A night's plan that nothing is made of yet."""
    drawn = campaign.seed if seed is None else seed
    return plan(campaign, secrets.randbelow(2**32) if drawn is None else drawn)
