"""Redis's client: each method is one operation of a history and one request to the primary.

How it finds that: whenever it opens a connection it asks the Sentinel of the node that it is pinned to who the
primary is, as clients of Redis do, and connects to that one. It stays there until something errs or the server
ends the connection (which a primary does when it is demoted); then the next operation asks again. So a client
beside a primary that was cut off goes on with that one as long as its Sentinel does.

Each method is one command, or one script that runs as one. Keys and values are JSON texts; no key and null are the
same. `primary` beside an answer is the address that it came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any, Final, Never, Self

import msgspec

from clusters.systems._redis_errors import classify
from clusters.systems._redis_wire import Wire
from clusters.wire import Lost, NotSent
from harness.core.cluster import Node, Place
from harness.core.errors import Definite, Indeterminate, Mismatch
from harness.core.op import Reply

PREFIX: Final = "splitbrain/"
MASTER: Final = "main"  # the name under which Sentinels know the primary
_encoder: Final = msgspec.json.Encoder(order="deterministic")
_decoder: Final = msgspec.json.Decoder()  # made at import: threads must not be the first to

_CAS: Final = """
local held = redis.call('GET', KEYS[1])
if not held then held = 'null' end
if held ~= ARGV[1] then return 0 end
if ARGV[2] == 'null' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2]) end
return 1
"""
# Comparisons first, on what stood there before; then reads and writes in order.
_TXN: Final = """
local out, micros = {}, cjson.decode(ARGV[1])
for _, m in ipairs(micros) do
  if m[1] == 'cas' and (redis.call('HGET', KEYS[1], m[2]) or 'null') ~= m[3] then return 0 end
