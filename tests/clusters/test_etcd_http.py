"""The connection against small real TCP servers that misbehave, and what the client makes of it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.http1 import Connection
from clusters.systems._etcd_client import EtcdClient
from clusters.wire import Lost, NotSent
from harness.core.cluster import Node
from harness.core.errors import Definite, Indeterminate, Mismatch

Handler = Callable[[socket.socket, int], None]  # of one connection, numbered from 0

GOOD = b'{"header":{"revision":"7","raft_term":"2"}}'


@contextmanager
def server(handler: Handler) -> Iterator[int]:
    """A listener whose connections `handler` deals with, one thread each; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    open_ones: list[socket.socket] = []

    def serve(connection: socket.socket, number: int) -> None:
        # An OSError: the client went away, which is what many of these tests are about.
        with connection, suppress(OSError):
            handler(connection, number)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            open_ones.append(connection)
            threads.append(threading.Thread(target=serve, args=(connection, len(threads))))
            threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(5)
        for connection in open_ones:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)


def request(connection: socket.socket) -> bytes:
    """Read one whole request; gives its body."""
    data = b""
    while b"\r\n\r\n" not in data:
        new = connection.recv(4096)
        if not new:
            raise OSError("gone")
        data += new
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(4096)
    return body


def answer(body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body


def client(port: int, timeout_s: float = 2.0) -> EtcdClient:
    return EtcdClient(port).open(Node("n1", "127.0.0.1"), None, {}, timeout_s)


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as s:
        return int(s.getsockname()[1])


def test_a_refused_connection_never_sent_anything() -> None:
    c = client(unused_port())
    for call in (lambda: c.write("k", 1), lambda: c.cas("k", 1, 2), lambda: c.read("k")):
        with pytest.raises(Definite, match="refused"):
            call()


def test_a_server_that_closes_without_a_word_leaves_the_outcome_open() -> None:
    def handler(connection: socket.socket, _n: int) -> None:
        request(connection)

    with server(handler) as port:
        with pytest.raises(Indeterminate, match=r"^closed$"):
            client(port).write("k", 1)
        with pytest.raises(Indeterminate, match=r"^closed$"):
            client(port).cas("k", 1, 2)
        with pytest.raises(Definite, match=r"^closed$"):
            client(port).read("k")


def test_a_reset_leaves_the_outcome_open() -> None:
    def handler(connection: socket.socket, _n: int) -> None:
        connection.recv(10)  # the rest stays unread, and closing then sends a reset

    with server(handler) as port, pytest.raises(Indeterminate, match=r"reset|closed"):
        client(port).write("k", "x" * 1000)


@pytest.mark.parametrize("cut", [1, 20, 60, 80])
def test_a_server_that_closes_in_the_middle_of_its_answer(cut: int) -> None:
    def handler(connection: socket.socket, _n: int) -> None:
        request(connection)
        connection.sendall(answer(GOOD)[:cut])

    with server(handler) as port, pytest.raises(Indeterminate, match="closed mid-answer"):
        client(port).write("k", 1)


def test_an_answer_byte_by_byte_is_still_an_answer() -> None:
    def handler(connection: socket.socket, _n: int) -> None:
        while True:
            request(connection)
            for byte in answer(GOOD):
                connection.sendall(bytes([byte]))

    with server(handler) as port:
        c = client(port)
        assert [c.write("k", 1).ext for _ in range(3)] == [{"revision": 7, "raft_term": 2}] * 3
        c.close()


def test_the_deadline_is_one_for_the_whole_call_and_not_for_each_byte() -> None:
    sent: list[int] = []

    def handler(connection: socket.socket, _n: int) -> None:
        request(connection)
        for byte in answer(GOOD):
            connection.sendall(bytes([byte]))
            sent.append(byte)
            time.sleep(0.05)

    with server(handler) as port:
        with pytest.raises(Indeterminate, match=r"^timeout$"):
            client(port, timeout_s=0.3).write("k", 1)
        assert 1 <= len(sent) < len(answer(GOOD))


def test_a_late_answer_never_reaches_the_next_request() -> None:
    late = threading.Event()

    def handler(connection: socket.socket, number: int) -> None:
        request(connection)
        if number == 0:
            late.wait(5)
            connection.sendall(answer(b'{"header":{"revision":"1"},"kvs":[{"value":"MQ=="}]}'))
        else:
            connection.sendall(answer(b'{"header":{"revision":"2"},"kvs":[{"value":"Mg=="}]}'))

    with server(handler) as port:
        c = client(port, timeout_s=0.3)
        with pytest.raises(Definite, match="timeout"):
            c.read("k")
        late.set()
        assert c.read("k").value == 2
        c.close()


def test_a_connection_that_ended_while_idle_is_replaced_before_anything_is_sent() -> None:
    closed = threading.Event()
    got: list[int] = []

    def handler(connection: socket.socket, number: int) -> None:
        while True:
            request(connection)
            got.append(number)
            connection.sendall(answer(GOOD))
            if number == 0:
                connection.shutdown(socket.SHUT_RDWR)
                closed.set()
                return

    with server(handler) as port:
        c = client(port)
        c.write("k", 1)
        assert closed.wait(5)
        time.sleep(0.05)  # the FIN has to arrive; if it did not, the write below would err, not lie
        c.write("k", 2)
        assert got == [0, 1]
        c.close()


def test_bytes_nobody_asked_for_end_the_connection() -> None:
    numbers: list[int] = []

    def handler(connection: socket.socket, number: int) -> None:
        while True:
            request(connection)
            numbers.append(number)
            connection.sendall(answer(GOOD) + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with server(handler) as port:
        c = client(port)
        c.write("k", 1)
        c.write("k", 2)
        assert numbers == [0, 1]
        c.close()


def test_connection_close_is_obeyed() -> None:
    numbers: list[int] = []

    def handler(connection: socket.socket, number: int) -> None:
        request(connection)
        numbers.append(number)
        connection.sendall(answer(GOOD, more="Connection: close\r\n"))

    with server(handler) as port:
        c = client(port)
        c.write("k", 1)
        c.write("k", 2)
        assert numbers == [0, 1]


def test_a_redirect_is_not_followed() -> None:
    asked: list[bytes] = []

    def handler(connection: socket.socket, _n: int) -> None:
        asked.append(request(connection))
        connection.sendall(answer(b"", "307 Temporary Redirect", "Location: /elsewhere\r\n"))

    with server(handler) as port:
        with pytest.raises(Indeterminate, match="http 307"):
            client(port).write("k", 1)
        assert len(asked) == 1


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        answer(b"{}"),
        answer(b"not json"),
        answer(b'{"header":{}}'),
        answer(b'{"header":{"revision":"x"}}'),
        answer(b"\xff\xfe"),
    ],
)
def test_garbage_leaves_the_outcome_open_and_is_no_evidence(said: bytes) -> None:
    def handler(connection: socket.socket, _n: int) -> None:
        request(connection)
        connection.sendall(said)

    with server(handler) as port:
        with pytest.raises(Indeterminate, match="garbage"):
            client(port).write("k", 1)
        with pytest.raises(Indeterminate, match="garbage"):  # above all no Mismatch
            client(port).cas("k", 1, 2)
        with pytest.raises(Definite, match="garbage"):
            client(port).read("k")


