"""One process's way to one ZooKeeper server: what an operation asks, and what an answer's failure proves.

An operation may be several requests, of which one has the effect and is the last that could. No request is
ever sent twice, and none after one that failed, but for an answer that proves that nothing was done and
says what is missing (`no node`): then it is made, holding nothing, and the operation asked for.
A znode that holds `null` and one that does not exist are the same object to a reader, hence making one is no
change, whenever it comes. Nothing is ever deleted but what is taken out of queues: so versions of data only
grow, and a version that is still the same means that the data are.

A *change* that errs is definite only where the table of `_zookeeper_errors` says so; a *read* that errs has
no effect to be unsure of. After an error that is none of the data model the session is let go of, and the
next operation opens another.

Reads are answered by the server alone, from what it has applied. With `reads=fenced` a change goes before: a
transaction that checks the root, which the cluster agrees on like any other and which changes nothing. What the
same session reads after it is no older than it, and so includes all that was acknowledged before the
operation began; and what a server shows is committed. So these reads are linearizable. With
`sync`, a request goes to the leader and back, which is *not* agreed on; with `local`, nothing goes before.

`revision` is a zxid: a change's own, or after a fence the last one that the server had applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any, Final, Self
from urllib.parse import quote, unquote

import msgspec
from kazoo.protocol.serialization import (  # type: ignore[import-untyped]
    CheckVersion,
    Create,
    GetData,
    SetData,
    Sync,
    Transaction,
)
from kazoo.security import OPEN_ACL_UNSAFE  # type: ignore[import-untyped]

from clusters.systems._zookeeper_errors import NO_NODE, NODE_EXISTS, classify
from clusters.systems._zookeeper_session import Refused, Session
from clusters.wire import Lost, NotSent
from harness.core.cluster import Node, Place
from harness.core.errors import Definite, Indeterminate
from harness.core.op import Reply

encode: Final = msgspec.json.encode
decode: Final = msgspec.json.decode
PREFIX: Final = "splitbrain/"
_SESSION_S: Final = 4.0  # of a client without a lease: nothing hangs on it

# The kinds of objects: a znode each below the prefix.
REGISTER: Final = "r"
MAP: Final = "kv"
SET: Final = "set"
COUNTER: Final = "counter"
ID: Final = "id"
QUEUE: Final = "queue"
LEASE: Final = "lease"
LOCK: Final = "lock"
GRANTS: Final = "grants"
GUARDED: Final = "guarded"
ELECTION: Final = "election"
NODE: Final = "node"
KINDS: Final = (REGISTER, MAP, SET, COUNTER, ID, QUEUE, LEASE, LOCK, GRANTS, GUARDED, ELECTION, NODE)

NOTHING: Final = b"null"
EPHEMERAL: Final = 1
SEQUENCE: Final = 2


class Answered(Definite):
    """The server's answer is an error that proves that nothing was done; `code` of part `part` of a transaction."""

    def __init__(self, text: str, code: int, part: int) -> None:
        super().__init__(text)
        self.code = code
        self.part = part


class Call:
    """The requests of one operation, on one session, before one deadline."""

    def __init__(self, session: Session, deadline: float) -> None:
        self._session = session
        self._deadline = deadline

    def change(self, request: Any) -> tuple[Any, int]:
        """The answer to a request that changes something, and the zxid of the server by then.

        Raises: Answered, Definite, Indeterminate.
        """
        try:
            return self._session.ask(request, self._deadline)
        except NotSent as e:
            raise Definite(e.text) from None
        except Lost as e:
            raise Indeterminate(e.text) from None
        except Refused as e:
            text, definite = classify(e.code)
            if definite:
                raise Answered(text, e.code, e.part) from None
            self._session.close()
            raise Indeterminate(text) from None

    def look(self, request: Any) -> tuple[Any, int]:
        """The same for one that changes nothing, or nothing that a reader could tell.

        Raises: Answered, Definite.
        """
        try:
            return self.change(request)
        except Indeterminate as e:
            raise Definite(e.text) from None

    def find(self, path: str) -> tuple[bytes, Any, int] | None:
        """Data, stat and the server's zxid of a znode; None where there is none."""
        try:
            (data, stat), zxid = self.look(GetData(path, None))
        except Answered as e:
            if e.code != NO_NODE:
                raise
            return None
        return data or b"", stat, zxid

    def ensure(self, path: str) -> None:
        """Have a znode there, which holds nothing if it was not."""
        try:
            self.look(create(path, NOTHING))
        except Answered as e:
            if e.code != NODE_EXISTS:
                raise

    def put(self, path: str, data: bytes) -> Any:
        """Set the data of a znode, whatever it held; the stat that it has then."""
        return self.with_nodes((path,), SetData(path, data, -1))[0]

    def with_nodes(self, paths: tuple[str, ...], request: Any) -> tuple[Any, int]:
        """As `change`, where the request needs `paths` to exist: they are made where it says that one does not."""
        try:
            return self.change(request)
        except Answered as e:
            if e.code != NO_NODE:
                raise
        for path in paths:
            self.ensure(path)
        return self.change(request)


