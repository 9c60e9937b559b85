"""A user's project, examples/counter-service, in an environment of its own: its tests run with plain `pytest`, as its
README says. The environment sees the libraries of ours, so that nothing is downloaded; splitbrain is installed into it
from this checkout, with its entry points."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from harness.admission import VARIABLE
from tests.runs.commands import ROOT, SLOTS

EXAMPLE = ROOT / "examples" / "counter-service"
pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project in a folder of its own, with an environment `.venv` that has splitbrain and pytest."""
    folder = tmp_path_factory.mktemp("user") / "counter-service"
    ignored = shutil.ignore_patterns("__pycache__", "runs", ".pytest_cache")
    shutil.copytree(EXAMPLE, folder, ignore=ignored)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    (site,) = (folder / ".venv").glob("lib/python*/site-packages")
    ours = Path(sysconfig.get_path("purelib"))
    for found in ours.iterdir():
        if not re.match(r"(_editable_impl_)?splitbrain|_splitbrain|__pycache__", found.name):
            (site / found.name).symlink_to(found)
    command = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    target = ["--prefix", folder / ".venv", "--ignore-installed", ROOT]
    done = subprocess.run([sys.executable, *command, *target], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    where = [folder / ".venv/bin/python", "-P", "-c", "import splitbrain; print(splitbrain.root())"]
    assert subprocess.run(where, capture_output=True, text=True, check=True).stdout.strip() == str(site)
    return folder


def run_pytest(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    return subprocess.run(
        [project / ".venv/bin/python", "-m", "pytest", "-p", "no:cacheprovider", *words],
        cwd=project,
        env={**env, VARIABLE: SLOTS.name},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_its_tests_run_with_plain_pytest(project: Path) -> None:
    done = run_pytest(project, "-m", "not slow", "--junitxml=out.xml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "splitbrain" in done.stdout
    cases = {case.get("name"): case for case in ET.parse(project / "out.xml").iter("testcase")}
    properties = {
        p.get("name"): p.get("value") for p in cases["test_counts_survive_crashes"].iter("property")
    }
    assert properties["splitbrain.verdict"] == "valid"
    assert Path(str(properties["splitbrain.report"])).is_file()
    assert Path(str(properties["splitbrain.run"])).parent.parent == project / "runs"


@pytest.mark.slow
def test_the_slow_ones_side_by_side(project: Path) -> None:
    done = run_pytest(project, "-m", "slow", "-n", "2", "--splitbrain-seed=7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^splitbrain \S+: .*seed 7 ", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_a_service_that_breaks_its_promise_fails_in_few_lines(project: Path) -> None:
    tests = project / "tests" / "test_consensus.py"
    (project / "tests" / "test_sloppy.py").write_text(
        tests.read_text().replace(', expect="invalid:counter"', "")
    )
    done = run_pytest(project, "tests/test_sloppy.py", "-k", "counts_for_itself", "--junitxml=bad.xml")
    assert done.returncode == 1, done.stdout + done.stderr
    (failure,) = ET.parse(project / "bad.xml").iter("failure")
    told = str(failure.text).splitlines()
    assert len(told) <= 15
    assert told[0].startswith("splitbrain: INVALID: counter-service 1.0")
    assert any(line.startswith("finding counter-service/counter/too-low/") for line in told)
    known = (
        '[[known]]\nsignature = "counter-service/counter/*"\nreason = "on purpose"\nexpires = 2099-12-31\n'
    )
    (project / "splitbrain-baseline.toml").write_text(known)
    words = (
        "tests/test_sloppy.py",
        "-k",
        "counts_for_itself",
        "--splitbrain-baseline=splitbrain-baseline.toml",
    )
    again = run_pytest(project, *words, "--splitbrain-out=known")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "itself_is_found: known until 2099-12-31: counter-service/counter/* (on purpose)" in again.stdout
    (path,) = project.glob("known/*-counter/*/results.json")
    found = json.loads(path.read_text())
    assert (found["verdict"], found["baseline"]["verdict"]) == ("invalid", "valid")
