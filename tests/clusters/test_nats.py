"""What needs no NATS server: versions, options, launch, names, the error table, log lines, status."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusters.artifacts import Artifact, Artifacts, VersionRefused
from clusters.systems import _nats_names as names
from clusters.systems._nats_client import Memory, NatsClient
from clusters.systems._nats_errors import acknowledged_decoder, classify, table
from clusters.systems._nats_versions import DEFAULT, VERSIONS, caveats
from clusters.systems.nats import NATS, Nats
from harness.core.client import supported
from harness.core.cluster import Node, View
from harness.core.errors import ArtifactError, Indeterminate, UsageError

NODES = (Node("n1", "10.0.0.1"), Node("n2", "10.0.0.2"), Node("n3", "10.0.0.3"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


def view(nodes: tuple[Node, ...] = NODES, version: str = DEFAULT) -> View:
    return View(
        nodes=nodes,
        run="a1b2c3",
        version=version,
        options={},
        program={"nats-server": "/p/nats-server"},
        data_dir="/d",
    )


def config_of(system: Nats, of: View, node: Node = NODES[0]) -> str:
    (process,) = system.launch(node, of)
    return process.files["/d/nats.conf"]


# Versions


@pytest.mark.parametrize(
    ("asked", "meant"),
    [(None, DEFAULT), ("2.15", "2.15.2"), ("v2.10.22", "2.10.22"), ("2.9", "2.9.25"), ("2.11.99", "2.11.99")],
)
def test_versions(asked: str | None, meant: str) -> None:
    assert VERSIONS.resolve("nats", asked) == meant


@pytest.mark.parametrize("asked", ["2.8.4", "three", "2.13"])
def test_versions_that_nobody_has(asked: str) -> None:
    with pytest.raises(UsageError, match="nats"):
        VERSIONS.resolve("nats", asked)


def test_a_version_that_is_not_served_names_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> Artifact:
        raise VersionRefused("the Go module proxy does not serve it")

    monkeypatch.setattr(Artifacts, "go_copy", refuse)
    with pytest.raises(ArtifactError, match=r"2\.12\.99.*2\.12\.15"):
        Nats().install("2.12.99", Artifacts(cache=tmp_path))


def test_caveats_tell_what_a_finding_may_be() -> None:
    assert caveats(DEFAULT) == ()
    assert "6888" in " ".join(caveats("2.10.21"))
    assert "6888" not in " ".join(caveats("2.10.23"))
    assert "power loss" in " ".join(caveats("2.9.25"))
    assert "deposed" in " ".join(caveats("2.10.29"))
    assert caveats("dev") == ()


def test_a_binary_of_ones_own(tmp_path: Path) -> None:
    program = tmp_path / "nats-server"
    program.write_text("#!/bin/sh\necho 'nats-server: v2.99.1-own'\n")
    program.chmod(0o755)
    installed = Nats({"binary": str(program)}).install(None, Artifacts(cache=tmp_path / "cache"))
    assert (installed.version, installed.program) == ("2.99.1-own", {"nats-server": str(program)})
    with pytest.raises(UsageError, match="one of them"):
        Nats({"binary": str(program)}).install("2.15.2", Artifacts(cache=tmp_path / "cache"))
    program.write_text("#!/bin/sh\necho hello\n")
    with pytest.raises(ArtifactError, match="hello"):
        Nats({"binary": str(program)}).install(None, Artifacts(cache=tmp_path / "cache"))


# Options and launch


def test_each_node_is_launched_with_the_whole_cluster() -> None:
    (process,) = Nats().launch(NODES[1], view())
    assert process.argv == ("/p/nats-server", "-c", "/d/nats.conf")
    assert set(process.ports) == {4222, 6222, 8222}
    text = process.files["/d/nats.conf"]
    for line in (
        "server_name: n2",
        "listen: 10.0.0.2:4222",
        "http: 10.0.0.2:8222",
        'store_dir: "/d"',
        "sync_interval: always",
        'name: "a1b2c3"',
        "listen: 10.0.0.2:6222",
        "routes: [nats://10.0.0.1:6222, nats://10.0.0.2:6222, nats://10.0.0.3:6222]",
    ):
        assert line in text


def test_the_known_bad_option_is_told() -> None:
    lazy = Nats({"sync_interval": "2m"})
    assert "sync_interval: 2m" in config_of(lazy, view())
    assert "7564" in " ".join(lazy._caveats())
    assert Nats()._caveats() == ()
    assert "sync_interval" not in config_of(Nats(), view(version="2.9.25"))


def test_one_node_is_no_cluster() -> None:
    alone = view(NODES[:1])
    assert "cluster" not in config_of(Nats({"replicas": 1}), alone)
    with pytest.raises(UsageError, match="replicas=3 with 1 nodes"):
        config_of(Nats(), alone)


@pytest.mark.parametrize("wrong", [{"reads": "quorum"}, {"replicas": 6}, {"sync_interval": "never"}])
def test_options_are_validated(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Nats(wrong)


def test_what_workloads_can_ask() -> None:
    wanted = {"read", "write", "cas", "set_add", "set_read", "counter_add", "counter_read", "noop"}
    wanted |= {"log_publish", "log_read", "enqueue", "dequeue", "queue_read"}
    assert supported(NatsClient, wanted) == wanted
    assert not supported(NatsClient, {"kv_txn", "watch_put", "lock_acquire", "lease_grant"})
    assert NATS.load() is Nats


def test_promises_have_sources_and_links() -> None:
    assert {p.prop for p in Nats.promises} == {"linearizable", "durable", "availability"}
    assert all(p.source and p.link.startswith("https://") for p in Nats.promises)


# Names


@given(json_values, json_values)
def test_tokens_tell_values_apart_and_give_them_back(a: Any, b: Any) -> None:
    token = names.token(a)
    assert token
    assert not set(token) & set(" .*>/\\\t\r\n")
    assert json.dumps(names.value_of(token)) == json.dumps(a)
    assert (token == names.token(b)) == (json.dumps(a) == json.dumps(b))


def test_prefixes() -> None:
    assert names.base("splitbrain") == "splitbrain"
    assert names.base("splitbrain/a1b2c3/") == "splitbrain_a1b2c3"
    assert names.base("//") == "splitbrain"
    assert names.is_of("p", "KV_p_0")
    assert names.is_of("p", "p_log_x")
    assert not names.is_of("p", "pq_log_x")


def test_memory_forgets_and_remembers() -> None:
    memory = Memory(keys=2, values=2)
    assert (memory.of("a", None), memory.of("a", 1)) == (0, None)
    memory.met("a", 1, 5)
    memory.met("a", 1, 3)
    assert memory.of("a", 1) == 5
    for n in range(3):
        memory.met("a", 10 + n, 6 + n)
    assert (memory.of("a", 1), memory.of("a", 12)) == (None, 8)
    memory.met("b", 1, 1)
    memory.met("c", 1, 1)
    assert memory.of("a", 12) is None
    memory.met("d", True, 9)
    assert memory.of("d", 1) is None


# Errors and log lines


def test_the_error_table() -> None:
    assert all(row.text and row.why for row in table.values())
    assert {code for code, row in table.items() if row.definite} == {10054, 10060}
    said = acknowledged_decoder.decode(
        b'{"error":{"code":500,"err_code":99,"description":"hm"},"stream":"","seq":0}'
    )
    assert said.error is not None
    assert classify(said.error) == ("code 99: hm", False)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("[INF] Starting nats-server", "start"),
        ("[INF] Initiating Shutdown...", "stop"),
        ("[INF] JetStream cluster new stream leader for '$G > KV_splitbrain_0'", "election"),
        ("[INF] Self is new JetStream cluster metadata leader", "election"),
        ("[INF] JetStream cluster new metadata leader: n2/c", "leader-seen"),
        ("[INF] JetStream cluster no metadata leader", "leader-lost"),
        ("[WRN] JetStream cluster stream '$G > s' has NO quorum, stalled", "leader-lost"),
        ("[WRN] RAFT [x - S-R3F] Snapshot corrupt, checksums did not match", "corruption"),
        ("[WRN] RAFT [x - S-R3F] Corrupt WAL, will truncate", "repair"),
        ("[FTL] Can't start JetStream", "crash"),
        ("[WRN] Waiting for routing to be established...", None),
    ],
)
def test_log_lines(text: str, kind: str | None) -> None:
    line = f"[2] 2026/01/02 09:08:12.032422 {text}"
    found = list(Nats().events("n1", [(5, line), (6, line)]))
    once = kind in ("corruption", "repair")
    assert [e.kind for e in found] == ([] if kind is None else [kind] * (1 if once else 2))
    assert all(e.term is None and e.node == "n1" for e in found)


def test_a_crash_is_no_log_line() -> None:
    lines = [(1, "panic: runtime error: index out of range"), (2, "goroutine 1 [running]:"), (3, "")]
    assert [e.kind for e in Nats().events("n1", lines)] == ["crash"]


# Status


@contextmanager
def monitoring(answer: bytes, code: int = 200) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:  # as the base class names it
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def jsz(**leaders: str) -> bytes:
    streams = [
        {"name": n, "cluster": {"leader": who}, "state": {"last_seq": 7}} for n, who in leaders.items()
    ]
    return json.dumps({"account_details": [{"name": "$G", "stream_detail": streams}]}).encode()


@pytest.mark.parametrize(
    ("said", "role", "leader", "revision"),
    [
        (jsz(KV_splitbrain_0="n1", KV_splitbrain_1="n2"), "leader", "n1", 7),
        (jsz(KV_splitbrain_0="n2"), "follower", "n2", 7),
        (jsz(KV_splitbrain_0=""), "candidate", None, 7),
        (jsz(other="n1"), "unknown", None, None),
        (b"{}", "unknown", None, None),
    ],
)
def test_status(said: bytes, role: str, leader: str | None, revision: int | None) -> None:
    with monitoring(said) as port:
        system = Nats(ports={"client": 1, "peer": 2, "monitor": port})
        status = system.status(Node("n1", "127.0.0.1"), 1.0)
    assert (status.role, status.leader, status.revision, status.term) == (role, leader, revision, None)


@pytest.mark.parametrize(("said", "code"), [(b"no", 200), (b"{}", 503)])
def test_a_monitoring_port_that_says_nothing(said: bytes, code: int) -> None:
    with monitoring(said, code) as port:
        system = Nats(ports={"client": 1, "peer": 2, "monitor": port})
        with pytest.raises(Indeterminate):
            system.status(Node("n1", "127.0.0.1"), 1.0)
