"""Shell completion: what may stand where the cursor is, and real shells asking for it."""

from __future__ import annotations

import doctest
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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
        ("sudo -E X=1 ./bin/splitbrain ru", {"run"}),
        ("splitbrain campaign ", {"run", "show", "merge"}),
        ("splitbrain campaign run --ju", {"--junit"}),
        ("splitbrain campaign nosuch ", set()),
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


PROMPT = "ready>"
STARTS = {  # what a shell reads as it starts, besides the script, so that its prompt is known
    "bash": (".bashrc", f"PS1='{PROMPT} '\n"),
    "zsh": (".zshrc", f"PS1='{PROMPT} '\n"),
    "fish": (".config/fish/config.fish", f"function fish_prompt; echo '{PROMPT} '; end\nset fish_greeting\n"),
}
TYPED = [  # before TAB, after it, and the words that the shell then runs
    ("splitbrain ru", "", ["run"]),  # and none of the files that begin so
    ("true && X=1 splitbrain run --faults partition,kill:al", "", ["run", "--faults", "partition,kill:all"]),
    ("splitbrain run --system redis --opt pref", "x", ["run", "--system", "redis", "--opt", "prefix=x"]),
    ("splitbrain campaign run x.to", "", ["campaign", "run", "x.toml"]),
]


class Terminal:
    """A shell that somebody types into, with a `splitbrain` that completes, and writes down what it is run with."""

    def __init__(self, shell: str, folder: Path, work: Path) -> None:
        self.ran = folder / "ran"
        (folder / "splitbrain").write_text(
            f'#!/bin/sh\n[ "$1" = complete ] && exec {sys.executable} -P -m splitbrain "$@"\n'
            f"printf '%s\\n' \"$@\" >{self.ran}.part && mv {self.ran}.part {self.ran}\n"
        )
        (folder / "splitbrain").chmod(0o755)
        name, start = STARTS[shell]
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(SCRIPTS[shell] + start)
        home = {"HOME": str(folder), "ZDOTDIR": str(folder), "PATH": f"{folder}:{os.environ['PATH']}"}
        self.screen = b""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.chdir(work)
            env = {**home, "PYTHONPATH": str(ROOT), "TERM": "xterm", "LANG": "C.UTF-8"}
            os.execvpe(shell, [shell, "-i"], env)

    def types(self, keys: str) -> list[str]:
        """The words that splitbrain is run with."""
        self._until(lambda: PROMPT.encode() in self.screen)
        self.screen = b""
        os.write(self._fd, keys.encode() + b"\r")
        self._until(self.ran.exists)
        words = self.ran.read_text().splitlines()
        self.ran.unlink()
        return words

    def _until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not done():
            assert time.monotonic() < deadline, self.screen.decode("utf-8", "replace")
            if select.select([self._fd], [], [], 0.05)[0]:
                self.screen += os.read(self._fd, 65536)

    def close(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._fd)


@pytest.mark.parametrize("shell", SCRIPTS)
def test_typed_into_a_real_shell(shell, tmp_path, runs):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not to be had here")
    for name in ("x.toml", "rubbish"):
        (runs.parent / name).touch()
    terminal = Terminal(shell, tmp_path, runs.parent)
    try:
        assert [terminal.types(f"{before}\t{after}") for before, after, _ in TYPED] == [
            ran for *_, ran in TYPED
        ]
    finally:
        terminal.close()


def test_the_command_prints_the_script():
    done = splitbrain("completion", "fish")
    assert (done.returncode, done.stdout) == (0, SCRIPTS["fish"])
