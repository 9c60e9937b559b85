"""The plan on a time line: every step is where its time is, in the row of whom it hits."""

from __future__ import annotations

from nemesis.schedule import Step
from splitbrain.timeline import condition, timeline

LOOKS = {"kill": ("✗", "process"), "pause": ("‖", "process")}


def drawn(*steps: Step, width: int = 44) -> list[str]:
    return [line.plain.rstrip() for line in timeline(steps, LOOKS, 20, width)]


def test_nodes_by_name_have_a_row_and_others_one_of_their_family() -> None:
    lines = drawn(
        Step(1, 5, 5, "kill", "n1+n2"), Step(2, 10, 2.5, "pause", "n2"), Step(3, 0, 20, "pause", "leader")
    )
    assert lines == [
        "       0s       5s       10s      15s",
        "n1     " + "·" * 9 + "✗" * 9 + "·" * 19,
        "n2     " + "·" * 9 + "✗" * 9 + "‖" * 5 + "·" * 14,
        "pause  " + "‖" * 37,
        "       ✗ kill, ‖ pause",
    ]


def test_what_is_short_shows_and_what_waits_is_not_drawn() -> None:
    waits = Step(2, 0, 5, "pause", "one", when={"ops": 3}, group=2)
    lines = drawn(Step(1, 10, 0.001, "kill", "n1"), waits)
    assert lines[1].count("✗") == 1
    assert len(lines) == 3
    assert drawn(waits) == []
    assert condition(waits) == "when 3 operations have begun"
    assert condition(Step(1, 0, 1, "kill", "one", when={"log": "lost"})) == "when a node logs 'lost'"