class Gateway:
    """Pinned to one node. Option `reads` is `fenced`, `sync` or `local`, for every read."""

    def __init__(self, port: int = 2181) -> None:
        self._port = port
        self._timeout_s = 1.0
        self._reads = "fenced"
        self._root = ""
        self._node: Node | None = None
        self._session: Session | None = None

    def open(
        self, node: Node, place: Place | None, options: Mapping[str, Any], timeout_s: float = 1.0
    ) -> Self:
        del place  # the worker's thread stands there already
        new = type(self)(self._port)
        new._settle(node, options, timeout_s)  # noqa: SLF001 - our own class
        return new

    def _settle(self, node: Node, options: Mapping[str, Any], timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._reads = options.get("reads", "fenced")
        self._root = root_of(options.get("prefix", PREFIX))
        self._node = node
        self._session = self._new_session(_SESSION_S)

    def close(self) -> None:
        """Let go of all connections; what sessions hold is held until they run out."""
        if self._session is not None:
            self._session.close()

    def _new_session(self, timeout_s: float, *, lazy: bool = True) -> Session:
        assert self._node is not None, "open() makes the clients that can ask"
        return Session(self._node.address, self._node.port or self._port, timeout_s, lazy=lazy)

    def _call(self, session: Session | None = None) -> Call:
        """An operation begins."""
        used = session or self._session
        assert used is not None, "open() makes the clients that can ask"
        return Call(used, monotonic() + self._timeout_s)

    def _path(self, kind: str, key: Any) -> str:
        return f"{self._root}/{kind}/{name_of(key)}"

    def _fence(self, call: Call) -> None:
        """What goes before a read.

        Raises: Definite.
        """
        if self._reads == "fenced":
            call.look(FENCE)
        elif self._reads == "sync":
            call.look(Sync(self._root or "/"))

    def _read(self, path: str) -> tuple[bytes, Any, int] | None:
        """As `Call.find`, after the fence."""
        call = self._call()
        self._fence(call)
        return call.find(path)

    def _seen(self, value: Any, zxid: int) -> Reply:
        """The reply of a read, with the state that it saw, where that is known and real time binds it."""
        return Reply(value, revision=zxid) if zxid and self._reads == "fenced" else Reply(value)


FENCE: Final = Transaction([CheckVersion("/", -1)])


def root_of(prefix: str) -> str:
    """The path of what is below a prefix; "" for the root itself.

    >>> root_of("splitbrain/"), root_of("a/b/"), root_of("")
    ('/splitbrain', '/a/b', '')
    """
    return "".join(f"/{part}" for part in prefix.split("/") if part)


def name_of(key: Any) -> str:
    """The name of an object's znode; objects of different JSON types differ.

    >>> name_of("k1"), name_of(1), name_of("a/b")
    ('%22k1%22', '1', '%22a%2Fb%22')
    """
    return quote(encode(key), safe="")


def key_of(name: str) -> Any:
    """The key that `name_of` made the name of."""
    return decode(unquote(name))


def create(path: str, data: bytes, flags: int = 0) -> Any:
    """A request to make a znode that anybody may do anything to."""
    return Create(path, data, OPEN_ACL_UNSAFE, flags)


def made(path: str, data: bytes, flags: int = 0) -> Any:
    """The same as a transaction whose second part tells the new znode's stat, which no version's `create` does."""
    return Transaction([create(path, data, flags), SetData(path, data, -1)])
