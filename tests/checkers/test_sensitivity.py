"""The share of planted violations that is seen: all of them where nothing overlaps, fewer where much does."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.histories import Shape, write
from checkers import sensitivity
from splitbrain.runner import check


def measured(tmp_path: Path, clients: int) -> dict[str, sensitivity.Share]:
    path = tmp_path / "history.jsonl"
    write(Shape(ops=1000, clients=clients, keys=10), path)
    found = sensitivity.measure(path, "cas-register")
    assert found is not None
    return found


def test_one_client_hides_no_stale_read(tmp_path: Path) -> None:
    found = measured(tmp_path, 1)
    assert found["stale-read"] == sensitivity.Share(planted=200, detected=200)
    # A write that nobody reads before the next is lost unseen.
    assert 20 < found["lost-write"].detected < found["lost-write"].planted


def test_overlap_hides_some(tmp_path: Path) -> None:
    alone, crowd = measured(tmp_path, 1)["stale-read"], measured(tmp_path, 40)["stale-read"]
    assert alone.planted == crowd.planted
    assert 0 < crowd.detected < alone.detected


def test_nothing_is_seen_where_nothing_is_planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copies themselves are as valid as the history: what is seen is what was planted."""
    plant = sensitivity._Key.__init__

    def harmless(self: sensitivity._Key, *args: object) -> None:
        plant(self, *args)  # type: ignore[arg-type]
        self.stale = self.lost = [([], None)]

    monkeypatch.setattr(sensitivity._Key, "__init__", harmless)
    found = measured(tmp_path, 5)
    assert [(s.planted, s.detected) for s in found.values()] == [(10, 0), (10, 0)]


def test_an_invalid_history_has_none(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    write(Shape(ops=300, clients=2, plant="stale"), path)
    assert sensitivity.measure(path, "cas-register") is None
    assert check(path, sensitivity=True)["sensitivity"] is None
    assert sensitivity.measure(path, "mutex") is None
