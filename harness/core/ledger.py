"""The undo ledger and the record of evidence: `faults.jsonl`, one JSON object a line.

    {"format":1,"run":ID}
    {"event":"resource","kind":"cgroup","name":"..."}           about to be made, and does not end with the run
    {"event":"released","kind":"cgroup","name":"..."}           it is gone, seen by whoever made it or by `heal`
    {"event":"plan","time":T,"fault":"f1","family":...,"target":...,"nodes":[...],"says":...,
     "args":{...},"undo":[{"do":...,"args":{...}}],"label":...,"glyph":...,"colour":...}
    {"event":"evidence","time":T,"fault":"f1","phase":"before|during|after","effect":...,"says":...,"facts":{...}}
    {"event":"applied","time":T,"fault":"f1"}
    {"event":"failed","time":T,"fault":"f1","error":"..."}      apply raised; it is undone all the same
    {"event":"undone","time":T,"fault":"f1"}
    {"event":"skipped","time":T,"step":3,"family":...,"target":...,"says":...}    never planned, and why
    {"event":"triggered","time":T,"group":2,"says":...}         what steps of a script waited for came true
    {"event":"healed","fault":"f1"}                             by `splitbrain heal`, when the run was dead

Times are ns since the run's start. A plan is flushed to disk before its fault is applied, a resource
before it is made. Whatever has a `plan` and neither `undone` nor `healed` is still to be undone;
primitives are idempotent, so undoing twice is harmless. A torn last line is a crash in mid-write:
what it announced had not been done yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from harness.core.errors import UsageError
from harness.core.fault import Evidence, Plan, Undo
from harness.core.lines import LineFile

FORMAT = 1
_encoder = msgspec.json.Encoder()


class Ledger:
    """Appends to `faults.jsonl`, also to one that a dead run left; used by several threads."""

    def __init__(self, path: Path, run: str) -> None:
        self.path = path
        self._file = LineFile(path)
        if self._file.empty:
            self.append({"format": FORMAT, "run": run})

    def append(self, line: dict[str, Any], *, durable: bool = False) -> None:
        """Write one line whole; `durable` waits until it is on disk.

        Raises: InfrastructureError when it cannot be written.
        """
        self._file.append(_encoder.encode(line) + b"\n")
        if durable:
            self._file.sync()

    def resource(self, kind: str, name: str) -> None:
        """Announce something that will not end with the run by itself. On disk when this returns."""
        self.append({"event": "resource", "kind": kind, "name": name}, durable=True)

    def released(self, kind: str, name: str) -> None:
        """Say that it is gone."""
        self.append({"event": "released", "kind": kind, "name": name})

    def plan(self, time: int, plan: Plan, label: str, glyph: str, colour: str) -> None:
        """Announce a fault. On disk when this returns."""
        body = msgspec.to_builtins(plan)
        style = {"label": label, "glyph": glyph, "colour": colour}
        self.append({"event": "plan", "time": time, **body, **style}, durable=True)

    def evidence(self, time: int, fault: str, evidence: Evidence) -> None:
        body = msgspec.to_builtins(evidence)
        self.append({"event": "evidence", "time": time, "fault": fault, **body})

    def note(self, event: str, time: int, fault: str, **more: Any) -> None:
        """`applied`, `failed` or `undone`."""
        self.append({"event": event, "time": time, "fault": fault, **more})

    def close(self) -> None:
        self._file.close()


class FaultRecord(msgspec.Struct, kw_only=True):
    """All that the ledger says about one fault. Times in ns since the run's start, or None."""

    fault: str
    family: str
    target: str
    nodes: list[str]
    says: str
    label: str
    glyph: str
    colour: str
    planned: int
    undo: list[Undo]
    down: list[str] | None = None
    applied: int | None = None
    undone: int | None = None
    healed: bool = False
    error: str | None = None
    evidence: list[dict[str, Any]] = []

    @property
    def outstanding(self) -> bool:
        """Whether it is still to be undone, for all the ledger knows."""
        return self.undone is None and not self.healed

    @property
    def out(self) -> frozenset[str]:
        """The nodes that the system had to do without while it was in force."""
        return frozenset(self.nodes if self.down is None else self.down)

    @property
    def effective(self) -> bool:
        """Whether the measurement during the fault showed it."""
        return any(e["phase"] == "during" and e["effect"] is True for e in self.evidence)

    @property
    def anew(self) -> int | None:
        """When the nodes began to be another cluster, whose terms say nothing of those before, if they did: the fact
        `anew` of its evidence."""
        found = [e["facts"]["anew"] for e in self.evidence if e.get("facts", {}).get("anew") is not None]
        return found[-1] if found else None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ledger; a torn last one is left out.

    Raises: UsageError for any other line that is not a JSON object.
    """
    data = path.read_bytes() if path.exists() else b""
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line:
            continue
        try:
            value = msgspec.json.decode(line, type=dict)
        except msgspec.DecodeError as e:
            if number == len(lines):  # no newline after it
                return
            raise UsageError(f"{path}, line {number}: {e}") from None
        yield value


def read_resources(path: Path) -> list[tuple[str, str]]:
    """(kind, name) of all that the run announced and nobody saw gone, once each, in order."""
    found: dict[tuple[str, str], None] = {}
    for line in read_lines(path):
        if line.get("event") == "resource":
            found[line["kind"], line["name"]] = None
        elif line.get("event") == "released":
            found.pop((line["kind"], line["name"]), None)
    return list(found)


def read_faults(path: Path) -> list[FaultRecord]:
    """The faults of a ledger in the order they were planned."""
    faults: dict[str, FaultRecord] = {}
    for line in read_lines(path):
        match line.get("event"):
            case "plan":
                record = msgspec.convert({**line, "planned": line["time"]}, FaultRecord)
                faults[record.fault] = record
            case "evidence":
                faults[line["fault"]].evidence.append(
                    {k: v for k, v in line.items() if k not in ("event", "fault")}
                )
            case "applied":
                faults[line["fault"]].applied = line["time"]
            case "undone":
                faults[line["fault"]].undone = line["time"]
            case "healed":
                faults[line["fault"]].healed = True
            case "failed":
                faults[line["fault"]].error = line["error"]
    return list(faults.values())
