"""ZooKeeper's client: registers, maps, sets, counters and ids here; leases, locks and elections beside.

How an object is made of znodes:

* register: one znode. A compare-and-set reads it, compares the value itself, and sets it if its version is
  still the same. That it was set is sound evidence; that it was not is none: somebody may have written the
  same value, or the read have been stale. So it never says `mismatch`.
* map: a znode with one below it for each of its subs. A transaction reads what it names, then asks for one
  `multi` that checks that all it read is still so, and writes; an array of checks alone if it only reads.
  Adding a sub changes the map's own version, so that a read of the whole map can check that none came.
* set: a znode below the set's for each element.
* counter: adding d is one `multi` that sets a znode d times, and ZooKeeper counts that in its version.
* unique id: the number that a sequential znode is given.
* queue: a sequential znode for each element, which stands in its name. Taking one out is deleting the first: numbers
  are given in the order of the changes, so that none can come before what was first in a fenced look.
"""

from __future__ import annotations

from typing import Any, Final

from kazoo.protocol.serialization import (  # type: ignore[import-untyped]
    CheckVersion,
    Delete,
    Exists,
    GetChildren2,
    SetData,
    Transaction,
)

from clusters.systems._zookeeper_errors import BAD_VERSION, NO_NODE, NODE_EXISTS
from clusters.systems._zookeeper_gateway import (
    COUNTER,
    ID,
    MAP,
    NOTHING,
    QUEUE,
    REGISTER,
    SEQUENCE,
    SET,
    Answered,
    Call,
    create,
    decode,
    encode,
    key_of,
    made,
    name_of,
)
from clusters.systems._zookeeper_holders import Holders
from harness.core.errors import Definite
from harness.core.op import Reply

_most: Final = 100  # of an increment


