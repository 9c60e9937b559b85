"""Keys that are spent are checked while the run goes on, in a process of its own.

    python -P -m splitbrain.incremental RUN_DIR      what a run starts beside its cluster

It reads the growing journal and nothing else, and appends a line for each key to `incremental.jsonl`:
its `verdict` is *provisional* when valid (final reads, and whatever comes late, are judged at the end),
and *final* when invalid. Linearizability is closed under prefixes: an invocation is in the journal
before its call is made, so what any completion in the journal can have seen has its invocation before
it, and cutting the rest off only turns completed operations into pending ones. So when a key is taken
for spent is a matter of thrift, never of truth: its budget of operations or of unknown outcomes is used
up and none is open, or nobody has touched it for `IDLE_S`.

Load must not feel it: lowest priority, one engine at a time, which gets one processor; when the load
is over, so is this. What it found never replaces the check at the end.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, NoReturn

import msgspec

from harness.core.checker import CheckContext, Result, Verdict
from harness.core.errors import HistoryError
from harness.core.lines import LineFile
from harness.core.op import NEMESIS, OpType
from harness.core.spec import Spec
from results.tail import Tail
from splitbrain import registry

FILE: Final = "incremental.jsonl"
CHECK: Final = "linearizable"
_scratch: Final = "incremental.tmp"
IDLE_S: Final = 3.0
_look_s: Final = 0.2
_end_s: Final = 2.0
_most_keys: Final = 32  # in one go: the last of them waits for all
_most_events: Final = 200_000  # of one key; a longer one is left to the check at the end
_over: Final = frozenset(("heal", "recover", "final", "collect"))  # phases in which there is no load any more
_limits: Final[dict[str, float]] = {"time_s": 10.0, "key_time_s": 5.0, "memory_mb": 1024}


def command(run_dir: Path) -> list[str]:
    """The command line that starts it."""
    return [sys.executable, "-P", "-m", "splitbrain.incremental", str(run_dir)]


def wanted(checkers: Mapping[str, tuple[str, Mapping[str, Any]]]) -> Mapping[str, Any] | None:
    """The options of a workload's check of linearizability, None where it has none."""
    return next((options for which, options in checkers.values() if which == CHECK), None)


class _Line(msgspec.Struct):
    """What matters of a journal's line. `key` is as the journal has it."""

    time: int = 0
    process: int | str = -1
    type: OpType | None = None
    key: msgspec.Raw = msgspec.Raw(b"null")
    phase: str | None = None
    end: str | None = None
    epoch_mono_ns: int | None = None


class _Key:
    """A key that is not spent yet: the journal's lines about it."""

    __slots__ = ("infos", "invoked", "lines", "open", "seen", "touched")

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.open = self.invoked = self.infos = 0
        self.touched = 0  # ns since the run's start
        self.seen = 0  # lines that an earlier check has seen


class Keys:
    """What the journal has told so far, key by key, and which of them are spent.

    `ops` and `infos` are a key's budgets, None where the workload has no such thing.
    """

    def __init__(self, ops: int | None, infos: int | None) -> None:
        self._budgets = (ops, infos)
        self._live: dict[bytes, _Key] = {}
        self._retired: set[bytes] = set()
        self._at: dict[int | str, bytes] = {}  # the key that a process is at work on
        self._decode = msgspec.json.Decoder(_Line).decode
        self.header = b""
        self.epoch: int | None = None  # CLOCK_MONOTONIC at the run's start
        self.over = False  # there is no load any more

    def take(self, raw: bytes) -> None:
        """One line of the journal.

        Raises: msgspec.DecodeError for what no journal holds.
        """
        line = self._decode(raw)
        if line.epoch_mono_ns is not None:
            self.header, self.epoch = raw, line.epoch_mono_ns
        elif line.type is None:
            self.over = self.over or line.end is not None or line.phase in _over
        elif line.process != NEMESIS:
            self._event(line, raw)

    def _event(self, line: _Line, raw: bytes) -> None:
        if line.type == "invoke":
            name = self._at[line.process] = bytes(line.key)
        else:
            name = self._at.pop(line.process, b"null")
        if name in self._retired:
            return
        key = self._live.get(name)
        if key is None:
            key = self._live[name] = _Key()
        key.lines.append(raw)
        key.touched = line.time
        if line.type == "invoke":
            key.open += 1
            key.invoked += 1
        else:
            key.open -= 1
            key.infos += line.type == "info"
        if len(key.lines) > _most_events:
            self.retire(name)

    def spent(self, now: int) -> dict[bytes, tuple[list[bytes], bool]]:
        """Keys to check at `now` (ns since the run's start): their lines, and whether no more are to come."""
        found: dict[bytes, tuple[list[bytes], bool]] = {}
        for name, key in self._live.items():
            if key.open or len(found) >= _most_keys:
                continue
            ops, infos = self._budgets
            last = (ops is not None and key.invoked >= ops) or (infos is not None and key.infos >= infos)
            idle = len(key.lines) > key.seen and now - key.touched > IDLE_S * 1e9
            if last or idle:
                found[name] = (key.lines, last)
                key.seen = len(key.lines)
        return found

    def retire(self, name: bytes) -> None:
        """Nothing more is kept about this key."""
        self._live.pop(name, None)
        self._retired.add(name)


