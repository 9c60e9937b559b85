"""Jepsen's histories: what each field becomes, what is refused, and that ours come back whole."""

import gzip
import random
from pathlib import Path
from typing import Any

import pytest
import zstandard

from harness.core import jepsen
from harness.core.errors import HistoryError
from harness.core.history import read_ops
from harness.core.op import NEMESIS, Op
from tests.checkers.brute import history, write_keys


def events(tmp_path: Path, text: str, **options: Any) -> list[tuple[int, Op]]:
    path = tmp_path / "history.edn"
    path.write_text(text)
    return list(jepsen.read(path, **options))


JEPSEN = """\
{:index 0, :time 10, :type :invoke, :process 0, :f :write, :value 3}
{:index 1, :time 12, :type :info, :process :nemesis, :f :kill, :value {"n1" #object[a.B 0x1f "B"]}}
{:index 2, :time 20, :type :ok, :process 0, :f :write, :value 3, :node "n1"}
{:index 3, :time 20, :type :invoke, :process 1, :f :cas, :value [3 4]}
{:index 4, :time 31, :type :fail, :process 1, :f :cas, :value [3 4], :error :mismatch}
{:index 5, :time 32, :type :invoke, :process 1, :f :read, :value nil}
{:index 7, :time 40, :type :info, :process 1, :f :read, :value :timed-out, :error [:timeout "5 s"]}
"""


def test_a_map_a_line(tmp_path: Path) -> None:
    found = events(tmp_path, JEPSEN)
    assert [line for line, _ in found] == [1, 3, 4, 5, 6, 7]
    assert [op for _, op in found] == [
        Op(0, 10, 0, "invoke", "write", 3),
        Op(2, 20, 0, "ok", "write", 3, None, "n1"),
        Op(3, 20, 1, "invoke", "cas", [3, 4]),
        Op(4, 31, 1, "fail", "cas", [3, 4], None, None, ":mismatch"),
        Op(5, 32, 1, "invoke", "read", None),
        Op(7, 40, 1, "info", "read", None, None, None, '[:timeout "5 s"]'),
    ]


@pytest.mark.parametrize("brackets", ["[]", "()"])
def test_one_vector_without_times_is_taken_in_the_order_of_its_lines(tmp_path: Path, brackets: str) -> None:
    text = (
        f"; a sample as Knossos has them\n{brackets[0]}{{:process 4, :type :invoke, :f :write, :value 2}}\n"
        "{:process :nemesis, :type :info, :f :start, :value nil}\n"
        "; and a word between\n"
        f"{{:process 4  :type :ok :f :write :value 2}}{brackets[1]}\n"
    )
    assert events(tmp_path, text) == [
        (2, Op(0, 0, 4, "invoke", "write", 2)),
        (5, Op(2, 2, 4, "ok", "write", 2)),
    ]


def test_records_values_and_keys(tmp_path: Path) -> None:
    text = (
        '#jepsen.history.Op{:index 0, :time 1, :process 0, :type :invoke, :f :add, :key :k, :value #{:b "a" 1}}\n'
        "{:index 1, :time 2, :process 0, :type :ok, :f :add, :key :k, :value #{1 :a :b}}\n"
        "{:index 2, :time 3, :process 0, :type :invoke, :f :txn, :value ([:r :x nil] [:w 1 {:a [2.5 \\x]}])}\n"
    )
    assert [op for _, op in events(tmp_path, text)] == [
        Op(0, 1, 0, "invoke", "add", ["a", "b", 1], "k"),
        Op(1, 2, 0, "ok", "add", ["a", "b", 1], "k"),
        Op(2, 3, 0, "invoke", "txn", [["r", "x", None], ["w", 1, {"a": [2.5, "x"]}]]),
    ]


KEYED = """\
{:process 0, :type :invoke, :f :write, :value [7 1]}
{:process 1, :type :invoke, :f :read, :value [8 nil]}
{:process 0, :type :ok, :f :write, :value [7 1]}
{:process 1, :type :info, :f :read, :value nil, :error :timeout}
{:process 2, :type :invoke, :f :cas, :value [7 [1 2]]}
"""


