"""The independent verifier takes the engine's orders and nothing else."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from checkers.engine_binary import engine_path
from checkers.models import MODELS
from checkers.witness import check_witnesses
from harness.core.errors import UsageError
from harness.core.history import History, read_history
from tests.checkers.brute import Event, history, linearizable, write_keys


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[History, list[dict[str, Any]], Path]:
    """Valid histories, a key each, with the orders that the engine gives."""
    rng = random.Random(3)
    keys: dict[Any, list[Event]] = {}
    while len(keys) < 400:
        events = history(rng)
        if linearizable(events):
            keys[f"k{len(keys)}"] = events
    folder = tmp_path_factory.mktemp("witness")
    write_keys(folder / "history.jsonl", keys)
    out = folder / "witness.jsonl"
    subprocess.run(
        [str(engine_path()), "linearizable", "--witness", str(out), str(folder / "history.jsonl")],
        check=True,
        capture_output=True,
    )
    lines = [msgspec.json.decode(line) for line in out.read_bytes().splitlines()]
    return read_history(folder / "history.jsonl"), lines, folder


def problems(judged: Any, lines: list[dict[str, Any]]) -> list[str]:
    past, _, folder = judged
    path = folder / "bent.jsonl"
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return check_witnesses(past, path, MODELS["cas-register"])


def test_the_engines_orders_are_witnesses(judged: Any) -> None:
    assert problems(judged, judged[1]) == []


def test_what_is_left_out_twice_or_not_there_is_seen(judged: Any) -> None:
    lines = judged[1]
    first = max(lines, key=lambda line: len(line["order"]))
    others = [line for line in lines if line is not first]
    order = first["order"]
    assert problems(judged, others) == [f"key {first['key']!r}: no order is given"]
    assert "given twice" in problems(judged, [*lines, first])[0]
    assert "stands twice" in problems(judged, [*others, first | {"order": [*order, order[0]]}])[0]
    assert "of another key" in problems(judged, [*others, first | {"order": [*order, 10**9]}])[0]
    assert len(problems(judged, [*others, first | {"order": []}])) == 1


def test_orders_that_are_bent_are_not_taken_unless_they_fit_as_well(judged: Any) -> None:
    """Swapping two operations is only ever taken where brute force over that order takes it too."""
    past, lines, _ = judged
    rng = random.Random(5)
    refused = 0
    for line in lines:
        if len(line["order"]) < 2:
            continue
        i, j = sorted(rng.sample(range(len(line["order"])), 2))
        order = list(line["order"])
        order[i], order[j] = order[j], order[i]
        said = [p for p in problems(judged, [line | {"order": order}]) if "no order is given" not in p]
        late = any(
            ended(past, order[b]) is not None and ended(past, order[b]) < order[a]  # type: ignore[operator]
            for a in range(len(order))
            for b in range(a + 1, len(order))
        )
        assert said or not late
        refused += bool(said)
    assert refused > len(lines) // 2


def ended(past: History, call: int) -> int | None:
    """The line on which an operation completed for certain; in these files an index is a line."""
    done = past.completion(call)
    return done.index if done is not None and done.type != "info" else None


def test_a_witness_that_is_not_there_is_refused(judged: Any) -> None:
    past, _, folder = judged
    with pytest.raises(UsageError, match="cannot read"):
        check_witnesses(past, folder / "nowhere", MODELS["register"])
