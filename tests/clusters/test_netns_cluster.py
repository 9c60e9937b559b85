"""A real cluster of namespaces: what nodes see, what faults do to them, and that nothing stays."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusters.means import cgroup, namespaces, procfs
from clusters.means.leftovers import leftovers
from clusters.providers.netns import Netns, NetnsCluster
from harness.core.cluster import DATA_DIR, PROGRAM_DIR, Endpoint, Process
from harness.core.errors import InfrastructureError, NodeFailed, UsageError

pytestmark = pytest.mark.netns

PORT = 7000
SERVER = """
import os, socket, sys, threading, time
print("starts as", os.getpid(), "on", socket.gethostname(), flush=True)
server = socket.create_server(("", 7000))
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
if os.fork() == 0:
    time.sleep(1000)
while True:
    server.accept()[0].close()
"""


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def serves(made: NetnsCluster, node: str) -> bool:
    """Whether the node's server accepts; `reaches` takes a refusal for an answer, too."""
    with namespaces.tcp_socket(made._net("c1")) as sock:
        sock.settimeout(2)
        return sock.connect_ex((made._addresses[node], PORT)) == 0


def server(name: str = "server") -> Process:
    return Process(
        name=name,
        argv=(
            str(Path(sys.executable).resolve()),
            f"{DATA_DIR}/etc/server.py",
        ),  # a venv below /tmp is not seen there
        files={f"{DATA_DIR}/etc/server.py": SERVER},
        dirs=(f"{DATA_DIR}/var",),
        ports=(PORT,),
    )


def shell(text: str) -> Process:
    return Process(name="shell", argv=("/bin/sh", "-c", text))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NetnsCluster]:
    run_dir = tmp_path_factory.mktemp("run")
    made = Netns().create(run="tclus1", run_dir=run_dir, nodes=3, mounts={})
    try:
        made.launch({node.name: [server()] for node in made.nodes})
        until(lambda: all(serves(made, node.name) for node in made.nodes))
        yield made
    finally:
        made.close()
    assert leftovers("tclus1") == []
    assert [p.name for p in run_dir.iterdir()] == ["logs"], "data is gone, logs stay"


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[NetnsCluster]:
    made = Netns().create(run="tfresh", run_dir=tmp_path, nodes=1, mounts={})
    try:
        yield made
    finally:
        made.close()
    assert leftovers("tfresh") == []


def output(made: NetnsCluster, process: Process) -> str:
    made.launch({"n1": [process]})
    until(lambda: not made.state("n1")[0].alive)
    return (made.log_dir("n1") / f"{process.name}.log").read_text()


def test_every_place_reaches_every_node(cluster: NetnsCluster) -> None:
    for source in (*cluster.nodes, *cluster.places):
        for target in cluster.nodes:
            assert cluster.reaches(source.name, target.name, PORT)
    assert cluster.reaches("n1", "c2", 1), "a refusal came back, so packets go both ways"


def test_ipv6_reaches_as_well(cluster: NetnsCluster) -> None:
    address = cluster.nodes[1].address6
    if address is None:
        pytest.skip("this host has no IPv6")
    seen: list[int] = []

    def connect() -> None:
        cluster.enter("c1")
        with socket.socket(socket.AF_INET6) as sock:
            sock.settimeout(5)
            seen.append(sock.connect_ex((address, 1)))
            with_block = cluster.block("f6", [(Endpoint("c1"), Endpoint("n2"))])
            assert with_block["pairs"] == 1
        with socket.socket(socket.AF_INET6) as sock:
            sock.settimeout(0.2)
            seen.append(sock.connect_ex((address, 1)))
        cluster.unblock("f6")

    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    assert seen[0] == 111, "refused: reached"
    assert seen[1] != 111, "blocked for IPv6, too"


def test_a_block_is_directed_and_counted(cluster: NetnsCluster) -> None:
    before = cluster.dropped()
    facts = cluster.block("f1", [(Endpoint("n1"), Endpoint("n2"))])
    assert facts["pairs"] == 1
    assert facts["took_ms"] > 0
    assert not cluster.reaches("n1", "n2", PORT)
    assert not cluster.reaches("n2", "n1", PORT), "its answers are cut"
    assert cluster.reaches("c1", "n2", PORT), "the place beside n1 is not n1"
    assert cluster.reaches("n1", "n3", PORT)
    assert cluster.dropped() > before
    cluster.unblock("f1")
    assert cluster.unblock("f1")["pairs"] == 0
    assert cluster.reaches("n1", "n2", PORT)


