"""One HTTP/1.1 connection for one worker: send a request, get status and body, within a deadline.

Written out because of what libraries do unasked: they retry, reconnect, follow redirects and pool,
and each of these turns an operation of known outcome into one of unknown outcome. And because of
cost: a client that is busy while it should stamp widens the intervals of a history and hides bugs.

What it decides is the one thing its callers hang definiteness on, whether a request left us: `NotSent` or
`Lost` (`clusters.wire`).

A connection that raised is closed, and the next request opens a new one, so that a late answer never
reaches another request. Nothing is sent twice. An answer that comes bit by bit and may never end is
read as a `Stream`, after which the connection is gone.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Mapping
from time import monotonic
from typing import Final

from clusters import wire
from clusters.wire import Lost, NotSent

_head_most: Final = 64 * 1024  # bytes; a longer head is no answer of a server that we know
_heads_most: Final = 1000  # kept, of different requests
_body_most: Final = 64 * 1024 * 1024
_hex: Final = frozenset(b"0123456789abcdef")


class Connection:
    """To one address and port, for one thread, with `headers` in every request. Connects on the first one."""

    def __init__(self, address: str, port: int, headers: Mapping[str, str] | None = None) -> None:
        self._to = (address, port)
        host = f"[{address}]" if wire.family(address) == socket.AF_INET6 else address
        fields = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        if "content-type" not in {name.lower() for name in headers or {}}:
            fields = f"Content-Type: application/json\r\n{fields}"
        self._rest = f" HTTP/1.1\r\nHost: {host}:{port}\r\n{fields}Content-Length: "
        self._heads: dict[str, bytes] = {}
        self._sock: socket.socket | None = None
        self._poll = select.poll()

    def close(self) -> None:
        """Let go of the socket, if there is one."""
        sock, self._sock = self._sock, None
        if sock is not None:
            self._poll = select.poll()  # forgets the descriptor, whose number may come back
            sock.close()

    def post(self, path: str, body: bytes, timeout_s: float) -> tuple[int, bytes]:
        """Status and body of the answer. `timeout_s` bounds the whole call, connecting included.

        Raises: NotSent, Lost. The connection is closed then.
        """
        return self.request("POST", path, body, timeout_s)

    def request(self, method: str, path: str, body: bytes, timeout_s: float) -> tuple[int, bytes]:
        """The same with another method (but HEAD, whose answers have lengths and no bodies)."""
        deadline = monotonic() + timeout_s
        try:
            return self._answer(self._asked(path, body, deadline, method), deadline)
        except BaseException:
            self.close()
            raise

    def stream(self, path: str, body: bytes, timeout_s: float) -> Stream:
        """The answer as it comes; `timeout_s` bounds the wait for its head.

        The caller closes the connection when it has read enough. Raises: NotSent, Lost.
        """
        deadline = monotonic() + timeout_s
        try:
            sock = self._asked(path, body, deadline)
            status, head, data = _head(sock, deadline)
            if _header(head, b"transfer-encoding") == b"chunked":
                return Stream(sock, status, data)
            return Stream(sock, status, _sized(sock, head, data, deadline)[0], chunked=False)
        except BaseException:
            self.close()
            raise

    def _asked(self, path: str, body: bytes, deadline: float, method: str = "POST") -> socket.socket:
        """The connection, with the whole request sent on it."""
        line = f"{method} {path}"
        head = self._heads.get(line)
        if head is None:
            if len(self._heads) >= _heads_most:  # where paths hold keys there may be any number
                self._heads.clear()
            head = self._heads[line] = f"{line}{self._rest}".encode()
        sock = self._connected(deadline)
        wire.send(sock, b"%b%d\r\n\r\n%b" % (head, len(body), body))
        return sock

    def _connected(self, deadline: float) -> socket.socket:
        """An idle connection: the kept one, or a new one where that has ended meanwhile.

        That a kept connection is readable before anything was asked means that the server closed it
        (or talks out of turn); asking on it would make an unknown outcome of what need not be one.
        """
        if self._sock is not None and self._poll.poll(0):
            self.close()
        left = deadline - monotonic()
        if left <= 0:
            raise NotSent("timeout before sending")
        if self._sock is not None:
            self._sock.settimeout(left)
            return self._sock
        sock = wire.connect(*self._to, deadline)
        self._sock = sock
        self._poll.register(sock, select.POLLIN)
        return sock

    def _answer(self, sock: socket.socket, deadline: float) -> tuple[int, bytes]:
        status, head, data = _head(sock, deadline)
        if _header(head, b"transfer-encoding") == b"chunked":
            body, rest = _chunks(sock, data, deadline)
        else:
            body, rest = _sized(sock, head, data, deadline)
        if rest or _header(head, b"connection") == b"close":
            self.close()
        return status, body


class Stream:
    """A body that is read line by line as it comes; `status` is that of its head."""

    def __init__(self, sock: socket.socket, status: int, data: bytes, *, chunked: bool = True) -> None:
        self.status = status
        self._sock = sock
        self._raw = data if chunked else b""  # received, and not yet taken out of its chunk
        self._text = b"" if chunked else data  # taken out, and not yet returned
        self._ended = not chunked

    def line(self, deadline: float) -> bytes | None:
        """The next line without its end; None once the body is over. A last line may lack its end.

        `deadline` is on `monotonic`. Raises: Lost; the rest cannot be read then.
        """
        while (end := self._text.find(b"\n")) < 0:
            if self._ended:
                rest, self._text = self._text, b""
                return rest or None
            if len(self._text) > _body_most:
                raise Lost("garbage: line")
            chunk, self._raw = _chunk(self._sock, self._raw, deadline)
            self._ended = not chunk
            self._text += chunk
        line, self._text = self._text[:end], self._text[end + 1 :]
        return line


def _head(sock: socket.socket, deadline: float) -> tuple[int, bytes, bytes]:
    """Status, the head in lower case, and what came after it."""
    data = _receive(sock, None)
    while (end := data.find(b"\r\n\r\n")) < 0:
        if len(data) > _head_most:
            raise Lost("garbage: no end of head")
        data += _receive(sock, deadline)
    head = data[:end].lower()
    if not head.startswith(b"http/1.") or not head[9:12].isdigit():
        raise Lost("garbage: no status line")
    status = int(head[9:12])
    if status < 200:
        raise Lost(f"garbage: status {status}")  # 1xx answers nothing; we ask for no upgrade
    return status, head, data[end + 4 :]


def _sized(sock: socket.socket, head: bytes, data: bytes, deadline: float) -> tuple[bytes, bytes]:
    """A body whose length the head states, and what came after it."""
    length = _header(head, b"content-length")
    if length is None and head[9:12] == b"204":  # which has no body, and need not say so
        length = b"0"
    if length is None:
        raise Lost("garbage: no length")
    if not length.isdigit() or int(length) > _body_most:
        raise Lost("garbage: length")
    size = int(length)
    data = data if len(data) >= size else _fill(sock, data, size, deadline)
    return data[:size], data[size:]


def _header(head: bytes, name: bytes) -> bytes | None:
    """The value of a header of the lower-cased `head`."""
    at = head.find(b"\r\n%b:" % name)
    if at < 0:
        return None
    start = at + len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else len(head)].strip()


def _receive(sock: socket.socket, deadline: float | None) -> bytes:
    """The next bytes, at least one. `deadline` None: the socket's timeout is still that of the call."""
    return wire.receive(sock, 65536, deadline, closed="closed" if deadline is None else "closed mid-answer")


