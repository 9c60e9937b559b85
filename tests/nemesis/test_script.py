"""Scripts: what is written is what happens, and what cannot happen is refused in a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.errors import UsageError
from nemesis.families import Family, refuse_contradictions
from nemesis.schedule import Step
from nemesis.script import normalized, script, words
from nemesis.targets import reach, refusal
from splitbrain.spec import seconds


def families(count: int = 5) -> dict[str, Family]:
    claims = {
        "kill": {"signal", "restart"},
        "pause": {"signal"},
        "wipe": {"disk", "restart"},
        "partition": set(),
    }
    return {
        name: Family(
            name=name,
            defaults=("leader", "one"),
            reach=lambda kind: reach(kind, count),
            claims=frozenset(held),
            refusal=lambda kind: refusal(kind, count),
        )
        for name, held in claims.items()
    }


def plan(*entries: dict[str, Any], time_s: float = 30) -> tuple[Step, ...]:
    plain = normalized(list(entries), seconds)
    words(plain, lambda _family: None)
    steps = script(plain, families(), time_s, seconds)
    refuse_contradictions(steps, families(), 5, 5)
    return steps


def brief(steps: tuple[Step, ...]) -> list[tuple[float, float, str, str]]:
    return [(s.at_s, s.hold_s, s.family, s.target) for s in steps]


def test_actions_follow_each_other() -> None:
    steps = plan({"at": "3s", "do": "pause n1, n2; wait 2s; kill n3; resume pause n1,n2; wait 4s; resume"})
    assert brief(steps) == [(3, 3, "pause", "n1+n2"), (5, 5, "kill", "n3")]


def test_entries_follow_each_other_and_stay_without_a_hold() -> None:
    steps = plan(
        {"at": 2, "fault": "kill", "target": "n1", "hold": "1s"},
        {"fault": "pause:leader", "hold": 2},
        {"after": "500ms", "fault": "partition"},
    )
    assert brief(steps) == [
        (2, 1, "kill", "n1"),
        (3, 2, "pause", "leader"),
        (3.5, 24.5, "partition", "leader"),  # until 2 s before the load ends
    ]


def test_what_waits_has_a_clock_of_its_own() -> None:
    steps = plan(
        {"at": "9s", "fault": "kill:leader", "hold": "2s"},
        {"when": {"leader": "any"}, "do": "pause leader; wait 1s; resume"},
        {"after": "3s", "fault": "partition:one", "hold": "1s"},
    )
    assert [(s.n, s.at_s, s.group, s.since) for s in steps] == [(1, 9, 0, None), (2, 0, 2, 1), (3, 4, 2, 1)]
    assert [s.when for s in steps] == [None, {"leader": "any"}, {"leader": "any"}]


def test_names_of_faults_are_found() -> None:
    entries = normalized([{"do": "pause n1,n2; resume"}, {"fault": "kill", "target": "one"}], seconds)
    assert words(entries, lambda _family: None) == ["pause:n1+n2", "kill:one"]


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"at": "1s"}, "expected either fault or do"),
        ({"at": "1s", "fault": "kill", "do": "kill"}, "expected either fault or do"),
        ({"att": "1s", "fault": "kill"}, "unknown key 'att'; did you mean 'at'"),
        ({"at": "soon", "fault": "kill"}, "expected seconds or a duration"),
        ({"at": "1s", "after": "1s", "fault": "kill"}, "leave out after and when, or at"),
        ({"at": "40s", "fault": "kill"}, "kill would begin at 40 s, and all is healed at 28 s"),
        ({"at": "1s", "fault": "kill:n9"}, "there is no node 'n9' among 5 nodes"),
        ({"at": "1s", "fault": "kill:n1", "target": "n2"}, "the target is said twice"),
        ({"at": "1s", "do": "resume"}, "'resume' at 1 s: no such fault is in force then"),
        ({"at": "1s", "do": "kill n1; resume pause"}, "'resume pause' at 2 s: no such fault"),
        ({"at": "1s", "do": ";"}, "does nothing"),
        ({"when": {"moon": "full"}, "fault": "kill"}, "unknown condition 'moon'"),
        ({"when": {"ops": "many"}, "fault": "kill"}, "expected a number of operations"),
        ({"when": {"log": "("}, "fault": "kill"}, "is no regular expression"),
        ({"when": {"leader": "n1", "node": "n1"}, "fault": "kill"}, "expected one of leader, ops, or log"),
    ],
)
def test_what_cannot_be_is_refused(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as e:
        plan(entry)
    assert says in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "pause n1,n2; kill n2",
            "pause:n1+n2 and kill:n2 contradict each other: both take hold of n2 at 2 s",
        ),
        ("kill all; wipe one", "kill:all and wipe:one contradict each other: both take hold of a node"),
        ("kill n1; wipe n1", "contradict each other"),
        ("pause n1; wipe n1", None),  # it is wiped in its sleep
        ("kill majority; pause minority", None),
        ("partition n1; partition n2,n1; kill n1", None),  # cuts add up, and the dead can be cut off
        ("kill n1; resume; kill n1", None),
    ],
)
def test_contradictions_are_refused(text: str, says: str | None) -> None:
    if says is None:
        assert plan({"at": 1, "do": text})
        return
    with pytest.raises(UsageError, match="contradict") as e:
        plan({"at": 1, "do": text})
    assert says in str(e.value)


def test_more_out_than_allowed_is_refused() -> None:
    steps = script(
        normalized([{"at": 1, "do": "kill n1; pause n2; partition n3"}], seconds), families(), 30, seconds
    )
    refuse_contradictions(steps, families(), 5, 3)
    with pytest.raises(
        UsageError, match=r"3 nodes would be out at 3 s \(n1, n2, n3\), where schedule.down allows 2"
    ):
        refuse_contradictions(steps, families(), 5, 2)
