"""Provider `ssh` on real OpenSSH servers: what reaches a host, what is made there, and what faults do there."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clusters.providers._ssh_link import Access, Link, everywhere, parse
from clusters.providers.ssh import Ssh, SshCluster
from harness.core.cluster import Endpoint, Process, Shaping
from harness.core.errors import InfrastructureError
from tests.clusters.sshd import Host, Lab, listens

pytestmark = pytest.mark.ssh
PORT, OTHER = 7000, 7001
# A server that answers every connection with a line, and writes down what it was sent.
SERVER = f"""
import socket, sys, threading, time
def serve(port):
    with socket.create_server((sys.argv[1], port), backlog=64) as listening:
        while True:
            peer, _ = listening.accept()
            threading.Thread(target=answer, args=(peer,), daemon=True).start()
def answer(peer):
    with peer:
        while data := peer.recv(100):
            peer.sendall(data)
threading.Thread(target=serve, args=({OTHER},), daemon=True).start()
print("here", flush=True)
serve({PORT})
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("hosts"), 3) as made:
        yield made


@pytest.fixture(autouse=True)
def inside(lab: Lab) -> Iterator[None]:
    with lab.entered():
        yield


def options(lab: Lab, **more: Any) -> dict[str, Any]:
    usual = {"hosts": tuple(map(str, lab.hosts)), "key": str(lab.key), "known_hosts": str(lab.known_hosts)}
    return {**usual, **more}


def link(lab: Lab, host: Host, **more: Any) -> Link:
    return Link("n1", parse(str(host)), Access(str(lab.key), str(lab.known_hosts), **more))


@contextlib.contextmanager
def made(
    lab: Lab, tmp_path: Path, run: str, needs: frozenset[str] = frozenset(), **more: Any
) -> Iterator[SshCluster]:
    provider = Ssh(options(lab, **more))
    provider.resources(run=run, nodes=3)
    cluster = provider.create(run=run, run_dir=tmp_path, nodes=3, mounts={}, needs=needs)
    try:
        yield cluster
    finally:
        cluster.close()


def launch(cluster: SshCluster, **more: Any) -> None:
    cluster.launch(
        {
            n.name: [
                Process(
                    name="server",
                    argv=("/usr/bin/python3", "-c", SERVER, n.address),
                    ports=(PORT, OTHER),
                    **more,
                )
            ]
            for n in cluster.nodes
        }
    )
    deadline = time.monotonic() + 10
    while not all(listens(n.address, PORT) and listens(n.address, OTHER) for n in cluster.nodes):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cluster(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshCluster]:
    with lab.entered(), made(lab, tmp_path_factory.mktemp("run"), "tsshm1") as one:
        launch(one)
        yield one


# hosts


def test_commands_have_a_time_limit_and_say_how_they_ended(lab: Lab) -> None:
    one = link(lab, lab.hosts[0])
    one.connect()
    try:
        done = one.run("echo out; echo err >&2; exit 3")
        assert (done.code, done.out, done.err) == (3, b"out\n", "err")
        assert one.run("cat", feed=b"x" * 3_000_000).out == b"x" * 3_000_000
        begun = time.monotonic()
        with pytest.raises(InfrastructureError, match=r"n1 \(root@.*'sleep 60' did not end within 0.5 s"):
            one.run("sleep 60", timeout_s=0.5)
        assert time.monotonic() < begun + 5
        one.put(b"\0whole\n", "/var/tmp/file")
        assert one.get("/var/tmp/file") == b"\0whole\n"
        with pytest.raises(InfrastructureError, match=r"cannot read /no/such: .*No such file"):
            one.get("/no/such")
    finally:
        one.close()


def test_one_connection_serves_many_commands_at_once_and_hosts_are_asked_at_the_same_time(lab: Lab) -> None:
    links = [Link(h.name, parse(str(h)), Access(str(lab.key), str(lab.known_hosts))) for h in lab.hosts]
    everywhere(links, Link.connect)
    try:
        for host in lab.hosts:
            assert host.run("ss -Htn state established '( sport = :22 )' | wc -l").strip() == "1"
        begun = time.monotonic()
        everywhere([*links, *links, *links], lambda one: one.check("sleep 0.5", "sleep"))
        assert time.monotonic() < begun + 3  # nine times half a second, one after the other
        assert lab.hosts[0].run("ss -Htn state established '( sport = :22 )' | wc -l").strip() == "1"
    finally:
        for one in links:
            one.close()


def test_a_jump_host_is_gone_through(lab: Lab) -> None:
    first, second, _ = lab.hosts
    one = link(lab, second, jump=(parse(str(first)),))
    one.connect()
    try:
        assert one.check("hostname", "ask").decode().strip() == second.name
        assert first.address in one.check("echo $SSH_CONNECTION", "ask").decode()
    finally:
        one.close()


# what a node is there


def test_a_process_has_the_hosts_network_and_its_own_data(cluster: SshCluster, lab: Lab) -> None:
    (state,) = cluster.state("n1")
    assert state.alive
    assert f":{PORT}" in lab.hosts[0].run("ss -Htln")
    namespaces = lab.hosts[0].run(
        f"readlink /proc/{state.pid}/ns/net /proc/self/ns/net /proc/{state.pid}/ns/mnt"
    )
    own, theirs, mounts = namespaces.split()
    assert own == theirs
    assert mounts != lab.hosts[0].run("readlink /proc/self/ns/mnt").strip()


