"""New, known, gone, not seen: and the figures that allow to say so."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitbrain.campaign.compare import IMPROBABLE, Compared, Judged, Known, absence, compare


def night(hits: str, label: str = "etcd register", signature: str = "etcd/lin/stale") -> list[Judged]:
    """Runs of a cell in their order, `x` for one that has the finding."""
    return [
        Judged(
            run=f"r{i}",
            label=label,
            report=f"runs/{i}/report.html",
            version="3.6",
            findings={signature: "stale"} if c == "x" else {},
        )
        for i, c in enumerate(hits)
    ]


def one(found: list[Compared]) -> Compared:
    assert len(found) == 1
    return found[0]


def test_the_run_that_discovered_it_and_those_before_it_are_not_counted() -> None:
    first = one(compare(1, [], night("..x.x.")))
    assert (first.status, first.hits, first.eligible) == ("new", 2, 6)
    assert (first.known.k, first.known.n) == (1, 3)
    assert first.flaky
    assert first.rate == "1 of 3 since the one that found it (6-79%)"
    assert first.reports == ("runs/2/report.html", "runs/4/report.html")


def test_it_is_known_the_second_night_and_all_its_runs_count() -> None:
    first = one(compare(1, [], night("x..")))
    second = one(compare(2, [first.known], night(".x")))
    assert (second.status, second.known.first_night, second.known.last_night) == ("known", 1, 2)
    assert (second.known.k, second.known.n) == (1, 4)


def test_one_that_came_once_is_never_called_gone() -> None:
    first = one(compare(1, [], night("x")))
    later = one(compare(2, [first.known], night("." * 10_000)))
    assert later.status == "not seen"
    assert "says nothing: it never came again" in later.absence


def test_gone_is_said_with_the_figure_and_only_when_the_runs_allow_it() -> None:
    first = one(compare(1, [], night("x" + "x." * 10)))  # 10 of 20: at least 30%
    few = one(compare(2, [first.known], night("....")))
    assert few.status == "not seen"
    assert few.chance == pytest.approx(0.241, abs=0.01)
    assert "too few to say" in few.absence
    enough = one(compare(3, [few.known], night("....." * 2)))
    assert (enough.status, enough.known.since) == ("gone", 14)
    assert "absent from 14 runs: if it still came in 29.9% of runs or more" in enough.absence
    assert "0.0069 or less" in enough.absence
    back = one(compare(4, [enough.known], night("x")))
    assert (back.status, back.returned) == ("known", True)


def test_only_cells_in_which_it_was_seen_count() -> None:
    first = one(compare(1, [], night("xxxx", label="etcd register")))
    other = one(compare(2, [first.known], night("." * 100, label="etcd set")))
    assert (other.status, other.eligible) == ("not seen", 0)
    assert other.absence == "no run tonight could have shown it"


@given(k=st.integers(0, 50), more=st.integers(0, 50), since=st.integers(0, 500))
def test_absence_is_a_probability_that_falls(k: int, more: int, since: int) -> None:
    known = Known(signature="s", first_night=1, last_night=1, k=k, n=k + more, since=since)
    chance, low = absence(known)
    longer, _ = absence(Known(signature="s", first_night=1, last_night=1, k=k, n=k + more, since=since + 1))
    assert 0 <= longer <= chance <= 1
    assert 0 <= low <= (k / (k + more) if k else 0)
    if k == 0:
        assert chance == 1 > IMPROBABLE
