"""Known verdicts, sentences, value identity, many keys, bad files."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from checkers import linearizable
from checkers.engine_answers import label
from checkers.explain import explain
from checkers.linearizable import LINEARIZABLE, Linearizable
from harness.core.checker import CheckContext, Result
from harness.core.errors import HistoryError, UsageError
from harness.core.history import read_history
from tests.checkers.brute import write_keys

HISTORIES = Path(__file__).parents[2].parent / "shared" / "histories"


def judge(path: Path, **options: Any) -> Result:
    return Linearizable(options).check(CheckContext(history_path=path, history=lambda: read_history(path)))


def op(process: int, start: int, end: int | None, f: str, value: Any, result: Any = None, **more: Any) -> Any:
    """One operation with its place in time; `end` None for one never completed."""
    return (process, start, end, f, value, result, more)


def record(path: Path, *ops: Any, key: Any = "k") -> Path:
    """A history file of operations with given times in ms."""
    events = []
    for process, start, end, f, value, result, more in ops:
        common = {"process": process, "f": f, "key": more.get("key", key), "node": f"n{process % 3 + 1}"}
        events.append((start, 0, {**common, "type": "invoke", "value": value}))
        if end is not None:
            typ = more.get("type", "ok")
            done = {**common, "type": typ, "value": result if f == "read" else value}
            if "error" in more:
                done["error"] = more["error"]
            events.append((end, 1, done))
    events.sort(key=lambda e: e[:2])
    lines = [{"index": i, "time": t * 1_000_000} | e for i, (t, _, e) in enumerate(events)]
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return path


def known() -> list[tuple[str, str, str]]:
    table = HISTORIES / "verdicts.tsv"
    if not table.exists():
        return []
    return [tuple(line.split("\t")) for line in table.read_text().splitlines()]  # type: ignore[misc]


@pytest.mark.skipif(not known(), reason="the histories with known verdicts are not here")
def test_histories_with_known_verdicts() -> None:
    wrong = []
    for name, model, expected in known():
        result = judge(HISTORIES / f"{name}.jsonl", model=model, key_time_s=5.0)
        if result.verdict != expected:
            wrong.append((name, expected, result.verdict, result.reason))
    assert not wrong


def test_a_stale_read_is_explained_with_read_value_and_node(tmp_path: Path) -> None:
    path = record(
        tmp_path / "history.jsonl",
        op(1, 11000, 11500, "write", 4),
        op(3, 11900, 12020, "write", 5),
        op(4, 12030, 12500, "write", 6, type="info", error="timeout"),
        op(7, 12250, 12310, "read", None, 4),
        key="k3",
    )
    result = judge(path)
    assert (result.verdict, result.engine) == ("invalid", "zones")
    [anomaly] = result.anomalies
    assert (anomaly.kind, anomaly.key, anomaly.nodes) == ("stale-read", "k3", ["n2", "n1"])
    assert result.reason == anomaly.explanation
    assert anomaly.explanation == (
        "read of k3 by process 7 on n2 returned 4 at 12.31 s, but 5 had been written and acknowledged by"
        " 12.02 s and nothing wrote 4 again; it should have seen 5 or a value that replaced it"
    )
    assert [(o["f"], o["value"], o["result"]) for o in anomaly.window] == [
        ("write", 4, None),
        ("write", 5, None),
        ("read", None, 4),
    ]
    last = anomaly.window[-1]
    assert last == {
        "invoke": 5, "complete": 6, "process": 7, "f": "read", "value": None, "result": 4, "node": "n2",
        "type": "ok", "start_ns": 12_250_000_000, "end_ns": 12_310_000_000,
    }  # fmt: skip
    assert [o["invoke"] for o in result.detail["failing"]["k3"]] == [0, 2, 4, 5]


def test_times_in_a_sentence_are_as_fine_as_the_operations_ask(tmp_path: Path) -> None:
    path = record(tmp_path / "h.jsonl", op(1, 100, 101, "write", 4), op(2, 103, 104, "read", None, None))
    assert "at 0.104 s, but 4 had been written and acknowledged by 0.101 s" in judge(path).reason


@pytest.mark.parametrize(
    ("ops", "kind", "words"),
    [
        ([op(1, 0, 9, "read", None, 3)], "never-written", "but nothing ever wrote 3"),
        (
            [op(1, 0, 9, "read", None, 3), op(2, 10, 12, "write", 3)],
            "read-before-write",
            "process 2 on n3 wrote it only from 0.010 s on",
        ),
        (
            [op(1, 0, 1, "write", 1), op(2, 3, 4, "cas", [1, 2], type="fail", error="mismatch")],
            "impossible-mismatch",
            "cas of k from 1 to 2 by process 2 on n3 failed at 0.004 s because the value was not 1, but 1",
        ),
        (
            [op(2, 3, 4, "cas", [None, 2], type="fail", error="mismatch")],
            "impossible-mismatch",
            "it had been null from the start",
        ),
        (
            [op(1, 0, 1, "write", 1), op(2, 2, 3, "cas", [1, 2]), op(3, 4, 5, "cas", [1, 3])],
            "stale-read",
            "cas of k from 1 to 3 by process 3 on n1 succeeded at 0.005 s, so it met 1, but 2 had been",
        ),
    ],
)
def test_each_precheck_and_its_sentence(tmp_path: Path, ops: list[Any], kind: str, words: str) -> None:
    result = judge(record(tmp_path / "h.jsonl", *ops))
    assert (result.verdict, result.anomalies[0].kind) == ("invalid", kind)
    assert words in result.reason


def test_a_violation_for_the_search_has_a_small_proven_window(tmp_path: Path) -> None:
    """Two writes, still open, are read as a, b and a again; forty operations before do not matter."""
    before = [op(1, 10 * i, 10 * i + 5, "write", i) for i in range(40)]
    path = record(
        tmp_path / "h.jsonl",
        *before,
        op(2, 500, 600, "write", "a"),
        op(3, 500, 600, "write", "b"),
        op(4, 510, 520, "read", None, "a"),
        op(5, 530, 540, "read", None, "b"),
        op(6, 550, 560, "read", None, "a"),
        op(1, 700, 710, "write", 99),
    )
    result = judge(path)
    assert (result.verdict, result.engine) == ("invalid", "zones")
    [anomaly] = result.anomalies
    assert [(o["process"], o["value"]) for o in anomaly.window] == [(4, None), (5, None), (6, None)]
    assert [o["process"] for o in anomaly.assumed] == [2, 3]
    assert anomaly.explanation == (
        'read of k by process 6 on n1 returned "a" at 0.56 s, but no order of it and the 2 operations around'
        " it in the window fits what they answered, wherever the 2 operations still open or of unknown"
        " outcome may have taken effect"
    )
    assert len(result.detail["failing"]["k"]) == 46


def test_a_failed_cas_is_evidence_only_for_a_mismatch(tmp_path: Path) -> None:
    for error, verdict in (("mismatch", "invalid"), ("version moved on", "valid")):
        failed = op(2, 3, 4, "cas", [1, 2], type="fail", error=error)
        path = record(tmp_path / "h.jsonl", op(1, 0, 1, "write", 1), failed)
        assert judge(path).verdict == verdict


def test_an_operation_of_unknown_outcome_may_take_effect_late_or_never(tmp_path: Path) -> None:
    for end, typ in ((None, "info"), (2, "info")):
        pending = op(1, 0, end, "write", 1, type=typ)
        seen = [op(2, 10, 11, "read", None, None), op(2, 20, 21, "read", None, 1)]
        assert judge(record(tmp_path / "h.jsonl", pending, *seen)).verdict == "valid"
        assert judge(record(tmp_path / "h.jsonl", pending, seen[0])).verdict == "valid"
        gone = op(2, 30, 31, "read", None, None)
        assert judge(record(tmp_path / "h.jsonl", pending, *seen, gone)).verdict == "invalid"


@pytest.mark.parametrize(
    ("written", "returned", "verdict"),
    [
        (1, True, "invalid"),
        (1, "1", "invalid"),
        (0, False, "invalid"),
        (None, "null", "invalid"),
        ("", None, "invalid"),
        (2**53, 2**53 + 1, "invalid"),
        (2**63 - 1, 2**63 - 2, "invalid"),
        (-(2**63), -(2**63), "valid"),
        (2**64 - 1, 2**64 - 1, "valid"),
        (1, 1.0, "valid"),
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, "valid"),
        ([1, 2], [2, 1], "invalid"),
    ],
)
def test_values_are_compared_as_json(tmp_path: Path, written: Any, returned: Any, verdict: str) -> None:
    path = record(tmp_path / "h.jsonl", op(1, 0, 1, "write", written), op(1, 2, 3, "read", None, returned))
    assert judge(path).verdict == verdict


def test_every_violating_key_is_listed_and_keys_are_told_apart(tmp_path: Path) -> None:
    bad = [
        {"process": 1, "type": "invoke", "f": "read", "value": None},
        {"process": 1, "type": "ok", "f": "read", "value": 9},
    ]
    good = [dict(bad[0]), {**bad[1], "value": None}]
    keys: dict[Any, Any] = {f"k{i}": bad if i % 4 == 0 else good for i in range(120)}
    keys |= {"1": bad, "null": good}
    path = tmp_path / "h.jsonl"
    write_keys(path, keys)
    with path.open("ab") as out:  # the same names as other types: other objects
        for index, key in enumerate((1, None, [1]), 10_000):
            for e in bad:
                line = {"index": index, "time": 10**12, **e, "key": key, "process": index}
                out.write(msgspec.json.encode(line) + b"\n")
    result = judge(path)
    expected = {f"k{i}" for i in range(0, 120, 4)} | {'"1"', "1", "null", "[1]"}
    assert {label(a.key) for a in result.anomalies} == expected
    assert len(result.detail["failing"]) == 20
    assert result.detail["failing_more_keys"] == len(expected) - 20
    assert "33 more keys" in result.reason
    assert result.detail["keys"] == 125


@pytest.mark.parametrize(
    ("ops", "verdict"),
    [
        ([op(1, 0, 1, "acquire", None), op(1, 2, 3, "release", None), op(2, 4, 5, "acquire", None)], "valid"),
        ([op(1, 0, 1, "acquire", None), op(2, 2, 3, "acquire", None)], "invalid"),
        ([op(1, 0, 1, "release", None)], "invalid"),
        ([op(1, 0, 1, "acquire", None, type="info"), op(2, 2, 3, "acquire", None)], "valid"),
        ([op(1, 0, 1, "acquire", None, type="info"), op(2, 2, 3, "release", None)], "valid"),
        ([op(1, 0, 1, "acquire", None, type="fail"), op(2, 2, 3, "release", None)], "invalid"),
    ],
)
def test_a_mutex_is_held_by_one(tmp_path: Path, ops: list[Any], verdict: str) -> None:
    assert judge(record(tmp_path / "h.jsonl", *ops), model="mutex").verdict == verdict


def test_the_nemesis_and_unknown_fields_are_passed_over(tmp_path: Path) -> None:
    path = record(tmp_path / "h.jsonl", op(1, 0, 1, "write", 1), op(1, 2, 3, "read", None, 1))
    lines = path.read_bytes().replace(b'"f":"read"', b'"f":"read","note":{"a":[1,{"b":null}]}')
    fault = {
        "index": 4,
        "time": 10**9,
        "process": "nemesis",
        "type": "info",
        "f": "kill",
        "value": {"id": "f1"},
    }
    path.write_bytes(lines + msgspec.json.encode(fault) + b"\n")
    result = judge(path)
    assert (result.verdict, result.detail["ops"]) == ("valid", 2)


def test_a_history_without_operations_proves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    path.write_bytes(b"")
    result = judge(path)
    assert (result.verdict, result.anomalies) == ("unknown", [])
    assert "nothing to decide" in result.reason


def test_a_bad_line_is_refused_with_its_number(tmp_path: Path) -> None:
    path = record(tmp_path / "h.jsonl", op(1, 0, 1, "write", 1), op(1, 2, 3, "read", None, 1))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(HistoryError, match="line 4: the line ends in the middle") as caught:
        judge(path)
    assert (caught.value.line, caught.value.exit_code) == (4, 2)
    with pytest.raises(HistoryError, match="expected one of acquire, release"):
        judge(path, model="mutex")
    noise = tmp_path / "noise"
    noise.write_bytes(random.Random(1).randbytes(1 << 20))
    with pytest.raises(HistoryError, match="line 1: "):
        judge(noise)
    with pytest.raises(UsageError, match="no such file"):
        judge(tmp_path / "nowhere.jsonl")
    fake = tmp_path / "h.jsonl.gz"
    fake.write_bytes(b"not compressed at all")
    with pytest.raises(UsageError, match="gzip"):
        judge(fake)


def test_a_torn_compressed_file_is_refused(tmp_path: Path) -> None:
    plain = record(tmp_path / "h.jsonl", *(op(1, 2 * i, 2 * i + 1, "write", i) for i in range(500)))
    path = tmp_path / "h.jsonl.gz"
    path.write_bytes(gzip.compress(plain.read_bytes()))
    assert judge(path).verdict == "valid"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(HistoryError, match="cannot be read"):
        judge(path)


def test_options_are_checked() -> None:
    assert LINEARIZABLE.load() is Linearizable
    with pytest.raises(UsageError, match="did you mean 'model'"):
        Linearizable({"modell": "register"})
    with pytest.raises(UsageError, match="unknown model 'stack'"):
        Linearizable({"model": "stack"})
    with pytest.raises(UsageError, match="expected at least"):
        Linearizable({"time_s": 0})


def test_a_long_history_is_not_read_again_unless_its_witness_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = record(tmp_path / "h.jsonl", op(0, 0, 1, "write", 1), op(0, 2, 3, "read", None, 1))

    def unread() -> Any:
        raise AssertionError("the engine reads the file by itself")

    monkeypatch.setattr(linearizable, "VERIFIED_OPS", 1)
    context = CheckContext(history_path=path, history=unread)
    assert Linearizable().check(context).verdict == "valid"
    with pytest.raises(AssertionError):
        Linearizable({"witness": str(tmp_path / "w.jsonl")}).check(context)
    result = judge(path, witness=str(tmp_path / "w.jsonl"))
    assert result.detail["witness"]["keys"] == 1
    assert (tmp_path / "w.jsonl").read_text() == '{"key":"k","order":[0,2]}\n'


def test_an_order_that_is_no_witness_makes_the_verdict_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = record(tmp_path / "h.jsonl", op(0, 0, 1, "write", 1), op(0, 2, 3, "read", None, 1))
    engine = tmp_path / "engine"
    real = linearizable.engine_path()
    engine.write_text(f"""#!/bin/sh