def test_a_leader_is_cut_off_together_with_its_clients_or_without(cluster: NetnsCluster) -> None:
    def cut(names: tuple[str, ...]) -> list[tuple[Endpoint, Endpoint]]:
        ends = [e.name for e in (*cluster.nodes, *cluster.places)]
        rest = [n for n in ends if n not in names]
        both = [(a, b) for a in names for b in rest]
        return [(Endpoint(a), Endpoint(b)) for a, b in [*both, *((b, a) for a, b in both)]]

    cluster.block("f1", cut(("n1", "c1")))
    assert cluster.reaches("c1", "n1", PORT)
    assert not cluster.reaches("c1", "n2", PORT)
    cluster.block("f1", cut(("n1",)))
    assert not cluster.reaches("c1", "n1", PORT)
    assert cluster.reaches("c1", "n2", PORT), "the same name replaces"
    cluster.unblock("f1")


def test_blocks_of_two_faults_add_up(cluster: NetnsCluster) -> None:
    cluster.block("f1", [(Endpoint("n1"), Endpoint("n2"))])
    assert cluster.block("f2", [(Endpoint("n1"), Endpoint("n3"))])["pairs"] == 2
    cluster.unblock("f1")
    assert cluster.reaches("n1", "n2", PORT)
    assert not cluster.reaches("n1", "n3", PORT)
    cluster.unblock("f2")
    assert cluster.reaches("n1", "n3", PORT)


def test_a_block_of_one_port_lets_the_others_pass(cluster: NetnsCluster) -> None:
    cluster.block("f1", [(Endpoint("n1"), Endpoint("n2", PORT))])
    assert not cluster.reaches("n1", "n2", PORT)
    assert cluster.reaches("n1", "n2", PORT + 1)
    cluster.unblock("f1")


def test_stop_continue_kill_start(cluster: NetnsCluster) -> None:
    (before,) = cluster.state("n3")
    assert before.alive
    assert before.pid in {int(p.name) for p in Path("/proc").iterdir() if p.name.isdecimal()}
    assert cluster.signal("n3", "STOP") == (before,) or cluster.state("n3")[0].state == "T"
    assert procfs.thread_states(before.pid, before.start) == {"T"}
    cluster.signal("n3", "STOP")
    assert cluster.state("n3")[0].state == "T", "idempotent"
    cluster.signal("n3", "CONT")
    assert cluster.state("n3")[0].state not in ("T", None)
    assert cluster.start("n3")[0].pid == before.pid, "it runs: nothing to start"

    cluster.signal("n3", "STOP")
    cluster.signal("n3", "KILL")
    (dead,) = cluster.state("n3")
    assert (dead.state, dead.exit, dead.alive) == (None, -9, False)
    assert procfs.same(before.pid, before.start) is None
    assert not Path(f"/proc/{before.pid}").exists()

    (again,) = cluster.start("n3")
    assert (again.pid, again.start) != (before.pid, before.start)
    until(lambda: serves(cluster, "n3"))
    cluster.signal("n3", "KILL", pid=before.pid, start=before.start)
    assert cluster.state("n3")[0].alive, "the one that was meant is gone; its successor is not it"
    assert (cluster.log_dir("n3") / "server.log").read_text().count("starts as") == 2


def test_kill_takes_the_children_along(cluster: NetnsCluster) -> None:
    tasks = next(
        root / "splitbrain-tclus1" / "n2"
        for root in cgroup._v2
        if root.joinpath("splitbrain-tclus1").exists()
    )

    def members() -> int:
        return len((tasks / "cgroup.procs").read_text().split())

    until(lambda: members() == 3)  # init, server, its child
    cluster.signal("n2", "KILL")
    until(lambda: members() == 1)
    cluster.start("n2")
    until(lambda: serves(cluster, "n2"))


def test_names_that_nobody_has(cluster: NetnsCluster) -> None:
    with pytest.raises(UsageError, match="did you mean 'n3'"):
        cluster.state("n33")
    with pytest.raises(UsageError, match="node or place"):
        cluster.reaches("x9", "n1", PORT)
    with pytest.raises(UsageError, match="did you mean 'KILL'"):
        cluster.signal("n1", "KIL")
    with pytest.raises(UsageError, match="one of them alone"):
        cluster.signal("n1", "KILL", pid=1)
    with pytest.raises(InfrastructureError, match="runs already"):
        cluster.launch({"n1": [server()]})


def test_a_thread_enters_and_the_others_stay(cluster: NetnsCluster) -> None:
    seen: list[str] = []

    def work() -> None:
        cluster.enter("c2")
        with socket.create_connection((cluster.nodes[0].address, PORT), timeout=5) as sock:
            seen.append(sock.getsockname()[0])

    thread = threading.Thread(target=work)
    here = Path("/proc/thread-self/ns/net").readlink()
    thread.start()
    thread.join()
    assert seen == [cluster.places[1].address]
    assert Path("/proc/thread-self/ns/net").readlink() == here


