"""Answers that are streams, and what leases and transactions make of errors, against small fake servers."""

from __future__ import annotations

import json
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.http1 import Connection
from clusters.systems._etcd_client import EtcdClient
from clusters.systems._etcd_wire import WATCHED, below, encode, value_text
from clusters.wire import Lost
from harness.core.errors import Definite, Indeterminate, Mismatch
from tests.clusters.test_etcd_http import Handler, answer, client, request, server, unused_port

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def message(revision: int, *events: dict[str, Any], **more: Any) -> bytes:
    """A line of a watch."""
    result = {"header": {"revision": str(revision)}, **more}
    if events:
        result["events"] = list(events)
    return json.dumps({"result": result}).encode() + b"\n"


def put(revision: int, sub: str, value: int) -> dict[str, Any]:
    name = b64encode(below("splitbrain/", WATCHED, "w") + encode(sub)).decode()
    return {"kv": {"key": name, "value": value_text(value).decode(), "mod_revision": str(revision)}}


def speaks(*parts: bytes, then: Callable[[], object] = lambda: None) -> Handler:
    """A server that answers each request with `parts`."""

    def handler(connection: socket.socket, _n: int) -> None:
        while True:
            request(connection)
            for part in parts:
                connection.sendall(part)
            then()

    return handler


@contextmanager
def asking(*parts: bytes, timeout_s: float = 2.0) -> Iterator[EtcdClient]:
    """A client of such a server."""
    with server(speaks(*parts)) as port:
        c = client(port, timeout_s)
        yield c
        c.close()


# Lines of a stream


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=200).map(lambda b: b.replace(b"\n", b"")), max_size=5), st.integers(1, 50))
def test_lines_come_whole_however_they_are_cut(lines: list[bytes], size: int) -> None:
    text = b"".join(line + b"\n" for line in lines)
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    with server(speaks(HEAD + b"".join(map(chunk, pieces)) + b"0\r\n\r\n")) as port:
        c = Connection("127.0.0.1", port)
        stream = c.stream("/", b"", 5)
        deadline = time.monotonic() + 5
        assert [stream.line(deadline) for _ in lines] == lines
        assert stream.line(deadline) is None
        c.close()


def test_a_stream_that_pauses_times_out_and_one_that_ends_early_is_lost() -> None:
    over = threading.Event()
    with server(speaks(HEAD + chunk(b"one\ntw"), then=lambda: over.wait(5))) as port:
        c = Connection("127.0.0.1", port)
        stream = c.stream("/", b"", 2)
        assert stream.line(time.monotonic() + 2) == b"one"
        with pytest.raises(Lost, match="timeout"):
            stream.line(time.monotonic() + 0.1)
        over.set()
        c.close()

    def cut(connection: socket.socket, _n: int) -> None:
        request(connection)
        connection.sendall(HEAD + chunk(b"one\ntw") + b"10\r\nabc")

    with server(cut) as port:
        c = Connection("127.0.0.1", port)
        stream = c.stream("/", b"", 2)
        assert stream.line(time.monotonic() + 2) == b"one"
        with pytest.raises(Lost, match="closed mid-answer"):
            stream.line(time.monotonic() + 2)
        c.close()


# Watches


def test_a_watch_ends_with_the_notification_that_covers_its_beginning() -> None:
    created = message(9, created=True)
    parts = [created, message(9, put(4, "a", 1), put(4, "b", 2)), message(8), message(9), message(12)]
    with asking(HEAD, *map(chunk, parts), timeout_s=0.5) as c:
        seen = c.watch_events("w", 3).value
    assert seen == {"from": 3, "events": [[4, "a", 1], [4, "b", 2]], "next": 13, "bookmark": 12}


def test_a_message_with_events_proves_no_more_than_its_last_event() -> None:
    # A backlog comes in pieces, and each has the revision of the store in its head.
    parts = [message(9, created=True), message(9, put(4, "a", 1)), message(9, put(6, "a", 2))]
    with asking(HEAD, *map(chunk, parts), timeout_s=0.5) as c:
        seen = c.watch_events("w", 3).value
    assert (seen["bookmark"], seen["next"], len(seen["events"])) == (6, 7, 2)


