"""Histories: what is read, and what is refused by line."""

import gzip
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from harness.core.errors import HistoryError, UsageError
from harness.core.history import INFO, OK, History, identity, read_history
from harness.core.op import Op


def event(
    index: int, process: Any, kind: str, f: str = "read", value: Any = None, **more: Any
) -> dict[str, Any]:
    return {
        "index": index,
        "time": index * 10,
        "process": process,
        "type": kind,
        "f": f,
        "value": value,
        **more,
    }


good = [
    event(0, 0, "invoke", "write", 5, key="k", node="n1"),
    event(1, 1, "invoke", "read", None, key="k", node="n2", colour="unknown fields are ignored"),
    event(2, "nemesis", "info", "partition", {"id": "f1"}),
    event(3, 0, "ok", "write", 5, key="k", node="n1"),
    event(4, 1, "ok", "read", 5, key="k", node="n2", ext={"revision": 3}),
    event(5, 0, "invoke", "cas", [5, 6], key="k", node="n1"),
]


def write(path: Path, events: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(msgspec.json.encode(e) + b"\n" for e in events))
    return path


def test_columns_and_pairs(tmp_path: Path) -> None:
    history = read_history(write(tmp_path / "h.jsonl", good))
    assert history.invocations().tolist() == [0, 1, 5]
    assert history.pair.tolist() == [3, 4, -1, 0, 1, -1]
    assert history.outcome().tolist() == [OK, OK, INFO]
    assert history.ops[4].ext == {"revision": 3}
    assert history.by_key() == {"k": [0, 1, 5]}
    assert history.completion(5) is None
    assert np.array_equal(history.time, [0, 10, 20, 30, 40, 50])


def test_compressed_files_are_read_as_well(tmp_path: Path) -> None:
    import zstandard

    plain = write(tmp_path / "h.jsonl", good).read_bytes()
    (tmp_path / "h.jsonl.gz").write_bytes(gzip.compress(plain))
    (tmp_path / "h.jsonl.zst").write_bytes(zstandard.compress(plain))
    for name in ("h.jsonl.gz", "h.jsonl.zst"):
        assert len(read_history(tmp_path / name)) == len(good)


@pytest.mark.parametrize(
    ("line", "bad", "says"),
    [
        (4, event(3, 7, "ok"), "without an invocation"),
        (6, event(5, 0, "ok", "write", 5), "without an invocation"),
        (2, event(1, 0, "invoke"), "does one thing at a time"),
        (4, event(3, 0, "ok", "read", 5), "had invoked write"),
        (3, {**event(2, 3, "invoke"), "time": 9}, "must be in order"),
        (3, {**event(2, 3, "invoke"), "type": "okay"}, "expected an object with index"),
        (3, {"index": 2}, "expected an object with index"),
    ],
)
def test_a_broken_line_is_refused_by_its_number(
    tmp_path: Path, line: int, bad: dict[str, Any], says: str
) -> None:
    events = [*good[: line - 1], bad, *good[line:]]
    with pytest.raises(HistoryError, match=says) as caught:
        read_history(write(tmp_path / "h.jsonl", events))
    assert caught.value.line == line
    assert f"line {line}" in str(caught.value)


def test_noise_and_missing_files_are_refused(tmp_path: Path) -> None:
    noise = tmp_path / "noise"
    noise.write_bytes(bytes(range(256)) * 10)
    with pytest.raises(HistoryError, match="line 1"):
        read_history(noise)
    with pytest.raises(UsageError, match="No such file"):
        read_history(tmp_path / "none.jsonl")


def test_values_are_the_same_only_when_json_says_so() -> None:
    values: list[Any] = [1, True, "1", 1.5, None, False, 0, [1], [True], {"a": 1}, "null"]
    assert len({identity(v) for v in values}) == len(values)
    assert identity({"a": 1, "b": 2}) == identity({"b": 2, "a": 1})


def test_integers_are_exact_to_64_bits(tmp_path: Path) -> None:
    big = 2**63 - 1
    events = [event(0, 0, "invoke", "write", big), event(1, 0, "ok", "write", big - 1)]
    history = read_history(write(tmp_path / "h.jsonl", events))
    assert [op.value for op in history.ops] == [big, big - 1]


def test_an_empty_history_has_empty_columns() -> None:
    history = History(iter(()))
    assert len(history) == 0
    assert history.invocations().size == 0
    assert history.outcome().size == 0


def test_ties_between_processes_are_allowed() -> None:
    ops = [
        Op(0, 5, 0, "invoke", "read", None),
        Op(1, 9, 1, "invoke", "read", None),
        Op(2, 9, 0, "ok", "read", 1),
    ]
    assert History(ops).pair.tolist() == [2, -1, 0]


class Part(msgspec.Struct):
    f: str
    value: Any
    ext: dict[str, Any] | None = None


def test_rows_are_the_events_in_part(tmp_path: Path) -> None:
    many = [e for n in range(3000) for e in (event(2 * n, n, "invoke", value=n), event(2 * n + 1, n, "info"))]
    many = [{**e, "time": i} for i, e in enumerate([*many, *many, *many])]
    many += [{**e, "time": 10**6} for e in good]
    for source in (read_history(write(tmp_path / "h.jsonl", many)), History(msgspec.convert(many, list[Op]))):
        rows = list(source.rows(Part))
        assert [(r.f, r.value, r.ext) for r in rows] == [(o.f, o.value, o.ext) for o in source.ops]
        assert len(rows) == 18006
