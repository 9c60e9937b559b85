"""Counters: what was acknowledged counts, what never began does not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from checkers.counter import COUNTER
from harness.core.checker import Result
from harness.core.errors import HistoryError
from harness.core.history import History
from harness.core.op import Op
from tests.checkers.hand import (
    Call,
    Did,
    changed,
    context,
    did,
    history,
    kinds,
    renumbered,
    same_from_disk,
    simulate,
)


def check(made: History) -> Result:
    result: Result = COUNTER.load()({}).check(context(made))
    return result


def add(amount: Any, begin: float, end: float | None, **more: Any) -> Did:
    return did("add", amount, (begin, end), **more)


def read(total: Any, begin: float, end: float | None, **more: Any) -> Did:
    return did("read", None, (begin, end), result=total, **more)


def test_sums_are_read() -> None:
    result = check(history(read(0, 0, 1), add(2, 2, 3), read(2, 4, 5), add(3, 6, 7), read(5, 8, 9)))
    assert kinds(result) == []
    assert result.verdict == "valid"
    assert result.detail["reads"] == 3


def test_too_low() -> None:
    ops = [add(2, 0, 1), add(3, 0, 2)]
    assert check(history(*ops, read(2, 1, 3))).verdict == "valid"  # the add of 3 had not been answered
    result = check(history(*ops, read(2, 2.5, 3, node="n3")))
    assert kinds(result) == ["too-low"]
    assert result.anomalies[0].nodes[0] == "n3"
    assert "adds of 5 in all had been acknowledged" in result.reason
    assert [o["f"] for o in result.anomalies[0].window] == ["add", "read"]


def test_too_high() -> None:
    ops = [add(2, 0, 1), add(3, 4, 6), add(4, 0, 1, how="fail")]
    for total in (2, 5):
        assert check(history(*ops, read(total, 3, 5))).verdict == "valid"
    result = check(history(*ops, read(5, 2, 3)))
    assert kinds(result) == ["too-high"]
    assert kinds(check(history(*ops, read(6, 2, 3)))) == ["too-high"]  # the failed one counts for nothing


def test_unknown_adds_may_count_at_any_time() -> None:
    ops = [add(2, 0, 1), add(3, 0, 1, how="info"), add(4, 0, None)]
    assert check(history(*ops, read(2, 2, 3), read(5, 4, 5), read(9, 6, 7))).verdict == "valid"
    assert kinds(check(history(*ops, read(10, 2, 3)))) == ["too-high"]


def test_went_back() -> None:
    ops = [add(2, 0, 1), add(3, 0, None)]
    assert check(history(*ops, read(5, 2, 4), read(2, 3, 5))).verdict == "valid"
    result = check(history(*ops, read(5, 2, 4), read(2, 4.5, 5, node="n2")))
    assert kinds(result) == ["went-back"]
    assert "had returned 5" in result.reason


def test_negative_amounts() -> None:
    ops = [add(5, 0, 1), add(-3, 2, 6)]
    for total in (5, 2):
        assert check(history(*ops, read(total, 3, 4))).verdict == "valid"
    assert check(history(*ops, read(5, 3, 4), read(2, 4.5, 5))).verdict == "valid"  # may well fall
    assert kinds(check(history(*ops, read(1, 3, 4)))) == ["too-low"]
    assert kinds(check(history(*ops, read(5, 7, 8)))) == ["too-high"]
    assert kinds(check(history(*ops, read(6, 3, 4)))) == ["too-high"]
    assert check(history(add(5, 0, 1), read(2, 1.5, 3), add(-3, 2, None))).verdict == "valid"


def test_every_violating_counter_is_listed() -> None:
    ops = [add(1, 0, 1, key="a"), add(1, 0, 1, key="b"), add(1, 0, 1, key="c")]
    ops += [read(0, 2, 3, key="a"), read(1, 2, 3, key="b"), read(0, 2, 3, key="c"), read(0, 4, 5, key="c")]
    result = check(history(*ops))
    assert [(a.kind, a.key) for a in result.anomalies] == [("too-low", "a"), ("too-low", "c")]
    assert result.reason.endswith("(and 1 more key)")
    assert "(and 1 more such read)" in result.anomalies[1].explanation
    assert result.detail["too_low"] == 3


def test_nothing_to_decide() -> None:
    for ops in ([], [did("write", 1, (0, 1))], [read(0, 0, 1)], [add(1, 0, 1)]):
        assert check(history(*ops)).verdict == "unknown"
    result = check(history(add(1, 0, 1), read(1, 2, 3), did("read", None, (8, 9), how="info"), faults=[5]))
    assert result.verdict == "unknown"
    assert "after the last fault" in result.reason


@pytest.mark.parametrize("value", [None, True, "5", 1.0, [1]])
def test_what_is_no_integer_is_refused_by_line(value: Any) -> None:
    with pytest.raises(HistoryError, match="line 4: a read of a counter returned"):
        check(history(add(1, 0, 1), read(value, 2, 3)))
    with pytest.raises(HistoryError, match="line 1: an add to a counter"):
        check(history(add(value, 0, 1), read(1, 2, 3)))


class Sum:
    """Counters that do everything right."""

    def __init__(self) -> None:
        self.of: dict[Any, int] = {}

    def __call__(self, f: str, key: Any, value: Any, node: str) -> tuple[Any, dict[str, Any]]:
        if f == "read":
            return self.of.get(key, 0), {}
        self.of[key] = self.of.get(key, 0) + value
        return value, {}


def random_history(rng: random.Random, least: int = 1) -> list[Op]:
    keys = [f"c{i}" for i in range(rng.randint(1, 3))]
    plan: list[Call] = [
        ("add", rng.choice(keys), rng.randint(least, 5))
        if rng.random() < 0.6
        else ("read", rng.choice(keys), None)
        for _ in range(rng.randint(5, 60))
    ]
    return simulate(rng, plan, Sum(), clients=rng.randint(1, 8), final=[("read", k, None) for k in keys])


def test_correct_counters_are_never_accused(tmp_path: Path) -> None:
    valid = 0
    for seed in range(3000):
        made = renumbered(random_history(random.Random(seed), least=-3 if seed % 3 == 0 else 1))
        result = check(made)
        assert kinds(result) == [], (seed, result.reason)
        valid += result.verdict == "valid"
        if seed % 100 == 0:
            same_from_disk(check, made, tmp_path / "h.jsonl")
    assert valid > 2800  # the others had nothing acknowledged


def test_one_planted_anomaly_is_found() -> None:
    """Sums are judged by what the definition says of each read, worked out the slow way."""
    planted = dict.fromkeys(("too-low", "too-high", "went-back"), 0)
    for seed in range(3000):
        rng = random.Random(seed)
        events = random_history(rng)
        reads = [i for i, op in enumerate(events) if op.f == "read" and op.type == "ok"]
        at = rng.choice(reads)
        made = renumbered(events)
        asked, key = int(made.pair[at]), events[at].key
        low = sum(o.value for o in events[:asked] if (o.f, o.type, o.key) == ("add", "ok", key))
        failed = {int(made.pair[i]) for i, o in enumerate(events) if o.type == "fail"}
        high = sum(
            o.value
            for i, o in enumerate(events[:at])
            if (o.f, o.type, o.key) == ("add", "invoke", key) and i not in failed
        )
        seen = [o.value for o in events[:asked] if (o.f, o.type, o.key) == ("read", "ok", key)]
        kind, value = rng.choice(
            [("too-low", low - 1), ("too-high", high + 1), ("went-back", max(seen, default=0) - 1)]
        )
        if kind == "went-back" and value < low:
            continue
        planted[kind] += 1
        assert kind in kinds(check(renumbered(changed(events, at, value)))), (seed, kind)
    assert min(planted.values()) > 100
