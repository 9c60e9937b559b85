"""Versions and administration of a real etcd cluster under load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runs.commands import lines, splitbrain

pytestmark = [pytest.mark.netns, pytest.mark.rootless, pytest.mark.slow]


def run(where: Path, *args: str) -> dict[str, Any]:
    done = splitbrain(
        *("run", *args, "--no-admission", "--json", "--out", where),
        timeout_s=240,
    )
    assert done.results["verdict"] == "valid", done.results["reason"]
    assert all(family["effective"] for family in done.results["faults"].values())
    return done.results


def evidence(results: dict[str, Any], phase: str) -> list[dict[str, Any]]:
    return [line for line in lines(Path(results["run"]) / "faults.jsonl") if line.get("phase") == phase]


@pytest.mark.parametrize("provider", ["netns", pytest.param("docker", marks=pytest.mark.docker)])
def test_an_upgrade_and_a_downgrade_go_unnoticed(tmp_path: Path, provider: str) -> None:
    versions = ("--version", "3.5.35", "--opt", "upgrade.to=3.6.16")
    results = run(
        tmp_path,
        *("--faults", "upgrade:rolling", *versions, "--time", "25s", "--seed", "5", "--opt", "hold_s=6"),
        *("--provider", provider),
    )
    (during, *_), (after, *_) = evidence(results, "during"), evidence(results, "after")
    assert set(during["facts"]["versions"].values()) == {"3.6.16"}
    assert set(after["facts"]["versions"].values()) == {"3.5.35"}
    log = (Path(results["run"]) / "logs" / "n1" / "etcd.log").read_text()
    assert "The server is ready to downgrade" in log or '"to":"3.6"' not in log


def test_other_faults_join_a_mixed_cluster(tmp_path: Path) -> None:
    results = run(
        tmp_path,
        *("--faults", "upgrade:mixed,kill,partition", "--version", "3.5.35", "--opt", "upgrade.to=3.6.16"),
        *("--time", "60s", "--seed", "6", "--opt", "schedule=phases", "--opt", "down=all"),
    )
    told = [e for e in evidence(results, "during") if "versions" in e["facts"]]
    mixed = [set(e["facts"]["versions"].values()) - {None} for e in told if e["effect"]]
    assert all(versions == {"3.5.35", "3.6.16"} for versions in mixed)


@pytest.mark.parametrize("provider", ["netns", pytest.param("docker", marks=pytest.mark.docker)])
def test_a_restored_cluster_has_all_that_was_acknowledged(tmp_path: Path, provider: str) -> None:
    where = ("--provider", provider, "--time", "25s", "--opt", "interval_s=2", "--opt", "hold_s=3")
    results = run(tmp_path, "--faults", "restore", *where, "--seed", "5")
    assert results["observations"] == []
    elections, applied = (
        results["leadership"]["elections_by_fault"]["restore"],
        results["faults"]["restore"]["applied"],
    )
    assert applied - 1 <= elections <= applied, "the last one may be elected when the load is over"
    assert elections > 0
    old = run(tmp_path, "--faults", "restore-old", *where, "--seed", "6")
    assert any("linearizable: " in text and "restore-old" in text for text in old["observations"])


@pytest.mark.parametrize("version", ["3.4.23", "3.5.35"])
def test_snapshots_of_older_versions_are_restored(tmp_path: Path, version: str) -> None:
    results = run(tmp_path, *("--faults", "restore", "--version", version, "--time", "12s", "--seed", "7"))
    assert results["observations"] == []


def test_what_administrators_do_goes_unnoticed(tmp_path: Path) -> None:
    words = ",".join(f"admin:{what}" for what in ("transfer", "compact", "defragment", "snapshot"))
    results = run(
        tmp_path,
        *("--faults", words, "--time", "20s", "--seed", "5", "--opt", "hold_s=2", "--opt", "interval_s=1"),
    )
    assert results["leadership"]["elections_by_fault"]["admin"] >= 1
