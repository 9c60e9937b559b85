"""Baseline files: what is read, what is refused, and which findings they excuse."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from harness.core.exits import exit_code
from splitbrain import spec as specs
from splitbrain.baseline import lines, read, weigh
from tests.results.test_findings import STALE, anomaly, op, results

TODAY = dt.date(2026, 6, 1)
SIGNATURE = "etcd/linearizable/stale-read/read+write/kill+partition"


def entry(signature: str = SIGNATURE, expires: str = "2026-06-01", more: str = "") -> str:
    return f'[[known]]\nsignature = "{signature}"\nreason = "on purpose"\nexpires = {expires}\n{more}\n'


def baseline(tmp_path: Path, *entries: str):
    path = tmp_path / "splitbrain-baseline.toml"
    path.write_text("".join(entries))
    return read(path)


def invalid(*anomalies, **more):
    return {**results("linearizable", *anomalies, verdict="invalid"), **more}


@pytest.mark.parametrize("pattern", [SIGNATURE, "etcd/linearizable/*", "*/linearizable/stale-read/*"])
def test_a_run_with_known_findings_only_is_no_failure_and_stays_invalid(tmp_path, pattern):
    found = weigh(invalid(STALE), baseline(tmp_path, entry(pattern, more='link = "https://x"')), TODAY)
    assert (found["verdict"], found["baseline"]["verdict"], exit_code(found)) == ("invalid", "valid", 0)
    assert lines(found) == [f"known until 2026-06-01: {pattern} (on purpose, https://x)"]


def test_one_more_finding_is_a_failure(tmp_path):
    found = weigh(invalid(STALE, anomaly("never-written", op("read"))), baseline(tmp_path, entry()), TODAY)
    assert exit_code(found) == 1
    assert found["baseline"]["new"] == ["etcd/linearizable/never-written/read/kill+partition"]
    assert lines(found)[1].startswith("new: etcd/linearizable/never-written")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"meaning": {"vacuous": True}}, 3),
        ({"error": "the disk is full"}, 4),
        ({"interrupted": True}, 130),
    ],
)
def test_what_is_left_has_to_mean_something(tmp_path, more, code):
    assert exit_code(weigh(invalid(STALE, **more), baseline(tmp_path, entry()), TODAY)) == code


def test_another_check_that_is_unknown_stays_so(tmp_path):
    run = invalid(STALE)
    run["checks"]["set"] = {"verdict": "unknown", "reason": "?", "anomalies": []}
    assert exit_code(weigh(run, baseline(tmp_path, entry()), TODAY)) == 3


def test_an_entry_that_has_expired_excuses_nothing_and_is_said(tmp_path):
    old = baseline(tmp_path, entry(expires="2026-05-31"), entry("redis/set/*", '"2026-01-01"'))
    found = weigh(invalid(STALE), old, TODAY)
    assert exit_code(found) == 1
    assert lines(found) == [
        f"new: {SIGNATURE}",
        f"expired on 2026-05-31: {SIGNATURE} (on purpose), and was found again",
        "expired on 2026-01-01: redis/set/* (on purpose); remove it",
    ]


def test_what_was_not_met_is_said_where_it_could_have_been(tmp_path):
    known = baseline(
        tmp_path,
        entry(),
        entry("redis/*"),
        entry("etcd/lock/overlap/acquire/pause"),
        entry("etcd/lock/overlap/acquire/*"),
    )
    good = {**results("linearizable"), "verdict": "valid", "checks": {}}
    found = weigh(good, known, TODAY)
    assert (exit_code(found), found["baseline"]["verdict"]) == (0, "valid")
    assert found["baseline"]["unmatched"] == [SIGNATURE, "etcd/lock/overlap/acquire/*"]
    assert "not met by this run" in lines(found)[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[knwon]]\n", "did you mean 'known'"),
        (entry(more="lnk = 'x'"), "entry 1: unknown key 'lnk'; did you mean 'link'"),
        (entry("etcd/linearisable/*"), "did you mean 'linearizable'"),
        (entry("ectd/linearizable/*"), "did you mean 'etcd'"),
        (entry("etcd/linearizable/stale-read/read/partitoin"), "did you mean 'partition'"),
        (entry("linearizable"), "expected one as results tell them"),
        (entry("etcd/linearizable"), "expected SYSTEM/CHECKER/SHAPE/OPERATIONS/FAULTS"),
        (entry(expires='"soon"'), "expected a date such as 2027-01-31"),
        ('[[known]]\nsignature = "etcd/lock/*"\nreason = "x"\n', "expires is missing"),
        (entry() + entry(), "entry 2: .* is there already"),
        ("known = 3\n", "expected .*known"),
        ("format = 2\n", "reads format 1"),
        ("[[known\n", "expected TOML"),
    ],
)
def test_a_slip_is_told_with_the_nearest_word(tmp_path, text, says):
    with pytest.raises(UsageError, match=says):
        baseline(tmp_path, text)


def test_a_missing_file(tmp_path):
    with pytest.raises(UsageError, match="cannot read baseline"):
        read(tmp_path / "none.toml")


# What is expected.


def expected(run, *words):
    from splitbrain.expecting import unmet

    return {**run, "expect": "invalid", "expected": list(words), "unmet": unmet(run, words)}


@pytest.mark.parametrize(
    "words", [(), ("linearizable",), (SIGNATURE,), ("etcd/*",), ("lock", "linearizable")]
)
def test_expected_and_met(words):
    assert exit_code(expected(invalid(STALE), *words)) == 0


def test_expected_and_not_met():
    found = expected(invalid(STALE), "lock")
    assert (exit_code(found), lines(found)) == (
        1,
        [f"not as expected: expected a finding of lock; found {SIGNATURE}"],
    )
    more = expected(invalid(STALE, anomaly("never-written", op("read"))), SIGNATURE)
    assert exit_code(more) == 1
    assert "besides what was expected" in lines(more)[0]
    assert exit_code({"verdict": "valid", "expect": "invalid", "expected": ["lock"]}) == 1
    assert exit_code({"verdict": "unknown", "expect": "invalid", "expected": ["lock"]}) == 3


def test_what_else_is_there_may_be_known(tmp_path):
    run = expected(invalid(STALE, anomaly("never-written", op("read"))), SIGNATURE)
    known = baseline(tmp_path, entry("etcd/linearizable/never-written/*"))
    assert exit_code(weigh(run, known, TODAY)) == 0


def test_an_expectation_goes_from_a_spec_to_a_command_line_and_back(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text('seed = 1\n[expect]\nchecker = "linearizable"\nsignature = ["etcd/revisions/*"]\n')
    spec = specs.resolve(path, {})
    assert (spec.expect, spec.expect_found) == ("invalid", ("linearizable", "etcd/revisions/*"))
    line = specs.command_line(spec)
    assert "--expect 'invalid:linearizable,etcd/revisions/*'" in line
    again = specs.resolve(None, {"expect": "invalid:linearizable,etcd/revisions/*", "seed": 1})
    assert (again.expect, again.expect_found) == (spec.expect, spec.expect_found)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("invalid:linearizible", "unknown check 'linearizible'; did you mean 'linearizable'"),
        ("invalid:", "an empty name"),
        ("valid:lock", "a valid run has no findings"),
        ("invald:lock", "expected valid or invalid"),
        ({"cheker": "lock"}, "did you mean 'checker'"),
        ({"checker": 3}, "expected a name or a list"),
        ("invalid:etcd/lock/overlap", "where \\* stands for anything"),
    ],
)
def test_an_expectation_with_a_slip(given, says):
    with pytest.raises(UsageError, match=says):
        specs.resolve(None, {"expect": given})
