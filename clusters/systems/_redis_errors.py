"""Which of Redis's errors prove that a command did not happen: one table, with the reason for each row.

Only what is in this table is definite. The reasons were read in Redis 7.0's source (`processCommand` of server.c,
`scriptCall` and `scriptPrepareForRun` of script.c): what is refused there has not been executed. A script of ours
does all its writes after all its checks, and what refuses a write refuses the first one of it.

Definite says nothing about durability: what Redis acknowledges it may lose in a failover all the same.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Row(NamedTuple):
    """The meaning of one error code. `text` is what a history records."""

    text: str
    definite: bool
    why: str


NEVER: Final = True  # definite: it did not happen and never will
MAYBE: Final = False

# By the first word of the answer; the library takes that away from some, and makes a class of it.
table: Final[dict[str, Row]] = {
    "READONLY": Row("read-only replica", NEVER, "a replica refuses writes before it executes them"),
    "LOADING": Row("loading", NEVER, "refused while the data is being read from disk"),
    "MASTERDOWN": Row(
        "master down", NEVER, "a replica that lost its primary and is not to serve stale data refuses"
    ),
    "NOREPLICAS": Row(
        "too few replicas", NEVER, "min-replicas-to-write, checked before the write is executed"
    ),
    "MISCONF": Row("cannot persist", NEVER, "refused since the last write to disk failed"),
    "BUSY": Row("busy", NEVER, "refused while another script runs"),
    "WRONGTYPE": Row("wrong type", NEVER, "the type of the key is looked at before it is changed"),
    "NOPERM": Row("no permission", NEVER, "refused before anything else"),
    "OOM": Row("out of memory", MAYBE, "refused before execution, but for scripts, which may be half done"),
    "UNBLOCKED": Row("unblocked", MAYBE, "said to blocked clients of a primary that was demoted"),
}


def classify(error: BaseException) -> tuple[str, bool] | None:
    """The text to record and whether the error is definite, of an answer that is an error; None for what is none
    of the server's (the connection, a timeout, garbage)."""
    from redis import exceptions as x

    codes: dict[type[BaseException], str] = {
        x.ReadOnlyError: "READONLY",
        x.BusyLoadingError: "LOADING",
        x.MasterDownError: "MASTERDOWN",
        x.OutOfMemoryError: "OOM",
        x.NoPermissionError: "NOPERM",
    }
    for kind, code in codes.items():
        if isinstance(error, kind):
            return table[code].text, table[code].definite
    if not isinstance(error, x.ResponseError):
        return None
    code, _, _ = str(error).partition(" ")
    if row := table.get(code):
        return row.text, row.definite
    return f"error: {str(error)[:80]}", False
