"""What a lock guards: which tokens its writes carried, in what order they were accepted, and what a
holder's read and write had between them. Private to `lock`, where the properties are explained.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from checkers._findings import Findings, most
from checkers._operations_of import NEVER, Call
from checkers.explain import Clock
from harness.core.history import FAIL, OK, identity


class Write(msgspec.Struct, frozen=True, gc=False):
    """A write of `value` with `token` that may have been accepted; or a grant of that token, which a
    resource that asks the lock itself knows as well (`granted`)."""

    at: int
    done: int  # NEVER where its own completion does not say that it was
    token: int
    value: Any
    begin: int
    end: int
    process: int | str
    granted: bool = False


class _Pair(msgspec.Struct, frozen=True, gc=False):
    """A holder's read and its next write, `token` its own."""

    read_at: int
    read_done: int
    write_at: int
    token: int


class Guarded(msgspec.Struct):
    """The reads and writes of one resource. `seen`: value -> where a read that returned it completed."""

    writes: list[Write] = []
    seen: dict[Any, tuple[int, int]] = {}
    pairs: list[_Pair] = []
    last_read: dict[int, Call] = {}  # by section: the read that nothing was done after

    def take(self, role: str, call: Call, section: int | None) -> None:
        """Take in a read or write, done in the section that its acquire names; None: in none."""
        if role == "read":
            if call.how == OK and call.result is not None:
                value = identity(call.result)
                if value not in self.seen or self.seen[value][0] > call.done:
                    self.seen[value] = (call.done, call.at)
            if section is not None and call.how == OK:
                self.last_read[section] = call
            return
        read = self.last_read.pop(section, None) if section is not None else None
        match call.value:
            case [value, int(token)] if call.how != FAIL and type(token) is int:
                done = call.done if call.how == OK else NEVER
                self.writes.append(
                    Write(call.at, done, token, identity(value), call.begin, call.end, call.process)
                )
                if read is not None and call.how == OK:
                    self.pairs.append(_Pair(read.at, read.done, call.at, token))


def check(
    key: Any, guarded: Guarded, grants: Sequence[Write], found: Findings, *, overlap_allowed: bool
) -> None:
    """Report stale writes, after `grants` too, and lost updates where nothing else shows them; those are
    observations where holders may overlap and the resource does not know of grants."""
    accepted = []  # (position by which it certainly was, the write, who shows it)
    times = Counter(w.value for w in guarded.writes)
    for w in guarded.writes:
        by, witness = w.done, w.at
        # A read that returned the value shows that it was accepted, where one write alone can have put it there.
        if times[w.value] == 1 and w.value in guarded.seen:
            by, witness = min((by, witness), guarded.seen[w.value])
        if w.at < by < NEVER:
            accepted.append((by, w, witness))
    accepted += [(g.done, g, g.at) for g in grants]
    accepted.sort(key=lambda x: x[0])
    largest = most([w.token for _, w, _ in accepted])
    ends = [by for by, _, _ in accepted]
    for _, w, witness in accepted:
        place = bisect_right(ends, w.at) - 1
        if place < 0 or w.granted:
            continue
        _, other, shown_by = accepted[largest[place]]
        if other.token > w.token:
            found.violation(
                "stale-write", key, (other.at, shown_by, w.at, witness), _stale_write, key, other, w
            )
    _lost_updates(key, guarded, found, observe=overlap_allowed and not grants)


def _stale_write(clock: Clock, key: Any, other: Write, w: Write) -> str:
    before = f"it had taken one by process {other.process} with the larger token {other.token}"
    if other.granted:
        before = (
            f"process {other.process} had been granted the larger {other.token} by {clock(other.end)}, which it"
            " looks up as it writes"
        )
    return (
        f"{_what(key)} took a write by process {w.process} with token {w.token}, asked for at"
        f" {clock(w.begin)}, after {before}: who holds {w.token} had lost the lock and must be refused"
    )


def _lost_updates(key: Any, guarded: Guarded, found: Findings, *, observe: bool) -> None:
    """A write with a smaller token wholly between a holder's read and its write; with a larger one
    the holder's own write is stale already."""
    writes = [w for w in guarded.writes if w.done < NEVER]
    begins = [w.at for w in writes]
    soonest = list(range(len(writes)))  # of the writes from here on, the one that ended first
    for i in range(len(writes) - 2, -1, -1):
        if writes[soonest[i + 1]].done < writes[i].done:
            soonest[i] = soonest[i + 1]
    for p in guarded.pairs:
        place = bisect_right(begins, p.read_done)
        if place == len(writes):
            continue
        w = writes[soonest[place]]
        if w.done >= p.write_at or w.token >= p.token:
            continue
        positions = (p.read_at, w.at, p.write_at)
        if observe:
            found.observation("lost-update", positions, _lost_update, key, w, p.token)
        else:
            found.violation("lost-update", key, positions, _lost_update, key, w, p.token)


def _lost_update(clock: Clock, key: Any, w: Write, token: int) -> str:
    return (
        f"{_what(key)} took a write by process {w.process} with token {w.token} at {clock(w.end)}, between a"
        f" read and a write by the holder of the newer token {token}, who overwrote it without having seen it"
    )


def _what(key: Any) -> str:
    return "what the lock guards" if key is None else f"what {key} guards"
