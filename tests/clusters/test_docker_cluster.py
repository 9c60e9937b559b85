"""A real cluster of containers: what nodes see, what faults do to them, and that nothing stays."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusters.means import cgroup, dockerd, namespaces, procfs
from clusters.means.leftovers import leftovers
from clusters.means.loader import standalone
from clusters.providers.docker import Docker, DockerCluster
from harness.core.cluster import DATA_DIR, PROGRAM_DIR, Endpoint, Process
from harness.core.errors import InfrastructureError, NodeFailed
from tests.clusters.fake_dockerd import Way, folder

pytestmark = pytest.mark.docker

PORT = 7000
PYTHON = str(Path(sys.executable).resolve())
BESIDE = {} if sys.base_prefix == "/usr" else {sys.base_prefix: sys.base_prefix}  # what is no part of /usr
SERVER = """
import os, socket, time
print("starts as", os.getpid(), "on", socket.gethostname(), flush=True)
server = socket.create_server(("", 7000))
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


def serves(made: DockerCluster, node: str) -> bool:
    """Whether the node's server accepts; `reaches` takes a refusal for an answer, too."""
    with namespaces.tcp_socket(made._net("c1")) as sock:
        sock.settimeout(2)
        return sock.connect_ex((made._addresses[node], PORT)) == 0


def server() -> Process:
    return Process(name="server", argv=(PYTHON, "-c", SERVER), dirs=(f"{DATA_DIR}/var",), ports=(PORT,))


def shell(text: str, **more: object) -> Process:
    return Process(name="shell", argv=("/bin/sh", "-c", text), **more)  # type: ignore[arg-type]


def output(made: DockerCluster, process: Process) -> str:
    (made.log_dir("n1") / f"{process.name}.log").unlink(missing_ok=True)
    made.launch({"n1": [process]})
    until(lambda: not made.state("n1")[0].alive)
    return (made.log_dir("n1") / f"{process.name}.log").read_text()


def inner(made: DockerCluster, node: str) -> tuple[int, int]:
    """Pid and start time of the node's container's first process."""
    return made.inits[node]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerCluster]:
    run_dir = tmp_path_factory.mktemp("run")
    program = run_dir / "program"
    program.write_text("#!/bin/sh\necho tool runs\ntouch $0 || echo read-only\n")
    program.chmod(0o755)
    mounts = {str(program): f"{PROGRAM_DIR}/tool", **BESIDE}
    made = Docker().create(run="tdock1", run_dir=run_dir, nodes=2, mounts=mounts)
    try:
        made.launch({node.name: [server()] for node in made.nodes})
        until(lambda: all(serves(made, node.name) for node in made.nodes))
        yield made
    finally:
        made.close()
    assert leftovers("tdock1") == []
    assert sorted(p.name for p in run_dir.iterdir()) == ["logs", "program"], "data is gone, logs stay"


@pytest.fixture(scope="module")
def spare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerCluster]:
    """One node, on which whatever was started ends."""
    made = Docker().create(run="tdock2", run_dir=tmp_path_factory.mktemp("spare"), nodes=1, mounts={})
    try:
        yield made
    finally:
        made.close()
    assert leftovers("tdock2") == []


def test_every_place_reaches_every_node(cluster: DockerCluster) -> None:
    for source in (*cluster.nodes, *cluster.places):
        for target in cluster.nodes:
            assert cluster.reaches(source.name, target.name, PORT)
    assert cluster.reaches("n1", "c2", 1), "a refusal came back, so packets go both ways"


def test_ipv6_reaches_and_is_cut_as_well(cluster: DockerCluster) -> None:
    address = cluster.nodes[1].address6
    if address is None:
        pytest.skip("this host has no IPv6")
    seen: list[object] = []

    def ask(where: str, timeout_s: float) -> None:
        with socket.socket(socket.AF_INET6) as sock:
            sock.settimeout(timeout_s)
            seen.append(sock.connect_ex((where, 1)))

    def connect() -> None:
        cluster.enter("c1")
        ask(address, 5)
        cluster.block("f6", [(Endpoint("c1"), Endpoint("n2"))])
        ask(address, 0.2)
        cluster.unblock("f6")
        ask(address, 5)
        ask("2001:db8::1", 5)

    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    refused, cut, again, nowhere = seen
    assert (refused, again) == (errno.ECONNREFUSED, errno.ECONNREFUSED), "reached"
    assert cut == errno.EAGAIN, "blocked for IPv6, too"
    assert nowhere == errno.ENETUNREACH, "nothing leads out"


