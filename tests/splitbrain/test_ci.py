"""The documented workflows: sound YAML, and every command in them is one that splitbrain understands."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from splitbrain import doctor, registry
from splitbrain.campaign import spec as campaigns
from splitbrain.campaign.runner import new_plan
from splitbrain.cli import app
from splitbrain.commands import load
from tests.splitbrain.helpers import ROOT

yaml = pytest.importorskip("yaml")
CI = ROOT / "docs" / "ci"
FILES = sorted(CI.glob("*.yml"))
TYPED = {"splitbrain", "pip", "sudo"}


def steps(path: Path) -> list[dict[str, Any]]:
    loaded = yaml.safe_load(path.read_text())
    return [step for job in loaded["jobs"].values() for step in job["steps"]]


def commands(path: Path) -> list[list[str]]:
    """The words of every `run`, up to a pipe or a redirection."""
    found = []
    for step in steps(path):
        for line in step.get("run", "").splitlines():
            words = shlex.split(line)
            found.append(words[: next((i for i, w in enumerate(words) if w in ("|", ">", ">>")), len(words))])
    return found


def parse(words: list[str]) -> None:
    """Parse a command line as the shell's user would have it parsed; runs nothing."""
    load()
    command: Any = typer.main.get_command(app)
    context = command.make_context("splitbrain", list(words))
    while hasattr(command, "commands"):
        waiting = [*getattr(context, "_protected_args", ()), *context.args]
        name, command, rest = command.resolve_command(context, waiting)
        context = command.make_context(name, list(rest), parent=context)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_workflows_are_sound(path: Path) -> None:
    loaded = yaml.safe_load(path.read_text())
    assert {"name", "jobs", "permissions"} <= loaded.keys()
    assert loaded["permissions"] == {"contents": "read"}
    assert {"pull_request", "schedule"} & loaded[True].keys()  # YAML 1.1 reads `on` so
    for job in loaded["jobs"].values():
        assert job["timeout-minutes"] <= 360
        uploads = [s for s in job["steps"] if str(s.get("uses", "")).startswith("actions/upload-artifact")]
        assert any(step["if"] == "failure() || cancelled()" for step in uploads), (
            "time that is over cancels a job"
        )
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert "@v" in step.get("uses", "@v")
            assert "${{" not in step.get("run", "")  # nothing of a pull request's becomes shell


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_command_is_one_that_a_person_types(path: Path) -> None:
    every = commands(path)
    assert {words[0] for words in every} <= TYPED
    ours = [words[1:] for words in every if words[0] == "splitbrain"]
    assert [words[0] for words in ours].count("doctor") == 2
    for words in ours:
        parse(words)
    with pytest.raises(Exception, match="No such option"):
        parse(["run", "--no-such-option"])


def named(page: Path) -> list[list[str]]:
    """The commands that a page names, in its text or in a block."""
    text = page.read_text()
    blocks, prose = re.findall(r"```.*?```", text, re.DOTALL), re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found = [m for block in blocks for m in re.findall(r"splitbrain [a-z].*", block)]
    found += re.findall(r"`(splitbrain\s+[a-z][^`]*)`", prose)
    given = {"${{ matrix.shard }}": "1/4", "${{ matrix.seed }}": "7"}
    found = [re.sub(r"\$\{\{.*?\}\}", lambda m: given[m[0]], line) for line in found]
    lines = [re.split(r" {2,}| #|\)\"| \|", re.sub(r"\n\s*", " ", line))[0] for line in found]
    return [["X" if w == "..." else w for w in shlex.split(line)[1:]] for line in lines]


@pytest.mark.parametrize("page", ["ci.md", "campaigns.md", "completion.md", "expectations.md"])
def test_every_command_that_a_page_names_is_there_with_its_options(page: str) -> None:
    every = named(ROOT / "docs" / page)
    assert len(every) > 2
    for words in every:
        try:
            parse(words)
        except Exception as e:  # one that is named alone, as `splitbrain replay`
            if type(e).__name__ != "MissingParameter" or len(words) > 1:
                raise


def test_the_files_that_the_commands_name_stand_beside_the_workflows() -> None:
    files = {w for path in FILES for words in commands(path) for w in words if w.endswith(".toml")}
    assert files == {"nightly.toml"}
    assert all((CI / file).exists() for file in files)


def test_the_run_of_a_pull_request_can_be_planned(tmp_path: Path) -> None:
    (words,) = [w for w in commands(CI / "pull-request.yml") if w[:2] == ["splitbrain", "run"]]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "splitbrain", *words[1:], "--dry-run"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_night_can_be_planned() -> None:
    plan = new_plan(campaigns.read(CI / "nightly.toml"), 1)
    assert len(plan.cells) > 10
    assert plan.left_out == ()


def test_the_cache_of_doctor_has_a_key_and_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITBRAIN_CACHE", str(tmp_path / "cache"))
    cache = doctor._cache()
    assert (cache["bytes"], cache["parts"]) == (None, {})
    for name, size in (
        ("programs/etcd-1/etcd", 5),
        ("engine/e", 3),
        ("secrets/run.json", 100),
        ("programs/x.lock", 9),
    ):
        (tmp_path / "cache" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cache" / name).write_bytes(b"x" * size)
    full = doctor._cache()
    assert (full["bytes"], full["parts"]) == (8, {"etcd-1": 5, "engine": 3})
    assert full["key"] == cache["key"]
    assert full["key"].startswith(full["restore"])
    monkeypatch.setattr(registry, "version", lambda: "9.9")
    assert doctor._cache()["key"] != full["key"]
