"""What `members.jsonl` tells: what was asked of the system's members, answered, and seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import msgspec

FILE: Final = "members.jsonl"
_never: Final = 2**63 - 1


def lines(run_dir: Path | None) -> list[dict[str, Any]]:
    """The lines, in order; none where the run had nobody look after its members. A torn last one is left out."""
    path = run_dir / FILE if run_dir is not None else None
    if path is None or not path.exists():
        return []
    found = []
    for raw in path.read_bytes().splitlines():
        try:
            found.append(msgspec.json.decode(raw, type=dict))
        except msgspec.DecodeError:
            break
    return found


def removed(told: Iterable[dict[str, Any]]) -> Callable[[str, int, int], bool]:
    """Whether a node (name, time in ns, slack) had been told to leave and had not been launched anew."""
    spans: dict[str, list[list[int]]] = {}
    for line in told:
        mine = spans.setdefault(line.get("node", ""), [])
        if line["event"] == "asked" and line["do"] == "remove" and not (mine and mine[-1][1] == _never):
            mine.append([line["time"], _never])
        elif line["event"] == "launched" and mine:
            mine[-1][1] = min(mine[-1][1], line["time"])
    return lambda node, time, slack: any(a - slack <= time <= b + slack for a, b in spans.get(node, ()))
