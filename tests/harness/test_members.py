"""Whoever looks after the members: the decision by itself, and carried out on a system in memory."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, cast

import pytest

from checkers.members import Members
from harness import members as module
from harness.core.admin import Member
from harness.core.checker import CheckContext
from harness.core.cluster import Node, Process, ProcessState
from harness.core.errors import Definite, Indeterminate
from harness.members import Keeper, Known, Task, next_task

A, B, C = (Known(f"n{i}", f"id{i}", True, False) for i in (1, 2, 3))
LAUNCHED = {m.node: m.id for m in (A, B, C)}
ALL = ("n1", "n2", "n3")


def task(wanted: str, *members: Known, answering: str = "n1 n2 n3 n4", **launched: str) -> Task | None:
    return next_task(wanted.split(), members, {**LAUNCHED, **launched}, answering=answering.split())


def test_nothing_is_to_be_done_when_all_is_as_wanted() -> None:
    assert task("n1 n2 n3", A, B, C) is None


def test_who_comes_is_added_launched_and_promoted_before_anybody_goes() -> None:
    new = Known("n4", "id4", False, True)
    assert task("n1 n2 n4", A, B, C) == Task("add", "n4")
    assert task("n1 n2 n4", A, B, C, new) == Task("launch", "n4", "id4")
    waits = task("n1 n2 n4", A, B, C, new, n4="id4")
    assert waits is not None
    assert (waits.do, waits.why) == ("wait", "the new member on n4 has not started yet")
    started = new._replace(started=True)
    assert task("n1 n2 n4", A, B, C, started, n4="id4") == Task("promote", "n4", "id4")
    voter = started._replace(learner=False)
    assert task("n1 n2 n4", A, B, C, voter, n4="id4") == Task("remove", "n3", "id3")


def test_a_node_is_launched_anew_only_for_another_member() -> None:
    """Its data are another's exactly when the agreement has another id on it."""
    again = Known("n3", "id9", False, True)
    assert task("n1 n2 n3", A, B, again) == Task("launch", "n3", "id9")
    assert task("n1 n2 n3", A, B, C) is None


def test_nobody_goes_without_whom_too_few_would_answer() -> None:
    waits = task("n1 n2", A, B, C, answering="n1 n3")
    assert waits is not None
    assert (waits.do, waits.why) == ("wait", "without n3 too few of n1, n2 would answer")
    forced = next_task(["n1", "n2"], [A, B, C], LAUNCHED, answering=["n1"], below_quorum=True)
    assert forced == Task("remove", "n3", "id3")


def test_what_nobody_wants_any_more_is_removed_whatever_it_is() -> None:
    stranger = Known("10.9.9.9", "id8", False, True)
    assert task("n1 n2 n3", A, B, C, stranger) == Task("remove", "10.9.9.9", "id8")


class System:
    """Members, an interface for them, and processes that start at once. `script` says what befalls the next
    changes: `ok`, `lost` (it happens, and no answer comes), `dropped` (neither), `refused`, `false` (an answer, and
    it does not happen)."""

    def __init__(self, *script: str) -> None:
        self.script = list(script)
        self.nodes = tuple(Node(f"n{i}", f"10.0.0.{i}") for i in range(1, 6))
        self.there = {f"id{i}": Member(id=f"id{i}", address=f"10.0.0.{i}", name=f"n{i}") for i in (1, 2, 3)}
        self.ids = 100
        self.done: list[str] = []
        self.silent: set[str] = set()
        self.process = self.disk = self

    # the cluster

    def enter(self, name: str) -> None:
        """Every thread is everywhere."""

    def state(self, node: str) -> tuple[ProcessState, ...]:
        return ()

    def tamper(self, node: str, how: str, given: dict[str, Any]) -> None:
        self.done.append(f"{how} {node}")

    def launch(self, processes: dict[str, Any]) -> None:
        for node in processes:
            self.done.append(f"launch {node}")
            address = next(n.address for n in self.nodes if n.name == node)
            for member in [m for m in self.there.values() if m.address == address]:
                self.there[member.id] = Member(
                    id=member.id, address=address, name=node, learner=member.learner
                )

    # the interface

    def members(self, node: Node, timeout_s: float, *, agreed: bool) -> tuple[Member, ...]:
        if node.name in self.silent:
            raise Indeterminate("timeout")
        return tuple(self.there.values())

    def add(self, through: Node, new: Node, timeout_s: float, *, learner: bool) -> None:
        def change() -> None:
            self.ids += 1
            member = Member(id=f"id{self.ids}", address=new.address, learner=learner)
            self.there[member.id] = member

        self.change(f"add {new.name}", change)

    def promote(self, through: Node, member: str, timeout_s: float) -> None:
        old = self.there[member]
        new = Member(id=old.id, address=old.address, name=old.name)
        self.change("promote", lambda: self.there.update({member: new}))

    def remove(self, through: Node, member: str, timeout_s: float) -> None:
        self.change(f"remove {self.there[member].address}", lambda: self.there.pop(member))

    def change(self, what: str, do: Any) -> None:
        how = self.script.pop(0) if self.script else "ok"
        self.done.append(f"{what} {how}")
        if how == "refused":
            raise Definite("etcdserver: unhealthy cluster")
        if how in ("ok", "lost"):
            do()
        if how in ("lost", "dropped"):
            raise Indeterminate("timeout")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.002)
    monkeypatch.setattr(module, "_CALM_S", 0.002)
    monkeypatch.setattr(module, "PATIENCE_S", 0.02)


