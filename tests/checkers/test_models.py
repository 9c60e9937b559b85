"""Every model against brute force: the engine's verdicts, its orders and its windows. No unknown."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from checkers.engine_binary import engine_path
from checkers.linearizable import check_linearizable, find_model
from checkers.models import MODELS, Call, Model
from checkers.models.compile import compile_table, operations, write_table
from harness.core.errors import HistoryError, UsageError
from harness.core.history import identity, read_history
from tests.checkers.brute import write_keys
from tests.checkers.brute_models import OWN, PLAYERS, Stack, history, linearizable

COUNT = int(os.environ.get("SPLITBRAIN_FUZZ_MODELS", "700"))
SEED = int(os.environ.get("SPLITBRAIN_FUZZ_SEED", "20"))


def model_of(name: str) -> Model:
    return OWN.get(name) or MODELS[name]


def made(name: str, folder: Path, count: int = COUNT) -> tuple[Path, dict[str, Any], dict[str, bool]]:
    """Histories, their file, and what is true of them; for every second one some tries are made at a wrong one."""
    rng, model = random.Random(SEED), model_of(name)
    histories, truth = {}, {}
    for number in range(count):
        for _ in range(8 if number % 2 else 1):
            events = history(rng, PLAYERS[name])
            legal = linearizable(model, events)
            if not legal:
                break
        histories[f"k{number}"], truth[f"k{number}"] = events, legal
    path = folder / f"{name}.jsonl"
    write_keys(path, histories)
    return path, histories, truth


def lines(path: Path, name: str, *flags: str) -> dict[str, dict[str, Any]]:
    """The engine's line for each key."""
    which = ["--model", name]
    if name in OWN:
        history = read_history(path)
        steps = max(map(len, history.by_key().values()))
        table = compile_table(OWN[name], operations(history), steps)
        assert table is not None
        write_table(table, path.with_suffix(".table"))
        which = ["--table", str(path.with_suffix(".table"))]
    done = subprocess.run(
        [str(engine_path()), "linearizable", *which, *flags, str(path)], capture_output=True, check=False
    )
    out = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, out[-1]
    return {line["key"]: line for line in out[2:-1]}


@pytest.mark.parametrize("name", PLAYERS)
def test_verdicts_orders_and_windows_agree_with_brute_force(name: str, tmp_path: Path) -> None:
    path, histories, truth = made(name, tmp_path)
    invalid = sum(not ok for ok in truth.values())
    assert invalid * 10 >= len(truth) * 4, f"{invalid} of {len(truth)} are invalid"
    model = model_of(name)
    if name == "wide-stack":  # in Python, with its orders verified there
        result = check_linearizable(path, model)
        assert result.engine == "python"
        assert {a.key for a in result.anomalies} == {key for key, ok in truth.items() if not ok}
        return
    offsets = {}
    for event in read_history(path).ops:
        offsets.setdefault(event.key, event.index)
    for flags in (
        (),
        ("--engines", "frontier"),
        ("--engines", "frontier,window"),
        ("--engines", "porcupine"),
    ):
        found = lines(path, name, *flags)
        wrong = [k for k in truth if found[k]["verdict"] != ("valid" if truth[k] else "invalid")]
        assert not wrong, (flags, len(wrong), found[wrong[0]], histories[wrong[0]])
        assert all(x["verified"] for x in found.values() if x["verdict"] == "valid")
        for key, line in found.items():
            if line["verdict"] == "invalid" and line["kind"] == "no-order" and line["proven"]:
                windowed(model, line, histories[key], offsets[key])
    result = check_linearizable(path, model)
    assert result.detail["witness"]["problems"] == []
    assert result.detail["witness"]["keys"] == sum(truth.values())


def windowed(model: Model, line: dict[str, Any], events: list[Any], offset: int) -> None:
    """What is forced and assumed must be a violation for brute force too, with nothing else of the history."""
    assert line["confirmed"], line
    if not line["from_start"] and model.name in ("kv", "owner-mutex", "mutex"):
        return starts_anywhere(model, line, events, offset)
    if line["from_start"]:
        assert not linearizable(model, part(events, line, offset)), (line, events)
    return None


def starts_anywhere(model: Model, line: dict[str, Any], events: list[Any], offset: int) -> None:
    """From every state that the window could tell apart."""
    inside = part(events, line, offset)
    starts: list[Any]
    if model.name == "kv":
        seen: dict[str, set[Any]] = {sub: {None, "nobody wants this"} for sub in "xyz"}
        for e in inside:
            if e["f"] == "read" and e["type"] == "ok":
                for sub in "xyz":
                    seen[sub].add(identity(e["value"].get(sub)))
            elif e["f"] == "txn":
                for step in e["value"]:
                    seen[step[1]].add(identity(step[2]))
        starts = [
            frozenset((s, v) for s, v in (("x", x), ("y", y), ("z", z)) if v is not None)
            for x in seen["x"]
            for y in seen["y"]
            for z in seen["z"]
        ][:400]
    elif model.name == "mutex":
        starts = [False, True]
    else:
        starts = [None, *{e["process"] for e in inside}]
    assert not linearizable(model, inside, starts), (line, events)


