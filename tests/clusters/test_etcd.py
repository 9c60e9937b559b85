"""What needs no etcd: versions, options, launch, codec, the error table, log lines."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from clusters.artifacts import Artifact, Artifacts, VersionRefused
from clusters.systems import _etcd_wire as codec
from clusters.systems._etcd_errors import classify, table
from clusters.systems._etcd_versions import DEFAULT, VERSIONS, caveats, number
from clusters.systems.etcd import ETCD, Etcd
from harness.core.client import supported
from harness.core.cluster import Node, View
from harness.core.errors import ArtifactError, UsageError
from harness.core.system import Promise

NODES = (Node("n1", "10.0.0.1"), Node("n2", "10.0.0.2"), Node("n3", "10.0.0.3"))


def view(**options: Any) -> View:
    return View(
        nodes=NODES,
        run="a1b2c3",
        version="3.6.16",
        options=options,
        program={"etcd": "/p/etcd"},
        data_dir="/d",
    )


# Versions

KNOWN = VERSIONS.known


def resolve(asked: str | None) -> str:
    return VERSIONS.resolve("etcd", asked)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (None, DEFAULT),
        ("3.6.16", "3.6.16"),
        ("v3.6.16", "3.6.16"),
        ("3.6", "3.6.16"),
        ("3.5", "3.5.35"),
        ("3.4", "3.4.23"),
        ("3", KNOWN[-1]),
        ("3.6.1", "3.6.1"),  # exact, not a prefix of 3.6.16; unlisted, and may be served
        ("3.7.0-rc.0", "3.7.0-rc.0"),
        ("3.6.99", "3.6.99"),
    ],
)
def test_versions_that_have_a_source(asked: str | None, meant: str) -> None:
    assert resolve(asked) == meant


@pytest.mark.parametrize(
    ("asked", "hint"),
    [("3.4.22", "3.4.23"), ("3.3", "3.4.23"), ("2", "3.4.23"), ("4", "3.7.3"), ("3.9", "3.7.3")],
)
def test_versions_without_a_source_are_refused_with_the_nearest(asked: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"'{asked}'; nearest known: {hint}"):
        resolve(asked)


@pytest.mark.parametrize("asked", ["", "latest", "3.", "3.6.x", "3.6.16.1", "-1", "../etc"])
def test_what_is_no_version_is_refused(asked: str) -> None:
    with pytest.raises(UsageError, match=r"expected one such as 3\.6\.16"):
        resolve(asked)


def test_known_versions_stand_in_order_and_each_resolves_to_itself() -> None:
    assert list(KNOWN) == sorted(KNOWN, key=number)
    assert [resolve(v) for v in KNOWN] == list(KNOWN)


@pytest.mark.parametrize(
    ("version", "near"), [("3.5.28", "3.5.31"), ("3.5.26", "3.5.23"), ("3.8.1", "3.7.3")]
)
def test_the_nearest_known_version(version: str, near: str) -> None:
    assert abs(number(near)[2] - number(version)[2]) <= 5
    assert VERSIONS.nearest(version) == near


@pytest.mark.parametrize(
    ("version", "issues"),
    [
        ("3.6.16", set()),
        ("3.7.3", set()),
        ("3.6.9", set()),
        ("3.6.8", {"20418"}),
        ("3.5.28", set()),
        ("3.5.27", {"20418"}),
        ("3.4.23", {"20418"}),
        ("3.4.42", set()),
        ("3.5.3", {"20418", "14370"}),
        ("3.5.2", {"20418", "14370", "13766"}),
        ("3.5.1", {"20418", "14370", "13766"}),
        ("mine", set()),
    ],
)
def test_versions_with_known_bugs_say_so(version: str, issues: set[str]) -> None:
    said = " ".join(caveats(version))
    assert {i for i in ("20418", "14370", "13766") if i in said} == issues


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("3.6.16", set()),
        ("3.6.5", {"20418"}),
        ("3.6.4", {"20418", "20616"}),
        ("3.6.1", {"20418", "20616", "20221"}),
        ("3.5.23", {"20418"}),
        ("3.5.22", {"20418", "20616"}),
        ("3.5.8", {"20418", "20616", "20221"}),
        ("3.5.7", {"20418", "20616", "20221", "15271"}),
        ("3.4.42", set()),
        ("3.4.23", {"20418", "20616", "20221", "15271"}),
        ("3.7.0", set()),
    ],
)
def test_bugs_of_watches_and_leases_are_said_of_the_versions_that_have_them(
    version: str, said: set[str]
) -> None:
    text = " ".join(caveats(version))
    assert {i for i in ("20418", "20616", "20221", "15271") if i in text} == said


class Refusing:
    """Stands for a registry that serves nothing."""

    def go_main(self, *_: Any, **__: Any) -> Artifact:
        raise VersionRefused("the Go module proxy does not serve it")


def test_a_version_that_its_registry_refuses_is_a_usage_error_with_the_nearest() -> None:
    with pytest.raises(ArtifactError, match=r"etcd 3\.5\.28 cannot be had: .* nearest known: 3\.5\.31"):
        Etcd({}).install("3.5.28", Refusing())


def script(path: Path, says: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_a_build_of_the_users_own_says_its_version(tmp_path: Path) -> None:
    mine = script(tmp_path / "etcd", "etcd Version: 3.5.1")
    install = Etcd({"binary": str(mine)}).install(None, Artifacts(tmp_path / "cache"))
    assert install.version == "3.5.1"
    assert install.program == {"etcd": str(mine)}
    assert len(install.sha256["etcd"]) == 64
    assert install.caveats == caveats("3.5.1")


def test_a_binary_that_is_no_etcd_or_comes_with_a_version_is_refused(tmp_path: Path) -> None:
    mine = script(tmp_path / "etcd", "hello")
    with pytest.raises(ArtifactError, match="'hello'; expected 'etcd Version"):
        Etcd({"binary": str(mine)}).install(None, Artifacts(tmp_path / "cache"))
    with pytest.raises(UsageError, match="expected one of them"):
        Etcd({"binary": str(mine)}).install("3.6", Artifacts(tmp_path / "cache"))


# Options and launch


def test_the_descriptor_names_the_system() -> None:
    assert ETCD.load() is Etcd
    assert {o.name for o in ETCD.options} >= {"reads", "binary", "heartbeat_ms", "election_ms"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"election_ms": 249}, "at least 5 times heartbeat_ms=50, that is 250"),
        ({"heartbeat_ms": 100}, "at least 5 times"),
        ({"heartbeat_ms": 1}, "at least 10"),
        ({"election_ms": 60_000}, "at most 50000"),
        ({"reads": "stale"}, "linearizable, serializable"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Etcd(options)


def test_launch_gives_each_node_its_own_addresses_and_all_nodes_the_same_cluster() -> None:
    system = Etcd({"heartbeat_ms": 20, "election_ms": 100})
    (process,) = system.launch(NODES[1], view())
    assert process.argv[0] == "/p/etcd"
    flags = dict(a.removeprefix("--").split("=", 1) for a in process.argv[1:])
    assert flags["name"] == "n2"
    assert flags["listen-client-urls"] == flags["advertise-client-urls"] == "http://10.0.0.2:2379"
    assert flags["listen-peer-urls"] == flags["initial-advertise-peer-urls"] == "http://10.0.0.2:2380"
    assert flags["initial-cluster"] == (
        "n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n3=http://10.0.0.3:2380"
    )
    assert flags["initial-cluster-token"] == "a1b2c3"
    assert flags["data-dir"] == "/d"
    assert (flags["heartbeat-interval"], flags["election-timeout"]) == ("20", "100")
    assert "snapshot-count" not in flags
    assert not [f for f in flags if "unsafe" in f]
    assert process.ports == (2379, 2380)
    assert system.launch(NODES[1], view()) == [process]


def test_snapshots_and_ipv6() -> None:
    node = Node("n1", "fd00::1")
    argv = Etcd({"snapshot_count": 100}).launch(node, replace(view(), nodes=(node,)))[0].argv
    assert "--snapshot-count=100" in argv
    assert "--listen-client-urls=http://[fd00::1]:2379" in argv


def test_an_etcd_that_does_not_sync_is_a_known_bad_one() -> None:
    system = Etcd({"unsafe-no-fsync": "true"})
    assert "--unsafe-no-fsync=true" in system.launch(NODES[0], view())[0].argv
    assert any("positive control" in c for c in system._caveats())
    assert Etcd({})._caveats() == ()


def test_promises_stand_with_their_source_and_exceptions() -> None:
    promises: dict[str, Promise] = {p.prop: p for p in Etcd({}).promises}
    assert promises.keys() == {"linearizable", "availability", "durable", "lease"}
    stalls = {"pause", "cpu-pressure", "memory-pressure", "slow-disk"}
    deaths = {"kill", "terminate", "crash-loop", "power-loss", "crash-point"}
    assert promises["availability"].families >= stalls | deaths | {"partition", "packet", "fd-limit"}
    assert promises["lease"].families.isdisjoint(stalls)
    assert promises["durable"].families == deaths
    assert promises["linearizable"].unless == {"reads": "serializable"}
    assert promises["availability"].most == "all"
    assert all(p.source for p in promises.values())


def test_the_client_does_what_workloads_need() -> None:
    needed = {
        "read",
        "write",
        "cas",
        "kv_txn",
        "kv_read",
        "set_add",
        "set_read",
        "counter_add",
        "counter_read",
    }
    needed |= {"lease_grant", "lease_revoke", "lease_keepalive", "lease_attach", "lease_read", "generate"}
    needed |= {"lock_acquire", "lock_read", "lock_write", "lock_write_fenced", "noop"}
    needed |= {"election_campaign", "election_leader", "watch_put", "watch_events"}
    assert supported(type(Etcd({}).client), needed) == needed


# Codec

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text()
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3), max_leaves=6
)


def same(a: Any, b: Any) -> bool:
    """Equal as JSON: 1, 1.0 and true differ."""
    return json.dumps(a) == json.dumps(b)


@pytest.mark.parametrize(
    ("version", "flag"),
    [
        ("3.4.23", None),
        ("3.5.1", "--experimental-watch-progress-notify-interval=100ms"),
        ("3.6.16", "--watch-progress-notify-interval=100ms"),
        ("3.7.0-rc.0", "--watch-progress-notify-interval=100ms"),
        ("mine", None),
    ],
)
def test_progress_notifications_are_asked_for_where_their_flag_is_known(
    version: str, flag: str | None
) -> None:
    argv = Etcd({}).launch(NODES[0], replace(view(), version=version))[0].argv
    assert [a for a in argv if "progress" in a] == ([flag] if flag else [])


@given(values, values)
def test_keys_and_values_survive_and_stay_distinct(a: Any, b: Any) -> None:
    assert same(json.loads(b64decode(codec.value_text(a))), a)
    assert (codec.value_text(a) == codec.value_text(b)) == same(a, b)
    name = codec.key_name(codec.PREFIX, codec.REGISTER, a)
    assert (name == codec.key_name(codec.PREFIX, codec.REGISTER, b)) == same(a, b)
    assert name.startswith(codec.PREFIX.encode())


@given(values, values, values, values)
def test_no_objects_keys_lie_among_those_of_another(a: Any, b: Any, x: Any, y: Any) -> None:
    first = codec.below(codec.PREFIX, codec.SET, a)
    other = codec.below(codec.PREFIX, codec.SET, b) + codec.encode(y)
    assert first <= first + codec.encode(x) < codec.behind(first)
    assert (first <= other < codec.behind(first)) == same(a, b)


def text(key: bytes) -> str:
    return b64encode(key).decode()


@given(values, values, values)
def test_requests_are_the_json_they_should_be(key: Any, old: Any, new: Any) -> None:
    k = codec.key_name(codec.PREFIX, codec.REGISTER, key)
    assert json.loads(codec.put_body(k, new)) == {"key": text(k), "value": codec.value_text(new).decode()}
    assert json.loads(codec.put_body(k, new, 7))["lease"] == "7"
    assert json.loads(codec.range_body(k, serializable=False)) == {"key": text(k)}
    assert json.loads(codec.range_body(k, serializable=True))["serializable"] is True
    txn = json.loads(codec.txn_body([codec.holds(k, old)], [codec.set_to(k, new), codec.get(k)]))
    (compare,), (then, read) = txn["compare"], txn["success"]
    assert "failure" not in txn
    assert compare["result"] == "EQUAL"
    if old is None:
        assert (compare["target"], compare["create_revision"]) == ("CREATE", "0")
    else:
        assert (compare["target"], compare["value"]) == ("VALUE", codec.value_text(old).decode())
    assert then.keys() == ({"request_delete_range"} if new is None else {"request_put"})
    assert read == {"request_range": {"key": text(k)}}


def test_requests_for_ranges_leases_and_watches() -> None:
    whole = {"key": text(b"a/"), "range_end": text(b"a0")}
    assert json.loads(codec.all_body(b"a/", serializable=False)) == whole
    both = {"keys_only": True, "serializable": True}
    assert json.loads(codec.all_body(b"a/", serializable=True, keys_only=True)) == whole | both
    page = {"revision": "9", "limit": "5", "serializable": True}
    assert json.loads(codec.page_body(b"a/", b"a0", 9, 5)) == whole | page
    assert json.loads(codec.lease_body("12")) == {"ID": "12"}
    asked = json.loads(codec.watch_body(b"a/", 3))["create_request"]
    assert asked == whole | {"start_revision": "3", "progress_notify": True}


# The error table


def body(message: str, code: int = 14, *, old: bool = False) -> bytes:
    said: dict[str, Any] = {"code": code, "message": message}
    return json.dumps({"error": message, **said} if old else said).encode()


@pytest.mark.parametrize(
    "message",
    [
        "etcdserver: request timed out",
        "etcdserver: request timed out, possibly due to previous leader failure",
        "etcdserver: request timed out, possibly due to connection lost",
        "etcdserver: leader changed",
        "etcdserver: server stopped",
        "etcdserver: mvcc: database space exceeded",
        "etcdserver: corrupt cluster",
        "context deadline exceeded",
        "raft: stopped",
        "error reading from server: EOF",
        "transport is closing",
        "something that no version says",
        "",
    ],
)
def test_errors_that_prove_nothing(message: str) -> None:
    for old in (False, True):
        text, definite = classify(503, body(message, old=old))
        assert not definite
        assert text


@pytest.mark.parametrize(
    "message", ["etcdserver: too many requests", "etcdserver: request is too large", "raft proposal dropped"]
)
def test_errors_from_before_the_proposal_are_definite(message: str) -> None:
    assert classify(400, body(message, 8))[1]


@given(st.integers(100, 599), st.binary() | values.map(lambda v: json.dumps(v).encode()))
def test_garbage_is_never_definite(status: int, answer: bytes) -> None:
    assert classify(status, answer) == (f"http {status}", False)


@given(st.text(max_size=200).filter(lambda m: m not in table), st.integers(0, 20))
def test_an_unknown_message_is_never_definite(message: str, code: int) -> None:
    text, definite = classify(500, body(message, code))
    assert not definite
    assert str(code) in text
    assert len(text) < 120


def test_each_row_has_a_reason_and_a_short_text_of_its_own() -> None:
    assert all(row.why for row in table.values())
    assert len({row.text for row in table.values()}) == len(table)
    assert max(len(row.text) for row in table.values()) <= 30


# Logs


def line(msg: str, level: str = "info", **more: str) -> str:
    return json.dumps({"level": level, "ts": "2026-01-01T00:00:00.000000Z", "msg": msg, **more})


_OTHERS = "error validating peerURLs {ClusterID:a77809e7 Members:[&{ID:8ee53b1f}] RemovedMemberIDs:[]}"


@pytest.mark.parametrize(
    ("text", "kind", "term"),
    [
        (line("bdae9bbc11dd390d became leader at term 2", logger="raft"), "election", 2),
        (line("raft.node: bdae elected leader bdae at term 7"), "leader-seen", 7),
        (line("raft.node: bdae changed leader from bdae to c0de at term 8"), "leader-seen", 8),
        (line("raft.node: bdae lost leader c0de at term 9"), "leader-lost", 9),
        (line("starting an etcd server", **{"etcd-version": "3.6.16"}), "start", None),
        (line("received signal; shutting down", signal="terminated"), "stop", None),
        (line("failed to open WAL", "fatal", error="no space left"), "crash", None),
        (line("discovery failed", "fatal", error=f"{_OTHERS}: member count is unequal"), "refused", None),
        (line("discovery failed", "fatal", error="no space left"), "crash", None),
        (line("tocommit(9) is out of range", "panic"), "crash", None),
        ("panic: runtime error: index out of range", "crash", None),
        ("fatal error: all goroutines are asleep", "crash", None),
    ],
)
def test_log_lines_that_tell_something(text: str, kind: str, term: int | None) -> None:
    (event,) = Etcd({}).events("n1", [(5, text)])
    assert (event.time, event.node, event.kind, event.term) == (5, "n1", kind, term)
    assert event.text


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (line("found hash mismatch", "warn"), ["corruption"]),
        (line("same compact revision then hashes must match", "warn"), ["corruption"]),
        (line("Detected compaction hash mismatch", "error"), ["corruption"]),
        (
            line("checkInitialHashKV failed", "error", error="8e9e found data inconsistency with peers"),
            ["corruption"],
        ),
        (line("failed to apply request", "warn", error="etcdserver: corrupt cluster"), ["corruption"]),
        (line("snap file is corrupt", "warn"), ["corruption"]),
        (line("range failed to find revision pair", "fatal"), ["crash", "corruption"]),
        (line("failed to read WAL", "fatal", error="walpb: crc mismatch"), ["crash", "corruption"]),
        (line("failed to open database", "panic", error="checksum error"), ["crash", "corruption"]),
        (
            line(
                "tocommit(9) is out of range [lastIndex(3)]. Was the raft log corrupted, truncated, or lost?",
                "panic",
            ),
            ["crash", "corruption"],
        ),
        (
            "panic: assertion failed: Page expected to be: 7, but self identifies as 0",
            ["crash", "corruption"],
        ),
    ],
)
def test_log_lines_that_tell_of_corrupt_data(text: str, kinds: list[str]) -> None:
    assert [e.kind for e in Etcd({}).events("n1", [(5, text)])] == kinds


def test_an_alarm_that_repeats_itself_is_told_once_a_log() -> None:
    text = line("failed to apply request", "warn", error="etcdserver: corrupt cluster")
    other = line("found hash mismatch", "warn")
    events = list(Etcd({}).events("n1", [(5, text), (6, other), (7, text), (8, text)]))
    assert [(e.time, e.kind) for e in events] == [(5, "corruption"), (6, "corruption")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        line("starting initial corruption check"),
        line("initial corruption checking passed; no corruption"),
        line("finished compaction hash check"),
        line("storing new hash"),
        line("repaired WAL", "warn", error="unexpected EOF"),
        "goroutine 1 [running]:",
        line("ready to serve client requests"),
        line("slow fdatasync", "warn"),
        '{"level":"info","msg":"bdae became lead',
        "[1]",
        "{}",
    ],
)
def test_log_lines_that_tell_nothing(text: str) -> None:
    assert list(Etcd({}).events("n1", [(5, text)])) == []


@given(st.text() | st.text().map(lambda t: "{" + t))
def test_no_log_line_breaks_the_reader(text: str) -> None:
    list(Etcd({}).events("n1", [(0, text)]))
