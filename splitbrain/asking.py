"""A run that a test asks for: `splitbrain run --json` as a process of its own, and what came of it.

The process is in a session of its own, so that Ctrl-C reaches it only through us: we ask it to stop, and wait while it
heals, collects and judges. Should we die without a word, the kernel asks it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from harness.core.errors import InfrastructureError, Interrupted, SplitbrainError, UsageError, unknown_name
from splitbrain.launch import environment

if TYPE_CHECKING:
    from results.findings import Finding

# What a test may ask for, and the flag that says it to `splitbrain run`.
FLAGS: Final = {
    "system": "--system",
    "version": "--version",
    "workload": "--workload",
    "faults": "--faults",
    "nodes": "--nodes",
    "provider": "--provider",
    "time_s": "--time",
    "rate": "--rate",
    "concurrency": "--concurrency",
    "seed": "--seed",
    "expect": "--expect",
    "baseline": "--baseline",
}
NAMES: Final = ("spec", *FLAGS, "options", "fail_fast", "limit_s")
LIMIT_S: Final = 1800.0  # beyond the load: waiting for other runs, a build, checks
_LAST_S: Final = 60.0  # for one that was told to end
_TAIL: Final = 6  # lines of its talk, where it said nothing else
_start: Final = (
    "import os, signal, sys\n"
    "from clusters.means.kernel import die_with_parent\n"
    "die_with_parent(signal.SIGTERM)\n"
    "if os.getppid() != int(sys.argv.pop(1)): sys.exit(130)\n"
    "from splitbrain.cli import main\n"
    "main()\n"
)


class RunResult:
    """What came of a run. `verdict`, `reason`, `checks` and all other fields of `results.json` are attributes
    (docs/run-directory.md); `results` is the whole object, `exit_code` that of the command.

    `judged` says whether somebody has looked at `verdict`, `results` or `exit_code`, and so decides by himself.
    """

    def __init__(self, results: Mapping[str, Any], exit_code: int) -> None:
        self._results = dict(results)
        self._code = exit_code
        self.judged = False

    def peek(self) -> dict[str, Any]:
        """The whole object, for who does not judge by it."""
        return self._results

    @property
    def code(self) -> int:
        """`exit_code`, for who does not judge by it."""
        return self._code

    @property
    def verdict(self) -> str:
        """`valid`, `invalid` or `unknown`."""
        self.judged = True
        return str(self._results["verdict"])

    @property
    def exit_code(self) -> int:
        """0 as expected, 1 a violation, 3 unknown."""
        self.judged = True
        return self._code

    @property
    def results(self) -> dict[str, Any]:
        self.judged = True
        return self._results

    @property
    def reason(self) -> str:
        """One sentence."""
        return str(self._results["reason"])

    @property
    def checks(self) -> dict[str, dict[str, Any]]:
        """What each check said, by its name."""
        return dict(self._results["checks"])

    @property
    def run(self) -> Path:
        """The run's directory."""
        return Path(self._results["run"])

    @property
    def report(self) -> Path:
        return self.run / "report.html"

    @property
    def findings(self) -> list[Finding]:
        """The violations, each with its signature."""
        from results.findings import findings

        return findings(self._results)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_results"][name]
        except KeyError:
            raise AttributeError(f"a run's results have no {name!r}") from None

    def __repr__(self) -> str:
        return f"<RunResult {self._results['verdict']}: {self._results['reason']}>"