def _fill(sock: socket.socket, data: bytes, size: int, deadline: float) -> bytes:
    """`data` with as much added as makes it at least `size` long."""
    parts, have = [data], len(data)
    while have < size:
        parts.append(_receive(sock, deadline))
        have += len(parts[-1])
    return b"".join(parts)


def _chunks(sock: socket.socket, data: bytes, deadline: float) -> tuple[bytes, bytes]:
    """A chunked body (RFC 9112, 7.1), and what came after it. Trailers are read and dropped: gateways
    of etcd up to 3.5 send some with their errors."""
    body: list[bytes] = []
    total = 0
    while True:
        chunk, data = _chunk(sock, data, deadline)
        if not chunk:
            break
        total += len(chunk)
        if total > _body_most:
            raise Lost("garbage: chunk")
        body.append(chunk)
    line, trailers = b"-", 0
    while line:
        line, data = _line(sock, data, deadline)
        trailers += len(line)
        if trailers > _head_most:
            raise Lost("garbage: trailer")
    return b"".join(body), data


def _chunk(sock: socket.socket, data: bytes, deadline: float) -> tuple[bytes, bytes]:
    """The next chunk, empty for the last one, and what came after it."""
    line, data = _line(sock, data, deadline)
    digits = line.partition(b";")[0].strip()
    size = int(digits, 16) if digits and set(digits.lower()) <= _hex else -1
    if size < 0 or size > _body_most:
        raise Lost("garbage: chunk")
    if size == 0:
        return b"", data
    data = _fill(sock, data, size + 2, deadline)
    if data[size : size + 2] != b"\r\n":
        raise Lost("garbage: chunk")
    return data[:size], data[size + 2 :]


def _line(sock: socket.socket, data: bytes, deadline: float) -> tuple[bytes, bytes]:
    """The next line without its end, and what came after it."""
    while (end := data.find(b"\r\n")) < 0:
        if len(data) > _head_most:
            raise Lost("garbage: line")
        data += _receive(sock, deadline)
    return data[:end], data[end + 2 :]
