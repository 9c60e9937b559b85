"""A cluster as an ordinary user: what works as it does for root, and what is refused by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clusters.means.leftovers import leftovers

pytestmark = pytest.mark.rootless

SCRIPT = """
import json, os, pathlib, socket, sys, time
from clusters.providers.netns import Netns
from harness.core.cluster import DATA_DIR, Endpoint, Process
from harness.core.errors import SplitbrainError

where, own = map(pathlib.Path, sys.argv[1:])
outside = os.getuid()
provider = Netns()
found = {"probe before": provider.probe()}
provider.enclose()
found["user"] = [outside, os.getuid()]
cluster = provider.create(run="trootl", run_dir=where, nodes=2, mounts={})
try:
    found["capabilities"] = cluster.capabilities
    big = "x" * 3_000_000  # more than an ordinary user's socket takes
    text = f"wc -c < {DATA_DIR}/big; touch {own}/mine || echo sealed; whoami; sleep 1000"
    shell = Process(name="shell", argv=("/bin/sh", "-c", text), files={f"{DATA_DIR}/big": big})
    cluster.launch({"n1": [shell], "n2": [Process(name="sleep", argv=("/bin/sleep", "1000"))]})
    try:
        cluster.launch({"n1": [Process(name="other", argv=("/bin/true",), user="nobody")]})
    except SplitbrainError as e:
        found["refused"] = str(e)
    found["reaches"] = [cluster.reaches("c1", "n2", 7)]
    found["pairs"] = cluster.block("f1", [(Endpoint("n1"), Endpoint("n2")), (Endpoint("c1"), Endpoint("n2"))])
    found["reaches"].append(cluster.reaches("c1", "n2", 7))
    cluster.unblock("f1")
    found["reaches"].append(cluster.reaches("c1", "n2", 7))
    cluster.signal("n1", "STOP")
    found["stopped"] = cluster.state("n1")[0].state
    cluster.signal("n1", "CONT")
    log = cluster.log_dir("n1") / "shell.log"
    while log.read_text().count("\\n") < 4:
        time.sleep(0.01)
    found["log"] = log.read_text().splitlines()
    cluster.signal("n1", "KILL")
    found["killed"] = cluster.state("n1")[0].exit
    found["data"] = [list(cluster.disk.sums("n1"))]
    cluster.disk.tamper("n1", "wipe", {})
    found["data"].append(list(cluster.disk.sums("n1")))
finally:
    cluster.close()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    where = tmp_path_factory.mktemp("rootless")
    own = Path.cwd() if os.access(Path.cwd(), os.W_OK) else Path.home()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(where), str(own)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert done.returncode == 0, done.stderr
    assert leftovers("trootl") == []
    assert not (where / "work").exists()
    assert not (own / "mine").exists()
    return dict(json.loads(done.stdout))


def test_data_at_rest_can_be_damaged(found: dict[str, Any]) -> None:
    assert found["data"] == [["big"], []]


def test_an_ordinary_user_is_root_inside(found: dict[str, Any]) -> None:
    assert found["user"] == [os.getuid(), 0]
    assert "root" in found["log"]


def test_partition_pause_and_kill_work(found: dict[str, Any]) -> None:
    assert found["reaches"] == [True, False, True]
    assert found["pairs"]["pairs"] == 2
    assert found["stopped"] == "T"
    assert found["killed"] == -9


def test_what_cannot_be_had_is_named(found: dict[str, Any]) -> None:
    for which, more in (("capabilities", {"loop-disk", "trace"}), ("probe before", {"loop-disk"})):
        capabilities = found[which]
        refused = {name for name, reason in capabilities.items() if reason}
        assert refused >= {"cgroup", "users", "cpu-limit", "memory-limit"} | more
        assert refused.isdisjoint(
            {"netns", "block", "client-places", "signal", "restart", "descriptor-limit"}
        )
        assert "control groups need root (sudo); fault pause" in capabilities["cpu-limit"]
        assert "control groups need root" in capabilities["cgroup"]
    assert found["refused"].startswith("other on n1 is to run as user 'nobody', which cannot be had here: ")


def test_large_files_arrive_and_the_host_is_sealed(found: dict[str, Any]) -> None:
    assert "3000000" in found["log"]
    assert "sealed" in found["log"]
