"""What needs no PySyncObj: versions, options, launch, the client's requests, the error table, log lines."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from clusters.artifacts import VersionRefused
from clusters.systems._pysyncobj_client import PySyncObjClient
from clusters.systems._pysyncobj_errors import classify, table
from clusters.systems._pysyncobj_versions import VERSIONS, caveats
from clusters.systems.pysyncobj import PySyncObj
from harness.core.cluster import Node, View
from harness.core.errors import ArtifactError, Definite, Indeterminate, Mismatch, OperationError, UsageError
from tests.clusters.dropping import dropping, http_reader, operations

NODES = (Node("n1", "10.0.0.1"), Node("n2", "10.0.0.2"), Node("n3", "10.0.0.3"))
PROGRAM = {"library": "/p/library", "server.py": "/p/server.py", "python": "/p/python"}
CALLS: dict[str, Callable[[PySyncObjClient], Any]] = {
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
    "lease_grant": lambda c: c.lease_grant("l", 2.0),
    "lock_acquire": lambda c: c.lock_acquire("l", "me"),
    "lease_revoke": lambda c: c.lease_revoke("l", "me"),
    "lock_read": lambda c: c.lock_read("l"),
    "lock_write": lambda c: c.lock_write("l", [1, 7]),
    "lock_write_fenced": lambda c: c.lock_write_fenced("l", [1, 7]),
    "election_campaign": lambda c: c.election_campaign("e", "me"),
    "election_leader": lambda c: c.election_leader("e"),
}
READS = {"read", "kv_read", "set_read", "counter_read", "queue_read", "lock_read", "election_leader"}


def client(port: int, **options: Any) -> PySyncObjClient:
    return PySyncObjClient(port).open(Node("n1", "127.0.0.1"), None, options, 2.0)


def launched(**options: Any) -> dict[str, Any]:
    system = PySyncObj(options)
    view = View(
        nodes=NODES, run="r", version="0.3.17", options=system.options, program=PROGRAM, data_dir="/d"
    )
    (process,) = system.launch(NODES[1], view)
    assert process.argv[0].startswith("/p/python/bin/python3")
    assert process.env["PYTHONPATH"] == "/p/library"
    return dict(json.loads(process.argv[-1]))


def test_every_operation_is_tested() -> None:
    assert set(CALLS) == operations(PySyncObjClient)


@pytest.mark.parametrize("f", CALLS)
def test_a_dropped_connection_has_seen_one_request_and_no_other(f: str) -> None:
    with dropping(http_reader) as (port, taken):
        c = client(port)
        with pytest.raises(Definite if f in READS else Indeterminate, match=r"^(closed|reset)$"):
            CALLS[f](c)
        c.close()
    assert len(taken) == 1


@pytest.mark.parametrize("f", CALLS)
def test_a_refused_connection_never_sent_anything(f: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    with pytest.raises(Definite, match="refused"):
        CALLS[f](client(port))


def answering(status: int, body: bytes) -> Callable[[bytes], tuple[int, bytes | None]]:
    """A reader that answers every request so."""

    def reader(data: bytes) -> tuple[int, bytes | None]:
        size, _ = http_reader(data)
        return size, b"HTTP/1.1 %d -\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)

    return reader


@pytest.mark.parametrize("said", table)
def test_errors_are_definite_where_the_table_says_so(said: str) -> None:
    row = table[said]
    assert row.why
    with dropping(answering(503, json.dumps({"error": said}).encode())) as (port, _):
        c = client(port)
        with pytest.raises(OperationError, match=rf"^{row.text}$") as e:
            c.write("k", 1)
        c.close()
    assert isinstance(e.value, Definite) is row.definite
    assert isinstance(e.value, Mismatch) is (said in ("mismatch", "held"))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"revision":"x","value":1}'])
def test_garbage_leaves_the_outcome_open(body: bytes) -> None:
    assert classify(503, body) == ("http 503", False)
    with dropping(answering(200, body)) as (port, _):
        c = client(port)
        with pytest.raises(Indeterminate, match="garbage"):
            c.write("k", 1)
        with pytest.raises(Definite, match="garbage"):
            c.read("k")
        c.close()


def test_an_error_nobody_knows_leaves_the_outcome_open() -> None:
    assert classify(503, b'{"error":"reason 9"}') == ("http 503: reason 9", False)


def test_what_a_node_is_told() -> None:
    told = launched()
    assert told["nodes"] == {n.name: f"{n.address}:4321" for n in NODES}
    assert (told["node"], told["http"], told["journal"]) == ("n2", "10.0.0.2:4320", "/d/journal")
    assert told["conf"]["logCompactionMinEntries"] == told["conf"]["logCompactionMinTime"] == 10**9
    assert launched(journal="false")["journal"] is None
    assert launched(compact_entries=50)["conf"]["logCompactionMinEntries"] == 50


@pytest.mark.parametrize(
    ("option", "value"), [("reads", "quorum"), ("lock_s", 0), ("compact_entries", -1), ("batch_bytes", 1)]
)
def test_options_out_of_range_are_refused(option: str, value: object) -> None:
    with pytest.raises(UsageError, match=option):
        PySyncObj({option: value})


def test_versions() -> None:
    def resolve(asked: str | None) -> str:
        return VERSIONS.resolve("pysyncobj", asked)

    assert resolve(None) == resolve("0.3") == "0.3.17"
    assert resolve("0.3.11") == "0.3.11"
    with pytest.raises(UsageError, match=r"nearest known: 0\.3\.10"):
        resolve("0.3.2")
    assert ["issue 201" in " ".join(caveats(v)) for v in ("0.3.11", "0.3.15", "0.3.16", "0.3.17")] == [
        True,
        True,
        False,
        False,
    ]


def test_a_version_that_pypi_does_not_have_names_the_nearest_it_has() -> None:
    class Refusing:
        def pypi_tree(self, *_: Any, **__: Any) -> Any:
            raise VersionRefused("PyPI has no pysyncobj 0.3.99", served=("0.3.16", "0.3.17"))

    with pytest.raises(ArtifactError, match=r"0\.3\.99 cannot be had: .*nearest served: 0\.3\.17"):
        PySyncObj().install("0.3.99", Refusing())


def test_without_a_journal_the_card_says_that_it_is_a_control() -> None:
    class Having:
        def pypi_tree(self, *_: Any, **__: Any) -> Any:
            return type("A", (), {"path": "/p", "sha256": "0"})

    assert "positive control" in PySyncObj({"journal": False}).install(None, Having()).caveats[0]
    assert PySyncObj().install(None, Having()).caveats == ()


def test_log_lines() -> None:
    lines = [
        "starting PySyncObj 0.3.17 as n1 at 10.0.0.1:4321, journal /d/journal",
        "became leader at term 3",
        "leader is n1 at term 3",
        "CRITICAL pysyncobj.syncobj truncating already-applied log entries from index 5 (last applied: 5) - ...",
        "lost the leader at term 4",
        "ERROR pysyncobj.syncobj failed _onTick in _autoTickThread",
        "stopping",
        "fatal: SyncObjException: BindError",
    ]
    found = [(e.kind, e.term) for e in PySyncObj().events("n1", enumerate(lines))]
    assert found == [
        ("start", None),
        ("election", 3),
        ("leader-seen", 3),
        ("leader-lost", 4),
        ("crash", None),
        ("stop", None),
        ("crash", None),
    ]
