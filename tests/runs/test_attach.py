"""Runs against a cluster that exists already: three etcd processes that this file starts on loopback."""

import base64
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from clusters.artifacts import Artifacts
from clusters.systems.etcd import Etcd
from harness.core.errors import ArtifactError
from tests.runs.commands import Done, splitbrain

Peer = tuple[str, int, int]  # name, client port, peer port


class Existing:
    """Somebody's cluster, with somebody's data in it."""

    def __init__(self, etcd: str, folder: Path) -> None:
        with ExitStack() as stack:
            socks = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(6)]
            ports = [sock.getsockname()[1] for sock in socks]
        self.peers = [(f"infra{i}", ports[2 * i], ports[2 * i + 1]) for i in range(3)]
        self.nodes = ",".join(f"127.0.0.1:{client}" for _, client, _ in self.peers)
        self.processes = [self._start(etcd, folder, peer) for peer in self.peers]

    def _start(self, etcd: str, folder: Path, peer: Peer) -> subprocess.Popen[bytes]:
        name, client, port = peer
        everybody = ",".join(f"{n}=http://127.0.0.1:{p}" for n, _, p in self.peers)
        argv = [
            *(etcd, f"--name={name}", f"--data-dir={folder / name}", f"--initial-cluster={everybody}"),
            *(
                f"--listen-client-urls=http://127.0.0.1:{client}",
                f"--listen-peer-urls=http://127.0.0.1:{port}",
            ),
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{port}",
        ]
        with (folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(argv, stdout=log, stderr=log)

    def ask(self, path: str, body: dict[str, str]) -> dict[str, Any]:
        url = f"http://127.0.0.1:{self.peers[0][1]}{path}"
        with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=5) as answer:
            return dict(json.load(answer))

    def keys(self) -> dict[str, str]:
        """All that the cluster holds."""
        everything = {"key": "AA==", "range_end": "AA=="}
        found = self.ask("/v3/kv/range", everything).get("kvs", [])
        return {base64.b64decode(kv["key"]).decode(): base64.b64decode(kv["value"]).decode() for kv in found}

    def put(self, key: str, value: str) -> None:
        code = {
            "key": base64.b64encode(key.encode()).decode(),
            "value": base64.b64encode(value.encode()).decode(),
        }
        self.ask("/v3/kv/put", code)

    def end(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def existing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Existing]:
    try:
        install = Etcd().install(None, Artifacts())
    except ArtifactError as e:
        if os.environ.get("SPLITBRAIN_REQUIRE"):
            raise
        pytest.skip(f"no etcd to be had: {e}")
    cluster = Existing(install.program["etcd"], tmp_path_factory.mktemp("existing"))
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                cluster.put("splitbrain/mine", "precious")
                break
            except OSError:
                assert time.monotonic() < deadline, "the cluster does not get ready"
                time.sleep(0.05)
        cluster.put("yours", "precious, too")
        yield cluster
    finally:
        cluster.end()


def attach(out: Path, nodes: str, *more: str) -> Done:
    return splitbrain("run", "--provider", "attach", "--nodes", nodes, "--out", out, "--json", *more)


def test_a_cluster_that_exists_is_judged_and_keeps_its_data(existing: Existing, tmp_path: Path) -> None:
    before = existing.keys()
    pids = [process.pid for process in existing.processes]
    done = attach(tmp_path, existing.nodes, "--time", "2s", "--seed", "5")
    results = done.results
    assert (done.code, results["verdict"]) == (0, "valid"), results["reason"]
    assert (results["nodes"], results["provider"], results["faults"]) == (3, "attach", {})
    assert results["outcomes"]["cas"]["ok"] > 5
    assert results["checks"]["linearizable"]["verdict"] == "valid"
    run_dir = Path(results["run"])
    run = run_dir.name.rpartition("-")[2]
    (caveat,) = results["caveats"]
    assert f"keys that begin with splitbrain/{run}/ and to no others" in caveat
    assert caveat in done.err
    assert existing.keys() == before == {"splitbrain/mine": "precious", "yours": "precious, too"}
    assert [p.poll() for p in existing.processes] == [None] * 3
    assert [p.pid for p in existing.processes] == pids
    assert existing.nodes in results["command"]

    monitor = [json.loads(line) for line in (run_dir / "monitor.jsonl").read_text().splitlines()]
    roles = {(m["node"], m["role"]) for m in monitor if m.get("ok")}
    assert len(roles) == 3
    assert sorted(role for _, role in roles) == ["follower", "follower", "leader"]
    events = map(json.loads, (run_dir / "history.jsonl").read_text().splitlines())
    final = [e for e in events if (e.get("ext") or {}).get("final")]
    assert {e["node"] for e in final} == {"n1", "n2", "n3"}
    dumps = [json.loads((run_dir / "dump" / f"n{i}.json").read_text()) for i in (1, 2, 3)]
    assert dumps[0]["content"] == dumps[1]["content"] == dumps[2]["content"]
    assert all(key.startswith(f"splitbrain/{run}/") for key in dumps[0]["content"])
    assert len(dumps[0]["content"]) > 3
    assert splitbrain("check", run_dir, "--json").results["verdict"] == "valid"


