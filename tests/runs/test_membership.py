"""Members of a real etcd cluster that change under load, and under other faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs.commands import lines, splitbrain

pytestmark = [pytest.mark.netns, pytest.mark.rootless]


def test_a_member_is_replaced_under_load_and_all_is_as_before_in_the_end(tmp_path: Path) -> None:
    done = splitbrain(
        *("run", "--faults", "membership:replace", "--time", "12s", "--seed", "4", "--opt", "hold_s=2"),
        *("--opt", "membership.spares=1", "--no-admission", "--json", "--out", tmp_path),
    )
    results = done.results
    assert results["verdict"] == "valid", results["reason"]
    assert results["faults"]["membership"]["effective"] >= 1
    told = lines(Path(results["run"]) / "members.jsonl")
    seen = [line["do"] for line in told if line["event"] == "observed"]
    assert seen[:3] == ["add", "promote", "remove"]
    first = next(line["members"] for line in told if line["event"] == "agreed")
    ids = {m["id"] for m in told[-1]["agreed"]}
    assert [m["node"] for m in told[-1]["agreed"]] == ["n1", "n2", "n3"]
    assert len({m.partition(" ")[2] for m in first} - ids) == 1, "who left came back as another member"
    assert "n1, n2, n3" in results["checks"]["members"]["reason"]


@pytest.mark.slow
@pytest.mark.parametrize("provider", ["netns", pytest.param("docker", marks=pytest.mark.docker)])
def test_members_change_under_partition_and_kill(tmp_path: Path, provider: str) -> None:
    done = splitbrain(
        *("run", "--faults", "membership,partition,kill", "--time", "60s", "--seed", "11"),
        *("--provider", provider, "--no-admission", "--json", "--out", tmp_path),
        timeout_s=200,
    )
    results = done.results
    assert results["verdict"] == "valid", results["reason"]
    assert all(family["effective"] for family in results["faults"].values())
    assert results["checks"]["members"]["verdict"] == "valid"
