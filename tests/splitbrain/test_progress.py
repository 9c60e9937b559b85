"""What a terminal shows while a history is judged."""

import io
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

from splitbrain.progress import Progress
from tests.splitbrain.helpers import ROOT


def test_reading_then_checking_then_nothing_is_left() -> None:
    out = io.StringIO()
    with Progress(out, after_s=0.0, every_s=0.005) as progress:
        assert progress.words() == "reading"
        time.sleep(0.05)
        progress.note("linearizable", 0, 1)
        assert progress.words() == "linearizable: checking, 0 of 1 keys"
        time.sleep(0.05)
        progress.note("linearizable", 1, 1)
        assert progress.words() == "concluding"
    text = out.getvalue()
    assert text.index("reading, 0 s") < text.index("linearizable: checking, 0 of 1 keys, 0 s")
    assert text.count("\r") > 4, "the one line is drawn again and again"
    assert "\n" not in text
    assert text.endswith("\r\x1b[K")


def test_quick_work_and_no_terminal_show_nothing() -> None:
    out = io.StringIO()
    for stream in (out, None):
        with Progress(stream) as progress:
            progress.note("linearizable", 0, 1)
    assert out.getvalue() == ""


def test_a_terminal_shows_that_something_goes_on(tmp_path: Path) -> None:
    """A history that takes its time to be read, here because it comes through a pipe."""
    path = tmp_path / "history.edn"
    os.mkfifo(path)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-m", "splitbrain", "check", str(path), "--json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = ""
        with path.open("w") as file:
            file.write("{:process 0, :type :invoke, :f :write, :value 1}\n")
            while "reading, 1 s" not in shown:
                shown += os.read(ours, 1 << 16).decode()
        found, _ = process.communicate(timeout=60)
        shown += os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert process.returncode == 0
    assert json.loads(found)["verdict"] == "valid", "stdout has the results alone"
    assert shown.endswith("\r\x1b[K")