def test_nothing_leads_out_of_the_network(cluster: DockerCluster) -> None:
    for node in cluster.nodes:
        lines = Path(f"/proc/{inner(cluster, node.name)[0]}/net/route").read_text().splitlines()[1:]
        assert [line.split()[0] for line in lines] == ["eth0"]
        assert lines[0].split()[1] != "00000000", "the network itself, and no default"


def test_a_block_is_directed_and_counted(cluster: DockerCluster) -> None:
    before = cluster.dropped()
    facts = cluster.block("f1", [(Endpoint("n1"), Endpoint("n2"))])
    assert facts["pairs"] == 1
    assert not cluster.reaches("n1", "n2", PORT)
    assert not cluster.reaches("n2", "n1", PORT), "its answers are cut"
    assert cluster.reaches("c1", "n2", PORT), "the place beside n1 is not n1"
    assert cluster.dropped() > before
    cluster.block("f2", [(Endpoint("c1"), Endpoint("n2", PORT))])
    cluster.unblock("f1")
    assert cluster.reaches("n1", "n2", PORT)
    assert not cluster.reaches("c1", "n2", PORT)
    assert cluster.reaches("c1", "n2", PORT + 1)
    assert cluster.unblock("f2")["pairs"] == 0


def test_stop_continue_kill_start(cluster: DockerCluster) -> None:
    (before,) = cluster.state("n2")
    assert before.alive
    cluster.signal("n2", "STOP")
    assert procfs.thread_states(before.pid, before.start) == {"T"}
    cluster.signal("n2", "CONT")
    assert cluster.state("n2")[0].state not in ("T", None)
    (group, *_) = cgroup.of(before.pid)

    def members() -> int:
        return len((group / "cgroup.procs").read_text().split())

    until(lambda: members() == 4)  # the container's first, our init, server, its child
    cluster.signal("n2", "KILL")
    assert (cluster.state("n2")[0].state, cluster.state("n2")[0].exit) == (None, -9)
    until(lambda: members() == 2)
    assert procfs.same(*inner(cluster, "n2")) is not None, "the container outlives its system"
    (again,) = cluster.start("n2")
    assert (again.pid, again.start) != (before.pid, before.start)
    until(lambda: serves(cluster, "n2"))
    assert (cluster.log_dir("n2") / "server.log").read_text().count("starts as") == 2


def test_a_helper_has_every_network_in_its_hands(cluster: DockerCluster, tmp_path: Path) -> None:
    out = tmp_path / "seen"
    code = f"""
import json, os, sys, time
sys.path.append({str(Path(dockerd.__file__).parents[2])!r})
from harness.core.descriptor import load
load(os.environ["SPLITBRAIN_ENTER"])("n2")
open({str(out)!r} + ".part", "w").write(json.dumps(os.stat("/proc/thread-self/ns/net").st_ino))
os.rename({str(out)!r} + ".part", {str(out)!r})
time.sleep(1000)
"""
    pid = cluster.spawn_helper([sys.executable, "-c", code], "watcher")
    until(out.exists)
    assert json.loads(out.read_text()) == Path(f"/proc/{inner(cluster, 'n2')[0]}/ns/net").stat().st_ino
    assert procfs.stat(pid) is not None


def test_everything_bears_the_runs_name(cluster: DockerCluster) -> None:
    listed = {tuple(line.split()[1:]) for line in leftovers("tdock1") if line.startswith("Docker")}
    expected = {r for r in Docker().resources(run="tdock1", nodes=2) if r[0] in ("container", "network")}
    assert listed == expected
    assert any("splitbrain_tdock1" in line for line in leftovers("tdock1"))
    cluster.check()


