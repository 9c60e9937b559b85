"""What is wrong with which event of which watch, and how to say so; see `checkers.watch`.

Whether something is missing is found by counting: the slots that happened between the revision asked for
and the one reached, against those of them that were delivered. Only where the counts differ is it
looked up what is missing.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from checkers._watch_seen import Seen
from checkers._windows import Operation, anomaly, more, of, operation
from checkers.explain import Clock, text, who
from harness.core.checker import Anomaly
from harness.core.history import History

KINDS: Final = (
    "lost",
    "reliable",
    "bookmarkable",
    "resumable",
    "atomic",
    "phantom",
    "disagree",
    "unique",
    "past",
    "ordered",
)
_looked_up: Final = 20  # watches of one prefix in which it is looked up what is missing
_around: Final = 5  # events shown on each side of the one that matters


class _Found(msgspec.Struct):
    """The first anomaly of a kind below a prefix. `slot` is the put's, `event` the place among all events,
    either -1; `other` another slot or event, as the kind has it."""

    kind: str
    watch: int
    slot: int = -1
    event: int = -1
    other: int = -1
    why: str = ""
    times: int = 1


class Judge:
    """Holds every event against the puts, and every watch against what it had to deliver."""

    def __init__(self, history: History, seen: Seen) -> None:
        self._history, self._seen = history, seen
        self.found: dict[tuple[int, str], _Found] = {}
        self.final = history.final[seen.watch_at] if len(seen.watch_at) else np.zeros(0, np.bool_)
        self.last = np.full(len(seen.watch_at), -1, np.int64)
        np.maximum.at(self.last, seen.event_watch, seen.event_revision)
        self.reach = np.maximum(np.maximum(self.last, seen.bookmark), seen.next - 1)
        self._revisions()
        self._single_events()
        self._agreement()
        self._missing()

    def _note(self, found: _Found) -> None:
        """Keep the first of each prefix and kind, count the rest."""
        at = (int(self._seen.watch_of[found.watch]), found.kind)
        if at in self.found:
            self.found[at].times += 1
        else:
            self.found[at] = found

    def _revisions(self) -> None:
        """When each put happened: as acknowledged, else as first delivered; 0 where nobody knows."""
        seen = self._seen
        self.revision = seen.put_revision.copy()
        traced = np.flatnonzero(seen.event_slot >= 0)
        put = seen.slot_put[seen.event_slot[traced]]
        shown = np.zeros(len(seen.put_at), np.int64)
        shown[put[::-1]] = seen.event_revision[traced][::-1]
        unknown = self.revision == 0
        self.revision[unknown] = shown[unknown]
        self.slot_revision = self.revision[seen.slot_put] if len(seen.slot_put) else seen.slot_put

    def _single_events(self) -> None:
        """`ordered`, `past`, `unique`, `phantom`, and a put that was delivered at another's revision."""
        seen = self._seen
        watch, revision, slot = seen.event_watch, seen.event_revision, seen.event_slot
        for event in np.flatnonzero((revision[1:] < revision[:-1]) & (watch[1:] == watch[:-1])).tolist():
            self._note(_Found(kind="ordered", watch=int(watch[event + 1]), event=event + 1, other=event))
        for event in np.flatnonzero(revision < seen.asked_from[watch]).tolist():
            self._note(_Found(kind="past", watch=int(watch[event]), event=event))
        for number, place, why in seen.phantoms:
            self._note(_Found(kind="phantom", watch=number, event=int(seen.ends[number]) + place, why=why))
        traced = np.flatnonzero(slot >= 0)
        code = watch[traced] * max(1, len(seen.slot_put)) + slot[traced]
        order = np.argsort(code, kind="stable")
        again = np.flatnonzero(code[order][1:] == code[order][:-1])
        self._twice = len(again) > 0
        for i in again.tolist():
            event, other = int(traced[order[i + 1]]), int(traced[order[i]])
            self._note(_Found(kind="unique", watch=int(watch[event]), event=event, other=other))
        for event in traced[revision[traced] != self.slot_revision[slot[traced]]].tolist():
            self._note(
                _Found(
                    kind="disagree", watch=int(watch[event]), event=event, slot=int(slot[event]), why="put"
                )
            )

    def _agreement(self) -> None:
        """Two values for one sub at one revision: neither is asked for afterwards."""
        seen = self._seen
        self.required = seen.slot_traced & (self.slot_revision > 0)
        first = np.full(len(seen.slot_put), -1, np.int64)  # event of each slot
        traced = np.flatnonzero(seen.event_slot >= 0)[::-1]
        first[seen.event_slot[traced]] = traced
        slots = np.flatnonzero(self.required)
        prefix = seen.put_of[seen.slot_put[slots]] if len(slots) else slots
        order = np.lexsort((seen.slot_sub[slots], self.slot_revision[slots], prefix))
        slots, prefix = slots[order], prefix[order]
        same = (
            (prefix[1:] == prefix[:-1])
            & (self.slot_revision[slots][1:] == self.slot_revision[slots][:-1])
            & (seen.slot_sub[slots][1:] == seen.slot_sub[slots][:-1])
        )
        for i in np.flatnonzero(same).tolist():
            one, two = int(slots[i]), int(slots[i + 1])
            self.required[[one, two]] = False
            a, b = (one, two) if first[one] >= 0 else (two, one)
            event = int(first[a])
            if event >= 0:  # else no watch has anything to do with it
                watch = int(seen.event_watch[event])
                self._note(_Found(kind="disagree", watch=watch, event=event, slot=b, other=a, why="value"))

    def _missing(self) -> None:
        """What each watch had to deliver and did not."""
        seen = self._seen
        for number in np.flatnonzero((seen.next <= self.last) | (seen.next < seen.asked_from)).tolist():
            self._note(_Found(kind="resumable", watch=number))
        slots = np.flatnonzero(self.required)
        prefix = seen.put_of[seen.slot_put[slots]] if len(slots) else slots
        order = np.lexsort((self.slot_revision[slots], prefix))
        slots, prefix = slots[order], prefix[order]
        starts = np.searchsorted(prefix, np.arange(len(seen.prefixes) + 1))
        good = self._delivered()
        by_prefix = np.argsort(seen.watch_of, kind="stable")
        bounds = np.searchsorted(seen.watch_of[by_prefix], np.arange(len(seen.prefixes) + 1))
        self.missing = 0
        for p in range(len(seen.prefixes)):
            own = slots[starts[p] : starts[p + 1]]
            watches = by_prefix[bounds[p] : bounds[p + 1]]
            revisions = self.slot_revision[own]
            low = np.searchsorted(revisions, seen.asked_from[watches])
            high = np.maximum(low, np.searchsorted(revisions, self.reach[watches], side="right"))
            lacking = np.flatnonzero(high - low > good[watches])
            self.missing += int((high - low - good[watches])[lacking].sum())
            for i in lacking[:_looked_up].tolist():
                self._look_up(int(watches[i]), own[low[i] : high[i]])

    def _delivered(self) -> NDArray[np.int64]:
        """For each watch, how many slots it delivered that it had to, each counted once."""
        seen = self._seen
        event = np.flatnonzero(seen.event_slot >= 0)
        slot, watch = seen.event_slot[event], seen.event_watch[event]
        revision = seen.event_revision[event]
        fits = self.required[slot] & (revision == self.slot_revision[slot])
        fits &= revision >= seen.asked_from[watch]
        watch, slot = watch[fits], slot[fits]
        if self._twice:
            slots = max(1, len(seen.slot_put))
            watch = np.unique(watch * slots + slot) // slots
        return np.bincount(watch, minlength=len(seen.watch_at))

    def _look_up(self, number: int, wanted: NDArray[np.int64]) -> None:
        seen = self._seen
        here = seen.event_slot[seen.ends[number] : seen.ends[number + 1]]
        at = seen.event_revision[seen.ends[number] : seen.ends[number + 1]]
        known = here >= 0
        right = here[known][at[known] == self.slot_revision[here[known]]]
        puts = set(seen.slot_put[here[known]].tolist())
        for slot in np.setdiff1d(wanted, right).tolist():
            revision = int(self.slot_revision[slot])
            if int(seen.slot_put[slot]) in puts:
                if slot in here:
                    continue  # delivered at a wrong revision, which is said already
                kind = "atomic"
            elif self.final[number]:
                kind = "lost"
            elif revision <= self.last[number]:
                kind = "reliable"
            elif revision <= seen.bookmark[number]:
                kind = "bookmarkable"
            else:
                kind = "resumable"
            self._note(_Found(kind=kind, watch=number, slot=slot))

    def short(self) -> str | None:
        """Whether a final watch ended before it had reached all that had been acknowledged when it began."""
        seen, history = self._seen, self._history
        done = history.pair[seen.put_at] if len(seen.put_at) else seen.put_at
        highest = np.zeros(len(seen.prefixes), np.int64)
        np.maximum.at(highest, seen.put_of, seen.put_revision)
        below = (
            self.final & (self.reach < highest[seen.watch_of]) & (seen.asked_from <= highest[seen.watch_of])
        )
        for number in np.flatnonzero(below).tolist():
            asked = int(history.pair[seen.watch_at[number]])
            before = (seen.put_of == seen.watch_of[number]) & (done >= 0) & (done < asked)
            latest = int(seen.put_revision[before].max(initial=0))
            if self.reach[number] < latest:
                o = operation(history, asked)
                return (
                    f"the final watch{of(o['key'])} by {who(o)} ended at revision {max(0, int(self.reach[number]))},"
                    f" before revision {latest}, which had been acknowledged; it may have been late"
                )
        return None

    def detail(self) -> dict[str, Any]:
        """Counts over all prefixes."""
        seen = self._seen
        counts: dict[str, int] = dict.fromkeys(KINDS, 0)
        for (_, kind), found in self.found.items():
            counts[kind] += found.times
        return {
            "keys": len(seen.prefixes),
            "puts": len(seen.put_at),
            "acknowledged": seen.acknowledged,
            "recovered": int(((seen.put_revision == 0) & (self.revision > 0)).sum()),
            "watches": len(seen.watch_at),
            "events": len(seen.event_revision),
            "untraced_events": int((seen.event_slot == -2).sum()),
            "missing_events": self.missing,
            **counts,
        }

    def anomalies(self) -> list[Anomaly]:
        """One for each prefix and kind, the gravest kinds first, then in order of time."""
        order = sorted(self.found.values(), key=lambda f: (KINDS.index(f.kind), f.watch))
        return [self._anomaly(f) for f in order]

    def _anomaly(self, f: _Found) -> Anomaly:
        seen, history = self._seen, self._history
        asked = int(history.pair[seen.watch_at[f.watch]])
        watch = operation(history, asked)
        puts = [int(seen.put_at[seen.slot_put[s]]) for s in self._slots(f)]
        operations = [operation(history, p) for p in puts]
        clock = Clock([watch, *operations])
        said = self._say(f, watch, operations, clock) + more(f.times - 1, "such event")
        revision = self._at(f)
        a = anomaly(history, f.kind, watch["key"], [*puts, asked], said, [watch["node"] or ""])
        return msgspec.structs.replace(a, window=[_shorten(o, revision) for o in a.window])

    def _slots(self, f: _Found) -> list[int]:
        """The slots whose puts the window shows."""
        slots = [f.slot] if f.slot >= 0 else []
        if f.kind == "disagree" and f.why == "value":
            slots.append(f.other)
        if f.kind == "unique":
            slots.append(int(self._seen.event_slot[f.event]))
        return slots

    def _at(self, f: _Found) -> int:
        """The revision that matters."""
        if f.event >= 0:
            return int(self._seen.event_revision[f.event])
        return int(self.slot_revision[f.slot]) if f.slot >= 0 else int(self.last[f.watch])

    def _event(self, event: int) -> str:
        """An event as the watch delivered it, in words."""
        seen = self._seen
        watch = int(seen.event_watch[event])
        done = self._history.ops[int(seen.watch_at[watch])]
        revision, sub, value = done.value["events"][event - int(seen.ends[watch])]
        what = f"the deletion of {text(sub)}" if value is None else f"{text(sub)} = {text(value)}"
        return f"{what} at revision {revision}"

    def _say(self, f: _Found, watch: Operation, puts: list[Operation], clock: Clock) -> str:
        seen = self._seen
        start, last = int(seen.asked_from[f.watch]), int(self.last[f.watch])
        subject = f"the watch{of(watch['key'])} from revision {start} on by {who(watch)}"
        when = f", answered at {clock(watch['end_ns'])}"
        if f.kind == "ordered":
            return f"{subject} delivered {self._event(f.event)} after {self._event(f.other)}{when}"
        if f.kind == "past":
            return f"{subject} delivered {self._event(f.event)}, older than what was asked for{when}"
        if f.kind == "unique":
            return f"{subject} delivered {self._event(f.other)} and again {self._event(f.event)}{when}"
        if f.kind == "phantom":
            why = "every put of it that had begun by then was reported as certainly failed"
            why = why if f.why == "failed" else "nobody had begun to put that by then"
            return f"{subject} delivered {self._event(f.event)}{when}, but {why}"
        if f.kind == "disagree" and f.why == "value":
            return (
                f"{subject} delivered {self._event(f.event)}{when}, but {self._put(f.slot, puts[0], clock)} has"
                " the same key at the same revision with another value"
            )
        if f.kind == "disagree":
            return (
                f"{subject} delivered {self._event(f.event)}{when}, but {self._put(f.slot, puts[0], clock)}"
            )
        if f.slot < 0:
            again = f"the events of revision {last} again" if seen.next[f.watch] <= last else "what it had"
            return f"{subject} is to be resumed at revision {seen.next[f.watch]}{when}, which would deliver {again}"
        missing = self._put(f.slot, puts[0], clock)
        return f"{subject} did not deliver {missing}{self._ought(f, last)}{when}"

    def _ought(self, f: _Found, last: int) -> str:
        """Why a watch had to deliver what is missing."""
        seen = self._seen
        if f.kind == "atomic":
            return (
                ", although it delivered another event of the same put: an update comes whole or not at all"
            )
        if f.kind == "lost":
            return (
                f", although it reached revision {self.reach[f.watch]}; it was the final look at everything"
            )
        if f.kind == "reliable":
            return f", although it delivered events up to revision {last}"
        if f.kind == "bookmarkable":
            return f", although it was told that all up to revision {seen.bookmark[f.watch]} was delivered"
        return f", and who resumes it at revision {seen.next[f.watch]}, as it says, never gets it"

    def _put(self, slot: int, put: Operation, clock: Clock) -> str:
        """A slot and the put that it is of, in words."""
        sub = list(self._seen.subs)[int(self._seen.slot_sub[slot])]
        value = next(v for s, v in put["value"] if s == sub)
        revision = int(self.slot_revision[slot])
        acked = bool(self._seen.put_revision[self._seen.slot_put[slot]])
        how = f"acknowledged at {clock(put['end_ns'])}" if acked else "delivered by a watch"
        return f"{text(sub)} = {text(value)}, put by {who(put)} and {how} with revision {revision}"


def _shorten(o: Operation, revision: int) -> Operation:
    """A watch with only the events around the one that matters; `left_out` says how many are not shown."""
    result = o["result"]
    if o["f"] != "watch" or not isinstance(result, dict) or len(result["events"]) <= 4 * _around:
        return o
    events = result["events"]
    near = next((i for i, e in enumerate(events) if e[0] >= revision), len(events))
    shown = events[max(0, near - _around) : near + _around]
    left = len(events) - len(shown)
    return o | {"result": result | {"events": shown}, "left_out": left}
