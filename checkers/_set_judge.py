"""Which elements are missing from a read that had to show them, and how to say so; see `checkers.sets`.

Nothing here looks at a pair of element and read that is not in the history: whether an element is
missing from one of the reads that had to show it is found by counting those reads, and those that do.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from checkers._set_seen import Seen
from checkers._windows import anomaly, by, more, of, operation
from checkers.explain import Clock, text
from harness.core.checker import Anomaly
from harness.core.history import History

KINDS: Final = ("lost", "failed-add", "phantom", "duplicated", "flicker", "stale", "fork")
_wide: Final = 1 << 33  # above every position
_listed: Final = 100


class Judge:
    """Which elements are missing from a read that had to show them."""

    def __init__(self, history: History, seen: Seen, *, stale_allowed: bool) -> None:
        self._history, self._seen = history, seen
        self._stale_allowed = stale_allowed
        n = len(seen.owner)
        self.done = seen.reads_at
        self.asked = history.pair[seen.reads_at].astype(np.int64) if len(seen.reads_at) else seen.reads_at
        self.acked = np.full(n, _wide // 2, np.int64)
        np.minimum.at(self.acked, seen.acked_of, seen.acked_at)
        # Reads are numbered in order of completion: the first that shows an element ended first.
        self.first = np.full(n, -1, np.int64)
        self.first[seen.element[::-1]] = seen.read[::-1]
        met = self.first >= 0
        self.known = self.acked.copy()
        self.known[met] = np.minimum(self.known[met], self.done[self.first[met]])
        self.least = self.asked.copy()  # a read took effect after this position
        np.maximum.at(self.least, seen.read, seen.attempt[seen.element])
        self._every = np.ones(len(self.asked), np.bool_)
        self._by_set = np.argsort(seen.reads_of, kind="stable")
        self._first_of = np.searchsorted(seen.reads_of[self._by_set], np.arange(len(seen.sets) + 1))
        self._closing = self._last_final()
        self.lost_at_node = self._missing(self._closing)
        self.missing = self.lost_at_node if stale_allowed else self._missing(self._every)
        self.kind = self._kinds()
        self.forked = np.zeros(n, np.bool_) if stale_allowed else self._forks()

    def _later(self, which: NDArray[np.bool_]) -> NDArray[np.int64]:
        """For each element, of how many of the reads `which` it is certain that they came after it was known."""
        seen = self._seen
        codes = np.sort(seen.reads_of[which] * _wide + self.least[which])
        end = np.searchsorted(codes, (seen.owner + 1) * _wide)
        later: NDArray[np.int64] = end - np.searchsorted(codes, seen.owner * _wide + self.known, side="right")
        return later

    def _missing(self, which: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The elements that one of the reads `which` had to show and did not: they are counted both ways."""
        seen = self._seen
        shows = which[seen.read] & (self.least[seen.read] > self.known[seen.element])
        found = np.bincount(seen.element[shows], minlength=len(seen.owner))
        missing: NDArray[np.bool_] = self._later(which) > found
        return missing

    def _last_final(self) -> NDArray[np.bool_]:
        """The last answered final read of each set through each node."""
        seen = self._seen
        final = np.flatnonzero(self._history.final[self.done]) if len(self.done) else self.done
        code = seen.reads_of[final] * (1 << 16) + self._history.node[self.done[final]]
        _, last = np.unique(code[::-1], return_index=True)
        out = np.zeros(len(self.done), np.bool_)
        out[final[::-1][last]] = True
        return out

    def _kinds(self) -> NDArray[np.int64]:
        """For each element the place of its kind in KINDS, or -1."""
        seen = self._seen
        kind = np.full(len(seen.owner), -1, np.int64)
        bad = np.flatnonzero(self.missing)
        if not len(bad):
            return kind
        if self._stale_allowed:
            kind[bad] = KINDS.index("lost")
            return kind
        order = np.lexsort((self.least, seen.reads_of))
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        end = np.searchsorted(seen.reads_of[order], seen.owner + 1)  # of its set's reads, in that order
        here = np.flatnonzero(self.missing[seen.element])
        here = here[np.lexsort((-rank[seen.read[here]], seen.element[here]))]
        element = seen.element[here]
        nth = np.arange(len(here)) - np.searchsorted(element, element)
        at_end = rank[seen.read[here]] == end[element] - 1 - nth
        shown_last = np.bincount(element[at_end], minlength=len(seen.owner))[bad]
        last_absent = order[end[bad] - 1 - shown_last]
        first = self.first[bad]
        before = (first >= 0) & (self.done[np.maximum(first, 0)] < self.asked[last_absent])
        lost = (shown_last == 0) | self.lost_at_node[bad]
        which = np.where(before, KINDS.index("flicker"), KINDS.index("stale"))
        kind[bad] = np.where(lost, KINDS.index("lost"), which)
        return kind

    def _forks(self) -> NDArray[np.bool_]:
        """Elements of a read that one with at least as many elements does not show."""
        seen = self._seen
        sizes = np.diff(seen.ends)
        order = np.lexsort((sizes, seen.reads_of))
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        least = np.full(len(seen.owner), len(order), np.int64)
        np.minimum.at(least, seen.element, rank[seen.read])
        end = np.searchsorted(seen.reads_of[order], seen.owner + 1)
        found = np.bincount(seen.element, minlength=len(seen.owner))
        self._rank = rank
        forked: NDArray[np.bool_] = (self.first >= 0) & (end - least > found)
        return forked

    def detail(self) -> dict[str, Any]:
        """Counts over all sets, and the elements lost."""
        seen = self._seen
        known = self.acked < _wide // 2
        unread = known & (self._later(self._every) == 0) & (self.first < 0)
        lost = np.flatnonzero(self.kind == 0)
        names = self._names(lost[:_listed].tolist())
        return {
            "keys": len(seen.sets),
            "attempted": len(seen.owner),
            "acknowledged": int(known.sum()),
            "recovered": int((~known & (self.first >= 0)).sum()),
            "unread": int(unread.sum()),
            "reads": len(self.done),
            "elements_read": len(seen.element),
            **{
                k.replace("-", "_"): int((self.kind == i).sum())
                for i, k in enumerate(KINDS)
                if i in (0, 4, 5)
            },
            **{
                k.replace("-", "_"): sum(len(found[2]) for (_, kind), found in seen.odd.items() if kind == k)
                for k in ("failed-add", "phantom", "duplicated")
            },
            "lost_elements": [{"key": seen.sets[int(seen.owner[e])].key, "element": x} for e, x in names],
        }

    def _names(self, elements: list[int]) -> list[tuple[int, Any]]:
        """The elements as the history has them, from the first add of each."""
        seen = self._seen
        return [(e, self._history.ops[int(seen.attempt[e])].value) for e in elements]

    def anomalies(self) -> list[Anomaly]:
        """One for each set and kind, with an example; the gravest kinds first, then in order of time."""
        seen = self._seen
        found: list[tuple[int, int, Anomaly]] = []
        accused: set[int] = set()
        for (number, kind), (read, element, elements) in seen.odd.items():
            a = self._odd(number, kind, read, element, len(elements))
            found.append((KINDS.index(kind), int(self.done[read]), a))
            accused.add(number)
        bad = np.flatnonzero(self.kind >= 0)
        groups, starts, sizes = np.unique(
            seen.owner[bad] * len(KINDS) + self.kind[bad], return_index=True, return_counts=True
        )
        for group, start, size in zip(groups.tolist(), starts.tolist(), sizes.tolist(), strict=True):
            number, kind_at = divmod(group, len(KINDS))
            at, a = self._absent(number, KINDS[kind_at], int(bad[start]), size)
            found.append((kind_at, at, a))
            accused.add(number)
        forked = np.flatnonzero(self.forked)
        numbers, starts = np.unique(seen.owner[forked], return_index=True)
        for number, start in zip(numbers.tolist(), starts.tolist(), strict=True):
            if number not in accused:
                at, a = self._fork(number, int(forked[start]))
                found.append((KINDS.index("fork"), at, a))
        return [a for _, _, a in sorted(found, key=lambda x: x[:2])]

    def _reads(self, number: int) -> NDArray[np.int64]:
        """The reads of a set."""
        return self._by_set[self._first_of[number] : self._first_of[number + 1]]

    def _shows(self, read: int, element: int) -> bool:
        seen = self._seen
        return bool((seen.element[seen.ends[read] : seen.ends[read + 1]] == element).any())

    def _odd(self, number: int, kind: str, read: int, element: Any, elements: int) -> Anomaly:
        """An element that a read had no right to show, or not twice."""
        key = self._seen.sets[number].key
        asked = int(self.asked[read])
        o = operation(self._history, asked)
        what = f"the {by(o)} returned {text(element)} as an element{of(key)} at {Clock([o])(o['end_ns'])}"
        positions = [asked]
        if kind == "duplicated":
            said = f"{what} more than once; a set holds an element once"
        elif kind == "failed-add":
            said = f"{what}, but every add of it that had begun by then was reported as certainly failed"
        else:
            said = f"{what}, but nobody had begun to add it by then"
        return anomaly(self._history, kind, key, positions, said + more(elements - 1, "element"))

    def _absent(self, number: int, kind: str, element: int, elements: int) -> tuple[int, Anomaly]:
        """An element that a read had to show and did not: what made it known, the read, who saw it last."""
        seen, history = self._seen, self._history
        all_reads = self._reads(number)
        reads = all_reads[self.least[all_reads] > self.known[element]]
        if kind == "lost" and self.lost_at_node[element]:
            reads = reads[self._closing[reads]]
        reads = reads[np.argsort(self.least[reads], kind="stable")]
        absent = [r for r in reads.tolist() if not self._shows(r, element)]
        shown = [r for r in all_reads.tolist() if self._shows(r, element)]
        read = absent[-1] if kind == "lost" else absent[0]
        if kind == "flicker":
            read = next((r for r in absent if self.done[self.first[element]] < self.asked[r]), read)
        missed = operation(history, int(self.asked[read]))
        positions = [int(self.asked[read])]
        by_ack = int(self.acked[element]) == int(self.known[element])
        source = int(history.pair[int(self.known[element])])
        positions.append(source)
        witness = operation(history, source)
        key, name = seen.sets[number].key, text(self._names([element])[0][1])
        other = self._other(kind, read, shown)
        operations = [missed, witness]
        if kind == "flicker":
            positions.append(int(self.asked[self.first[element]]))
        if other is not None:
            positions.append(int(self.asked[other]))
            operations.append(operation(history, int(self.asked[other])))
        clock = Clock(operations)
        how = (
            f"the add of {name} to {text(key, bare=True) if key is not None else 'the set'} by process"
            f" {witness['process']}{' on ' + witness['node'] if witness['node'] else ''} was acknowledged"
            if by_ack
            else f"{name} was seen by the {by(witness)}{of(key)}"
        )
        said = (
            f"{how} at {clock(witness['end_ns'])}, but the {by(missed)}, asked for at"
            f" {clock(missed['start_ns'])}, did not return it"
        )
        if self.asked[read] < self.known[element]:
            late = seen.element[seen.ends[read] : seen.ends[read + 1]]
            newer = int(late[np.argmax(seen.attempt[late])])
            positions.append(int(seen.attempt[newer]))
            said += (
                f" although it returned {text(self._names([newer])[0][1])}, whose add began only after that"
            )
        said += self._aftermath(kind, other, operations, clock, at_node=bool(self.lost_at_node[element]))
        a = anomaly(
            history, kind, key, positions, said + more(elements - 1, "element"), [missed["node"] or ""]
        )
        return int(self.done[read]), a

    def _other(self, kind: str, read: int, shown: list[int]) -> int | None:
        """Of the reads that show what `read` misses: the last one, or where it came back the first after it."""
        if kind == "lost":
            return max(shown, key=lambda r: int(self.asked[r]), default=None)
        later = [r for r in shown if self.least[r] > self.least[read]]
        return min(later or shown, key=lambda r: int(self.done[r]))

    def _aftermath(
        self, kind: str, other: int | None, operations: list[dict[str, Any]], clock: Clock, *, at_node: bool
    ) -> str:
        missed, last = operations[0], operations[-1]
        if kind != "lost":
            return f"; it was there again when the {by(last)} was answered at {clock(last['end_ns'])}"
        if other is None:
            return "; no read ever returned it"
        if at_node and last["end_ns"] > missed["start_ns"]:
            return f"; the {by(last)} still returned it, so it is lost on {missed['node'] or 'one node'} only"
        return f"; it was last seen by the {by(last)}, asked for at {clock(last['start_ns'])}"

    def _fork(self, number: int, element: int) -> tuple[int, Anomaly]:
        """Two reads of which neither holds all of the other."""
        seen = self._seen
        of_set = self._reads(number)
        reads: list[int] = of_set[np.argsort(self._rank[of_set])].tolist()
        small = next(r for r in reads if self._shows(r, element))
        large = next(r for r in reads[reads.index(small) :] if not self._shows(r, element))
        has = set(seen.element[seen.ends[small] : seen.ends[small + 1]].tolist())
        other = next(
            e for e in seen.element[seen.ends[large] : seen.ends[large + 1]].tolist() if e not in has
        )
        (_, one), (_, two) = self._names([element, other])
        positions = [int(self.asked[small]), int(self.asked[large])]
        a, b = (operation(self._history, p) for p in positions)
        key = seen.sets[number].key
        said = (
            f"the {by(a)}{of(key)} returned {text(one)} without {text(two)}, the {by(b)} {text(two)} without"
            f" {text(one)}: in whatever order the two were added, one of these reads saw a set that there never was"
        )
        return int(max(self.done[small], self.done[large])), anomaly(
            self._history, "fork", key, positions, said
        )
