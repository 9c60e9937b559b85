"""How many cells go on at once, what is on disk before one is started, and what is shown meanwhile."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from splitbrain.campaign import home, ledger, places, runner
from splitbrain.campaign.cell import Order, run_dir_of, toml
from splitbrain.campaign.display import Live, Plain
from splitbrain.campaign.plan import Cell, plan
from tests.splitbrain.campaign.made import PLAIN, Pretended, campaign, invalid, valid


class Idle:
    """A process that never ends."""

    def __init__(self, order: Order) -> None:
        self.order = order

    def poll(self) -> None:
        return None


@pytest.mark.parametrize(
    ("bounds", "together"),
    [
        ({"cores_most": 2.0}, 2),
        ({"cores_most": 8.0}, 4),
        ({"cores_most": 8.0, "memory_most_mb": 1800.0}, 2),
        ({"cores_most": 8.0, "at_once": 3}, 3),
        ({"cores_most": 0.1}, 1),  # more than there is: alone
    ],
)
def test_within_cores_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bounds: dict[str, Any], together: int
) -> None:
    monkeypatch.setattr(places, "Process", Idle)
    monkeypatch.setattr(places, "cores", lambda: 4)
    monkeypatch.setattr(places, "memory_mb", lambda: 16_000.0)
    (cell,) = [c for c in plan(campaign(tmp_path, PLAIN), 1).cells if c.id == "m1-0001-001"]
    cell = msgspec.structs.replace(cell, cores=0.9, memory_mb=850.0)
    here = places.Here(**bounds)
    for n in range(10):
        if here.fits(cell):
            here.start(cell, Order(run=f"run{n}", night=str(tmp_path), spec={}, limit_s=1))
    assert len(here.running()) == together


def test_a_run_is_in_the_ledger_on_disk_before_it_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitbrain.campaign.runner._look_s", 0)
    synced: dict[int, int] = {}
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        synced[os.fstat(fd).st_ino] = os.fstat(fd).st_size

    monkeypatch.setattr(os, "fsync", fsync)

    class Looks(Pretended):
        def start(self, cell: Cell, order: Order) -> None:
            path = Path(order.night) / ledger.NAME
            line = f'"cell":"{cell.id}","run":"{order.run}"'.encode()
            assert line in path.read_bytes()[: synced[path.stat().st_ino]]
            super().start(cell, order)

    asked = campaign(tmp_path, PLAIN.replace("seeds = 5", "seeds = 1"))
    path, _ = runner.open_night(asked, tmp_path / "c", resume=False, seed=None, shard=None)
    night = runner.Night(asked, path, Looks(), Plain(Console(file=io.StringIO())))
    night.work()
    night.close()
    assert len(night.state.done()) == 5


@pytest.mark.parametrize("kind", [Live, Plain])
def test_what_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Live] | type[Plain]
) -> None:
    monkeypatch.setattr("splitbrain.campaign.runner._look_s", 0)
    monkeypatch.setattr("splitbrain.campaign.display._every_s", 0)
    out = io.StringIO()
    show = kind(Console(file=out, force_terminal=kind is Live, width=150))

    def come_to(cell: Cell) -> dict[str, Any]:
        return invalid(explanation="[red]markup") if cell.id == "m1-0002-001" else valid(cell)

    asked = campaign(tmp_path, PLAIN.replace("seeds = 5", "seeds = 1"))
    path, _ = runner.open_night(asked, tmp_path / "c", resume=False, seed=None, shard=None)
    night = runner.Night(asked, path, Pretended(come_to), show)
    night.work()
    night.close()
    show.close()
    text = out.getvalue()
    assert "✘ invalid" in text
    assert "etcd/linearizable/stale-read/read+write/kill" in text
    assert "✔ found" in text
    if kind is Live:
        assert path.name in text
        assert "5 of 5" in text or "4 of 5" in text
    else:
        assert text.count("✔ valid") == 3


def test_a_spec_is_written_as_it_is_read(tmp_path: Path) -> None:
    from splitbrain import spec as specs

    given = {"system": "etcd", "faults": "kill,pause", "time": "20s", "seed": 3, "overlap": 0}
    given["opt"] = {"reads": "serializable", "schedule.step_s": 1.5}
    path = tmp_path / "spec.toml"
    path.write_text(toml(given))
    assert specs.resolve(path, {}) == specs.resolve(None, given)
    assert run_dir_of(tmp_path, "aaaaaa") is None
    assert home.number(tmp_path) == 0
