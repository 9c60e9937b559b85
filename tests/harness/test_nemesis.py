"""The nemesis with several faults in force, on a cluster in memory: bounds, contradictions, undo, conditions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import msgspec
import pytest

from harness.core.errors import InfrastructureError
from harness.core.fault import FaultContext, Plan, claims
from harness.core.ledger import FaultRecord, Ledger, read_faults, read_lines
from harness.core.outages import outages
from harness.core.system import Status, System
from harness.journal import Journal
from harness.nemesis import Nemesis
from nemesis.kill import KILL
from nemesis.partition import PARTITION
from nemesis.pause import PAUSE
from nemesis.schedule import Step
from tests.nemesis.fake import FakeCluster


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nemesis._node_fault.WAIT_S", 0.0)
    monkeypatch.setattr("nemesis.pause._WAIT_S", 0.0)
    monkeypatch.setattr("nemesis.pause._STANDING_S", 0.001)


class Told:
    """A system that says who leads."""

    ports: ClassVar = {"client": 2379, "peer": 2380}

    def status(self, node: Any, timeout_s: float) -> Status:
        return Status(role="leader" if node.name == "n2" else "follower", term=3)


class Cluster(FakeCluster):
    def enter(self, endpoint: str) -> None:
        """Every thread is everywhere."""


class Run:
    """One nemesis over `steps`, lived to its end."""

    def __init__(
        self,
        where: Path,
        steps: list[Step],
        *,
        most: int | None = None,
        nodes: int = 5,
        flush_restarts: bool = False,
    ) -> None:
        self.where, self.cluster = where, Cluster(nodes)
        self.journal = Journal(where / "journal.jsonl", "abc123")
        self.ledger = Ledger(where / "faults.jsonl", "abc123")
        made = {d.name: d.load()({o.name: o.default for o in d.options}) for d in (KILL, PAUSE, PARTITION)}
        self.faults = made
        self.failed = threading.Event()
        self.nemesis = Nemesis(
            cluster=cast("Any", self.cluster),
            system=cast("System", Told()),
            faults=made,
            steps=steps,
            ledger=self.ledger,
            journal=self.journal,
            seed=1,
            on_failure=self.failed.set,
            most=most,
            flush_restarts=flush_restarts,
        )

    def live(self, wait_s: float = 10) -> Run:
        if self.nemesis._thread.ident is None:
            self.nemesis.start()
        self.nemesis._thread.join(wait_s)
        self.nemesis.stop()
        return self

    @property
    def records(self) -> list[FaultRecord]:
        return read_faults(self.where / "faults.jsonl")

    def span(self, fault: str) -> tuple[int, int]:
        record = next(r for r in self.records if r.fault == fault)
        assert record.applied is not None
        assert record.undone is not None
        return record.applied, record.undone

    def clean(self) -> bool:
        running = all(s.state == "S" for s in self.cluster.running.values())
        return running and not self.cluster.blocks and not any(r.outstanding for r in self.records)


def skipped(run: Run) -> dict[int, str]:
    lines = read_lines(run.where / "faults.jsonl")
    return {x["step"]: x["says"] for x in lines if x.get("event") == "skipped"}


def eventually(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def step(n: int, at_s: float, hold_s: float, word: str, *follows: int, **more: Any) -> Step:
    family, _, target = word.partition(":")
    return Step(n, at_s, hold_s, family, target, follows, **more)


def test_outages_overlap_each_with_its_evidence(tmp_path: Path) -> None:
    steps = [step(1, 0.0, 0.4, "kill:n1"), step(2, 0.1, 0.6, "pause:n3"), step(3, 0.2, 0.1, "partition:n4")]
    run = Run(tmp_path, steps).live()
    assert run.clean()
    assert [r.fault for r in run.records if r.effective] == ["f1", "f2", "f3"]
    assert all(r.evidence[-1]["effect"] is False for r in run.records), "healed as measured"
    assert run.span("f3")[1] < run.span("f1")[1] < run.span("f2")[1]
    found = outages(run.records, 0, run.journal.now())
    assert (found.most, found.worst) == (3, ["n1", "n3", "n4"])
    assert 0.2 < found.overlapping_s < found.any_s
    assert found.families == {"kill": 1, "pause": 1, "partition": 1}


@pytest.mark.parametrize(("silent_s", "waited_s"), [(0.5, 0.4), (9.0, 0.9), (0.0, 0.0)])
def test_a_node_that_starts_is_waited_for_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent_s: float, waited_s: float
) -> None:
    steps = [step(1, 0.0, 0.1, "kill:n1"), step(2, 0.1, 0.1, "pause:n1", 1, settle_s=1.0)]
    run = Run(tmp_path, steps)
    begun = time.monotonic()

    def status(_: Told, node: Any, timeout_s: float) -> Status:
        starting = node.name == "n1" and time.monotonic() - begun < silent_s
        return Status(role="candidate" if starting else "follower", term=3)

    monkeypatch.setattr(Told, "status", status)
    run.live()
    assert run.clean()
    assert [r.fault for r in run.records if r.effective] == ["f1", "f2"]
    waited = (run.span("f2")[0] - run.span("f1")[1]) / 1e9
    assert waited_s - 0.15 < waited < waited_s + 1.0


def test_partitions_add_up_and_each_is_told_by_what_it_cut_alone(tmp_path: Path) -> None:
    steps = [
        step(1, 0.0, 0.5, "partition:n1"),
        step(2, 0.1, 0.1, "partition:n2"),
        step(3, 0.3, 0.4, "partition:n3"),
    ]
    run = Run(tmp_path, steps).live()
    assert run.clean()
    assert all(r.effective and r.evidence[-1]["effect"] is False for r in run.records)


def test_the_bound_holds_whatever_the_schedule_says(tmp_path: Path) -> None:
    steps = [
        step(1, 0.0, 0.3, "kill:n1"),
        step(2, 0.0, 0.6, "pause:n2"),
        step(3, 0.1, 0.5, "partition:n3"),  # waits for n1
        step(4, 0.2, 0.2, "partition:majority"),  # two more never fit beside two
    ]
    run = Run(tmp_path, steps, most=2).live()
    assert run.clean()
    assert run.span("f3")[0] >= run.span("f1")[1]
    assert outages(run.records, 0, run.journal.now()).most == 2
    assert all("would have been out at once, where 2 may be" in note for note in run.nemesis.notes)


def test_what_contradicts_waits_or_is_left_out(tmp_path: Path) -> None:
    steps = [
        step(1, 0.0, 0.3, "kill:n2"),
        step(2, 0.1, 0.4, "pause:n2"),  # once it lives again
        step(3, 0.1, 0.01, "pause:n2"),  # its time is over by then
    ]
    run = Run(tmp_path, steps).live()
    assert run.clean()
    assert run.span("f2")[0] >= run.span("f1")[1]
    (note,) = run.nemesis.notes
    assert note == "pause:n2 (step 3) was left out: n2 had a fault already that cannot be joined by it"
    (line,) = [x for x in read_lines(tmp_path / "faults.jsonl") if x.get("event") == "skipped"]
    assert (line["step"], line["family"], line["target"]) == (3, "pause", "n2")


def test_a_role_is_taken_by_somebody_who_is_free(tmp_path: Path) -> None:
    steps = [step(1, 0.0, 0.5, "pause:n2"), step(2, 0.1, 0.2, "kill:leader"), step(3, 0.1, 0.2, "pause:all")]
    run = Run(tmp_path, steps).live()
    assert run.clean()
    kill, all_others = run.records[1], run.records[2]
    assert "n2, the leader, has a fault already, so the choice was random" in kill.says
    assert kill.nodes[0] != "n2"
    assert set(all_others.nodes) == {"n1", "n3", "n4", "n5"} - set(kill.nodes)


def test_a_state_follows_another(tmp_path: Path) -> None:
    steps = [step(1, 0.0, 0.3, "partition:n1"), step(2, 0.1, 0.1, "kill:n1", 1)]
    run = Run(tmp_path, steps).live()
    assert run.clean()
    assert run.span("f2")[0] >= run.span("f1")[1]


def test_a_lasting_fault_stays_until_the_load_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, [step(1, 0.0, 0.1, "kill:n1"), step(2, 0.1, 0.1, "pause:n2")])
    plan = run.faults["kill"].plan
    monkeypatch.setattr(
        run.faults["kill"], "plan", lambda *given: msgspec.structs.replace(plan(*given), lasting=True)
    )
    run.nemesis.start()
    time.sleep(0.8)
    assert [r.outstanding for r in run.records] == [True, False]
    run.nemesis.stop()
    assert run.clean()


def test_stopping_heals_everything(tmp_path: Path) -> None:
    run = Run(tmp_path, [step(1, 0, 60, "kill:n1"), step(2, 0, 60, "partition:n2"), step(3, 5, 1, "kill:n3")])
    run.nemesis.start()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and sum(r.effective for r in run.records) < 2:
        time.sleep(0.02)
    assert not run.clean()
    run.nemesis.stop()
    assert run.clean()
    assert len(run.records) == 2


def test_what_fails_is_undone_and_so_is_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(
        tmp_path, [step(1, 0, 60, "kill:n1"), step(2, 0.1, 1, "partition:n2"), step(3, 0.2, 1, "kill:n3")]
    )

    def broken(ctx: FaultContext, plan: Plan) -> None:
        raise InfrastructureError("the switch is gone")

    monkeypatch.setattr(run.faults["partition"], "apply", broken)
    run.nemesis.start()
    assert run.failed.wait(5)
    with pytest.raises(InfrastructureError, match="the switch is gone"):
        run.nemesis.stop()
    assert run.clean()
    assert [r.error for r in run.records] == [None, "the switch is gone"]


def sampled(where: Path, node: str, role: str, term: int) -> None:
    line = {"time": 1, "node": node, "ok": True, "role": role, "term": term}
    with (where / "monitor.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(line) + b"\n")


def logs(where: Path, text: str) -> None:
    path = where / "logs" / "n3" / "etcd.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)


@pytest.fixture(params=["leader", "log", "ops"])
def waiting(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A run that waits for something, what it had seen before, and what makes it come true."""
    kind = request.param
    when: dict[str, Any] = {
        "leader": {"leader": "n4"},
        "log": {"log": "lost .*", "node": "n3"},
        "ops": {"ops": 2},
    }[kind]
    run = Run(tmp_path, [step(1, 0.1, 0.1, "kill:n1", when=when, group=1)])
    sampled(tmp_path, "n4", "leader", 2)
    logs(tmp_path, "lost leader, long ago\n")

    def fire() -> None:
        sampled(tmp_path, "n4", "follower", 3)
        sampled(tmp_path, "n4", "leader", 4)
        logs(tmp_path, "lost leader n2\n")
        with (tmp_path / "journal.jsonl").open("ab") as file:
            file.write(b'{"type":"invoke"}\n{"type":"ok"}\n{"type":"invoke"}\n')

    return SimpleNamespace(run=run, fire=fire)


