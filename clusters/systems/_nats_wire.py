"""One connection of one worker in NATS' client protocol: publish, and read what comes to our inbox.

The protocol is text (docs.nats.io, "Client Protocol"): `PUB`, `HPUB`, `SUB`, `MSG`, `HMSG`, `PING`. Written
out for what libraries do unasked, as `clusters.http1` is: they reconnect, publish anew where nobody
responded, buffer, and stamp late on a loop of their own.

What callers hang definiteness on is the same as there: `NotSent` (no byte of the request left us) and
`Lost` (some byte did, and no whole answer came). Greeting and subscription come before the first request
and are no part of it. A connection that raised is closed; the next request opens a new one, under an
inbox of its own, so that a late answer reaches nobody. Nothing is sent twice.
"""

from __future__ import annotations

import os
import socket
from time import monotonic
from typing import Any, Final, NamedTuple

import msgspec

from clusters import wire
from clusters.wire import Lost, NotSent

_most: Final = 64 * 1024 * 1024  # bytes of a message; a server's own limit is 1 MB
_greeting: Final = (
    b'CONNECT {"verbose":false,"pedantic":false,"lang":"splitbrain","version":"1","protocol":1,'
    b'"headers":true,"no_responders":true,"echo":true}\r\n'
)


class Message(NamedTuple):
    """What came to us: `number` of the request that it answers (0: a stream's message, which keeps its own
    `subject`), its head's status (0: none) and fields, and `reply`, where an answer to it goes."""

    number: int
    status: int
    fields: dict[str, str]
    subject: str
    reply: str
    body: bytes


class _Info(msgspec.Struct):
    version: str = ""
    max_payload: int = 0


_info_decoder: Final = msgspec.json.Decoder(_Info)  # made once, at import


