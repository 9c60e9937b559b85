"""Starting a run as a process of its own, watching it, and what its end means.

A run never shares a process with the command that started it: threads of a display would widen the
intervals of its operations. The child gets a session of its own, so that Ctrl-C reaches it only
through us: the first signal is passed on, and the run heals, collects, checks and reports; after the
second it has `GRACE_S` to end before it is killed. A child that dies without a verdict is an error,
never a verdict.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.core import secrets
from harness.core.checker import Verdict, worst
from harness.core.errors import InfrastructureError, SplitbrainError
from harness.core.exits import USAGE, exit_code
from harness.core.results import failed
from harness.core.spec import Spec
from splitbrain import PROJECT_VARIABLE, registry, root
from splitbrain.kept import handed_over

GRACE_S: Final = 2.0
_look_s: Final = 0.25
_tail_lines: Final = 20
_full_bytes: Final = 65_536
_last_s: Final = 10.0  # for what a run that was killed takes along


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended: its results object, the exit code, and the last lines of its log if it died."""

    results: dict[str, Any]
    code: int
    log: str = ""


def several(runs: Sequence[Mapping[str, Any]], planned: int) -> dict[str, Any]:
    """The object that `--json` prints for `--repeat`."""
    verdicts = [run["verdict"] for run in runs]
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in ("valid", "unknown", "invalid") if v in verdicts)
    reason = f"{len(runs)} of {planned} runs: {counts or 'none'}"
    left = len(runs) < planned and not any(v != "valid" for v in verdicts)
    verdict: Verdict = "unknown" if left else worst(verdicts)
    return {"format": 1, "verdict": verdict, "reason": reason, "runs": list(runs)}


def error_results(error: str, spec: Spec | None = None, run_dir: Path | None = None) -> dict[str, Any]:
    """A results object for what ended before there were any: exits 2 and 4."""
    found = failed(error) | {"run": None if run_dir is None else str(run_dir)}
    if spec is not None:
        about = ("seed", "system", "version", "workload", "provider", "nodes", "expect")
        found |= {name: getattr(spec, name) for name in about}
        found["expected"] = list(spec.expect_found)
    return found


def runner_argv(run_dir: Path) -> list[str]:
    """The child's command line. `-P`: the current folder must not shadow our generic names."""
    return [sys.executable, "-P", "-m", "splitbrain.runner", str(run_dir)]


def environment() -> dict[str, str]:
    """The child's environment: our packages first where Python would not find them by itself, the
    user's project (the current folder) behind everything (`splitbrain/__init__.py` appends it)."""
    env = dict(os.environ)
    home = str(root())
    if home not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (home, env.get("PYTHONPATH"))))
    env[PROJECT_VARIABLE] = str(Path.cwd())
    return env


