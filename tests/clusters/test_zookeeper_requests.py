"""The client against a ZooKeeper of this process: what its operations do, and that nothing is ever sent twice."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clusters.systems._zookeeper_client import ZooKeeperClient
from clusters.systems.zookeeper import ZooKeeper
from harness.core.cluster import Node
from harness.core.errors import Definite, Indeterminate, Mismatch, OperationError
from tests.clusters.fake_zookeeper import FakeZooKeeper, copy, fake

NODE = Node("n1", "127.0.0.1")
Use = Callable[[ZooKeeperClient], Any]


@pytest.fixture
def zk() -> Iterator[tuple[FakeZooKeeper, int]]:
    with fake() as both:
        yield both


def client(port: int, timeout_s: float = 2.0, **options: Any) -> ZooKeeperClient:
    return ZooKeeperClient(port).open(NODE, None, options, timeout_s)


# Each operation: what has to be there, the operation, and which of its requests may have the effect that it is about.
# Those of leases get the lease that was granted before.
OPERATIONS: dict[str, tuple[Use, Callable[[ZooKeeperClient, Any], Any], set[int]]] = {
    "read": (lambda c: c.write("k", 1), lambda c, _: c.read("k"), set()),
    "write": (lambda c: c.write("k", 1), lambda c, _: c.write("k", 2), {-1}),
    "write, the first": (lambda c: None, lambda c, _: c.write("k", 2), {0, -1}),
    "cas": (lambda c: c.write("k", 1), lambda c, _: c.cas("k", 1, 2), {-1}),
    "cas, the first": (lambda c: None, lambda c, _: c.cas("k", None, 2), {-1}),
    "kv_txn": (
        lambda c: c.kv_txn("m", [["w", "a", 1], ["w", "b", 1]]),
        lambda c, _: c.kv_txn("m", [["r", "a", None], ["cas", "b", 1, 2]]),
        {-1},
    ),
    "kv_txn, the first": (lambda c: None, lambda c, _: c.kv_txn("m", [["w", "a", 1]]), {-1}),
    "kv_txn of reads": (
        lambda c: c.kv_txn("m", [["w", "a", 1]]),
        lambda c, _: c.kv_txn("m", [["r", "a", None]]),
        set(),
    ),
    "kv_read": (lambda c: c.kv_txn("m", [["w", "a", 1]]), lambda c, _: c.kv_read("m"), set()),
    "kv_read of nothing": (lambda c: None, lambda c, _: c.kv_read("m"), set()),
    "set_add": (lambda c: c.set_add("s", 1), lambda c, _: c.set_add("s", 2), {-1}),
    "set_add, the first": (lambda c: None, lambda c, _: c.set_add("s", 2), {0, -1}),
    "set_read": (lambda c: c.set_add("s", 1), lambda c, _: c.set_read("s"), set()),
    "counter_add": (lambda c: c.counter_add("c", 1), lambda c, _: c.counter_add("c", 3), {-1}),
    "counter_add, the first": (lambda c: None, lambda c, _: c.counter_add("c", 3), {0, -1}),
    "counter_read": (lambda c: c.counter_add("c", 2), lambda c, _: c.counter_read("c"), set()),
    "generate": (lambda c: c.generate(), lambda c, _: c.generate(), {-1}),
    "generate, the first": (lambda c: None, lambda c, _: c.generate(), {0, -1}),
    "enqueue": (lambda c: c.enqueue("q", 1), lambda c, _: c.enqueue("q", 2), {-1}),
    "enqueue, the first": (lambda c: None, lambda c, _: c.enqueue("q", 2), {0, -1}),
    "dequeue": (lambda c: c.enqueue("q", 1), lambda c, _: c.dequeue("q"), {-1}),
    "dequeue of nothing": (lambda c: None, lambda c, _: c.dequeue("q"), set()),
    "queue_read": (lambda c: c.enqueue("q", 1), lambda c, _: c.queue_read("q"), set()),
    "lease_attach": (lambda c: None, lambda c, lease: c.lease_attach("g", lease), {-1}),
    "lease_keepalive": (lambda c: None, lambda c, lease: c.lease_keepalive("g", lease), {-1}),
    "lease_revoke": (lambda c: None, lambda c, lease: c.lease_revoke("g", lease), {-1}),
    "lease_read": (lambda c: None, lambda c, _: c.lease_read("g"), set()),
    "lock_acquire": (lambda c: None, lambda c, lease: c.lock_acquire("l", lease), {0, -1}),
    "lock_read": (lambda c: c.lock_write("l", [1, 1]), lambda c, _: c.lock_read("l"), set()),
    "lock_write": (lambda c: c.lock_write("l", [1, 1]), lambda c, _: c.lock_write("l", [2, 1]), {-1}),
    "election_campaign": (lambda c: None, lambda c, lease: c.election_campaign("e", lease), {-1}),
    "election_leader": (lambda c: None, lambda c, _: c.election_leader("e"), set()),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_dropped_connection_means_no_further_request(name: str, zk: tuple[FakeZooKeeper, int]) -> None:
    """Dropped at its first, second ... last request: so many were counted."""
    prepare, operation, may_have_effect = OPERATIONS[name]
    server, port = zk
    first = client(port)
    prepare(first)
    lease = first.lease_grant("g", 1.0).value
    before = {path: copy(znode) for path, znode in server.tree.items()}
    server.requests.clear()
    operation(first, lease)
    asked = list(server.requests)
    first.close()
    assert asked, "an operation that asks nothing tests nothing"
    for n in range(1, len(asked) + 1):
        server.tree = {path: copy(znode) for path, znode in before.items()}
        server.drop_at = None
        server.requests.clear()
        c = client(port)
        lease = c.lease_grant("g", 1.0).value
        server.drop_at = n
        unknown = bool(may_have_effect & {n - 1, n - 1 - len(asked)})
        with pytest.raises(Indeterminate if unknown else Definite) as e:
            operation(c, lease)
        assert not isinstance(e.value, Mismatch)
        assert server.requests == asked[:n]
        c.close()
        assert server.requests == asked[:n], "closing a client asks for nothing"


def test_after_a_drop_a_client_opens_another_session_but_never_for_a_lease(
    zk: tuple[FakeZooKeeper, int],
) -> None:
    server, port = zk
    c = client(port)
    lease = c.lease_grant("g", 1.0).value
    c.write("k", 1)
    assert server.sessions == 2
    server.drop_at = len(server.requests) + 1
    with pytest.raises(Indeterminate, match=r"^closed$"):
        c.write("k", 2)
    assert c.read("k").value == 1
    assert server.sessions == 3
    server.drop_at = len(server.requests) + 1
    with pytest.raises(Indeterminate):
        c.lock_acquire("l", lease)
    for use in (c.lock_acquire, c.lease_attach, c.election_campaign, c.lease_keepalive, c.lease_revoke):
        with pytest.raises(Definite, match=r"^lease lost$"):
            use("l", lease)
    assert server.sessions == 3
    c.close()


@pytest.mark.parametrize("code", [-4, -7, -112, -118, -122, -999])
def test_what_proves_nothing_is_unknown_for_changes_and_harmless_for_reads(
    code: int, zk: tuple[FakeZooKeeper, int]
) -> None:
    server, port = zk
    c = client(port)
    c.write("k", 1)
    server.answer = struct.pack("!iqi", 2, 5, code)
    with pytest.raises(Indeterminate):
        c.write("k", 2)
    server.answer = struct.pack("!iqi", 1, 5, code)
    with pytest.raises(Definite):
        c.read("k")
    c.close()


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\0" * 3, struct.pack("!iqi", 77, 1, 0), struct.pack("!iqi", 2, 1, 0) + b"x"],
    ids=["nothing", "short", "another's", "no stat"],
)
def test_garbage_is_unknown(garbage: bytes, zk: tuple[FakeZooKeeper, int]) -> None:
    server, port = zk
    c = client(port)
    c.write("k", 1)
    server.answer = garbage
    with pytest.raises(Indeterminate, match="garbage"):
        c.write("k", 2)
    c.close()


def test_nobody_there_is_definite() -> None:
    with fake() as (_, port):
        pass
    c = client(port)
    for use in (lambda: c.write("k", 1), lambda: c.lease_grant("g", 1.0), lambda: c.read("k")):
        with pytest.raises(Definite, match="refused"):
            use()


def test_a_silent_server_times_out(zk: tuple[FakeZooKeeper, int]) -> None:
    server, port = zk
    c = client(port, timeout_s=0.2)
    c.write("k", 1)
    with server.lock, pytest.raises(Indeterminate, match=r"^timeout$"):
        c.write("k", 2)
    with server.lock, pytest.raises(Definite, match="session: timeout"):
        c.write("k", 3)
    c.close()


def test_reads_ask_for_what_the_option_says(zk: tuple[FakeZooKeeper, int]) -> None:
    server, port = zk
    for reads, asked in (
        ("fenced", ["multi", "getData"]),
        ("sync", ["sync", "getData"]),
        ("local", ["getData"]),
    ):
        c = client(port, reads=reads)
        c.write("k", 1)
        server.requests.clear()
        reply = c.read("k")
        assert (reply.value, server.requests) == (1, asked)
        assert ("revision" in reply.ext) == (reads == "fenced")
        c.close()


def test_a_failed_comparison_is_no_evidence(zk: tuple[FakeZooKeeper, int]) -> None:
    """Two requests are not one step: somebody may write between them, or a server show what was."""
    server, port = zk
    c = client(port)
    c.write("k", 1)
    for wrong in (2, None, "1", True):
        with pytest.raises(Definite, match="value differs") as e:
            c.cas("k", wrong, 9)
        assert not isinstance(e.value, Mismatch)
    asked = c._if_unchanged

    def meanwhile(call: Any, request: Any) -> Any:
        server.tree["/splitbrain/r/%22k%22"].version += 1
        return asked(call, request)

    c._if_unchanged = meanwhile  # type: ignore[method-assign]
    with pytest.raises(Definite, match="version moved on"):
        c.cas("k", 1, 9)
    c.close()


def test_locks_count_their_grants_and_refuse_stale_tokens(zk: tuple[FakeZooKeeper, int]) -> None:
    _, port = zk
    a, b = client(port), client(port)
    one, two = a.lease_grant("l", 1.0).value, b.lease_grant("l", 1.0).value
    first = a.lock_acquire("l", one).value
    with pytest.raises(Mismatch, match="held"):
        b.lock_acquire("l", two)
    a.lock_write_fenced("l", [5, first])
    a.lease_revoke("l", one)
    with pytest.raises(Definite, match="stale token"):
        a.lock_write_fenced("l", [6, first])
    second = b.lock_acquire("l", two).value
    assert second > first
    with pytest.raises(Definite, match="stale token"):
        a.lock_write_fenced("l", [7, first])
    b.lock_write_fenced("l", [8, second])
    assert a.lock_read("l").value == 8
    with pytest.raises(OperationError):
        a.lock_acquire("l", two)  # another client's lease
    a.close()
    b.close()


def test_a_queue_is_first_in_first_out(zk: tuple[FakeZooKeeper, int]) -> None:
    _, port = zk
    c = client(port)
    assert c.dequeue("q").value is None
    for element in (5, -3, "a-b", 4):
        c.enqueue("q", element)
    assert c.queue_read("q").value == [5, -3, "a-b", 4]
    assert [c.dequeue("q").value for _ in range(3)] == [5, -3, "a-b"]
    seen = c._queued
    c._queued = lambda call, base: (["5-0000000000"], 1)  # type: ignore[method-assign]
    with pytest.raises(Definite, match="taken meanwhile"):
        c.dequeue("q")
    c._queued = seen  # type: ignore[method-assign]
    assert c.queue_read("q").value == [4]
    c.close()


def test_all_of_a_run_can_be_read_and_removed(zk: tuple[FakeZooKeeper, int]) -> None:
    server, port = zk
    server.tree = {"/": server.tree["/"]}
    system = ZooKeeper({"prefix": "a/b/"}, ports={"client": port, "peer": 0, "election": 0})
    system.ready(NODE, 2.0)
    c = client(port, prefix="a/b/")
    c.write("k", "x")
    c.set_add("s", 1)
    lease = c.lease_grant("l", 2.0).value
    c.lock_acquire("l", lease)
    revision = system.barrier(NODE, 2.0)
    assert revision == server.zxid
    content = system.dump(NODE, revision, 2.0).content
    assert content == {
        "r/%22k%22": '"x" (version 1)',
        "set/%22s%22": "null (version 0)",
        "set/%22s%22/1": "",
        "grants/%22l%22": f'"{lease}" (version 1)',
        "guarded/%22l%22": "null (version 0)",
    }
    c.set_add("s", 2)
    with pytest.raises(Indeterminate, match="changed since"):
        system.dump(NODE, revision, 2.0)
    system.tidy(NODE, 2.0)
    assert list(server.tree) == ["/", "/a"]
    c.close()
