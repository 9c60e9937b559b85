"""Provider `ssh` on real OpenSSH servers: what reaches a host, what is made there, and what faults do there."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusters.providers._ssh_cluster import SshCluster
from clusters.providers._ssh_host import Host as Remote
from clusters.providers._ssh_host import digest_of
from clusters.providers._ssh_link import Access, Link, everywhere, parse
from clusters.providers.ssh import Ssh
from harness.core.cluster import Course, Endpoint, Process, Shaping
from harness.core.errors import InfrastructureError, MissingCapability, SplitbrainError, UsageError
from harness.core.secrets import HIDDEN
from tests.clusters.sshd import PLAIN, USER, Host, Lab, keygen, listens

pytestmark = pytest.mark.ssh
PORT, OTHER = 7000, 7001  # of the cluster that tests share; others are beside it
# A server that answers every connection with a line, and writes down what it was sent.
SERVER = """
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
threading.Thread(target=serve, args=(int(sys.argv[3]),), daemon=True).start()
print("here", flush=True)
serve(int(sys.argv[2]))
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


def launch(cluster: SshCluster, port: int, **more: Any) -> None:
    ports = (port, port + 1)
    cluster.launch(
        {
            n.name: [
                Process(
                    name="server",
                    argv=("/usr/bin/python3", "-c", SERVER, n.address, *map(str, ports)),
                    ports=ports,
                    **more,
                )
            ]
            for n in cluster.nodes
        }
    )
    deadline = time.monotonic() + 10
    while not all(listens(n.address, one) for n in cluster.nodes for one in ports):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def cluster(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshCluster]:
    with lab.entered(), made(lab, tmp_path_factory.mktemp("run"), "tsshm1") as one:
        launch(one, PORT)
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


