"""Is there, for each object, one order of its operations that fits both their answers and real time?

Linearizability (Herlihy and Wing 1990) is local, so every key is decided by itself. The deciding is
done by the engine, a program of ours that reads the history file by itself; here its limits are
held from outside, its lines are turned into a verdict, and violations into sentences. What was
decided before the engine ended, in whatever way, stays decided; every other key is unknown.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from checkers.engine_binary import engine_path
from checkers.engine_process import Ending, run_engine
from checkers.explain import explain
from checkers.models import MODELS
from harness.core.checker import Anomaly, CheckContext, Result, Verdict, worst
from harness.core.descriptor import Descriptor
from harness.core.errors import HistoryError, UsageError, unknown_name
from harness.core.options import Option

PROTOCOL: Final = 2
_listed: Final = 100  # unknown keys named in the results
_options: Final = (
    Option(
        name="model",
        default="cas-register",
        summary="what an object is and how it behaves",
        choices=tuple(MODELS),
    ),
    Option(name="time_s", default=60.0, summary="time limit of the check, in seconds", least=0.1, most=1e6),
    Option(
        name="key_time_s", default=20.0, summary="time limit for each key, in seconds", least=0.1, most=1e6
    ),
    Option(
        name="memory_mb", default=4096, summary="memory limit of the check, in MiB", least=32, most=1 << 20
    ),
)
LINEARIZABLE: Final = Descriptor(
    name="linearizable",
    summary="each object behaves as if every operation took effect at one moment while it ran",
    target="checkers.linearizable:Linearizable",
    options=_options,
)


class Linearizable:
    """The checker; see the options of `LINEARIZABLE`. A limit that is not given is the context's."""

    name = "linearizable"

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        """Raises: UsageError for an option that does not exist or a value out of range."""
        known = {o.name: o for o in _options}
        self.options: dict[str, Any] = {}
        for name, value in (options or {}).items():
            if name not in known:
                raise unknown_name("option", name, known)
            self.options[name] = known[name].parse(value)
        self.model: str = self.options.get("model", "cas-register")

    def check(self, ctx: CheckContext) -> Result:
        """Decide every key of `ctx.history_path`.

        Raises: HistoryError for a line that breaks the format or that the model cannot take;
        UsageError for a file that cannot be read; ArtifactError where there is no engine.
        """
        began = time.monotonic()
        time_s = float(self.options.get("time_s", ctx.time_s))
        key_time_s = float(self.options.get("key_time_s", min(20.0, time_s)))
        memory_mb = int(self.options.get("memory_mb", ctx.memory_mb))
        argv = [str(engine_path()), "linearizable", "--model", self.model]
        argv += ["--time-s", f"{time_s:g}", "--key-time-s", f"{key_time_s:g}", "--memory-mb", str(memory_mb)]
        argv += ["--", str(ctx.history_path)]
        answers = _Answers(ctx)
        try:
            ending = run_engine(argv, answers.take, time_s=time_s, memory_mb=memory_mb)
        except OSError as e:
            ending = Ending(cause="exit", status=-1, talk=f"{argv[0]} cannot be started: {e.strerror or e}")
        if answers.error is not None and ending.cause == "exit":
            _refuse(ctx.history_path, answers.error)
        limits = {
            "time": ("time_s", time_s),
            "key-time": ("key_time_s", key_time_s),
            "memory": ("memory_mb", memory_mb),
        }
        return answers.result(self.model, ending, limits, time.monotonic() - began)


def _refuse(path: Path, error: Mapping[str, Any]) -> None:
    problem = str(error["error"])
    if isinstance(error.get("line"), int):
        raise HistoryError(path, error["line"], problem)
    raise UsageError(f"cannot check {path}: {problem}")


