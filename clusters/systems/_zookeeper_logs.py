"""What ZooKeeper's log says: elections, starts, leaders lost, crashes, corrupt data.

Kinds as in `harness.core.system.LogEvent`. An epoch is a term, and a node leads it when a quorum supports it
in that: before, it only means to. Messages were read in the logs of 3.4.6 to 3.9.5.

What looks grave and is not: "Unexpected exception" is what leaders and followers say when a peer has gone. A
"Severe unrecoverable error" ends a thread and no process; where the trace below it tells of the connection to the
leader, it only means that the leader has gone (up to 3.9.2 as a null pointer, ZOOKEEPER-4409). "Digests are not
matching" is also said while a server catches up with a snapshot that a leader made while it went on (the tree is
right in the end, which `divergence` looks at).
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
    "A fatal error has been detected by the Java Runtime Environment",
    "There is insufficient memory for the Java Runtime",
    "Unable to load database on disk",
    "Exiting JVM with code [1-9]",
    r"^Exception in thread ",
    r"^Error: ",
)
_severe: Final = re.compile("Severe unrecoverable error, from thread")
_of_the_leader: Final = re.compile(
    r"java\.net\.|java\.io\.EOFException|Broken pipe|Connection reset|Socket closed|learner\.sock"
    r"|SendAckRequestProcessor|(?:Follower|Observer)RequestProcessor"
)
_TRACE: Final = 4  # lines below it that say what it is about
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
    severe: LogEvent | None = None  # one whose trace has not been read yet
    trace: list[str] = []
    for time, line in log:
        if severe is not None:
            if not _head.match(line) and len(trace) < _TRACE:
                trace.append(line.strip())
                continue
            yield from _judged(severe, trace)
            severe = None
        text = _head.sub(r"\1: ", line.rstrip(), count=1)[:200]  # without time and thread: class and message
        if match := _elected.match(text):
            yield LogEvent(time=time, node=node, kind="election", text=text, term=int(match[1], 16) >> 32)
            continue
        kind = next((kind for kind, pattern in _lines if pattern.match(text)), None)
        if kind is not None:
            yield LogEvent(time=time, node=node, kind=kind, text=text)
            continue
        if _severe.search(text):
            severe, trace = LogEvent(time=time, node=node, kind="crash", text=text), []
        elif _crash.search(text):
            yield LogEvent(time=time, node=node, kind="crash", text=text)
        if _corruption.search(text) and text not in told:
            told.add(text)
            yield LogEvent(time=time, node=node, kind="corruption", text=text)
    if severe is not None:
        yield from _judged(severe, trace)


def _judged(severe: LogEvent, trace: list[str]) -> Iterator[LogEvent]:
    """A severe error, unless it is one of the connection to the leader; and what its trace says of data."""
    if not any(_of_the_leader.search(line) for line in trace):
        yield severe
    for line in trace:
        if _corruption.search(line):
            yield LogEvent(time=severe.time, node=severe.node, kind="corruption", text=line[:200])
