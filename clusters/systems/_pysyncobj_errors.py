"""Which of PySyncObj's errors prove that a command did not happen: one table, with the reason for each row.

Only what is in this table is definite. The reasons were read in the library's source (`syncobj.py` of 0.3.11,
0.3.15 and 0.3.17). A command goes: the queue of the node that was asked -> that node, if it leads, appends it to
its log; else sends it to the leader that it knows, whose own queue it joins -> the leader answers with index
and term of the entry -> the node that was asked waits until it applies that index itself. A command is sent to a
leader at most once and appended at most once, and is never put back. An error from before the append is
definite; one that says no more than that the way back was lost is not.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec


class Row(NamedTuple):
    """The meaning of one reason. `text` is what a history records."""

    text: str
    definite: bool
    why: str


NEVER: Final = True  # definite: it did not happen and never will
MAYBE: Final = False

table: Final[dict[str, Row]] = {
    "QUEUE_FULL": Row("queue full", NEVER, "refused on the way into a queue, of this node or of the leader"),
    "MISSING_LEADER": Row(
        "no leader",
        NEVER,
        "taken out of a queue by a node that neither leads nor knows who does, and dropped",
    ),
    "NOT_LEADER": Row(
        "not leader",
        NEVER,
        "said only by a node that was taken for the leader, found in its queue what another had sent, and did not"
        " append it (the documentation's words, 'did not have time to commit', say less)",
    ),
    "REQUEST_DENIED": Row("denied", NEVER, "a change of membership that was not appended; we send none"),
    "DISCARDED": Row(
        "discarded",
        NEVER,
        "at the index where the leader had put it an entry of another term was applied; Raft's log has room for one",
    ),
    "LEADER_CHANGED": Row(
        "leader changed", MAYBE, "sent to the old leader, which may have appended and replicated it"
    ),
    "UNKNOWN_OUTCOME": Row(
        "unknown outcome",
        MAYBE,
        "its index was already applied when the leader's answer came; it may be there",
    ),
    "TIMEOUT": Row("server timeout", MAYBE, "our server has waited long enough; it may still be applied"),
    "STOPPING": Row("stopping", NEVER, "our server is ending, and has not handed it to the library"),
    # Our server's, of what the state machine found when the command was applied, on every node alike.
    "mismatch": Row(
        "mismatch", NEVER, "the comparison is one step of the log, and nothing is changed after it"
    ),
    "held": Row("held", NEVER, "the library's lock said no when the command was applied"),
    "stale token": Row("stale token", NEVER, "compared in the step that would have written"),
}


class _Body(msgspec.Struct):
    error: str


_decoder: Final = msgspec.json.Decoder(_Body)


def classify(status: int, body: bytes) -> tuple[str, bool]:
    """The text to record and whether the error is definite, from an answer that is not 200."""
    try:
        said = _decoder.decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"http {status}", False
    if row := table.get(said):
        return row.text, row.definite
    return f"http {status}: {said[:80]}", False