def test_many_threads_ask_at_once(cluster: NetnsCluster) -> None:
    failed: list[BaseException] = []

    def work(i: int) -> None:
        try:
            for _ in range(20):
                (state,) = cluster.state(f"n{i % 3 + 1}")
                assert state.name == "server"
                cluster.block(f"t{i}", [(Endpoint("c1"), Endpoint("c2"))])
                assert cluster.reaches("n1", "n2", PORT, timeout_s=2)
                cluster.unblock(f"t{i}")
        except BaseException as e:  # noqa: BLE001 - shown by the assertion
            failed.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_helper_has_every_network_in_its_hands(cluster: NetnsCluster, tmp_path: Path) -> None:
    out = tmp_path / "seen"
    code = f"""
import json, os, signal, sys, time
nets = json.loads(os.environ["SPLITBRAIN_NETNS"])
seen = {{name: os.fstat(fd).st_ino for name, fd in nets.items()}}
seen["own"] = os.stat("/proc/self/ns/net").st_ino
seen["ignores"] = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
print("hello", file=sys.stderr, flush=True)
open({str(out)!r} + ".part", "w").write(json.dumps(seen))
os.rename({str(out)!r} + ".part", {str(out)!r})
time.sleep(1000)
"""
    pid = cluster.spawn_helper([sys.executable, "-c", code], "watcher")
    until(out.exists)
    seen = json.loads(out.read_text())
    assert set(seen) == {"n1", "n2", "n3", "c1", "c2", "c3", "own", "ignores"}
    assert seen["own"] != Path("/proc/thread-self/ns/net").stat().st_ino, "the host's is none of its business"
    assert seen["ignores"]
    assert len({seen[n] for n in ("n1", "n2", "n3", "c1", "c2", "c3", "own")}) == 7
    assert procfs.stat(pid) is not None
    assert "hello" in (cluster.log_dir("n1").parent / "watcher.log").read_text()
    with pytest.raises(InfrastructureError, match=r"helper gone cannot be executed: /no/such"):
        cluster.spawn_helper(["/no/such"], "gone")


def test_what_a_node_sees(fresh: NetnsCluster) -> None:
    text = output(
        fresh,
        shell(
            f"hostname; cat /proc/sys/kernel/ns_last_pid >/dev/null && echo proc; ls /tmp | wc -l; "
            f"ls /run; touch {DATA_DIR}/mine && echo wrote; touch /etc/mine || echo sealed; "
            f"touch /var/mine || echo sealed; cat /proc/1/comm >/dev/null && ls -d /proc/[0-9]* | wc -l"
        ),
    )
    lines = text.splitlines()
    assert lines[:2] == ["n1", "proc"]
    assert lines[2:5] == ["0", "splitbrain", "wrote"]
    assert lines.count("sealed") == 2
    assert int(lines[-1]) <= 5, "only its own processes"
    assert not Path("/etc/mine").exists()


def test_a_process_runs_as_the_user_it_asks_for(fresh: NetnsCluster) -> None:
    process = Process(
        name="who",
        argv=(
            "/bin/sh",
            "-c",
            f"id -un; echo $GREETING; echo x >> {DATA_DIR}/sub/f && echo wrote; touch {DATA_DIR}/g",
        ),
        env={"GREETING": "hello"},
        dirs=(f"{DATA_DIR}/sub",),
        files={f"{DATA_DIR}/sub/f": ""},
        user="nobody",
    )
    assert output(fresh, process).split() == ["nobody", "hello", "wrote"]


def test_exit_codes_and_what_is_left_behind(fresh: NetnsCluster) -> None:
    output(fresh, shell("sleep 1000 & exit 3"))
    assert fresh.state("n1")[0].exit == 3
    until(lambda: [s for s in leftovers("tfresh") if "sleep" in s] == [])


