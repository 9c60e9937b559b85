"""Faults on a cluster in memory: planned, proven, undone, and never believed when nothing was done."""

from __future__ import annotations

import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.core.cluster import ProcessState
from harness.core.descriptor import Descriptor, load
from harness.core.errors import UsageError
from harness.core.fault import Evidence, Fault, FaultContext, Plan, claims
from harness.core.ledger import Ledger, read_faults
from harness.core.spec import Spec
from harness.core.system import Status
from nemesis.kill import KILL
from nemesis.partition import Partition
from nemesis.pause import PAUSE, Pause
from nemesis.slow_disk import HUNG_DISK, SLOW_DISK
from nemesis.terminate import TERMINATE
from tests.nemesis.fake import FakeCluster, context, undo

NODES = 5  # every kind of target exists among them


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake changes at once; waiting for a kernel is of no use here."""
    monkeypatch.setattr("nemesis._node_fault.WAIT_S", 0.0)
    monkeypatch.setattr("nemesis._node_fault.POLL_S", 0.001)
    monkeypatch.setattr("nemesis.crash_loop._WAIT_S", 0.05)
    monkeypatch.setattr("nemesis.crash_loop._POLL_S", 0.001)
    for family in ("cpu_pressure", "memory_pressure", "fd_limit"):
        monkeypatch.setattr(f"nemesis.{family}._WAIT_S", 0.0)
        monkeypatch.setattr(f"nemesis.{family}._POLL_S", 0.001)
    monkeypatch.setattr("nemesis.memory_pressure._FILL_S", 0.0)
    monkeypatch.setattr("nemesis.pause._WAIT_S", 0.0)
    monkeypatch.setattr("nemesis.partition._CHANGES", 0)
    monkeypatch.setattr("nemesis.partition._PROBE_S", 0.2)
    monkeypatch.setattr("nemesis.at_rest._sleep", lambda _: None)
    monkeypatch.setattr("nemesis.power_loss._FLUSHED_S", (0.0, 0.0))
    monkeypatch.setattr("nemesis.pause._STANDING_S", 0.001)
    monkeypatch.setattr("nemesis.clock._WATCH_S", 0.02)
    monkeypatch.setattr("nemesis.clock._STROBES_MS", (4,))
    monkeypatch.setattr("nemesis.clock._LOOK_S", 0.001)


def registered() -> list[Descriptor]:
    """Every fault of every installed distribution; in a checkout ours as `pyproject.toml` has them."""
    project = Path(__file__).parents[2] / "pyproject.toml"
    points = {p.name: p.value for p in metadata.entry_points(group="splitbrain.faults")}
    if project.exists():
        points |= tomllib.loads(project.read_text())["project"]["entry-points"]["splitbrain.faults"]
    return [load(target) for target in points.values()]


def make(descriptor: Descriptor, **options: Any) -> Fault:
    quick = {o.name: 0.01 for o in descriptor.options if o.name in ("up_s", "down_s")}
    fault: Fault = descriptor.load()({o.name: o.default for o in descriptor.options} | quick | options)
    return fault


def live(
    fault: Fault, cluster: FakeCluster, ctx: FaultContext, target: str
) -> tuple[Plan, Evidence, Evidence, Evidence]:
    """One fault from plan to healing, as the nemesis does it."""
    plan = fault.plan(ctx, target)
    ctx.before = before = fault.observe(ctx, plan, "before")
    fault.apply(ctx, plan)
    during = fault.observe(ctx, plan, "during")
    undo(cluster, plan)
    return plan, before, during, fault.observe(ctx, plan, "after")


every = [pytest.param(d, t, id=f"{d.name}:{t}") for d in registered() for t in d.targets]


@pytest.mark.parametrize(("descriptor", "target"), every)
@pytest.mark.parametrize("leader", ["n2", None])
def test_a_fault_shows_and_is_undone(descriptor: Descriptor, target: str, leader: str | None) -> None:
    cluster = FakeCluster(NODES)
    pristine = {n: s.state for n, s in cluster.running.items()}
    plan, before, during, after = live(make(descriptor), cluster, context(cluster, leader=leader), target)
    assert before.effect is None
    assert during.effect is True, during.says
    assert after.effect is False, after.says
    assert not cluster.blocks
    assert {n: s.state for n, s in cluster.running.items()} == pristine
    assert plan.nodes
    assert set(plan.nodes) <= {n.name for n in cluster.nodes} | set(cluster.members.spares)
    assert plan.undo or descriptor.name == "admin"  # what is done at once
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan  # the ledger can hold it


@pytest.mark.parametrize(("descriptor", "target"), every)
@pytest.mark.parametrize("running", [True, False])
def test_without_apply_there_is_no_effect(
    descriptor: Descriptor, target: str, running: bool, tmp_path: Path
) -> None:
    """Rule 6: what takes no effect is never counted, so that the run is vacuous."""
    from checkers.meaning import meaning
    from harness.core.history import History
    from harness.core.op import Op

    cluster = FakeCluster(NODES)
    if not running:
        for node in cluster.nodes:
            cluster.signal(node.name, "KILL")
    ctx, fault = context(cluster), make(descriptor)
    ledger = Ledger(tmp_path / "faults.jsonl", "abc123")
    plan = fault.plan(ctx, target)
    ledger.plan(0, plan, fault.label, fault.glyph, fault.colour)
    ctx.before = fault.observe(ctx, plan, "before")
    ledger.evidence(1, plan.fault, ctx.before)
    ledger.note("applied", 2, plan.fault)  # the injector's word
    during = fault.observe(ctx, plan, "during")
    ledger.evidence(3, plan.fault, during)
    ledger.note("undone", 500, plan.fault)
    ledger.close()
    assert during.effect is False, during.says
    pairs = [(Op(-1, t, 0, "invoke", "write", 1), Op(-1, t, 0, "ok", "write", 1)) for t in range(100)]
    history = History(op for pair in pairs for op in pair)
    spec = Spec(faults=(f"{descriptor.name}:{target}",))
    found = meaning(history, read_faults(tmp_path / "faults.jsonl"), spec, frozenset({"write"}))
    assert found.vacuous
    assert found.faults[descriptor.name] == {"applied": 1, "effective": 0, "overlapping_ops": 0}


@pytest.mark.parametrize("descriptor", registered(), ids=lambda d: d.name)
def test_a_descriptor_says_what_its_fault_is(descriptor: Descriptor) -> None:
    fault = make(descriptor)
    assert (fault.name, fault.targets, fault.needs) == (descriptor.name, descriptor.targets, descriptor.needs)
    assert fault.default_targets
    assert set(fault.default_targets) <= set(fault.targets)
    assert len(fault.glyph) == 1
    assert fault.label
    assert fault.colour


@pytest.mark.parametrize(("descriptor", "target"), every)
@pytest.mark.parametrize("nodes", [1, 2, 3, 4])
def test_a_target_that_does_not_exist_is_refused_and_any_other_works(
    descriptor: Descriptor, target: str, nodes: int
) -> None:
    cluster, fault = FakeCluster(nodes), make(descriptor)
    ctx = context(cluster, leader="n1")
    refusal = fault.refusal(target, nodes)
    if refusal is None:
        _, _, during, after = live(fault, cluster, ctx, target)
        assert (during.effect, after.effect) == (True, False)
    else:
        with pytest.raises(UsageError, match="does not exist among"):
            fault.plan(ctx, target)


@pytest.mark.parametrize(("descriptor", "target"), every)
def test_a_plan_is_a_function_of_what_it_is_given(descriptor: Descriptor, target: str) -> None:
    plans = [make(descriptor).plan(context(FakeCluster(NODES), seed=9), target) for _ in range(2)]
    assert plans[0] == plans[1]


@pytest.mark.parametrize(("descriptor", "target"), every)
def test_what_was_not_measured_before_proves_nothing(descriptor: Descriptor, target: str) -> None:
    cluster, fault = FakeCluster(NODES), make(descriptor)
    ctx = context(cluster)
    plan = fault.plan(ctx, target)
    ctx.before = Evidence(phase="before", effect=None, says="could not be measured: timed out")
    fault.apply(ctx, plan)
    assert fault.observe(ctx, plan, "during").effect is False


def plan_of(target: str, clients: str, leader: str | None = "n2") -> tuple[Plan, set[tuple[str, str]]]:
    plan = Partition({"clients": clients}).plan(context(FakeCluster(3), leader=leader), target)
    return plan, {(a[0], b[0]) for a, b in plan.args["pairs"]}


def test_an_isolated_leader_keeps_its_clients() -> None:
    plan, pairs = plan_of("leader", "with")
    assert plan.nodes == ("n2",)
    assert plan.says == "n2, the leader, cut off from n1 and n3"
    sides = {"n2", "c2"}, {"n1", "c1", "n3", "c3"}
    assert pairs == {p for a in sides[0] for b in sides[1] for p in ((a, b), (b, a))}


def test_an_isolated_leader_without_its_clients() -> None:
    plan, pairs = plan_of("leader", "apart")
    assert plan.says.endswith("; its clients stand with the others")
    sides = {"n2"}, {"n1", "c1", "c2", "n3", "c3"}
    assert pairs == {p for a in sides[0] for b in sides[1] for p in ((a, b), (b, a))}


def test_an_unknown_leader_is_admitted() -> None:
    plan, _ = plan_of("leader", "with", leader=None)
    assert "no leader was known" in plan.says
    plan, _ = plan_of("halves", "with", leader=None)
    assert "no leader" not in plan.says


def test_the_leader_is_the_one_of_the_highest_term() -> None:
    ctx = context(FakeCluster(3))
    ctx.roles = {"n1": Status(role="leader", term=4), "n2": Status(role="leader", term=9)}
    assert Partition({}).plan(ctx, "leader").nodes == ("n2",)


def test_packets_dropped_by_another_block_are_no_proof() -> None:
    """A probe that misses its time by itself: the counter has not risen, or nothing was lost."""
    cluster = FakeCluster(3)
    ctx, fault = context(cluster), Partition({})
    plan = fault.plan(ctx, "leader")
    ctx.before = fault.observe(ctx, plan, "before")
    cluster.drops += 40
    assert fault.observe(ctx, plan, "during").effect is False
    cluster.reaches = lambda *_a, **_k: False
    ctx.before.facts["dropped"] = cluster.drops
    assert fault.observe(ctx, plan, "during").effect is False


def test_a_pause_never_hits_a_successor() -> None:
    cluster = FakeCluster(3)
    ctx, fault = context(cluster), Pause({})
    plan = fault.plan(ctx, "leader")
    cluster.signal("n2", "KILL")
    cluster.start("n2")
    fault.apply(ctx, plan)
    assert cluster.running["n2"].state == "S"


def test_a_process_that_was_stopped_already_is_no_effect() -> None:
    cluster = FakeCluster(3)
    ctx, fault = context(cluster), Pause({})
    cluster.signal("n2", "STOP")
    assert live(fault, cluster, ctx, "leader")[2].effect is False


def test_a_process_that_works_on_is_not_paused() -> None:
    cluster = FakeCluster(3)
    stand = cluster.state

    def works(node: str) -> tuple[ProcessState, ...]:
        cluster.running[node] = msgspec.structs.replace(
            cluster.running[node], cpu_ticks=cluster.running[node].cpu_ticks + 1
        )
        return stand(node)

    cluster.state = works
    assert live(Pause({}), cluster, context(cluster), "one")[2].effect is False


def test_a_node_that_stays_dead_shows_afterwards() -> None:
    from nemesis.kill import Kill

    cluster = FakeCluster(3)
    cluster.start = lambda node: None
    assert live(Kill({}), cluster, context(cluster), "one")[3].effect is True


def test_who_is_killed_first_stays_dead_and_others_do_not() -> None:
    cluster, fault = FakeCluster(3), make(KILL, restart=False)
    first, _, during, _ = live(fault, cluster, context(cluster), "leader")  # the fake takes it back at once
    assert first.lasting
    assert during.effect is True
    cluster.signal("n2", "KILL")
    second, _, during, _ = live(fault, cluster, context(cluster), "all")
    assert (second.nodes, second.lasting, during.effect) == (("n1", "n3"), False, True)
    assert [cluster.running[n].alive for n in ("n1", "n2", "n3")] == [True, False, True]
    third, _, during, _ = live(fault, cluster, context(cluster), "leader")
    assert (third.nodes, third.undo, during.effect) == ((), (), False)


def test_when_all_were_killed_one_comes_back_later() -> None:
    cluster = FakeCluster(5)
    plan = make(KILL, stagger_s=1.2).plan(context(cluster, seed=4), "all")
    delays = [step.args.get("after_s", 0.0) for step in plan.undo]
    assert delays[:4] == [0.0] * 4
    assert 0.6 <= delays[4] <= 1.2
    assert f"{plan.undo[4].args['node']} {delays[4]:g} s after the others" in plan.says
    for target, stagger_s in (("all", 0.0), ("majority", 1.2)):
        plan = make(KILL, stagger_s=stagger_s).plan(context(cluster), target)
        assert all("after_s" not in step.args for step in plan.undo)


def test_part_of_the_killed_stays_dead() -> None:
    cluster = FakeCluster(5)
    ctx, fault = context(cluster), make(KILL, dead=2)
    plan = fault.plan(ctx, "all")
    ctx.before = fault.observe(ctx, plan, "before")
    assert len(plan.args["soon"]) == 3
    assert [bool(step.get("after_s")) for step in plan.args["soon"]] == [False, False, True]


def test_a_process_that_is_killed_did_not_end_itself() -> None:
    cluster, fault = FakeCluster(3), make(TERMINATE)
    ctx = context(cluster)
    plan = fault.plan(ctx, "one")
    ctx.before = fault.observe(ctx, plan, "before")
    (node,) = plan.nodes
    cluster.running[node] = msgspec.structs.replace(cluster.running[node], state=None, exit=-9)
    assert fault.observe(ctx, plan, "during").effect is False
    cluster.running[node] = msgspec.structs.replace(cluster.running[node], exit=-15)
    assert fault.observe(ctx, plan, "during").effect is True


def test_one_process_is_paused_by_its_name() -> None:
    cluster = FakeCluster(3)
    assert make(PAUSE, process="etcd").plan(context(cluster), "one").args["processes"]
    with pytest.raises(UsageError, match=r"process 'etcs'.*etcd"):
        make(PAUSE, process="etcs").plan(context(cluster), "one")


@pytest.mark.parametrize("family", ["cpu-pressure", "memory-pressure", "fd-limit"])
def test_a_limit_that_was_there_before_is_no_effect(family: str) -> None:
    cluster, fault = FakeCluster(3), make(next(d for d in registered() if d.name == family))
    for node in cluster.nodes:
        for kind in ("cpu", "memory", "descriptors"):
            cluster.limit("other", node.name, kind, 0.01)
    assert live(fault, cluster, context(cluster), "one")[2].effect is False


@pytest.mark.parametrize(
    ("looks", "effect", "says"),
    [
        ({"n2": 2}, True, "100 ms on n1, 100 ms on n2"),
        ({"n2": 99}, True, "100 ms on n1, none on n2, which was idle"),
        ({"n1": 99, "n2": 99}, False, "none on n1, which was idle, none on n2, which was idle"),
    ],
)
def test_a_slow_disk_waits_for_a_node_to_sync_and_tells_of_one_that_never_does(
    looks: dict[str, int], effect: bool, says: str
) -> None:
    cluster, fault = FakeCluster(3), make(SLOW_DISK)
    ctx = context(cluster)
    plan = fault.plan(ctx, "n1+n2")
    ctx.before = fault.observe(ctx, plan, "before")
    fault.apply(ctx, plan)
    cluster.tracer.idle = looks
    evidence = fault.observe(ctx, plan, "during")
    assert (evidence.effect, evidence.says.partition(" s: ")[2]) == (effect, says)


def test_a_slow_disk_leaves_out_nodes_on_which_nothing_runs_and_lets_a_kill_join() -> None:
    slow, kill, pause = make(SLOW_DISK), make(KILL), make(PAUSE)
    cluster = FakeCluster(2)
    cluster.signal("n1", "KILL")
    assert slow.plan(context(cluster), "n1+n2").nodes == ("n2",)
    assert slow.plan(context(cluster), "n1").nodes == ()
    assert not claims(slow) & claims(kill)
    assert claims(slow) & claims(pause)
    hung = make(HUNG_DISK)
    assert all(claims(hung) & claims(other) for other in (slow, kill, pause)), "it would not die"