for word in "$@"; do [ "$before" = --witness ] && witness=$word; before=$word; done
{real} "$@"
echo '{{"key":"k","order":[2,0]}}' > "$witness"
""")
    engine.chmod(0o755)
    monkeypatch.setenv("SPLITBRAIN_ENGINE", str(engine))
    result = judge(path)
    assert result.verdict == "unknown"
    assert "no witness: key 'k': read of line 3 by process 0 did not meet what it says" in result.reason


def test_a_window_that_could_not_be_proven_says_so() -> None:
    window = [
        {"invoke": 8, "complete": 9, "process": 4, "f": "read", "value": None, "result": 3, "node": "n1",
         "type": "ok", "start_ns": 10**9, "end_ns": 2 * 10**9},
        {"invoke": 4, "complete": 5, "process": 5, "f": "write", "value": 3, "result": None, "node": "n2",
         "type": "ok", "start_ns": 0, "end_ns": 10},
    ]  # fmt: skip
    line = {"key": "k", "kind": "no-order", "culprit": 8, "window": window, "assumed": [], "prefix": 90}
    sure = explain(line | {"proven": False, "shortest": True})
    assert "no order of the first 90 completed operations on this key" in sure
    assert "without this last one there is an order" in sure
    assert "need not be a counterexample by themselves" in sure
    assert "without this" not in explain(line | {"proven": False, "shortest": False})
