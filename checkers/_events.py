"""What a run's logs say (`events.jsonl`), and whether there were logs to say anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from harness.core.errors import UsageError
from harness.core.system import LogEvent

_decoder: msgspec.json.Decoder[LogEvent] = msgspec.json.Decoder(LogEvent)


def events(run_dir: Path | None) -> list[LogEvent]:
    """All events in order of time; none where the run left no such file.

    Raises: UsageError for a line that is none.
    """
    path = None if run_dir is None else run_dir / "events.jsonl"
    if path is None or not path.exists():
        return []
    out = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            out.append(_decoder.decode(line))
        except msgspec.DecodeError as e:
            raise UsageError(
                f"{path}, line {number}: {e}; expected an object with time, node, kind and text;"
                " collect the logs again, or remove the line"
            ) from None
    return sorted(out, key=lambda e: e.time)


def has_logs(run_dir: Path | None) -> bool:
    """Whether the nodes left logs that are not empty."""
    folder = None if run_dir is None else run_dir / "logs"
    return (
        folder is not None and folder.is_dir() and any(p.stat().st_size > 0 for p in folder.glob("*/*.log"))
    )


def told_terms(run_dir: Path | None) -> bool:
    """Whether any node's status had a term: whether this is a system that elects leaders."""
    path = None if run_dir is None else run_dir / "monitor.jsonl"
    if path is None or not path.exists():
        return False
    with path.open("rb") as lines:
        return any(_term(line) for line in lines)


def _term(line: bytes) -> bool:
    if b'"term":' not in line:
        return False
    try:
        said: Any = msgspec.json.decode(line)
    except msgspec.DecodeError:  # the sampler was killed in mid-line
        return False
    return isinstance(said, dict) and isinstance(said.get("term"), int)


def seconds(ns: int) -> str:
    """A moment of the run, as a sentence has it."""
    return f"{ns / 1e9:.2f} s"
