"""System calls that faults of disks tamper with: which, and of which files; shared by their families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from harness.core.errors import UsageError
from harness.core.options import Option

CALLS: Final[Mapping[str, tuple[str, ...]]] = {
    "sync": ("fsync", "fdatasync"),
    "write": ("write", "pwrite64", "writev", "pwritev"),
    "rename": ("rename", "renameat", "renameat2"),
}
FILES: Final = Option(
    name="files",
    default=None,
    summary="only calls on these files of the node's data, by their path below it: a pattern (default: any)",
)


def at(*kinds: str) -> Option:
    """The option that names the calls."""
    return Option(name="at", default=kinds[0], choices=kinds, summary="at which calls")


def asked(options: Mapping[str, Any], *, data: bool = False) -> tuple[Sequence[str], str | None, str]:
    """The calls that the options name, the pattern of their files, and both in words. A program writes to sockets,
    too: of writes, unless files are named, `data` takes those to the node's data.

    >>> asked({"at": "write", "files": "member/wal/*"})[1:]
    ('member/wal/*', 'write to member/wal/*')

    Raises: UsageError for a rename by path, since a name that is not there yet cannot be watched.
    """
    kind, files = options.get("at", "sync"), options.get("files")
    if data and kind == "write" and files is None:
        files = "*"
    if kind == "rename" and files is not None:
        raise UsageError(f"option files={files}: files are told apart for sync and write only; leave it out")
    whose = {"sync": "of", "write": "to"}
    words = kind if files is None else f"{kind} {whose[kind]} {'its data' if files == '*' else files}"
    return list(CALLS[kind]), files, words
