"""etcd's client: registers, maps, sets, counters and ids here; leases, locks, elections and watches beside.

Each method is one operation of a history and one request. How an object is made of keys:

* register: one key. map: a key for each of its subs, changed by one transaction.
* set: a key for each element, so that adding needs no reading first.
* counter: adding d is one transaction that puts d keys, each of which etcd counts in its `version`;
  the counter is the sum of all. Atomic, exact, and again no reading first.
* unique id: the revision of a put, which no two changes share.
"""

from __future__ import annotations

from typing import Any, Final

from clusters.systems._etcd_gateway import changed
from clusters.systems._etcd_leases import Leases
from clusters.systems._etcd_watch import Watches
from clusters.systems._etcd_wire import (
    COUNTER,
    ID,
    MAP,
    REGISTER,
    SET,
    KeyValue,
    TxnAnswer,
    all_body,
    decode,
    delete_body,
    encode,
    garbled,
    get,
    holds,
    put_decoder,
    range_body,
    set_to,
    txn_body,
    txn_decoder,
)
from harness.core.errors import Definite, Indeterminate, Mismatch
from harness.core.op import Reply

_most: Final = 100  # keys that one transaction may put; etcd refuses more than 128 operations


class EtcdClient(Leases, Watches):
    """What workloads can do to etcd."""

    # Registers.

    def read(self, key: Any) -> Reply:
        """The value, None for a key that is not there."""
        return self._read(range_body(self._key(REGISTER, key), serializable=self._serializable), value_of)

    def write(self, key: Any, value: Any) -> Reply:
        """Set the key, whatever it held."""
        name = self._key(REGISTER, key)
        if value is None:
            header = self._change("/v3/kv/deleterange", delete_body(name), put_decoder).header
            return Reply(None, raft_term=header.raft_term)  # deleting what is not there makes no revision
        return changed(value, self._put(name, value))

    def cas(self, key: Any, old: Any, new: Any) -> Reply:
        """Set the key to `new` if it holds `old`: one transaction, ordered by the log even if it fails.

        Raises: Mismatch. It is evidence: a transaction with a put in it is never answered from local state.
        """
        name = self._key(REGISTER, key)
        body = txn_body([holds(name, old)], [set_to(name, new)])
        answer = self._change("/v3/kv/txn", body, txn_decoder)
        if not answer.succeeded:
            raise Mismatch
        if new is None and old is None:  # nothing deleted, no revision
            return Reply([old, new], raft_term=answer.header.raft_term)
        return changed([old, new], answer.header)

    # Maps.

    def kv_txn(self, key: Any, micros: list[list[Any]]) -> Reply:
        """All of `micros` or none, as of one moment: ["r", sub, None], ["w", sub, v], ["cas", sub, old, new].

        Returns them with the reads filled in. A transaction of reads alone is a read; with anything
        else in it, it goes through the log, and its reads with it.

        Raises: Mismatch when a comparison did not hold.
        """
        subs = [micro[1] for micro in micros]
        if len(set(subs)) < len(subs):  # etcd compares first, and refuses a second put of a key
            raise Definite("a sub named twice")
        first = self._below(MAP, key)
        reading = all(micro[0] == "r" for micro in micros)
        serializable = reading and self._serializable
        compare: list[bytes] = []
        then: list[bytes] = []
        for f, sub, *values in micros:
            name = first + encode(sub)
            if f == "r":
                then.append(get(name, serializable=serializable))
                continue
            if f == "cas":
                compare.append(holds(name, values[0]))
            then.append(set_to(name, values[-1]))
        try:
            answer = self._change("/v3/kv/txn", txn_body(compare, then), txn_decoder)
            if answer.succeeded:
                done = self._filled(micros, answer)
        except Indeterminate as e:
            if reading:
                raise Definite(e.text) from None
            raise
        if not answer.succeeded:
            raise Mismatch
        puts = any(micro[0] != "r" and micro[-1] is not None for micro in micros)
        if serializable or not (reading or puts):  # deleting what is not there makes no revision
            return Reply(done, raft_term=answer.header.raft_term)
        return changed(done, answer.header)

    def _filled(self, micros: list[list[Any]], answer: TxnAnswer) -> list[list[Any]]:
        """`micros` with what the reads among them found."""
        if len(answer.responses) != len(micros):
            self._garbage()
        done = []
        try:
            for micro, response in zip(micros, answer.responses, strict=True):
                if micro[0] != "r":
                    done.append(micro)
                elif response.response_range is None:
                    self._garbage()
                else:
                    done.append(["r", micro[1], value_of(response.response_range.kvs)])
        except garbled:
            self._garbage()
        return done

    def kv_read(self, key: Any) -> Reply:
        """Every sub of the map that is there, with its value."""
        first = self._below(MAP, key)
        body = all_body(first, serializable=self._serializable)
        return self._read(body, lambda kvs: {decode(kv.key[len(first) :]): decode(kv.value) for kv in kvs})

    # Sets, counters, ids.

    def set_add(self, key: Any, element: Any) -> Reply:
        """Put the element into the set."""
        return changed(element, self._put(self._below(SET, key) + encode(element), True))  # noqa: FBT003

    def set_read(self, key: Any) -> Reply:
        """All elements."""
        first = self._below(SET, key)
        body = all_body(first, serializable=self._serializable, keys_only=True)
        return self._read(body, lambda kvs: [decode(kv.key[len(first) :]) for kv in kvs])

    def counter_add(self, key: Any, amount: int) -> Reply:
        """Add 1 to 100 at once."""
        if not 1 <= amount <= _most:
            raise Definite(f"amount not in 1..{_most}")
        first = self._below(COUNTER, key)
        puts = [set_to(b"%b%d" % (first, i), True) for i in range(amount)]  # noqa: FBT003
        return changed(amount, self._change("/v3/kv/txn", txn_body([], puts), txn_decoder).header)

    def counter_read(self, key: Any) -> Reply:
        """What has been added in all."""
        body = all_body(self._below(COUNTER, key), serializable=self._serializable, keys_only=True)
        return self._read(body, lambda kvs: sum(kv.version for kv in kvs))

    def generate(self, key: Any = None) -> Reply:
        """An id that no other call gets."""
        header = self._put(self._key(ID, key), True)  # noqa: FBT003
        return changed(header.revision, header)

    def noop(self, key: Any = None) -> None:
        """Nothing, without a request: what the harness itself costs."""


def value_of(kvs: list[KeyValue]) -> Any:
    """The value of the one key asked for; None when it was not there."""
    return decode(kvs[0].value) if kvs else None