class _Answers:
    """The engine's lines, taken in as they come; see the protocol in docs/engine.md."""

    def __init__(self, ctx: CheckContext) -> None:
        self.ctx = ctx
        self.version: str | None = None
        self.error: dict[str, Any] | None = None
        self.read: dict[str, Any] | None = None
        self.end: dict[str, Any] | None = None  # the line `done` or `stopped`
        self.keys: dict[bytes, dict[str, Any]] = {}  # by the key's JSON

    def take(self, line: Any) -> bool:
        """Whether the line is one that the protocol allows here."""
        if not isinstance(line, dict) or self.end is not None or self.error is not None:
            return False
        if isinstance(line.get("error"), str):
            self.error = line
            return True
        if self.version is None:
            self.version = line.get("version") if line.get("engine") == "splitbrain-engine" else None
            return isinstance(self.version, str) and line.get("protocol") == PROTOCOL
        if self.read is None and isinstance(line.get("read"), dict):
            self.read = line["read"]
            if not all(isinstance(self.read.get(n), int) for n in ("ops", "keys")):
                return False
            self.ctx.progress(0, self.read["keys"])
            return True
        if "done" in line or "stopped" in line:
            self.end = line
            return isinstance(line.get("done", {}), dict)
        return self.read is not None and "key" in line and self._key(line, self.read["keys"])

    def _key(self, line: dict[str, Any], of: int) -> bool:
        name = msgspec.json.encode(line["key"], order="deterministic")
        if name in self.keys or not _sound(line):
            return False
        self.keys[name] = line
        self.ctx.progress(len(self.keys), of)
        return True

    def result(
        self, model: str, ending: Ending, limits: Mapping[str, tuple[str, float]], seconds: float
    ) -> Result:
        lines = list(self.keys.values())
        total = self.read["keys"] if self.read is not None else None
        failing = sorted(  # what one sentence explains comes first, then in order of time
            (x for x in lines if x["verdict"] == "invalid"),
            key=lambda x: (x["kind"] == "no-order", _ended(x), x["culprit"]),
        )
        unknown = [x for x in lines if x["verdict"] == "unknown"]
        trouble = self._trouble(ending, limits)
        verdict: Verdict = worst(x["verdict"] for x in lines)
        if trouble or not self.read or not self.read["ops"]:
            verdict = worst((verdict, "unknown"))
        anomalies = [_anomaly(x) for x in failing]
        whole = [x for x in failing if "operations" in x]
        slowest = max(lines, key=lambda x: x["s"], default=None)
        if anomalies:
            more = len(anomalies) - 1
            reason = anomalies[0].explanation
            if more:
                reason += f" (and {more} more {'key' if more == 1 else 'keys'} in violation)"
        else:
            reason = self._reason(verdict, trouble, unknown, limits)
        return Result(
            verdict=verdict,
            reason=reason,
            seconds=seconds,
            engine="+".join(sorted({x["engine"] for x in lines}, reverse=True)) or None,
            anomalies=anomalies,
            detail={
                "model": model,
                "keys": total,
                "ops": self.read["ops"] if self.read is not None else None,
                "invalid_keys": len(failing),
                "unknown_keys": len(unknown) + (total - len(lines) if total is not None else 0),
                "unknown": [
                    {
                        "key": x["key"],
                        "ops": x["ops"],
                        "limit": x["limit"],
                        "raise": _raise(x["limit"], limits),
                    }
                    for x in unknown[:_listed]
                ],
                "trouble": trouble,
                "slowest_key": slowest and slowest["key"],
                "slowest_key_s": slowest["s"] if slowest else 0.0,
                "failing": {label(x["key"]): x["operations"] for x in whole},
                "failing_left_out": {label(x["key"]): x["left_out"] for x in whole if x.get("left_out")},
                "failing_more_keys": len(failing) - len(whole),
                "engine_version": self.version,
            },
        )

    def _trouble(self, ending: Ending, limits: Mapping[str, tuple[str, float]]) -> str | None:
        """What kept the engine from deciding everything, or None where it did all it was asked."""
        said = f": {ending.talk.splitlines()[-1][:200]}" if ending.talk else ""
        if ending.cause in limits:
            name, value = limits[ending.cause]
            more = _raise(ending.cause, limits)
            return f"the engine did not heed its limit ({name}={value:g}) and was ended; {more}"
        if ending.cause == "garbage":
            return "the engine printed what is not its protocol; nothing after that is believed"
        if self.end is not None and "stopped" in self.end:
            limit = str(self.end["stopped"])
            what = "while reading the history" if self.read is None else "with keys undecided"
            return f"the engine reached its {limit} limit {what}; {_raise(limit, limits)}"
        if ending.status < 0 and self.end is None:
            return f"the engine was killed (signal {-ending.status}) or never started{said}"
        if ending.status != 0 or self.end is None or self.read is None:
            return f"the engine ended with status {ending.status} before it was done{said}"
        if len(self.keys) != self.read["keys"]:
            return f"the engine spoke of {len(self.keys)} keys and had read {self.read['keys']}"
        return None

    def _reason(
        self,
        verdict: Verdict,
        trouble: str | None,
        unknown: list[dict[str, Any]],
        limits: Mapping[str, tuple[str, float]],
    ) -> str:
        if verdict == "valid" and self.read is not None:
            keys = self.read["keys"]
            return (
                f"every one of {keys} keys has an order that fits all answers"
                if keys != 1
                else f"the one key has an order that fits all {self.read['ops']} operations"
            )
        if trouble:
            return trouble
        if self.read is not None and not self.read["ops"]:
            return "the history holds no operation of a client, so there is nothing to decide"
        limit = unknown[0]["limit"]
        if limit == "mistake":
            return f"no verdict for {label(unknown[0]['key'])}: {_raise(limit, limits)}"
        name, value = limits.get(limit, (limit, 0.0))
        return (
            f"{len(unknown)} of {len(self.keys)} keys could not be decided, the first of them"
            f" ({label(unknown[0]['key'])}, {unknown[0]['ops']} operations) within {name}={value:g};"
            f" {_raise(limit, limits)}"
        )


