"""What three real members hold at one revision, and the files that a run writes of it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec.structs import replace

from clusters.systems.etcd import Etcd
from harness.core.cluster import Cluster
from harness.core.errors import Indeterminate
from harness.dumps import write_dumps
from tests.clusters.real_etcd import Member, running


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Member]]:
    with running(tmp_path_factory.mktemp("etcd"), 3) as members:
        yield members


def applied(member: Member, revision: int) -> None:
    """Wait until the member has come so far."""
    while (member.system.status(member.node, 2.0).revision or 0) < revision:
        pass


def test_all_members_hold_the_same_at_one_revision_whatever_comes_after(three: list[Member]) -> None:
    c = three[0].client()
    lease = c.lease_grant("l", 60).value
    c.lock_acquire("l", lease)
    c.write("gone", 1)
    c.write("gone", None)
    for i in range(0, 2100, 100):  # more than two pages
        c.watch_put("many", [[f"{j}", j] for j in range(i, i + 100)])
    c.write("r", "ü")
    revision = three[1].system.barrier(three[1].node, 2.0)
    assert revision is not None
    c.write("r", "later")
    c.lease_revoke("l", lease)
    for member in three:
        applied(member, revision + 2)
    dumps = [m.system.dump(m.node, revision, 2.0) for m in three]
    assert dumps[0] == dumps[1] == dumps[2]
    content = dumps[0].content
    assert content['splitbrain/r/"r"'] == '"ü"'
    assert content['splitbrain/lock/"l"'] == f'"{lease}"'
    assert 'splitbrain/r/"gone"' not in content
    assert sum(key.startswith("splitbrain/watch/") for key in content) == 2100
    assert dumps[0].revision == revision
    assert dumps[0].hash is not None
    assert dumps[0].hash.isdigit()
    now = three[2].system.dump(three[2].node, revision + 2, 2.0)
    assert now.hash != dumps[0].hash
    assert content.keys() - now.content.keys() == {'splitbrain/lock/"l"'}
    c.close()


def test_a_dump_is_of_the_runs_prefix_alone(three: list[Member]) -> None:
    member = three[0]
    c = member.system.client.open(member.node, None, {"prefix": "splitbrain/abc/"}, 2.0)
    revision = cast("Any", c).write("k", 1).ext["revision"]
    mine = Etcd({"prefix": "splitbrain/abc/"}, ports=member.system.ports)
    assert mine.dump(member.node, revision, 2.0).content == {'splitbrain/abc/r/"k"': "1"}
    c.close()


def test_a_revision_that_is_not_there_is_no_dump(three: list[Member]) -> None:
    member = three[0]
    revision = member.system.barrier(member.node, 2.0)
    assert revision is not None
    with pytest.raises(Indeterminate, match="future revision"):
        member.system.dump(member.node, revision + 1000, 2.0)


def test_each_node_gets_a_file_and_who_cannot_say_says_why(
    three: list[Member], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.dumps._ASK_S", 0.3)
    asked: list[str] = []
    more = replace(three[0].node, name="n4")
    nodes = (*(m.node for m in three), more)
    cluster = cast("Cluster", SimpleNamespace(nodes=nodes, enter=asked.append))
    revision = three[0].system.barrier(three[0].node, 2.0)
    assert revision is not None
    applied(three[2], revision)
    three[1].signal(signal.SIGSTOP)
    try:
        failed = write_dumps(cluster, three[0].system, revision, {"n4": "was behind"}, tmp_path / "dump")
    finally:
        three[1].signal(signal.SIGCONT)
    assert sorted(asked) == ["n1", "n2", "n3"]  # each from inside its own network
    assert failed == {"n2": "timeout"}
    files = {n.name: json.loads((tmp_path / "dump" / f"{n.name}.json").read_bytes()) for n in nodes}
    assert files["n2"] == {"format": 1, "node": "n2", "error": "timeout"}
    assert files["n4"] == {"format": 1, "node": "n4", "error": "was behind"}
    assert files["n1"].keys() == {"format", "node", "revision", "content", "hash"}
    assert (files["n1"]["node"], files["n1"]["revision"]) == ("n1", revision)
    assert files["n1"]["content"] == files["n3"]["content"] != {}
    assert files["n1"]["hash"] == files["n3"]["hash"]


def test_a_system_without_dumps_leaves_no_files(tmp_path: Path, three: list[Member]) -> None:
    cluster = cast("Cluster", SimpleNamespace(nodes=(three[0].node,), enter=lambda _: None))
    system = cast("Etcd", SimpleNamespace(dump=lambda *_: None))
    assert write_dumps(cluster, system, 1, {}, tmp_path / "dump") == {}
    assert not (tmp_path / "dump").exists()