def test_tuples_of_jepsen_independent_have_to_be_told(tmp_path: Path) -> None:
    found = [(op.key, op.value) for _, op in events(tmp_path, KEYED, keyed=True)]
    assert found == [(7, 1), (8, None), (7, 1), (8, None), (7, [1, 2])]
    with pytest.raises(HistoryError, match=r"line 2: read of \[8 nil\] looks like .* say --keyed"):
        events(tmp_path, KEYED)
    plain = [(op.key, op.value) for _, op in events(tmp_path, KEYED, keyed=False)]
    assert plain[1] == (None, [8, None])
    with pytest.raises(HistoryError, match=r"line 1: cas of \[7 \[1 2\]\]"):
        events(tmp_path, KEYED.splitlines()[-1])


def test_nobody_elses_mismatch_is_evidence_and_ours_is(tmp_path: Path) -> None:
    text = "{:process 0, :type :invoke, :f :cas, :value [1 2]}\n{:process 0, :type :fail, :f :cas, :error ERROR}\n"
    for error, means in (
        ('"mismatch"', '"mismatch"'),
        (":mismatch", ":mismatch"),
        (":splitbrain/mismatch", "mismatch"),
        ('"splitbrain/mismatch"', "splitbrain/mismatch"),
        ("{:cause mismatch}", "{:cause mismatch}"),
    ):
        assert events(tmp_path, text.replace("ERROR", error))[1][1].error == means


BEGUN = "{:process 0, :type :invoke, :f :write, :value 1, :time 5, :index 3}\n"
BAD = [
    ("[70 :invoke :read nil]", 1, "70; expected an event"),
    ('{"process" 0}', 1, "keys are keywords"),
    ("{:process 0, :process 1}", 1, "each of them once"),
    ("{:process :logger, :type :info, :f :x}", 1, ":process :logger; expected"),
    ("{:type :invoke, :f :read}", 1, ":process is missing"),
    ("{:process 1.5, :type :invoke, :f :read}", 1, ":process 1.5; expected"),
    ("{:process 0, :type :started, :f :read}", 1, ":type :started; expected"),
    ("{:process 0, :type :invoke, :value 1}", 1, ":f is missing"),
    ("{:process 0, :type :ok, :f :read, :value 1}", 1, "without an invocation"),
    ("{:process 0, :type :invoke, :f :write, :value 1/3}", 1, "the value 1/3"),
    ("{:process 0, :type :invoke, :f :write, :value 1.5M}", 1, "the value 1.5M"),
    ("{:process 0, :type :invoke, :f :write, :value x}", 1, "the value x"),
    ("{:process 0, :type :invoke, :f :write, :value #a.B{:c 1}}", 1, "the value #a.B {:c 1}"),
    ("{:process 0, :type :invoke, :f :write, :value 9223372036854775808}", 1, "64 bits"),
    ('{:process 0, :type :invoke, :f :write, :value {:a 1 "a" 2}}', 1, "does not tell apart"),
    ("{:process 0, :type :invoke, :f :write, :value {[1] 1}}", 1, "[1] as a map's key"),
    (BEGUN + BEGUN.replace("3}", "4}"), 2, "invoked in line 1 is open"),
    (BEGUN + "{:process 0, :type :ok, :f :read, :value 1, :time 6, :index 4}", 2, "had invoked write"),
    (BEGUN + "{:process 0, :type :ok, :f :write, :value 1, :time 4, :index 4}", 2, ":time 4 comes after 5"),
    (BEGUN + "{:process 0, :type :ok, :f :write, :value 1, :time 5, :index 3}", 2, ":index 3 comes after 3"),
    (BEGUN + "{:process 0, :type :ok, :f :write, :value 1, :index 4}", 2, "no :time, unlike"),
    (BEGUN + "{:process 0, :type :ok, :f :write, :value 1, :time 5.5, :index 4}", 2, ":time 5.5; expected"),
    (BEGUN + "{:process 0, :type :ok, :f :write", 2, "{ is not closed"),
    (
        BEGUN.replace(":value 1", ":key 1") + "{:process 0, :type :ok, :f :write, :key 2, :time 5, :index 4}",
        2,
        "key 2",
    ),
    (BEGUN.replace(":value 1", ":value [1 2], :splitbrain/key 3"), 1, "expected [3 value]"),
]