class Found(msgspec.Struct, kw_only=True):
    """A line of `incremental.jsonl`. `time` is ns since the run's start."""

    time: int
    key: Any
    verdict: Verdict
    reason: str


def judge(
    header: bytes, keys: Mapping[bytes, list[bytes]], options: Mapping[str, Any], folder: Path
) -> Result:
    """The check of linearizability over the journal's lines about some keys."""
    from harness.core.history import read_history
    from harness.journal import merge

    journal, path = folder / "journal.jsonl", folder / "history.jsonl"
    with journal.open("wb") as file:
        file.writelines(line + b"\n" for line in (header, *(x for lines in keys.values() for x in lines)))
    merge(journal, path)
    checker = registry.create("checkers", CHECK, options)
    ctx = CheckContext(history_path=path, history=lambda: read_history(path), time_s=options["time_s"])
    result: Result = checker.check(ctx)
    return result


def verdicts(names: Iterable[bytes], result: Result, now: int) -> list[Found]:
    """A verdict for each key. One that nothing is known of is unknown, never valid."""
    violated = {_name(a.key): a.explanation for a in result.anomalies}
    undecided = {_name(u["key"]): f"limit {u['limit']}" for u in result.detail.get("unknown", ())}
    trouble = result.detail.get("trouble")
    found = []
    for name in names:
        same = _name(msgspec.json.decode(name))
        verdict: Verdict = "valid"
        reason = "provisional: an order fits all answers so far"
        if same in violated:
            verdict, reason = "invalid", violated[same]
        elif same in undecided or trouble or result.verdict == "unknown":
            verdict, reason = "unknown", undecided.get(same) or trouble or result.reason
        found.append(Found(time=now, key=msgspec.json.decode(name), verdict=verdict, reason=reason))
    return found


def _name(key: Any) -> bytes:
    return msgspec.json.encode(key, order="deterministic")


class _Ended(BaseException):
    """The cluster is being closed. No `Exception`: nobody may take it for one."""


def _end(_number: int, _frame: object) -> NoReturn:
    raise _Ended


def main() -> None:
    """Check until the load is over; the cluster that spawned this process ends it at the latest."""
    run_dir = Path(sys.argv[1])
    os.nice(19)
    with suppress(OSError):  # a batch process takes no processor away from one that wakes up
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.environ["GOMAXPROCS"] = "1"
    signal.signal(signal.SIGTERM, _end)
    spec = msgspec.json.decode((run_dir / "spec.json").read_bytes(), type=Spec)
    workload = registry.create("workloads", spec.workload, spec.of(spec.workload))(
        spec.concurrency, spec.seed
    )
    given = wanted(workload.checkers)
    if given is None:
        return
    options = registry.checker_options(CHECK, given, spec)
    options.pop("witness", None)  # that file is the last check's
    options |= {name: min(most, options.get(name, most)) for name, most in _limits.items()}
    folder = run_dir / _scratch
    folder.mkdir(exist_ok=True)
    out = LineFile(run_dir / FILE)
    keys = Keys(workload.ops_per_key, workload.infos_per_key)
    try:
        _watch(run_dir, keys, options, folder, out)
    except _Ended:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        tidy(run_dir)
    out.append(msgspec.json.encode({"end": "done", "time": _now(keys)}) + b"\n")
    out.close()