end
for i, m in ipairs(micros) do
  out[i] = 'null'
  if m[1] == 'r' then out[i] = redis.call('HGET', KEYS[1], m[2]) or 'null'
  elseif m[#m] == 'null' then redis.call('HDEL', KEYS[1], m[2])
  else redis.call('HSET', KEYS[1], m[2], m[#m]) end
end
return out
"""


def text(value: Any) -> str:
    """The JSON text of a value."""
    return _encoder.encode(value).decode()


class RedisClient:
    """Pinned to one node's Sentinel, and by it to one primary at a time."""

    def __init__(self, port: int = 26379) -> None:
        self._port = port
        self._timeout_s = 1.0
        self._prefix = PREFIX
        self._sentinel: tuple[str, int] = ("", 0)
        self._wire: Wire | None = None
        self._primary = ""

    def open(
        self, node: Node, place: Place | None, options: Mapping[str, Any], timeout_s: float = 1.0
    ) -> Self:
        del place  # the worker's thread stands there already
        new = type(self)(self._port)
        new._timeout_s = timeout_s  # noqa: SLF001 - our own class
        new._prefix = options.get("prefix", PREFIX)  # noqa: SLF001
        new._sentinel = (node.address, node.port or self._port)  # noqa: SLF001
        return new

    def close(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    # Registers.

    def read(self, key: Any) -> Reply:
        """The value, None for a key that is not there."""
        return self._read(_one, "GET", self._name("r", key))

    def write(self, key: Any, value: Any) -> Reply:
        """Set the key, whatever it held."""
        name = self._name("r", key)
        if value is None:
            self._change("DEL", name)
        else:
            self._change("SET", name, text(value))
        return self._reply(value)

    def cas(self, key: Any, old: Any, new: Any) -> Reply:
        """Set the key to `new` if it holds `old`: one script, and nothing runs beside a script.

        Raises: Mismatch.
        """
        if self._change("EVAL", _CAS, 1, self._name("r", key), text(old), text(new)) != 1:
            raise Mismatch
        return self._reply([old, new])

    # Maps.

    def kv_txn(self, key: Any, micros: list[list[Any]]) -> Reply:
        """All of `micros` or none, as one script; reads are filled in.

        Raises: Mismatch when a comparison did not hold; Definite for a sub named twice.
        """
        if len({text(micro[1]) for micro in micros}) < len(micros):
            raise Definite("a sub named twice")
        asked = text([[f, *map(text, [sub, *([] if f == "r" else values)])] for f, sub, *values in micros])
        found = self._change("EVAL", _TXN, 1, self._name("kv", key), asked)
        if found == 0:
            raise Mismatch
        try:
            values = [_decoder.decode(value) for value in found]
            done = [["r", m[1], value] if m[0] == "r" else m for m, value in zip(micros, values, strict=True)]
        except (TypeError, ValueError):
            self._garbage()
        return self._reply(done)

    def kv_read(self, key: Any) -> Reply:
        """Every sub of the map that is there, with its value."""
        return self._read(_pairs, "HGETALL", self._name("kv", key))

    # Sets, counters, ids, queues.

    def set_add(self, key: Any, element: Any) -> Reply:
        """Put the element into the set."""
        self._change("SADD", self._name("set", key), text(element))
        return self._reply(element)

    def set_read(self, key: Any) -> Reply:
        """All elements."""
        return self._read(_all, "SMEMBERS", self._name("set", key))

    def counter_add(self, key: Any, amount: int) -> Reply:
        """Add `amount`."""
        self._change("INCRBY", self._name("counter", key), amount)
        return self._reply(amount)

    def counter_read(self, key: Any) -> Reply:
        """What has been added in all."""
        return self._read(lambda found: _one(found) or 0, "GET", self._name("counter", key))

    def generate(self, key: Any = None) -> Reply:
        """An id that no other call to this primary gets."""
        return self._reply(self._change("INCR", self._name("id", key)))

    def enqueue(self, key: Any, value: Any) -> Reply:
        """Put the value at the end of the queue."""
        self._change("RPUSH", self._name("queue", key), text(value))
        return self._reply(value)

    def dequeue(self, key: Any) -> Reply:
        """Take the first value of the queue away; None when it is empty. It is no read: it changes the queue."""
        found = self._change("LPOP", self._name("queue", key))
        try:
            return self._reply(_one(found))
        except (TypeError, ValueError):
            self._garbage()

    def queue_read(self, key: Any) -> Reply:
        """What waits in the queue, without taking it."""
        return self._read(_all, "LRANGE", self._name("queue", key), 0, -1)

    def noop(self, key: Any = None) -> None:
        """Nothing, without a request: what the harness itself costs."""

    # What they share.

    def tidy(self) -> None:
        """Remove everything below the prefix."""
        script = "for _, k in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do redis.call('DEL', k) end return 1"
        self._change("EVAL", script, 0, self._prefix)

    def _name(self, kind: str, key: Any) -> str:
        return f"{self._prefix}{kind}/{text(key)}"

    def _reply(self, value: Any) -> Reply:
        return Reply(value, primary=self._primary)

    def _read(self, value_of: Any, *command: Any) -> Reply:
        """Raises: Definite; a read has no effect to be unsure of."""
        try:
            return self._reply(value_of(self._change(*command)))
        except Indeterminate as e:
            raise Definite(e.text) from None
        except (TypeError, ValueError):  # msgspec's errors are ValueErrors
            self.close()
            raise Definite("garbage") from None

    def _change(self, *command: Any) -> Any:
        """The primary's answer.

        Raises: Definite, Indeterminate.
        """
        from redis.exceptions import RedisError

        deadline = monotonic() + self._timeout_s
        try:
            return self._connected(deadline).ask(deadline, *command)
        except NotSent as e:
            self.close()
            raise Definite(e.text) from None
        except Lost as e:
            self.close()
            raise Indeterminate(e.text) from None
        except RedisError as e:
            self.close()  # a replica goes on to refuse; the next one asks who leads now
            words, definite = classify(e) or (type(e).__name__, False)
            raise (Definite if definite else Indeterminate)(words) from None

    def _connected(self, deadline: float) -> Wire:
        """The connection to the primary: the kept one, or a new one to whom the Sentinel names.

        Raises: NotSent.
        """
        if self._wire is not None and self._wire.idle():
            return self._wire
        self.close()
        address, port = primary(self._sentinel, deadline)
        self._primary = address
        wire = Wire(address, port)
        wire.connect(deadline)
        self._wire = wire
        return wire

    def _garbage(self) -> Never:
        """An answer that is none: who knows what was done."""
        self.close()
        raise Indeterminate("garbage")


def primary(sentinel: tuple[str, int], deadline: float) -> tuple[str, int]:
    """Whom a Sentinel takes for the primary.

    Raises: NotSent when it does not say; nothing was asked of a primary then.
    """
    from redis.exceptions import RedisError

    wire = Wire(*sentinel)
    try:
        wire.connect(deadline)
        said = wire.ask(deadline, "SENTINEL", "get-master-addr-by-name", MASTER)
        return said[0].decode(), int(said[1])
    except NotSent as e:
        raise NotSent(f"sentinel: {e.text}") from None
    except Lost as e:
        raise NotSent(f"sentinel: {e.text}") from None
    except (RedisError, TypeError, ValueError, IndexError, AttributeError):
        raise NotSent("sentinel: knows no primary") from None
    finally:
        wire.close()


def _one(found: Any) -> Any:
    """The value of a key; None when it is not there."""
    return None if found is None else _decoder.decode(found)


def _all(found: Any) -> list[Any]:
    return [_decoder.decode(value) for value in found]


def _pairs(found: Any) -> dict[Any, Any]:
    texts = _all(found)
    return dict(zip(texts[::2], texts[1::2], strict=True))
