"""The history of sets as numbers: which element was added where, and which read shows which.

Elements are counted in order of the first add that did not fail, reads in order of completion. What a
read cannot show (nobody had begun to add it, or only adds that failed had) or shows twice is noted here.
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

_SKIP, _ADD, _FAILED, _ASK, _READ = range(5)
_plain: Final = frozenset((int, str, type(None)))  # such elements are their own identity


class _Row(msgspec.Struct, gc=False):
    value: Any
    key: Any = None


class _Set:
    """One key while the history is scanned: its number, its elements' numbers, what only failed adds tried."""

    __slots__ = ("failed", "ids", "key", "number")

    def __init__(self, number: int, key: Any) -> None:
        self.number, self.key = number, key
        self.ids: dict[Any, int] = {}
        self.failed: set[Any] = set()


class Seen:
    """The history as numbers: elements and reads are counted in order of first add and of completion."""

    def __init__(self, ctx: CheckContext, history: History) -> None:
        self.sets: list[_Set] = []
        self.odd: dict[tuple[int, str], tuple[int, Any, set[Any]]] = {}  # (set, kind) -> read, element, all
        owner, attempt, adds_at, adds_of = array("i"), array("i"), array("i"), array("i")
        reads_at, reads_of, sizes, shown = array("i"), array("i"), array("i"), array("i")
        self._scan(ctx, history, (owner, attempt, adds_at, adds_of, reads_at, reads_of, sizes, shown))

        def column(of: array[int]) -> NDArray[np.int64]:
            return np.frombuffer(of, dtype=np.int32).astype(np.int64) if of else np.zeros(0, np.int64)

        self.owner, self.attempt = column(owner), column(attempt)
        self.adds_at, self.adds_of = column(adds_at), column(adds_of)
        self.reads_at, self.reads_of = column(reads_at), column(reads_of)
        self.ends = np.concatenate((np.zeros(1, np.int64), np.cumsum(column(sizes))))
        self.element = column(shown)
        self.read = np.repeat(np.arange(len(sizes)), column(sizes))
        done = history.pair[self.adds_at] if len(self.adds_at) else self.adds_at
        ok = done >= 0
        ok[ok] = history.type[done[ok]] == OK
        self.acked_at, self.acked_of = done[ok].astype(np.int64), self.adds_of[ok]

    def _scan(self, ctx: CheckContext, history: History, into: tuple[array[int], ...]) -> None:
        owner, attempt, adds_at, adds_of, reads_at, reads_of, sizes, shown = into
        pair = history.pair.data
        keys: dict[Any, _Set] = {}
        asked: dict[int, _Set] = {}
        for position, (row, act) in enumerate(zip(history.rows(_Row), _acts(history), strict=True)):
            if act == _SKIP:
                continue
            if act == _READ:
                own = asked.pop(pair[position])
                found = self._elements(ctx, position, own, row.value, len(sizes))
                reads_at.append(position)
                reads_of.append(own.number)
                sizes.append(len(found))
                shown.extend(found)
                continue
            key = row.key if type(row.key) is str else identity(row.key)
            if key not in keys:
                keys[key] = _Set(len(keys), row.key)
                self.sets.append(keys[key])
            own = keys[key]
            if act == _ASK:
                asked[position] = own
                continue
            element = row.value if type(row.value) is int else identity(row.value)
            if act == _FAILED:
                own.failed.add(element)
                continue
            number = own.ids.setdefault(element, len(owner))
            if number == len(owner):
                owner.append(own.number)
                attempt.append(position)
            adds_at.append(position)
            adds_of.append(number)

    def _elements(self, ctx: CheckContext, position: int, own: _Set, value: Any, read: int) -> list[int]:
        """The numbers of a read's elements, each once; what cannot be there is noted and left out."""
        if type(value) is not list:
            raise malformed(ctx, position, f"a read of a set returned {text(value)}; expected a list")
        said = value
        if not _plain.issuperset(map(type, value)):
            value = [identity(x) for x in value]
        numbers: list[int | None] = list(map(own.ids.get, value))
        if len(set(value)) != len(value):
            met: set[Any] = set()
            for element, shown in zip(value, said, strict=True):
                if element in met:
                    self._note(own, "duplicated", read, element, shown)
                met.add(element)
            numbers = list(dict.fromkeys(numbers))
        if None in numbers:
            for element, shown in zip(value, said, strict=True):
                if element not in own.ids:
                    kind = "failed-add" if element in own.failed else "phantom"
                    self._note(own, kind, read, element, shown)
        return [n for n in numbers if n is not None]

    def _note(self, own: _Set, kind: str, read: int, element: Any, shown: Any) -> None:
        """Keep the first read and element of each set and kind, count the elements."""
        self.odd.setdefault((own.number, kind), (read, shown, set()))[2].add(element)


def _acts(history: History) -> bytes:
    """For each event what it means to the scan."""
    names = {name: code for code, name in enumerate(history.f_names)}
    add, read = history.f == names.get("add", -1), history.f == names.get("read", -1)
    ends = np.where(history.pair >= 0, history.type[history.pair], 255)
    invoke = history.client & (history.type == INVOKE)
    acts = np.zeros(len(history), np.uint8)
    acts[invoke & add] = _ADD
    acts[invoke & add & (ends == FAIL)] = _FAILED
    acts[invoke & read & (ends == OK)] = _ASK
    acts[history.client & read & (history.type == OK)] = _READ
    return acts.tobytes()
