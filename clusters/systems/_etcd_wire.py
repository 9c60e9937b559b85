"""etcd's JSON gateway on the wire: names of keys, bodies of requests, forms of answers. Pure.

Every object of a run is a key, or the keys below one, under the run's prefix and a part for its kind,
so that one range is all that a run wrote. Names and values are JSON text, so that 1, true and "1" stay
what they are. No JSON text followed by `/` begins another one, hence no object's keys lie among those
of another object.

No key and `null` are the same thing here: writing None deletes the key, and a compare with None asks
for a key that does not exist. Otherwise a key holding `null` would fail a compare with None, and that
failure is evidence to a checker.

Keys and values travel in base64; int64 are strings in protobuf's JSON, and what is 0, false or empty is
left out.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from typing import Any, Final

import msgspec

PREFIX: Final = "splitbrain/"  # of all keys that a run writes

# The kinds. `node/` is no client's: each node's barrier writes there.
REGISTER: Final = "r/"
MAP: Final = "kv/"
SET: Final = "set/"
COUNTER: Final = "counter/"
ID: Final = "id/"
LEASE: Final = "lease/"
LOCK: Final = "lock/"
GUARDED: Final = "guarded/"
ELECTION: Final = "election/"
WATCHED: Final = "watch/"
NODE: Final = "node/"


class Header(msgspec.Struct):
    """`revision` has no default: an answer without one is none of etcd's."""

    revision: int
    raft_term: int = 0
    member_id: int = 0


class KeyValue(msgspec.Struct):
    """A key; what is not asked for is left out. msgspec decodes base64 into bytes."""

    key: bytes = b""
    value: bytes = b""
    create_revision: int = 0
    mod_revision: int = 0
    version: int = 0
    lease: int = 0


class RangeAnswer(msgspec.Struct):
    """Answer to `range`; `more`: a limit left some out."""

    header: Header
    kvs: list[KeyValue] = []
    more: bool = False


class Found(msgspec.Struct):
    """What a range within a transaction found."""

    kvs: list[KeyValue] = []


class Response(msgspec.Struct):
    """Of one operation within a transaction; those of puts and deletes say nothing that is needed."""

    response_range: Found | None = None


class TxnAnswer(msgspec.Struct):
    """Answer to `txn`."""

    header: Header
    succeeded: bool = False
    responses: list[Response] = []


class PutAnswer(msgspec.Struct):
    """Answer to whatever has nothing of interest but its header."""

    header: Header


class LeaseAnswer(msgspec.Struct):
    """Answer to `lease/grant`, and what a keep-alive gives; a TTL of 0: there is no such lease."""

    header: Header
    id: int = msgspec.field(name="ID")
    ttl_s: int = msgspec.field(name="TTL", default=0)


class KeepAlive(msgspec.Struct):
    """One line of the stream that answers `lease/keepalive`."""

    result: LeaseAnswer


class Event(msgspec.Struct):
    """A change; a put has no type, it is protobuf's 0."""

    kv: KeyValue
    type: str = "PUT"


class WatchHeader(msgspec.Struct):
    """Without a revision where the watch was compacted away."""

    revision: int = 0


class Watched(msgspec.Struct):
    """One message of a watch. Neither created nor cancelled, and without events: a progress
    notification; all events up to the header's revision have been sent before it."""

    header: WatchHeader
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    events: list[Event] = []


class WatchLine(msgspec.Struct):
    """One line of the stream that answers `watch`: `result`, or an error."""

    result: Watched | None = None


class HashAnswer(msgspec.Struct):
    """Answer to HashKV; to `Hash`, the other thing up to 3.5, without a `compact_revision`."""

    header: Header
    hash: int = 0
    compact_revision: int | None = None


# Made once, at import: msgspec crashes when several threads are the first to decode a type at once.
range_decoder: Final = msgspec.json.Decoder(RangeAnswer, strict=False)
txn_decoder: Final = msgspec.json.Decoder(TxnAnswer, strict=False)
put_decoder: Final = msgspec.json.Decoder(PutAnswer, strict=False)
lease_decoder: Final = msgspec.json.Decoder(LeaseAnswer, strict=False)
keepalive_decoder: Final = msgspec.json.Decoder(KeepAlive, strict=False)
watch_decoder: Final = msgspec.json.Decoder(WatchLine, strict=False)
hash_decoder: Final = msgspec.json.Decoder(HashAnswer, strict=False)
garbled: Final = (msgspec.DecodeError, UnicodeDecodeError)
encode: Final = msgspec.json.encode
decode: Final = msgspec.json.decode


