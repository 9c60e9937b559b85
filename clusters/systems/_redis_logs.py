"""What the logs of Redis and of its Sentinel say; both are read by the same lines, none of which the other has.

Kinds: `election`: this node became the primary (there is no term, and two may be so at once). `leader-seen`: its
Sentinel learned of another primary, or it follows one. `leader-lost`, `start`, `stop`, `crash` and
`corruption` (an append-only file that cannot be read) are what they say. Messages were read in the
source of Redis 7.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from harness.core.system import LogEvent

_head: Final = re.compile(r"^\d+:[XCSM] \d+ \w+ \d+ [\d:.]+ [.\-*#] ")
_lines: Final = (
    ("election", re.compile(r"^MASTER MODE enabled")),
    ("leader-seen", re.compile(r"^\+switch-master ")),
    ("leader-seen", re.compile(r"^MASTER <-> REPLICA sync: Finished with success")),
    ("leader-lost", re.compile(r"^Connection with master lost")),
    ("leader-lost", re.compile(r"^\+odown master ")),
    ("start", re.compile(r"^(?:Server initialized|Sentinel ID is )")),
    ("stop", re.compile(r"^(?:Received SIG\w+ scheduling shutdown|User requested shutdown)")),
    ("crash", re.compile(r"^(?:=== REDIS BUG REPORT START|Redis \S+ crashed by signal|Guru Meditation)")),
    (
        "corruption",
        re.compile(r"^(?:Bad file format reading the append only file|Short read or OOM loading DB)"),
    ),
    ("corruption", re.compile(r"^Unexpected end of file reading the append only file")),
)


def events(node: str, log: Iterable[tuple[int, str]]) -> Iterator[LogEvent]:
    """The events of one log."""
    for time, line in log:
        said = _head.sub("", line).strip()
        for kind, pattern in _lines:
            if pattern.search(said):
                yield LogEvent(time=time, node=node, kind=kind, text=said[:200])
                break
