"""Shell completion: what may stand where the cursor is, and real bash asking for it."""

from __future__ import annotations

import doctest
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main as typers

from splitbrain import completion
from splitbrain.cli import app
from splitbrain.commands import load
from splitbrain.completion import SCRIPTS, candidates
from tests.splitbrain.helpers import ROOT


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work") / "runs"
    (folder / "etcd-register" / "20260131T120000Z-7-a1b2c3").mkdir(parents=True)
    return folder


def found(line: str, runs: Path) -> list[str]:
    load()
    return candidates(typers.get_command(app), line, runs)


def test_examples():
    assert doctest.testmod(completion).failed == 0


@pytest.mark.parametrize(
    ("line", "some"),
    [
        ("splitbrain ", {"run", "check", "completion"}),
        ("splitbrain --v", {"--version"}),
        ("splitbrain run --re", {"--repeat"}),
        ("splitbrain run --system ", {"etcd", "redis"}),
        ("splitbrain run --system=et", set()),
        ("splitbrain run --faults ki", {"kill"}),
        ("splitbrain run --faults partition,ki", {"partition,kill"}),
        ("splitbrain run --faults kill:le", {"kill:leader", "kill:leaders"}),
        ("splitbrain run --system redis --opt ", {"prefix="}),
        ("splitbrain run --provider d", {"docker"}),
        ("splitbrain run --expect i", {"invalid"}),
        ("splitbrain run --time ", set()),
        ("splitbrain run spec", set()),
        ("splitbrain show ", {"latest", "a1b2c3"}),
        ("splitbrain logs a1", {"a1b2c3"}),
        ("splitbrain check la", {"latest"}),
        ("splitbrain new ", {"system", "checker"}),
        ("splitbrain bugs etcd-1", {"etcd-14370"}),
        ("splitbrain completion ", {"bash", "zsh", "fish"}),
        ("splitbrain nosuch ", set()),
        ("splitbrain run 'open", set()),
    ],
)
def test_what_may_stand_there(runs, line, some):
    told = set(found(line, runs))
    assert some <= told if some else not told


def test_what_is_not_for_people_is_not_offered(runs):
    assert "complete" not in found("splitbrain ", runs)
    assert found("splitbrain compl", runs) == ["completion"]


def splitbrain(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "splitbrain", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_a_shell_that_nobody_knows():
    done = splitbrain("completion", "bosh")
    assert done.returncode == 2
    assert "did you mean 'bash'" in done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not to be had here")
def test_real_bash(tmp_path, runs):
    program = tmp_path / "splitbrain"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m splitbrain "$@"\n')
    program.chmod(0o755)
    asked = [
        "splitbrain ru",
        "splitbrain run --faults partition,kill:lea",
        "splitbrain show a1",
        "splitbrain run x.to",
    ]
    script = [
        'eval "$(splitbrain completion bash)"',
        "[[ $(complete -p splitbrain) == *'-F _splitbrain splitbrain' ]] || echo not registered",
        "compopt() { :; }",
    ]
    for line in asked:
        script += [f'COMP_LINE="{line}" COMP_POINT={len(line)}; _splitbrain; echo "${{COMPREPLY[@]}}"']
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "--norc", "-c", "\n".join(script)],
        cwd=runs.parent,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["run", "leader leaders", "a1b2c3", ""], done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_of_other_shells_are_sound(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not to be had here")
    done = subprocess.run([shell, "-n"], input=SCRIPTS[shell], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
