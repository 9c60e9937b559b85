"""Sets: every loss is found, through whichever node it shows; a correct set is never accused."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest

from checkers.sets import SET
from harness.core.checker import Result
from harness.core.errors import HistoryError, UsageError
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


def check(made: History, **options: Any) -> Result:
    result: Result = SET.load()(options).check(context(made))
    return result


def add(element: Any, begin: float, end: float | None, **more: Any) -> Did:
    return did("add", element, (begin, end), **more)


def read(elements: Any, begin: float, end: float | None, **more: Any) -> Did:
    return did("read", None, (begin, end), result=elements, **more)


def test_what_is_added_is_read() -> None:
    result = check(history(add(1, 0, 1), add(2, 0, 3), read([1], 2, 2.5), read([2, 1], 4, 5, final=True)))
    assert kinds(result) == []
    assert result.verdict == "valid"
    assert result.detail["acknowledged"] == 2
    assert result.detail["unread"] == 0


def test_lost() -> None:
    ops = [add(1, 0, 1, node="n2"), add(2, 0, 1), read([2, 1], 2, 3)]
    clean = [*ops, read([1, 2], 4, 5, node="n3")]
    assert check(history(*clean)).verdict == "valid"
    result = check(history(*ops, read([2], 4, 5, node="n3")))
    assert kinds(result) == ["lost"]
    (a,) = result.anomalies
    assert [o["f"] for o in a.window] == ["add", "read", "read"]
    assert a.nodes[0] == "n3"
    assert "process 0 on n2 was acknowledged at 0.00" in a.explanation or "0.001 s" in a.explanation
    assert "last seen by the read by process 2" in a.explanation
    assert result.detail["lost_elements"] == [{"key": "k", "element": 1}]


def test_lost_and_never_seen() -> None:
    result = check(history(add(1, 0, 1), add(2, 0, 1), read([2], 2, 3)))
    assert kinds(result) == ["lost"]
    assert "no read ever returned it" in result.reason
    # A read that began before the acknowledgement may have come first.
    assert check(history(add(1, 0, 2), add(2, 0, 1), read([2], 2, 3))).verdict == "valid"


def test_a_loss_through_one_node_is_a_loss() -> None:
    ops = [add(1, 0, 1), read([1], 4, 5, final=True, node="n1")]
    clean = read([1], 6, 7, final=True, node="n2")
    last = read([1], 8, 9, final=True, node="n3")
    assert check(history(*ops, clean, last)).verdict == "valid"
    result = check(history(*ops, read([], 6, 7, final=True, node="n2"), last))
    assert kinds(result) == ["lost"]
    assert result.anomalies[0].nodes[0] == "n2"
    assert "lost on n2 only" in result.reason
    # Asked again, n2 shows it: it was stale.
    again = read([1], 10, 11, final=True, node="n2")
    assert kinds(check(history(*ops, read([], 6, 7, final=True, node="n2"), last, again))) == ["flicker"]


def test_a_final_read_without_an_answer_is_no_loss() -> None:
    ops = [add(1, 0, 1), read([1], 4, 5, final=True)]
    for how in ("info", "fail"):
        silent = did("read", None, (6, 7), how=how, node="n2", final=True)  # type: ignore[arg-type]
        assert check(history(*ops, silent)).verdict == "valid"


def test_no_read_after_the_last_fault() -> None:
    ops = [add(1, 0, 1), read([1], 2, 3)]
    assert check(history(*ops, faults=[1.5])).verdict == "valid"
    result = check(history(*ops, did("read", None, (6, 7), how="info", final=True), faults=[5]))
    assert result.verdict == "unknown"
    assert "after the last fault" in result.reason


def test_stale() -> None:
    ops = [add(1, 0, 1), read([1], 6, 7)]
    assert check(history(*ops, read([], 1, 3))).verdict == "valid"  # it began as the add was answered
    made = history(*ops, read([], 2, 3, node="n2"))
    result = check(made)
    assert kinds(result) == ["stale"]
    assert result.anomalies[0].nodes[0] == "n2"
    assert "there again" in result.reason
    assert check(made, stale="allowed").verdict == "unknown"  # no final read tells it from a loss
    final = read([1], 8, 9, final=True)
    assert check(history(*ops, read([], 2, 3), final), stale="allowed").verdict == "valid"
    gone = read([], 8, 9, final=True)
    assert kinds(check(history(*ops, gone), stale="allowed")) == ["lost"]


def test_flicker() -> None:
    ops = [add(1, 0, None), add(2, 0, 1), read([1, 2], 2, 3), read([1, 2], 6, 7)]
    assert check(history(*ops, read([1, 2], 4, 5))).verdict == "valid"
    result = check(history(*ops, read([2], 4, 5)))
    assert kinds(result) == ["flicker"]
    assert "1 was seen by the read by process 2 on n1 of k" in result.reason


def test_a_read_under_way_had_not_seen_it_yet() -> None:
    ops = [add(1, 0, 1), read([1], 2, 9), read([1], 10, 11)]
    assert kinds(check(history(*ops, read([], 3, 4)))) == ["stale"]
    result = check(history(*ops, read([], 9.5, 9.7), read([1], 12, 13)))
    assert kinds(result) == ["flicker"]
    assert "there again when the read by process 2 on n1" in result.reason
    assert [o["f"] for o in result.anomalies[0].window] == ["add", "read", "read", "read"]


def test_one_too_many_does_not_make_up_for_one_too_few() -> None:
    result = check(history(add(1, 0, 1), read([1, 1], 2, 3), read([], 4, 5)))
    assert kinds(result) == ["lost", "duplicated"]


def test_missing_behind_a_newer_one() -> None:
    """The read began before either add ended, yet it shows the later one without the earlier."""
    ops = [add(1, 1, 2), add(2, 3, 5)]
    assert check(history(*ops, read([1, 2], 0, 6))).verdict == "valid"
    result = check(history(*ops, read([2], 0, 6)))
    assert kinds(result) == ["lost"]
    assert "although it returned 2" in result.reason
    assert len(result.anomalies[0].window) == 3


def test_duplicated() -> None:
    assert check(history(add(1, 0, 1), read([1], 2, 3))).verdict == "valid"
    assert kinds(check(history(add(1, 0, 1), read([1, 1], 2, 3)))) == ["duplicated"]
    # JSON tells them apart, and so does the check.
    mixed = [True, 1, "1", None, 1.5, [1], [True], {"a": 1}]
    ops = [add(x, i, i + 1) for i, x in enumerate(mixed)]
    assert check(history(*ops, read(mixed, 20, 21))).verdict == "valid"
    assert kinds(check(history(*ops, read([*mixed, True], 20, 21)))) == ["duplicated"]


def test_phantom() -> None:
    assert kinds(check(history(add(1, 0, 1), read([1, 2], 2, 3)))) == ["phantom"]
    assert kinds(check(history(add(1, 0, 1), read([1, 2], 2, 3), add(2, 4, 5)))) == ["phantom"]
    assert check(history(add(1, 0, 1), read([1, 2], 2, 3), add(2, 3, 5))).verdict == "valid"
    odd = check(history(add(1, 0, 1), read([1, [True]], 2, 3)))
    assert kinds(odd) == ["phantom"]
    assert "returned [true] as an element of k" in odd.reason
    other = add(2, 0, 1, key="other")
    assert kinds(check(history(add(1, 0, 1), other, read([1, 2], 2, 3)))) == ["phantom"]


def test_failed_add() -> None:
    failed = add(2, 0, 1, how="fail")
    assert check(history(add(1, 0, 1), failed, read([1], 2, 3))).verdict == "valid"
    result = check(history(add(1, 0, 1), failed, read([1, 2], 2, 3)))
    assert kinds(result) == ["failed-add"]
    assert "certainly failed" in result.reason
    again = add(2, 1, 4)
    assert check(history(add(1, 0, 1), failed, again, read([1, 2], 2, 3))).verdict == "valid"


def test_recovered() -> None:
    unknown = add(2, 0, 1, how="info")
    result = check(history(add(1, 0, 1), unknown, read([1], 2, 3), read([1, 2], 4, 5)))
    assert result.verdict == "valid"
    assert result.detail["recovered"] == 1


def test_fork() -> None:
    ops = [add(1, 0, 9), add(2, 0, 9)]
    assert check(history(*ops, read([1], 1, 8), read([1, 2], 1, 8))).verdict == "valid"
    made = history(*ops, read([1], 1, 8), read([2], 1, 8, node="n2"), read([1, 2], 10, 11, final=True))
    result = check(made)
    assert kinds(result) == ["fork"]
    assert check(made, stale="allowed").verdict == "valid"


def test_every_violating_set_is_listed() -> None:
    ops = [did("add", 1, (0, 1), key=k) for k in ("a", "b", "c")]
    result = check(history(*ops, read([], 2, 3, key="a"), read([1], 2, 3, key="b"), read([7], 2, 3, key="c")))
    assert [(a.kind, a.key) for a in result.anomalies] == [("lost", "a"), ("lost", "c"), ("phantom", "c")]
    assert result.reason.endswith("(and 1 more key)")


def test_nothing_to_decide() -> None:
    for ops in (
        [],
        [did("write", 1, (0, 1))],
        [read([], 0, 1)],
        [add(1, 0, 1)],
        [add(1, 0, 1, how="info"), read([], 2, 3)],
    ):
        result = check(history(*ops))
        assert result.verdict == "unknown"
        assert result.reason


@pytest.mark.parametrize("value", [None, 5, "12", {"1": 1}])
def test_a_read_that_is_no_list_is_refused_by_line(value: Any) -> None:
    with pytest.raises(HistoryError, match="line 4: a read of a set returned"):
        check(history(add(1, 0, 1), read(value, 2, 3)))


def test_options_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match="stale"):
        SET.load()({"stale": "perhaps"})


def linearizable(ops: list[Did]) -> bool:
    """By trying every order; ops of one key, `fail` left out."""
    live = [o for o in ops if o.how != "fail" and (o.f == "add" or (o.how == "ok" and o.end is not None))]
    must = frozenset(i for i, o in enumerate(live) if o.how == "ok" and o.end is not None)
    stack = [frozenset[int]()]
    seen = set(stack)
    while stack:
        done = stack.pop()
        if must <= done:
            return True
        state = {live[i].value for i in done if live[i].f == "add"}
        for i, o in enumerate(live):
            if i in done or any((live[j].end or 0) < o.begin for j in must - done):
                continue
            if o.f == "read" and state != set(o.result):
                continue
            if (after := done | {i}) not in seen:
                seen.add(after)
                stack.append(after)
    return False


def test_it_decides_linearizability() -> None:
    """Against brute force, thousands of small histories, about half of them wrong."""
    rng = random.Random(5)
    wrong = 0
    for _ in range(3000):
        points = iter(rng.sample(range(100), 16))
        ops = []
        for n in range(rng.randint(1, 4)):
            begin, end = sorted((next(points), next(points)))
            ops.append(add(n, begin, end, how=rng.choices(["ok", "info", "fail"], [6, 2, 1])[0]))
        for _ in range(rng.randint(1, 4)):
            begin, end = sorted((next(points), next(points)))
            if rng.random() < 0.6:  # what had been added somewhere within it
                at = rng.uniform(begin, end)
                shown = [o.value for o in ops if o.f == "add" and o.begin < at and o.how != "fail"]
                shown = [x for x in shown if rng.random() < 0.9]
            else:
                shown = [n for n in range(4) if rng.random() < 0.5]
            ops.append(read(shown, begin, end))
        expected = linearizable(ops)
        wrong += not expected
        assert bool(kinds(check(history(*ops)))) == (not expected), ops
    assert 800 < wrong < 2600


class Growing:
    """Sets that do everything right."""

    def __init__(self) -> None:
        self.of: dict[Any, list[int]] = {}

    def __call__(self, f: str, key: Any, value: Any, node: str) -> tuple[Any, dict[str, Any]]:
        own = self.of.setdefault(key, [])
        if f == "read":
            return list(own), {}
        if value not in own:
            own.append(value)
        return value, {}


def random_history(rng: random.Random) -> list[Op]:
    fresh = itertools.count()
    keys = [f"s{i}" for i in range(rng.randint(1, 3))]
    plan: list[Call] = [
        ("add", rng.choice(keys), next(fresh)) if rng.random() < 0.6 else ("read", rng.choice(keys), None)
        for _ in range(rng.randint(5, 60))
    ]
    clients = rng.randint(1, 8)
    return simulate(rng, plan, Growing(), clients=clients, final=[("read", k, None) for k in keys])


def test_correct_sets_are_never_accused(tmp_path: Path) -> None:
    valid = 0
    for seed in range(2000):
        events = random_history(random.Random(seed))
        made = renumbered(events)
        result = check(made)
        assert kinds(result) == [], (seed, result.reason)
        valid += result.verdict == "valid"
        assert check(made, stale="allowed").anomalies == []
        if seed % 100 == 0:
            same_from_disk(check, made, tmp_path / "h.jsonl")
    assert valid > 1900  # the others had nothing acknowledged


def test_one_planted_anomaly_is_found() -> None:
    planted: dict[str, int] = {}
    for seed in range(2000):
        rng = random.Random(seed)
        events = random_history(rng)
        acked = {op.value for op in events if op.f == "add" and op.type == "ok"}
        failed = {op.value: op.key for op in events if op.f == "add" and op.type == "fail"}
        finals = [i for i, op in enumerate(events) if op.type == "ok" and op.ext and op.ext.get("final")]
        position = rng.choice(finals)
        shown, key = list(events[position].value), events[position].key
        kind = rng.choice(["lost", "phantom", "duplicated", "failed-add"])
        victims = [x for x in shown if x in acked]
        refused = [x for x, k in failed.items() if k == key]
        if kind == "lost" and victims:
            shown.remove(rng.choice(victims))
        elif kind == "phantom":
            shown.append(10**6)
        elif kind == "duplicated" and shown:
            shown.append(rng.choice(shown))
        elif kind == "failed-add" and refused:
            shown.append(rng.choice(refused))
        else:
            continue
        planted[kind] = planted.get(kind, 0) + 1
        result = check(renumbered(changed(events, position, shown)))
        assert kind in kinds(result), (seed, kind, result.reason)
        assert kind in kinds(check(renumbered(changed(events, position, shown)), stale="allowed"))
    assert min(planted.values()) > 100
    assert len(planted) == 4
