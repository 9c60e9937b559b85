"""Ids: none twice, and JSON tells them apart."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from checkers.unique_ids import UNIQUE_IDS
from harness.core.checker import Result
from harness.core.history import History
from tests.checkers.hand import (
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
    result: Result = UNIQUE_IDS.load()({}).check(context(made))
    return result


def generate(made: Any, begin: float, end: float | None, **more: Any) -> Did:
    return did("generate", None, (begin, end), result=made, **{"key": None, **more})


def test_duplicate() -> None:
    ops = [generate(7, 0, 1), generate(8, 0, 5, node="n2")]
    assert check(history(*ops, generate(9, 2, 3))).verdict == "valid"
    result = check(history(*ops, generate(7, 2, 3, node="n3"), generate(7, 6, 7), generate(8, 6, 7)))
    assert kinds(result) == ["duplicate"]
    assert result.anomalies[0].nodes == ["n1", "n3"]
    assert "process 0 on n1" in result.reason
    assert "process 2 on n3" in result.reason
    assert "(and 2 more repetitions)" in result.reason
    assert result.detail == {"ids": 5, "duplicates": 3}


def test_overlapping_generations_are_no_excuse() -> None:
    assert kinds(check(history(generate("a", 0, 5), generate("a", 1, 4)))) == ["duplicate"]


def test_json_tells_values_apart() -> None:
    ids = [1, True, "1", 1.5, None, "true", [1], ["1"], {"a": 1}, {"a": True}, False, 0]
    ops = [generate(x, i, i + 1) for i, x in enumerate(ids)]
    assert check(history(*ops)).verdict == "valid"
    for x in ids:
        assert kinds(check(history(*ops, generate(x, 50, 51)))) == ["duplicate"], x


def test_each_key_is_a_generator_of_its_own() -> None:
    ops = [generate(1, 0, 1, key=k) for k in ("a", "b", None)]
    assert check(history(*ops)).verdict == "valid"
    again = [generate(1, 2, 3, key=k) for k in ("a", None)]
    result = check(history(*ops, *again))
    assert [a.key for a in result.anomalies] == ["a", None]


def test_failed_and_unknown_ones_hand_out_nothing() -> None:
    ops = [generate(1, 0, 1)]
    ops.append(did("generate", None, (2, 3), how="fail", key=None))
    ops.append(did("generate", None, (2, 3), how="info", key=None))
    assert check(history(*ops, generate(None, 4, 5))).verdict == "valid"


def test_nothing_to_decide() -> None:
    for ops in ([], [did("write", 1, (0, 1))], [did("generate", None, (0, 1), how="info")]):
        assert check(history(*ops)).verdict == "unknown"


json = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["0", "1", "true", "", 1.5, 0.5]),
    lambda of: st.lists(of, max_size=2) | st.dictionaries(st.sampled_from("ab"), of, max_size=2),
    max_leaves=4,
)


@given(st.lists(json, max_size=12))
def test_it_agrees_with_the_texts(ids: list[Any]) -> None:
    texts = [msgspec.json.encode(x, order="sorted") for x in ids]
    result = check(history(*(generate(x, i, i + 1) for i, x in enumerate(ids))))
    assert bool(kinds(result)) == (len(set(texts)) < len(texts))
    assert result.detail["duplicates"] == len(texts) - len(set(texts))


def test_random_generators(tmp_path: Path) -> None:
    """Correct ones are never accused; one id handed out again is found."""
    for seed in range(2000):
        rng = random.Random(seed)
        ids = iter(rng.sample(range(1000), 200))
        events = simulate(
            rng,
            [("generate", None, None)] * rng.randint(3, 40),
            lambda _f, _key, _value, node, ids=ids: (next(ids), {}),  # type: ignore[misc]
            clients=rng.randint(1, 8),
        )
        made = renumbered(events)
        result = check(made)
        assert kinds(result) == []
        if seed % 100 == 0:
            same_from_disk(check, made, tmp_path / "h.jsonl")
        answers = [i for i, op in enumerate(events) if op.type == "ok"]
        if len(answers) > 1:
            one, two = rng.sample(answers, 2)
            assert kinds(check(renumbered(changed(events, two, events[one].value)))) == ["duplicate"]
