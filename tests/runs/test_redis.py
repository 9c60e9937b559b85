"""Redis with Sentinel on real nodes: what it acknowledges it loses in a failover, which is found; without faults
nothing is lost; and a server that dies at the start says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.runs.commands import run_altered, splitbrain

pytestmark = pytest.mark.netns


def run(out: Path, *words: object) -> tuple[int, dict[str, Any]]:
    done = splitbrain("run", "--system", "redis", "--out", out, "--json", *words, timeout_s=180)
    return done.code, done.results


def test_a_primary_that_was_cut_off_loses_what_it_acknowledged(out: Path) -> None:
    words = ("--workload", "set", "--faults", "partition:leader", "--time", "8s", "--expect", "invalid")
    code, results = run(out, *words, "--seed", 4)
    assert (code, results["verdict"]) == (0, "invalid"), results["reason"]
    assert results["checks"]["set"]["verdict"] == "invalid"
    assert any("documents that a failover can lose" in caveat for caveat in results["caveats"])
    assert results["holes"] == []


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["set", "register", "counter", "kv", "unique-ids"])
def test_without_faults_nothing_is_lost(out: Path, workload: str) -> None:
    code, results = run(out, "--workload", workload, "--faults", "none", "--time", "4s")
    assert (code, results["verdict"]) == (0, "valid"), results["reason"]
    assert results["holes"] == []


@pytest.mark.slow
@pytest.mark.parametrize("workload", ["register", "counter", "kv", "unique-ids"])
def test_every_workload_finds_the_failover(out: Path, workload: str) -> None:
    words = ("--faults", "partition:leader", "--time", "20s", "--expect", "invalid")
    code, results = run(out, "--workload", workload, *words)
    assert (code, results["verdict"]) == (0, "invalid"), results["reason"]


@pytest.mark.slow
def test_replicas_in_touch_narrow_the_loss_and_do_not_end_it(out: Path) -> None:
    words = ("--workload", "set", "--faults", "partition:leader", "--time", "20s")
    code, results = run(out, *words, "--opt", "min_replicas=1")
    assert code in (0, 1), results["reason"]
    assert any(e["error"] == "too few replicas" for e in results["errors"])


@pytest.mark.slow
@pytest.mark.docker
def test_in_containers(out: Path) -> None:
    words = ("--workload", "set", "--faults", "partition:leader", "--time", "15s", "--provider", "docker")
    code, results = run(out, *words, "--expect", "invalid")
    assert (code, results["verdict"]) == (0, "invalid"), results["reason"]


def test_a_server_that_dies_at_the_start_ends_the_run_with_its_last_words(tmp_path: Path) -> None:
    code = (
        "import clusters.systems.redis as r; from msgspec.structs import replace; plain = r.Redis.launch\n"
        "def launch(self, node, view):\n"
        "    server, sentinel = plain(self, node, view)\n"
        "    files = {path: text + 'nonsense yes\\n' for path, text in server.files.items()}\n"
        "    return [replace(server, files=files), sentinel]\n"
        "r.Redis.launch = launch"
    )
    done = run_altered(code, tmp_path, "--system", "redis", "--workload", "set", "--faults", "none")
    assert done.code == 4
    error = done.results["error"]
    assert "server on n" in error
    assert "ended by itself with exit code 1" in error
    assert "Bad directive or wrong number of arguments" in error
