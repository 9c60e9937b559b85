"""Clocks of real nodes: a static Go program, a Python one, and etcd, in namespaces and in containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from clusters.artifacts import Artifacts
from clusters.means.leftovers import leftovers
from clusters.providers.docker import Docker
from clusters.providers.netns import Netns, NetnsCluster
from clusters.systems.etcd import Etcd
from harness.core import golang
from harness.core.cluster import DATA_DIR, PROGRAM_DIR, Course, View
from harness.core.errors import ArtifactError, OperationError
from tests.clusters import clocking
from tests.clusters.clocking import HOUR, SECOND

BESIDE = {} if sys.base_prefix == "/usr" else {sys.base_prefix: sys.base_prefix}  # what is no part of /usr
CLOSE = 5_000_000
FRESH = SECOND  # between what a program writes and our reading of it
SPACES = pytest.param("spaces", marks=(pytest.mark.netns, pytest.mark.rootless))
CONTAINERS = pytest.param("containers", marks=pytest.mark.docker)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    go = golang.find_go((1, 20))
    if go is None:
        pytest.skip("no Go to build a static program with")
    return clocking.build(tmp_path_factory.mktemp("program"), go)


@pytest.fixture(scope="module", params=[SPACES, CONTAINERS])
def seen(
    request: pytest.FixtureRequest, program: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    where = tmp_path_factory.mktemp(request.param)
    if request.param == "containers":
        mounts = {str(program): clocking.TICK, **BESIDE}
        cluster = Docker().create(run="tclock", run_dir=where, nodes=2, mounts=mounts)
        try:
            found = clocking.exercise(cluster)
        finally:
            cluster.close()
    else:
        done = subprocess.run(
            [sys.executable, "-m", "tests.clusters.clocking", str(where), str(program)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
    assert leftovers("tclock") == []
    return found


def shows(seen: dict[str, Any], word: str, offset: int) -> None:
    """Both programs show `offset`, as read through them and as they write it; the twin shows none."""
    found = seen[word]
    assert [name for name, *_ in found["read"]] == ["tick", "python"], found
    for _name, read, shifted, how in found["read"]:
        assert abs(read - offset) < CLOSE
        assert shifted is bool(offset)
        assert how == "call"
    for logged in found["logged"].values():
        assert abs(logged - offset) < FRESH
    ((_, read, shifted, _),), logged = found["twin"]
    assert abs(read) < CLOSE
    assert not shifted
    assert abs(logged) < FRESH


def test_an_hour_reaches_both_programs_and_nobody_else(seen: dict[str, Any]) -> None:
    assert seen["capability"] is None
    shows(seen, "before", 0)
    shows(seen, "jumped", HOUR)
    assert [p["name"] for p in seen["facts"]["processes"]] == ["tick", "python"]


def test_a_restarted_process_keeps_to_it_from_its_first_look(seen: dict[str, Any]) -> None:
    shows(seen, "restarted", HOUR)
    before, after = seen["begins"][0::2], seen["begins"][1::2]
    assert all(abs(x) < 10 * SECOND for x in before)
    assert all(abs(x - HOUR) < 10 * SECOND for x in after)


def test_it_stands_and_drifts(seen: dict[str, Any]) -> None:
    assert seen["frozen"] == 0
    gained, passed = seen["drift"]
    assert abs(gained - 2 * passed) < CLOSE


def test_it_goes_behind_and_the_monotonic_clock_with_it(seen: dict[str, Any]) -> None:
    shows(seen, "behind", -2 * HOUR)
    assert all(abs(m + SECOND // 10) < CLOSE for m in seen["monotonic"])


def test_a_paused_process_is_changed_and_stays_paused(seen: dict[str, Any]) -> None:
    offsets, states = seen["paused"]
    assert states == ["T", "T"]
    assert all(abs(o - SECOND) < CLOSE and how == "memory" for _, o, _, how in offsets)
    shows(seen, "resumed", SECOND)


def test_healing_restores_what_was_there_and_can_be_done_again(seen: dict[str, Any]) -> None:
    shows(seen, "after", 0)
    assert seen["again"] == []
    assert seen["dead"] == []
    shows(seen, "healed", 0)


def test_the_machines_own_clock_has_not_moved(seen: dict[str, Any]) -> None:
    assert abs(seen["host"]) < CLOSE


@contextmanager
def etcd(provider: Netns | Docker, folder: Path) -> Iterator[tuple[NetnsCluster, Etcd]]:
    """One node of etcd that serves."""
    system = Etcd({})
    try:
        install = system.install(None, Artifacts())
    except ArtifactError as e:
        if os.environ.get("SPLITBRAIN_REQUIRE"):
            raise
        pytest.skip(f"no etcd to be had: {e}")
    program = {name: f"{PROGRAM_DIR}/{name}" for name in install.program}
    mounts = {path: program[name] for name, path in install.program.items()}
    cluster = provider.create(run="tcletc", run_dir=folder, nodes=1, mounts=mounts)
    try:
        view = View(
            nodes=cluster.nodes,
            run="tcletc",
            version=install.version,
            options=system.options,
            program=program,
            data_dir=DATA_DIR,
        )
        cluster.launch({n.name: system.launch(n, view) for n in cluster.nodes})
        await_ready(cluster, system)
        yield cluster, system
    finally:
        cluster.close()


def inside(cluster: NetnsCluster, work: Any) -> Any:
    """What `work` returns in the network of the node's clients."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, initializer=cluster.enter, initargs=("c1",)) as pool:
        return pool.submit(work).result(30)