def keep(system: System, where: Path) -> Keeper:
    keeper = Keeper(
        cluster=cast("Any", system),
        admin=cast("Any", system),
        hosts=system.nodes,
        first=ALL,
        processes=lambda node, nodes: [Process(name="etcd", argv=(node.name, str(len(nodes))))],
        record=where / "members.jsonl",
        now=time.monotonic_ns,
    )
    keeper.begin()
    return keeper


def lived(system: System, where: Path, *wishes: str) -> tuple[Keeper, list[dict[str, Any]]]:
    keeper = keep(system, where)
    for wish in wishes:
        keeper.want(wish.split(), 2.0)
        deadline = time.monotonic() + 2
        while not keeper.settled and time.monotonic() < deadline:
            time.sleep(0.002)
    assert keeper.settle(2.0)
    keeper.end()
    keeper.close()
    return keeper, [json.loads(line) for line in (where / "members.jsonl").read_text().splitlines()]


def judged(where: Path) -> Any:
    ctx = CheckContext(history_path=where, history=lambda: cast("Any", None), run_dir=where)
    return Members().check(ctx)


def test_a_member_is_replaced_and_comes_back_as_another(tmp_path: Path) -> None:
    system = System()
    keeper, _ = lived(system, tmp_path, "n1 n2 n4")
    there = ["add n4 ok", "wipe n4", "launch n4", "promote ok", "remove 10.0.0.3 ok"]
    back = ["add n3 ok", "wipe n3", "launch n3", "promote ok", "remove 10.0.0.4 ok"]
    assert system.done == there + back
    assert (keeper.serving, keeper.voters, keeper.spares) == (ALL, ALL, ("n4", "n5"))
    found = judged(tmp_path)
    assert found.verdict == "valid"
    assert found.reason == "2 added, 2 promoted, 2 removed; in the end they are n1, n2, n3, by every view"


def test_a_change_whose_answer_was_lost_is_known_by_what_is_seen(tmp_path: Path) -> None:
    system = System("lost", "lost", "lost")
    _, lines = lived(system, tmp_path, "n1 n2 n4")
    assert [d for d in system.done if d.startswith("add n4")] == ["add n4 lost"], "not asked for twice"
    events = [(line["event"], line.get("do")) for line in lines]
    assert events.index(("pending", "add")) < events.index(("observed", "add"))
    assert judged(tmp_path).verdict == "valid"


def test_a_change_that_never_shows_is_asked_for_again(tmp_path: Path) -> None:
    system = System("dropped", "ok")
    _, lines = lived(system, tmp_path, "n1 n2 n3 n4")
    assert system.done[:2] == ["add n4 dropped", "add n4 ok"]
    assert [line["do"] for line in lines if line["event"] == "unseen"] == ["add"]


def test_a_refusal_is_told_and_tried_again(tmp_path: Path) -> None:
    system = System("refused", "refused", "ok")
    _, lines = lived(system, tmp_path, "n1 n2 n3 n4")
    assert system.done[:3] == ["add n4 refused", "add n4 refused", "add n4 ok"]
    assert [line["error"] for line in lines if line["event"] == "refused"] == [
        "etcdserver: unhealthy cluster"
    ]


def test_while_nobody_knows_the_agreement_nothing_is_done(tmp_path: Path) -> None:
    system = System()
    keeper = keep(system, tmp_path)
    system.silent = {"n1", "n2", "n3"}
    keeper.want(["n1", "n2"], 0.1)
    deadline = time.monotonic() + 5
    while "no node knew" not in keeper.pending and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not system.done
    assert "no node knew" in keeper.pending
    assert keeper.views() == {"n1": None, "n2": None, "n3": None}
    system.silent = set()
    assert keeper.settle(2.0)
    keeper.close()


def test_an_acknowledged_change_that_did_not_happen_is_a_violation(tmp_path: Path) -> None:
    lived(System("ok", "ok", "false"), tmp_path, "n1 n2 n4")
    found = judged(tmp_path)
    assert found.verdict == "invalid"
    assert "to remove the member on n3 was acknowledged" in found.reason


def test_a_view_of_a_nodes_own_is_a_violation_in_the_end(tmp_path: Path) -> None:
    _, lines = lived(System(), tmp_path, "n1 n2")
    lines[-1]["views"]["n2"].pop()
    (tmp_path / "members.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = judged(tmp_path)
    assert (found.verdict, found.anomalies[0].kind) == ("invalid", "member-view")
    lines[-1] |= {"settled": False, "pending": "add n3 pending", "views": {}}
    (tmp_path / "members.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert judged(tmp_path).verdict == "unknown"
    (tmp_path / "members.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[:-1]))
    assert judged(tmp_path).verdict == "unknown"
