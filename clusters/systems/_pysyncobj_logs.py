"""What a PySyncObj node's log says: our server's own lines, and the library's complaints.

Kinds: `election` (this node became leader), `leader-seen`, `leader-lost`, `start`, `stop` and `crash`.

Since 0.3.16 the library says, as critical, that a node cut applied entries off its log and may have diverged. It says
so of every message that overlaps with one before, whose entries it cuts off and appends again, dozens of times a
second under load with nothing wrong. So that line counts as nothing; what nodes hold is compared at the end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from harness.core.system import LogEvent

_lines: Final = (
    ("election", re.compile(r"^became leader at term (\d+)")),
    ("leader-seen", re.compile(r"^leader is \S+ at term (\d+)")),
    ("leader-lost", re.compile(r"^lost the leader at term (\d+)")),
    ("start", re.compile(r"^starting PySyncObj ")),
    ("stop", re.compile(r"^stopping$")),
    ("crash", re.compile(r"^fatal: ")),
    ("crash", re.compile(r"^ERROR pysyncobj\S* failed (?:_onTick|to load full dump)")),
    ("crash", re.compile(r"^Fatal Python error")),
)


def events(node: str, log: Iterable[tuple[int, str]]) -> Iterator[LogEvent]:
    """The events of one log."""
    for time, line in log:
        for kind, pattern in _lines:
            if match := pattern.search(line):
                term = int(match[1]) if match.groups() else None
                yield LogEvent(time=time, node=node, kind=kind, text=line.strip()[:200], term=term)
                break