def test_a_condition_starts_a_step(waiting: SimpleNamespace) -> None:
    run: Run = waiting.run
    run.nemesis.start()
    time.sleep(0.3)
    assert not run.records, "what was there before is no news"
    waiting.fire()
    run.live()
    assert run.clean()
    assert [r.effective for r in run.records] == [True]
    (line,) = [x for x in read_lines(run.where / "faults.jsonl") if x.get("event") == "triggered"]
    assert line["says"]


def test_a_condition_that_never_comes_true_is_told(tmp_path: Path) -> None:
    run = Run(tmp_path, [step(1, 0, 1, "kill:n1", when={"leader": "any"}, group=1)])
    run.nemesis.start()
    time.sleep(0.2)
    run.nemesis.stop()
    assert run.nemesis.notes == ["kill:n1 (step 1) never began: its condition (leader any) did not come true"]
    assert skipped(run) == {1: "its condition (leader any) did not come true"}


def test_what_never_began_says_what_it_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Told, "status", lambda *_: Status(role="candidate"))
    steps = [
        step(1, 0, 0.01, "kill:n1"),
        step(2, 0.02, 9, "kill:n1", 1, settle_s=60),
        step(3, 0.03, 9, "pause:n2"),
        step(4, 0.04, 9, "kill:n2"),
        step(5, 0.035, 9, "kill:n3", 3),
        step(6, 60, 9, "kill:n4"),
        step(7, 61, 9, "pause:n4", 6),
    ]
    run = Run(tmp_path, steps)
    run.nemesis.start()
    nemesis = run.nemesis
    eventually(lambda: 2 in nemesis._settling and 4 in nemesis._refused)
    run.nemesis.stop()
    said = skipped(run)
    assert {n: why.rpartition("until then ")[2] for n, why in said.items()} == {
        2: "n1 did not serve again after what it had before",
        4: "n2 had a fault already that cannot be joined by it",
        5: "what it follows (step 3) was not over",
        6: "the load was over before its time had come",
        7: "the load was over before its time had come",
    }
    assert run.nemesis.notes == [
        f"kill:n1 (step 2) never began: {said[2]}",
        f"kill:n2 (step 4) never began: {said[4]}",
        f"kill:n3 (step 5) never began: {said[5]}",
        f"kill:n4 (step 6) never began: {said[6]}",
        "nor did what follows: pause:n4 (step 7)",
    ]


