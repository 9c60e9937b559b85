"""What needs no ZooKeeper: versions, options, launch, names, the error table, log lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clusters.artifacts import Artifact, Tool, VersionRefused
from clusters.systems._zookeeper_client import ZooKeeperClient
from clusters.systems._zookeeper_errors import classify, table
from clusters.systems._zookeeper_gateway import key_of, name_of, root_of
from clusters.systems._zookeeper_versions import DEFAULT, VERSIONS, caveats, obtain
from clusters.systems.zookeeper import ZOOKEEPER, ZooKeeper
from harness.core.client import supported
from harness.core.cluster import Node, View
from harness.core.errors import ArtifactError, UsageError
from harness.core.system import LogEvent

NODES = (Node("n1", "10.0.0.1"), Node("n2", "10.0.0.2"), Node("n3", "10.0.0.3"))


def view(version: str = DEFAULT) -> View:
    return View(
        nodes=NODES,
        run="a1b2c3",
        version=version,
        options={},
        program={"zookeeper": "/p/zookeeper", "java": "/p/java"},
        data_dir="/d/data",
    )


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (None, DEFAULT),
        ("3.4", "3.4.14"),
        ("3.8", "3.8.6"),
        ("3.8.0", "3.8.0"),
        ("3.5.5", "3.5.5"),
        ("3", DEFAULT),
    ],
)
def test_versions_that_have_a_source(asked: str | None, meant: str) -> None:
    assert VERSIONS.resolve("zookeeper", asked) == meant


@pytest.mark.parametrize("asked", ["3.4.5", "3.3", "2", "latest"])
def test_versions_without_a_source_are_refused(asked: str) -> None:
    with pytest.raises(UsageError, match=r"nearest known|expected one such as"):
        VERSIONS.resolve("zookeeper", asked)


@pytest.mark.parametrize(
    ("version", "issues"),
    [
        ("3.9.5", set()),
        ("3.9.2", {"4712"}),
        ("3.9.1", {"4712", "4785"}),
        ("3.8.5", {"4712"}),
        ("3.8.0", {"4712", "4785"}),
        ("3.6.4", {"4712", "4785"}),
        ("3.6.2", {"4712", "4785", "3911"}),
        ("3.5.10", {"4712", "4785"}),
        ("3.4.14", {"4712", "4785", "3911"}),
        ("mine", set()),
    ],
)
def test_versions_with_known_bugs_say_so(version: str, issues: set[str]) -> None:
    said = " ".join(caveats(version))
    assert {i for i in ("3911", "4712", "4785") if i in said} == issues


class Recorder:
    """Artifacts that remember what they were asked for."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.asked: tuple[str, Any] | None = None

    def __getattr__(self, name: str) -> Any:
        def obtained(*args: Any, **more: Any) -> Artifact:
            self.asked = (name, more)
            if self.error:
                raise self.error
            return Artifact(path="/p", sha256="0", origin="test")

        return obtained


def test_each_version_is_put_together_its_own_way() -> None:
    for version, via, beside in (
        ("3.4.6", "maven", False),
        ("3.9.5", "maven", True),
        ("3.8.0", "debian_tree", False),
    ):
        artifacts = Recorder()
        obtain(version, artifacts)
        assert artifacts.asked is not None
        name, more = artifacts.asked
        assert name == via
        assert any("snappy-java" in root for root in more.get("roots", ())) == beside


def test_a_version_that_is_not_served_names_another() -> None:
    with pytest.raises(
        ArtifactError, match=r"zookeeper 3\.9\.99 cannot be had: gone; nearest known: 3\.9\.5"
    ):
        ZooKeeper().install("3.9.99", Recorder(VersionRefused("gone")))


def test_without_java_there_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusters.artifacts.java.find_java", lambda: None)
    with pytest.raises(ArtifactError, match="no Java found"):
        ZooKeeper().install(None, Recorder())


