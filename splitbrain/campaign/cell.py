"""One attempt of a cell: a `splitbrain run --json` process under a hard wall-clock limit, and what it left.

The process has a folder of its own, `attempts/<run id>/`, whose making is what makes a repeat harmless: whoever comes
second to it starts nothing, waits for the first one's process to be gone, and says what that left. The process
holds a lock (flock) in there while it lives. It is told to stop when whoever started it dies, and then heals,
judges and ends.

The limit is one of CLOCK_MONOTONIC, from when the run has been admitted to the machine. At the limit the run is
asked to stop; `GRACE_S` later it and all that it started is killed, and what it made is healed from its ledger.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from clusters.means import procfs
from harness.core.errors import SplitbrainError
from harness.core.exits import ERROR, exit_code
from harness.core.results import failed
from harness.core.spec import Spec
from splitbrain.alive import held

GRACE_S: Final = (
    45.0  # from being asked to stop to being killed: faults are undone, and the history is checked
)
WAIT_S: Final = 4 * 3600.0  # for runs that are none of ours
_now_s: Final = 5.0  # after the second request
_gone_s: Final = 90.0  # for the process of an attempt whose starter is gone
_look_s: Final = 0.1
EXECUTING: Final[list[Process]] = []  # what `execute` has going on in this process, on whatever thread


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be run: plain data, so that it can be carried anywhere. `night` must be the same folder everywhere."""

    run: str
    night: str
    spec: dict[str, Any]
    limit_s: float


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it: the results object, and whether it came to an end of its own."""

    run: str
    how: Literal["ended", "limit", "cut-off"]
    results: dict[str, Any]
    host: str
    code: int


class Process:
    """An attempt that goes on. `poll` until it returns an outcome.

    Raises: FileExistsError where the attempt has been started before; OSError where it cannot be.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        folder = Path(order.night) / "attempts" / order.run
        folder.mkdir()  # here it is decided who runs it
        (folder / "spec.toml").write_text(toml(order.spec), encoding="utf-8")
        self._since_s = time.monotonic()
        self._asked: list[float] = []
        self._limited: str | None = None
        self._killed = False
        runs = Path(order.night) / "runs"
        argv = [sys.executable, "-P", "-m", "splitbrain", "run", str(folder / "spec.toml"), "--json"]
        argv += ["--out", str(runs), "--run-id", order.run]
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with (folder / "results.json").open("wb") as out, (folder / "log").open("wb") as err:
                self.process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env=_environment(),
                    start_new_session=True,
                    pass_fds=(lock,),  # held as long as it lives
                )
        finally:
            os.close(lock)

    def stop(self, why: str | None = None) -> None:
        """Ask it to stop; a second time, to stop at once. `why`: at its limit, and that is said."""
        if why is not None:
            self._limited = why
        self._asked.append(time.monotonic())
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def poll(self) -> Outcome | None:
        """What became of it, once it has."""
        if self.process.poll() is None:
            self._heed_limits()
            return None
        stopped = bool(self._asked) and self._limited is None
        return outcome(self.order, code=self.process.returncode, stopped=stopped, limited=self._limited)

    def _heed_limits(self) -> None:
        now_s = time.monotonic()
        if self._asked:
            grace_s = GRACE_S if len(self._asked) == 1 else _now_s
            if now_s - self._asked[-1] > grace_s and not self._killed:
                self._killed = True
                kill_all(self.process.pid)
        elif self._waits():
            waited_s = now_s - self._since_s
            if waited_s > WAIT_S:
                self.stop(f"it waited {waited_s:.0f} s for other runs on this machine")
        else:
            admitted = self._admitted_s(now_s)
            if now_s - admitted > self.order.limit_s:
                self.stop(f"it did not end within its limit of {self.order.limit_s:g} s and was stopped")

    def _waits(self) -> bool:
        from harness.admission import read_record

        run_dir = self.run_dir
        record = read_record(run_dir) if run_dir is not None else None
        return record is not None and record.waiting > 0

    def _admitted_s(self, now_s: float) -> float:
        from harness.admission import read_record

        run_dir = self.run_dir
        record = read_record(run_dir) if run_dir is not None else None
        return min(now_s, self._since_s + (record.waited_s if record else 0.0))

    @property
    def run_dir(self) -> Path | None:
        """The run's directory, once there is one."""
        return run_dir_of(Path(self.order.night), self.order.run)


def execute(order: Order) -> Outcome:
    """Run an attempt to its end, here; one that was started before is looked at instead. For workers on other
    machines."""
    seen = Path(order.night) / "plan.json"
    if not seen.exists():
        told = f"{socket.gethostname()} does not see {order.night}; the campaign's folder must be shared by all workers"
        return Outcome(
            run=order.run, how="ended", results=failed(told), host=socket.gethostname(), code=ERROR
        )
    try:
        process = Process(order)
    except FileExistsError:
        return settle(order)
    except OSError as e:
        return not_started(order, e)
    EXECUTING.append(process)
    try:
        while (found := process.poll()) is None:
            time.sleep(_look_s)
        return found
    except BaseException:  # a worker that is told to end, and does not simply die
        process.stop()
        process.stop()
        raise
    finally:
        EXECUTING.remove(process)


