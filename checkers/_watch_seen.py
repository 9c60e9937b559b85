"""The history of watches as numbers: which put made which events, and which watch delivered which.

What a put writes to one sub is a *slot*: puts are counted in order of invocation, slots with them,
watches in order of completion. Each event of a watch is traced to its slot while the history is
scanned, so that a put which had not begun by then explains nothing.
"""

from __future__ import annotations

from array import array
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from checkers._windows import malformed
from checkers.explain import text
from harness.core.checker import CheckContext
from harness.core.history import FAIL, INVOKE, OK, History, identity

UNTRACED: Final = -2  # a deletion, or a value that several puts wrote to one sub
PHANTOM: Final = -1
_SKIP, _PUT, _FAILED, _DONE, _ASK, _WATCH = range(6)
_most: Final = 2**62  # of a revision


class _Row(msgspec.Struct, gc=False):
    value: Any
    key: Any = None
    ext: dict[str, Any] | None = None


class _Prefix:
    """One key: its number, slots by sub and value, and what only failed puts tried."""

    __slots__ = ("failed", "key", "number", "slots")

    def __init__(self, number: int, key: Any) -> None:
        self.number, self.key = number, key
        self.slots: dict[Any, dict[Any, int]] = {}
        self.failed: set[Any] = set()


class Seen:
    """Columns over puts, slots, watches and events; see the module."""

    def __init__(self, ctx: CheckContext, history: History) -> None:
        self.prefixes: list[_Prefix] = []
        self.subs: dict[Any, int] = {}  # sub -> number, over all prefixes
        self.phantoms: list[tuple[int, int, str]] = []  # watch, place of the event, why
        self.repeated = 0  # values that several puts wrote to one sub
        self._ctx = ctx
        self._put_at, self._put_of, self._put_rev = array("i"), array("i"), array("q")
        self._slot_put, self._slot_sub, self._slot_traced = array("i"), array("i"), array("b")
        self._watch_at, self._watch_of = array("i"), array("i")
        self._from, self._next, self._bookmark, self._sizes = (array("q") for _ in range(4))
        self._event_slot, self._event_rev = array("i"), array("q")
        self._scan(history)

        def column(of: array[int]) -> NDArray[np.int64]:
            return np.array(of, dtype=np.int64)

        self.put_at, self.put_of = column(self._put_at), column(self._put_of)
        self.put_revision = column(self._put_rev)  # 0: not acknowledged with one
        self.slot_put, self.slot_sub = column(self._slot_put), column(self._slot_sub)
        self.slot_traced = column(self._slot_traced).astype(np.bool_)
        self.watch_at, self.watch_of = column(self._watch_at), column(self._watch_of)
        self.asked_from, self.next, self.bookmark = map(column, (self._from, self._next, self._bookmark))
        sizes = column(self._sizes)
        self.ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
        self.event_watch = np.repeat(np.arange(len(sizes)), sizes)
        self.event_slot, self.event_revision = column(self._event_slot), column(self._event_rev)

    def _scan(self, history: History) -> None:
        pair = history.pair
        keys: dict[Any, _Prefix] = {}
        puts: dict[int, int] = {}  # invocation -> put
        asked: dict[int, _Prefix] = {}
        self.acknowledged = 0
        for position, (row, act) in enumerate(zip(history.rows(_Row), _acts(history), strict=True)):
            if act == _SKIP:
                continue
            if act == _DONE:
                put = puts.pop(int(pair[position]))
                self.acknowledged += 1
                if row.ext and "revision" in row.ext:
                    self._put_rev[put] = self._revision(position, row.ext["revision"], "ext.revision")
                continue
            if act == _WATCH:
                self._watch(position, asked.pop(int(pair[position])), row.value)
                continue
            key = row.key if type(row.key) is str else identity(row.key)
            own = keys.get(key)
            if own is None:
                own = keys[key] = _Prefix(len(keys), row.key)
                self.prefixes.append(own)
            if act == _ASK:
                asked[position] = own
            elif act == _FAILED:
                own.failed.update((s, identity(v)) for s, v in self._pairs(position, row.value))
            else:
                puts[position] = len(self._put_at)
                self._put(position, own, row.value)

    def _put(self, position: int, own: _Prefix, value: Any) -> None:
        put = len(self._put_at)
        self._put_at.append(position)
        self._put_of.append(own.number)
        self._put_rev.append(0)
        for sub, written in self._pairs(position, value):
            slots = own.slots.get(sub)
            if slots is None:
                slots = own.slots[sub] = {}
                self.subs.setdefault(sub, len(self.subs))
            v = written if type(written) is int else identity(written)
            slot = len(self._slot_put)
            self._slot_put.append(put)
            self._slot_sub.append(self.subs[sub])
            if v is None:
                slots[v] = UNTRACED
                self._slot_traced.append(0)
            elif v in slots:
                if slots[v] >= 0:
                    self._slot_traced[slots[v]] = 0
                    self.repeated += 1
                slots[v] = UNTRACED
                self._slot_traced.append(0)
            else:
                slots[v] = slot
                self._slot_traced.append(1)

    def _pairs(self, position: int, value: Any) -> list[Any]:
        good = type(value) is list and all(
            type(p) is list and len(p) == 2 and type(p[0]) is str for p in value
        )
        if not good or len({p[0] for p in value}) != len(value):
            expected = "expected a list of [sub, value], each sub a text of its own"
            raise malformed(self._ctx, position, f"a put below a prefix is of {text(value)}; {expected}")
        return list(value)

    def _watch(self, position: int, own: _Prefix, value: Any) -> None:
        if not isinstance(value, dict) or type(value.get("events")) is not list:
            expected = 'expected an object with "from", "events", "next" and "bookmark"'
            raise malformed(self._ctx, position, f"a watch returned {text(value)}; {expected}")
        number = len(self._watch_at)
        first, following = (
            self._revision(position, value.get(name), f"a watch's {name!r}") for name in ("from", "next")
        )
        mark = value.get("bookmark")
        events = value["events"]
        slots = own.slots
        traced: list[int] = []
        trace = traced.append
        try:
            for _, sub, v in events:
                found = slots.get(sub)
                trace(PHANTOM if found is None else found.get(v if type(v) is int else identity(v), PHANTOM))
            self._event_rev.extend([r for r, _, _ in events])
        except (TypeError, ValueError, OverflowError):
            self._refuse(position, events)
        if not all(type(r) is int for r, _, _ in events):
            self._refuse(position, events)
        if PHANTOM in traced:
            for place, slot in enumerate(traced):
                if slot == PHANTOM:
                    _, sub, v = events[place]
                    why = "failed" if (sub, identity(v)) in own.failed else "never"
                    self.phantoms.append((number, place, why))
        self._event_slot.extend(traced)
        self._watch_at.append(position)
        self._watch_of.append(own.number)
        self._from.append(first)
        self._next.append(following)
        self._bookmark.append(-1 if mark is None else self._revision(position, mark, "a watch's 'bookmark'"))
        self._sizes.append(len(events))

    def _refuse(self, position: int, events: list[Any]) -> None:
        bad = next(
            (
                e
                for e in events
                if not (type(e) is list and len(e) == 3 and type(e[0]) is int and abs(e[0]) < _most)
                or type(e[1]) is not str
            ),
            events,
        )
        expected = "expected [revision, sub, value]"
        raise malformed(self._ctx, position, f"a watch delivered {text(bad)}; {expected}")

    def _revision(self, position: int, value: Any, what: str) -> int:
        if type(value) is not int or not 0 <= value < _most:
            expected = "expected a revision, an integer from 0 on"
            raise malformed(self._ctx, position, f"{what} is {text(value)}; {expected}")
        return value


def _acts(history: History) -> bytes:
    """For each event what it means to the scan."""
    names = {name: code for code, name in enumerate(history.f_names)}
    put, watch = history.f == names.get("put", -1), history.f == names.get("watch", -1)
    ends = np.where(history.pair >= 0, history.type[history.pair], 255)
    invoke = history.client & (history.type == INVOKE)
    answer = history.client & (history.type == OK)
    acts = np.zeros(len(history), np.uint8)
    acts[invoke & put] = _PUT
    acts[invoke & put & (ends == FAIL)] = _FAILED
    acts[answer & put] = _DONE
    acts[invoke & watch & (ends == OK)] = _ASK
    acts[answer & watch] = _WATCH
    return acts.tobytes()