def arguments(asked: Mapping[str, Any], out: Path, base: Path) -> list[str]:
    """The words after `splitbrain` that run what was asked for. Paths start at `base`.

    Raises: UsageError for what cannot be asked for, with the nearest word.
    """
    for name in asked:
        if name not in NAMES:
            raise unknown_name("argument", name, NAMES)
    words = ["run"]
    if asked.get("spec") is not None:
        words.append(_path(asked["spec"], base))
    for name, flag in FLAGS.items():
        value = asked.get(name)
        if value is None:
            continue
        if (name == "system" and (str(value).endswith(".toml") or "/" in str(value))) or name == "baseline":
            value = _path(value, base)
        elif name == "time_s":
            value = f"{_number(name, value):g}s"
        elif name in ("faults", "nodes") and isinstance(value, list | tuple):
            value = ",".join(map(str, value)) or "none"
        elif isinstance(value, bool) or not isinstance(value, str | int | float):
            raise UsageError(f"{name} = {value!r}: expected text or a number")
        words += [flag, str(value)]
    options = asked.get("options") or {}
    if not isinstance(options, Mapping):
        raise UsageError(
            f'options = {options!r}: expected names and values, such as {{"reads": "serializable"}}'
        )
    for name, value in options.items():
        words += ["--opt", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
    if asked.get("fail_fast"):
        words.append("--fail-fast")
    return [*words, "--out", str(out), "--json"]


def flags(asked: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """What was asked for as `splitbrain.spec.resolve` takes it, for a cluster without load of its own.

    Raises: UsageError for what cannot be asked for, or not of such a cluster.
    """
    arguments(asked, base, base)
    given = {name: value for name, value in asked.items() if value is not None and value != {}}
    for name in ("time_s", "rate", "concurrency", "baseline", "fail_fast", "limit_s"):
        if name in given:
            raise UsageError(
                f"{name} = {given[name]!r}: a cluster has no load but the test's own; leave it out"
            )
    if "/" in (system := str(given.get("system", ""))) or system.endswith(".toml"):
        given["system"] = _path(system, base)
    if "options" in given:
        given["opt"] = given.pop("options")
    given.pop("spec", None)
    return given


def spec_file(asked: Mapping[str, Any], base: Path) -> Path | None:
    """The spec file that was asked for."""
    return None if asked.get("spec") is None else Path(_path(asked["spec"], base))


def _path(given: Any, base: Path) -> str:
    """A path that a test names, from the folder that the test stands in."""
    if not isinstance(given, str | os.PathLike):
        raise UsageError(f"{given!r}: expected a path")
    path = Path(given).expanduser()
    return os.path.normpath(path if path.is_absolute() else base / path)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{name} = {value!r}: expected seconds")
    return float(value)


def run(words: Sequence[str], home: Path, limit_s: float) -> tuple[dict[str, Any], int]:
    """Start `splitbrain WORDS`, in the folder `home`, and wait for its end: its results object and exit code.

    Raises: UsageError or InfrastructureError with its sentence where it ends with 2 or 4; Interrupted where somebody
    else stopped it; KeyboardInterrupt, after all has been undone.
    """
    command = [sys.executable, "-P", "-c", _start, str(os.getpid()), *words]
    env = environment() | {"SPLITBRAIN_PROJECT": str(home)}
    # Files and no pipes: what it says must not end it when nobody is left to read, while it still heals.
    with tempfile.TemporaryFile() as data, tempfile.TemporaryFile() as talk:
        child = subprocess.Popen(
            command,
            cwd=home,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=data,
            stderr=talk,
            start_new_session=True,
        )
        try:
            child.wait(limit_s)
        except subprocess.TimeoutExpired:
            end(child)
            raise InfrastructureError(
                f"the run did not end within {limit_s:g} s and was ended; limit_s= gives it longer"
            ) from None
        except BaseException:
            end(child)
            raise
        said, told = (_read(file) for file in (data, talk))
    try:
        results: dict[str, Any] = json.loads(said)
        verdict = results["verdict"]
    except (ValueError, KeyError, TypeError):
        last = "\n".join(told.splitlines()[-_TAIL:])
        raise InfrastructureError(
            f"`splitbrain run` ended with {child.returncode} and said nothing: {last}"
        ) from None
    if verdict != "invalid" and child.returncode not in (0, 1, 3):
        kinds: dict[int, type[SplitbrainError]] = {2: UsageError, 130: Interrupted}
        error = results.get("error") or results["reason"]
        raise kinds.get(child.returncode, InfrastructureError)(_with_its_run(error, results))
    return results, child.returncode


def _with_its_run(error: str, results: Mapping[str, Any]) -> str:
    """An error's sentence, and where its run and the command that repeats it are."""
    more = [
        f"{name:<7} {results[key]}"
        for name, key in (("run", "run"), ("again", "command"))
        if results.get(key)
    ]
    return "\n".join([error, *more])


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def end(child: subprocess.Popen[Any]) -> None:
    """Ask a child to undo what it did and to end; after a second request it does so at once."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            return
        child.send_signal(number)
        deadline = time.monotonic() + _LAST_S
        while time.monotonic() < deadline:
            try:
                child.wait(1.0)
            except subprocess.TimeoutExpired:
                continue
            except KeyboardInterrupt:  # once more: at once
                break
            return
