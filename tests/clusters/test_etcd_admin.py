"""What an administrator asks of etcd: one request a call, and which refusals are definite."""

from __future__ import annotations

import json
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
}


def admin(port: int) -> EtcdAdmin:
    return EtcdAdmin(port, lambda node: f"http://{node.address}:2380")


def answering(status: int, body: bytes) -> Reader:
    """Whole requests, all answered so."""
    head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    return lambda data: (http_reader(data)[0], head + body)


def test_every_call_is_tried_here() -> None:
    assert CALLS.keys() == operations(EtcdAdmin)


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
