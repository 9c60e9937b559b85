"""How far an order of a violating key gets, told step by step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from checkers.linearizable import check_linearizable
from checkers.models import MODELS
from checkers.steps import linearizations, told


def operation(
    at: int, done: int | None, f: str, value: Any, result: Any = None, kind: str = "ok", **more: Any
) -> Any:
    one = {
        "invoke": at,
        "complete": done,
        "process": at,
        "f": f,
        "value": value,
        "result": result,
        "node": "n1",
    }
    return {**one, "type": kind, "start_ns": at, "end_ns": done, **more}


def steps(model: str, *operations: Any) -> list[dict[str, Any]]:
    return linearizations([{"key": "k", "operations": list(operations)}], MODELS[model])


def test_states_follow_one_another_up_to_what_cannot_follow() -> None:
    ops = [operation(0, 1, "write", 1), operation(2, 3, "write", 2), operation(4, 5, "read", None, 1)]
    (found,) = steps("register", *ops)
    assert found["initial"] == "null"
    assert found["order"] == [{"invoke": 0, "state": "1"}, {"invoke": 2, "state": "2"}]
    assert (found["stuck"], found["could_be"], found["could_be_more"]) == (4, ["2"], 0)


def test_an_operation_of_unknown_outcome_may_have_taken_effect_and_is_named_among_the_states() -> None:
    lost = operation(2, 7, "write", 9, kind="info")
    (found,) = steps("register", operation(0, 1, "write", 1), lost, operation(4, 5, "read", None, 3))
    assert found["stuck"] == 4
    assert sorted(found["could_be"]) == ["1", "9"]


def test_a_mismatch_is_evidence_and_other_failures_are_none() -> None:
    failed = operation(2, 3, "cas", [1, 2], kind="fail", error="refused")
    assert steps("cas-register", operation(0, 1, "write", 1), failed) == []
    (found,) = steps("cas-register", operation(0, 1, "write", 1), {**failed, "error": "mismatch"})
    assert (found["stuck"], found["could_be"]) == (2, ["1"])


@pytest.mark.parametrize(
    "line", [{"key": "k"}, {"key": "k", "operations": [{}]}, {"key": "k", "operations": [1]}]
)
def test_what_cannot_be_walked_is_left_out(line: Any) -> None:
    assert linearizations([line, {"key": "k", "operations": [], "left_out": 3}], MODELS["register"]) == []


def test_states_are_told_as_the_json_that_they_stand_for() -> None:
    assert told(frozenset({("a", 2), ("b", ("bool", False))})) == '{"a":2,"b":false}'
    assert told((("x", None), 7)) == '[["x",null],7]'
    assert len(told("x" * 1000)) < 70


def test_the_check_leaves_them_in_its_detail(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    lines = []
    for f, value, result in (("write", 1, 1), ("write", 2, 2), ("read", None, 1)):
        for kind, shown in (("invoke", value), ("ok", result)):
            at = len(lines)
            lines.append(
                {"index": at, "time": at, "process": 0, "type": kind, "f": f, "value": shown, "key": "k"}
            )
    path.write_text("".join(json.dumps(x) + "\n" for x in lines))
    result = check_linearizable(path, "register")
    assert result.verdict == "invalid"
    (found,) = result.detail["linearizations"]
    assert (found["key"], [s["state"] for s in found["order"]], found["stuck"]) == ("k", ["1", "2"], 4)
