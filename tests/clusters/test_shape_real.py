"""Shaped links of real clusters, measured from outside: as root, as an ordinary user, in containers."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusters.means.leftovers import leftovers
from harness.core.cluster import Endpoint, Shaping
from harness.core.errors import InfrastructureError

SCRIPT = """
import json, os, pathlib, signal, socket, sys, threading, time
from harness.core.cluster import Endpoint as E, Shaping
from harness.core.descriptor import load
from harness.core.errors import SplitbrainError
import msgspec

provider = load(sys.argv[1])()
run, where = sys.argv[2], pathlib.Path(sys.argv[3])
provider.enclose()
cluster = provider.create(run=run, run_dir=where, nodes=3, mounts={})
found = {"capability": [provider.probe()["shape"], cluster.capabilities["shape"]]}

def echo(name, source="n1", target="n2", **more):
    found[name] = msgspec.to_builtins(cluster.echo(source, target, **more))

def shape(fault="f1", pairs=(("n1", "n2"), ("n2", "n1")), **spec):
    return cluster.shape(fault, [(E(a), E(b)) for a, b in pairs], Shaping(seed=5, **spec))

def connect6(address):  # a refusal is one round trip
    cluster.enter("n1")
    with socket.socket(socket.AF_INET6) as sock:
        sock.settimeout(3)
        sock.connect_ex((address, 1))  # neighbours have been found
    begin = time.monotonic()
    with socket.socket(socket.AF_INET6) as sock:
        sock.settimeout(3)
        found["six"].append([sock.connect_ex((address, 1)), (time.monotonic() - begin) * 1000])

