"""Skeletons: written whole or not at all, and they run."""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from harness.admission import VARIABLE
from harness.core.errors import UsageError
from splitbrain import new
from tests.splitbrain.helpers import ROOT, command


def installed(project: Path, into: Path) -> Path:
    """The project built and installed into a folder of its own, as `pip install` does it."""
    words = ("install", "--quiet", "--no-deps", "--no-build-isolation", "--target", into, project)
    done = subprocess.run(
        [sys.executable, "-m", "pip", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return into


def its_tests(folder: Path, *path: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Its own tests, run as a user would: outside the checkout."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *path))), **more}
    words = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    return subprocess.run(
        words, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.netns
def test_a_system_runs_and_passes_its_tests(tmp_path: Path) -> None:
    done = command("new", "system", "two-banks", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["files"] == ["two-banks.toml", "two_banks_server.py", "test_two_banks.py"]
    assert sorted(made["files"]) == sorted(path.name for path in tmp_path.iterdir())
    with tempfile.TemporaryDirectory(prefix="splitbrain-slots-") as slots:
        ran = its_tests(tmp_path, **{VARIABLE: slots})
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout


@pytest.mark.parametrize("kind", ["workload", "checker"])
def test_a_skeleton_is_installed_found_and_passes_its_tests(tmp_path: Path, kind: str) -> None:
    project = tmp_path / "project"
    project.mkdir()
    done = command("new", kind, "two-banks", "--json", cwd=project)
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert sorted(made["files"]) == sorted(path.name for path in project.iterdir())
    there = installed(project, tmp_path / "installed")
    ran = its_tests(project, there)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 passed" in ran.stdout
    found = json.loads(command("list", "--json", cwd=tmp_path, path=(there,)).stdout)
    assert found["broken"] == []
    assert "two-banks" in [row["name"] for row in found[f"{kind}s"]]
    if kind == "workload":
        assert found["matrix"]["etcd"]["two-banks"] == []
        assert found["checks"]["two-banks"]["linearizable"] is None
        plan = command(
            "run", "--workload", "two-banks", "--dry-run", "--faults", "none", cwd=tmp_path, path=(there,)
        )
        assert plan.returncode == 0, plan.stderr


def test_it_says_what_is_next(tmp_path: Path) -> None:
    done = command("new", "workload", "bank", cwd=tmp_path)
    assert done.stdout.splitlines() == ["splitbrain_bank.py", "test_splitbrain_bank.py", "pyproject.toml"]
    assert "pip install -e ." in done.stderr
    assert "splitbrain run --workload bank" in done.stderr


def test_a_project_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    made = new.write("checker", "bank", tmp_path)
    assert (tmp_path / "pyproject.toml").read_text() == "[project]\n"
    assert 'bank = "splitbrain_bank:BANK_CHECKER"' in "\n".join(made.next)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "test_splitbrain_bank.py").write_text("mine")
    done = command("new", "workload", "bank", cwd=tmp_path)
    assert done.returncode == 2
    assert "test_splitbrain_bank.py exists" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["test_splitbrain_bank.py"]
    assert (tmp_path / "test_splitbrain_bank.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("worklod", "bank", "did you mean 'workload'"),
        ("workload", "Bank", "expected lower-case words"),
        ("workload", "two--banks", "expected lower-case words"),
        ("workload", "b" * 41, "of 40 characters at most"),
        ("workload", "register", "a workload 'register' is there already"),
        ("system", "etcd", "a system 'etcd' is there already"),
        ("checker", "linearizable", "a checker 'linearizable' is there already"),
    ],
)
def test_what_is_refused(tmp_path: Path, kind: str, name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        new.write(kind, name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_templates_are_part_of_the_wheel() -> None:
    """hatchling takes all of a package's folder that is not excluded; nothing of ours is."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "splitbrain" in wheel["packages"]
    assert not any(pattern.startswith("splitbrain") for pattern in wheel["exclude"])
    names = {path.name for path in (resources.files("splitbrain") / "templates").iterdir()}
    parts = {f"{prefix}{kind}.py.template" for kind in ("workload", "checker") for prefix in ("", "test_")}
    parts |= {"system.toml.template", "system_server.py.template", "test_system.py.template"}
    assert names == parts | {"pyproject.toml.template"}
