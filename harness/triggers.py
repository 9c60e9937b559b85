"""Whether what a step waits for has come true, by the files of a run that grow.

    {"leader": "n1" or "any"}             a node becomes leader: it leads, and did not when the load began
    {"log": REGEX, "node": "n1" or "any"}  a line of a node's log matches that was written under load
    {"ops": N}                            so many operations have been invoked under load

Read are `monitor.jsonl`, `logs/` and `journal.jsonl`, from where they stood when the load began; nothing
asks the nodes. A leader is seen as soon as the sampler sees it, about 0.2 s after it knows of it itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

_MOST_BYTES: Final = 1 << 22  # that are read of one file at a time


class Trigger:
    """One condition, watched from the moment on at which it was made."""

    def __init__(self, when: Mapping[str, Any], run_dir: Path) -> None:
        self._when = when
        self._logs = run_dir / "logs"
        self._node = str(when.get("node", "any"))
        self._files: dict[Path, _Growth] = {}
        self._monitor = _Growth(run_dir / "monitor.jsonl", 0 if "leader" in when else None)
        self._journal = _Growth(run_dir / "journal.jsonl")
        self._pattern = re.compile(str(when.get("log", "")).encode())
        self._leaders = _Leaders()
        self._left = int(when.get("ops", 0))
        if "leader" in when:
            self._leaders.take(self._monitor.lines())  # those of before
        if "log" in when:
            for path in self._paths():
                self._files[path] = _Growth(path)

    def look(self) -> str | None:
        """What came true, as a sentence, or None as long as nothing has."""
        if "leader" in self._when:
            return self._leader(str(self._when["leader"]))
        if "log" in self._when:
            return self._line()
        self._left -= sum(line.count(b'"type":"invoke"') for line in self._journal.lines())
        return f"{self._when['ops']} operations have begun" if self._left <= 0 else None

    def _leader(self, wanted: str) -> str | None:
        for node in self._leaders.take(self._monitor.lines()):
            if wanted in ("any", node):
                return f"{node} has become leader"
        return None

    def _line(self) -> str | None:
        for path in self._paths():
            for line in self._files.setdefault(path, _Growth(path, 0)).lines():
                if self._pattern.search(line):
                    return f"{path.parent.name} logged: {line.decode(errors='replace')[:120]}"
        return None

    def _paths(self) -> list[Path]:
        node = "*" if self._node == "any" else self._node
        return sorted(self._logs.glob(f"{node}/*.log"))


class _Leaders:
    """Who leads, by the sampler's lines."""

    def __init__(self) -> None:
        self._terms: dict[str, int | None] = {}  # of those that led when last heard of

    def take(self, lines: Iterator[bytes]) -> list[str]:
        """The nodes that have become leader by these lines."""
        found = []
        for raw in lines:
            try:
                line = msgspec.json.decode(raw)
            except msgspec.DecodeError:
                continue
            node = line.get("node")
            if node is None or not line.get("ok"):
                continue
            if line.get("role") != "leader":
                self._terms.pop(node, None)
            elif node not in self._terms or self._terms[node] != line.get("term"):
                self._terms[node] = line.get("term")
                found.append(node)
        return found


class _Growth:
    """The whole lines that a file gets from `start` on; None is its end now."""

    def __init__(self, path: Path, start: int | None = None) -> None:
        self._path = path
        self._at = start if start is not None else (path.stat().st_size if path.exists() else 0)
        self._rest = b""

    def lines(self) -> Iterator[bytes]:
        """Those that have come since the last time."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                data = file.read(_MOST_BYTES)
        except FileNotFoundError:
            return
        self._at += len(data)
        *whole, self._rest = (self._rest + data).split(b"\n")
        yield from whole