def test_a_message_cut_by_the_end_of_the_call_is_not_looked_at() -> None:
    whole = message(9, put(5, "a", 1), put(5, "b", 2))
    with asking(
        HEAD, chunk(message(9, created=True)), chunk(message(8)), chunk(whole[:-30]), timeout_s=0.5
    ) as c:
        seen = c.watch_events("w", 3).value
    assert seen == {"from": 3, "events": [], "next": 9, "bookmark": 8}


def test_a_watch_that_is_silent_about_the_past_has_not_answered() -> None:
    with (
        asking(HEAD, chunk(message(9, created=True)), timeout_s=0.3) as c,
        pytest.raises(Definite, match="timeout"),
    ):
        c.watch_events("w", 3)
    with asking(HEAD, chunk(message(9, created=True)), timeout_s=0.3) as c:  # nothing to tell yet
        assert c.watch_events("w", 10).value["bookmark"] is None


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([message(9, created=True), message(0, canceled=True, compact_revision="7")], "watch compacted"),
        ([message(9, created=True, canceled=True, cancel_reason="no right")], "watch cancelled: no right"),
        ([message(9, created=True), message(9, canceled=True)], "watch cancelled"),
        ([message(9)], "garbage: watch not created"),
        ([b"[1]\n"], "garbage: body"),
        (
            [message(9, created=True), b'{"result":{"header":{},"events":[{"kv":{"key":"!"}}]}}\n'],
            "garbage: body",
        ),
        ([b'{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}}\n'], "no leader"),
        ([message(9, created=True), b'{"error":{"code":1,"message":"odd"}}\n'], "code 1: odd"),
    ],
)
def test_a_watch_that_errs_fails_and_its_connection_is_not_used_again(lines: list[bytes], says: str) -> None:
    numbers: list[int] = []

    def handler(connection: socket.socket, number: int) -> None:
        numbers.append(number)
        speaks(HEAD, *map(chunk, lines))(connection, number)

    with server(handler) as port:
        c = client(port, 0.5)
        for _ in range(2):
            with pytest.raises(Definite) as caught:
                c.watch_events("w", 3)
            assert caught.value.text == says
        assert numbers == [0, 1]


def test_a_watch_that_is_refused_ends_or_is_never_answered() -> None:
    refusal = b'{"error":{"code":14,"message":"etcdserver: no leader"}}'
    with (
        asking(answer(refusal, "503 Service Unavailable")) as c,
        pytest.raises(Definite, match="no leader"),
    ):
        c.watch_events("w")
    with (
        asking(HEAD + chunk(message(9, created=True)) + b"0\r\n\r\n") as c,
        pytest.raises(Definite, match="watch ended"),
    ):
        c.watch_events("w")
    over = threading.Event()
    with server(speaks(then=lambda: over.wait(5))) as port:
        with pytest.raises(Definite, match="timeout"):
            client(port, 0.2).watch_events("w")
        over.set()
    with pytest.raises(Definite, match="refused"):
        client(unused_port()).watch_events("w")


# Leases


LEASE = b'{"result":{"header":{"revision":"7"},"ID":"5"%b}}\n'


def test_a_keepalive_of_a_lease_that_is_gone_says_so_by_a_ttl_of_nothing() -> None:
    with asking(HEAD + chunk(LEASE % b',"TTL":"3"') + b"0\r\n\r\n") as c:
        assert c.lease_keepalive("g", "5").ext == {"lease": "5", "ttl_s": 3}
        # Its connection goes on: a stream that ended is an answer like any other.
        assert c.lease_keepalive("g", "5").ext == {"lease": "5", "ttl_s": 3}
    with (
        asking(HEAD + chunk(LEASE % b"") + b"0\r\n\r\n") as c,
        pytest.raises(Definite, match="lease not found"),
    ):
        c.lease_keepalive("g", "5")