@pytest.mark.parametrize(("text", "line", "says"), BAD, ids=[says for _, _, says in BAD])
def test_what_is_no_history_is_refused_with_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    with pytest.raises(HistoryError) as refused:
        events(tmp_path, text)
    assert refused.value.line == line
    assert says in refused.value.problem


@pytest.mark.parametrize(
    ("text", "says"),
    [(BEGUN, "as --keyed says"), (BEGUN.replace(":value 1", ":value [1 2] :key 1"), "leave --keyed")],
)
def test_a_history_that_is_not_keyed_is_not_read_as_if(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(HistoryError, match=says):
        events(tmp_path, text, keyed=True)


def test_compressed_ones_are_read_and_broken_ones_refused(tmp_path: Path) -> None:
    packed, torn = tmp_path / "history.edn.gz", tmp_path / "torn.edn.gz"
    packed.write_bytes(gzip.compress(JEPSEN.encode()))
    torn.write_bytes(packed.read_bytes()[:-20])
    other = tmp_path / "history.edn.zst"
    other.write_bytes(zstandard.compress(JEPSEN.encode()))
    assert len(list(jepsen.read(packed))) == len(list(jepsen.read(other))) == 6
    noise = tmp_path / "noise.edn"
    noise.write_bytes(random.Random(1).randbytes(1 << 20))
    for path in (torn, noise):
        with pytest.raises(HistoryError):
            list(jepsen.read(path))


@pytest.mark.parametrize("seed", range(20))
def test_ours_come_back_whole(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    ours, edn, back = (tmp_path / name for name in ("history.jsonl", "history.edn", "back.jsonl"))
    keys: list[Any] = [None] if seed % 4 == 0 else ["k1", 2, ["a", 1], "2"]
    write_keys(ours, {str(key) + str(type(key)): history(rng, key) for key in keys})
    more = [
        Op(10**6, 10**12, NEMESIS, "info", "partition", {"id": 3, "targets": ["n1"]}),
        Op(10**6 + 1, 10**12, 10**6, "invoke", "txn", [["append", "x", 1], ["r", "y", None]], "m", "n1"),
        Op(10**6 + 2, 10**12, 10**6, "ok", "txn", [["append", "x", 1]], "m", "n1", None, {"revision": 4}),
    ]  # fmt: skip
    before = [*read_ops(ours), *more]
    edn.write_text("".join(jepsen.lines(before)))
    origin = jepsen.convert(edn, back)
    clients = [op for op in before if op.process != NEMESIS]
    assert list(read_ops(back)) == clients
    assert list(origin) == [i for i, op in enumerate(before, 1) if op.process != NEMESIS]


def test_what_is_written_is_what_jepsen_writes() -> None:
    ops = [
        Op(0, 5, 1, "invoke", "cas", [1, "a"], "k", "n1"),
        Op(1, 6, 1, "fail", "cas", [1, "a"], "k", "n1", "mismatch", {"revision": 3}),
        Op(2, 7, NEMESIS, "info", "kill", {"id": "f1"}),
        Op(3, 8, 2, "invoke", "txn", [["r", "x", None]]),
    ]
    assert "".join(jepsen.lines(ops)) == (
        '{:index 0, :time 5, :type :invoke, :process 1, :f :cas, :value ["k" [1 "a"]], :splitbrain/key "k",'
        ' :node "n1"}\n'
        '{:index 1, :time 6, :type :fail, :process 1, :f :cas, :value ["k" [1 "a"]], :splitbrain/key "k",'
        ' :error :splitbrain/mismatch, :node "n1", :ext {"revision" 3}}\n'
        '{:index 2, :time 7, :type :info, :process :nemesis, :f :kill, :value {"id" "f1"}}\n'
        '{:index 3, :time 8, :type :invoke, :process 2, :f :txn, :value [[:r "x" nil]]}\n'
    )
