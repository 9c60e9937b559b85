"""What is seen while a run goes on, over a run directory that grows as a real one does."""

import io
import time
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from harness.admission import Admission
from harness.core.fault import Evidence, Plan
from harness.core.ledger import Ledger
from harness.core.spec import Spec
from results.follow import Follower, Rate
from results.tail import Tail
from splitbrain.display import Live, Plain
from tests.splitbrain.helpers import ROOT

SPEC = Spec(version="3.6.16", time_s=30.0, seed=7)
SECOND = 1_000_000_000


class Growing:
    """A run directory that is written to as the harness does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def journal(self, *lines: dict[str, object]) -> None:
        with (self.path / "journal.jsonl").open("ab") as file:
            for line in lines:
                file.write(msgspec.json.encode(line) + b"\n")

    def begin(self, epoch: int) -> None:
        self.journal({"format": 1, "run": "a1b2c3", "epoch_mono_ns": epoch, "epoch_real_ns": 1})

    def op(self, kind: str, process: object = 3, value: object = 5) -> None:
        self.journal({"time": 1, "process": process, "type": kind, "f": "write", "value": value, "key": "k"})

    def sample(self, node: str, **more: object) -> None:
        with (self.path / "monitor.jsonl").open("ab") as file:
            file.write(msgspec.json.encode({"time": 1, "node": node, **more}) + b"\n")


@pytest.fixture
def growing(tmp_path: Path) -> Growing:
    return Growing(tmp_path / "run")


def fault(ledger: Ledger, name: str = "f1") -> None:
    plan = Plan(fault=name, family="partition", target="leader", nodes=("n2",), says="n2 cut off")
    ledger.plan(9 * SECOND, plan, "partition", "⊘", "network")
    ledger.evidence(9 * SECOND, name, Evidence(phase="before", effect=None, says="all reached"))
    ledger.note("applied", 10 * SECOND, name)


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    follower = Follower(tmp_path / "nowhere")
    follower.poll()
    assert (follower.phase, follower.done, follower.elapsed_s(), follower.leader) == (
        None,
        0,
        0.0,
        (None, None),
    )
    follower.close()


def test_counts_follow_the_journal(growing: Growing) -> None:
    follower = Follower(growing.path)
    growing.begin(5 * SECOND)
    growing.journal({"phase": "setup", "time": 0})
    follower.poll()
    assert follower.phase == "setup"
    assert follower.elapsed_s(now_ns=8 * SECOND) == 3.0
    growing.journal({"phase": "load", "time": 2 * SECOND})
    for kind in ("invoke", "ok", "invoke", "fail", "invoke", "info", "invoke"):
        growing.op(kind)
    growing.op("info", process="nemesis", value={"id": "f1"})
    follower.poll()
    follower.poll()
    assert (follower.ok, follower.fail, follower.info, follower.invoked) == (1, 1, 1, 4)
    assert (follower.phase, follower.phase_ns) == ("load", 2 * SECOND)
    growing.journal({"end": "done", "time": 3 * SECOND})
    follower.poll()
    assert follower.phase == "done"
    follower.close()


def test_text_inside_values_is_not_counted(growing: Growing) -> None:
    follower = Follower(growing.path)
    growing.op("invoke", value='"type":"ok"')
    growing.op("ok", value='{"phase":"final","time":1}')
    follower.poll()
    assert (follower.ok, follower.phase) == (1, None)
    follower.close()


def test_lines_cut_anywhere_are_counted_once(growing: Growing) -> None:
    """A reader may see a file at any byte."""
    growing.begin(0)
    for kind in ("invoke", "ok") * 3:
        growing.op(kind)
    data = (growing.path / "journal.jsonl").read_bytes()
    (growing.path / "journal.jsonl").unlink()
    follower = Follower(growing.path)
    for at in range(0, len(data), 7):
        with (growing.path / "journal.jsonl").open("ab") as file:
            file.write(data[at : at + 7])
        follower.poll()
    assert (follower.ok, follower.invoked, follower.epoch_ns) == (3, 3, 0)
    follower.close()


def test_a_line_longer_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "long"
    line = b'{"value":"' + b"x" * 3_000_000 + b'","type":"ok"}\n'
    path.write_bytes(line + line)
    tail = Tail(path)
    assert b"".join(tail.blocks()) == line + line
    assert list(tail.blocks()) == []
    tail.close()


def test_faults_in_force(growing: Growing) -> None:
    follower = Follower(growing.path)
    ledger = Ledger(growing.path / "faults.jsonl", "a1b2c3")
    follower.poll()
    assert follower.faults == {}
    fault(ledger)
    follower.poll()
    assert [line["says"] for line in follower.faults.values()] == ["n2 cut off"]
    ledger.note("undone", 12 * SECOND, "f1")
    follower.poll()
    assert (follower.faults, follower.faults_begun) == ({}, 1)
    ledger.close()
    follower.close()


def test_of_two_leaders_the_higher_term_counts(growing: Growing) -> None:
    follower = Follower(growing.path)
    growing.sample("n1", ok=True, role="leader", term=2, leader="n1")
    growing.sample("n2", ok=True, role="leader", term=3, leader="n2")
    growing.sample("n3", ok=False, error="timeout")
    with (growing.path / "monitor.jsonl").open("a") as file:
        file.write('{"time":1,"logs":{"n1/etcd.log":47}}\nno json\n[1]\n')
    follower.poll()
    assert follower.leader == ("n2", 3)
    assert set(follower.nodes) == {"n1", "n2", "n3"}
    growing.sample("n2", ok=False, error="timeout")
    follower.poll()
    assert follower.leader == ("n1", 2)
    follower.close()


def test_keys_checked_meanwhile_are_counted_once(growing: Growing) -> None:
    follower = Follower(growing.path)
    follower.poll()
    assert follower.checked_words == ""
    with (growing.path / "incremental.jsonl").open("ab") as file:
        for key, verdict in (("k1", "valid"), ("k1", "valid"), (1, "unknown"), ("1", "invalid")):
            file.write(msgspec.json.encode({"time": 1, "key": key, "verdict": verdict, "reason": ""}) + b"\n")
        file.write(b'{"end":"done","time":2}\n')
    follower.poll()
    assert follower.checked_words == "3 keys checked, 1 in violation"
    follower.close()


def test_rate_and_its_bars() -> None:
    rate = Rate()
    assert (rate.latest, rate.sparkline()) == (0.0, "")
    for second, done in enumerate([0, 100, 300, 300]):
        rate.note(float(second), done)
        rate.note(second + 0.3, done)
    assert list(rate.values) == [100.0, 200.0, 0.0]
    assert rate.sparkline() == "▄█▁"
    assert len(rate.sparkline(width=2)) == 2


def test_plain_lines(growing: Growing) -> None:
    out = io.StringIO()
    display = Plain(SPEC, growing.path, Console(file=out, width=200), every_s=0.0)
    display.update()
    assert out.getvalue() == ""
    growing.begin(time.monotonic_ns())
    growing.journal({"phase": "load", "time": 0})
    growing.op("ok")
    growing.sample("n2", ok=True, role="leader", term=4)
    ledger = Ledger(growing.path / "faults.jsonl", "a1b2c3")
    fault(ledger)
    display.update()
    ledger.note("undone", 12 * SECOND, "f1")
    growing.journal({"phase": "heal", "time": 1})
    display.update()
    display.update()
    ledger.close()
    display.stop()
    lines = [line.partition(" s  ")[2] for line in out.getvalue().splitlines()]
    assert lines == [
        "load and faults",
        "⊘ partition: n2 cut off",
        "0/s  1 ok  0 fail  0 info  leader n2, term 4",
        "undoing the faults",
        "partition undone",
    ]


@pytest.mark.parametrize("width", [30, 80, 160])
def test_the_live_display_draws(growing: Growing, width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True)
    display = Live(SPEC, growing.path, console)
    display.update()
    growing.begin(time.monotonic_ns())
    growing.journal({"phase": "load", "time": 0})
    for _ in range(1234):
        growing.op("ok")
    growing.sample("n1", ok=True, role="leader", term=4)
    growing.sample("n2", ok=False, error="timeout")
    ledger = Ledger(growing.path / "faults.jsonl", "a1b2c3")
    fault(ledger)
    ledger.close()
    display.update()
    text = Console(width=width, file=io.StringIO(), record=True)
    text.print(display.render())
    shown = text.export_text()
    display.stop()
    assert all(len(line) <= width for line in shown.splitlines())
    if width >= 80:
        for part in (
            "etcd 3.6.16",
            "seed 7",
            "1,234",
            "n2 cut off",
            "n1 ★ leader, term 4",
            "n2 ✕ silent",
            "of 30 s",
        ):
            assert part in shown


def test_counting_keeps_up_with_a_fast_run(growing: Growing) -> None:
    """100,000 operations must be a matter of blocks, not of lines: nothing is parsed but the marks."""
    growing.begin(0)
    line = (
        ROOT / "docs" / "run-directory.md"
    ).read_text()  # the format that is counted is the documented one
    sample = next(part.strip() for part in line.splitlines() if '"started":S' in part)
    data = sample.replace(":T,", ":12345,").replace(":S,", ":12340,").encode() + b"\n"
    (growing.path / "journal.jsonl").write_bytes(data * 100_000)
    follower = Follower(growing.path)
    follower.poll()
    assert (follower.ok, follower.done) == (100_000, 100_000)
    follower.close()


def test_a_run_that_waits_for_others_says_so_once(growing: Growing) -> None:
    shown = io.StringIO()
    plain = Plain(SPEC, growing.path, Console(file=shown))
    record = Admission(cores=1.0, of=2, waiting=2)
    for waiting in (2, 2, 1, 0):
        record.waiting = waiting
        record.write(growing.path)
        plain.update()
    growing.begin(time.monotonic_ns())
    growing.journal({"phase": "setup", "time": 0})
    plain.update()
    plain.stop()
    texts = [line.partition(" s  ")[2] for line in shown.getvalue().splitlines()]
    assert texts == [
        "waiting for 2 other runs: the machine is full",
        "waiting for 1 other run: the machine is full",
        "making nodes",
    ]
