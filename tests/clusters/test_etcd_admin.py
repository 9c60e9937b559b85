"""What an administrator asks of etcd: one request a call, and which refusals are definite."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from clusters.systems._etcd_admin import EtcdAdmin
from clusters.systems.etcd import Etcd
from harness.core.cluster import Node, View
from harness.core.errors import Definite, Indeterminate
from tests.clusters.dropping import Reader, dropping, http_reader, operations

NODE = Node("n1", "127.0.0.1")
CALLS: dict[str, Callable[[EtcdAdmin], Any]] = {
    "members": lambda a: a.members(NODE, 2.0, agreed=True),
    "add": lambda a: a.add(NODE, Node("n4", "10.0.0.4"), 2.0, learner=True),
    "promote": lambda a: a.promote(NODE, "17", 2.0),
    "remove": lambda a: a.remove(NODE, "17", 2.0),
    "version": lambda a: a.version(NODE, 2.0),
    "ready_for": lambda a: a.ready_for(NODE, "3.5.35", 2.0),
    "lower": lambda a: a.lower(NODE, "3.5.35", 2.0),
    "transfer": lambda a: a.transfer(NODE, "17", 2.0),
    "compact": lambda a: a.compact(NODE, 9, 2.0),
    "defragment": lambda a: a.defragment(NODE, 2.0),
    "snapshot": lambda a: a.snapshot(NODE, 2.0),
    "counts": lambda a: a.counts(NODE, 2.0),
}


def admin(port: int) -> EtcdAdmin:
    return EtcdAdmin(port, lambda node: f"http://{node.address}:2380")


def answering(status: int, body: bytes) -> Reader:
    """Whole requests, all answered so."""
    head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    return lambda data: (http_reader(data)[0], head + body)


def test_every_call_is_tried_here() -> None:
    assert CALLS.keys() | {"equip", "restored"} == operations(EtcdAdmin), "those two ask no server"


@pytest.mark.parametrize("name", CALLS)
def test_a_lost_answer_is_one_request_of_unknown_outcome(name: str) -> None:
    with dropping(http_reader) as (port, taken):
        with pytest.raises(Indeterminate):
            CALLS[name](admin(port))
        assert len(taken) == 1


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("etcdserver: unhealthy cluster", Definite),
        ("etcdserver: can only promote a learner member which is in sync with leader", Definite),
        ("etcdserver: request timed out", Indeterminate),
        ("something new", Indeterminate),
    ],
)
def test_refusals_from_before_the_log_are_definite(message: str, kind: type[Exception]) -> None:
    body = json.dumps({"code": 14, "message": message}).encode()
    with dropping(answering(503, body)) as (port, _), pytest.raises(kind, match=message):
        CALLS["add"](admin(port))


def test_a_refused_connection_never_sent_anything() -> None:
    with dropping(http_reader) as (port, _):
        pass
    with pytest.raises(Definite):
        CALLS["remove"](admin(port))


def test_members_are_read_as_etcd_writes_them() -> None:
    said = {"members": [{"ID": "17", "peerURLs": ["http://10.0.0.4:2380"], "isLearner": True}]}
    with dropping(answering(200, json.dumps(said).encode())) as (port, _):
        (found,) = CALLS["members"](admin(port))
    assert (found.id, found.address, found.name, found.learner) == ("17", "10.0.0.4", "", True)


@pytest.mark.parametrize(
    ("said", "version", "ready"),
    [
        ({"version": "3.5.35"}, "3.6.16", True),
        ({"version": "3.6.16", "storageVersion": "3.6.0"}, "3.5.35", False),
        ({"version": "3.6.16", "storageVersion": "3.5.0"}, "3.5.35", True),
        ({"version": "3.6.16"}, "3.5.35", False),
        ({"version": "3.6.16", "storageVersion": "3.6.0"}, "3.6.4", True),
    ],
)
def test_an_older_version_takes_over_what_has_its_form(
    said: dict[str, str], version: str, ready: bool
) -> None:
    with dropping(answering(200, json.dumps(said).encode())) as (port, _):
        assert admin(port).ready_for(NODE, version, 2.0) is ready


def test_a_downgrade_that_goes_on_already_is_no_error() -> None:
    body = json.dumps({"code": 9, "message": "etcdserver: cluster has a downgrade job in progress"}).encode()
    with dropping(answering(400, body)) as (port, _):
        CALLS["lower"](admin(port))


@pytest.mark.parametrize("whole", [True, False])
def test_a_snapshot_is_compared_with_its_checksum(whole: bool) -> None:
    data = b"x" * 4096
    blob = data + hashlib.sha256(data).digest()
    parts = [blob[:1000], blob[1000:]] if whole else [blob[:1000], blob[1001:]]
    lines = [json.dumps({"result": {"blob": b64encode(p).decode()}}).encode() for p in parts]
    with dropping(answering(200, b"\n".join(lines) + b"\n")) as (port, _):
        if whole:
            assert CALLS["snapshot"](admin(port)) == blob
        else:
            with pytest.raises(Indeterminate, match="checksum"):
                CALLS["snapshot"](admin(port))


def test_counts_are_read_from_the_metrics() -> None:
    text = "# HELP x\netcd_debugging_mvcc_compact_revision 40\netcd_disk_backend_defrag_duration_seconds_count 2\n"
    with dropping(answering(200, text.encode())) as (port, _):
        assert CALLS["counts"](admin(port)) == {"compact": 40.0, "defragment": 2.0}


def test_whoever_joins_is_told_that_the_cluster_exists() -> None:
    nodes = tuple(Node(f"n{i}", f"10.0.0.{i}") for i in (1, 2, 4))
    view = View(
        nodes=nodes,
        run="r",
        version="3.6.16",
        options={},
        program={"etcd": "/etcd"},
        data_dir="/data",
        joining=True,
    )
    (process,) = Etcd().launch(nodes[2], view)
    assert "--initial-cluster-state=existing" in process.argv
    cluster = "n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380,n4=http://10.0.0.4:2380"
    assert f"--initial-cluster={cluster}" in process.argv
