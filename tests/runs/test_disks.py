"""Power losses on a real system: what they need is refused by name where it is missing."""

from pathlib import Path

import pytest

from clusters.means.leftovers import leftovers
from splitbrain.heal import heal
from tests.runs.commands import lines, splitbrain
from tests.runs.killing import Case, kill_one, still_there

BRIEF = ("--time", "8s", "--seed", "4", "--no-admission", "--json")


@pytest.mark.rootless
def test_an_ordinary_user_is_refused_before_the_system_starts(tmp_path: Path) -> None:
    done = splitbrain("run", "--faults", "power-loss", *BRIEF, "--out", tmp_path)
    assert done.code == 4
    assert done.results["error"].startswith(
        "power-loss needs loop-disk, which cannot be had here: loop devices belong to the host's root alone"
    )
    assert "use kill" in done.results["error"]
    phases = [x["phase"] for x in lines(Path(done.results["run"]) / "journal.jsonl") if "phase" in x]
    assert phases == ["setup"]


@pytest.mark.netns
def test_an_etcd_that_syncs_loses_nothing(tmp_path: Path) -> None:
    done = splitbrain("run", "--faults", "power-loss:leader", *BRIEF, "--time", "5s", "--out", tmp_path)
    assert done.code == 0, done.results["reason"]
    assert done.results["faults"]["power-loss"]["effective"] >= 1
    run = Path(done.results["run"]).name.rpartition("-")[2]
    assert leftovers(run) == []


@pytest.mark.slow
@pytest.mark.netns
def test_no_disk_is_left_when_everything_is_killed(tmp_path: Path) -> None:
    case = Case("fault in force", "init", True, "power-loss:all", 0.0, 4)
    killed = kill_one(tmp_path, case)
    assert [d.problem for d in heal(killed.run_dir) if d.problem] == []
    assert still_there(killed) == []
    assert heal(killed.run_dir) == []


@pytest.mark.slow
@pytest.mark.netns
def test_an_etcd_that_does_not_sync_is_found_out(tmp_path: Path) -> None:
    options = ("--opt", "unsafe-no-fsync=true", "--opt", "flush=always", "--expect", "invalid")
    done = splitbrain("run", "--faults", "power-loss:all", *options, *BRIEF, "--out", tmp_path)
    assert done.code == 0, done.results["reason"]
    assert "acknowledged" in done.results["checks"]["linearizable"]["reason"]
    assert done.results["faults"]["power-loss"]["effective"] >= 1
    assert any("unsafe-no-fsync" in c for c in done.results["caveats"])
    run = Path(done.results["run"]).name.rpartition("-")[2]
    assert leftovers(run) == []


@pytest.mark.slow
@pytest.mark.netns
def test_an_etcd_whose_disks_were_full_needs_nobody(tmp_path: Path) -> None:
    """It ends at the first write that fails, on one node or on all, and goes on once there is room. Its NOSPACE
    alarm, which a person would have to disarm, is about its own quota and stays silent."""
    faults = "disk-full:leader,disk-full:all"
    done = splitbrain("run", "--faults", faults, *BRIEF, "--time", "20s", "--out", tmp_path)
    assert done.code == 0, done.results["reason"]
    found = done.results["faults"]["disk-full"]
    assert found["effective"] == found["applied"] >= 2
    assert done.results["checks"]["availability"]["verdict"] == "valid"
    assert any("no space left on device" in told for told in done.results["observations"])
    logs = [p.read_text() for p in Path(done.results["run"]).glob("logs/*/etcd.log")]
    assert len(logs) == 3
    assert not any("NOSPACE" in log or "alarm" in log.lower() for log in logs)


@pytest.mark.slow
@pytest.mark.netns
@pytest.mark.rootless
def test_a_slow_disk_and_a_death_at_a_sync_are_survived(tmp_path: Path) -> None:
    faults = "slow-disk:follower,crash-point:leader"
    done = splitbrain("run", "--faults", faults, *BRIEF, "--time", "10s", "--out", tmp_path)
    assert done.code == 0, done.results["reason"]
    assert done.results["faults"]["slow-disk"]["effective"] >= 1
    assert done.results["faults"]["crash-point"]["effective"] >= 1
