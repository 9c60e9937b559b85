"""What the client and the life cycle do, against a real ZooKeeper of one server on loopback."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from clusters.systems._zookeeper_client import ZooKeeperClient
from harness.core.errors import Definite, Indeterminate, Mismatch
from tests.clusters.real_zookeeper import Server, running

pytestmark = pytest.mark.slow  # a Java that starts costs seconds


@pytest.fixture(scope="module")
def zookeeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture
def c(zookeeper: Server) -> Iterator[ZooKeeperClient]:
    client = zookeeper.client()
    yield client
    client.close()


def test_a_register_from_nothing_to_nothing(c: ZooKeeperClient) -> None:
    assert c.read("a").value is None
    assert c.write("a", 1).value == 1
    assert c.read("a").value == 1
    assert c.cas("a", 1, 2).value == [1, 2]
    for wrong in (1, None, "2", True):
        with pytest.raises(Definite, match="value differs") as e:
            c.cas("a", wrong, 3)
        assert not isinstance(e.value, Mismatch)
    c.write("a", None)
    assert c.read("a").value is None
    assert c.cas("a", None, 4).value == [None, 4]
    assert c.cas("never there", None, 5).value == [None, 5]


@pytest.mark.parametrize("value", [0, True, "1", "", "ü\0", -(2**63), [1, None, "x"], {"a": [True]}])
def test_types_survive(c: ZooKeeperClient, value: object) -> None:
    c.write(("types", 1), value)
    read = c.read(("types", 1)).value
    assert (read, type(read)) == (value, type(value))


def test_revisions_grow_and_a_read_has_at_least_that_of_what_it_saw(c: ZooKeeperClient) -> None:
    def at(reply: Any) -> int:
        number = reply.ext["revision"]
        assert isinstance(number, int)
        return number

    first, read, second = c.write("r", 1), c.read("r"), c.write("r", 2)
    assert at(first) < at(read) < at(second)
    assert at(c.cas("r", 2, 3)) > at(second)
    assert at(c.set_add("r", 1)) > at(second)
    assert at(c.counter_add("r", 2)) > at(second)


def test_a_fence_is_a_change_and_changes_nothing(zookeeper: Server) -> None:
    c = zookeeper.client()
    c.write("f", 1)
    before = zookeeper.system.status(zookeeper.node, 2.0).revision
    c.read("f")
    after = zookeeper.system.status(zookeeper.node, 2.0).revision
    assert before is not None
    assert after == before + 1
    for reads in ("sync", "local"):
        weaker = zookeeper.client(reads=reads)
        weaker.write("f", 2)
        before = zookeeper.system.status(zookeeper.node, 2.0).revision
        assert weaker.read("f").value == 2
        assert zookeeper.system.status(zookeeper.node, 2.0).revision == before
        weaker.close()
    c.close()


def test_a_transaction_is_one_moments(c: ZooKeeperClient) -> None:
    assert c.kv_read("m").value == {}
    first = c.kv_txn("m", [["w", "a", 1], ["r", "b", None], ["cas", "c", None, "x"]])
    assert first.value == [["w", "a", 1], ["r", "b", None], ["cas", "c", None, "x"]]
    assert c.kv_read("m").value == {"a": 1, "c": "x"}
    with pytest.raises(Definite, match="value differs"):
        c.kv_txn("m", [["w", "a", 7], ["cas", "c", 1, 9]])
    with pytest.raises(Definite, match="twice"):
        c.kv_txn("m", [["w", "a", 7], ["r", "a", None]])
    assert c.kv_txn("m", [["r", "a", None], ["r", "c", None]]).value == [["r", "a", 1], ["r", "c", "x"]]


def test_sets_counters_and_ids(zookeeper: Server, c: ZooKeeperClient) -> None:
    assert c.set_read("s").value == []
    for element in (3, 1, 2, 2, 10**15):
        c.set_add("s", element)
    assert sorted(c.set_read("s").value) == [1, 2, 3, 10**15]
    assert c.counter_read("c").value == 0
    ids: list[int] = []

    def work() -> None:
        mine = zookeeper.client()
        for amount in (1, 5, 100, 2):
            mine.counter_add("c", amount)
            ids.append(mine.generate().value)
        mine.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert c.counter_read("c").value == 4 * 108
    assert len(set(ids)) == 16
    with pytest.raises(Definite, match=r"1\.\.100"):
        c.counter_add("c", 101)


def test_queues(c: ZooKeeperClient) -> None:
    assert c.dequeue("q").value is None
    for element in (5, -3, "a-b/c"):
        c.enqueue("q", element)
    assert c.queue_read("q").value == [5, -3, "a-b/c"]
    assert [c.dequeue("q").value for _ in range(4)] == [5, -3, "a-b/c", None]


def test_locks_and_elections(zookeeper: Server, c: ZooKeeperClient) -> None:
    other = zookeeper.client()
    mine, theirs = c.lease_grant("l", 2.0), other.lease_grant("l", 2.0)
    assert mine.ext["ttl_s"] == 2.0
    token = c.lock_acquire("l", mine.value).value
    with pytest.raises(Mismatch, match="held"):
        other.lock_acquire("l", theirs.value)
    c.lock_write_fenced("l", [1, token])
    c.lease_revoke("l", mine.value)
    with pytest.raises(Definite, match="stale token"):
        c.lock_write_fenced("l", [2, token])
    later = other.lock_acquire("l", theirs.value).value
    assert later > token
    with pytest.raises(Definite, match="stale token"):
        c.lock_write_fenced("l", [2, token])
    other.lock_write_fenced("l", [3, later])
    assert c.lock_read("l").value == 3
    assert c.election_leader("e").value is None
    won = other.election_campaign("e", theirs.value).value
    assert c.election_leader("e").value == won
    other.lease_revoke("e", theirs.value)
    assert c.election_leader("e").value is None
    other.close()


def test_a_lease_lives_as_long_as_it_is_kept_alive(c: ZooKeeperClient) -> None:
    lease = c.lease_grant("g", 0.8).value
    c.lease_attach("g", lease)
    for _ in range(6):
        time.sleep(0.25)
        c.lease_keepalive("g", lease)
    assert c.lease_read("g").value == lease
    deadline = time.monotonic() + 10
    while c.lease_read("g").value is not None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with pytest.raises(Definite, match="lease lost"):
        c.lease_keepalive("g", lease)


def test_status_barrier_dump_and_tidy(zookeeper: Server, c: ZooKeeperClient) -> None:
    system, node = zookeeper.system, zookeeper.node
    c.write("d", "x")
    c.set_add("d", 7)
    held = c.lease_grant("d", 2.0).value
    c.lock_acquire("d", held)
    revision = system.barrier(node, 2.0)
    assert revision is not None
    status = system.status(node, 2.0)
    assert status.role == "leader"
    assert status.revision is not None
    assert status.revision >= revision
    content = system.dump(node, revision, 2.0).content
    assert content["r/%22d%22"].startswith('"x"')
    assert "set/%22d%22/7" in content
    assert not any(path.startswith(("lock/", "node/")) for path in content)
    c.write("d", "y")
    with pytest.raises(Indeterminate, match="changed since"):
        system.dump(node, revision, 2.0)
    system.tidy(node, 5.0)
    assert system.dump(node, 2**62, 2.0).content == {}
    zookeeper.await_ready()


def test_a_paused_server_times_out_and_its_late_answers_reach_nobody(zookeeper: Server) -> None:
    c = zookeeper.client(timeout_s=0.5)
    c.write("p", "before")
    zookeeper.signal(signal.SIGSTOP)
    try:
        with pytest.raises(Indeterminate, match=r"^timeout$"):
            c.write("p", "during")
        with pytest.raises(Definite, match="timeout"):
            c.read("p")
        with pytest.raises(OSError, match=r"timed out|timeout"):
            zookeeper.system.status(zookeeper.node, 0.2)
    finally:
        zookeeper.signal(signal.SIGCONT)
    c.close()
    c = zookeeper.client()
    assert c.read("p").value in {"before", "during"}
    c.close()


def test_a_killed_server_refuses_and_what_it_acknowledged_is_there_again(zookeeper: Server) -> None:
    c = zookeeper.client()
    c.write("kept", 1)
    zookeeper.end()
    with pytest.raises(Definite, match=r"refused|reset"):
        c.write("kept", 2)
    zookeeper.start()
    zookeeper.await_ready()
    assert c.read("kept").value == 1
    c.close()
    kinds = [e.kind for e in zookeeper.system.events("n1", enumerate(zookeeper.log.read_text().splitlines()))]
    assert kinds.count("start") == 2
    assert "crash" not in kinds