def launch(
    run_dir: Path,
    spec: Spec,
    *,
    update: Callable[[], None],
    argv: Sequence[str] | None = None,
    say: Callable[[str], None] = lambda _text: None,
) -> Ended:
    """Run the child to its end and read what it left; `update` is called four times a second.

    Must be called in the main thread. `argv` stands in for the runner's own command line.
    """
    (run_dir / "logs").mkdir(exist_ok=True)
    with (run_dir / "logs" / "controller.log").open("ab") as log, _signals() as pipe:
        child = subprocess.Popen(
            argv or runner_argv(run_dir),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment(),
            start_new_session=True,
        )
        stopped = _watch(child, pipe, update, say, lambda: handed_over(run_dir))
    results = _results(run_dir)
    if results is None:
        return _died(run_dir, spec, child.returncode, stopped=stopped)
    return Ended(results=results, code=exit_code(results, usage=child.returncode == USAGE))


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """Signals that ask us to stop, as bytes in a pipe: whoever waits on it wakes at once."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    asked = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # under nohup a run goes on
        asked.append(signal.SIGHUP)
    before = {s: signal.signal(s, lambda *_: None) for s in asked}
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(wakeup)
        for s, handler in before.items():
            signal.signal(s, handler)
        os.close(reader)
        os.close(writer)


def _watch(
    child: subprocess.Popen[bytes],
    pipe: int,
    update: Callable[[], None],
    say: Callable[[str], None],
    stays: Callable[[], bool],
) -> bool:
    """Wait for the child, passing signals on; returns whether it was asked to stop.

    One that `stays` with its cluster has said all there is to say, and is left alone.
    """
    asked = 0
    deadline: float | None = None
    ended = os.pidfd_open(child.pid)
    look = _harmless(update, say)
    try:
        while child.poll() is None and not stays():
            look()
            readable, _, _ = select.select([ended, pipe], [], [], _look_s)
            if pipe in readable:
                for number in os.read(pipe, 64):
                    asked += 1
                    child.send_signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)
                    if asked == 1:
                        say("stopping: undoing faults, collecting, checking; once more to stop at once")
                    elif deadline is None:
                        say("stopping at once")
                        deadline = time.monotonic() + GRACE_S
            if deadline is not None and time.monotonic() > deadline:
                child.kill()
        look()
    finally:
        os.close(ended)
        if child.poll() is None and not stays():  # something tore us away: nothing may outlive us
            child.kill()
            child.wait()
    return asked > 0


def _harmless(update: Callable[[], None], say: Callable[[str], None]) -> Callable[[], None]:
    """`update`, switched off for good once it fails: what is shown never touches what is found."""
    works = True

    def look() -> None:
        nonlocal works
        if works:
            try:
                update()
            except Exception as e:  # noqa: BLE001 - whatever a terminal may do
                works = False
                say(f"the display failed and is off: {type(e).__name__}: {e}")

    return look


def _results(run_dir: Path) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode((run_dir / "results.json").read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return None


def _died(run_dir: Path, spec: Spec, returncode: int, *, stopped: bool) -> Ended:
    """The child left no verdict: clear up after it, say what can be known, and write that down."""
    log = _tail(run_dir / "logs" / "controller.log")
    last = log.splitlines()[-1].strip() if log else "none, logs/controller.log is empty"
    how = f"was killed by {_signal_name(-returncode)}" if returncode < 0 else f"ended with {returncode}"
    if stopped:
        sentence = f"the run was stopped before it had a verdict (its process {how})"
    elif _full(run_dir):
        sentence = f"the disk that holds {run_dir} is full; free some space or choose another with --out"
    else:
        sentence = f"the run's process {how} without a verdict; its last line: {last}"
    if (run_dir / "journal.jsonl").exists():
        sentence += f"; `splitbrain check {run_dir}` judges what there is"
    results = bury(run_dir, spec, sentence, stopped=stopped)
    return Ended(results=results, code=exit_code(results), log=log)


def bury(run_dir: Path, spec: Spec, sentence: str, *, stopped: bool) -> dict[str, Any]:
    """Clear up after a dead run that left no verdict, and write down why: its results object. One that was
    `stopped` has not failed."""
    from splitbrain.heal import heal
    from splitbrain.runner import conclude
    from splitbrain.spec import command_line

    try:
        left = [deed.problem for deed in heal(run_dir, wait_s=_last_s) if deed.problem]
    except SplitbrainError as e:
        left = [str(e)]
    sentence += "".join(f"; {problem}" for problem in left)
    results = {**error_results(sentence, spec, run_dir), "command": command_line(spec)}
    if stopped:
        results = {**results, "error": None, "interrupted": True}
    with contextlib.suppress(OSError):  # a full disk takes no results either
        conclude(run_dir, results)
    return results


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _tail(path: Path) -> str:
    """The last lines of a log that may be long."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16_384))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_tail_lines:])


def _full(path: Path) -> bool:
    try:
        return shutil.disk_usage(path).free < _full_bytes
    except OSError:
        return False


def write_spec(run_dir: Path, spec: Spec) -> Spec:
    """`spec.json`, which is all that the child is told, but for secrets; beside it, a copy of the file that describes
    the system, where one does. Returns the spec without its secrets.

    Raises: InfrastructureError when it cannot be written.
    """
    secret = {
        name: {option.name for option in descriptor.options if option.secret}
        for name, descriptor in registry.owner_options(
            spec.families, spec.system, spec.workload, spec.provider
        ).items()
    }
    spec, held = secrets.hide(spec, secret)
    try:
        secrets.keep(run_dir.name.rpartition("-")[2], held)
    except OSError as e:
        raise InfrastructureError(
            f"the run's secrets cannot be noted in {e.filename}: {e.strerror}; set SPLITBRAIN_CACHE to another"
        ) from None
    try:
        (run_dir / "spec.json").write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=2) + b"\n")
        if file := registry.file_of(spec):
            shutil.copyfile(file, run_dir / registry.COPY)
    except OSError as e:
        raise InfrastructureError(
            f"cannot write {run_dir / 'spec.json'}: {e.strerror}; choose another folder with --out"
        ) from None
    return spec
