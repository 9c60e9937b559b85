"""What the log of a NATS server says: elections, starts and stops, crashes, corrupt data.

Kinds: `election` (this node leads a stream, or the cluster's own group), `leader-seen`, `leader-lost`, `start`,
`stop`, `crash`, `corruption`; and `repair`, where a node throws away what it could not use and fetches it anew,
as it does with what a kill left half written. The log tells no terms. Messages were read in the server's
source (2.9 to 2.15).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from harness.core.system import LogEvent

_line: Final = re.compile(r"^\[\d+\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d+ \[(\w{3})\] (.*)$")
_crash: Final = re.compile(r"^(panic: |fatal error: |unexpected fault address|SIGSEGV)")
_kinds: Final = (
    ("start", re.compile(r"^Starting nats-server")),
    ("stop", re.compile(r"^(Initiating Shutdown|Server Exiting|Trapped )")),
    ("election", re.compile(r"^JetStream cluster new stream leader for ")),
    ("election", re.compile(r"^Self is new JetStream cluster metadata leader")),
    ("leader-seen", re.compile(r"^JetStream cluster new (?:remote )?metadata leader")),
    ("leader-lost", re.compile(r"^JetStream cluster no metadata leader")),
    ("leader-lost", re.compile(r"^JetStream cluster stream .* has NO quorum, stalled")),
    (
        "corruption",
        re.compile(
            r"Snapshot corrupt|corrupt entry|Stream assignment corrupt|corrupt subject detected"
            r"|indexCacheBuf corrupt|snapshot check detected \d+ bad messages"
        ),
    ),
    (
        "repair",
        re.compile(
            r"Corrupt WAL|Commit file corrupt|Stream state checksum|Resetting WAL state"
            r"|Resetting stream cluster state|Detected bad stream state|Detected orphaned stream"
        ),
    ),
)


def events(node: str, log: Iterable[tuple[int, str]]) -> Iterator[LogEvent]:
    """The events of one log; the same message about corruption or repair counts once."""
    told: set[str] = set()
    for time, line in log:
        found = _said(line)
        if found is None:
            continue
        kind, text = found
        if kind in ("corruption", "repair"):
            if text in told:
                continue
            told.add(text)
        yield LogEvent(time=time, node=node, kind=kind, text=text[:200])


def _said(line: str) -> tuple[str, str] | None:
    """Kind and text of a line that is worth telling."""
    match = _line.match(line)
    if match is None:
        return ("crash", line.strip()) if _crash.match(line) else None
    level, text = match[1], match[2]
    if level == "FTL":
        return "crash", text
    return next(((kind, text) for kind, pattern in _kinds if pattern.search(text)), None)
