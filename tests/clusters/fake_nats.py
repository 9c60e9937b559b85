"""A NATS server that answers what a test tells it to, and counts what it was asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from clusters.systems import _nats_names as names
from clusters.systems._nats_client import NatsClient
from harness.core.cluster import Node

INFO = b'INFO {"server_id":"X","version":"%b","headers":true,"max_payload":1048576}\r\n'


class Request(msgspec.Struct):
    """One message that a client published: where to, where an answer goes, head and body."""

    subject: str
    reply: str
    head: bytes
    body: bytes


def msg(request: Request, body: bytes, head: bytes = b"", reply: str = "", subject: str = "") -> bytes:
    """An answer on the wire."""
    to = f"{subject or request.reply} 1{f' {reply}' if reply else ''}".encode()
    if head:
        return b"HMSG %b %d %d\r\n%b%b\r\n" % (to, len(head), len(head) + len(body), head, body)
    return b"MSG %b %d\r\n%b\r\n" % (to, len(body), body)


def status(code: str, **fields: str) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"NATS/1.0 {code}\r\n{lines}\r\n".encode()


Answers = Callable[[Request, int], bytes | None]  # of the n-th request; None: hang up


class Fake:
    """What was asked of it, and the connections that were made."""

    def __init__(self, answers: Answers, version: str = "2.15.0") -> None:
        self.answers, self.version = answers, version
        self.requests: list[Request] = []
        self.connections = 0
        self.pongs = 0

    def serve(self, connection: socket.socket) -> None:
        """One client, until it or we hang up."""
        self.connections += 1
        connection.sendall(INFO % self.version.encode())
        data = b""
        while True:
            while b"\r\n" not in data:
                data += _more(connection)
            line, _, data = data.partition(b"\r\n")
            words = line.split(b" ")
            if words[0] == b"PING":
                connection.sendall(b"PONG\r\n")
            elif words[0] == b"PONG":
                self.pongs += 1
            elif words[0] in (b"PUB", b"HPUB"):
                headed = words[0] == b"HPUB"
                size, head = int(words[-1]), int(words[-2]) if headed else 0
                while len(data) < size + 2:
                    data += _more(connection)
                request = Request(words[1].decode(), words[2].decode(), data[:head], data[head:size])
                data = data[size + 2 :]
                self.requests.append(request)
                answer = self.answers(request, len(self.requests))
                if answer is None:
                    return
                connection.sendall(answer)


def _more(connection: socket.socket) -> bytes:
    new = connection.recv(65536)
    if not new:
        raise OSError("gone")
    return new


@contextmanager
def serving(fake: Fake) -> Iterator[int]:
    """The port where it listens."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    open_ones: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            fake.serve(connection)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            open_ones.append(connection)
            threads.append(threading.Thread(target=serve, args=(connection,)))
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


STREAMS = {
    f"KV_{names.PREFIX}_0",
    f"{names.PREFIX}_counter_0",
    f"{names.PREFIX}_log_k",
    f"{names.PREFIX}_queue_k",
    f"{names.PREFIX}_queue_k/",
}


def client(port: int, **options: object) -> NatsClient:
    """A client whose streams are there already."""
    prototype = NatsClient(port)
    prototype.made |= STREAMS
    timeout_s = float(options.pop("timeout_s", 1.0))  # type: ignore[arg-type]
    return prototype.open(Node("n1", "127.0.0.1"), None, options, timeout_s)