@pytest.mark.parametrize("flush", [True, False])
def test_what_was_written_is_on_the_disk_before_a_node_starts_again_if_so_asked(
    tmp_path: Path, flush: bool
) -> None:
    run = Run(tmp_path, [step(1, 0, 0.05, "kill:n1")], flush_restarts=flush)
    run.cluster.disk.plant("n1", "tail")
    run.live()
    assert run.clean()
    run.cluster.disk.power_loss(["n1"])
    assert run.cluster.disk.planted("n1", "tail") == {"synced": True, "unsynced": flush}


def test_a_disk_that_takes_nothing_keeps_nobody_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(nodes: Any) -> None:
        raise OSError("syncfs: Input/output error")

    run = Run(tmp_path, [step(1, 0, 0.05, "kill:n1")], flush_restarts=True)
    monkeypatch.setattr(run.cluster.disk, "flush", broken)
    assert run.live().clean()


def test_claims_are_what_a_fault_needs_unless_it_says_so() -> None:
    made = [d.load()({o.name: o.default for o in d.options}) for d in (KILL, PAUSE, PARTITION)]
    assert [claims(fault) for fault in made] == [{"signal", "restart"}, {"signal", "stop"}, frozenset()]
    assert claims(cast("Any", SimpleNamespace(needs=frozenset({"signal"}), claims=frozenset({"own"})))) == {
        "own"
    }
