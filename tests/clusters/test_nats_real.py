"""What workloads do to NATS, against a real server; three of them, and an old one, belong to `make test-all`."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from clusters.systems._nats_client import NatsClient
from harness.core.errors import Definite, Indeterminate
from tests.clusters.real_nats import Server, running


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("nats")) as (server,):
        yield server


@pytest.fixture
def c(nats: Server) -> Iterator[NatsClient]:
    client = nats.client()
    yield client
    client.close()


def everything(c: NatsClient, key: str) -> None:
    """Every operation once, and what it has to answer."""
    assert c.read(key).value is None
    c.write(key, [1, "x"])
    assert c.read(key).value == [1, "x"]
    assert c.cas(key, [1, "x"], 2).value == [[1, "x"], 2]
    # 2.11 goes on holding the id of what it refused, so that the fence tells nothing.
    with pytest.raises((Definite, Indeterminate), match="wrong last sequence") as refused:
        c.cas(key, [1, "x"], 3)
    assert refused.type is Definite or "id in process" in refused.value.text
    with pytest.raises(Definite, match="not known"):
        c.cas(key, "never seen", 3)
    c.cas(key, 2, None)
    assert c.read(key).value is None
    c.cas(key, None, 4)
    assert c.read(key).value == 4

    for element in (1, True, "1", None):
        c.set_add(key, element)
    c.set_add(key, 1)
    c.set_add(f"{key}x", 9)
    assert sorted(map(repr, c.set_read(key).value)) == sorted(map(repr, [1, True, "1", None]))
    assert c.set_read(f"{key}y").value == []

    c.counter_add(key, 2)
    c.counter_add(key, 3)
    assert c.counter_read(key).value == 5

    assert [c.log_publish(key, m).ext["sequence"] for m in ("a", "b")] == [1, 2]
    assert c.log_publish(key, "b").ext["sequence"] == 2  # known by its id
    whole = c.log_read(key).value
    assert whole["messages"] == [[1, "a"], [2, "b"]]
    after = c.log_publish(key, "c").ext["sequence"]
    assert c.log_read(key, whole["next"]).value["messages"] == [[after, "c"]]
    assert c.log_read(key, after + 9).value["messages"] == []

    for element in (1, 2, 3):
        c.enqueue(key, element)
    assert c.queue_read(key).value == [1, 2, 3]
    assert [c.dequeue(key).value for _ in range(2)] == [1, 2]
    deadline = time.monotonic() + 5  # the stream lets go of what the consumer has acknowledged a moment later
    while c.queue_read(key).value != [3] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert c.queue_read(key).value == [3]
    assert [c.dequeue(key).value, c.dequeue(key).value] == [3, None]


def test_every_operation(c: NatsClient) -> None:
    everything(c, "k")


@pytest.mark.parametrize("reads", ["checked", "leader", "direct"])
def test_a_log_with_a_hole_is_read_around_it(nats: Server, reads: str) -> None:
    c = nats.client(reads=reads)
    key = f"hole-{reads}"
    for message in (1, 2, 3):
        c.log_publish(key, message)
    c._api(f"STREAM.MSG.DELETE.splitbrain_log_{key}", {"seq": 2}, time.monotonic() + 1)
    began = time.monotonic()
    assert c.log_read(key).value["messages"] == [[1, 1], [3, 3]]
    assert time.monotonic() - began < 0.9  # it is told so, not waited for
    c.close()


@pytest.mark.parametrize("reads", ["leader", "direct"])
def test_the_other_reads_show_the_same_where_nothing_fails(nats: Server, reads: str) -> None:
    c = nats.client(reads=reads)
    everything(c, reads)
    c.close()


def test_a_long_log_is_read_in_pages(c: NatsClient) -> None:
    for n in range(300):
        c.log_publish("long", n)
    assert [m[1] for m in c.log_read("long").value["messages"]] == list(range(300))


def test_a_log_whose_stream_is_gone_is_empty_for_a_final_read_alone(nats: Server, c: NatsClient) -> None:
    c.log_publish("gone", 1)
    c._api("STREAM.DELETE.splitbrain_log_gone", {}, c._deadline())
    assert c.log_read("gone").value == {"from": 1, "messages": [], "next": 1}
    with pytest.raises(Definite, match="no responders"):
        c.log_read("gone", 1)
    with pytest.raises(Definite, match="no responders"):
        c.log_publish("gone", 2)


def test_what_a_deposed_leader_would_refuse_is_resolved(c: NatsClient) -> None:
    """The fence on a real server: an id that was used is known again, one that was not is used up."""
    c.write("f", 1)
    _, stem = c._bucket("f", c._deadline())
    mark = f"{stem}mark.test"
    first = c._publish(f"{stem}r.f", b"2", c._deadline(), {"Nats_Msg_Id": "x"})
    fence = c._publish(mark, b"", c._deadline(), {"Nats_Msg_Id": "x"})
    assert (fence.duplicate, fence.seq) == (True, first.seq)
    c._publish(mark, b"", c._deadline(), {"Nats_Msg_Id": "y"})
    assert c._publish(f"{stem}r.f", b"3", c._deadline(), {"Nats_Msg_Id": "y"}).duplicate
    assert c.read("f").value == 2


def test_status_barrier_and_tidy(nats: Server) -> None:
    revision = nats.system.barrier(nats.node, 1.0)
    assert revision is not None
    status = nats.system.status(nats.node, 1.0)
    assert (status.revision or 0) >= revision
    nats.system.tidy(nats.node, 2.0)
    assert nats.system.status(nats.node, 1.0).role == "unknown"
    nats.system.client.made.clear()  # type: ignore[attr-defined]  # the streams are made anew
    nats.system.ready(nats.node, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("version", [None, "2.12.1", "2.11.10", "2.10.29", "2.9.25"])
def test_three_nodes_of_each_release(tmp_path_factory: pytest.TempPathFactory, version: str | None) -> None:
    with running(tmp_path_factory.mktemp("nats3"), 3, version) as servers:
        statuses = [s.system.status(s.node, 1.0) for s in servers]
        assert len({s.leader for s in statuses}) == 1
        for number, server in enumerate(servers):
            c = server.client()
            everything(c, f"n{number}")
            c.close()
