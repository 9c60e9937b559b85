"""One process's way to one node through etcd's JSON gateway: asking, and what an answer's failure proves.

One call is one request; nothing is sent twice. A *change* that errs is definite only where the table of
`_etcd_errors` says so. A *read* that errs has no effect to be unsure of and fails definitely. After any
error the connection is discarded.

`revision` goes beside a value only where it is that of a linearized operation: a change's own, or of the
state that a linearizable read saw. A serializable read's is the node's own, which may lie behind what
others have long been told, and the header of a lease's answer is no operation's on keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Never, Self, TypeVar

import msgspec

from clusters.http1 import Connection
from clusters.systems._etcd_errors import classify
from clusters.systems._etcd_wire import (
    PREFIX,
    Header,
    KeyValue,
    below,
    garbled,
    key_name,
    put_body,
    put_decoder,
    range_decoder,
)
from clusters.wire import Lost, NotSent
from harness.core.cluster import Node, Place
from harness.core.errors import Definite, Indeterminate
from harness.core.op import Reply

_T = TypeVar("_T")


class Gateway:
    """Pinned to one node. Option `reads` is `linearizable` or `serializable`, for every read."""

    def __init__(self, port: int = 2379) -> None:
        self._port = port
        self._timeout_s = 1.0
        self._serializable = False
        self._prefix = PREFIX
        self._connection: Connection | None = None

    def open(
        self, node: Node, place: Place | None, options: Mapping[str, Any], timeout_s: float = 1.0
    ) -> Self:
        del place  # the worker's thread stands there already
        new = type(self)(self._port)
        new._timeout_s = timeout_s  # noqa: SLF001 - our own class
        new._serializable = options.get("reads") == "serializable"  # noqa: SLF001
        new._prefix = options.get("prefix", PREFIX)  # noqa: SLF001
        new._connection = Connection(node.address, node.port or self._port)  # noqa: SLF001
        return new

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _key(self, kind: str, key: Any) -> bytes:
        return key_name(self._prefix, kind, key)

    def _below(self, kind: str, key: Any) -> bytes:
        return below(self._prefix, kind, key)

    def _read(self, body: bytes, value_of: Callable[[list[KeyValue]], Any]) -> Reply:
        """What `value_of` makes of the keys that a `range` found.

        Raises: Definite.
        """
        try:
            answer = range_decoder.decode(self._ask("/v3/kv/range", body))
            value = value_of(answer.kvs)
        except Indeterminate as e:
            raise Definite(e.text) from None  # a read has no effect; the connection is gone already
        except garbled:
            self.close()
            raise Definite("garbage: body") from None
        if self._serializable:
            return Reply(value, raft_term=answer.header.raft_term)
        return changed(value, answer.header)

    def _change(
        self, path: str, body: bytes, decoder: msgspec.json.Decoder[_T], *, logged: bool = True
    ) -> _T:
        """The answer to a request that changes something.

        Raises: Definite, Indeterminate.
        """
        answer = self._ask(path, body, logged=logged)
        try:
            return decoder.decode(answer)
        except garbled:
            self._garbage()

    def _put(self, key: bytes, value: Any, lease: int = 0) -> Header:
        return self._change("/v3/kv/put", put_body(key, value, lease), put_decoder).header

    def _ask(self, path: str, body: bytes, *, logged: bool = True) -> bytes:
        """The body of a 200. A request that does not go through the log (`logged`) has few definite errors.

        Raises: Definite, Indeterminate; for a change, that is.
        """
        assert self._connection is not None, "open() makes the clients that can ask"
        try:
            status, answer = self._connection.post(path, body, self._timeout_s)
        except NotSent as e:
            raise Definite(e.text) from None
        except Lost as e:
            raise Indeterminate(e.text) from None
        if status == 200:
            return answer
        self.close()
        text, definite = classify(status, answer, logged=logged)
        raise (Definite if definite else Indeterminate)(text)

    def _garbage(self) -> Never:
        """A 200 that is none of etcd's: who knows what was done."""
        self.close()
        raise Indeterminate("garbage: body")


def changed(value: Any, header: Header, **ext: Any) -> Reply:
    """The reply of a linearized operation."""
    return Reply(value, revision=header.revision, raft_term=header.raft_term, **ext)
