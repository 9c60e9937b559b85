"""The fault `membership`: who shall be a member, and what is believed of it."""

from __future__ import annotations

import pytest

from harness.core.errors import UsageError
from harness.core.fault import Evidence
from nemesis.membership import MEMBERSHIP
from tests.nemesis.fake import FakeCluster, context
from tests.nemesis.test_faults import live, make


def test_three_become_five_and_are_three_again() -> None:
    cluster = FakeCluster(3)
    plan, _, during, after = live(make(MEMBERSHIP), cluster, context(cluster), "grow")
    assert plan.says == "n4 and n5 to join"
    assert plan.args["wanted"] == ["n1", "n2", "n3", "n4", "n5"]
    assert (plan.down, [u.do for u in plan.undo]) == ((), ["members"])
    assert (during.effect, after.effect) == (True, False)
    assert cluster.members.voters == ("n1", "n2", "n3")


def test_the_leader_is_replaced() -> None:
    cluster = FakeCluster(3)
    plan, _, during, after = live(make(MEMBERSHIP), cluster, context(cluster), "leader")
    assert (plan.args["leaves"], plan.down) == (["n2"], ("n2",))
    assert "n2, the leader, to leave" in plan.says
    assert "no more: n2 101" in during.says
    assert after.effect is False, "another member on the same node is back"


def test_without_spares_a_member_can_only_leave() -> None:
    fault = make(MEMBERSHIP, spares=0)
    assert fault.default_targets == ("remove",)
    assert "membership.spares=1" in (fault.refusal("grow", 3) or "")  # type: ignore[attr-defined]
    assert [fault.reach(t, 3) for t in ("grow", "replace")] == [0, 1]  # type: ignore[attr-defined]


def test_one_change_at_a_time() -> None:
    cluster, fault = FakeCluster(3), make(MEMBERSHIP)
    ctx = context(cluster)
    ctx.active = (fault.plan(ctx, "grow"),)
    with pytest.raises(UsageError, match="by another fault already"):
        fault.plan(ctx, "remove")
    cluster.members.settled, cluster.members.pending = False, "remove n4 pending"
    with pytest.raises(UsageError, match="remove n4 pending"):
        fault.plan(context(cluster), "remove")


def test_a_node_that_does_not_answer_says_nothing_about_the_members() -> None:
    cluster, fault = FakeCluster(3), make(MEMBERSHIP)
    ctx = context(cluster)
    plan = fault.plan(ctx, "remove")
    same = ("n1 100", "n2 101", "n3 102")
    facts = {"views": {"n1": list(same), "n2": list(same), "n3": list(same)}}
    ctx.before = Evidence(phase="before", effect=None, says="", facts=facts)
    cluster.members.views = lambda: {"n1": same, "n2": None, "n3": None}  # type: ignore[method-assign]
    assert fault.observe(ctx, plan, "during").effect is False