def listener():
    for entry in pathlib.Path("/proc").iterdir():
        try:
            argv = (entry / "cmdline").read_bytes()
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            grandparent = pathlib.Path("/proc", parent, "stat").read_text().rpartition(")")[2].split()[1]
            agent = pathlib.Path("/proc", grandparent, "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if b"listener.py" in argv and f"splitbrain-{run}".encode() in agent:
            return int(entry.name)

try:
    found["nothing yet"] = cluster.shaped()
    echo("before")
    shape(pairs=[("n1", "n2")], delay_ms=30)
    echo("one way")
    echo("back", "n2", "n1")
    echo("elsewhere", "n1", "n3")
    found["pairs"] = shape("f2", pairs=[("n2", "n1")], delay_ms=10)["pairs"]
    echo("both ways")
    six = cluster.nodes[1].address6
    if six:
        found["six"] = []
        thread = threading.Thread(target=connect6, args=(six,))
        thread.start()
        thread.join()
    cluster.unshape("f1")
    cluster.unshape("f1")
    echo("the other")
    cluster.unshape("f2")
    for distribution in ("uniform", "normal", "pareto"):
        shape(delay_ms=30, jitter_ms=8, distribution=distribution)
        echo(distribution, count=100, interval_s=0.002)
    for kind in ("loss", "duplicate", "corrupt"):
        shape(**{kind: 0.2})
        echo(kind, count=200, interval_s=0.001)
    shape(reorder=0.2, reorder_ms=10)
    echo("reorder", count=200, interval_s=0.001)
    shape(rate_kbit=2000)
    echo("rate", count=40, interval_s=0.0, size=1400, wait_s=1.0)
    found["counts"] = cluster.shaped()
    cluster.check()
    cluster.unshape("f1")
    echo("after", count=100, interval_s=0.001)
    shape(delay_ms=100)
    os.kill(listener(), signal.SIGSTOP)
    begin = time.monotonic()
    while cluster.echo("n1", "n2", count=1, wait_s=0.1).received == 0 and time.monotonic() < begin + 10:
        pass
    found["cut off for"] = time.monotonic() - begin
    while "marked" not in found and time.monotonic() < begin + 12:  # the watcher has ended, too
        try:
            cluster.check()
        except SplitbrainError as e:
            found["marked"] = str(e)
    cluster.unshape("f1")
finally:
    cluster.close()
print(json.dumps(found))
"""


def measure(folder: Path, run: str, provider: str) -> dict[str, Any]:
    path = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, provider, run, str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("netns", marks=[pytest.mark.netns, pytest.mark.rootless]),
        pytest.param("docker", marks=(pytest.mark.docker, pytest.mark.slow)),
    ],
)
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    run = f"tshp{request.param[0]}1"
    target = f"clusters.providers.{request.param}:{request.param.capitalize()}"
    yield measure(tmp_path_factory.mktemp("run"), run, target)
    assert leftovers(run) == []


def trip(echoes: dict[str, Any]) -> float:
    assert echoes["received"] > echoes["sent"] / 2, "another run's end may flush some on a host with Docker"
    return statistics.median(echoes["rtt_ms"])


def asked(ms: float) -> Any:
    """Within 15% of what was asked for, or 2 ms."""
    return pytest.approx(ms, abs=max(0.15 * ms, 2.0))


def likely(sent: int, probability: float) -> Any:
    """Within four standard deviations of the mean."""
    return pytest.approx(sent * probability, abs=4 * math.sqrt(sent * probability * (1 - probability)))


def test_it_is_possible_and_nothing_is_set_up_for_it_in_advance(found: dict[str, Any]) -> None:
    assert found["capability"] == [None, None]
    assert found["nothing yet"] == {}


def test_a_delay_is_of_one_direction_and_of_one_pair(found: dict[str, Any]) -> None:
    before = trip(found["before"])
    assert before < 10
    assert trip(found["one way"]) - before == asked(30)
    assert trip(found["back"]) - before == asked(30), "its answers go that way"
    assert trip(found["elsewhere"]) < 10


def test_shapes_of_two_faults_add_up_and_end_one_by_one(found: dict[str, Any]) -> None:
    assert found["pairs"] == 2
    assert trip(found["both ways"]) - trip(found["before"]) == asked(40)
    assert trip(found["the other"]) - trip(found["before"]) == asked(10)


def test_ipv6_is_shaped_as_well(found: dict[str, Any]) -> None:
    if "six" not in found:
        pytest.skip("these nodes have no IPv6")
    ((error, took_ms),) = found["six"]
    assert error == 111, "refused, so it came and went"
    assert 38 < took_ms < 70


@pytest.mark.parametrize("distribution", ["uniform", "normal", "pareto"])
def test_jitter_spreads_the_delay_around_its_mean(found: dict[str, Any], distribution: str) -> None:
    trips = found[distribution]["rtt_ms"]
    assert statistics.mean(trips) - trip(found["before"]) == asked(60)
    one_way = {"uniform": 8 / math.sqrt(3), "normal": 8.0, "pareto": 8.0}[distribution]
    assert statistics.stdev(trips) == pytest.approx(one_way * math.sqrt(2), rel=0.5)


def test_packets_are_lost_within_statistical_bounds(found: dict[str, Any]) -> None:
    echoes = found["loss"]
    assert echoes["sent"] - echoes["received"] == likely(echoes["sent"], 1 - 0.8**2)
    assert echoes["bad_checksums"] == 0


def test_packets_are_duplicated_and_none_is_lost(found: dict[str, Any]) -> None:
    echoes = found["duplicate"]
    assert echoes["sent"] - echoes["received"] <= found["counts"]["flushed"]
    assert echoes["duplicates"] == likely(2 * echoes["sent"], (1.2**2 - 1) / 2)


def test_damaged_packets_have_a_wrong_checksum_and_are_discarded_for_it(found: dict[str, Any]) -> None:
    echoes = found["corrupt"]
    assert echoes["sent"] - echoes["received"] == likely(echoes["sent"], 1 - 0.8**2)
    assert echoes["bad_checksums"] == echoes["sent"] - echoes["received"]


def test_packets_overtake_others(found: dict[str, Any]) -> None:
    echoes = found["reorder"]
    assert echoes["sent"] - echoes["received"] <= found["counts"]["flushed"]
    assert echoes["overtaken"] > 0.5 * echoes["sent"] * (1 - 0.8**2)


def test_a_rate_is_kept_to(found: dict[str, Any]) -> None:
    assert found["rate"]["sent"] - found["rate"]["received"] <= found["counts"]["flushed"]
    assert found["rate"]["kbit"] == pytest.approx(2000, rel=0.1)


def test_the_queue_lost_nothing_by_itself(found: dict[str, Any]) -> None:
    assert found["counts"]["missed"] == 0
    assert not found["counts"]["kernel_dropped"], "None for an ordinary user, who may not know"


def test_afterwards_all_is_as_before(found: dict[str, Any]) -> None:
    after = found["after"]
    assert trip(after) < trip(found["before"]) + 5
    assert (after["duplicates"], after["overtaken"], after["bad_checksums"]) == (0, 0, 0)


def test_a_hung_listener_is_ended_everything_passes_and_the_run_is_marked(found: dict[str, Any]) -> None:
    assert 0.5 < found["cut off for"] < 5
    assert "the listener of the packet queue has ended, so that all packets pass" in found["marked"]
    assert "did not move for 1.5 s" in found["marked"]


@pytest.mark.docker
def test_on_the_host_nothing_stays_when_the_agent_is_killed(tmp_path: Path) -> None:
    from clusters.providers.docker import Docker

    made = Docker().create(run="tshpk1", run_dir=tmp_path, nodes=2, mounts={})
    try:
        before = made.echo("n1", "n2").received
        made.shape("f1", [(Endpoint("n1"), Endpoint("n2"))], Shaping(loss=1.0))
        assert made.echo("n1", "n2", wait_s=0.1).received == 0
        assert [line for line in leftovers("tshpk1") if "splitbrain_tshpk1_q" in line]
        assert made._agent is not None
        made._agent.kill()
    finally:
        with pytest.raises(InfrastructureError, match="agent"):
            made.close()
    assert before == 20
    assert leftovers("tshpk1") == []
