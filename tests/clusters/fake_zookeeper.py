"""A ZooKeeper of one server in this process: enough of its protocol for the client, and it drops on command.

It keeps a tree of znodes and counts the requests that it read; sessions being opened and pings are counted apart. With
`drop_at=n` it closes the connection after reading the n-th request, without doing it.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

PING = 11
NAMES = {
    1: "create",
    2: "delete",
    3: "exists",
    4: "getData",
    5: "setData",
    9: "sync",
    11: "ping",
    12: "getChildren2",
    14: "multi",
    -11: "close",
}


class Wrong(Exception):
    """An error of the data model, by its code."""

    def __init__(self, code: int) -> None:
        self.code = code


class Znode:
    def __init__(self, data: bytes, zxid: int, owner: int) -> None:
        self.data, self.version, self.owner = data, 0, owner
        self.czxid = self.mzxid = self.pzxid = zxid


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, form: str) -> Any:
        (value,) = struct.unpack_from("!" + form, self.data, self.at)
        self.at += struct.calcsize("!" + form)
        return value

    def buffer(self) -> bytes:
        size = self.take("i")
        if size < 0:
            return b""
        self.at += size
        return self.data[self.at - size : self.at]


class FakeZooKeeper:
    def __init__(self) -> None:
        self.tree = {"/": Znode(b"", 0, 0)}
        for path in ("/splitbrain", *(f"/splitbrain/{k}" for k in KINDS)):
            self.tree[path] = Znode(b"null", 0, 0)
        self.zxid, self.sessions, self.sequence = 0, 0, 0
        self.requests: list[str] = []
        self.pings = 0
        self.drop_at: int | None = None
        self.answer: bytes | None = None  # instead of any other
        self.lock = threading.Lock()

    def serve(self, connection: socket.socket) -> None:
        asked = Reader(frame(connection))
        asked.at = 12
        timeout_ms = asked.take("i")
        with self.lock:
            self.sessions += 1
            session = 0x100000 + self.sessions
        send(connection, struct.pack("!iiqi", 0, timeout_ms, session, 16) + bytes(16) + b"\0")
        while True:
            asked = Reader(frame(connection))
            xid, kind = asked.take("i"), asked.take("i")
            with self.lock:
                if kind == PING:
                    self.pings += 1
                self.requests.append(NAMES[kind])
                if self.drop_at == len(self.requests):
                    return
                if self.answer is not None:
                    send(connection, self.answer)
                    continue
                try:
                    body, code = self.do(kind, asked, session), 0
                except Wrong as e:
                    body, code = b"", e.code
                send(connection, struct.pack("!iqi", xid, self.zxid, code) + body)
                if kind == -11:
                    return

    def do(self, kind: int, asked: Reader, session: int) -> bytes:
        if kind == PING:
            return b""
        if kind == -11:
            for path in [p for p, z in self.tree.items() if z.owner == session]:
                del self.tree[path]
            return b""
        if kind == 14:
            return self.multi(asked, session)
        if kind == 9:
            return text(asked.buffer())
        if kind in (1, 2, 5):
            self.zxid += 1
            return self.change(kind, asked, session, self.tree)
        path = asked.buffer().decode()
        if path not in self.tree:
            raise Wrong(-101)
        znode = self.tree[path]
        if kind == 3:
            return self.stat(path)
        if kind == 4:
            return text(znode.data) + self.stat(path)
        below = [p for p in self.tree if p.rpartition("/")[0] == path and p != "/"]
        names = b"".join(text(p.rpartition("/")[2].encode()) for p in below)
        return struct.pack("!i", len(below)) + names + self.stat(path)

    def multi(self, asked: Reader, session: int) -> bytes:
        self.zxid += 1
        tree = {path: copy(z) for path, z in self.tree.items()}
        out, failed, count = b"", None, 0
        while True:
            kind, done = asked.take("i"), asked.take("?")
            asked.take("i")
            if done:
                break
            count += 1
            if failed is not None:
                self.skip(kind, asked)
                continue
            try:
                if kind == 13:
                    path, version = asked.buffer().decode(), asked.take("i")
                    if path not in tree:
                        raise Wrong(-101)
                    if version not in (-1, tree[path].version):
                        raise Wrong(-103)
                    body = b""
                else:
                    body = self.change(kind, asked, session, tree)
                out += struct.pack("!i?i", kind, False, -1) + body
            except Wrong as e:
                failed = (count - 1, e.code)
        if failed is not None:
            at, code = failed
            out = b""
            for n in range(count):
                of = code if n == at else 0 if n < at else -2
                out += struct.pack("!i?ii", -1, False, of, of)
        else:
            self.tree = tree
        return out + struct.pack("!i?i", -1, True, -1)

    @staticmethod
    def skip(kind: int, asked: Reader) -> None:
        asked.buffer()
        if kind == 1:
            asked.buffer()
            for _ in range(asked.take("i")):
                asked.take("i")
                asked.buffer()
                asked.buffer()
        if kind == 5:
            asked.buffer()
        asked.take("i")

    def change(self, kind: int, asked: Reader, session: int, tree: dict[str, Znode]) -> bytes:
        path = asked.buffer().decode()
        if kind == 1:
            data = asked.buffer()
            for _ in range(asked.take("i")):
                asked.take("i")
                asked.buffer()
                asked.buffer()
            flags = asked.take("i")
            if flags & 2:
                path += f"{self.sequence:010}"
                self.sequence += 1
            if path in tree:
                raise Wrong(-110)
            if (path.rpartition("/")[0] or "/") not in tree:
                raise Wrong(-101)
            tree[path] = Znode(data, self.zxid, session if flags & 1 else 0)
            tree[path.rpartition("/")[0] or "/"].pzxid = self.zxid
            return text(path.encode())
        data = asked.buffer() if kind == 5 else b""
        version = asked.take("i")
        if path not in tree:
            raise Wrong(-101)
        if version not in (-1, tree[path].version):
            raise Wrong(-103)
        if kind == 2:
            del tree[path]
            tree[path.rpartition("/")[0] or "/"].pzxid = self.zxid
            return b""
        znode = tree[path]
        znode.data, znode.version, znode.mzxid = data, znode.version + 1, self.zxid
        return self.stat(path, tree)

    def stat(self, path: str, tree: dict[str, Znode] | None = None) -> bytes:
        z = (tree or self.tree)[path]
        return struct.pack(
            "!qqqqiiiqiiq", z.czxid, z.mzxid, 0, 0, z.version, 0, 0, z.owner, len(z.data), 0, z.pzxid
        )


KINDS = ("r", "kv", "set", "counter", "id", "queue", "lease", "lock", "grants", "guarded", "election", "node")


def copy(z: Znode) -> Znode:
    new = Znode(z.data, z.czxid, z.owner)
    new.version, new.mzxid, new.pzxid = z.version, z.mzxid, z.pzxid
    return new


def text(data: bytes) -> bytes:
    return struct.pack("!i", len(data)) + data


def frame(connection: socket.socket) -> bytes:
    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            new = connection.recv(size - len(data))
            if not new:
                raise OSError("gone")
            data += new
        return data

    return exactly(struct.unpack("!i", exactly(4))[0])


def send(connection: socket.socket, body: bytes) -> None:
    connection.sendall(struct.pack("!i", len(body)) + body)


@contextmanager
def fake() -> Iterator[tuple[FakeZooKeeper, int]]:
    """The server and its port."""
    server = FakeZooKeeper()
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    open_ones: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            server.serve(connection)

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
        yield server, listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join(5)
        for connection in open_ones:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)
