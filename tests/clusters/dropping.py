"""A server that takes whole requests and answers none of them: it counts, and ends the connection."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

# What a connection has said so far -> how long its first whole request is (0: not whole yet), and what to answer
# (None: end the connection).
Reader = Callable[[bytes], tuple[int, bytes | None]]


@contextmanager
def dropping(reader: Reader) -> Iterator[tuple[int, list[bytes]]]:
    """Gives the port and the requests that were not answered; other sockets are the handler's own."""
    taken: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def serve(connection: socket.socket) -> None:
        data = b""
        with connection, suppress(OSError):
            connection.settimeout(5)
            while new := connection.recv(65536):
                data += new
                while (asked := reader(data))[0]:
                    size, answer = asked
                    if answer is None:
                        taken.append(data[:size])
                        return
                    connection.sendall(answer)
                    data = data[size:]

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve, args=(connection,)))
            threads[-1].start()

    acceptor = threading.Thread(target=accept)
    acceptor.start()
    try:
        yield listener.getsockname()[1], taken
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(5)
        for thread in threads:
            thread.join(6)


def operations(client: type) -> set[str]:
    """Every operation that a client has."""
    own = {"open", "close", "tidy", "noop"}
    return {f for f in dir(client) if not f.startswith("_") and callable(getattr(client, f))} - own


def http_reader(data: bytes) -> tuple[int, bytes | None]:
    """Whole HTTP requests with a body, all to be dropped."""
    head, mark, _ = data.partition(b"\r\n\r\n")
    if not mark:
        return 0, None
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    size = len(head) + 4 + length
    return (size, None) if len(data) >= size else (0, None)
