"""A map of entries that are read, written and compared-and-set together: all of a transaction, or nothing.

A `txn` is a list of steps `["r", entry, null]`, `["w", entry, value]`, `["cas", entry, old, new]`, each entry
named once; answered, the reads are filled in. A `read` returns the whole map as an object. What is not there is
null. One that failed for a mismatch shows that one of its comparisons at least did not hold.
"""

from __future__ import annotations

from typing import Any, Final

from checkers.models.model import INCONSISTENT, Call


class KeyValue:
    """States are frozen sets of (entry, value) of what is there."""

    name = "kv"
    summary = "a map whose entries are read, written and compared-and-set in transactions; starts empty"
    fs: frozenset[str] = frozenset({"txn", "read"})
    compares: frozenset[str] = frozenset({"txn"})
    initial: Final[frozenset[Any]] = frozenset()

    def step(self, state: Any, call: Call) -> Any:
        """As `Model.step`."""
        if call.f == "read":
            seen = frozenset((k, v) for k, v in call.result if v is not None) if call.known else state
            return state if seen == state else INCONSISTENT
        now = dict(state)
        steps = call.result if call.known and not call.failed else call.value
        met = all(now.get(s[1]) == s[2] for s in steps if s[0] == "cas")
        if call.failed:
            return state if not met else INCONSISTENT
        if not met or (call.known and any(now.get(s[1]) != s[2] for s in steps if s[0] == "r")):
            return INCONSISTENT
        for kind, entry, *values in steps:
            if kind == "r":
                continue
            if values[-1] is None:
                now.pop(entry, None)
            else:
                now[entry] = values[-1]
        return frozenset(now.items())
