"""The engine's lines about a history, taken in as they come and turned into a result.

Nothing is believed that is not in the protocol (docs/engine.md): the first such line ends the engine, and
every key not decided before it is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from checkers.engine_process import Ending
from checkers.explain import explain
from checkers.models import Model
from checkers.steps import linearizations
from harness.core.checker import Anomaly, CheckContext, Result, Verdict, worst

PROTOCOL: Final = 2
_listed: Final = 100  # unknown keys named in the results


class Answers:
    """What the engine has said so far."""

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
        self, kind: Model, ending: Ending, limits: Mapping[str, tuple[str, float]], seconds: float
    ) -> Result:
        """What it all comes to, once the engine has ended."""
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
                "model": kind.name,
                "keys": total,
                "ops": self.read["ops"] if self.read is not None else None,
                "invalid_keys": len(failing),
                "unknown_keys": len(unknown) + (total - len(lines) if total is not None else 0),
                "unknown": [
                    {
                        "key": x["key"],
                        "ops": x["ops"],
                        "limit": x["limit"],
                        "reached": x.get("reached", 0),
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
                "linearizations": linearizations(whole, kind),
                "engine_version": self.version,
            },
        )

    def ordered(self) -> list[Any]:
        """The keys for which the engine has an order that its own verifier passed."""
        return [x["key"] for x in self.keys.values() if x["verdict"] == "valid" and x["verified"]]

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
        reached = unknown[0].get("reached", 0)
        far = f", an order was found for the first {reached} that completed" if reached else ""
        return (
            f"{len(unknown)} of {len(self.keys)} keys could not be decided, the first of them"
            f" ({label(unknown[0]['key'])}, {unknown[0]['ops']} operations{far}) within {name}={value:g};"
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