def test_a_stored_value_that_is_no_json_fails_the_read() -> None:
    def handler(connection: socket.socket, _n: int) -> None:
        request(connection)
        connection.sendall(answer(b'{"header":{"revision":"1"},"kvs":[{"value":"/w=="}]}'))

    with server(handler) as port, pytest.raises(Definite, match="garbage"):
        client(port).read("k")


def test_a_false_comparison_is_a_mismatch() -> None:
    def handler(connection: socket.socket, _n: int) -> None:
        request(connection)
        connection.sendall(answer(GOOD))  # protobuf leaves `succeeded: false` out

    with server(handler) as port:
        c = client(port)
        with pytest.raises(Mismatch):
            c.cas("k", 1, 2)
        c.close()


def test_an_error_answer_ends_the_connection_and_keeps_its_definiteness() -> None:
    numbers: list[int] = []
    answers = [
        (b'{"code":8,"message":"etcdserver: too many requests"}', Definite),
        (
            b'{"error":"etcdserver: leader changed","code":14,"message":"etcdserver: leader changed"}',
            Indeterminate,
        ),
    ]

    def handler(connection: socket.socket, number: int) -> None:
        while True:
            request(connection)
            numbers.append(number)
            connection.sendall(answer(answers[number][0], "503 Service Unavailable"))

    with server(handler) as port:
        c = client(port)
        for _, kind in answers:
            with pytest.raises(kind) as caught:
                c.write("k", 1)
            assert type(caught.value) is kind
        assert numbers == [0, 1]


def test_a_backlog_that_is_full_is_a_connect_timeout_and_nothing_was_sent() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fill = [socket.socket() for _ in range(4)]
        for s in fill:
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", port))
        try:
            with pytest.raises(Definite, match="connect timeout"):
                client(port, timeout_s=0.3).write("k", 1)
        finally:
            for s in fill:
                s.close()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.integers(1, 40), st.integers(0, 2))
def test_chunked_bodies_are_put_together(parts: list[bytes], piece: int, trailers: int) -> None:
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    data += b"".join(b"%x;note=1\r\n%b\r\n" % (len(p), p) for p in parts) + b"0\r\n"
    data += b"Grpc-Trailer-Content-Type: application/grpc\r\n" * trailers + b"\r\n"

    def handler(connection: socket.socket, _n: int) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            request(connection)
            for at in range(0, len(data), piece * 10):
                connection.sendall(data[at : at + piece * 10])

    with server(handler) as port:
        c = Connection("127.0.0.1", port)
        for _ in range(2):  # the second shows that nothing of the first was left over
            assert c.post("/", b"", 5) == (200, b"".join(parts))
        c.close()


def test_lost_and_not_sent_are_os_errors() -> None:
    assert issubclass(Lost, OSError)
    assert issubclass(NotSent, OSError)
