"""Availability: who did not come back is accused, and nobody of whom too little was seen."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkers.availability import AVAILABILITY, Availability
from harness.core.checker import Result
from harness.core.history import History
from tests.checkers.runs import Entry, context, history, journal, ns, record, steady


def check(run_dir: Path | None, made: History, **spec: object) -> Result:
    checker: Availability = AVAILABILITY.load()({})
    return checker.check(context(run_dir, made, spec))


def test_without_a_fault_there_is_nothing_to_recover_from(tmp_path: Path) -> None:
    for run_dir in (None, tmp_path):
        result = check(run_dir, history([]))
        assert result.verdict == "valid"
        assert "nothing to recover from" in result.reason
    record(tmp_path, [("kill", None, 4, False)])  # planned, never applied
    assert check(tmp_path, history([])).verdict == "valid"


def test_without_an_operation_nothing_is_known(tmp_path: Path) -> None:
    record(tmp_path, [("kill", 1, 4, True)])
    assert check(tmp_path, history([])).verdict == "unknown"


def test_every_node_comes_back(tmp_path: Path) -> None:
    record(tmp_path, [("kill", 2, 5, True), ("partition", 10, 14, True)])
    made = history(
        [
            *steady("n1", 0, 2),
            *steady("n1", 2, 5.8, how="info"),
            *steady("n1", 5.8, 10),
            *steady("n1", 10, 14.3, how="info"),
            *steady("n1", 14.3, 20),
            *steady("n2", 0.05, 20),
        ]
    )
    result = check(tmp_path, made)
    assert result.verdict == "valid"
    first, second = result.detail["recovery_s"]
    assert (first["fault"], second["fault"]) == ("f1", "f2")
    assert 0 < first["seconds"] < 0.2  # n2 never stopped serving
    assert first["nodes"]["n1"] == pytest.approx(0.81, abs=0.02)
    assert second["nodes"]["n1"] == pytest.approx(0.31, abs=0.02)
    assert result.detail["windows"] == []


def test_a_node_that_never_comes_back_is_a_violation(tmp_path: Path) -> None:
    record(tmp_path, [("kill", 2, 5, True)])
    dead = steady("n1", 5, 8, how="info")
    made = history(
        [*dead, *steady("n2", 0, 8), (36, 37, "n1", "info"), (36, 36.1, "n2", "ok")], final_from=36
    )
    result = check(tmp_path, made)
    assert result.verdict == "invalid"
    assert "n1" in result.reason
    assert "n2" not in result.reason
    (anomaly,) = result.anomalies
    assert anomaly.nodes == ["n1"]
    assert anomaly.kind == "unavailable"
    assert anomaly.window[-1]["complete"] == len(made) - 1
    assert all(op["node"] == "n1" and op["type"] == "info" for op in anomaly.window)


def test_too_late_is_a_violation(tmp_path: Path) -> None:
    record(tmp_path, [("pause", 2, 5, True)])
    made = history([*steady("n1", 5, 36, how="fail", every=1), (36, 36.1, "n1", "ok")])
    assert check(tmp_path, made).verdict == "invalid"


def test_a_node_that_nobody_asked_in_time_is_not_accused(tmp_path: Path) -> None:
    record(tmp_path, [("pause", 2, 5, True)])
    made = history([*steady("n2", 0, 40, every=1), (41, 41.1, "n1", "ok")])
    assert check(tmp_path, made).verdict == "valid"


def test_a_history_that_ends_too_soon_accuses_nobody(tmp_path: Path) -> None:
    record(tmp_path, [("kill", 2, 5, True)])
    made = history([*steady("n1", 5, 8, how="info"), *steady("n2", 0, 8)])
    result = check(tmp_path, made)
    assert result.verdict == "unknown"
    assert "ends" in result.reason
    assert "n1" in result.reason


def test_a_fault_that_was_never_healed_leaves_it_unknown(tmp_path: Path) -> None:
    record(tmp_path, [("kill", 2, 5, True), ("partition", 7, None, True)])
    result = check(tmp_path, history(steady("n1", 0, 50)))
    assert result.verdict == "unknown"
    assert "f2" in result.reason


def test_the_recovery_of_the_run_itself_counts(tmp_path: Path) -> None:
    record(tmp_path, [("kill", 2, 5, True)])
    made = history([*steady("n1", 5, 8, how="info"), *steady("n2", 0, 8)])
    journal(tmp_path, recover=8, final=11, silent=[])  # a write through n1 succeeded
    assert check(tmp_path, made).verdict == "valid"


def test_a_node_silent_throughout_recovery_is_a_violation_whatever_it_reads(tmp_path: Path) -> None:
    record(tmp_path, [("kill", 2, 5, True)])
    made = history([*steady("n1", 0, 8), (38.5, 38.6, "n1", "ok")], f="read", final_from=38)
    journal(tmp_path, recover=8, final=38.2, silent=["n1", "n3"])
    result = check(tmp_path, made)
    assert result.verdict == "invalid"
    assert [a.nodes for a in result.anomalies] == [["n1"], ["n3"]]


def test_an_interrupted_recovery_accuses_nobody(tmp_path: Path) -> None:
    record(tmp_path, [("kill", 2, 5, True)])
    journal(tmp_path, recover=8, final=9, silent=["n1"])
    assert check(tmp_path, history([*steady("n1", 5, 8, how="info")])).verdict == "unknown"
    assert check(tmp_path, history([*steady("n1", 5, 8)])).verdict == "valid"


def test_a_quiet_half_minute_in_the_middle_is_judged_too(tmp_path: Path) -> None:
    record(tmp_path, [("kill", 2, 5, True), ("pause", 50, 52, True)])
    entries: list[Entry] = [*steady("n1", 5, 50, how="info", every=1), *steady("n1", 53, 60)]
    assert check(tmp_path, history(entries)).verdict == "invalid"
    assert "f1" in check(tmp_path, history(entries)).reason


def test_an_outage_while_another_fault_is_in_force_is_not_judged(tmp_path: Path) -> None:
    record(tmp_path, [("kill", 2, 5, True), ("pause", 4, 52, True)])
    made = history([*steady("n1", 5, 52, how="info", every=1), *steady("n1", 53, 60)])
    assert check(tmp_path, made).verdict == "valid"


def test_beyond_what_is_promised_it_is_an_observation(tmp_path: Path) -> None:
    record(tmp_path, [("wipe", 2, 5, True)])
    made = history(steady("n1", 5, 40, how="info", every=1))
    result = check(tmp_path, made)
    assert result.verdict == "valid"
    assert "does not promise" in result.reason
    assert result.detail["observations"]
    promises = [
        {"prop": "availability", "families": ["wipe"]},
        {"prop": "linearizable", "families": ["kill"]},
    ]
    assert check(tmp_path, made, promises=promises).verdict == "invalid"
    assert check(tmp_path, made, promises=[]).verdict == "valid"


def test_windows_without_success_are_reported(tmp_path: Path) -> None:
    record(tmp_path, [("partition", 2, 5, True)])
    made = history(
        [
            *steady("n1", 0, 2),  # the last success ends at 1.91
            *steady("n1", 2.5, 5.5, how="info"),
            *steady("n1", 5.5, 7),
            (20, 20.1, "n1", "ok"),  # nobody asked for 13 s: no outage
            (21, 23, "n1", "ok"),  # somebody waited for 2 s
            *steady("n1", 30, 32, how="fail"),  # and to the end
        ]
    )
    windows = check(tmp_path, made).detail["windows"]
    assert [(w["from"], w["to"]) for w in windows] == [
        (ns(2.5), ns(5.51)),
        (ns(21), ns(23)),
        (ns(30), made.ops[-1].time),
    ]
    assert windows[0]["seconds"] == pytest.approx(3.01)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 700),
            st.integers(0, 120),
            st.sampled_from(["n1", "n2"]),
            st.sampled_from(["ok", "fail", "info"]),
            st.booleans(),
        ),
        min_size=1,
        max_size=40,
    ),
    st.integers(0, 500),
)
def test_it_agrees_with_the_definition(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[int, int, str, str, bool]], healed: int
) -> None:
    """One fault, in tenths of seconds; the definition is written out the slow way."""
    run_dir = tmp_path_factory.mktemp("run")
    record(run_dir, [("kill", 0, healed / 10, True)])
    entries: list[Entry] = [
        (b / 10, (b + d) / 10 if done or how == "ok" else None, node, how)  # type: ignore[misc]
        for b, d, node, how, done in drawn
    ]
    made = history(entries)
    last = max(op.time for op in made.ops)
    verdicts = set()
    for node in {e[2] for e in entries}:
        after = [e for e in entries if e[2] == node and ns(e[0]) >= ns(healed / 10)]
        ends = [ns(e[1]) for e in after if e[3] == "ok" and e[1] is not None]
        deadline = ns(healed / 10) + ns(30)
        if any(end <= deadline for end in ends):
            verdicts.add("valid")
        elif after and last >= deadline and (not ends or min(ns(e[0]) for e in after) <= deadline):
            verdicts.add("invalid")
        else:
            verdicts.add("valid" if ends else "unknown")
    expected = next(v for v in ("invalid", "unknown", "valid") if v in verdicts)
    assert check(run_dir, made).verdict == expected


def test_windows_of_each_node_stand_beside_the_clusters(tmp_path: Path) -> None:
    record(tmp_path, [("partition", 2, 5, True)])
    made = history(
        [
            *steady("n1", 0, 2),
            *steady("n1", 2, 6, how="info"),
            *steady("n1", 6, 9),
            *steady("n2", 0, 9),
            (3, 3.1, "n3", "ok"),  # one operation, and nobody asks it again
        ]
    )
    detail = check(tmp_path, made).detail
    assert detail["windows"] == []
    assert detail["without_success_s"] == 0
    assert [(w["from"], w["to"]) for w in detail["nodes"]["n1"]["windows"]] == [(ns(2), ns(6.01))]
    assert detail["nodes"]["n1"]["without_success_s"] == pytest.approx(4.01)
    assert detail["nodes"]["n2"]["windows_found"] == detail["nodes"]["n3"]["windows_found"] == 0


def test_who_never_comes_back_needs_a_person(tmp_path: Path) -> None:
    record(tmp_path, [("kill", 2, 5, True)])
    others = steady("n2", 0, 40, every=1)
    detail = check(tmp_path, history([*others, *steady("n1", 5, 40, how="info", every=1)])).detail
    assert detail["needs_person"] is True
    assert detail["needs_person_says"].startswith("n1 needs a person")
    assert "34 s" in detail["needs_person_says"]
    late = history([*others, *steady("n1", 5, 38, how="info", every=1), (39, 39.1, "n1", "ok")])
    result = check(tmp_path, late)  # too late, but by itself
    assert result.verdict == "invalid"
    assert result.detail["needs_person"] is False
    well = check(tmp_path, history([*others, *steady("n1", 5, 40, every=1)]))
    assert well.detail["needs_person"] is False
    short = check(tmp_path, history([*steady("n1", 5, 8, how="info"), *steady("n2", 0, 8)]))
    assert short.verdict == "unknown"
    assert short.detail["needs_person"] is None


def test_it_needs_one_after_what_nobody_promised_to_survive_too(tmp_path: Path) -> None:
    record(tmp_path, [("wipe", 2, 5, True)])
    result = check(tmp_path, history(steady("n1", 5, 40, how="info", every=1)))
    assert result.verdict == "valid"
    assert result.detail["needs_person"] is True


def test_a_fault_still_in_force_leaves_open_whether_a_person_is_needed(tmp_path: Path) -> None:
    record(tmp_path, [("kill", 2, 5, True), ("partition", 7, None, True)])
    assert check(tmp_path, history(steady("n1", 0, 50))).detail["needs_person"] is None


def test_silent_through_the_runs_own_recovery_needs_a_person(tmp_path: Path) -> None:
    record(tmp_path, [("kill", 2, 5, True)])
    made = history([*steady("n1", 0, 8), (38.5, 38.6, "n1", "ok")], f="read", final_from=38)
    journal(tmp_path, recover=8, final=38.2, silent=["n3"])
    detail = check(tmp_path, made).detail
    assert detail["needs_person"] is True
    assert "n3 needs a person" in detail["needs_person_says"]