def test_logs_arrive_here(cluster: SshCluster) -> None:
    deadline = time.monotonic() + 5
    path = cluster.log_dir("n2") / "server.log"
    while not path.exists() or path.read_text() != "here\n":
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_port_that_is_taken_is_refused(lab: Lab, cluster: SshCluster, tmp_path: Path) -> None:
    with (
        made(lab, tmp_path, "tsshp1") as other,
        pytest.raises(
            InfrastructureError, match=rf"root@.*cannot have port {PORT} of 10.44.0.1: Address already"
        ),
    ):
        other.launch({"n1": [Process(name="server", argv=("true",), ports=(PORT,))]})


def test_sshs_own_port_is_never_the_systems(lab: Lab, tmp_path: Path) -> None:
    with (
        made(lab, tmp_path, "tsshp2") as other,
        pytest.raises(InfrastructureError, match="port 22, which is that of SSH"),
    ):
        other.launch({"n1": [Process(name="server", argv=("true",), ports=(22,))]})


# faults


def test_signals_have_their_effect_when_the_call_returns(cluster: SshCluster, lab: Lab) -> None:
    (before,) = cluster.signal("n1", "STOP")
    assert before.state in "RS"
    assert cluster.state("n1")[0].state == "T"
    assert f"cont {before.pid} {before.start}" in _undo(lab, 0)
    cluster.signal("n1", "CONT")
    assert cluster.state("n1")[0].state in "RS"
    assert _undo(lab, 0) == ""
    cluster.signal("n1", "KILL")
    assert cluster.state("n1")[0].exit == -9
    (after,) = cluster.start("n1")
    assert after.alive
    assert after.pid != before.pid


def test_a_block_drops_the_systems_packets_and_nothing_else(cluster: SshCluster, lab: Lab) -> None:
    assert cluster.reaches("n1", "n2", PORT)
    facts = cluster.block("f1", [(Endpoint("n1"), Endpoint("n2")), (Endpoint("n2"), Endpoint("n1"))])
    assert facts["pairs"] == 2
    try:
        assert not cluster.reaches("n1", "n2", PORT)
        assert not cluster.reaches("n2", "n1", OTHER)
        assert cluster.reaches("n1", "n3", PORT)
        assert cluster.reaches("n3", "n2", PORT)
        assert cluster.reaches("n1", "n2", 22), "the way in is never cut"
        assert cluster.dropped() > 0
        assert _undo(lab, 1) == "nft splitbrain_tsshm1n2"
    finally:
        cluster.unblock("f1")
    assert cluster.reaches("n1", "n2", PORT)
    assert _undo(lab, 1) == ""
    assert cluster.unblock("f1")["pairs"] == 0


def test_blocks_add_up_go_one_way_and_know_ports(cluster: SshCluster) -> None:
    cluster.block("f1", [(Endpoint("n1"), Endpoint("n2", OTHER))])
    cluster.block("f2", [(Endpoint("n1"), Endpoint("n3"))])
    assert cluster.reaches("n1", "n2", PORT)
    assert not cluster.reaches("n1", "n2", OTHER)
    assert not cluster.reaches("n1", "n3", PORT)
    cluster.unblock("f1")
    assert cluster.reaches("n1", "n2", OTHER)
    assert not cluster.reaches("n3", "n1", PORT), "a one-way cut takes the answers away"
    cluster.unblock("f2")
    assert cluster.reaches("n1", "n3", PORT)


def test_packets_are_shaped_where_they_are_sent(cluster: SshCluster, lab: Lab) -> None:
    if (reason := cluster.capabilities["shape"]) is not None:
        pytest.fail(reason)
    there, back = (Endpoint("n1"), Endpoint("n2")), (Endpoint("n2"), Endpoint("n1"))
    quick = cluster.echo("n1", "n2", count=10)
    assert quick.received == 10
    cluster.shape("f1", [there, back], Shaping(delay_ms=40))
    try:
        assert _undo(lab, 0) == "nft splitbrain_tsshm1n1_q"
        slow = cluster.echo("n1", "n2", count=10)
        assert min(slow.rtt_ms) > 75
        assert max(cluster.echo("n1", "n3", count=10).rtt_ms) < 75
    finally:
        cluster.unshape("f1")
    assert _undo(lab, 0) == ""
    assert min(cluster.echo("n1", "n2", count=10).rtt_ms) < 40
    for shaping, seen in (
        (Shaping(loss=0.5, seed=4), lambda e: 0 < e.received < 60),
        (Shaping(duplicate=0.5, seed=4), lambda e: e.received == 60 and e.duplicates > 5),
        (Shaping(corrupt=0.5, seed=4), lambda e: e.received < 60 and e.bad_checksums > 5),
    ):
        cluster.shape("f2", [there], shaping)
        try:
            found = cluster.echo("n1", "n2", count=60, interval_s=0.002)
            assert seen(found), (shaping, found)
            assert cluster.shaped()["seen"] > 0
        finally:
            cluster.unshape("f2")


def _undo(lab: Lab, host: int) -> str:
    return lab.hosts[host].run("cat /var/tmp/splitbrain-root/runs/tsshm1*/undo").strip()
