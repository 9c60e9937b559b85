"""A night that is killed at any moment and taken up again ends as one that never was: none lost, none twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from splitbrain.campaign import home, ledger, runner
from splitbrain.campaign.spec import Campaign
from tests.splitbrain.campaign.made import PLAIN, Killed, Pretended, Quiet, campaign

THREE = PLAIN.replace("seeds = 5", "seeds = 3")


pytestmark = pytest.mark.usefixtures("in_no_time")


def work(
    asked: Campaign, folder: Path, kill_after: int | None, places: Pretended | None = None
) -> runner.Night:
    """Work on the latest night, or a new one, until it ends or its ledger has so many more lines."""
    with home.held(folder):
        path, _ = runner.open_night(asked, folder, resume=True, seed=None, shard=None)
        night = runner.Night(asked, path, places or Pretended(), Quiet())
        real, left = night.ledger.append, [kill_after]

        def append(event: str, **more: Any) -> None:
            real(event, **more)
            if left[0] is not None:
                left[0] -= 1
                if left[0] == 0:
                    raise Killed

        night.ledger.append = append  # type: ignore[method-assign]
        night._abandon = lambda: None  # type: ignore[method-assign] - SIGKILL tidies nothing up
        try:
            night.work()
            night.conclude()
        finally:
            night.close()
        return night


def came_to(night: runner.Night) -> list[tuple[str, int, str | None, str | None]]:
    """Cells, seeds and what their attempts came to, but for those that were cut off."""
    attempts = night.state.attempts.values()
    ended = [a for a in attempts if a.how != "cut-off"]
    return sorted((a.cell, night.cell(a.cell).seed, a.how, a.verdict) for a in ended)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(kills=st.lists(st.integers(1, 20), min_size=1, max_size=4))
def test_killed_and_taken_up_again(tmp_path_factory: pytest.TempPathFactory, kills: list[int]) -> None:
    folder = tmp_path_factory.mktemp("campaign")
    asked = campaign(folder, THREE)
    whole = work(asked, folder / "whole", None)
    started = []
    for lines in (*kills, None):
        places = Pretended()
        try:
            killed = work(asked, folder / "killed", lines, places)
        except Killed:
            started += places.started
        else:  # the night was over before it could be killed again
            started += places.started
            break
    assert came_to(killed) == came_to(whole)
    assert len(came_to(whole)) == 13
    runs = [run for run, _, _ in started]
    assert len(set(runs)) == len(runs), "every attempt is a run of its own"
    assert set(runs) == set(killed.state.attempts), "what was started stands in the ledger, and nothing else"
    assert {(cell, seed) for _, cell, seed in started} == {(c, s) for c, s, _, _ in came_to(whole)}
    cut = [a for a in killed.state.attempts.values() if a.how == "cut-off"]
    assert len(cut) == len(runs) - 13
    assert all("before it had a verdict" in a.reason for a in cut)
    assert len(home.nights(folder / "killed")) == 1


def test_a_torn_line_was_never_acted_on(tmp_path: Path) -> None:
    asked = campaign(tmp_path, THREE)
    with pytest.raises(Killed):
        work(asked, tmp_path / "c", 9)
    path = home.nights(tmp_path / "c")[0] / ledger.NAME
    before = ledger.read(path)
    with path.open("ab") as file:
        file.write(b'{"event":"start","cell":"m1-0001-001","ru')
    assert ledger.read(path) == before
    night = work(asked, tmp_path / "c", None)
    assert len(came_to(night)) == 13
    assert all(line.endswith(b"}") for line in path.read_bytes().splitlines())


def test_what_ended_while_nobody_looked_is_not_run_again(tmp_path: Path) -> None:
    asked = campaign(tmp_path, THREE)
    places = Pretended()
    with pytest.raises(Killed):
        work(asked, tmp_path / "c", 3, places)
    path = home.nights(tmp_path / "c")[0]
    (run, cell, _), *_ = [s for s in places.started if s[0] in places.on]
    (path / "attempts" / run).mkdir(exist_ok=True)
    (path / "attempts" / run / "results.json").write_text('{"verdict": "valid", "reason": "in time"}')
    night = work(asked, tmp_path / "c", None)
    assert [(a.run, a.how) for a in night.state.attempts.values() if a.cell == cell] == [(run, "ended")]


def test_a_night_that_is_not_taken_up_again_counts_as_far_as_it_came(tmp_path: Path) -> None:
    asked = campaign(tmp_path, THREE)
    folder = tmp_path / "c"
    with pytest.raises(Killed):
        work(asked, folder, 12)
    with home.held(folder):
        path, lost = runner.open_night(asked, folder, resume=False, seed=None, shard=None)
        assert [home.number(n) for n in (*lost, path)] == [1, 2]
        runner.close_cut_off(asked, lost, Quiet())
    told = home.read_summary(lost[0])
    assert told is not None
    assert (told["exit"], told["complete"]) == (4, False)
    assert told["counts"]["valid"] + told["counts"]["cut_off"] + told["counts"]["not_started"] == 12
