"""Which of JetStream's errors prove that a publish did not happen: one table, with the reason for each row.

Only what is in this table is definite. Everything else (an unknown code, garbage) is indeterminate for a
publish. A read that errs has no effect to be unsure of and fails definitely; so does the creation of a
stream before the first publish to it, without which nothing is published.

The reasons were read in the server's source (2.10, 2.11, 2.12, 2.15): a publish goes from the client's
node to the stream's leader, which checks it (`processClusteredInboundMsg`), proposes it to raft, and
answers when it has applied it. A refusal instead of the proposal proves nothing by itself: for some seconds a
stream may have two leaders, one deposed and unaware, and the message goes to both. Definite is what every
leader must refuse.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec


class Row(NamedTuple):
    """The meaning of one code. `text` is what a history records."""

    text: str
    definite: bool
    why: str


NEVER: Final = True
MAYBE: Final = False
MOVED: Final = frozenset({10071, 10164})  # the expected last sequence is not the last one
NO_MESSAGE: Final = 10037
NO_STREAM: Final = 10059
NO_CONSUMER: Final = 10014

table: Final[dict[int, Row]] = {
    10071: Row(
        "wrong last sequence",
        MAYBE,
        "not proposed by the leader that says it; but a deposed one says it while the true one takes the message",
    ),
    10164: Row("wrong last sequence", MAYBE, "as before: another publish to the subject is under way"),
    10158: Row("id in process", MAYBE, "another message with this id is under way, or is the same one"),
    10060: Row("another stream expected", NEVER, "every leader refuses alike"),
    10054: Row("message too large", NEVER, "every leader refuses alike: the limit is the stream's"),
    10002: Row("account limits", MAYBE, "checked before the proposal, and by a replica that applies"),
    10047: Row("store limits", MAYBE, "a replica alone may be full when it applies"),
    10023: Row("insufficient resources", MAYBE, "said before the proposal, and by a replica that applies"),
    10077: Row("store failed", MAYBE, "of the leader; others may have stored it"),
    10008: Row("temporarily unavailable", MAYBE, "not said of publishes; nothing is known of it"),
    10009: Row("not the leader", MAYBE, "not said of publishes; nothing is known of it"),
}


class _Error(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class Answer(msgspec.Struct):
    """What any API answer and any acknowledgement may hold instead of an answer."""

    error: _Error | None = None


class Acknowledged(msgspec.Struct):
    """A publish's acknowledgement; `val` is a counter's new value."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    val: str | None = None
    error: _Error | None = None


acknowledged_decoder: Final = msgspec.json.Decoder(Acknowledged)
answer_decoder: Final = msgspec.json.Decoder(Answer)


def classify(error: _Error) -> tuple[str, bool]:
    """The text to record for an error of a publish, and whether it is definite."""
    if row := table.get(error.err_code):
        return row.text, row.definite
    return f"code {error.err_code}: {error.description[:80]}", False