def test_jars_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clusters.artifacts.java.find_java", lambda: Tool("/usr/bin/java", "17", 17))
    from clusters.artifacts import Artifacts

    system = ZooKeeper({"jars": str(tmp_path)})
    with pytest.raises(UsageError, match=r"expected a folder that holds zookeeper-VERSION\.jar"):
        system.install(None, Artifacts(tmp_path / "cache"))
    (tmp_path / "zookeeper-jute-3.9.9.jar").write_text("")
    (tmp_path / "zookeeper-3.9.9-SNAPSHOT.jar").write_text("")
    assert system.install(None, Artifacts(tmp_path / "cache")).version == "3.9.9-SNAPSHOT"
    with pytest.raises(UsageError, match="expected one of them"):
        system.install("3.9.5", Artifacts(tmp_path / "cache"))


def test_a_node_is_told_who_it_is_and_who_the_others_are() -> None:
    (process,) = ZooKeeper({"forceSync": "no"}).launch(NODES[1], view())
    assert process.files["/d/data/myid"] == "2\n"
    config = process.files["/d/zoo.cfg"].splitlines()
    assert {"server.1=10.0.0.1:2888:3888", "server.3=10.0.0.3:2888:3888", "clientPortAddress=10.0.0.2"} <= {
        *config
    }
    assert "forceSync=no" in config
    assert "-Dzookeeper.forceSync=no" in process.argv
    assert process.argv[0] == "/p/java/bin/java"
    assert process.argv[-1] == "/d/zoo.cfg"
    assert "/p/zookeeper/*" in process.argv
    (process,) = ZooKeeper().launch(NODES[0], view("3.8.0"))
    assert any("/p/zookeeper/usr/share/java/zookeeper.jar:" in argument for argument in process.argv)


def test_a_known_bad_option_says_so() -> None:
    system = ZooKeeper({"forceSync": "no"})
    assert any("positive control" in text for text in system._caveats())
    assert not ZooKeeper()._caveats()


def test_a_power_loss_finds_a_cluster_of_some_age_unless_it_is_to_be_fresh() -> None:
    fresh = ZooKeeper({"fresh": "yes"})
    assert (ZooKeeper().flush_first, fresh.flush_first) == (True, False)
    assert "first snapshot" in fresh._caveats()[0]


def test_a_restart_finds_its_log_on_the_disk_unless_it_is_to_be_quick() -> None:
    quick = ZooKeeper({"quick_restart": "yes"})
    assert (ZooKeeper().flush_restarts, quick.flush_restarts) == (True, False)
    assert "hole in its log" in quick._caveats()[0]


def test_what_it_promises_has_links_and_weaker_reads_are_excepted() -> None:
    promises = ZooKeeper.promises
    assert all(p.link.startswith("https://") for p in promises)
    excepted = [p.unless["reads"] for p in promises if p.prop == "linearizable"]
    (option,) = (o for o in ZOOKEEPER.options if o.name == "reads")
    assert sorted([*excepted, option.default]) == sorted(option.choices)


def test_which_workloads_it_can_do() -> None:
    names = {
        "read",
        "write",
        "cas",
        "kv_txn",
        "set_add",
        "counter_add",
        "generate",
        "lock_acquire",
        "watch_events",
    }
    assert supported(ZooKeeperClient, names) == names - {"watch_events"}


@given(st.one_of(st.integers(), st.text(), st.none(), st.lists(st.text())))
def test_names_can_be_read_back_and_are_one_part_of_a_path(key: Any) -> None:
    name = name_of(key)
    assert "/" not in name
    assert name not in (".", "..")
    assert key_of(name) == key


def test_a_prefix_is_a_path() -> None:
    assert root_of("splitbrain/run/") == "/splitbrain/run"
    assert root_of("/") == ""


def test_only_errors_of_the_data_model_are_definite() -> None:
    assert {row.text for row in table.values() if row.definite} >= {"no node", "bad version", "node exists"}
    for code in (-4, -7, -112, -118, -1, 0, 12345):
        assert classify(code)[1] is False


def told(*lines: str) -> list[LogEvent]:
    return list(ZooKeeper().events("n1", enumerate(lines)))