class Wire:
    """To one address and port, for one thread. Connects with the first request."""

    def __init__(self, address: str, port: int) -> None:
        self._to = (address, port)
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._sock: socket.socket | None = None
        self._data = b""
        self._inbox = ""
        self._number = 0
        self.version = (0, 0, 0)  # of the server, once connected

    def close(self) -> None:
        """Let go of the socket, if there is one."""
        sock, self._sock = self._sock, None
        self._data = b""
        if sock is not None:
            sock.close()

    def connect(self, timeout_s: float) -> None:
        """Be connected, so that `version` is known; nothing is asked.

        Raises: NotSent.
        """
        try:
            self._connected(monotonic() + timeout_s)
        except BaseException:
            self.close()
            raise

    def request(
        self, subject: str, body: bytes, timeout_s: float, head: bytes = b"", *, carried: bool = False
    ) -> Message:
        """Publish one message and wait for one answer; `timeout_s` bounds the whole call, connecting included.
        `carried`: a stream's message, under its own subject, is an answer too.

        Raises: NotSent, Lost. The connection is closed then.
        """
        deadline = monotonic() + timeout_s
        number = self.send([(subject, body)], deadline, head)
        while True:
            message = self.next(deadline)
            if message.number == number or (carried and message.number == 0):
                return message  # else a second answer to an earlier request

    def send(self, requests: list[tuple[str, bytes]], deadline: float, head: bytes = b"") -> int:
        """Publish messages at once, each with a reply subject of its own; the number of the first. The others
        follow it one by one.

        Raises: NotSent, Lost. The connection is closed then.
        """
        try:
            sock = self._connected(deadline)
            first = self._number + 1
            self._number += len(requests)
            parts = []
            for number, (subject, body) in enumerate(requests, first):
                to = f"{subject} {self._inbox}{number}"
                if head:
                    parts.append(b"HPUB %b %d %d\r\n" % (to.encode(), len(head), len(head) + len(body)))
                    parts.append(head)
                else:
                    parts.append(b"PUB %b %d\r\n" % (to.encode(), len(body)))
                parts += [body, b"\r\n"]
            wire.send(sock, b"".join(parts))
        except BaseException:
            self.close()
            raise
        return first

    def next(self, deadline: float) -> Message:
        """The next message that came to the inbox. Raises: Lost. The connection is closed then."""
        try:
            assert self._sock is not None, "something was sent"
            while True:
                if (message := self._parsed(self._sock)) is not None:
                    return message
                self._receive(self._sock, deadline)
        except BaseException:
            self.close()
            raise

    # Connecting.

    def _connected(self, deadline: float) -> socket.socket:
        """An idle connection: the kept one, or a new one where that has ended meanwhile."""
        if self._sock is not None and not self._idle(self._sock):
            self.close()
        left = deadline - monotonic()
        if left <= 0:
            raise NotSent("timeout before sending")
        if self._sock is not None:
            self._sock.settimeout(left)
            return self._sock
        sock = wire.connect(*self._to, deadline)
        try:
            self._greet(sock, deadline)
        except Lost as e:  # no request has been sent
            sock.close()
            raise NotSent("connect timeout" if e.text == "timeout" else f"connect: {e.text}") from None
        except NotSent:
            sock.close()
            raise
        self._sock = sock
        return sock

    def _greet(self, sock: socket.socket, deadline: float) -> None:
        """Introduce ourselves and subscribe to an inbox of our own; wait until that was taken."""
        self._data = b""
        while b"\r\n" not in self._data:
            self._receive(sock, deadline)
        line, _, self._data = self._data.partition(b"\r\n")
        if not line.startswith(b"INFO "):
            raise NotSent("garbage: no INFO")
        try:
            said = _info_decoder.decode(line[5:])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise NotSent("garbage: INFO") from None
        numbers = [int(part) for part in said.version.split("-")[0].split(".") if part.isdigit()]
        self.version = (*numbers, 0, 0, 0)[:3]  # type: ignore[assignment]
        self._inbox = f"_INBOX.{os.urandom(11).hex()}."
        wire.send(sock, b"%bSUB %b* 1\r\nPING\r\n" % (_greeting, self._inbox.encode()))
        while (at := self._data.find(b"PONG\r\n")) < 0:
            if self._data.startswith(b"-ERR"):
                raise NotSent(f"refused: {self._data[5:60].decode(errors='replace').strip()}")
            self._receive(sock, deadline)
        self._data = self._data[at + 6 :]

    def _idle(self, sock: socket.socket) -> bool:
        """Whether the kept connection can take a request: what came unasked is read and forgotten."""
        sock.settimeout(0)
        try:
            while True:
                new = sock.recv(65536)
                if not new:
                    return False
                self._data += new
        except BlockingIOError:
            pass
        except OSError:
            return False
        try:
            sock.settimeout(0.1)  # to answer a PING takes no time
            while self._parsed(sock) is not None:
                pass
        except (Lost, NotSent):
            return False
        return True

    # Reading.

    def _receive(self, sock: socket.socket, deadline: float) -> None:
        closed = "closed mid-answer" if self._data else "closed"
        new = wire.receive(sock, 262144, deadline, closed=closed)
        self._data = self._data + new if self._data else new

    def _parsed(self, sock: socket.socket) -> Message | None:
        """The next message in what was received; None if there is no whole one. PINGs are answered."""
        while (end := self._data.find(b"\r\n")) >= 0:
            line = self._data[:end]
            word = line[:4].upper()
            if word in (b"MSG ", b"HMSG"):
                words = line.split(b" ")
                headed = word == b"HMSG"
                sizes = words[-2:] if headed else words[-1:]
                if len(words) < 4 + headed or not all(size.isdigit() for size in sizes):
                    raise Lost("garbage: message")
                size = int(sizes[-1])
                if size > _most:
                    raise Lost("garbage: size")
                start = end + 2
                if len(self._data) < start + size + 2:
                    return None
                body, self._data = self._data[start : start + size], self._data[start + size + 2 :]
                reply = words[3].decode() if len(words) == 5 + headed else ""
                return self._message(words[1], reply, body, int(sizes[0]) if headed else 0)
            self._data = self._data[end + 2 :]
            if word == b"PING":
                wire.send(sock, b"PONG\r\n")
            elif word == b"-ERR":
                raise Lost(f"server: {line[5:80].decode(errors='replace').strip()}")
            elif word not in (b"PONG", b"INFO", b"+OK"):
                raise Lost("garbage: line")
        if len(self._data) > _most:
            raise Lost("garbage: no end of line")
        return None

    def _message(self, subject: bytes, reply: str, body: bytes, head: int) -> Message:
        number = subject.rpartition(b".")[2]
        if not number.isdigit() or not subject.startswith(self._inbox.encode()):
            number = b"0"
        status, fields = _head(body[:head]) if head else (0, {})
        return Message(int(number), status, fields, subject.decode(errors="replace"), reply, body[head:])


def head(**fields: Any) -> bytes:
    """A message's head: `Nats_Msg_Id="x"` is the field `Nats-Msg-Id`."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def _head(data: bytes) -> tuple[int, dict[str, str]]:
    """Status and fields of a head; names in lower case."""
    first, *lines = data.decode(errors="replace").split("\r\n")
    if not first.startswith("NATS/1.0"):
        raise Lost("garbage: head")
    code = first[8:].strip()[:3]
    fields = {}
    if first[12:].strip():
        fields["description"] = first[12:].strip()
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            fields[name.strip().lower()] = value.strip()
    return int(code) if code.isdigit() else 0, fields
