"""The pytest plugin, with runs that are made up; tests/runs/test_pytest.py has real ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from harness.core.errors import UsageError
from splitbrain.asking import RunResult, arguments
from tests.results.test_findings import STALE, results
from tests.splitbrain.helpers import ROOT

CONFTEST = """
import json, pathlib
import splitbrain.asking as asking
from harness.core.errors import InfrastructureError, UsageError
runs = json.loads((pathlib.Path(__file__).parent / "runs.json").read_text())
def run(words, home, limit_s):
    wanted = next((w.partition("=")[2] for w in words if w.startswith("outcome=")), "valid")
    if wanted == "usage": raise UsageError("unknown system 'etdc'; did you mean 'etcd'?")
    if wanted == "broken": raise InfrastructureError("n1 did not get ready\\n" + "a line of its log\\n" * 40)
    found, code = runs[wanted]
    return {**found, "command": " ".join(["splitbrain", *words])}, code
asking.run = run
"""
TESTS = """
import pytest

def outcome(name, **more):
    return pytest.mark.consensus(system="etcd", options={"outcome": name}, **more)

@outcome("valid")
def test_good(): pass
@outcome("invalid")
def test_bad(): raise AssertionError("the run is judged first")
@outcome("unknown")
def test_unknown(): pass
@outcome("expected", expect="invalid")
def test_expected(): pass
@outcome("invalid")
def test_decides_itself(run_test):
    assert run_test.verdict == "invalid"
    assert run_test.checks["linearizable"]["anomalies"][0]["kind"] == "stale-read"
    assert run_test.findings[0].shape == "stale-read"
    assert run_test.report == run_test.run / "report.html"
    assert run_test.seed == 1
    with pytest.raises(AttributeError, match="no 'verdcit'"):
        run_test.verdcit
@outcome("invalid")
def test_looks_at_something_else(run_test):
    assert run_test.reason
@outcome("invalid")
def test_asserts_and_fails(run_test):
    assert run_test.verdict == "valid"
@outcome("usage")
def test_usage(): pass
@outcome("broken")
def test_broken(): pass
@pytest.mark.consensus(sytem="etcd")
def test_slip(): pass
def test_without_marker(run_test): pass
class TestNearest:
    pytestmark = pytest.mark.consensus("a.toml", nodes=3, options={"outcome": "valid"})
    @pytest.mark.consensus(nodes=5, faults=("kill", "pause"), seed=77, options={"reads": "serializable"})
    def test_merged(self, run_test):
        words = run_test.command.split()
        assert words[2].endswith("a.toml")
        assert ["--nodes", "5", "--provider", "docker"] == words[words.index("--nodes"):][:4]
        assert "--faults kill,pause" in run_test.command
        assert "--opt outcome=valid --opt reads=serializable" in run_test.command
        assert "--seed 77" in run_test.command