class ZooKeeperClient(Holders):
    """What workloads can do to ZooKeeper."""

    # Registers.

    def read(self, key: Any) -> Reply:
        """The value, None for a znode that is not there."""
        call = self._call()
        self._fence(call)
        (value, _), zxid = self._value(call, self._path(REGISTER, key))
        return self._seen(value, zxid)

    def write(self, key: Any, value: Any) -> Reply:
        """Set the znode, whatever it held."""
        stat = self._call().put(self._path(REGISTER, key), encode(value))
        return Reply(value, revision=stat.mzxid)

    def cas(self, key: Any, old: Any, new: Any) -> Reply:
        """Set the znode to `new` if it holds `old`.

        Raises: Definite where it did not; never Mismatch, since no comparison of values is one atomic step.
        """
        call, path = self._call(), self._path(REGISTER, key)
        data, version = self._held(call, path)
        if data != encode(old):
            raise Definite("value differs")
        stat = self._if_unchanged(call, SetData(path, encode(new), version))
        return Reply([old, new], revision=stat.mzxid)

    # Maps.

    def kv_txn(self, key: Any, micros: list[list[Any]]) -> Reply:
        """All of `micros` or none, as of one moment: ["r", sub, None], ["w", sub, v], ["cas", sub, old, new].

        Raises: Definite; also where something that it read was changed meanwhile (`conflict`).
        """
        subs = [micro[1] for micro in micros]
        if len(set(subs)) < len(subs):
            raise Definite("a sub named twice")
        call, base = self._call(), self._path(MAP, key)
        reading = all(micro[0] == "r" for micro in micros)
        if reading and self._reads != "fenced":
            return self._read_subs(call, base, subs)
        done: list[list[Any]] = []
        parts = []
        for f, sub, *values in micros:
            path = f"{base}/{name_of(sub)}"
            data, version = self._held_sub(call, base, path)
            if f == "r":
                done.append(["r", sub, decode(data)])
                parts.append(CheckVersion(path, version))
                continue
            if f == "cas" and data != encode(values[0]):
                raise Definite("value differs")
            done.append([f, sub, *values])
            parts.append(SetData(path, encode(values[-1]), version if f == "cas" else -1))
        said, zxid = self._committed(call, parts, reading=reading)
        stats = [part for part in said if hasattr(part, "mzxid")]
        return Reply(done, revision=stats[0].mzxid if stats else zxid)

    def kv_read(self, key: Any) -> Reply:
        """Every sub of the map that is there, with its value."""
        call, base = self._call(), self._path(MAP, key)
        if self._reads != "fenced":
            self._fence(call)
        try:
            (names, stat), _ = call.look(GetChildren2(base, None))
        except Answered as e:
            if e.code != NO_NODE:
                raise
            if self._reads != "fenced":
                return Reply({})
            self._fence(call)  # that there is none may be old news
            found = call.find(base)
            if found is not None:
                raise Definite("conflict") from None
            return Reply({})
        checks = [CheckVersion(base, stat.version)]
        values = {}
        for name in names:
            data, version = self._held(call, f"{base}/{name}")
            values[key_of(name)] = decode(data)
            checks.append(CheckVersion(f"{base}/{name}", version))
        there = {sub: value for sub, value in values.items() if value is not None}
        if self._reads != "fenced":
            return Reply(there)
        _, zxid = self._committed(call, checks, reading=True)
        return Reply(there, revision=zxid)

    def _read_subs(self, call: Call, base: str, subs: list[Any]) -> Reply:
        """Each by itself, as the server has it."""
        self._fence(call)
        return Reply([["r", sub, self._value(call, f"{base}/{name_of(sub)}")[0][0]] for sub in subs])

    @staticmethod
    def _committed(call: Call, parts: list[Any], *, reading: bool) -> tuple[Any, int]:
        """Ask for the transaction that makes what was read and what is written one moment's."""
        try:
            return (call.look if reading else call.change)(Transaction(parts))
        except Answered as e:
            raise Definite("conflict" if e.code == BAD_VERSION else e.text) from None

    def _held_sub(self, call: Call, base: str, path: str) -> tuple[bytes, int]:
        """As `_held`; a sub that is made changes the map's version with it."""
        found = call.find(path)
        if found is None:
            grown = Transaction([create(path, NOTHING), SetData(base, b"", -1)])
            try:
                call.look(grown)
            except Answered as e:
                if e.code == NO_NODE:
                    call.ensure(base)
                    self._unless_there(call, grown)
                elif e.code != NODE_EXISTS:
                    raise
            found = call.find(path)
        if found is None:
            raise Definite("no node")
        return found[0], found[1].version

    @staticmethod
    def _unless_there(call: Call, request: Any) -> None:
        try:
            call.look(request)
        except Answered as e:
            if e.code != NODE_EXISTS:
                raise

    # Sets, counters, ids.

    def set_add(self, key: Any, element: Any) -> Reply:
        """Put the element into the set; one that is there already is there."""
        base = self._path(SET, key)
        try:
            said, _ = self._call().with_nodes((base,), made(f"{base}/{name_of(element)}", b""))
        except Answered as e:
            if e.code != NODE_EXISTS:
                raise
            return Reply(element)
        return Reply(element, revision=said[1].mzxid)

    def set_read(self, key: Any) -> Reply:
        """All elements."""
        call = self._call()
        self._fence(call)
        try:
            (names, _), zxid = call.look(GetChildren2(self._path(SET, key), None))
        except Answered as e:
            if e.code != NO_NODE:
                raise
            return Reply([])
        return self._seen([key_of(name) for name in names], zxid)

    def counter_add(self, key: Any, amount: int) -> Reply:
        """Add 1 to 100 at once."""
        if not 1 <= amount <= _most:
            raise Definite(f"amount not in 1..{_most}")
        path = self._path(COUNTER, key)
        said, _ = self._call().with_nodes((path,), Transaction([SetData(path, b"", -1)] * amount))
        return Reply(amount, revision=said[-1].mzxid)

    def counter_read(self, key: Any) -> Reply:
        """What has been added in all."""
        call = self._call()
        self._fence(call)
        try:
            stat, zxid = call.look(Exists(self._path(COUNTER, key), None))
        except Answered as e:
            if e.code != NO_NODE:
                raise
            return Reply(0)
        return self._seen(stat.version, zxid)

    def generate(self, key: Any = None) -> Reply:
        """An id that no other call gets."""
        base = self._path(ID, key)
        path, _ = self._call().with_nodes((base,), create(f"{base}/", b"", SEQUENCE))
        return Reply(int(path.rpartition("/")[2]))

    # Queues.

    def enqueue(self, key: Any, element: Any) -> Reply:
        """Put the element at the end."""
        base = self._path(QUEUE, key)
        self._call().with_nodes((base,), create(f"{base}/{name_of(element)}-", b"", SEQUENCE))
        return Reply(element)

    def dequeue(self, key: Any) -> Reply:
        """Take out what is first, None where there is nothing.

        Raises: Definite where somebody else took it meanwhile.
        """
        call = self._call()
        self._fence(call)
        base = self._path(QUEUE, key)
        names, _ = self._queued(call, base)
        if not names:
            return Reply(None)
        try:
            call.change(Delete(f"{base}/{names[0]}", -1))
        except Answered as e:
            raise Definite("taken meanwhile" if e.code == NO_NODE else e.text) from None
        return Reply(_element(names[0]))

    def queue_read(self, key: Any) -> Reply:
        """All that is in it, the first first."""
        call = self._call()
        self._fence(call)
        names, zxid = self._queued(call, self._path(QUEUE, key))
        return self._seen([_element(name) for name in names], zxid)

    @staticmethod
    def _queued(call: Call, base: str) -> tuple[list[str], int]:
        """The names of what is in a queue, in order, and the server's zxid."""
        try:
            (names, _), zxid = call.look(GetChildren2(base, None))
        except Answered as e:
            if e.code != NO_NODE:
                raise
            return [], 0
        return sorted(names, key=lambda name: int(name.rpartition("-")[2])), zxid

    def noop(self, key: Any = None) -> None:
        """Nothing, without a request: what the harness itself costs."""

    # What they share.

    @staticmethod
    def _value(call: Call, path: str) -> tuple[tuple[Any, Any], int]:
        """Value and stat (both None where there is no znode), and the server's zxid, 0 where it did not say."""
        found = call.find(path)
        if found is None:
            return (None, None), 0
        data, stat, zxid = found
        return (decode(data), stat), zxid

    @staticmethod
    def _held(call: Call, path: str) -> tuple[bytes, int]:
        """Data and version of a znode, which is made, holding nothing, if it is not there."""
        found = call.find(path)
        if found is None:
            call.ensure(path)
            found = call.find(path)
        if found is None:
            raise Definite("no node")  # and no longer what was read a moment ago: not ours to guess at
        return found[0], found[1].version

    @staticmethod
    def _if_unchanged(call: Call, request: Any) -> Any:
        try:
            return call.change(request)[0]
        except Answered as e:
            raise Definite("version moved on" if e.code == BAD_VERSION else e.text) from None


def _element(name: str) -> Any:
    """The element of a znode of a queue."""
    return key_of(name.rpartition("-")[0])