OF = "[QuorumPeer[myid=1](plain=10.0.0.1:2181)(secure=disabled)]"
OLD = "[QuorumPeer[myid=2]/10.0.0.2:2181]"


def line(logger: str, message: str, thread: str = "[main]", level: str = "INFO") -> str:
    return f"2026-01-02 03:04:05.678 {thread} {level} org.apache.zookeeper.server.{logger} - {message}"


_supported = "Have quorum of supporters, sids: {}; starting up and setting last processed zxid: 0x{}00000000"
_severe = "Severe unrecoverable error, from thread : {}"


@pytest.mark.parametrize(
    ("said", "kind", "term"),
    [
        (line("quorum.Leader", _supported.format("[[2, 3]]", "3"), OF), "election", 3),
        (line("quorum.Leader", _supported.format("[ 1,2 ]", "a"), OLD), "election", 10),
        (line("quorum.Learner", "Getting a diff from the leader 0x0", OF), "leader-seen", None),
        (line("quorum.Learner", "Getting a snapshot from leader", OLD), "leader-seen", None),
        (line("quorum.Learner", "shutdown Follower", OF), "leader-lost", None),
        (line("quorum.Follower", "shutdown called", OLD), "leader-lost", None),
        (line("quorum.Leader", "Shutdown called. For the reason ...", OF), "leader-lost", None),
        (line("quorum.QuorumPeerMain", "Starting quorum peer, myid=1"), "start", None),
        ("Terminating due to java.lang.OutOfMemoryError: Java heap space", "crash", None),
        (line("quorum.QuorumPeerMain", "Unexpected exception, exiting abnormally"), "crash", None),
        (line("ZooKeeperCriticalThread", _severe.format("SyncThread:1"), "[SyncThread:1]"), "crash", None),
        ("Error: Could not find or load main class org.apache.zookeeper.X", "crash", None),
        ("java.io.IOException: CRC check failed", "corruption", None),
    ],
)
def test_lines_that_tell(said: str, kind: str, term: int | None) -> None:
    (event,) = told(said)
    assert (event.kind, event.term) == (kind, term)
    assert "2026" not in event.text


@pytest.mark.parametrize(
    "said",
    [
        line("quorum.QuorumPeer", "Unexpected exception", OLD, "WARN"),
        line("quorum.LearnerHandler", "Unexpected exception causing shutdown while sock still open"),
        line("DataTree", "Message:Digests are not matching. Value is Zxid. Value:214", OF, "WARN"),
        "	at org.apache.zookeeper.server.quorum.Leader.lead(Leader.java:1)",
        "java.net.SocketException: Socket closed",
    ],
)
def test_lines_that_look_grave_and_are_not(said: str) -> None:
    assert told(said) == []


@pytest.mark.parametrize(
    ("trace", "kinds"),
    [
        (("java.net.SocketException: Socket closed", "	at java.base/x.y(Z.java:1)"), []),
        (
            (
                "java.lang.NullPointerException",
                "	at o.a.z.s.quorum.SendAckRequestProcessor.flush(S.java:67)",
            ),
            [],
        ),
        (("java.io.IOException: No space left on device", "	at java.base/x.y(Z.java:1)"), ["crash"]),
        (("java.io.IOException: CRC check failed",), ["crash", "corruption"]),
        ((), ["crash"]),
    ],
)
def test_a_severe_error_is_a_crash_unless_it_is_about_the_leader(
    trace: tuple[str, ...], kinds: list[str]
) -> None:
    first = line("ZooKeeperCriticalThread", _severe.format("SyncThread:3"), "[SyncThread:3]", "ERROR")
    assert [e.kind for e in told(first, *trace)] == kinds
    after = line("quorum.QuorumPeerMain", "Starting quorum peer, myid=1")
    assert [e.kind for e in told(first, *trace, after)] == [*kinds, "start"]


def test_the_same_corruption_counts_once() -> None:
    assert (
        len(told("java.io.IOException: CRC check failed", "x", "java.io.IOException: CRC check failed")) == 1
    )
