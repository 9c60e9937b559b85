"""Real runs from the command line, for the tests of this folder."""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest

from harness.admission import VARIABLE

ROOT = Path(__file__).resolve().parents[2]
# a registry of runs of our own: tests do not queue behind whatever else this machine runs
SLOTS = tempfile.TemporaryDirectory(prefix="splitbrain-slots-")
atexit.register(SLOTS.cleanup)
ENV = {**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: SLOTS.name}


Key = TypeVar("Key", int, str)
Value = TypeVar("Value")


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def results(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        return dict(json.loads(self.out))


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def load_s(run_dir: Path) -> float:
    """How long a run was under load."""
    at = {line["phase"]: line["time"] for line in lines(run_dir / "journal.jsonl") if "phase" in line}
    return float(at["heal"] - at["load"]) / 1e9


def splitbrain(*args: object, timeout_s: float = 120, cwd: Path | None = None) -> Done:
    """Run `splitbrain ARGS` to its end."""
    command = [sys.executable, "-P", "-m", "splitbrain", *map(str, args)]
    done = subprocess.run(
        command, env=ENV, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


# A runner in which something is replaced first: the code runs before the run begins.
altered = """
import sys
{code}
from splitbrain.runner import main
main()
"""


def start_altered(code: str, tmp_path: Path, *args: object) -> subprocess.Popen[str]:
    """Start `splitbrain run ARGS --json`, whose controller executes `code` before it begins."""
    script = tmp_path / "altered.py"
    script.write_text(
        "import sys\n"
        "import splitbrain.launch as launch\n"
        f"code = {altered.format(code=code)!r}\n"
        "launch.runner_argv = lambda run_dir: [sys.executable, '-P', '-c', code, str(run_dir)]\n"
        "from splitbrain.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-P", str(script), "run", "--out", str(tmp_path / "runs"), "--json"]
    command += map(str, args)
    return subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run_altered(code: str, tmp_path: Path, *args: object, timeout_s: float = 120) -> Done:
    """The same, to its end."""
    with start_altered(code, tmp_path, *args) as process:
        out, err = process.communicate(timeout=timeout_s)
        return Done(process.returncode, out, err)


@contextmanager
def beside(
    request: pytest.FixtureRequest, parameter: str, one: Callable[[Key], Value], workers: int = 3
) -> Iterator[dict[Key, Future[Value]]]:
    """What `one` makes of each value that `parameter` has in the tests of this file that were asked for, some of
    them at the same time: most of a run is waiting."""
    here = [item for item in request.session.items if item.path == request.path]
    params = [
        item.callspec.params
        for item in here
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
    ]
    values = dict.fromkeys(p[parameter] for p in params if parameter in p)
    with ThreadPoolExecutor(workers) as pool:
        yield {value: pool.submit(one, value) for value in values}
