"""Revisions: their order never contradicts real time, whatever the keys."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from checkers.revisions import REVISIONS
from harness.core.checker import Result
from harness.core.errors import HistoryError
from harness.core.history import History
from harness.core.op import Op
from tests.checkers.hand import Call, Did, context, did, history, kinds, renumbered, same_from_disk, simulate


def check(made: History, **options: Any) -> Result:
    result: Result = REVISIONS.load()(options).check(context(made))
    return result


def write(revision: Any, begin: float, end: float | None, **more: Any) -> Did:
    return did("write", 1, (begin, end), revision=revision, **more)


def read(revision: Any, begin: float, end: float | None, **more: Any) -> Did:
    return did("read", None, (begin, end), result=1, revision=revision, **more)


def test_without_revisions_there_is_nothing_to_compare() -> None:
    for ops in ([], [did("write", 1, (0, 1))], [did("write", 1, (0, 1), how="info")]):
        result = check(history(*ops))
        assert result.verdict == "valid"
        assert "nothing to compare" in result.reason
    assert check(history(write(3, 0, 1))).verdict == "valid"


def test_went_back_across_keys() -> None:
    ops = [write(5, 0, 1), write(6, 0, 3, node="n2", key="other")]
    assert check(history(*ops, read(5, 2, 4))).verdict == "valid"
    assert check(history(*ops, read(6, 4, 5))).verdict == "valid"
    result = check(history(*ops, read(5, 4, 5, node="n3")))
    assert kinds(result) == ["went-back"]
    (a,) = result.anomalies
    assert (a.key, a.nodes) == ("k", ["n3", "n2"])
    assert [o["f"] for o in a.window] == ["write", "read"]
    assert "took effect at revision 5, which is before revision 6 of the write of other" in a.explanation


def test_a_mutation_needs_a_later_revision() -> None:
    assert check(history(read(5, 0, 1), read(5, 2, 3))).verdict == "valid"
    assert check(history(read(5, 0, 1), write(6, 2, 3))).verdict == "valid"
    result = check(history(read(5, 0, 1), write(5, 2, 3)))
    assert kinds(result) == ["went-back"]
    assert "no later than" in result.reason
    assert kinds(check(history(write(5, 0, 1), write(5, 2, 3)))) == ["went-back"]
    assert check(history(write(5, 0, 1), read(5, 2, 3))).verdict == "valid"


def test_shared() -> None:
    assert check(history(write(5, 0, 3), write(6, 1, 2))).verdict == "valid"
    assert check(history(write(6, 0, 3), write(5, 1, 2))).verdict == "valid"  # they overlap
    result = check(history(write(5, 0, 3), write(5, 1, 2, key="other")))
    assert kinds(result) == ["shared"]
    assert check(history(write(5, 0, 3), read(5, 1, 2))).verdict == "valid"


def test_failed_and_unknown_ones_are_not_looked_at() -> None:
    ops = [write(5, 0, 1), did("write", 1, (2, 3), how="info", revision=1)]
    assert check(history(*ops, did("write", 1, (2, 3), how="fail", revision=2))).verdict == "valid"


def test_what_mutates() -> None:
    leader = did("leader", None, (2, 3), revision=5)
    assert check(history(write(5, 0, 1), leader)).verdict == "valid"
    assert kinds(check(history(write(5, 0, 1), leader), reads="read")) == ["went-back"]
    assert check(
        history(write(5, 0, 1), did("peek", None, (2, 3), revision=5)), reads="read, peek"
    ).verdict == ("valid")
    looks = did("txn", [["r", "a", None], ["r", "b", None]], (2, 3), revision=5)
    assert check(history(write(5, 0, 1), looks)).verdict == "valid"
    puts = did("txn", [["r", "a", None], ["w", "b", 2]], (2, 3), revision=5)
    assert kinds(check(history(write(5, 0, 1), puts))) == ["went-back"]


def test_every_violating_key_is_listed() -> None:
    late = [read(8, 2, 3, key="a"), read(7, 2, 3, key="b"), read(7, 4, 5, key="b"), read(9, 2, 3, key="c")]
    result = check(history(write(9, 0, 1), *late))
    assert [(a.kind, a.key) for a in result.anomalies] == [("went-back", "a"), ("went-back", "b")]
    assert "(and 1 more such operation)" in result.anomalies[1].explanation
    assert result.detail["went_back"] == 3


@pytest.mark.parametrize("value", ["5", 5.0, True, [5], 2**63])
def test_a_revision_that_is_no_integer_is_refused_by_line(value: Any) -> None:
    with pytest.raises(HistoryError, match=r"line 2: ext\.revision is"):
        check(history(write(value, 0, 1)))


class Store:
    """A store with one revision that does everything right."""

    def __init__(self) -> None:
        self.revision = 1

    def __call__(self, f: str, key: Any, value: Any, node: str) -> tuple[Any, dict[str, Any]]:
        self.revision += f == "write"
        return value, {"revision": self.revision}


def random_history(rng: random.Random) -> list[Op]:
    plan: list[Call] = [
        (rng.choice(["write", "read", "leader"]), f"k{rng.randint(0, 3)}", None)
        for _ in range(rng.randint(5, 60))
    ]
    return simulate(rng, plan, Store(), clients=rng.randint(1, 8), final=[("read", "k0", None)])


def contradicts(made: History) -> bool:
    """The definition, by looking at all pairs."""
    done = [i for i, op in enumerate(made.ops) if op.type == "ok" and op.ext and "revision" in op.ext]
    of = {i: made.ops[i].ext["revision"] for i in done}  # type: ignore[index]
    for a in done:
        for b in done:
            mutates = made.ops[b].f == "write"
            if a < made.pair[b] and (of[b] < of[a] or (of[b] == of[a] and mutates)):
                return True
            if a < b and of[a] == of[b] and mutates and made.ops[a].f == "write":
                return True
    return False


def test_correct_stores_are_never_accused_and_what_is_planted_is_found(tmp_path: Path) -> None:
    wrong = 0
    for seed in range(2000):
        rng = random.Random(seed)
        events = random_history(rng)
        made = renumbered(events)
        result = check(made)
        assert kinds(result) == []
        if seed % 100 == 0:
            same_from_disk(check, made, tmp_path / "h.jsonl")
        at = rng.choice([i for i, op in enumerate(events) if op.type == "ok"])
        ext = {"revision": max(0, (events[at].ext or {})["revision"] + rng.randint(-3, 3))}
        events[at] = msgspec.structs.replace(events[at], ext=ext)
        expected = contradicts(renumbered(events))
        wrong += expected
        assert bool(kinds(check(renumbered(events)))) == expected, seed
    assert 600 < wrong < 1800
