"""The clock fault's own: its words, what it draws, and what it takes for proof."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from harness.core.cluster import Course
from harness.core.errors import UsageError
from harness.core.fault import Evidence, Plan
from nemesis import clock
from nemesis.clock import MOTIONS, Clock
from tests.nemesis.fake import FakeCluster, context, undo

SECOND = 1_000_000_000


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_WATCH_S", 0.02)
    monkeypatch.setattr(clock, "_LOOK_S", 0.001)


def planned(target: str, *, of: int = 3, seed: int = 0, **options: Any) -> Plan:
    return Clock(options).plan(context(FakeCluster(of), seed=seed), target)


def course(plan: Plan) -> Course:
    return msgspec.convert(plan.args["course"], Course)


def test_a_motion_leaves_the_nodes_to_be_drawn_and_nodes_the_motion() -> None:
    jumps = [planned("jump", seed=seed) for seed in range(40)]
    assert {p.args["motion"] for p in jumps} == {"jump"}
    assert {p.nodes for p in jumps} == {("n1",), ("n2",), ("n3",)}
    leaders = [planned("leader", seed=seed) for seed in range(40)]
    assert {p.nodes for p in leaders} == {("n2",)}
    assert {p.args["motion"] for p in leaders} == set(MOTIONS)


def test_options_fix_what_the_word_leaves_open() -> None:
    plan = planned("jump", of=5, nodes="majority", jump_s=3600.0)
    assert len(plan.nodes) == 3
    assert course(plan) == Course(offset_ns=3600 * SECOND)
    assert plan.says.endswith("jump to 1 h ahead")
    plan = planned("leader", motion="drift", rate=0.5)
    assert plan.says == "process clocks on n2, the leader, count 0.5 s in one"
    assert course(plan) == Course(rate=0.5)
    plan = planned("strobe", jump_s=-2.0, strobe_ms=100)
    assert course(plan) == Course(half_ns=100_000_000, swing_ns=-2 * SECOND)
    assert plan.says.endswith("go 2 s behind and back every 100 ms")


def test_nodes_that_do_not_exist_are_refused() -> None:
    assert Clock({"nodes": "minority"}).refusal("jump", 2) is not None
    with pytest.raises(UsageError, match="does not exist among 2 nodes"):
        planned("jump", of=2, nodes="minority")
    assert Clock({}).refusal("jump", 1) is None


def test_a_monotonic_clock_that_runs_backwards_is_admitted_and_little_is_drawn() -> None:
    plans = [planned("jump", seed=seed, monotonic=True) for seed in range(20)]
    assert all("is found on no real machine" in p.says for p in plans)
    assert all(abs(course(p).offset_ns) <= 2 * SECOND for p in plans)
    assert "no real machine" not in planned("freeze", monotonic=True).says
    assert "no real machine" not in planned("jump").says


def lived(fault: Clock, cluster: FakeCluster, target: str) -> tuple[Evidence, Evidence]:
    ctx = context(cluster)
    plan = fault.plan(ctx, target)
    ctx.before = fault.observe(ctx, plan, "before")
    fault.apply(ctx, plan)
    during = fault.observe(ctx, plan, "during")
    undo(cluster, plan)
    return during, fault.observe(ctx, plan, "after")


@pytest.mark.parametrize("target", MOTIONS)
def test_readings_are_never_quite_exact(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, exact = FakeCluster(3), FakeCluster.clocks
    errors = iter(range(-900_000, 900_000, 1_700))

    def noisy(self: FakeCluster, node: str) -> Any:
        off = next(errors)
        return tuple(
            msgspec.structs.replace(r, offset_ns=r.offset_ns + off, monotonic_ns=r.monotonic_ns - off)
            for r in exact(self, node)
        )

    monkeypatch.setattr(FakeCluster, "clocks", noisy)
    during, after = lived(Clock({"strobe_ms": 5}), cluster, target)
    assert (during.effect, after.effect) == (True, False), (during.says, after.says)


def test_a_reading_that_was_disturbed_proves_nothing() -> None:
    cluster, exact = FakeCluster(3), FakeCluster.clocks
    cluster.clocks = lambda node: tuple(  # type: ignore[method-assign]
        msgspec.structs.replace(r, doubt_ns=6_000_000) for r in exact(cluster, node)
    )
    during, after = lived(Clock({}), cluster, "jump")
    assert (during.effect, after.effect) == (False, False)


def test_a_machine_whose_own_clock_moves_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = iter((0, 0, 7_000_000, 7_000_000, 7_000_000))
    monkeypatch.setattr(clock, "_host_ns", lambda: next(hosts))
    during, _ = lived(Clock({}), FakeCluster(3), "jump")
    assert during.effect is False
    assert "the machine's own has moved +7.0 ms" in during.says


def test_a_process_that_ended_meanwhile_does_not_count_as_shifted() -> None:
    cluster = FakeCluster(3)
    ctx, fault = context(cluster), Clock({})
    plan = fault.plan(ctx, "leader")
    ctx.before = fault.observe(ctx, plan, "before")
    fault.apply(ctx, plan)
    cluster.signal("n2", "KILL")
    during = fault.observe(ctx, plan, "during")
    assert during.effect is False
    assert "no longer there: etcd on n2" in during.says
    cluster.start("n2")
    assert fault.observe(ctx, plan, "during").effect is True, "its successor is shifted as well"
