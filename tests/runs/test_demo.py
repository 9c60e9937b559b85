"""The first whole: a real etcd cluster under partitions, kills and pauses, and what it leaves behind."""

import json
from pathlib import Path

import pytest

from checkers.plant import plant_stale_read
from clusters.means.leftovers import leftovers
from tests.runs.commands import Done, lines, load_s, splitbrain

TIME_S = 9
pytestmark = [pytest.mark.netns, pytest.mark.rootless]


@pytest.fixture(scope="module")
def demo(out: Path) -> Done:
    asked = ("--faults", "partition,kill,pause", "--time", f"{TIME_S}s", "--seed", "11")
    return splitbrain("run", *asked, "--fail-fast", "--keep", "--out", out, "--json")


@pytest.fixture(scope="module")
def run_dir(demo: Done) -> Path:
    return Path(demo.results["run"])


def test_a_correct_system_is_not_accused_and_every_fault_shows(demo: Done) -> None:
    results = demo.results
    assert results["verdict"] == "valid", results["reason"]
    assert demo.code == 0
    assert set(results["faults"]) == {"partition", "kill", "pause"}
    for family in results["faults"].values():
        assert family["effective"] >= 1
        assert family["overlapping_ops"] >= 20
    assert results["leader_changes"] >= 1
    assert results["outcomes"]["cas"]["ok"] > 50
    assert results["holes"] == []


def test_the_run_directory_is_whole(run_dir: Path) -> None:
    for name in ("spec.json", "env.json", "journal.jsonl", "history.jsonl", "faults.jsonl", "monitor.jsonl"):
        assert (run_dir / name).stat().st_size > 0, name
    assert "splitbrain" in (run_dir / "report.html").read_text()
    env = json.loads((run_dir / "env.json").read_text())
    assert len(env["install"]["sha256"]["etcd"]) == 64
    assert (run_dir.parent.parent / "latest").resolve() == run_dir.resolve()
    assert not (run_dir / "work").exists()


def test_the_journal_was_ahead_of_every_fault(run_dir: Path) -> None:
    ledger = lines(run_dir / "faults.jsonl")
    order = [line["event"] for line in ledger if line.get("fault") == "f1"]
    assert order == ["plan", "evidence", "applied", "evidence", "undone", "evidence"]
    assert lines(run_dir / "journal.jsonl")[-1]["end"] == "done"


def test_every_key_was_read_at_the_end_through_every_node(run_dir: Path) -> None:
    history = lines(run_dir / "history.jsonl")
    final = {(e["key"], e["node"]) for e in history if (e.get("ext") or {}).get("final")}
    keys = {e["key"] for e in history if "key" in e}
    assert final == {(key, node) for key in keys for node in ("n1", "n2", "n3")}


def test_the_sampler_saw_every_node_and_the_logs_tell_of_elections(run_dir: Path) -> None:
    monitor = lines(run_dir / "monitor.jsonl")
    assert {m["node"] for m in monitor if m.get("ok")} == {"n1", "n2", "n3"}
    assert {m["role"] for m in monitor if m.get("ok")} >= {"leader", "follower"}
    assert any("logs" in m for m in monitor)
    assert any(e["kind"] == "election" for e in lines(run_dir / "events.jsonl"))


def test_nothing_of_it_is_left_or_kept_since_it_is_as_it_should_be(run_dir: Path, demo: Done) -> None:
    assert leftovers(run_dir.name.rpartition("-")[2]) == []
    assert demo.results["kept"] is None
    assert not (run_dir / "kept.json").exists()


def test_it_ran_its_whole_time_and_was_checked_meanwhile(run_dir: Path, demo: Done) -> None:
    assert load_s(run_dir) >= TIME_S - 0.1
    assert demo.results["incremental"]["keys"] >= 3
    assert demo.results["incremental"] | {"keys": 0} == {
        "keys": 0,
        "violations": 0,
        "first_violation_s": None,
        "ended": True,
    }
    found = lines(run_dir / "incremental.jsonl")
    healed = next(line["time"] for line in lines(run_dir / "journal.jsonl") if line.get("phase") == "heal")
    assert sum("key" in line and line["time"] < healed for line in found) >= 3, "while the load was on"
    assert not (run_dir / "incremental.tmp").exists()
    assert not any("ended before the load did" in warning for warning in demo.results["warnings"])


def test_check_repeats_the_verdict_with_no_cluster(run_dir: Path, demo: Done) -> None:
    again = splitbrain("check", run_dir, "--json")
    assert again.code == 0
    first = demo.results
    for key in ("verdict", "ops", "faults", "outcomes", "leader_changes"):
        assert again.results[key] == first[key], key


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_a_planted_stale_read_is_found(run_dir: Path, tmp_path: Path, seed: int) -> None:
    planted = tmp_path / "history.jsonl"
    what = plant_stale_read(run_dir / "history.jsonl", planted, seed=seed)
    done = splitbrain("check", planted, "--json")
    assert (done.code, done.results["verdict"]) == (1, "invalid")
    assert [a["key"] for a in done.results["checks"]["linearizable"]["anomalies"]] == [what["key"]]
