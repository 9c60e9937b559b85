"""Replicas that differ are named key by key; dumps that failed accuse nobody."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from checkers.divergence import DIVERGENCE, Divergence
from harness.core.checker import Result
from tests.checkers.runs import context, history, record


def check(run_dir: Path | None, **spec: object) -> Result:
    checker: Divergence = DIVERGENCE.load()({})
    return checker.check(context(run_dir, history([]), spec))


def dump(run_dir: Path, node: str, content: dict[str, str] | None = None, **more: Any) -> None:
    (run_dir / "dump").mkdir(exist_ok=True)
    body: dict[str, Any] = {"format": 1, "node": node}
    if content is not None:
        body |= {"revision": 9, "hash": None, "content": content}
    (run_dir / f"dump/{node}.json").write_bytes(msgspec.json.encode({**body, **more}))


def test_without_dumps_there_is_nothing_to_compare(tmp_path: Path) -> None:
    for run_dir in (None, tmp_path):
        result = check(run_dir)
        assert result.verdict == "valid"
        assert "no node was asked" in result.reason


def test_equal_replicas(tmp_path: Path) -> None:
    for node in ("n1", "n2", "n3"):
        dump(tmp_path, node, {"a": "1", "b": "2"}, hash="77")
    result = check(tmp_path)
    assert result.verdict == "valid"
    assert result.detail["keys"] == 2
    assert "n1 and n2 and n3" in result.reason


def test_another_value_and_a_missing_key(tmp_path: Path) -> None:
    dump(tmp_path, "n1", {"a": "1", "b": "2"})
    dump(tmp_path, "n2", {"a": "1", "b": "3"})
    dump(tmp_path, "n3", {"a": "1", "b": "2", "c": "4"})
    result = check(tmp_path)
    assert result.verdict == "invalid"
    assert [(a.kind, a.key, a.nodes) for a in result.anomalies] == [
        ("content", "b", ["n2"]),
        ("content", "c", ["n3"]),
    ]
    assert "n1 has 2, n2 has 3, n3 has 2" in result.anomalies[0].explanation
    assert "n1 has nothing" in result.anomalies[1].explanation


def test_at_most_twenty_keys_are_named(tmp_path: Path) -> None:
    dump(tmp_path, "n1", {f"k{i}": "1" for i in range(100)})
    dump(tmp_path, "n2", {})
    result = check(tmp_path)
    assert len(result.anomalies) == 20
    assert "100 keys differ" in result.reason


def test_hashes_that_differ_over_equal_contents(tmp_path: Path) -> None:
    for node, number in (("n1", "77"), ("n2", "77"), ("n3", "78")):
        dump(tmp_path, node, {"a": "1"}, hash=number)
    result = check(tmp_path)
    assert [(a.kind, a.nodes) for a in result.anomalies] == [("hash", ["n3"])]
    assert "n3 78" in result.reason
    dump(tmp_path, "n3", {"a": "1"}, hash=None)  # it has none
    assert check(tmp_path).verdict == "valid"


def test_a_dump_that_failed_is_left_out(tmp_path: Path) -> None:
    dump(tmp_path, "n1", {"a": "1"})
    dump(tmp_path, "n2", {"a": "1"})
    dump(tmp_path, "n3", error="timeout")
    result = check(tmp_path)
    assert result.verdict == "valid"
    assert "n3 was left out: timeout" in result.reason
    dump(tmp_path, "n2", {"a": "2"})
    assert [a.nodes for a in check(tmp_path).anomalies] == [
        ["n1", "n2"]
    ]  # nobody knows which of them is wrong


@pytest.mark.parametrize("text", ["{", "[]", '{"node":"n2","revision":9,"content":{"a":1}}', '{"node":"n2"}'])
def test_fewer_than_two_dumps_are_unknown(tmp_path: Path, text: str) -> None:
    dump(tmp_path, "n1", {"a": "1"})
    (tmp_path / "dump/n2.json").write_text(text)
    result = check(tmp_path, nodes=3)
    assert result.verdict == "unknown"
    assert "n2" in result.reason


def test_one_replica_alone(tmp_path: Path) -> None:
    dump(tmp_path, "n1", {"a": "1"})
    assert check(tmp_path, nodes=1).verdict == "valid"
    assert check(tmp_path, nodes=3).verdict == "unknown"


def test_other_revisions_are_not_compared(tmp_path: Path) -> None:
    dump(tmp_path, "n1", {"a": "1"})
    dump(tmp_path, "n2", {"a": "2"}, revision=8)
    assert check(tmp_path).verdict == "unknown"
    dump(tmp_path, "n3", {"a": "1"})
    result = check(tmp_path)
    assert result.verdict == "valid"
    assert "n2 was left out" in result.reason


def test_beyond_what_is_promised_it_is_an_observation(tmp_path: Path) -> None:
    dump(tmp_path, "n1", {"a": "1"})
    dump(tmp_path, "n2", {"a": "2"})
    record(tmp_path, [("bit-flip", 4, 5, True)])
    result = check(tmp_path)
    assert result.verdict == "valid"
    assert "bit-flip" in result.reason
    assert result.detail["observations"]
    assert check(tmp_path, promises=[{"prop": "durable", "families": ["bit-flip"]}]).verdict == "invalid"


def test_random_replicas(tmp_path: Path) -> None:
    """Equal ones are never accused; one value changed, added or lost is always found, and only that."""
    for seed in range(500):
        rng = random.Random(seed)
        content = {f"k{i}": str(rng.randrange(5)) for i in range(rng.randrange(6))}
        for node in ("n1", "n2", "n3"):
            shuffled = dict(rng.sample(list(content.items()), len(content)))
            dump(tmp_path, node, shuffled, hash="1")
        assert check(tmp_path).verdict == "valid"
        changed, key = dict(content), f"k{rng.randrange(7)}"
        if key in changed and rng.random() < 0.5:
            del changed[key]
        else:
            changed[key] = changed.get(key, "") + "x"
        node = rng.choice(["n1", "n2", "n3"])
        dump(tmp_path, node, changed, hash="1")
        assert [(a.key, a.nodes) for a in check(tmp_path).anomalies] == [(key, [node])]