def part(events: list[Any], line: dict[str, Any], offset: int) -> list[Any]:
    keep: dict[int, Any] = {}
    for o in line["window"]:
        for index in (o["invoke"], o["complete"]):
            keep[index - offset] = events[index - offset]
    for o in line["assumed"]:
        e = events[o["invoke"] - offset]
        keep.setdefault(o["invoke"] - offset, e)
        if o["type"] == "ok":  # whenever it took effect, it answered what it did
            keep[o["complete"] - offset] = {**events[o["complete"] - offset], "type": "maybe"}
    return [keep[position] for position in sorted(keep)]


def test_what_a_model_cannot_take_is_refused_with_its_line(tmp_path: Path) -> None:
    def refused(f: str, value: Any, answer: Any, model: str) -> str:
        events = [
            {"index": 0, "time": 0, "process": 0, "type": "invoke", "f": f, "value": value},
            {"index": 1, "time": 1, "process": 0, "type": "ok", "f": f, "value": answer},
        ]
        path = tmp_path / "h.jsonl"
        path.write_bytes(b"".join(msgspec.json.encode(e) + b"\n" for e in events))
        with pytest.raises(HistoryError) as caught:
            check_linearizable(path, model)
        return str(caught.value)

    assert "line 1: the value of a txn is 7" in refused("txn", 7, 7, "kv")
    assert 'line 1: a step of a txn is ["w","x"]' in refused("txn", [["w", "x"]], [["w", "x"]], "kv")
    twice = [["r", "x", None], ["w", "x", 1]]
    assert 'line 1: a txn names the entry "x" twice' in refused("txn", twice, twice, "kv")
    assert "line 2: the txn" in refused("txn", [["w", "x", 1]], [["w", "x", 2]], "kv")
    assert "line 2: a read of a map returned [1]" in refused("read", None, [1], "kv")
    assert 'line 2: an acquire returned "a"' in refused("acquire", None, "a", "fenced-mutex")
    assert "f is 'push'" in refused("push", 1, 1, "tests.checkers.test_models:Peeker")


def test_a_transaction_is_told_in_words(tmp_path: Path) -> None:
    def txn(process: int, *steps: list[Any]) -> list[dict[str, Any]]:
        asked = [[*s[:2], None] if s[0] == "r" else s for s in steps]
        common = {"process": process, "f": "txn", "key": "m1", "node": "n1"}
        return [{**common, "type": "invoke", "value": asked}, {**common, "type": "ok", "value": list(steps)}]

    events = [
        *txn(0, ["w", "x", 1], ["w", "y", 1]),
        *txn(1, ["cas", "x", 1, 2]),
        *txn(2, ["r", "x", 2], ["r", "y", None]),
    ]
    path = tmp_path / "h.jsonl"
    path.write_bytes(
        b"".join(
            msgspec.json.encode({"index": i, "time": i * 10**9} | e) + b"\n" for i, e in enumerate(events)
        )
    )
    result = check_linearizable(path, "kv")
    assert result.verdict == "invalid"
    assert result.reason == (
        "txn of m1 (x read as 2, y read as null) by process 2 on n1 succeeded at 5.00 s, but no order of it and"
        " the 1 operation around it in the window fits what they answered, wherever the 1 operation still open"
        " or of unknown outcome may have taken effect"
    )
    assert [o["value"] for o in result.anomalies[0].window] == [events[0]["value"], events[4]["value"]]


class Peeker(Stack):
    fs = frozenset({"peek"})


def test_a_model_is_found_by_name_or_reference() -> None:
    assert find_model("kv") is MODELS["kv"]
    assert isinstance(find_model("tests.checkers.brute_models:Stack"), Stack)
    with pytest.raises(UsageError, match="did you mean 'mutex'"):
        find_model("mutec")
    with pytest.raises(UsageError, match="cannot be loaded"):
        find_model("tests.checkers.brute_models:Nothing")
    with pytest.raises(UsageError, match="expected name, summary, fs, initial"):
        find_model("tests.checkers.brute_models:history")


def test_a_table_that_would_be_too_large_is_not_made() -> None:
    class Endless(Stack):
        def step(self, state: Any, call: Call) -> Any:
            return (*state, call.value)

    rng = random.Random(1)
    wanted = [w for w in operations(_history_of(history(rng, PLAYERS["stack"]))) if w.f == "push"]
    assert compile_table(Endless(), wanted, 10**6) is None
    assert compile_table(Endless(), wanted, 3) is not None  # no key is longer, so no state is further


def _history_of(events: list[Any]) -> Any:
    from harness.core.history import History
    from harness.core.op import Op

    return History(
        Op(i, i, e["process"], e["type"], e["f"], e["value"], error=e.get("error"))
        for i, e in enumerate(events)
    )
