"""Which of etcd's errors prove that a write did not happen: one table, with the reason for each row.

Only what is in this table is definite. Everything else (an unknown message, another code, garbage) is
indeterminate for a write, as etcd's own robustness tests take every error of a write. A read that
errs has no effect to be unsure of and may fail definitely.

The reasons were read in etcd's server (3.5.35, 3.6.16, 3.7.3): a put or a transaction with a
put goes interceptor -> quota check -> `processInternalRaftRequestOnce` -> raft's `Propose` -> wait
for its application. An error from before `Propose` is definite; one that can also come from behind
it is not, whatever its name suggests. One that the application itself gives is definite if it is given
by every member alike and instead of the effect.

Grants and revocations of leases go the same way. A keep-alive does not: a follower hands it on to the
leader again and again within one request, and an error may follow an attempt that took effect; of it
only `unlogged` is definite.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec


class Row(NamedTuple):
    """The meaning of one message. `text` is what a history records."""

    text: str
    definite: bool
    why: str


NEVER: Final = True  # definite: it did not happen and never will
MAYBE: Final = False

table: Final[dict[str, Row]] = {
    # From before the proposal.
    "etcdserver: too many requests": Row(
        "too many requests", NEVER, "checked first: more than 5,000 entries committed and not yet applied"
    ),
    "etcdserver: request is too large": Row("request too large", NEVER, "checked before the proposal"),
    "etcdserver: no leader": Row(
        "no leader", NEVER, "for keys only the interceptor says it, before the request is handled"
    ),
    "etcdserver: not capable": Row("not capable", NEVER, "the interceptor, before the request is handled"),
    "etcdserver: rpc not supported for learner": Row("learner", NEVER, "the interceptor, as before"),
    "etcdserver: key is not provided": Row("no key", NEVER, "validation of the request"),
    "etcdserver: duplicate key given in txn request": Row(
        "duplicate key", NEVER, "validation of the request"
    ),
    "etcdserver: too many operations in txn request": Row("too many operations", NEVER, "validation"),
    "raft proposal dropped": Row(
        "proposal dropped",
        NEVER,
        "raft refuses to append: no leader, a leadership transfer, or too much uncommitted",
    ),
    # From the application: every member gives the same answer to the same entry of the log.
    "etcdserver: requested lease not found": Row(
        "lease not found",
        NEVER,
        "looked up before anything is applied, of a transaction for the branch taken; leases come and go by the log",
    ),
    "etcdserver: lease already exists": Row(
        "lease exists", NEVER, "checked before the lease is made; only of an id that the client chose"
    ),
    "etcdserver: too large lease TTL": Row("TTL too large", NEVER, "checked before the lease is made"),
    # From behind it. Rows that say what the default says too: they fix the recorded text, and keep
    # the next reader from "improving" them.
    "etcdserver: request timed out": Row("request timed out", MAYBE, "proposed; may still be committed"),
    "etcdserver: request timed out, possibly due to previous leader failure": Row(
        "timed out, leader failure", MAYBE, "proposed to a leader that was lost; it may have replicated it"
    ),
    "etcdserver: request timed out, possibly due to connection lost": Row(
        "timed out, connection lost",
        MAYBE,
        "proposed; the connection may have been lost after it was forwarded",
    ),
    "etcdserver: leader changed": Row(
        "leader changed", MAYBE, "a write could be in the log of either leader (etcd says it of reads only)"
    ),
    "etcdserver: server stopped": Row("server stopped", MAYBE, "stopped while it waited for the application"),
    "raft: stopped": Row(
        "raft stopped", MAYBE, "`Propose` also says it when the entry was appended and may have been sent on"
    ),
    "context deadline exceeded": Row(
        "deadline exceeded", MAYBE, "`Propose` waits for raft's answer under it"
    ),
    "etcdserver: mvcc: database space exceeded": Row(
        "no space", MAYBE, "on crossing the quota etcd applies the put and then reports this"
    ),
    "etcdserver: corrupt cluster": Row(
        "corrupt cluster", MAYBE, "raised when applying, by a member in doubt"
    ),
    "etcdserver: unhealthy cluster": Row(
        "unhealthy cluster", MAYBE, "not said of keys; nothing is known of it"
    ),
    "not a primary lessor": Row(
        "not primary lessor", MAYBE, "of a keep-alive: the leader was deposed while it looked or waited"
    ),
    # Of reads and watches; neither is ever said of a write that we send.
    "etcdserver: mvcc: required revision has been compacted": Row(
        "compacted", MAYBE, "of a read at a revision"
    ),
    "etcdserver: mvcc: required revision is a future revision": Row(
        "future revision", MAYBE, "of a read at a revision that the node has not applied"
    ),
}
unlogged: Final = frozenset({"etcdserver: requested lease not found"})


class _Body(msgspec.Struct):
    """`message` and `code` (all versions), beside them `error` (up to 3.5)."""

    code: int
    message: str


class _StreamError(msgspec.Struct):
    message: str
    code: int = 0
    grpc_code: int = 0  # up to 3.5


class _StreamBody(msgspec.Struct):
    """What a stream says instead of its next message."""

    error: _StreamError


_decoder: Final = msgspec.json.Decoder(_Body)
_stream_decoder: Final = msgspec.json.Decoder(_StreamBody)


def classify(status: int, body: bytes, *, logged: bool = True) -> tuple[str, bool]:
    """The text to record and whether the error is definite, from an answer that is not 200.

    `logged`: whether the request is one that goes through raft's log.
    """
    said = _said(body)
    if said is None:
        return f"http {status}", False
    message, code = said
    if row := table.get(message):
        return row.text, row.definite and (logged or message in unlogged)
    return f"code {code}: {message[:80]}", False


def message_of(body: bytes) -> str | None:
    """What an answer that is not 200 says, in etcd's words; None where it says nothing that is known."""
    said = _said(body)
    return None if said is None else said[0]


def _said(body: bytes) -> tuple[str, int] | None:
    """Message and code of an error."""
    try:
        error = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        try:
            streamed = _stream_decoder.decode(body).error
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        return streamed.message, streamed.code or streamed.grpc_code
    return error.message, error.code