@pytest.mark.parametrize(
    ("process", "error", "says"),
    [
        (
            Process(name="x", argv=("/no/such/program",)),
            NodeFailed,
            "/no/such/program: No such file or directory",
        ),
        (Process(name="x", argv=("/etc/passwd",)), NodeFailed, "/etc/passwd: Permission denied"),
        (
            Process(name="x", argv=("/bin/true",), user="nosuchuser"),
            InfrastructureError,
            "no user 'nosuchuser'",
        ),
        (
            Process(name="x", argv=("/bin/true",), dirs=("/usr/x",)),
            InfrastructureError,
            "Read-only file system",
        ),
    ],
)
def test_what_cannot_be_started_says_why(
    fresh: NetnsCluster, process: Process, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        fresh.launch({"n1": [process]})
    (state,) = fresh.state("n1")
    assert (state.alive, state.exit) == (False, None)


def test_mounts_from_below_masked_directories_are_read_only(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.mkdir()
    (program / "tool").write_text("#!/bin/sh\necho tool runs\ntouch $0 || echo read-only\n")
    (program / "tool").chmod(0o755)
    single = tmp_path / "single"
    single.write_text("one file")
    assert str(tmp_path).startswith("/tmp"), "the case that matters: /tmp is masked in the node"
    mounts = {str(program): PROGRAM_DIR, str(single): "/run/x/single"}
    made = Netns().create(run="tmount", run_dir=tmp_path / "run", nodes=1, mounts=mounts)
    try:
        text = output(made, shell(f"{PROGRAM_DIR}/tool; cat /run/x/single"))
    finally:
        made.close()
    assert text.startswith("tool runs\n")
    assert "read-only" in text
    assert text.endswith("one file")
    assert (program / "tool").exists(), "what was mounted is not removed with the data"


def test_a_mount_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="/no/such is to be mounted"):
        Netns().create(run="tmiss1", run_dir=tmp_path, nodes=1, mounts={"/no/such": "/run/x"})
    with pytest.raises(InfrastructureError, match="cannot mount on /no/target"):
        Netns().create(run="tmiss2", run_dir=tmp_path, nodes=2, mounts={"/usr": "/no/target"})
    assert leftovers("tmiss2") == []
    assert not (tmp_path / "work").exists()


def test_close_is_idempotent_and_final(tmp_path: Path) -> None:
    made = Netns().create(run="tclose", run_dir=tmp_path, nodes=1, mounts={})
    made.launch({"n1": [shell("trap '' TERM; while :; do sleep 1; done")]})
    made.close()
    made.close()
    assert leftovers("tclose") == []
    for call in (lambda: made.state("n1"), lambda: made.enter("n1"), made.dropped):
        with pytest.raises(InfrastructureError, match="the cluster is closed"):
            call()


def test_an_agent_that_dies_takes_all_along_and_every_call_says_so(tmp_path: Path) -> None:
    made = Netns().create(run="tagent", run_dir=tmp_path, nodes=2, mounts={})
    try:
        made.launch({"n1": [shell("sleep 1000")]})
        helper = made.spawn_helper(["sleep", "1000"], "helper")
        assert made._agent is not None
        os.kill(made._agent.pid, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(InfrastructureError, match="the agent that owns the nodes has ended"):
                made.state("n1")
        until(lambda: (stat := procfs.stat(helper)) is None or stat.state == "Z")
    finally:
        made.close()
    assert leftovers("tagent") == []
    assert not (tmp_path / "work").exists()


def test_a_hung_agent_does_not_hang_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from clusters.providers import netns

    monkeypatch.setattr(netns, "_close_s", 0.3)
    made = Netns().create(run="thangs", run_dir=tmp_path, nodes=1, mounts={})
    assert made._agent is not None
    os.kill(made._agent.pid, signal.SIGSTOP)
    made.close()
    assert leftovers("thangs") == []


def test_an_answer_that_nobody_waited_for_is_skipped(fresh: NetnsCluster) -> None:
    assert fresh._channel is not None
    fresh._channel.send({"id": 0, "op": "dropped"})
    assert fresh.state("n1") == ()


def test_made_in_a_thread_that_ends(tmp_path: Path) -> None:
    made: list[NetnsCluster] = []

    def work() -> None:
        made.append(Netns().create(run="tthrea", run_dir=tmp_path, nodes=1, mounts={}))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    try:
        made[0].launch({"n1": [shell("sleep 1000")]})
        assert made[0].state("n1")[0].alive
    finally:
        made[0].close()


def test_a_run_directory_that_cannot_be_written_to() -> None:
    with pytest.raises(InfrastructureError, match="the cluster cannot be made in /proc/nowhere"):
        Netns().create(run="tnodir", run_dir=Path("/proc/nowhere"), nodes=1, mounts={})


def test_an_address_range_in_use(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"127.0.0.0/24 is in use by lo"):
        Netns({"subnet": "127.0.0.0/24"}).create(run="trange", run_dir=tmp_path, nodes=1, mounts={})


def test_the_host_can_do_what_the_tests_rely_on() -> None:
    found = Netns().probe()
    basic = {"netns", "block", "shape", "client-places", "signal", "restart", "cgroup", "users", "clock"}
    disks = {"at-rest", "loop-disk", "trace"}
    assert set(found) == basic | disks | {"cpu-limit", "memory-limit", "descriptor-limit"}
    assert found["netns"] is None