def await_ready(cluster: NetnsCluster, system: Etcd) -> None:
    def ready() -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                return system.ready(cluster.nodes[0], 1.0)
            except (OSError, OperationError):
                assert time.monotonic() < deadline
                time.sleep(0.02)

    inside(cluster, ready)


def stamp(cluster: NetnsCluster, system: Etcd) -> float:
    """Have etcd write a line to its log (it is told to defragment), and return by how many seconds the
    line's own time stamp differs from the machine's clock."""
    path = cluster.log_dir("n1") / "etcd.log"
    have = path.stat().st_size

    def defragment() -> None:
        address = cluster.nodes[0].address, system.ports["client"]
        with closing(HTTPConnection(*address, timeout=5)) as connection:
            connection.request("POST", "/v3/maintenance/defragment", b"{}")
            assert connection.getresponse().status == 200

    inside(cluster, defragment)
    now = time.time()
    with path.open() as log:
        log.seek(have)
        lines = [json.loads(line) for line in log if "defrag" in line]
    return datetime.fromisoformat(lines[-1]["ts"]).timestamp() - now


@pytest.mark.parametrize(
    "provider",
    [pytest.param(Netns, marks=pytest.mark.netns), pytest.param(Docker, marks=pytest.mark.docker)],
)
def test_etcds_own_log_lines_are_an_hour_ahead(provider: type[Netns | Docker], tmp_path: Path) -> None:
    host = time.time_ns() - time.monotonic_ns()
    with etcd(provider(), tmp_path) as (cluster, system):
        assert abs(stamp(cluster, system)) < 1
        cluster.clock.shift("f1", "n1", Course(offset_ns=HOUR))
        assert abs(stamp(cluster, system) - 3600) < 1
        (one,) = cluster.clock.clocks("n1")
        assert abs(one.offset_ns - HOUR) < CLOSE
        assert one.how == "call"
        cluster.process.signal("n1", "KILL")
        cluster.process.start("n1")
        await_ready(cluster, system)
        assert abs(stamp(cluster, system) - 3600) < 1
        cluster.clock.shift("f1", "n1", Course(offset_ns=-2 * HOUR))
        assert abs(stamp(cluster, system) + 7200) < 1
        cluster.clock.unshift("f1", "n1")
        assert abs(stamp(cluster, system)) < 1
        assert not cluster.clock.clocks("n1")[0].shifted
    assert abs(time.time_ns() - time.monotonic_ns() - host) < CLOSE, "the machine's own clock has moved"