# Names.


def key_name(prefix: str, kind: str, key: Any) -> bytes:
    """The key in etcd of an object that is one key; objects of different JSON types differ."""
    return f"{prefix}{kind}".encode() + encode(key)


def below(prefix: str, kind: str, key: Any) -> bytes:
    """What the keys of an object that is many keys begin with."""
    return key_name(prefix, kind, key) + b"/"


def behind(first: bytes) -> bytes:
    """The first key that does not begin with `first` but is greater: the end of its range."""
    return first[:-1] + bytes([first[-1] + 1])


def value_text(value: Any) -> bytes:
    """The value in etcd, in base64."""
    return b64encode(encode(value))


# Bodies; their keys are plain bytes.


def put_body(key: bytes, value: Any, lease: int = 0) -> bytes:
    """Body of `put`, and of a put in a transaction; with a lease the key ends with it."""
    attached = b',"lease":"%d"' % lease if lease else b""
    return b'{"key":"%b","value":"%b"%b}' % (b64encode(key), value_text(value), attached)


def delete_body(key: bytes) -> bytes:
    """Body of `deleterange` for one key."""
    return b'{"key":"%b"}' % b64encode(key)


def range_body(key: bytes, *, serializable: bool) -> bytes:
    """Body of `range` for one key."""
    return b'{"key":"%b"%b}' % (b64encode(key), b',"serializable":true' if serializable else b"")


def all_body(first: bytes, *, serializable: bool, keys_only: bool = False) -> bytes:
    """Body of `range` for all keys that begin with `first`."""
    return b'{"key":"%b","range_end":"%b"%b%b}' % (
        b64encode(first),
        b64encode(behind(first)),
        b',"keys_only":true' if keys_only else b"",
        b',"serializable":true' if serializable else b"",
    )


def page_body(first: bytes, end: bytes, revision: int, limit: int) -> bytes:
    """Body of `range` for at most `limit` keys from `first` to before `end`, as the node asked has them
    at `revision`."""
    return b'{"key":"%b","range_end":"%b","revision":"%d","limit":"%d","serializable":true}' % (
        b64encode(first),
        b64encode(end),
        revision,
        limit,
    )


def holds(key: bytes, value: Any) -> bytes:
    """Comparison: the key holds `value`, or for None does not exist."""
    if value is None:
        return created_at(key, 0)
    return b'{"key":"%b","result":"EQUAL","target":"VALUE","value":"%b"}' % (
        b64encode(key),
        value_text(value),
    )


def created_at(key: bytes, revision: int) -> bytes:
    """Comparison: the key exists since `revision`, or for 0 does not exist."""
    return b'{"key":"%b","result":"EQUAL","target":"CREATE","create_revision":"%d"}' % (
        b64encode(key),
        revision,
    )


def set_to(key: bytes, value: Any, lease: int = 0) -> bytes:
    """Operation of a transaction: a put, or for None a delete."""
    if value is None:
        return b'{"request_delete_range":%b}' % delete_body(key)
    return b'{"request_put":%b}' % put_body(key, value, lease)


def get(key: bytes, *, serializable: bool = False) -> bytes:
    """Operation of a transaction: a read."""
    return b'{"request_range":%b}' % range_body(key, serializable=serializable)


def txn_body(compare: Iterable[bytes], success: Iterable[bytes]) -> bytes:
    """Body of a transaction that does `success` if all of `compare` hold, else nothing."""
    return b'{"compare":[%b],"success":[%b]}' % (b",".join(compare), b",".join(success))


def lease_body(lease: Any) -> bytes:
    """Body of `lease/revoke` and `lease/keepalive`."""
    return b'{"ID":"%d"}' % int(lease)


def watch_body(first: bytes, start: int) -> bytes:
    """Body of a watch of all keys that begin with `first`, from revision `start` on."""
    return (
        b'{"create_request":{"key":"%b","range_end":"%b","start_revision":"%d","progress_notify":true}}'
        % (b64encode(first), b64encode(behind(first)), start)
    )