@pytest.mark.parametrize(
    ("said", "keepalive", "grant"),
    [
        # From before the log, which a keep-alive never sees.
        ("etcdserver: no leader", Indeterminate, Definite),
        ("etcdserver: too many requests", Indeterminate, Definite),
        ("etcdserver: requested lease not found", Definite, Definite),
        ("etcdserver: request timed out", Indeterminate, Indeterminate),
        ("not a primary lessor", Indeterminate, Indeterminate),
    ],
)
def test_a_keepalive_has_few_definite_errors(
    said: str, keepalive: type[Exception], grant: type[Exception]
) -> None:
    streamed = json.dumps({"error": {"code": 14, "message": said}}).encode()
    plain = json.dumps({"code": 14, "message": said}).encode()
    with server(speaks(answer(streamed, "503 Service Unavailable"))) as port, pytest.raises(keepalive) as one:
        client(port).lease_keepalive("g", "5")
    with server(speaks(answer(plain, "503 Service Unavailable"))) as port, pytest.raises(grant) as other:
        client(port).lease_grant("g", 5)
    assert (type(one.value), type(other.value)) == (keepalive, grant)


def test_a_keepalive_that_was_never_sent_is_definite() -> None:
    with pytest.raises(Definite, match="refused"):
        client(unused_port()).lease_keepalive("g", "5")


@pytest.mark.parametrize("said", [b"{}", b"[]", b'{"result":{"header":{"revision":"1"}}}', b"\xff"])
def test_garbage_leaves_open_what_became_of_a_lease(said: bytes) -> None:
    with asking(answer(said)) as c:
        for call in (lambda: c.lease_grant("g", 5), lambda: c.lease_keepalive("g", "5")):
            with pytest.raises(Indeterminate, match="garbage"):
                call()


# Transactions


def test_a_transaction_that_answers_with_too_little_is_garbage_and_no_mismatch() -> None:
    head = b'{"header":{"revision":"7"},"succeeded":true,"responses":[%b]}'
    micros = [["w", "a", 1], ["r", "b", None]]
    for responses in (b"", b'{"response_put":{}}', b'{"response_put":{}},{"response_put":{}}'):
        with asking(answer(head % responses)) as c:
            with pytest.raises(Indeterminate, match="garbage"):
                c.kv_txn("m", micros)
            with pytest.raises((Definite, Indeterminate)) as caught:
                c.kv_txn("m", [["r", "a", None], ["r", "b", None], ["r", "c", None]])
            assert type(caught.value) is Definite  # reads alone have no effect
    good = b'{"response_put":{}},{"response_range":{"kvs":[{"value":"Mg=="}]}}'
    with asking(answer(head % good)) as c:
        assert c.kv_txn("m", micros).value == [["w", "a", 1], ["r", "b", 2]]


def test_held_and_stale_are_answers_of_a_transaction_that_did_nothing() -> None:
    with asking(answer(b'{"header":{"revision":"7"}}')) as c:
        for call in (c.lock_acquire, c.election_campaign):
            with pytest.raises(Mismatch) as held:
                call("l", "5")
            assert held.value.text == "held"
        with pytest.raises(Definite) as stale:
            c.lock_write_fenced("l", [1, 6])
        assert (type(stale.value), stale.value.text) == (Definite, "stale token")


def test_a_change_whose_answer_is_lost_may_have_been_made() -> None:
    def handler(connection: socket.socket, _n: int) -> None:
        request(connection)

    with server(handler) as port:
        c = client(port)
        calls: list[Callable[[], object]] = [
            lambda: c.lock_acquire("l", "5"),
            lambda: c.lock_write("l", [1, 2]),
            lambda: c.lock_write_fenced("l", [1, 2]),
            lambda: c.lease_grant("l", 5),
            lambda: c.lease_revoke("l", "5"),
            lambda: c.lease_keepalive("l", "5"),
            lambda: c.set_add("s", 1),
            lambda: c.counter_add("s", 1),
            lambda: c.watch_put("w", [["a", 1]]),
            c.generate,
        ]
        for call in calls:
            with pytest.raises(Indeterminate, match="closed"):
                call()
        for read in (c.lock_read, c.election_leader, c.lease_read, c.set_read, c.counter_read, c.kv_read):
            with pytest.raises(Definite, match="closed"):
                read("l")


def test_noop_asks_nobody() -> None:
    assert client(unused_port()).noop() is None