def test_an_interrupted_run_takes_its_keys_along(existing: Existing, tmp_path: Path) -> None:
    from tests.runs.test_endings import AT_PHASE, run_altered

    code = AT_PHASE.format(phase="final", action="os.kill(os.getpid(), signal.SIGINT)")
    more = ("--provider", "attach", "--nodes", existing.nodes, "--time", "1s")
    done = run_altered(code, tmp_path, *more)
    assert done.code == 130
    assert set(existing.keys()) == {"splitbrain/mine", "yours"}


@pytest.mark.slow
def test_what_a_node_holds_that_never_came_back_is_not_known(existing: Existing, tmp_path: Path) -> None:
    from tests.runs.test_endings import AT_PHASE, run_altered

    paused = existing.processes[2].pid  # it may lead; then the others have to elect first
    code = "import harness.lifecycle\nharness.lifecycle.RECOVER_S = 4\n"
    code += AT_PHASE.format(phase="recover", action=f"os.kill({paused}, signal.SIGSTOP)")
    more = ("--provider", "attach", "--nodes", existing.nodes, "--time", "1s", "--seed", "5")
    try:
        done = run_altered(code, tmp_path, *more)
    finally:
        os.kill(paused, signal.SIGCONT)
    run_dir = Path(done.results["run"])
    dumps = {f.stem: json.loads(f.read_text()) for f in (run_dir / "dump").iterdir()}
    assert dumps["n3"].keys() == {"format", "node", "error"}
    assert dumps["n3"]["error"].startswith("took no write after healing: ")
    assert dumps["n1"]["content"] == dumps["n2"]["content"] != {}
    lines = map(json.loads, (run_dir / "journal.jsonl").read_text().splitlines())
    (final,) = (line for line in lines if line.get("phase") == "final")
    assert (final["silent"], final["behind"]) == (["n3"], [])


def test_a_node_that_does_not_answer_is_named_by_its_address(existing: Existing, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    spec = tmp_path / "spec.toml"
    nodes = existing.nodes.split(",")[0]
    spec.write_text(f'ready = "1s"\nprovider = "attach"\nnodes = ["{nodes}", "127.0.0.1:{port}"]\n')
    done = splitbrain("run", spec, "--out", tmp_path, "--json")
    assert done.code == 4
    assert (
        f"n2 at 127.0.0.1 port {port} did not get ready within 1 s (last answer: refused)"
        in done.results["error"]
    )


@pytest.mark.slow
def test_a_cluster_that_goes_away_is_no_violation(existing: Existing, tmp_path: Path) -> None:
    for process in existing.processes[1:]:
        process.send_signal(signal.SIGSTOP)
    try:
        spec = tmp_path / "spec.toml"
        spec.write_text('ready = "1s"\n')
        done = attach(tmp_path, existing.nodes, str(spec))
    finally:
        for process in existing.processes[1:]:
            process.send_signal(signal.SIGCONT)
    assert done.code == 4
    assert "did not get ready" in done.results["error"]
    assert f"below splitbrain/{done.results['run'].rpartition('-')[2]}/ could not be removed" in str(
        done.results["warnings"]
    )