def test_folders_and_files_arrive_as_they_are_and_only_once(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "program"
    (folder / "deep" / ("d" * 120)).mkdir(parents=True)
    (folder / "deep" / ("d" * 120) / "file").write_bytes(os.urandom(700_001))
    (folder / "run").write_text("#!/bin/sh\ncat deep/d*/file | sha256sum\n")
    (folder / "run").chmod(0o755)
    (folder / "link").symlink_to("run")
    (folder / "empty").touch()
    sent = Remote(link(lab, lab.hosts[0]), lab.hosts[0].address, {})
    sent.link.connect()
    try:
        sent.look()
        there = sent.send(folder)
        here = subprocess.run(
            ["sh", "-c", "cat deep/d*/file | sha256sum"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
        assert sent.link.check(f"cd {there} && ./link", "run it").decode() == here.stdout
        assert sent.link.check(f"cd {there} && readlink link && wc -c < empty", "look").decode() == "run\n0\n"
        before = sent.link.check(f"stat -c %z {there}", "look")
        assert sent.send(folder) == there
        assert sent.link.check(f"stat -c %z {there}", "look") == before
    finally:
        sent.link.close()


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


def test_a_run_that_is_stopped_while_something_is_sent_does_not_wait_for_it(lab: Lab, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as large:
        large.truncate(1 << 30)
    digest_of(tmp_path / "large")
    hosts = Ssh(options(lab)).reach()
    cluster = SshCluster("tsshw1", tmp_path, hosts, 15)
    failed: list[BaseException] = []

    def make() -> None:
        try:
            cluster.make({str(tmp_path / "large"): "/run/splitbrain/program/large"})
        except InfrastructureError as e:
            failed.append(e)

    making = threading.Thread(target=make)
    making.start()
    time.sleep(0.5)
    begun = time.monotonic()
    assert cluster.abandon()
    making.join()
    assert time.monotonic() < begun + 15
    assert failed


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
    with pytest.raises(InfrastructureError):
        cluster._hosts["n2"].ask("nonsense")
    own = cluster.log_dir("n2").parent / "agent-n2.log"
    _wait(lambda: "do_nonsense" in own.read_text())


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


# what is said when something is not as it should be


def refusal(lab: Lab, **more: Any) -> str:
    with pytest.raises(SplitbrainError) as caught:
        Ssh(options(lab, **more)).resources(run="tsshr1", nodes=3)
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_wrong_key_is_said_without_its_path(lab: Lab, tmp_path: Path) -> None:
    keygen(tmp_path / "other")
    said = refusal(lab, key=str(tmp_path / "other"))
    assert said.startswith("n1 (root@10.44.0.1): the key of --opt ssh.key is not accepted for user root")
    assert "authorized_keys" in said
    assert str(tmp_path) not in said
    assert "names no file" in refusal(lab, key=str(tmp_path / "none"))


def test_a_key_with_a_passphrase_asks_for_an_agent(lab: Lab, tmp_path: Path) -> None:
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(tmp_path / "locked")]
    subprocess.run(argv, check=True)
    assert "has a passphrase; load it into an agent" in refusal(lab, key=str(tmp_path / "locked"))


def test_no_key_and_no_agent(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    said = refusal(lab, key=None)
    assert "no authentication agent runs (SSH_AUTH_SOCK is not set)" in said
    assert said.startswith("n1 (root@10.44.0.1): there is no key to log in with")
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "gone"))
    assert "nobody answers at SSH_AUTH_SOCK" in refusal(lab, key=None)


def test_a_key_in_an_agent_does(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    sock = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL)
    try:
        while not sock.exists():
            time.sleep(0.01)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
        subprocess.run(["ssh-add", "-q", str(lab.key)], check=True)
        one = Link("n1", parse(str(lab.hosts[0])), Access(None, str(lab.known_hosts)))
        one.connect()
        one.close()
    finally:
        agent.terminate()
        agent.wait()


def test_a_key_that_the_run_did_not_tell_may_be_at_hand(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(
        InfrastructureError, match=r"which key the run used is not known on this machine.*ssh-add"
    ):
        Ssh(options(lab, key=HIDDEN)).reach()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").write_bytes(lab.key.read_bytes())
    (tmp_path / ".ssh" / "id_ed25519").chmod(0o600)
    for host in Ssh(options(lab, key=HIDDEN)).reach():
        host.link.close()


def test_an_unknown_host_key_says_its_fingerprint_and_how_to_accept_it(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "known").write_text("")
    said = refusal(lab, known_hosts=str(tmp_path / "known"))
    wanted = subprocess.run(
        ["ssh-keygen", "-lf", str(lab.hosts[0].folder / "etc" / "ssh" / "host_key.pub")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()[1]
    assert said.startswith(f"n1 (root@10.44.0.1): its host key is not known: ssh-ed25519 {wanted}")
    assert f"ssh-keyscan -p 22 10.44.0.1 >> {tmp_path / 'known'}" in said


def test_a_changed_host_key_is_refused_with_both_fingerprints(lab: Lab, tmp_path: Path) -> None:
    _first, second, _ = lab.known_hosts.read_text().splitlines()
    other = second.replace("10.44.0.2", "10.44.0.1")
    (tmp_path / "known").write_text(f"{other}\n{second}\n")
    with pytest.raises(InfrastructureError) as caught:
        Ssh(options(lab, hosts=("root@10.44.0.1",), known_hosts=str(tmp_path / "known"))).reach()
    assert "n1 (root@10.44.0.1): its host key has changed: SHA256:" in str(caught.value)
    assert "ssh-keygen -f" in str(caught.value)


def test_a_host_that_nobody_listens_on(lab: Lab) -> None:
    said = refusal(lab, hosts=("root@10.44.0.1:2222",))
    assert said.startswith("n1 (root@10.44.0.1:2222) cannot be reached: ")
    assert said.endswith("expected an SSH server at 10.44.0.1 port 2222")


def test_no_sudo_says_what_to_allow_and_what_goes_without(lab: Lab) -> None:
    said = refusal(lab, hosts=(f"{PLAIN}@10.44.0.1",))
    assert said.startswith(
        f"n1 ({PLAIN}@10.44.0.1): {PLAIN} cannot become root there (sudo: a password is required)"
    )
    assert f"{PLAIN} ALL=(root) NOPASSWD: ALL" in said
    assert "--opt ssh.sudo=false" in said


def test_no_python_on_the_host(lab: Lab) -> None:
    said = refusal(lab, python="/no/such/python")
    assert said.startswith(
        "n1 (root@10.44.0.1): the host has no Python as /no/such/python; Python 3.11 or newer"
    )


def test_a_full_disk_on_a_host(lab: Lab) -> None:
    lab.hosts[0].run("mkdir -p /run/small && mount -t tmpfs -o size=8m tmpfs /run/small")
    said = refusal(lab, dir="/run/small")
    assert said.startswith("n1 (root@10.44.0.1): the disk that holds /run/small is full (8 MB left")


@pytest.mark.slow
def test_a_disk_that_fills_up_while_something_is_sent(lab: Lab, tmp_path: Path) -> None:
    lab.hosts[0].run("mkdir -p /run/little && mount -t tmpfs -o size=70m tmpfs /run/little")
    provider = Ssh(options(lab, hosts=("root@10.44.0.1",), dir="/run/little"))
    (host,) = provider.reach()
    (tmp_path / "large").write_bytes(bytes(80_000_000))
    with pytest.raises(InfrastructureError, match="the disk is full, so that it cannot send large"):
        host.send(tmp_path / "large")
    host.link.close()


def test_addresses_that_cannot_be_told_apart() -> None:
    with pytest.raises(UsageError, match=r"two nodes have the address 127\.0\.0\.1"):
        Ssh({"hosts": ("root@127.0.0.1:2201", "root@127.0.0.1:2202")}).reach()


# who logs in


def test_whoever_may_become_root_can_do_what_root_can(lab: Lab, tmp_path: Path) -> None:
    hosts = tuple(f"{USER}@{host.address}" for host in lab.hosts)
    with made(lab, tmp_path, "tsshu1", hosts=hosts) as cluster:
        wanting = ("block", "shape", "clock", "users", "cpu-limit")
        assert [cluster.capabilities[name] for name in wanting] == [None] * 5
        launch(cluster, 7100, user="nobody")
        assert lab.hosts[0].run(f"stat -c %U /proc/{cluster.state('n1')[0].pid}").strip() == "nobody"
        cluster.block("f1", [(Endpoint("n1"), Endpoint("n2"))])
        assert not cluster.reaches("n1", "n2", 7100)
        cluster.signal("n1", "STOP")
        cluster.signal("n1", "CONT")
        cluster.disk.snapshot("n1")
    assert lab.hosts[0].run(f"ls /var/tmp/splitbrain-{USER}/runs") == ""


def test_without_root_there_are_the_faults_that_need_none(lab: Lab, tmp_path: Path) -> None:
    hosts = tuple(f"{PLAIN}@{host.address}" for host in lab.hosts)
    with made(lab, tmp_path, "tsshu2", hosts=hosts, sudo=False) as cluster:
        assert cluster.capabilities["signal"] is None
        assert cluster.capabilities["clock"] is None
        for name in ("block", "shape", "users", "cpu-limit"):
            assert str(cluster.capabilities[name]).startswith("on n1: "), name
        launch(cluster, 7100)
        assert "7100" in lab.hosts[0].run(f"ps -wwu {PLAIN} -o args")
        for number in ("STOP", "CONT", "KILL"):
            cluster.signal("n1", number)
        cluster.start("n1")
        cluster.clock.shift("f1", "n1", Course(offset_ns=60_000_000_000))
        assert cluster.clock.clocks("n1")[0].offset_ns > 59_000_000_000
        cluster.clock.unshift("f1", "n1")
        with pytest.raises(MissingCapability, match=r"partitions cannot be made on this host"):
            cluster.block("f1", [(Endpoint("n1"), Endpoint("n2"))])
    assert lab.hosts[0].run(f"ls /var/tmp/splitbrain-{PLAIN}/runs") == ""


def test_where_there_is_no_nftables_iptables_does_it(lab: Lab) -> None:
    """The rules alone: taken with the library out of the way, in the first host's network."""
    host = lab.hosts[0]
    script = (
        "from clusters.means.hostrules import Cut, IptablesRules, discard; import sys\n"
        "r = IptablesRules('tsshi1', [22]); r.set([Cut('10.44.0.2', (7000, 7001)), Cut('fd00::2', (7000,))])\n"
        "print(r.undo, r.dropped()); sys.stdout.flush(); sys.stdin.read(); r.set([]); discard('tsshi1')\n"
    )
    with contextlib.closing(link(lab, host)) as one:
        one.connect()
        sent = Remote(one, host.address, {})
        sent.look()
        code = sent.send_code()
    argv = host.command(["/usr/bin/python3", "-c", script])
    with subprocess.Popen(
        argv,
        env={"PYTHONPATH": code, "PATH": "/usr/sbin:/usr/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert b"iptables iptables splitbrain-tsshi1" in process.stdout.readline()
        rules = host.run("iptables -S; ip6tables -S")
        assert "-A INPUT -j splitbrain-tsshi1" in rules
        assert "-s 10.44.0.2/32 -p tcp -m multiport --dports 7000,7001 -j DROP" in rules
        assert "-s fd00::2/128 -p udp -m multiport --sports 7000 -j DROP" in rules
        assert rules.index("--sports 22 -j RETURN") < rules.index("DROP")
        process.communicate(timeout=10)
    assert "splitbrain" not in host.run("iptables -S; ip6tables -S")


# the dead man's switch


def _wait(what: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _silenced(cluster: SshCluster) -> None:
    """Keep the harness's end from being heard, the connection standing."""
    cluster._over.set()
    for beat in cluster._beats:
        beat.join()


def test_a_host_that_hears_nothing_undoes_what_faults_did_and_the_harness_is_told(
    lab: Lab, tmp_path: Path
) -> None:
    pair = [(Endpoint("n1"), Endpoint("n2"))]
    with made(lab, tmp_path, "tsshs1", silence_s=5) as cluster:
        launch(cluster, 7100)
        cluster.block("f1", pair)
        (paused,) = cluster.signal("n2", "STOP")
        (other,) = cluster.signal("n3", "STOP")
        agent = lab.hosts[2].run("cut -d' ' -f1 /var/tmp/splitbrain-root/runs/tsshs1n3/agent").strip()
        _silenced(cluster)
        lab.hosts[2].run(f"kill -STOP {agent}")  # so that on n3 there is nobody but the switch
        assert "splitbrain_tsshs1n2" in lab.hosts[1].run("nft list tables")
        _wait(lambda: lab.hosts[1].run("nft list chain inet splitbrain_tsshs1n2 cut").count("drop") == 0)
        for host, state in ((lab.hosts[1], paused), (lab.hosts[2], other)):
            _wait(lambda h=host, s=state: "State:\tT" not in h.run(f"grep State /proc/{s.pid}/status"))
        assert "the switch" in lab.hosts[2].run("cat /var/tmp/splitbrain-root/runs/tsshs1n3/fired")
        lab.hosts[2].run(f"kill -CONT {agent}")
        cluster._beat(cluster._hosts["n2"])
        with pytest.raises(
            InfrastructureError, match=r"n2 .*heard nothing of the harness for 5 s and has undone"
        ):
            cluster.check()
        assert cluster.unblock("f1")["pairs"] == 0


def test_a_node_that_is_kept_has_nothing_in_its_way_and_ends_in_time_whoever_is_there(
    lab: Lab, tmp_path: Path
) -> None:
    runs = "ls /var/tmp/splitbrain-root/runs"
    with contextlib.suppress(InfrastructureError), made(lab, tmp_path, "tsshk1") as cluster:
        launch(cluster, 7100)
        cluster.block("f1", [(Endpoint("n1"), Endpoint("n2"))])
        cluster.signal("n3", "STOP")
        cluster.keep(2.0)
        assert cluster.reaches("n1", "n2", 7100)
        assert cluster.state("n3")[0].state in "RS"
        _silenced(cluster)
        cluster._hosts["n1"].link.close()  # one hears of our end, and two hear nothing
        assert all("tsshk1" in host.run(runs) for host in lab.hosts)
        for host in lab.hosts:
            _wait(lambda h=host: "tsshk1" not in h.run(runs))
            assert ":7100" not in host.run("ss -Htln")
            assert "tsshk1" not in host.run("nft list tables; ps axo args")


@pytest.mark.slow
def test_the_switch_outlives_an_agent_that_was_killed(lab: Lab, tmp_path: Path) -> None:
    with contextlib.suppress(InfrastructureError), made(lab, tmp_path, "tsshs2", silence_s=5) as cluster:
        launch(cluster, 7100)
        cluster.block("f1", [(Endpoint("n1"), Endpoint("n2"))])
        lab.hosts[1].run("kill -KILL $(cut -d' ' -f1 /var/tmp/splitbrain-root/runs/tsshs2n2/agent)")
        assert "splitbrain_tsshs2n2" in lab.hosts[1].run("nft list tables")
        _wait(lambda: "splitbrain_tsshs2n2" not in lab.hosts[1].run("nft list tables"))
        _wait(lambda: bool(cluster._lost))
        with pytest.raises(
            InfrastructureError, match=r"n2 \(root@.*its agent has ended.*splitbrain heal tsshs2"
        ):
            cluster.check()
    assert ":7100" not in lab.hosts[1].run("ss -Htln"), "a node ends with its agent"
    assert "tsshs2n2" in lab.hosts[1].run("ls /var/tmp/splitbrain-root/runs")
    host = Ssh(options(lab)).reach()[1]
    assert host.heal("tsshs2") == []
    assert "tsshs2n2" not in lab.hosts[1].run("ls /var/tmp/splitbrain-root/runs")
    _wait(lambda: "switch.sh" not in lab.hosts[1].run("ps ax"))
