"""What ZooKeeper's log says: elections, starts, leaders lost, crashes, corrupt data.

Kinds as in `harness.core.system.LogEvent`. An epoch is a term, and a node leads it when a quorum supports it
in that: before, it only means to. Messages were read in the logs of 3.4.6 to 3.9.5.

What looks grave and is not: "Unexpected exception" is what leaders and followers say when a peer has gone; a
"Severe unrecoverable error" of the thread that hands requests on to the leader only means that the leader has, and
ends no process; "Digests are not matching" is also said while a server catches up with a snapshot that a
leader made while it went on (the tree is right in the end, which `divergence` looks at).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from harness.core.system import LogEvent

_head: Final = re.compile(r"^.*?\] (?:TRACE|DEBUG|INFO|WARN|ERROR) \S*?(\w+) - ")
_elected: Final = re.compile(
    r"^Leader: Have quorum of supporters, sids: .*setting last processed zxid: 0x([0-9a-f]+)"
)
_lines: Final = (
    ("leader-seen", re.compile(r"^Learner: Getting a (?:diff|snapshot)\b")),
    ("leader-seen", re.compile(r"^Learner: Truncating log to get in sync with the leader")),
    ("leader-lost", re.compile(r"^(?:Learner|Follower): shutdown (?:Follower|called)")),
    ("leader-lost", re.compile(r"^Leader: Shutdown called")),
    ("start", re.compile(r"^QuorumPeerMain: Starting quorum peer")),
    ("start", re.compile(r"^ZooKeeperServerMain: Starting server")),
)
_crashes: Final = (
    "OutOfMemoryError",
    "FATAL",
    "Unexpected exception, exiting abnormally",
    r"Severe unrecoverable error, from thread ?:(?! ?\w*RequestProcessor:\d+$)",
    "A fatal error has been detected by the Java Runtime Environment",
    "There is insufficient memory for the Java Runtime",
    "Unable to load database on disk",
    "Exiting JVM with code [1-9]",
    r"^Exception in thread ",
    r"^Error: ",
)
_corrupt: Final = (
    "CRC check failed",
    "CRC corruption",
    "Unreasonable length",
    "Invalid magic number",
    "No snapshot found, but there are log entries",
    r"[Cc]orrupt(?:ed|ion)\b",
)
_crash: Final = re.compile("|".join(_crashes))
_corruption: Final = re.compile("|".join(_corrupt))


def events(node: str, log: Iterable[tuple[int, str]]) -> Iterator[LogEvent]:
    """The events of one log; the same message about corruption counts once."""
    told: set[str] = set()
    for time, line in log:
        text = _head.sub(r"\1: ", line.rstrip(), count=1)[:200]  # without time and thread: class and message
        if match := _elected.match(text):
            yield LogEvent(time=time, node=node, kind="election", text=text, term=int(match[1], 16) >> 32)
            continue
        kind = next((kind for kind, pattern in _lines if pattern.match(text)), None)
        if kind is not None:
            yield LogEvent(time=time, node=node, kind=kind, text=text)
            continue
        if _crash.search(text):
            yield LogEvent(time=time, node=node, kind="crash", text=text)
        if _corruption.search(text) and text not in told:
            told.add(text)
            yield LogEvent(time=time, node=node, kind="corruption", text=text)
