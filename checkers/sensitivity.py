"""How much is a green verdict worth? What share of planted violations the checker would have seen in this history.

Into copies of single keys of a valid history, at random, is planted either

* a *stale read*: an ok read returns the value that was there before the one it saw, or
* a *lost write*: an acknowledged write never took effect, and every read of it saw what was there before;

as a system would that errs once. Neither is sure to show: where others were open at that moment, or nobody read
in time, the bent history has an order as well, and no checker can know better. So the share detected is a
figure for the history (its concurrency, its reads), and for the checker, for which `unknown` is no detection. What
was there before is told by the order that the engine found for the history as it was.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from checkers.linearizable import Linearizable, check_linearizable
from harness.core.checker import CheckContext
from harness.core.history import History, identity, read_history

MODELS: Final = frozenset({"register", "cas-register"})
SAMPLES: Final = 200  # of each kind, at most
_most_events: Final = 2_000_000  # of all copies together
_kinds: Final = ("stale-read", "lost-write")


class Share(msgspec.Struct, frozen=True):
    """Of one kind: how many were planted, and in how many the checker found a violation."""

    planted: int
    detected: int


class _Key:
    """One key of the history as the engine ordered it: positions of its operations, and what each saw before."""

    def __init__(self, history: History, of_key: list[int], order: list[int]) -> None:
        answered = [int(history.pair[at]) for at in of_key if history.pair[at] >= 0]
        self.events = sorted([*of_key, *answered])
        # What can be planted: (completions of the reads that are to answer otherwise, their answer).
        self.stale: list[tuple[list[int], Any]] = []
        self.lost: list[tuple[list[int], Any]] = []
        value = before = None
        of_write: list[int] | None = None  # the reads of the acknowledged write that holds
        for at in order:
            asked, partner = history.ops[at], int(history.pair[at])
            outcome = history.ops[partner].type if partner >= 0 else "info"
            if outcome == "fail":
                continue  # a comparison that did not hold
            if asked.f == "read":
                if outcome == "ok" and identity(before) != identity(value):
                    self.stale.append(([partner], before))
                if outcome == "ok" and of_write is not None:
                    of_write.append(partner)
                continue
            if asked.f == "cas":
                of_write = None  # it has met the write, which can't be lost without it
            elif of_write is not None:
                self.lost.append((of_write, before))
            before, value = value, asked.value[1] if asked.f == "cas" else asked.value
            of_write = [] if outcome == "ok" and asked.f == "write" else None
        if of_write is not None:
            self.lost.append((of_write, before))


def measure(
    path: Path, model: str, *, seed: int = 0, samples: int = SAMPLES, time_s: float = 60.0
) -> dict[str, Share] | None:
    """Kind -> `Share`, for a history that is valid under `model`; None where it is not, or no model of `MODELS`.

    Raises: as the checker does.
    """
    if model not in MODELS:
        return None
    with tempfile.TemporaryDirectory(prefix="splitbrain-") as scratch:
        witness = Path(scratch) / "witness.jsonl"
        history = read_history(path)
        context = CheckContext(history_path=path, history=lambda: history, time_s=time_s)
        if Linearizable({"model": model, "witness": str(witness)}).check(context).verdict != "valid":
            return None
        keys = list(_keys(history, witness))
        out: dict[str, Share] = {}
        for kind in _kinds:
            planted = Path(scratch) / f"{kind}.jsonl"
            count = _plant(history, keys, kind, planted, random.Random(f"{seed} {kind}"), samples)
            if count == 0:
                out[kind] = Share(0, 0)
                continue
            found = check_linearizable(planted, model, time_s=time_s)
            out[kind] = Share(count, len({a.key for a in found.anomalies}))
        return out


def _keys(history: History, witness: Path) -> Iterator[_Key]:
    """The keys as the engine ordered them."""
    places = {history.ops[at].index: at for at in history.invocations().tolist()}
    by_key = history.by_key()
    with witness.open("rb") as lines:
        for line in lines:
            found = msgspec.json.decode(line)
            yield _Key(history, by_key[identity(found["key"])], [places[index] for index in found["order"]])


def _plant(
    history: History, keys: list[_Key], kind: str, path: Path, rng: random.Random, samples: int
) -> int:
    """Write copies of keys, each with one violation of a kind; how many."""
    places = [(key, what) for key in keys for what in (key.stale if kind == "stale-read" else key.lost)]
    rng.shuffle(places)
    index = planted = 0
    with path.open("wb") as out:
        for key, (reads, before) in places[:samples]:
            if planted and index + len(key.events) > _most_events:
                break
            for position in key.events:
                op = history.ops[position]
                bent = msgspec.structs.replace(
                    op,
                    index=index,
                    time=index,
                    key=planted,
                    process=f"{planted} {op.process}",
                    value=before if position in reads else op.value,
                )
                out.write(msgspec.json.encode(bent) + b"\n")
                index += 1
            planted += 1
    return planted