"""


def made_up(verdict: str, **more: object) -> dict[str, object]:
    found = results(
        "linearizable", STALE, workload="register", run="/runs/x", expect=None, reason="k1 went back"
    )
    return {**found, "verdict": verdict, **more, **({} if verdict == "invalid" else {"checks": {}})}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(TESTS)
    runs = {
        "valid": (made_up("valid"), 0),
        "invalid": (made_up("invalid", reason="k1 went back " * 100), 1),
        "unknown": (made_up("unknown", reason="vacuous: nothing overlapped"), 3),
        "expected": (made_up("invalid", expect="invalid"), 0),
    }
    (folder / "runs.json").write_text(json.dumps(runs))
    return folder


def run_pytest(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider", "--strict-markers", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [*command, "-p", "splitbrain.pytest_plugin"],
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def outcomes(xml: Path) -> dict[str, tuple[str, str]]:
    """Test -> (passed, failure, error or skipped; its message)."""
    found = {}
    for case in ET.parse(xml).iter("testcase"):
        ends = [child for child in case if child.tag != "properties"]
        found[str(case.get("name"))] = (ends[0].tag, str(ends[0].text)) if ends else ("passed", "")
    return found


@pytest.fixture(scope="module")
def session(project: Path) -> tuple[str, dict[str, tuple[str, str]]]:
    words = ("--splitbrain-seed=5", "--splitbrain-provider=docker", "--junitxml=out.xml")
    done = run_pytest(project, *words)
    assert done.returncode == 1, done.stderr
    return done.stdout, outcomes(project / "out.xml")


def test_each_test_ends_as_its_run_did(session):
    found = {name: tag for name, (tag, _) in session[1].items()}
    assert found == {
        "test_good": "passed",
        "test_bad": "failure",
        "test_unknown": "failure",
        "test_expected": "passed",
        "test_decides_itself": "passed",
        "test_looks_at_something_else": "failure",
        "test_asserts_and_fails": "failure",
        "test_usage": "error",
        "test_broken": "error",
        "test_slip": "error",
        "test_without_marker": "error",
        "test_merged": "passed",
    }


def test_a_failure_says_what_there_is_to_know_in_few_lines(session):
    for name in ("test_bad", "test_looks_at_something_else", "test_unknown", "test_broken"):
        text = session[1][name][1]
        assert len(text.splitlines()) <= 15, text
        assert max(map(len, text.splitlines())) < 600
        assert f"pytest 'test_it.py::{name}' --splitbrain-seed=5" in text
    text = session[1]["test_bad"][1]
    assert text.startswith("splitbrain: INVALID: etcd 3.6.1 · register · seed 1\nk1 went back")
    assert "finding etcd/linearizable/stale-read/read+write/kill+partition" in text
    assert "report  /runs/x/report.html\nagain   splitbrain run " in text


def test_slips_are_told_with_the_nearest_word(session):
    assert "unknown argument 'sytem'; did you mean 'system'" in session[1]["test_slip"][1]
    assert "did you mean 'etcd'" in session[1]["test_usage"][1]
    assert "needs @pytest.mark.consensus" in session[1]["test_without_marker"][1]


def test_the_header_tells_provider_seed_and_engine(session):
    assert re.search(
        r"^splitbrain \S+: provider docker, seed 5 .*engine splitbrain-engine", session[0], re.MULTILINE
    )


def test_junit_files_have_the_run(project, session):
    (case,) = (c for c in ET.parse(project / "out.xml").iter("testcase") if c.get("name") == "test_bad")
    properties = {p.get("name"): p.get("value") for p in case.iter("property")}
    assert properties["splitbrain.verdict"] == "invalid"
    assert properties["splitbrain.report"] == "/runs/x/report.html"
    assert properties["splitbrain.finding"].startswith("etcd/linearizable/")


def test_unknown_may_be_skipped_and_nobody_else_sees_a_header(project):
    done = run_pytest(project, "--splitbrain-unknown=skip", "-rs", "-k", "test_unknown or test_bad")
    assert "1 failed, 1 skipped" in done.stdout
    assert "SKIPPED" in done.stdout
    assert "vacuous: nothing overlapped" in done.stdout
    (project / "test_other.py").write_text("def test_plain(): pass\n")
    assert "splitbrain" not in run_pytest(project, "test_other.py").stdout


def test_it_costs_nobody_anything_who_does_not_use_it():
    code = (
        "import sys, pytest; before = set(sys.modules); import splitbrain.pytest_plugin;"
        "print(sorted(set(sys.modules) - before - {'splitbrain', 'splitbrain.pytest_plugin'}))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run(
        [sys.executable, "-P", "-c", code], env=env, capture_output=True, text=True, check=True
    )
    heavy = {"harness", "checkers", "results", "msgspec", "numpy", "typer", "rich", "splitbrain.asking"}
    assert not heavy & {name.strip("' ") for name in told.stdout.strip()[1:-1].split(",")}, told.stdout


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"time_s": "5s"}, "time_s = '5s': expected seconds"),
        ({"options": ["a"]}, "expected names and values"),
        ({"workload": ["a"]}, "expected text or a number"),
        ({"spec": 5}, "expected a path"),
        ({"timeout": 5}, "unknown argument 'timeout'"),
    ],
)
def test_what_cannot_be_asked_for(asked, says):
    with pytest.raises(UsageError, match=says):
        arguments(asked, Path("runs"), Path("/tests"))


def test_paths_start_at_the_tests_folder():
    words = arguments({"system": "../my.toml", "baseline": "known.toml"}, Path("runs"), Path("/a/tests"))
    assert words[:5] == ["run", "--system", "/a/my.toml", "--baseline", "/a/tests/known.toml"]
    assert arguments({"system": "etcd"}, Path("runs"), Path("/a"))[:3] == ["run", "--system", "etcd"]


def test_whoever_looks_at_the_verdict_decides():
    made = RunResult({"verdict": "valid", "reason": "fine", "checks": {}, "run": "x"}, 0)
    assert (made.reason, made.checks, made.run, made.judged) == ("fine", {}, Path("x"), False)
    assert made.verdict == "valid"
    assert made.judged
