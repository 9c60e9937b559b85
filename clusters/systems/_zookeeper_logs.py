"""What ZooKeeper's log says: elections, starts, leaders lost, crashes, corrupt data.

Kinds as in `harness.core.system.LogEvent`. An epoch is a term, and a node became its leader when a quorum
supports it in that: before, it only means to lead. That line tells the epoch in every version from 3.4 on.
"Unexpected exception" alone is no crash: so every leader and follower logs that its peer has gone.
Messages were read in the logs and sources of 3.4.6 to 3.9.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from harness.core.system import LogEvent

_elected: Final = re.compile(
    r"Have quorum of supporters, sids: .*starting up and setting last processed zxid: 0x([0-9a-f]+)"
)
_lines: Final = (
    ("leader-seen", re.compile(r"Learner.* - Getting a (?:diff|snapshot) from (?:the )?leader|Getting a snapshot")),
    ("leader-lost", re.compile(r"(?:Follower|Learner|Leader|QuorumPeer)\w*\W.*(?:Shutting down|shutdown Follower|Shutdown called)")),
    ("start", re.compile(r"QuorumPeerMain - Starting quorum peer|ZooKeeperServerMain - Starting server")),
)
_crashes: Final = (
    "OutOfMemoryError",
    r"\bFATAL\b",
    "Unexpected exception, exiting abnormally",
    "Severe unrecoverable error",
    "A fatal error has been detected by the Java Runtime Environment",
    "Unable to load database on disk",
    "Exiting JVM with code [1-9]",
    "^Exception in thread ",
    "^Error: ",
    "^# There is insufficient memory for the Java Runtime",
)
_corrupt: Final = (
    "CRC check failed",
    "CRC corruption",
    "Digests are not matching",
    "Unreasonable length",
    "Transaction log.* has invalid magic number",
    "data inconsistency",
    "[Cc]orrupt(?:ed|ion)",
)
_crash: Final = re.compile("|".join(_crashes))
_corruption: Final = re.compile("|".join(_corrupt))


def events(node: str, log: Iterable[tuple[int, str]]) -> Iterator[LogEvent]:
    """The events of one log; the same message about corruption counts once."""
    told: set[str] = set()
    for time, line in log:
        text = line.strip()[:300]
        if match := _elected.search(line):
            yield LogEvent(time=time, node=node, kind="election", text=text, term=int(match[1], 16) >> 32)
            continue
        for kind, pattern in _lines:
            if pattern.search(line):
                yield LogEvent(time=time, node=node, kind=kind, text=text)
                break
        if _crash.search(line):
            yield LogEvent(time=time, node=node, kind="crash", text=text)
        if _corruption.search(line) and text not in told:
            told.add(text)
            yield LogEvent(time=time, node=node, kind="corruption", text=text)
