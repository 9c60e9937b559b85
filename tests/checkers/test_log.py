"""Logs: what is lost, doubled, out of order or made up is found, each beside its clean twin."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from checkers.log import LOG
from harness.core.checker import Result
from harness.core.errors import HistoryError, UsageError
from harness.core.history import History
from tests.checkers.hand import Did, context, did, history, kinds, same_from_disk


def check(made: History, **options: Any) -> Result:
    result: Result = LOG.load()(options).check(context(made))
    return result


def publish(message: Any, seq: int | None, begin: float, end: float | None, **more: Any) -> Did:
    return did("publish", message, (begin, end), **({"sequence": seq} if seq else {}), **more)


def read(messages: list[Any], begin: float, end: float, start: int = 1, **more: Any) -> Did:
    after = more.pop("next", max([start - 1, *(m[0] for m in messages)]) + 1)
    said = {"from": start, "messages": messages, "next": after}
    return did("read", more.pop("asked", start), (begin, end), result=said, **more)


THREE = [publish("a", 1, 0, 1), publish("b", 2, 2, 3, node="n2"), publish("c", 4, 4, 5)]
ALL = [[1, "a"], [2, "b"], [4, "c"]]


def test_what_is_published_is_read() -> None:
    result = check(
        history(*THREE, read(ALL[:2], 3.5, 3.6), read(ALL[1:], 6, 7, start=2), read(ALL, 8, 9, final=True))
    )
    assert (kinds(result), result.verdict) == ([], "valid")
    assert (result.detail["acknowledged"], result.detail["unread"], result.detail["duplicates"]) == (3, 0, 0)


def test_lost_in_the_middle_and_its_clean_twin() -> None:
    assert check(history(*THREE, read(ALL, 8, 9, final=True))).verdict == "valid"
    result = check(history(*THREE, read([ALL[0], ALL[2]], 8, 9, final=True, node="n3")))
    assert kinds(result) == ["lost"]
    (a,) = result.anomalies
    assert [o["f"] for o in a.window] == ["publish", "read"]
    assert a.window[0]["value"] == "b"
    assert set(a.nodes) == {"n2", "n3"}
    assert "acknowledged" in a.explanation
    assert "number 2" in a.explanation


def test_lost_at_the_end_of_a_final_read_and_its_clean_twin() -> None:
    late = history(*THREE, read(ALL[:2], 6, 7), read(ALL, 8, 9, final=True))
    assert check(late).verdict == "valid"  # a read in between may be late
    assert kinds(check(late, stale="violation")) == ["stale"]
    assert kinds(check(history(*THREE, read(ALL[:2], 8, 9, final=True)))) == ["lost"]


def test_what_nobody_acknowledged_may_be_missing_but_not_once_it_was_read() -> None:
    unknown = publish("d", None, 5.5, 5.6, how="info")
    assert check(history(*THREE, unknown, read(ALL, 8, 9, final=True))).verdict == "valid"
    shown = [*ALL, [5, "d"]]
    recovered = check(history(*THREE, unknown, read(shown, 8, 9, final=True)))
    assert (recovered.verdict, recovered.detail["recovered"]) == ("valid", 1)
    lost = history(*THREE, unknown, read(shown, 6, 7), read(ALL, 8, 9, final=True))
    assert kinds(check(lost)) == ["lost"]


def test_a_log_that_is_gone_as_a_whole() -> None:
    result = check(history(*THREE, read(ALL, 6, 7), read([], 8, 9, final=True)))
    assert kinds(result) == ["lost"]
    assert "(and 2 more messages)" in result.anomalies[0].explanation


def test_a_gap_that_closes_again_is_none_that_stays() -> None:
    result = check(history(*THREE, read([ALL[0], ALL[2]], 6, 7), read(ALL, 8, 9, final=True)))
    assert kinds(result) == ["gap"]


def test_duplicated_and_its_clean_twins() -> None:
    twice = history(*THREE, read([*ALL, [5, "b"]], 8, 9, final=True))
    result = check(twice)
    assert kinds(result) == ["duplicated"]
    assert "number 2" in result.anomalies[0].explanation
    allowed = check(twice, delivery="at-least-once")
    assert (allowed.verdict, allowed.detail["duplicates"]) == ("valid", 1)
    assert check(history(*THREE, read(ALL, 8, 9, final=True))).verdict == "valid"


def test_reordered_and_its_clean_twin() -> None:
    def run(begin: float) -> Result:
        ops = [publish("a", 7, 0, 1), publish("b", 3, begin, 3)]
        return check(history(*ops, read([[3, "b"], [7, "a"]], 8, 9, final=True)))

    assert run(0.5).verdict == "valid"  # they overlap
    result = run(2)
    assert kinds(result) == ["reordered"]
    assert [o["value"] for o in result.anomalies[0].window] == ["a", "b"]


def test_a_publish_of_unknown_outcome_may_come_later_but_not_before_it_began() -> None:
    def run(seq: int) -> Result:
        ops = [publish("a", 4, 0, 1), publish("b", None, 2, None)]
        return check(history(*ops, read(sorted([[4, "a"], [seq, "b"]]), 8, 9, final=True)))

    assert run(9).verdict == "valid"
    assert kinds(run(2)) == ["reordered"]


def test_a_read_whose_numbers_do_not_grow() -> None:
    assert kinds(check(history(*THREE, read([ALL[1], ALL[0], ALL[2]], 8, 9, final=True)))) == ["reordered"]


def test_phantom_and_its_clean_twins() -> None:
    unknown = publish("x", None, 5, None)
    shown = [*ALL, [5, "x"]]
    assert check(history(*THREE, unknown, read(shown, 8, 9, final=True))).verdict == "valid"
    result = check(history(*THREE, read(shown, 8, 9, final=True)))
    assert kinds(result) == ["phantom"]
    early = history(*THREE, read(shown, 6, 7), publish("x", 5, 7.5, 7.6), read(shown, 8, 9, final=True))
    assert kinds(check(early)) == ["phantom"]
    failed = publish("x", None, 5, 6, how="fail")
    assert kinds(check(history(*THREE, failed, read(shown, 8, 9, final=True)))) == ["failed-publish"]


def test_two_who_tell_of_different_messages_at_one_number() -> None:
    unknown = publish("d", None, 5.5, None)
    result = check(history(*THREE, unknown, read([*ALL[:2], [4, "d"]], 8, 9, final=True)))
    assert kinds(result) == ["disagree"]


def test_messages_without_numbers_are_told_by_final_reads() -> None:
    ops = [publish("a", None, 0, 1), publish("b", None, 2, 3)]
    assert check(history(*ops, read([[1, "a"], [2, "b"]], 8, 9, final=True))).verdict == "valid"
    assert kinds(check(history(*ops, read([[1, "a"]], 8, 9, final=True)))) == ["lost"]


def test_json_values_are_told_apart() -> None:
    ops = [publish(1, 1, 0, 1), publish(True, 2, 2, 3), publish("1", 3, 4, 5)]
    assert check(history(*ops, read([[1, 1], [2, True], [3, "1"]], 8, 9, final=True))).verdict == "valid"


def test_each_log_is_judged_by_itself() -> None:
    other = [publish("a", 1, 0, 1, key="other"), read([], 8, 9, final=True, key="other")]
    result = check(history(*THREE, read(ALL, 8, 9, final=True), *other))
    assert [a.key for a in result.anomalies] == ["other"]


@pytest.mark.parametrize(
    ("ops", "why"),
    [
        ([publish("a", None, 0, 1, how="info"), read([], 2, 3)], "no publish was acknowledged"),
        ([publish("a", 1, 0, 1)], "no read was answered"),
        ([*THREE, read(ALL, 8, 9, final=True), publish("z", 1, 0, 1, key="m")], "no final read"),
    ],
)
def test_nothing_to_judge_is_unknown(ops: list[Did], why: str) -> None:
    result = check(history(*ops))
    assert result.verdict == "unknown"
    assert why in result.reason


def test_reads_before_the_last_fault_alone_say_nothing_of_it() -> None:
    result = check(history(*THREE, read(ALL, 6, 7), faults=[8]))
    assert result.verdict == "unknown"


@pytest.mark.parametrize("answer", [7, [1, 2], [["1", 2]], {"messages": [1], "from": 1, "next": 2}])
def test_what_is_no_list_of_messages_is_refused(answer: Any) -> None:
    with pytest.raises(HistoryError, match="line 3"):
        check(history(publish("a", 1, 0, 3), did("read", None, (1, 2), result=answer)))


def test_options_are_validated() -> None:
    with pytest.raises(UsageError):
        LOG.load()({"delivery": "at-most-once"})


def test_the_same_from_disk(tmp_path: Path) -> None:
    made = history(*THREE, read([ALL[0], ALL[2]], 8, 9, final=True))
    same_from_disk(check, made, tmp_path / "history.jsonl")


def random_log(seed: int, messages: int) -> list[Did]:
    """A correct log: messages stand in the order in which they took effect, reads show a prefix of it."""
    rng = random.Random(seed)
    ops: list[Did] = []
    stored: list[list[Any]] = []
    at = 0.0
    seq = 0
    for message in range(messages):
        seq += rng.choice((1, 1, 3))
        how = rng.choice(("ok", "ok", "ok", "info"))
        if how == "ok" or rng.random() < 0.5:
            stored.append([seq, message])
        begin, end = at - rng.random() * 3, at + rng.random() * 3
        ops.append(publish(message, seq if how == "ok" else None, begin, end, how=how))
        if rng.random() < 0.2:
            first = rng.choice((1, max(1, seq - 9)))
            shown = [m for m in stored if m[0] >= first]
            ops.append(read(shown, at + 0.01, at + 4, start=first, next=seq + 1))
        at += 1
    ops += [read(stored, at + 5, at + 6, next=seq + 1, final=True, node=f"n{i}") for i in (1, 2, 3)]
    return ops


@pytest.mark.parametrize("seed", range(30))
def test_a_correct_log_is_never_accused_and_a_hole_is_always_found(seed: int) -> None:
    ops = random_log(seed, 40)
    assert check(history(*ops), stale="violation").verdict == "valid"
    acked = [o for o in ops if o.f == "publish" and o.how == "ok"]
    gone = random.Random(seed).choice(acked).ext["sequence"]  # type: ignore[index]
    final = ops[-1]
    less = {**final.result, "messages": [m for m in final.result["messages"] if m[0] != gone]}
    planted = [*ops[:-1], read(less["messages"], final.begin, final.end or 0, next=less["next"], final=True)]
    assert kinds(check(history(*planted))) == ["lost"]


def test_time_grows_with_the_history_and_no_faster() -> None:
    def seconds(messages: int) -> float:
        made = history(*random_log(1, messages))
        began = time.process_time()
        check(made)
        return time.process_time() - began

    seconds(200)
    small, large = seconds(1000), seconds(2000)
    # Reads from the beginning make the history itself grow with the square; four times that is linear.
    assert large < 12 * small + 0.2
