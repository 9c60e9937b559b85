"""What etcd's log says: elections, starts and stops, crashes, corrupt data.

Kinds: `election`: this node became leader. `leader-seen`: it learned who is. `leader-lost`, `start`,
`stop`, `crash` are what they say. `corruption`: data was found to be corrupt, or to differ from other
members'; a line may tell of a crash and of its cause. `refused`: a new member ended before it had any data,
since the peer that it asked had not heard of it yet (`ValidateClusterAndAssignIDs`; it asks one peer, which may be
behind); whoever starts members starts it again. Messages were read in the sources of etcd
3.4 to 3.6, bbolt and raft.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final

from harness.core.system import LogEvent

Said = tuple[str, str, int | None]  # kind, text, term

# Raft's lines are sentences with member ids in them; the same in every version that is run here.
_lines: Final = (
    ("election", re.compile(r"\bbecame leader at term (\d+)")),
    ("leader-seen", re.compile(r"\belected leader \w+ at term (\d+)")),
    ("leader-seen", re.compile(r"\bchanged leader from \w+ to \w+ at term (\d+)")),
    ("leader-lost", re.compile(r"\blost leader \w+ at term (\d+)")),
    ("stop", re.compile(r"^received (?:\w+ )?signal[;,] shutting down")),
)
_go_crash: Final = re.compile(r"^(panic: |fatal error: |unexpected fault address)")
_corrupt: Final = (
    # Members that compare their hashes: at the start, now and then, after a compaction.
    "found data inconsistency with peers",
    "found different hash values from remote peer",
    "found hash mismatch",
    "same compact revision then hashes must match",
    "revision from follower must be less than or equal to leader's",
    "Detected compaction hash mismatch",
    "etcdserver: corrupt cluster",  # an alarm was raised, perhaps by another member
    # The store: the index names a revision that the database lacks, or one that is no key.
    "range failed to find revision pair",
    "range cannot find rev",
    "failed to unmarshal mvccpb.KeyValue",
    # bbolt's pages.
    "Page expected to be: .*, but self identifies as",
    "checksum error",
    "invalid database",
    # The log and its snapshots. A torn end of the log is none of these and is repaired.
    r"\b(?:wal|walpb|snap): crc mismatch",
    "wal: slice bounds out of range",
    "wal: snapshot mismatch",
    "snap file is corrupt",
    "Was the raft log corrupted, truncated, or lost",
)
_corruption: Final = re.compile("|".join(_corrupt))  # looked for in message and error alike
_refused: Final = re.compile(
    r"^discovery failed: error validating peerURLs .*: member count is unequal$", re.DOTALL
)
_levels: Final = frozenset({"panic", "fatal", "dpanic"})


def events(node: str, log: Iterable[tuple[int, str]]) -> Iterator[LogEvent]:
    """The events of one log; the same message about corruption counts once."""
    told: set[str] = set()
    for time, line in log:
        for kind, text, term in _said(line):
            if kind == "corruption":
                if text in told:  # an alarm repeats itself with every request
                    continue
                told.add(text)
            yield LogEvent(time=time, node=node, kind=kind, text=text, term=term)


def _said(line: str) -> Iterator[Said]:
    """What a line tells that is worth telling; nothing for what is no log line."""
    if not line.startswith("{"):
        if _go_crash.match(line):
            yield from _grave(line.strip(), crash=True)
        return
    try:
        entry = json.loads(line)
    except ValueError:  # torn by a kill
        return
    if not isinstance(entry, dict):
        return
    message = str(entry.get("msg", ""))
    because = f": {entry['error']}" if "error" in entry else ""
    yield from _grave(f"{message}{because}", crash=entry.get("level") in _levels)
    if entry.get("level") in _levels:
        return
    if message == "starting an etcd server":
        yield "start", f"starting etcd {entry.get('etcd-version', '')}".rstrip(), None
    for kind, pattern in _lines:
        if match := pattern.search(message):
            yield kind, message[:200], int(match[1]) if match.groups() else None
            return


def _grave(text: str, *, crash: bool) -> Iterator[Said]:
    if crash and _refused.match(text):
        yield "refused", "discovery failed: the peer that was asked has other members", None
    elif crash:
        yield "crash", text[:200], None
    if _corruption.search(text):
        yield "corruption", text[:200], None
