"""The history of watches as numbers: which put made which events, and which watch delivered which.

What a put writes to one sub is a *slot*: puts are counted in order of invocation, slots with them,
watches in order of completion. Each event of a watch is traced to its slot while the history is
scanned, so that a put which had not begun by then explains nothing.
"""

from __future__ import annotations

from array import array
from typing import Any, Final, TypeVar

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
    value: msgspec.Raw
    key: Any = None
    ext: dict[str, Any] | None = None


class _Answer(msgspec.Struct, gc=False):
    """What a watch returned."""

    start: int = msgspec.field(name="from")
    events: list[tuple[int, str, Any]]
    next: int
    bookmark: int | None


_Pairs = list[tuple[str, Any]]
_pairs: Final = msgspec.json.Decoder(_Pairs)
_answers: Final = msgspec.json.Decoder(_Answer)


class _Prefix:
    """One key: its number; for each sub its number and slots by value; what only failed puts tried."""

    __slots__ = ("failed", "key", "number", "slots")

    def __init__(self, number: int, key: Any) -> None:
        self.number, self.key = number, key
        self.slots: dict[str, tuple[int, dict[Any, int]]] = {}
        self.failed: set[Any] = set()


class Seen:
    """Columns over puts, slots, watches and events; see the module."""

    def __init__(self, ctx: CheckContext, history: History) -> None:
        self.prefixes: list[_Prefix] = []
        self.subs: dict[str, int] = {}  # sub -> number, over all prefixes
        self.phantoms: list[tuple[int, int, str]] = []  # watch, place of the event, why
        self._ctx = ctx
        self._put_at, self._put_of, self._put_rev = array("i"), array("i"), array("q")
        self._put_sizes, self._slot_sub = array("i"), array("i")
        self._untraced: list[int] = []  # slots
        self._watch_at, self._watch_of = array("i"), array("i")
        self._from, self._next, self._bookmark, self._sizes = (array("q") for _ in range(4))
        self._event_slot, self._event_rev = array("i"), array("q")
        self._scan(history)

        def column(of: array[int]) -> NDArray[np.int64]:
            return np.array(of, dtype=np.int64)

        self.put_at, self.put_of = column(self._put_at), column(self._put_of)
        self.put_revision = column(self._put_rev)  # 0: not acknowledged with one
        self.slot_put = np.repeat(np.arange(len(self.put_at)), column(self._put_sizes))
        self.slot_sub = column(self._slot_sub)
        self.slot_traced = np.ones(len(self.slot_sub), np.bool_)
        self.slot_traced[self._untraced] = False
        self.watch_at, self.watch_of = column(self._watch_at), column(self._watch_of)
        self.asked_from, self.next, self.bookmark = map(column, (self._from, self._next, self._bookmark))
        sizes = column(self._sizes)
        self.ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
        self.event_watch = np.repeat(np.arange(len(sizes)), sizes)
        self.event_slot, self.event_revision = column(self._event_slot), column(self._event_rev)

    def _scan(self, history: History) -> None:
        pair = history.pair.data
        keys: dict[Any, _Prefix] = {}
        puts: dict[int, int] = {}  # invocation -> put
        asked: dict[int, _Prefix] = {}
        self.acknowledged = 0
        for position, (row, act) in enumerate(zip(history.rows(_Row), _acts(history), strict=True)):
            if act == _SKIP:
                continue
            if act == _DONE:
                put = puts.pop(pair[position])
                self.acknowledged += 1
                if row.ext and "revision" in row.ext:
                    self._put_rev[put] = self._revision(position, row.ext["revision"], "ext.revision")
                continue
            if act == _WATCH:
                self._watch(position, asked.pop(pair[position]), row.value)
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
        pairs = self._pairs(position, value)
        self._put_at.append(position)
        self._put_of.append(own.number)
        self._put_rev.append(0)
        self._put_sizes.append(len(pairs))
        slot = len(self._slot_sub)
        for sub, written in pairs:
            of_sub = own.slots.get(sub)
            if of_sub is None:
                of_sub = own.slots[sub] = (self.subs.setdefault(sub, len(self.subs)), {})
            number, slots = of_sub
            v = written if type(written) is int else identity(written)
            self._slot_sub.append(number)
            found = UNTRACED if v is None else slots.setdefault(v, slot)
            if found != slot:
                self._untraced.append(slot)
                slots[v] = UNTRACED
                if found >= 0:
                    self._untraced.append(found)
            slot += 1

    def _pairs(self, position: int, value: Any) -> _Pairs:
        expected = "expected a list of [sub, value], each sub a text of its own"
        try:
            pairs = _take(value, _pairs)
        except msgspec.ValidationError as e:
            raise malformed(
                self._ctx, position, f"a put below a prefix is of {_shown(value)}: {e}; {expected}"
            ) from None
        if len(pairs) > 1 and len({sub for sub, _ in pairs}) != len(pairs):
            raise malformed(self._ctx, position, f"a put below a prefix is of {_shown(value)}; {expected}")
        return pairs

    def _watch(self, position: int, own: _Prefix, value: Any) -> None:
        try:
            answer = _take(value, _answers)
        except msgspec.ValidationError as e:
            expected = 'expected {"from", "events": [[revision, sub, value], ...], "next", "bookmark"}'
            raise malformed(
                self._ctx, position, f"a watch returned {_shown(value)}: {e}; {expected}"
            ) from None
        number, slots, events = len(self._watch_at), own.slots, answer.events
        traced: list[int] = []
        for _, sub, v in events:
            found = slots.get(sub)
            if found is None:
                traced.append(PHANTOM)
            else:
                traced.append(found[1].get(v if type(v) is int else identity(v), PHANTOM))
        if PHANTOM in traced:
            for place, slot in enumerate(traced):
                if slot == PHANTOM:
                    _, sub, v = events[place]
                    why = "failed" if (sub, identity(v)) in own.failed else "never"
                    self.phantoms.append((number, place, why))
        revisions = [r for r, _, _ in events]
        mark = -1 if answer.bookmark is None else answer.bookmark
        bounds = (answer.start, answer.next, max(0, mark), *revisions)
        for r in (min(bounds), max(bounds)):
            self._revision(position, r, "a watch's revision")
        self._event_rev.extend(revisions)
        self._event_slot.extend(traced)
        self._watch_at.append(position)
        self._watch_of.append(own.number)
        self._from.append(answer.start)
        self._next.append(answer.next)
        self._bookmark.append(mark)
        self._sizes.append(len(events))

    def _revision(self, position: int, value: Any, what: str) -> int:
        if type(value) is not int or not 0 <= value < _most:
            expected = "expected a revision, an integer from 0 on"
            raise malformed(self._ctx, position, f"{what} is {text(value)}; {expected}")
        return value


_T = TypeVar("_T")


def _take(value: Any, decoder: msgspec.json.Decoder[_T]) -> _T:
    """A value of a row, which is text where the history is a file, as what the decoder decodes to.

    Raises: msgspec.ValidationError.
    """
    if type(value) is msgspec.Raw:
        return decoder.decode(value)
    return msgspec.convert(value, decoder.type)


def _shown(value: Any) -> str:
    return text(msgspec.json.decode(value) if type(value) is msgspec.Raw else value)


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