def label(key: Any) -> str:
    """A key as a member's name: texts as they are, all else as JSON, never the same for two keys."""
    if isinstance(key, str):
        try:
            msgspec.json.decode(key)
        except msgspec.DecodeError:
            return key
    return msgspec.json.encode(key).decode()


def _raise(limit: str, limits: Mapping[str, tuple[str, float]]) -> str:
    if limit == "mistake":
        return "two engines disagree, so one of them is wrong: please report it with this history"
    if limit not in limits:
        return "no limit is known under this name"
    name, value = limits[limit]
    more = f"raise it with --opt linearizable.{name}={value * 2:.10g}"
    if limit == "key-time":
        whole = limits["time"][1]
        if value * 2 > whole:
            more += f" --opt linearizable.time_s={value * 4:.10g}"
    return more


def _sound(line: Mapping[str, Any]) -> bool:
    """Whether a key's line has everything that is made use of."""
    verdict = line.get("verdict")
    if not isinstance(line.get("ops"), int) or not isinstance(line.get("s"), int | float):
        return False
    if not isinstance(line.get("engine"), str) or verdict not in ("valid", "invalid", "unknown"):
        return False
    if verdict == "unknown":
        return isinstance(line.get("limit"), str)
    if verdict == "valid":
        return isinstance(line.get("verified"), bool)
    window, assumed = line.get("window"), line.get("assumed")
    operations = line.get("operations", [])
    if not all(isinstance(x, list) and all(map(_operation, x)) for x in (window, assumed, operations)):
        return False
    return (
        bool(window)
        and isinstance(line.get("kind"), str)
        and isinstance(line.get("culprit"), int)
        and isinstance(line.get("proven"), bool)
        and isinstance(line.get("confirmed"), bool)
        and isinstance(line.get("prefix"), int)
        and isinstance(line.get("shortest"), bool)
    )


_members: Final = frozenset(
    ("invoke", "complete", "process", "f", "value", "result", "node", "type", "start_ns", "end_ns")
)


def _operation(x: Any) -> bool:
    return isinstance(x, dict) and x.keys() >= _members and isinstance(x["start_ns"], int)


def _ended(line: Mapping[str, Any]) -> int:
    """When the operation that fits nowhere returned."""
    return max((o["end_ns"] or 0 for o in line["window"] if o["invoke"] == line["culprit"]), default=0)


def _anomaly(line: Mapping[str, Any]) -> Anomaly:
    window = line["window"]
    first = [o["node"] for o in window if o["invoke"] == line["culprit"]]
    nodes = dict.fromkeys(n for n in (*first, *(o["node"] for o in window)) if n is not None)
    return Anomaly(
        kind=line["kind"],
        key=line["key"],
        window=window,
        assumed=line["assumed"],
        explanation=explain(line),
        nodes=list(nodes),
    )
