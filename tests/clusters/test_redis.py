"""What needs no Redis: options, launch, the client's requests and whom it asks, the error table, log lines."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Any

import pytest

from clusters.artifacts import VersionRefused
from clusters.systems._redis_client import RedisClient
from clusters.systems._redis_errors import table
from clusters.systems.redis import Redis
from harness.core.cluster import Node, Process, View
from harness.core.errors import ArtifactError, Definite, Indeterminate, Mismatch, OperationError, UsageError
from tests.clusters.dropping import dropping, operations

NODES = (Node("n1", "10.0.0.1"), Node("n2", "10.0.0.2"), Node("n3", "10.0.0.3"))
CALLS: dict[str, Callable[[RedisClient], Any]] = {
    "read": lambda c: c.read("k"),
    "write": lambda c: c.write("k", 1),
    "cas": lambda c: c.cas("k", 1, 2),
    "kv_txn": lambda c: c.kv_txn("m", [["r", "a", None], ["w", "b", 1], ["cas", "c", 1, 2]]),
    "kv_read": lambda c: c.kv_read("m"),
    "set_add": lambda c: c.set_add("s", 1),
    "set_read": lambda c: c.set_read("s"),
    "counter_add": lambda c: c.counter_add("c", 1),
    "counter_read": lambda c: c.counter_read("c"),
    "generate": lambda c: c.generate(),
    "enqueue": lambda c: c.enqueue("q", 1),
    "dequeue": lambda c: c.dequeue("q"),
    "queue_read": lambda c: c.queue_read("q"),
}
READS = {"read", "kv_read", "set_read", "counter_read", "queue_read"}


def request(data: bytes) -> int:
    """The length of the first whole command, 0 where it is not whole."""
    at = 0
    head = re.match(rb"\*(\d+)\r\n", data)
    if head is None:
        return 0
    at = head.end()
    for _ in range(int(head[1])):
        size = re.compile(rb"\$(\d+)\r\n").match(data, at)
        if size is None or len(data) < size.end() + int(size[1]) + 2:
            return 0
        at = size.end() + int(size[1]) + 2
    return at


def serving(ports: list[int], answer: bytes | None) -> Callable[[bytes], tuple[int, bytes | None]]:
    """A Sentinel that names itself as the primary, and a primary that answers so, or drops the connection."""

    def reader(data: bytes) -> tuple[int, bytes | None]:
        size = request(data)
        if size and b"SENTINEL" in data[:size]:
            port = str(ports[0]).encode()
            return size, b"*2\r\n$9\r\n127.0.0.1\r\n$%d\r\n%b\r\n" % (len(port), port)
        return size, answer

    return reader


def client(port: int) -> RedisClient:
    return RedisClient(port).open(Node("n1", "127.0.0.1"), None, {}, 2.0)


def test_every_operation_is_tested() -> None:
    assert set(CALLS) == operations(RedisClient)


@pytest.mark.parametrize("f", CALLS)
def test_a_dropped_connection_has_seen_one_request_and_no_other(f: str) -> None:
    ports: list[int] = []
    with dropping(serving(ports, None)) as (port, taken):
        ports.append(port)
        c = client(port)
        with pytest.raises(Definite if f in READS else Indeterminate, match=r"^(closed|reset)$"):
            CALLS[f](c)
        c.close()
    assert len(taken) == 1


@pytest.mark.parametrize("f", CALLS)
def test_a_sentinel_that_refuses_leaves_nothing_sent(f: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    with pytest.raises(Definite, match=r"^sentinel: refused$"):
        CALLS[f](client(port))


def test_a_primary_that_refuses_leaves_nothing_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as s:
        gone = s.getsockname()[1]
    with dropping(serving([gone], None)) as (port, taken), pytest.raises(Definite, match=r"^refused$"):
        client(port).write("k", 1)
    assert taken == []


def test_a_sentinel_that_knows_no_primary() -> None:
    knows_none = dropping(lambda data: (request(data), b"*-1\r\n"))
    with knows_none as (port, _), pytest.raises(Definite, match="sentinel: knows no primary"):
        client(port).write("k", 1)


def test_a_silent_primary_is_a_timeout() -> None:
    ports: list[int] = []
    with dropping(serving(ports, b"")) as (port, _):
        ports.append(port)
        c = RedisClient(port).open(Node("n1", "127.0.0.1"), None, {}, 0.2)
        with pytest.raises(Indeterminate, match=r"^timeout$"):
            c.write("k", 1)
        with pytest.raises(Definite, match=r"^timeout$"):
            c.read("k")
        c.close()


@pytest.mark.parametrize("code", table)
def test_errors_are_definite_where_the_table_says_so(code: str) -> None:
    ports: list[int] = []
    with dropping(serving(ports, f"-{code} something went wrong\r\n".encode())) as (port, _):
        ports.append(port)
        c = client(port)
        with pytest.raises(OperationError, match=rf"^{table[code].text}$") as e:
            c.set_add("s", 1)
        c.close()
    assert table[code].why
    assert isinstance(e.value, Definite) is table[code].definite


@pytest.mark.parametrize("said", [b"-ERR unknown command\r\n", b"-NEWCODE what\r\n"])
def test_an_error_nobody_knows_leaves_the_outcome_open(said: bytes) -> None:
    ports: list[int] = []
    with dropping(serving(ports, said)) as (port, _):
        ports.append(port)
        c = client(port)
        with pytest.raises(Indeterminate):
            c.set_add("s", 1)
        c.close()


@pytest.mark.parametrize("said", [b"what\r\n", b"*1\r\n$3\r\n{x}\r\n", b":7\r\n"])
def test_garbage_is_no_answer_to_a_read(said: bytes) -> None:
    ports: list[int] = []
    with dropping(serving(ports, said)) as (port, _):
        ports.append(port)
        c = client(port)
        with pytest.raises(Definite):
            c.set_read("s")
        c.close()


def test_a_comparison_that_fails_is_evidence() -> None:
    ports: list[int] = []
    with dropping(serving(ports, b":0\r\n")) as (port, _):
        ports.append(port)
        c = client(port)
        with pytest.raises(Mismatch):
            c.cas("k", 1, 2)
        with pytest.raises(Mismatch):
            CALLS["kv_txn"](c)
        c.close()


def test_a_connection_that_the_server_ended_is_replaced_before_anything_is_sent() -> None:
    """As a primary does that is demoted: who comes next asks the Sentinel again."""
    ports: list[int] = []
    asked: list[bytes] = []

    def reader(data: bytes) -> tuple[int, bytes | None]:
        size, answer = serving(ports, b"+OK\r\n")(data)
        if size:
            asked.append(b"sentinel" if b"SENTINEL" in data[:size] else b"primary")
        return size, answer

    with dropping(reader) as (port, _):
        ports.append(port)
        c = client(port)
        c.write("k", 1)
        c.write("k", 2)
        assert asked == [b"sentinel", b"primary", b"primary"]
        assert c._wire is not None
        c._wire._connection._sock.shutdown(socket.SHUT_RDWR)
        c.write("k", 3)
        assert asked[3:] == [b"sentinel", b"primary"]
        c.close()


def launched(node: Node, **options: Any) -> list[Process]:
    system = Redis(options)
    view = View(
        nodes=NODES,
        run="r",
        version="7.0.15",
        options=system.options,
        program={"redis": "/p/redis"},
        data_dir="/d",
    )
    return system.launch(node, view)


def test_the_first_node_is_the_primary_at_first() -> None:
    for node in NODES:
        server, sentinel = launched(node)
        assert (server.name, sentinel.name) == ("server", "sentinel")
        follows = "replicaof 10.0.0.1 6379" in server.files["/d/server.template"]
        assert follows is (node != NODES[0])
        assert "sentinel monitor main 10.0.0.1 6379 2\n" in sentinel.files["/d/sentinel.template"]
        assert sentinel.start_after_ms > server.start_after_ms
        # A restart must not forget whom a failover has made it follow.
        assert "test -e /d/server.conf || cp /d/server.template /d/server.conf" in server.argv[2]


def test_options_reach_the_configuration() -> None:
    server, sentinel = launched(NODES[0], min_replicas=1, fsync="always", down_ms=500)
    text = server.files["/d/server.template"]
    assert "min-replicas-to-write 1\n" in text
    assert "appendfsync always\n" in text
    assert "down-after-milliseconds main 500\n" in sentinel.files["/d/sentinel.template"]
    with pytest.raises(UsageError, match="fsync"):
        Redis({"fsync": "often"})


def test_what_debian_does_not_have_is_refused_and_every_run_says_that_it_is_a_control() -> None:
    class Debian:
        def debian_tree(self, _name: str, version: str | None, **_: Any) -> Any:
            if version not in (None, "7.0.15"):
                what = f"this Debian has redis-server 7.0.15, not {version}"
                raise VersionRefused(what, served=("7.0.15",))
            return type("A", (), {"path": "/p", "sha256": "0", "version": "7.0.15"})

    with pytest.raises(ArtifactError, match=r"6\.2\.1 cannot be had: .*nearest served: 7\.0\.15"):
        Redis().install("6.2.1", Debian())
    install = Redis().install(None, Debian())
    assert install.version == "7.0.15"
    assert "positive control" in install.caveats[0]
    assert "not promised" in Redis.promises[0].source


def test_log_lines() -> None:
    lines = [
        "12:M 26 Nov 2026 09:39:10.123 * Server initialized",
        "12:S 26 Nov 2026 09:39:11.123 # Connection with master lost.",
        "12:M 26 Nov 2026 09:39:12.123 * MASTER MODE enabled (user request from 'id=7 ...')",
        "13:X 26 Nov 2026 09:39:12.200 # +switch-master main 10.0.0.1 6379 10.0.0.2 6379",
        "12:M 26 Nov 2026 09:39:13.000 # User requested shutdown...",
        "=== REDIS BUG REPORT START: Cut & paste starting from here ===",
        "12:M 26 Nov 2026 09:39:14.000 # Bad file format reading the append only file: make a backup",
        "12:M 26 Nov 2026 09:39:15.000 * Background saving started",
    ]
    kinds = [e.kind for e in Redis().events("n1", enumerate(lines))]
    assert kinds == ["start", "leader-lost", "election", "leader-seen", "stop", "crash", "corruption"]