def not_started(order: Order, e: OSError) -> Outcome:
    """The outcome of an attempt that could not be started: an error of this machine's."""
    told = f"the run could not be started: {e.strerror or e}: {e.filename or order.night}"
    return Outcome(run=order.run, how="ended", results=failed(told), host=socket.gethostname(), code=ERROR)


def settle(order: Order) -> Outcome:
    """What became of an attempt that somebody else has started: once its process is gone, its results, or that
    it was cut off. Nothing of it goes on afterwards."""
    lock = Path(order.night) / "attempts" / order.run / "lock"
    deadline = time.monotonic() + order.limit_s + GRACE_S + _gone_s
    while held(lock) and time.monotonic() < deadline:
        time.sleep(_look_s)
    if held(lock):
        told = f"run {order.run} goes on long after its limit; `splitbrain heal` says what holds it"
        return Outcome(
            run=order.run, how="ended", results=failed(told), host=socket.gethostname(), code=ERROR
        )
    return outcome(order, code=None, stopped=True, limited=None)


def outcome(order: Order, *, code: int | None, stopped: bool, limited: str | None) -> Outcome:
    """Read what a process that is gone has left. What has no verdict is healed, and says so in its directory.

    A violation that was found stands, however the run ended; anything else of one that was stopped is `cut-off`.
    """
    night = Path(order.night)
    run_dir = run_dir_of(night, order.run)
    results = _object(night / "attempts" / order.run / "results.json")
    if results is None and run_dir is not None:
        results = _object(run_dir / "results.json")
    if results is None:
        how = (
            "was stopped"
            if stopped
            else f"ended with {code}"
            if (code or 0) >= 0
            else f"was killed by signal {-(code or 0)}"
        )
        sentence = f"the run {how} before it had a verdict"
        if run_dir is not None and (run_dir / "spec.json").exists():
            results = _buried(run_dir, sentence, stopped=stopped)
        else:
            results = {**failed(sentence), **({"error": None, "interrupted": True} if stopped else {})}
    kind: Literal["ended", "limit", "cut-off"] = "ended"
    if limited is not None and results["verdict"] != "invalid":
        results = {**results, "verdict": "unknown", "reason": limited, "error": limited, "interrupted": False}
        kind = "limit"
    elif results.get("interrupted") and results["verdict"] != "invalid":
        kind = "cut-off"
    usage = code == 2
    return Outcome(
        run=order.run,
        how=kind,
        results=results,
        host=socket.gethostname(),
        code=exit_code(results, usage=usage),
    )


def _buried(run_dir: Path, sentence: str, *, stopped: bool) -> dict[str, Any]:
    from splitbrain.launch import bury

    try:
        spec = msgspec.json.decode((run_dir / "spec.json").read_bytes(), type=Spec)
        return bury(run_dir, spec, sentence, stopped=stopped)
    except (OSError, msgspec.DecodeError, SplitbrainError) as e:  # a broken run directory
        told = {**failed(f"{sentence}; its directory {run_dir} cannot be used: {e}"), "run": str(run_dir)}
        return {**told, "error": None, "interrupted": True} if stopped else told


def run_dir_of(night: Path, run: str) -> Path | None:
    """The directory of a run of a night, if it has got so far."""
    return next((night / "runs").glob(f"*/*-{run}"), None)


def kill_all(pid: int) -> None:
    """Kill a process and all that is below it, each only if it is the one that was seen there."""
    seen = [(p, found.start) for p in _below(pid) if (found := procfs.stat(p)) is not None]
    for p, start in seen:
        procfs.send(p, start, signal.SIGKILL)


def _below(pid: int) -> list[int]:
    children = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children += [int(text) for text in tasks.read_text().split()]
    return [pid, *(p for child in children for p in _below(child))]


def toml(spec: Mapping[str, Any]) -> str:
    """A run's spec as a TOML file.

    >>> print(toml({"system": "etcd", "nodes": 3, "opt": {"reads": "serializable"}}), end="")
    "system" = "etcd"
    "nodes" = 3
    [opt]
    "reads" = "serializable"
    """
    lines = [f"{_word(key)} = {_word(value)}\n" for key, value in spec.items() if key != "opt"]
    if spec.get("opt"):
        lines += ["[opt]\n", *(f"{_word(name)} = {_word(value)}\n" for name, value in spec["opt"].items())]
    return "".join(lines)


def _word(value: Any) -> str:
    """A value in TOML's spelling, which for text, numbers, truths and lists of them is JSON's."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False).replace(
        "\x7f", "\\u007f"
    )


def _environment() -> dict[str, str]:
    from splitbrain.launch import environment
    from splitbrain.running import STARTER
    from splitbrain.told import ACTIONS, SUMMARY

    kept = {
        k: v for k, v in environment().items() if k not in (ACTIONS, SUMMARY)
    }  # the night tells, not each cell
    return {**kept, STARTER: str(os.getpid())}


def _object(path: Path) -> dict[str, Any] | None:
    from results.rundir import read_object

    found = read_object(path)
    return found if found is not None and "verdict" in found else None
