from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from harness.core.errors import InfrastructureError, UsageError
from results import index
from tests.results.synth import make_run

CHECKOUT = Path(__file__).parents[2]


def some(root):
    return [
        make_run(root, outcome, ops=200, seed=seed, run=f"run{seed:03}")
        for seed, outcome in enumerate(("valid", "invalid", "unknown", "error", "killed"))
    ]


def test_a_row_says_what_the_directory_says(tmp_path):
    run = make_run(tmp_path, "invalid", ops=200, seed=2**70)
    index.add(run)
    (row,) = index.rows(tmp_path)
    assert row.path == f"etcd-register/{run.name}"
    assert (row.run, row.system, row.version, row.workload) == ("a1b2c3", "etcd", "3.6.16", "register")
    assert (row.faults, row.seed, row.verdict, row.exit) == ("partition,kill,pause", 2**70, "invalid", 1)
    assert (row.ops, row.started) == (200, "2026-01-31T12:00:00Z")
    assert "linearizable" in row.reason
    index.add(run)
    assert len(index.rows(tmp_path)) == 1


def test_rebuilding_gives_what_adding_gave(tmp_path):
    for run in some(tmp_path):
        index.add(run)
    added = index.rows(tmp_path)
    (tmp_path / index.NAME).unlink()
    assert index.rebuild(tmp_path) == 5
    assert index.rows(tmp_path) == added

    by_run = {r.run: r for r in added}
    assert [by_run[f"run{n:03}"].exit for n in range(5)] == [0, 1, 3, 4, None]
    assert by_run["run004"].reason == "unfinished: no results yet"


def test_a_lost_index_is_made_again_when_asked(tmp_path):
    some(tmp_path)
    assert len(index.rows(tmp_path)) == 5
    assert index.rows(tmp_path / "nowhere") == []
    assert not (tmp_path / "nowhere").exists()


def test_filters_and_limit(tmp_path):
    some(tmp_path)
    assert [r.run for r in index.rows(tmp_path, filters={"verdict": "invalid"})] == ["run001"]
    assert [r.run for r in index.rows(tmp_path, filters={"verdict": None})] == ["run004"]
    assert [r.run for r in index.rows(tmp_path, filters={"seed": 3, "system": "etcd"})] == ["run003"]
    assert len(index.rows(tmp_path, limit=2)) == 2
    with pytest.raises(UsageError, match="did you mean 'verdict'"):
        index.rows(tmp_path, filters={"verdikt": "valid"})
    with pytest.raises(UsageError, match="limit -1"):
        index.rows(tmp_path, limit=-1)


@pytest.mark.parametrize(
    "garbage", [b"", b"not a database at all " * 99, b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_garbage_in_its_place_is_thrown_away(tmp_path, garbage):
    some(tmp_path)
    (tmp_path / index.NAME).write_bytes(garbage)
    assert len(index.rows(tmp_path)) == 5


def test_another_format_is_rebuilt(tmp_path):
    some(tmp_path)
    index.rebuild(tmp_path)
    with sqlite3.connect(tmp_path / index.NAME) as db:
        db.execute("update meta set value = '99'")
        db.execute("delete from runs")
    db.close()
    assert len(index.rows(tmp_path)) == 5


def test_directories_that_are_no_runs_or_are_broken(tmp_path):
    (tmp_path / "etcd-register" / "x").mkdir(parents=True)
    (tmp_path / "etcd-register" / "file").write_text("")
    odd = tmp_path / "etcd-register" / "20260101T000000Z-1-qqqqqq"
    odd.mkdir()
    (odd / "results.json").write_text('{"verdict": "val')
    huge = tmp_path / "etcd-register" / "20260101T000000Z-1-rrrrrr"
    huge.mkdir()
    body = {"verdict": ["x"], "ops": 2**80, "seconds": "x", "seed": "no", "faults": 3, "reason": {"a": 1}}
    (huge / "results.json").write_text(json.dumps(body))
    assert index.rebuild(tmp_path) == 2
    rows = {r.run: r for r in index.rows(tmp_path)}
    assert rows["qqqqqq"].verdict is None
    assert rows["qqqqqq"].reason == "unfinished: results.json cannot be read"
    assert rows["qqqqqq"].started == "2026-01-01T00:00:00Z"
    assert (rows["rrrrrr"].verdict, rows["rrrrrr"].ops, rows["rrrrrr"].seed) == ("unknown", None, None)


def test_several_processes_at_once(tmp_path):
    for n in range(4):
        for k in range(10):
            path = tmp_path / "s-w" / f"20260101T00000{n}Z-{k}-p{n}{k:04}"
            path.mkdir(parents=True)
            (path / "results.json").write_text(json.dumps({"verdict": "valid", "seed": k}))
    code = (
        "import sys; from pathlib import Path; from results import index\n"
        "for p in sorted(Path(sys.argv[1]).glob(f's-w/*00000{sys.argv[2]}Z-*')): index.add(p)\n"
        "if sys.argv[2] == '3': index.rebuild(Path(sys.argv[1]))"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), str(n)], cwd=CHECKOUT, stderr=subprocess.PIPE
        )
        for n in range(4)
    ]
    for process in started:
        _, problem = process.communicate(timeout=120)
        assert process.returncode == 0, problem
    assert len(index.rows(tmp_path, limit=100)) == 40


def test_an_index_that_cannot_be_written_is_said(tmp_path):
    run = make_run(tmp_path, "valid", ops=200)
    (tmp_path / index.NAME).mkdir()
    with pytest.raises(InfrastructureError, match="cannot use the index"):
        index.add(run)


def test_refreshing_follows_the_directories_and_gives_what_rebuilding_gives(tmp_path):
    valid, invalid, *_, killed = some(tmp_path)
    index.rebuild(tmp_path)
    assert index.refresh(tmp_path) == 0
    shutil.rmtree(invalid)
    shutil.copy(valid / "results.json", killed / "results.json")  # it went on, and ended
    begun = tmp_path / "etcd-register" / "20260101T000000Z-1-begun2"
    begun.mkdir()
    (begun / "journal.jsonl").write_text("{}\n")
    assert index.refresh(tmp_path) == 3
    assert index.refresh(tmp_path) == 0
    refreshed = index.rows(tmp_path)
    assert {r.run: r.state for r in refreshed} == {
        "run000": "valid", "run002": "unknown", "run003": "error", "run004": "valid", "begun2": "unfinished",
    }  # fmt: skip
    index.rebuild(tmp_path)
    assert index.rows(tmp_path) == refreshed
    assert index.refresh(tmp_path / "nowhere") == 0


def test_families_of_a_run_that_has_only_its_spec(tmp_path):
    run = tmp_path / "etcd-register" / "20260101T000000Z-1-begun2"
    run.mkdir(parents=True)
    spec = {"system": "etcd", "faults": ["partition:one-way", "walk:kill+pause", "kill:leader"], "nodes": 5}
    (run / "spec.json").write_text(json.dumps(spec))
    index.refresh(tmp_path)
    (row,) = index.rows(tmp_path)
    assert (row.faults, row.nodes, row.state) == ("partition,kill,pause", 5, "unfinished")
