"""One session of one client with one ZooKeeper server: a connection, and requests on it, one at a time.

The forms of requests and answers are kazoo's; its connection is not used, because it does in threads of its
own what must not happen here: it reconnects, it carries a session over to a new connection, and it keeps the
session alive unasked, when a lease that is not kept alive is meant to run out. Here nothing is sent that was
not asked for, and nothing twice. A connection that failed is gone, and its session with it, as far as
this client is concerned; the server lets it run out by itself.

What it decides is what its callers hang definiteness on: `NotSent` (no byte of the request was handed to
the kernel), `Lost` (some byte was, and no whole answer came back), `Refused` (the server's answer is an error).
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final

from kazoo.exceptions import ZookeeperError  # type: ignore[import-untyped]
from kazoo.protocol.serialization import (  # type: ignore[import-untyped]
    Close,
    Connect,
    Ping,
    ReplyHeader,
    Transaction,
)

from clusters import wire
from clusters.wire import Lost, NotSent

_int: Final = struct.Struct("!i")
_most: Final = 64 * 1024 * 1024  # bytes of an answer
_PING: Final = -2
_EVENT: Final = -1
_ROLLED_BACK: Final = frozenset({0, -2})  # what the parts of a transaction are told for another part's error
_garbled: Final = (struct.error, UnicodeDecodeError, KeyError, ValueError, IndexError)


class Refused(Exception):
    """The server's answer is an error, by its code; of a transaction that of the part number `part`."""

    def __init__(self, code: int, part: int = 0) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.part = part


class Session:
    """To one address and port, for one thread. `timeout_s` is asked for, and then what the server made of it.

    One that is `lazy` is opened by the first request, and again by the next one after it has ended.
    """

    def __init__(self, address: str, port: int, timeout_s: float, *, lazy: bool = True) -> None:
        self._lazy = lazy
        self._to = (address, port)
        self.timeout_s = timeout_s
        self.id = 0  # 0: none
        self._sock: socket.socket | None = None
        self._poll = select.poll()
        self._xid = 0

    def close(self) -> None:
        """Let go of the connection. The session goes on, until the server has not heard of it for its time."""
        sock, self._sock = self._sock, None
        self.id = 0
        if sock is not None:
            self._poll = select.poll()  # forgets the descriptor, whose number may come back
            sock.close()

    def alive(self) -> bool:
        """Whether there is a session here whose connection has not ended, as far as is known.

        That a connection is readable before anything was asked means that the server closed it (or talks out of
        turn); asking on it would make an unknown outcome of what need not be one.
        """
        if self._sock is not None and self._poll.poll(0):
            self.close()
        return self._sock is not None

    def open(self, deadline: float) -> None:
        """Connect, and be given a session, which is a change that the cluster agrees on.

        Raises: NotSent where it was not asked for one, Lost where the answer did not come.
        """
        self.close()
        sock = wire.connect(*self._to, deadline)
        self._sock = sock
        self._poll.register(sock, select.POLLIN)
        self._xid = 0
        ms = max(1, round(self.timeout_s * 1000))
        try:
            _send(sock, bytes(Connect(0, 0, ms, 0, bytes(16), False).serialize()), deadline)  # noqa: FBT003 - its form
            answer = _frame(sock, deadline)
            try:
                said, _ = Connect.deserialize(answer, 0)
            except _garbled:
                raise Lost("garbage: session") from None
            if said.time_out <= 0 or said.session_id == 0:
                raise Lost("no session")
        except BaseException:
            self.close()
            raise
        self.timeout_s = said.time_out / 1000
        self.id = said.session_id

    def ask(self, request: Any, deadline: float) -> tuple[Any, int]:
        """The answer to one of kazoo's requests, and the last change that the server had applied by then.

        Of a transaction the answer is a list of its parts'.

        Raises: NotSent, Lost (the connection is closed then), Refused.
        """
        if not self.alive():
            if not self._lazy:
                raise NotSent("session ended")
            try:
                self.open(deadline)
            except Lost as e:
                raise NotSent(f"session: {e.text}") from None
        return self.answer(request, self.send(request, deadline), deadline)

    def send(self, request: Any, deadline: float) -> int:
        """Send without waiting for the answer; its number, for `answer`, in the order sent.

        Raises: NotSent, Lost.
        """
        assert self._sock is not None
        self._xid += 1
        try:
            body = _int.pack(self._xid) + _int.pack(request.type) + bytes(request.serialize())
            _send(self._sock, body, deadline)
        except BaseException:
            self.close()
            raise
        return self._xid

    def answer(self, request: Any, xid: int, deadline: float) -> tuple[Any, int]:
        """Raises: Lost, Refused."""
        try:
            header, body, at = self._reply(xid, deadline)
            if header.err:
                raise Refused(header.err)
            try:
                said = request.deserialize(body, at) if hasattr(request, "deserialize") else None
            except _garbled:
                raise Lost("garbage: answer") from None
            if isinstance(request, Transaction):
                _whole(said or (), len(request.operations))
        except Refused:
            raise
        except BaseException:
            self.close()
            raise
        if isinstance(request, Close):
            self.close()
        return said, header.zxid

    def ping(self, deadline: float) -> None:
        """Have the server start the session's time anew.

        Raises: NotSent, Lost.
        """
        if not self.alive() or self._sock is None:
            raise NotSent("session ended")
        try:
            _send(self._sock, _int.pack(_PING) + _int.pack(Ping.type), deadline)
            self._reply(_PING, deadline)
        except BaseException:
            self.close()
            raise

    def _reply(self, xid: int, deadline: float) -> tuple[Any, bytes, int]:
        """Header and body of the answer with this number; events of watches, which nobody set, are passed over."""
        assert self._sock is not None
        while True:
            body = _frame(self._sock, deadline)
            try:
                header, at = ReplyHeader.deserialize(body, 0)
            except _garbled:
                raise Lost("garbage: header") from None
            if header.xid == xid:
                return header, body, at
            if header.xid != _EVENT:
                raise Lost("garbage: another request's answer")


def _whole(parts: Sequence[Any], wanted: int) -> None:
    """Raises: Refused where a transaction was undone, Lost where its answer is none."""
    errors = [(at, part.code) for at, part in enumerate(parts) if isinstance(part, ZookeeperError)]
    if errors:
        at, code = next(((at, c) for at, c in errors if c not in _ROLLED_BACK), (0, -2))
        raise Refused(code, at)
    if len(parts) != wanted:
        raise Lost("garbage: parts")


def _send(sock: socket.socket, body: bytes, deadline: float) -> None:
    left = deadline - monotonic()
    if left <= 0:
        raise NotSent("timeout before sending")
    sock.settimeout(left)
    wire.send(sock, _int.pack(len(body)) + body)


def _frame(sock: socket.socket, deadline: float) -> bytes:
    """One message without its length."""
    (length,) = _int.unpack(_exactly(sock, _int.size, deadline))
    if not 0 <= length <= _most:
        raise Lost("garbage: length")
    return _exactly(sock, length, deadline)


def _exactly(sock: socket.socket, size: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += wire.receive(sock, size - len(data), deadline)
    return bytes(data)