def test_what_a_node_sees(spare: DockerCluster) -> None:
    text = output(
        spare,
        shell(
            f"hostname; touch {DATA_DIR}/mine && echo wrote; touch /usr/mine || echo sealed; touch /etc/mine || echo"
            " sealed; grep -c . /proc/self/mounts >/dev/null && ls -d /proc/[0-9]* | wc -l; grep CapEff"
            " /proc/self/status; getent hosts c1"
        ),
    )
    lines = text.splitlines()
    assert lines[:2] == ["n1", "wrote"]
    assert lines.count("sealed") == 2
    assert int(lines[-3]) <= 5, "only its own processes"
    assert not int(lines[-2].split()[1], 16) >> 21 & 1, "root of a container, not of the host (CAP_SYS_ADMIN)"
    assert lines[-1].split() == [spare.places[0].address, "c1"]
    assert not Path("/etc/mine").exists()


def test_the_program_is_mounted_read_only(cluster: DockerCluster) -> None:
    pid = inner(cluster, "n1")[0]
    done = subprocess.run(
        ["nsenter", "-t", str(pid), "-m", f"{PROGRAM_DIR}/tool"], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["tool runs", "read-only"]


def test_a_process_runs_as_the_user_it_asks_for(spare: DockerCluster) -> None:
    process = shell(
        f"id -un; echo $GREETING; echo x >> {DATA_DIR}/sub/f && echo wrote; touch {DATA_DIR}/g",
        env={"GREETING": "hello"},
        dirs=(f"{DATA_DIR}/sub",),
        files={f"{DATA_DIR}/sub/f": ""},
        user="nobody",
    )
    assert output(spare, process).split() == ["nobody", "hello", "wrote"]


def test_exit_codes_orphans_and_what_cannot_be_executed(spare: DockerCluster) -> None:
    output(spare, shell("setsid sleep 0.1 & exit 3"))
    assert spare.state("n1")[0].exit == 3
    with pytest.raises(NodeFailed, match="/no/such/program: No such file or directory"):
        spare.launch({"n1": [Process(name="x", argv=("/no/such/program",))]})


def bare(tmp_path: Path) -> Path:
    """A tar with a shell, the libraries that it needs, and nothing else at all."""
    files, argv = standalone("/bin/sh", "/x")
    path = tmp_path / "rootfs.tar"
    with tarfile.open(path, "w") as tar:
        for source, target in files.items():
            tar.add(source, target.lstrip("/"))
        script = b"#!/x/ld.so /x/none\n"
        info = tarfile.TarInfo("marker")
        info.size = len(script)
        tar.addfile(info, io.BytesIO(script))
    assert argv == ["/x/ld.so", "--library-path", "/x", "/x/" + Path("/bin/sh").resolve().name]
    return path


def test_images_from_a_tar_a_dockerfile_or_by_name_and_limits(tmp_path: Path) -> None:
    rootfs = bare(tmp_path)
    _, argv = standalone("/bin/sh", "/x")
    (tmp_path / "Dockerfile").write_text(
        f'FROM scratch\nADD {rootfs.name} /\nENV GREETING=hello\nUSER 12\nENTRYPOINT ["/no/such"]\n'
    )
    say = Process(name="say", argv=(*argv, "-c", "echo $GREETING; echo /*; read x < /marker; echo $x"))

    def run(options: dict[str, object], number: int) -> list[str]:
        made = Docker(options).create(
            run=f"tdoci{number}", run_dir=tmp_path / str(number), nodes=1, mounts={}
        )
        try:
            (first, *_) = [g for g in cgroup.of(inner(made, "n1")[0]) if _limit(g)] or [None]
            assert (first is not None) == ("memory_mb" in options)
            return output(made, say).splitlines()
        finally:
            made.close()

    built = run({"dockerfile": str(tmp_path), "memory_mb": 64, "cpus": 0.5}, 1)
    assert built[0] == "hello"
    assert "/x" in built[1].split()
    assert "/usr" not in built[1].split(), "nothing of the host"
    imported = run({"rootfs": str(rootfs)}, 2)
    assert imported[0] == ""
    assert imported[1] == built[1]
    tags = (
        f"splitbrain/rootfs:{_short(rootfs.read_bytes())}",
        f"splitbrain/build:{_short(bytes(tmp_path / 'Dockerfile'))}",
    )
    assert run({"image": tags[1]}, 3)[0] == "hello"
    subprocess.run(["docker", "image", "rm", "-f", *tags], capture_output=True, check=True)
    with pytest.raises(
        InfrastructureError, match=r"image 127\.0\.0\.1:1/none is not here and cannot be pulled"
    ):
        Docker({"image": "127.0.0.1:1/none"}).create(run="tdoci4", run_dir=tmp_path, nodes=1, mounts={})


def _short(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _limit(group: Path) -> bool:
    """Whether `group` limits memory to 64 MB."""
    texts = [
        p.read_text().strip()
        for p in group.glob("memory.*")
        if p.name in ("memory.max", "memory.limit_in_bytes")
    ]
    return str(64 << 20) in texts


def test_an_address_range_that_another_network_has(spare: DockerCluster, tmp_path: Path) -> None:
    taken = spare.nodes[0].address.rpartition(".")[0] + ".0/24"
    with pytest.raises(InfrastructureError, match=f"{taken} is in use.*docker.subnet"):
        Docker({"subnet": taken}).create(run="tdockx", run_dir=tmp_path, nodes=1, mounts={})
    second = Docker().create(run="tdocky", run_dir=tmp_path / "y", nodes=1, mounts={})
    try:
        assert second.nodes[0].address != spare.nodes[0].address
    finally:
        second.close()
    assert leftovers("tdocky") == []


def test_a_container_ended_from_outside(tmp_path: Path) -> None:
    made = Docker().create(run="tdock3", run_dir=tmp_path, nodes=2, mounts=BESIDE)
    try:
        made.launch({n.name: [server()] for n in made.nodes})
        subprocess.run(["docker", "kill", "splitbrain-tdock3-n2"], capture_output=True, check=True)
        with pytest.raises(
            InfrastructureError, match=r"container splitbrain-tdock3-n2 was ended from outside"
        ):
            until(made.check)
        with pytest.raises(InfrastructureError, match="ended from outside"):
            made.start("n2")
        assert made.state("n1")[0].alive
    finally:
        made.close()
    assert leftovers("tdock3") == []


def test_the_containers_go_with_their_agent(tmp_path: Path) -> None:
    made = Docker().create(run="tdock4", run_dir=tmp_path, nodes=1, mounts=BESIDE)
    try:
        made.launch({"n1": [server()]})
        (state,) = made.state("n1")
        assert made._agent is not None
        os.kill(made._agent.pid, signal.SIGKILL)
        until(lambda: procfs.same(*inner(made, "n1")) is None)
        until(lambda: procfs.same(state.pid, state.start) is None)
        until(lambda: not any("table" in line for line in leftovers("tdock4")))
        with pytest.raises(InfrastructureError, match="the agent that owns the nodes has ended"):
            until(made.check)
    finally:
        with pytest.raises(InfrastructureError, match="has ended"):
            made.close()
    assert leftovers("tdock4") == []


def test_a_daemon_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = dockerd.usual_socket()
    assert real is not None
    with folder() as short:
        way = Way(short / "d", real)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{way.path}")
        made = Docker().create(run="tdock5", run_dir=tmp_path, nodes=1, mounts=BESIDE)
        try:
            made.launch({"n1": [server()]})
            (state,) = made.state("n1")
            way.cut()
            with pytest.raises(
                InfrastructureError, match=r"does not answer .* any more; it must run for as long"
            ):
                until(made.check)
        finally:
            with pytest.raises(
                InfrastructureError, match="network splitbrain-tdock5 can be removed once it is"
            ):
                made.close()
        assert procfs.same(state.pid, state.start) is None
    monkeypatch.undo()
    assert dockerd.clear("tdock5") == []
    assert leftovers("tdock5") == []
