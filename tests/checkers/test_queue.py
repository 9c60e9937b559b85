"""Queues: what is lost, doubled, out of order or made up is found, each beside its clean twin."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from checkers.queue import QUEUE
from harness.core.checker import Result
from harness.core.errors import HistoryError, UsageError
from harness.core.history import History
from harness.core.op import Op
from splitbrain.runner import check as judge
from tests.checkers.hand import Did, context, did, history, kinds, renumbered, same_from_disk, simulate


def check(made: History, **options: Any) -> Result:
    result: Result = QUEUE.load()(options).check(context(made))
    return result


def put(element: Any, begin: float, end: float | None, **more: Any) -> Did:
    return did("enqueue", element, (begin, end), **more)


def take(element: Any, begin: float, end: float | None, **more: Any) -> Did:
    return did("dequeue", None, (begin, end), result=element, **more)


def left(elements: list[Any], begin: float, end: float, **more: Any) -> Did:
    return did("read", None, (begin, end), result=elements, final=True, **more)


TWO = [put("a", 0, 1), put("b", 2, 3, node="n2")]


def test_what_is_put_in_comes_out_or_is_left() -> None:
    result = check(history(*TWO, take("a", 4, 5), take(None, 4, 5), left(["b"], 8, 9)))
    assert (kinds(result), result.verdict) == ([], "valid")
    assert (result.detail["acknowledged"], result.detail["taken"], result.detail["empty"]) == (2, 1, 1)


def test_lost_and_its_clean_twin() -> None:
    assert check(history(*TWO, take("a", 4, 5), left(["b"], 8, 9))).verdict == "valid"
    result = check(history(*TWO, take("a", 4, 5), left([], 8, 9, node="n3")))
    assert kinds(result) == ["lost"]
    (a,) = result.anomalies
    assert [o["f"] for o in a.window] == ["enqueue", "read"]
    assert a.window[0]["value"] == "b"
    assert set(a.nodes) == {"n2", "n3"}


def test_a_dequeue_is_no_read() -> None:
    """One of unknown outcome may have taken one element, and not two."""
    maybe = take(None, 4, 5, how="info")
    result = check(history(*TWO, maybe, left(["a"], 8, 9)))
    assert (result.verdict, result.detail["may_be_taken"]) == ("valid", 1)
    result = check(history(*TWO, maybe, left([], 8, 9)))
    assert kinds(result) == ["lost"]
    assert "1 dequeues of unknown outcome may have taken one each" in result.anomalies[0].explanation
    assert result.detail["lost"] == 1
    assert kinds(check(history(*TWO, take(None, 4, 5, how="fail"), left(["a"], 8, 9)))) == ["lost"]
    never = check(history(*TWO, take(None, 4, None), left(["a"], 8, 9)))
    assert never.verdict == "valid"
    behind = check(history(*TWO, left(["a"], 8, 9), take(None, 10, 11, how="info")))
    assert kinds(behind) == ["lost"]


def test_what_nobody_acknowledged_may_be_missing() -> None:
    unknown = put("c", 4, 5, how="info")
    for elements in (["a", "b"], ["a", "b", "c"]):
        assert check(history(*TWO, unknown, left(elements, 8, 9))).verdict == "valid"
    assert check(history(*TWO, unknown, take("c", 6, 7), left(["a", "b"], 8, 9))).verdict == "valid"


def test_duplicated_and_its_clean_twins() -> None:
    twice = history(*TWO, take("a", 4, 5), take("a", 6, 7, node="n3"), left(["b"], 8, 9))
    result = check(twice, delivery="exactly-once")
    assert kinds(result) == ["duplicated"]
    assert [o["f"] for o in result.anomalies[0].window] == ["enqueue", "dequeue", "dequeue"]
    allowed = check(twice)
    assert (allowed.verdict, allowed.detail["duplicates"]) == ("valid", 1)
    again = history(*TWO, put("a", 3, 3.5), take("a", 4, 5), take("a", 6, 7), left(["b"], 8, 9))
    assert check(again, delivery="exactly-once").verdict == "valid"


def test_reordered_and_its_clean_twins() -> None:
    def run(asked: float) -> History:
        return history(*TWO, take("b", 4, 5), take("a", asked, 7), left([], 8, 9))

    result = check(run(6), order="fifo")
    assert kinds(result) == ["reordered"]
    assert len(result.anomalies[0].window) == 4
    assert check(run(6)).verdict == "valid"  # not every queue is one that keeps order
    assert check(run(4.5), order="fifo").verdict == "valid"  # the two dequeues overlap
    overlap = history(put("a", 0, 3), put("b", 2, 3), take("b", 4, 5), take("a", 6, 7), left([], 8, 9))
    assert check(overlap, order="fifo").verdict == "valid"


def test_phantom_and_its_clean_twins() -> None:
    rest = [take("a", 4, 5), left(["b"], 8, 9)]
    assert check(history(*TWO, put("x", 3, None), take("x", 6, 7), *rest)).verdict == "valid"
    result = check(history(*TWO, take("x", 6, 7), *rest))
    assert kinds(result) == ["phantom"]
    early = check(history(*TWO, take("x", 6, 7), put("x", 7.5, 7.6), take("a", 4, 5), left(["b", "x"], 8, 9)))
    assert kinds(early) == ["phantom"]
    assert kinds(check(history(*TWO, take("a", 4, 5), left(["b", "x"], 8, 9)))) == ["phantom"]
    failed = put("x", 3, 4, how="fail")
    assert kinds(check(history(*TWO, failed, take("x", 6, 7), *rest))) == ["failed-enqueue"]


def test_a_drain_takes_all_that_it_returns() -> None:
    def drain(elements: Any, **more: Any) -> Did:
        return did("drain", None, (8, 9), result=elements, **more)

    assert check(history(*TWO, drain(["a", "b"]))).verdict == "valid"
    assert kinds(check(history(*TWO, drain(["a"])))) == ["lost"]
    assert check(history(*TWO, drain(None, how="info"))).verdict == "unknown"


@pytest.mark.parametrize(
    ("ops", "why"),
    [
        ([put("a", 0, 1, how="info"), left([], 2, 3)], "no enqueue was acknowledged"),
        ([put("a", 0, 1)], "nothing came out"),
        ([*TWO, take("a", 4, 5)], "may be there or lost"),
        ([*TWO, left(["a"], 2.5, 2.6)], "may be there or lost"),
    ],
)
def test_nothing_to_judge_is_unknown(ops: list[Did], why: str) -> None:
    result = check(history(*ops))
    assert result.verdict == "unknown"
    assert why in result.reason


def test_what_is_no_list_is_refused() -> None:
    with pytest.raises(HistoryError, match="line 4"):
        check(history(put("a", 0, 1), did("read", None, (2, 3), result=7)))


def test_options_are_validated() -> None:
    with pytest.raises(UsageError):
        QUEUE.load()({"order": "lifo"})


def test_the_same_from_disk(tmp_path: Path) -> None:
    same_from_disk(check, history(*TWO, take("a", 4, 5), left([], 8, 9)), tmp_path / "history.jsonl")


def random_queue(seed: int, operations: int = 60) -> list[Op]:
    """A correct queue, first in and first out, under five clients."""
    rng = random.Random(seed)
    held: list[Any] = []

    def effect(f: str, _key: Any, value: Any, _node: str) -> tuple[Any, dict[str, Any]]:
        if f == "enqueue":
            held.append(value)
            return value, {}
        if f == "dequeue":
            return (held.pop(0) if held else None), {}
        return list(held), {}

    plan = [("enqueue", "q", n) if rng.random() < 0.6 else ("dequeue", "q", None) for n in range(operations)]
    return simulate(rng, plan, effect, final=[("read", "q", None)])


@pytest.mark.parametrize("seed", range(40))
def test_a_correct_queue_is_never_accused_and_a_loss_is_found(seed: int) -> None:
    events = random_queue(seed)
    result = check(renumbered(events), delivery="exactly-once", order="fifo")
    assert kinds(result) == []
    taken = {e.value for e in events if e.type == "ok" and e.f == "dequeue"}
    acked = [e.value for e in events if e.type == "ok" and e.f == "enqueue" and e.value not in taken]
    unknown = len({e.process for e in events if e.f == "dequeue" and e.type == "invoke"})  # at most so many
    reads = [i for i, e in enumerate(events) if e.f == "read" and e.type == "ok"]
    if len(acked) > unknown:
        planted = list(events)
        for at in reads:
            planted[at] = Op(**{**{f: getattr(events[at], f) for f in Op.__struct_fields__}, "value": []})
        assert kinds(check(renumbered(planted))) == ["lost"]


def test_a_history_from_elsewhere(tmp_path: Path) -> None:
    """`splitbrain check --model queue` judges it."""
    path = tmp_path / "history.jsonl"
    lines: list[dict[str, Any]] = []
    for n, (f, value, answer) in enumerate([("enqueue", 1, 1), ("dequeue", None, 2), ("drain", None, [])]):
        asked = {"index": 2 * n, "time": 10 * n, "process": 0, "type": "invoke", "f": f, "value": value}
        lines += [asked, {**asked, "index": 2 * n + 1, "time": 10 * n + 5, "type": "ok", "value": answer}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = judge(path, model="queue")
    assert results["verdict"] == "invalid"
    assert {a["kind"] for a in results["checks"]["queue"]["anomalies"]} == {"lost", "phantom"}


def test_time_grows_with_the_history_and_no_faster() -> None:
    def seconds(operations: int) -> float:
        made = renumbered(random_queue(1, operations))
        began = time.process_time()
        check(made, order="fifo", delivery="exactly-once")
        return time.process_time() - began

    seconds(500)
    assert seconds(8000) < 8 * seconds(2000) + 0.2
