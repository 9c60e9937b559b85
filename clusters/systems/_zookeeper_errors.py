"""Which of ZooKeeper's errors prove that a change did not happen: one table, with the reason for each row.

Only what is in this table is definite; every other code is of unknown outcome for a change. A read that errs
has no effect to be unsure of and may fail definitely.

A change goes to the leader, whose first processor looks at it in the light of all that is proposed and not
committed yet. What it refuses it turns into an error that takes the change's place in the log, and the
answer is given when that is committed: by then the change can not happen any more. These are the errors of the
data model. Those of sessions and connections are also said of requests that were handed on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

NO_NODE: Final = -101
BAD_VERSION: Final = -103
NODE_EXISTS: Final = -110


class Row(NamedTuple):
    """The meaning of one code. `text` is what a history records."""

    text: str
    definite: bool
    why: str


NEVER: Final = True  # definite: it did not happen and never will
MAYBE: Final = False

_refused: Final = "the leader's first processor refuses it, and its error stands in the log instead"
table: Final[dict[int, Row]] = {
    # The data model.
    NO_NODE: Row("no node", NEVER, _refused),
    BAD_VERSION: Row("bad version", NEVER, _refused),
    NODE_EXISTS: Row("node exists", NEVER, _refused),
    -111: Row("not empty", NEVER, _refused),
    -108: Row("no children for ephemerals", NEVER, _refused),
    -8: Row("bad arguments", NEVER, _refused),
    -102: Row("no auth", NEVER, _refused),
    -114: Row("invalid ACL", NEVER, _refused),
    -125: Row("quota exceeded", NEVER, _refused),
    -6: Row("unimplemented", NEVER, "the server knows no such request"),
    -127: Row("throttled", NEVER, "by its documentation not executed at all"),
    # Rows that say what the default says too: they fix the recorded text, and keep the next reader from
    # "improving" them.
    -112: Row("session expired", MAYBE, "a session may expire while its request is on its way"),
    -118: Row("session moved", MAYBE, "another server has the session; what was handed on may be done"),
    -4: Row("connection loss", MAYBE, "what was sent may be done"),
    -7: Row("operation timeout", MAYBE, "what was sent may be done"),
    -122: Row("request timeout", MAYBE, "what was handed on may be done"),
    -5: Row("marshalling error", MAYBE, "said of whatever the server stumbles over"),
    -2: Row("runtime inconsistency", MAYBE, "of a part of a transaction; which says nothing alone"),
    -3: Row("data inconsistency", MAYBE, "nothing is known of it"),
}


def classify(code: int) -> tuple[str, bool]:
    """The text to record and whether the error is definite, for a change."""
    row = table.get(code)
    return (row.text, row.definite) if row else (f"code {code}", MAYBE)