def _now(keys: Keys) -> int:
    return time.monotonic_ns() - (keys.epoch or 0)


def _watch(run_dir: Path, keys: Keys, options: Mapping[str, Any], folder: Path, out: LineFile) -> None:
    journal = Tail(run_dir / "journal.jsonl")
    while not keys.over:
        for block in journal.blocks():
            for raw in block.splitlines():
                keys.take(raw)
        due = keys.spent(_now(keys)) if keys.epoch is not None and not keys.over else {}
        if not due:
            time.sleep(_look_s)
            continue
        try:
            result = judge(keys.header, {name: lines for name, (lines, _) in due.items()}, options, folder)
        except HistoryError as e:
            result = Result(verdict="unknown", reason=e.problem)
        found = verdicts(due, result, _now(keys))
        out.append(b"".join(msgspec.json.encode(f) + b"\n" for f in found))
        for (name, (_, last)), one in zip(due.items(), found, strict=True):
            if last or one.verdict == "invalid":
                keys.retire(name)


class Watch:
    """The first violation, for a run that is to end with it. Cheap enough to be asked ten times a second."""

    def __init__(self, run_dir: Path) -> None:
        self._tail = Tail(run_dir / FILE)

    def first(self) -> str | None:
        """A sentence about it, None as long as there is none."""
        for line in self._tail.objects():
            if line.get("verdict") == "invalid":
                return str(line.get("reason"))
        return None

    def close(self) -> None:
        self._tail.close()


def tidy(run_dir: Path) -> None:
    """Remove what a process that was killed has left; for when the cluster is closed."""
    shutil.rmtree(run_dir / _scratch, ignore_errors=True)


def summary(run_dir: Path) -> dict[str, Any] | None:
    """What `results.json` says of it: keys checked and in violation, when the first of these was found
    (s since the run's start), and whether it was at work until the load's end. None where there was none."""
    if not (run_dir / FILE).exists():
        return None
    with closing(Tail(run_dir / FILE)) as tail:
        lines = list(tail.objects())
    found = [line for line in lines if "key" in line]
    bad = [line for line in found if line.get("verdict") == "invalid"]
    return {
        "keys": len({_name(line["key"]) for line in found}),
        "violations": len({_name(line["key"]) for line in bad}),
        "first_violation_s": round(min(line["time"] for line in bad) / 1e9, 3) if bad else None,
        "ended": any("end" in line for line in lines),
    }


def weigh(results: dict[str, Any], run_dir: Path, *, fail_fast: bool, whole: bool) -> dict[str, Any]:
    """The results with what was found while the run went on. Where both checks contradict each other, one
    of them is wrong, and a valid verdict worth nothing.

    `whole`: whether the run came to its end, so that everything of it ought to have as well.
    """
    found = summary(run_dir)
    deadline = time.monotonic() + _end_s
    # Of a cluster that may stay nobody has waited for it to end.
    while whole and found is not None and not found["ended"] and time.monotonic() < deadline:
        time.sleep(_look_s / 4)
        found = summary(run_dir)
    results = {**results, "incremental": found}
    warnings = list(results["warnings"])
    ended = not fail_fast if found is None else found["ended"]
    if whole and not ended:
        warnings.append(
            "the check while the run went on ended before the load did, see logs/incremental.log; the verdict"
            f" is that of the whole history{', --fail-fast had nothing to go by' if fail_fast else ''}"
        )
    noted = results["checks"].get(CHECK, {}).get("detail", {}).get("observed_anomalies")
    if found is not None and found["violations"] and results["verdict"] == "valid" and not noted:
        results |= {
            "verdict": "unknown",
            "reason": f"{CHECK}: {found['violations']} keys were in violation while the run went on, and none in the"
            " whole history; one of the two checks is wrong, please report it with this run",
        }
    return {**results, "warnings": warnings}


if __name__ == "__main__":
    main()
