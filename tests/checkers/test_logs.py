"""Crashes that no fault explains and words about corrupt data; what explains them, and what does not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from checkers.logs import LOGS, Logs
from harness.core.checker import Result
from tests.checkers.runs import context, history, logged, record, steady


def check(run_dir: Path | None, **spec: Any) -> Result:
    checker: Logs = LOGS.load()({})
    return checker.check(context(run_dir, history([*steady("n1", 0, 9), *steady("n2", 0, 9)]), spec))


CRASH = (4.5, "n1", "crash", "panic: runtime error", None)
CORRUPT = (4.5, "n1", "corruption", "checksum mismatch in page 7", None)
START = (4.2, "n1", "start", "starting etcd", None)


def test_nothing_was_said(tmp_path: Path) -> None:
    assert check(None).verdict == check(tmp_path).verdict == "valid"
    logged(tmp_path, START, (5, "n1", "stop", "shutting down", None))
    assert check(tmp_path).verdict == "valid"


def test_logs_that_were_never_searched_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "logs/n1").mkdir(parents=True)
    (tmp_path / "logs/n1/etcd.log").write_text("panic: \n")
    assert check(tmp_path).verdict == "unknown"


def test_a_crash_that_nothing_explains(tmp_path: Path) -> None:
    logged(tmp_path, CRASH, (4.5, "n1", "crash", "fatal error: the second line of it", None))
    result = check(tmp_path)
    assert result.verdict == "invalid"
    (anomaly,) = result.anomalies
    assert (anomaly.kind, anomaly.nodes) == ("crash", ["n1"])
    assert '"panic: runtime error" by 4.50 s' in anomaly.explanation
    assert {o["node"] for o in anomaly.window} == {"n1"}
    assert len(anomaly.window) == 5


@pytest.mark.parametrize(
    ("family", "begin", "end", "explained"),
    [
        ("kill", 4, 6, True),
        ("kill", 4.8, 6, True),  # logs are noted a little late, and faults too
        ("kill", 4, None, True),
        ("kill", 1, 3, False),
        ("kill", 6, 8, False),
        ("pause", 4, 6, False),  # it promises to survive that
        ("partition", 4, 6, False),
        ("disk-full", 1, 3, True),  # it does not, not even afterwards
        ("disk-full", 6, 8, False),
    ],
)
def test_what_explains_a_crash(
    tmp_path: Path, family: str, begin: float, end: float | None, explained: bool
) -> None:
    record(tmp_path, [(family, begin, end, True)])
    logged(tmp_path, CRASH)
    result = check(tmp_path)
    assert result.verdict == ("valid" if explained else "invalid")
    assert bool(result.detail["observations"]) is explained


def test_the_kill_of_another_node_explains_nothing(tmp_path: Path) -> None:
    record(tmp_path, [("kill", 4, 6, True)], nodes=("n2", "n3"))
    logged(tmp_path, CRASH)
    assert check(tmp_path).verdict == "invalid"


def test_a_node_that_crashes_once_it_was_started_again_is_accused(tmp_path: Path) -> None:
    record(tmp_path, [("kill", 4, 6, True)])
    logged(tmp_path, START, CRASH)
    assert check(tmp_path).verdict == "invalid"


@pytest.mark.parametrize("family", ["disk-full", "read-only", "disk-error", "fd-limit", "memory-pressure"])
def test_what_is_denied_explains_a_crash_however_often_it_is_started(tmp_path: Path, family: str) -> None:
    record(tmp_path, [(family, 3, 6, True)])
    logged(tmp_path, START, CRASH)
    survives = [{"prop": "availability", "families": [family], "most": "all"}]
    result = check(tmp_path, promises=survives)
    assert result.verdict == "valid"
    assert "kept it from working" in result.reason
    logged(tmp_path, START, (6.8, *CRASH[1:]))  # over for too long
    assert check(tmp_path, promises=survives).verdict == "invalid"


def test_a_word_about_corrupt_data(tmp_path: Path) -> None:
    logged(tmp_path, CORRUPT)
    result = check(tmp_path)
    assert [a.kind for a in result.anomalies] == ["corruption"]
    assert "checksum mismatch" in result.reason
    record(tmp_path, [("kill", 4, 6, True)])
    assert check(tmp_path).verdict == "invalid"


@pytest.mark.parametrize("family", ["bit-flip", "wipe", "power-loss"])
def test_what_was_corrupted_on_purpose_may_be_reported(tmp_path: Path, family: str) -> None:
    record(tmp_path, [(family, 2, 3, True)])
    logged(tmp_path, CORRUPT)
    promises = [{"prop": "durable", "families": [family]}]
    for spec in ({}, {"promises": promises}):
        result = check(tmp_path, **spec)
        assert result.verdict == "valid"
        assert family in result.reason
    logged(tmp_path, (1, *CORRUPT[1:]))  # it was there before
    assert check(tmp_path).verdict == "invalid"


def test_random_runs(tmp_path: Path) -> None:
    """Killed nodes that crash only while they are down are never accused; any other crash is."""
    for seed in range(400):
        rng = random.Random(seed)
        (tmp_path / "faults.jsonl").unlink(missing_ok=True)
        begin = rng.uniform(1, 50)
        end = begin + rng.uniform(1, 5)
        record(tmp_path, [(rng.choice(["kill", "walk"]), begin, end, True)])
        lines = [(0.1, "n1", "start", "s", None), (end, "n1", "start", "s", None)]
        during = (rng.uniform(begin, end - 0.1), "n1", "crash", "panic: x", None)
        promises = [{"prop": "availability", "families": ["kill", "walk"]}]
        logged(tmp_path, *sorted([*lines, during]))
        assert check(tmp_path, promises=promises).verdict == "valid", seed
        moment = rng.choice([rng.uniform(0.2, begin - 0.6), rng.uniform(end + 0.01, 60)])
        planted = (moment, *during[1:])
        logged(tmp_path, *sorted([*lines, during, planted]))
        assert check(tmp_path, promises=promises).verdict == "invalid", seed
