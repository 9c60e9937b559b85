"""Campaigns for tests: files, and places that run nothing and come to what they are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

from splitbrain.campaign import home, runner
from splitbrain.campaign.cell import Order, Outcome, outcome
from splitbrain.campaign.ledger import Attempt
from splitbrain.campaign.plan import Cell
from splitbrain.campaign.runner import Night
from splitbrain.campaign.spec import Campaign, read

PLAIN = """
    name = "nightly"
    seed = 7
    free = "1MB"
    [defaults]
    system = "etcd"
    time = "5s"
    [[matrix]]
    workload = ["register", "set"]
    faults = ["none", "kill"]
    seeds = 5
"""

SMALL = PLAIN.replace("seeds = 5", "seeds = 2")
STALE = "etcd/linearizable/stale-read/read+write/kill"


class Killed(BaseException):
    """What SIGKILL looks like from inside: nothing is tidied up."""


def campaign(folder: Path, text: str = PLAIN) -> Campaign:
    """A campaign's file, read."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "nightly.toml"
    path.write_text(dedent(text))
    return read(path)


def valid(_cell: Cell) -> dict[str, Any]:
    """The results of a run that went well; a canary is found."""
    return {"verdict": "valid", "reason": "all is well", "ops": 100, "seconds": 1.0, "system": "etcd"}


def invalid(
    kind: str = "stale-read", explanation: str = "a read was stale", faults: str = "kill"
) -> dict[str, Any]:
    """The results of a run with one finding."""
    window = [{"f": "read"}, {"f": "write"}]
    anomaly = {"kind": kind, "explanation": explanation, "window": window, "key": "k"}
    check = {"verdict": "invalid", "reason": explanation, "anomalies": [anomaly]}
    return {
        "verdict": "invalid",
        "reason": explanation,
        "ops": 100,
        "seconds": 1.0,
        "system": "etcd",
        "version": "3.6.0",
        "faults": {faults: {}},
        "checks": {"linearizable": check},
    }


class Pretended:
    """Places that take two steps over a cell, two cells at once, and leave on disk what a run would leave."""

    def __init__(self, come_to: Callable[[Cell], dict[str, Any]] = valid, at_once: int = 2) -> None:
        self._come_to, self._at_once = come_to, at_once
        self.on: dict[str, tuple[Cell, Order, int]] = {}
        self.started: list[tuple[str, str, int]] = []  # run, cell, seed
        self.stops = 0

    def fits(self, cell: Cell) -> bool:
        return len(self.on) < self._at_once

    def start(self, cell: Cell, order: Order) -> None:
        assert order.run not in {run for run, _, _ in self.started}, "one id is started once"
        (Path(order.night) / "attempts" / order.run).mkdir()
        self.started.append((order.run, cell.id, order.spec["seed"]))
        self.on[order.run] = (cell, order, 0)

    def ended(self) -> list[Outcome]:
        found = []
        for run, (cell, order, steps) in list(self.on.items()):
            self.on[run] = (cell, order, steps + 1)
            if steps < 1 and not self.stops:
                continue
            del self.on[run]
            if self.stops:
                found.append(outcome(order, code=130, stopped=True, limited=None))
                continue
            results = invalid(faults="partition") if cell.kind == "canary" else self._come_to(cell)
            run_dir = Path(order.night) / "runs" / "etcd-register" / f"20260101T000000Z-1-{run}"
            (run_dir / "data" / "n1").mkdir(parents=True)
            (run_dir / "data" / "n1" / "wal").write_bytes(b"x" * 1000)
            (run_dir / "report.html").write_text("report")
            (run_dir / "report.values").write_bytes(b"v" * 500)
            for path in (run_dir, Path(order.night) / "attempts" / run):
                (path / "results.json").write_text(json.dumps(results))
            found.append(outcome(order, code=0, stopped=False, limited=None))
        return found

    def stop(self) -> None:
        self.stops += 1

    def running(self) -> list[str]:
        return list(self.on)

    def close(self) -> None:
        """Nothing is held."""


class Quiet:
    """Shows nothing, and remembers what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def update(self, night: object) -> None:
        """Nothing is shown."""

    def ended(self, cell: Cell, attempt: Attempt) -> None:
        """Nothing is shown."""

    def say(self, text: str) -> None:
        self.said.append(text)


def spend(
    asked: Campaign,
    folder: Path,
    come_to: Callable[[Cell], dict[str, Any]] = valid,
    *,
    resume: bool = False,
    shard: tuple[int, int] | None = None,
    change: Callable[[Night, Pretended], None] | None = None,
    max_failures: int | None = None,
) -> dict[str, Any]:
    """A night of pretended runs; its summary."""
    places = Pretended(come_to)
    with home.held(folder):
        path, _ = runner.open_night(asked, folder, resume=resume, seed=None, shard=shard)
        night = Night(asked, path, places, Quiet(), max_failures=max_failures)
        if change is not None:
            change(night, places)
        try:
            night.work()
            return night.conclude()
        finally:
            night.close()


def kill_is_stale(cell: Cell) -> dict[str, Any]:
    return invalid() if cell.spec["faults"] == "kill" else valid(cell)
