"""Series of runs: seeds of a commit, results that are kept, intervals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from splitbrain import registry, series


@pytest.mark.parametrize(
    ("k", "n", "says"),
    [(8, 10, "49-94%"), (0, 20, "0-16%"), (10, 10, "72-100%"), (0, 10, "0-28%"), (0, 0, "-")],
)
def test_wilsons_interval(k: int, n: int, says: str) -> None:
    assert series.percent(k, n) == says


def test_seeds_are_the_commits_and_each_names_own() -> None:
    commit = "7943ee6a52" * 4
    seeds = [series.seed(commit, name, n) for name in ("demo", "stale") for n in range(5)]
    assert len(set(seeds)) == 10
    assert seeds[0] == series.seed(commit, "demo", 0)
    assert seeds[0] != series.seed("8" + commit[1:], "demo", 0)
    assert series.seed("0.1.0", "demo", 0) != series.seed("0.2.0", "demo", 0), "a version will do"
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_the_commit_is_gits_or_the_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert len(series.revision()) == 40 or series.revision() == registry.version()
    monkeypatch.setattr(series, "root", lambda: tmp_path)
    assert series.revision() == registry.version()
    assert not series.changed()


def test_what_is_kept_is_not_run_again_but_what_was_interrupted_is(tmp_path: Path) -> None:
    ran = []

    def run(**more: object) -> dict[str, object]:
        ran.append(more)
        return {"verdict": "unknown", **more}

    path = tmp_path / "deep" / "demo-1.json"
    assert series.keep(path, lambda: run(interrupted=True))["interrupted"]
    assert not path.exists()
    assert series.keep(path, run) == series.keep(path, run) == {"verdict": "unknown"}
    assert len(ran) == 2
    assert json.loads(path.read_text()) == {"verdict": "unknown"}
    path.write_text("{torn")
    assert series.keep(path, run) == {"verdict": "unknown"}
    assert len(ran) == 3
