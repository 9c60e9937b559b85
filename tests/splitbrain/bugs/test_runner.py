"""Pairs that are run by something that only pretends: what counts, what is kept, what the exit code says."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.core.results import blank, failed
from harness.core.spec import Spec
from splitbrain.bugs import data, runner, table
from splitbrain.bugs.runner import Tally
from tests.splitbrain.helpers import ROOT, command

BUG = data.bug("etcd-14370")
COMMIT = "ab" * 20


def valid(**more: Any) -> dict[str, Any]:
    return {**blank(), "verdict": "valid", "outcomes": {"read": {"ok": 50, "fail": 1}}, **more}


def invalid(kind: str = "stale-read", check: str = "linearizable", end_s: float = 9.0) -> dict[str, Any]:
    window = [{"start_ns": 1, "end_ns": None}, {"start_ns": 2, "end_ns": int(end_s * 1e9)}]
    anomalies = [{"kind": kind, "key": "k1", "window": window}]
    return valid(verdict="invalid", checks={check: {"verdict": "invalid", "anomalies": anomalies}})


def tally(broken: list[dict[str, Any]], clean: list[dict[str, Any]]) -> Tally:
    made = Tally(bug=BUG, commit=COMMIT)
    made.runs["broken"] = [{**r, "found_s": runner.found_s(BUG, r)} for r in broken]
    made.runs["clean"] = [{**r, "found_s": None} for r in clean]
    return made


@pytest.mark.parametrize(
    ("results", "seconds"),
    [
        (valid(), None),
        (failed("no node"), None),
        (invalid(), 7.0),
        (invalid("went-back", "revisions", 4.5), 2.5),
        (invalid("never-written"), None),
        (invalid("stale-read", "set"), None),
        (invalid(end_s=1.0), 0.0),
    ],
)
def test_only_the_bugs_own_anomaly_is_a_finding(results: dict[str, Any], seconds: float | None) -> None:
    assert runner.found_s(BUG, results, load_ns=2 * 10**9) == seconds


def test_what_has_no_window_is_known_at_the_end() -> None:
    results = {**invalid(), "seconds": 33.0}
    results["checks"]["linearizable"]["anomalies"][0]["window"] = []
    assert runner.found_s(BUG, results, load_ns=2 * 10**9) == 31.0


def test_the_earliest_of_several_counts() -> None:
    both = invalid()
    both["checks"]["revisions"] = invalid("went-back", "revisions", 5.0)["checks"]["revisions"]
    assert runner.found_s(BUG, both) == 5.0


@pytest.mark.parametrize(
    ("broken", "clean", "code"),
    [
        ([invalid(), valid()], [valid(), valid()], 0),
        ([valid(), valid()], [valid()], 1),
        ([invalid("never-written")], [valid()], 1),
        ([invalid()], [valid(), invalid("never-written", "logs")], 1),
        ([blank()], [valid()], 3),
        ([failed("no node")], [valid()], 4),
        ([invalid()], [blank()], 3),
        ([invalid()], [failed("no node"), valid()], 0),
        ([invalid(), valid(interrupted=True)], [valid()], 130),
    ],
)
def test_exit_codes(broken: list[dict[str, Any]], clean: list[dict[str, Any]], code: int) -> None:
    assert tally(broken, clean).code() == code


class Pretender:
    """Finds the bug in the broken version at every other seed."""

    def __init__(self) -> None:
        self.specs: list[Spec] = []
        self.stop_after = 99

    def __call__(self, spec: Spec, out: Path) -> dict[str, Any]:
        self.specs.append(spec)
        if len(self.specs) > self.stop_after:
            return {**blank(), "interrupted": True}
        broken = [s for s in self.specs if s.expect]
        results = invalid() if spec.expect and len(broken) % 2 else valid()
        out.mkdir(parents=True, exist_ok=True)
        (out / "journal.jsonl").write_text('{"format":1}\n{"phase":"load","time":2000000000}\n')
        return {**results, "run": str(out)}


def test_a_series_goes_on_where_it_stopped(tmp_path: Path) -> None:
    said: list[str] = []
    pretend = Pretender()
    pretend.stop_after = 3
    (first,) = runner.run_series([BUG], 4, tmp_path, COMMIT, pretend, said.append)
    assert first.code() == 130
    pretend.stop_after = 99
    (whole,) = runner.run_series([BUG], 4, tmp_path, COMMIT, pretend, said.append)
    assert len(pretend.specs) == 9, "of eight runs three were kept, and the one that was interrupted was not"
    assert [len(whole.runs[side]) for side in data.SIDES] == [4, 4]
    by_side = {v: [s.seed for s in pretend.specs if s.version == v] for v in ("3.5.1", "3.4.23")}
    assert set(by_side["3.5.1"]) == set(by_side["3.4.23"]), "the same seeds for both"
    assert whole.runs["broken"][0]["found_s"] == 7.0
    assert "etcd-14370 broken 1 of 4, seed" in said[0]
    assert "found 7 s into the load, 50 operations ok" in said[0]
    (again,) = runner.collected([BUG], tmp_path, COMMIT)
    assert table.row(again) == table.row(whole)
    (other,) = runner.collected([BUG], tmp_path, "cd" * 20)
    assert table.row(other)[-1] == "abababababab", "the commit that was run last"
    (none,) = runner.collected([BUG], tmp_path / "nowhere", COMMIT)
    assert table.row(none)[1] == "-"


def test_a_pair_has_the_commits_first_seed_or_the_one_given(tmp_path: Path) -> None:
    pretend = Pretender()
    runner.run_pair(BUG, None, tmp_path, COMMIT, pretend, lambda _: None)
    runner.run_pair(BUG, "7", tmp_path, COMMIT, pretend, lambda _: None)
    first, twin, third, fourth = (s.seed for s in pretend.specs)
    assert (third, fourth) == (7, 7)
    assert first == twin == runner.kept_at(tmp_path, COMMIT, BUG, "clean", 0)[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("etcd-14730",), "did you mean 'etcd-14370'"),
        (("etcd-lock", "--all"), "leave one of 'etcd-lock' and --all out"),
        (("--repeat", "3"), "needs an id or --all"),
        (("--all", "--seed", "3"), "is for one pair"),
        (("--write", "none.md"), "cannot read none.md"),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    done = command("bugs", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_they_are_listed(tmp_path: Path) -> None:
    done = command("bugs", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in data.known())
    found = json.loads(command("bugs", "--json", cwd=tmp_path).stdout)
    assert [bug["id"] for bug in found["bugs"]] == list(data.known())
    assert found["bugs"][0]["runs"] == 0


@pytest.mark.slow
@pytest.mark.netns
def test_a_real_bug_is_found_and_its_clean_twin_is_not_accused(tmp_path: Path) -> None:
    import subprocess

    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-m",
            "splitbrain",
            "bugs",
            "etcd-14370",
            "--json",
            "--no-admission",
            "--out",
            str(tmp_path),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (bug,) = json.loads(done.stdout)["bugs"]
    assert (bug["found"], bug["runs"], bug["accused"], bug["clean_runs"]) == (1, 1, 0, 1)
    assert bug["seconds_to_find"] < 25
    assert min(bug["operations_ok"].values()) > 200
