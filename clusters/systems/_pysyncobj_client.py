"""PySyncObj's client: each method is one operation of a history and one HTTP request to one node.

A node that does not lead sends a command on to the leader by itself, once; that is the library's way and cannot
be switched off. What errs is definite only where the table of `_pysyncobj_errors` says so, or where
nothing was sent; a read has no effect to be unsure of. After any error the connection is discarded.

How objects are kept: a name for each, the run's prefix and a part for its kind before the key's JSON text. No key
and null are the same. Each command through the log has its entry's index as `revision`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Never, Self

import msgspec

from clusters.http1 import Connection
from clusters.systems._pysyncobj_errors import classify
from clusters.wire import Lost, NotSent
from harness.core.cluster import Node, Place
from harness.core.errors import Definite, Indeterminate, Mismatch
from harness.core.op import Reply

PREFIX: Final = "splitbrain/"
GARBLED: Final = (msgspec.DecodeError, UnicodeDecodeError)


class Answer(msgspec.Struct):
    """A 200 to a command; a revision of 0 is none."""

    revision: int
    value: Any


# Made once, at import: msgspec crashes when several threads are the first to decode a type at once.
answer_decoder: Final = msgspec.json.Decoder(Answer)
_encoder: Final = msgspec.json.Encoder(order="deterministic")


def text(value: Any) -> str:
    """The JSON text of a value, by which the store compares."""
    return _encoder.encode(value).decode()


def body(f: str, name: str, args: list[Any]) -> bytes:
    """What the server is asked."""
    return _encoder.encode({"f": f, "name": name, "args": args})


class PySyncObjClient:
    """Pinned to one node. Option `reads`: `log`, or `local` for what the node alone holds."""

    def __init__(self, port: int = 4320, lock_s: float = 2.0) -> None:
        self._port = port
        self._timeout_s = 1.0
        self._local = False
        self._prefix = PREFIX
        self._lock_s = lock_s
        self._connection: Connection | None = None

    def open(
        self, node: Node, place: Place | None, options: Mapping[str, Any], timeout_s: float = 1.0
    ) -> Self:
        del place  # the worker's thread stands there already
        new = type(self)(self._port, float(options.get("lock_s", self._lock_s)))
        new._timeout_s = timeout_s  # noqa: SLF001 - our own class
        new._local = options.get("reads") == "local"  # noqa: SLF001
        new._prefix = options.get("prefix", PREFIX)  # noqa: SLF001
        new._connection = Connection(node.address, node.port or self._port)  # noqa: SLF001
        return new

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    # Registers.

    def read(self, key: Any) -> Reply:
        """The value, None for a key that is not there."""
        return self._read("read", self._name("r", key))

    def write(self, key: Any, value: Any) -> Reply:
        """Set the key, whatever it held."""
        return self._changed(value, "write", self._name("r", key), [text(value)])

    def cas(self, key: Any, old: Any, new: Any) -> Reply:
        """Set the key to `new` if it holds `old`.

        Raises: Mismatch. It is evidence: the comparison was made where the log has put it.
        """
        return self._changed([old, new], "cas", self._name("r", key), [text(old), text(new)])

    # Maps.

    def kv_txn(self, key: Any, micros: list[list[Any]]) -> Reply:
        """All of `micros` or none, as one entry of the log; reads are filled in.

        With reads=local, too: a transaction is a command.

        Raises: Mismatch when a comparison did not hold.
        """
        args = [[f, *map(text, [sub, *([] if f == "r" else values)])] for f, sub, *values in micros]
        answer = self._ask("do", body("kv_txn", self._name("kv", key), [args]))
        if not isinstance(answer.value, list) or len(answer.value) != len(micros):
            self._garbage()
        done = [
            ["r", micro[1], found] if micro[0] == "r" else micro
            for micro, found in zip(micros, answer.value, strict=True)
        ]
        return Reply(done, revision=answer.revision)

    def kv_read(self, key: Any) -> Reply:
        """Every sub of the map that is there, with its value."""
        reply = self._read("kv_read", self._name("kv", key))
        return Reply(dict(reply.value), **reply.ext)

    # Sets, counters, ids, queues.

    def set_add(self, key: Any, element: Any) -> Reply:
        """Put the element into the set."""
        return self._changed(element, "set_add", self._name("set", key), [text(element)])

    def set_read(self, key: Any) -> Reply:
        """All elements."""
        return self._read("set_read", self._name("set", key))

    def counter_add(self, key: Any, amount: int) -> Reply:
        """Add `amount`."""
        return self._changed(amount, "counter_add", self._name("counter", key), [amount])

    def counter_read(self, key: Any) -> Reply:
        """What has been added in all."""
        return self._read("counter_read", self._name("counter", key))

    def generate(self, key: Any = None) -> Reply:
        """An id that no other call gets: the index of a command that does nothing."""
        answer = self._ask("do", body("generate", self._name("id", key), []))
        return Reply(answer.value, revision=answer.revision)

    def enqueue(self, key: Any, value: Any) -> Reply:
        """Put the value at the end of the queue."""
        return self._changed(value, "enqueue", self._name("queue", key), [text(value)])

    def dequeue(self, key: Any) -> Reply:
        """Take the first value of the queue away; None when it is empty. It is no read: it changes the queue."""
        answer = self._ask("do", body("dequeue", self._name("queue", key), []))
        return Reply(answer.value, revision=answer.revision)

    def queue_read(self, key: Any) -> Reply:
        """What waits in the queue, without taking it."""
        return self._read("queue_read", self._name("queue", key))

    # Locks: the library's, whose every request carries the clock of the node that was asked.

    def lease_grant(self, key: Any, ttl_s: float) -> Reply:
        """A name for a holder, unknown to the cluster before it takes a lock; the time to live is the lock's,
        which is the same for all (option `lock_s`)."""
        del key, ttl_s
        answer = self._ask("grant", b"{}")
        return Reply(answer.value, lease=answer.value, ttl_s=self._lock_s)

    def lock_acquire(self, key: Any, lease: str) -> Reply:
        """The lock's token.

        Raises: Mismatch("held"): by the clocks of those who asked, somebody held it.
        """
        return self._hold(self._name("lock", key), lease)

    def lease_revoke(self, key: Any, lease: str) -> Reply:
        """Release whatever the holder holds."""
        del key
        answer = self._ask("do", body("revoke", self._prefix, [lease]))
        return Reply(lease, lease=lease, revision=answer.revision)

    def lock_read(self, key: Any) -> Reply:
        """What the lock guards."""
        return self._read("read", self._name("guarded", key))

    def lock_write(self, key: Any, what: list[Any]) -> Reply:
        """Set what the lock guards to the first of [v, token], whoever holds the lock."""
        return self._changed(what, "write", self._name("guarded", key), [text(what[0])])

    def lock_write_fenced(self, key: Any, what: list[Any]) -> Reply:
        """The same, if no token was granted after this one.

        Raises: Definite("stale token").
        """
        args = [self._name("lock", key), text(what[0]), what[1]]
        return self._changed(what, "write_fenced", self._name("guarded", key), args)

    def election_campaign(self, key: Any, lease: str) -> Reply:
        """The token of the term won.

        Raises: Mismatch("held"): somebody leads.
        """
        return self._hold(self._name("election", key), lease)

    def election_leader(self, key: Any) -> Reply:
        """The token of who leads by the clock of the node asked, None for nobody."""
        return self._read("leader", self._name("election", key), local=False)

    def noop(self, key: Any = None) -> None:
        """Nothing, without a request: what the harness itself costs."""

    # What they share.

    def _name(self, kind: str, key: Any) -> str:
        return f"{self._prefix}{kind}/{text(key)}"

    def _hold(self, name: str, lease: str) -> Reply:
        answer = self._ask("do", body("acquire", name, [lease]))
        return Reply(answer.value, token=answer.value, lease=lease, revision=answer.revision)

    def _changed(self, value: Any, f: str, name: str, args: list[Any]) -> Reply:
        return Reply(value, revision=self._ask("do", body(f, name, args)).revision)

    def _read(self, f: str, name: str, *, local: bool | None = None) -> Reply:
        """Raises: Definite; a read has no effect to be unsure of."""
        local = self._local if local is None else local
        try:
            answer = self._ask("local" if local else "do", body(f, name, []))
        except Indeterminate as e:
            raise Definite(e.text) from None
        return Reply(answer.value, **({} if local else {"revision": answer.revision}))

    def _ask(self, path: str, data: bytes) -> Answer:
        """Raises: Definite, Indeterminate."""
        assert self._connection is not None, "open() makes the clients that can ask"
        try:
            status, said = self._connection.post(f"/{path}", data, self._timeout_s)
        except NotSent as e:
            raise Definite(e.text) from None
        except Lost as e:
            raise Indeterminate(e.text) from None
        if status == 200:
            try:
                return answer_decoder.decode(said)
            except GARBLED:
                self._garbage()
        words, definite = classify(status, said)
        if words in ("mismatch", "held"):
            raise Mismatch(words)
        if words != "stale token":  # that is an answer, and no error
            self.close()
        raise (Definite if definite else Indeterminate)(words)

    def _garbage(self) -> Never:
        """A 200 that is none of our server's: who knows what was done."""
        self.close()
        raise Indeterminate("garbage: body")
