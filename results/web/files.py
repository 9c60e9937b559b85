"""What of the disk may be seen: regular files below a folder, and nothing that a link leads to.

A path is walked from the folder's own descriptor, a component at a time, with O_NOFOLLOW: what lies below it cannot
be left, whatever is renamed or linked meanwhile. A node's data directory may hold links, devices and pipes that the
system under test made; none of them is opened.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import unquote_to_bytes

_MOST_PARTS: Final = 40
_most_files: Final = 1000  # of a listing
_deepest: Final = 6
_text: Final = frozenset(
    (
        ".json",
        ".jsonl",
        ".log",
        ".txt",
        ".toml",
        ".md",
        ".sh",
        ".html",
        ".edn",
        ".csv",
        ".xml",
        ".yml",
        ".conf",
    )
)
_head: Final = 65_536
_meta: Final = re.compile(rb"script-src ('sha256-[A-Za-z0-9+/=]{44}'(?: 'sha256-[A-Za-z0-9+/=]{44}')*)")


class Absent(Exception):
    """There is nothing of that name that may be seen."""


def parts_of(path: str) -> list[str]:
    """The components of the path of a request, decoded once.

    Raises: Absent for a path that names no file below anything: `..`, an encoded slash, NUL, an empty component.
    """
    raw = path.removeprefix("/").removesuffix("/")
    if not raw:
        return []
    parts = [os.fsdecode(unquote_to_bytes(part)) for part in raw.split("/")]
    if len(parts) > _MOST_PARTS or any(p in ("", ".", "..") or "/" in p or "\0" in p for p in parts):
        raise Absent
    return parts


def open_below(folder: Path, parts: Sequence[str]) -> tuple[int, os.stat_result]:
    """A descriptor of a regular file below `folder`, and what it is; the caller closes it.

    Raises: Absent where there is none, or a link stands anywhere on the way.
    """
    at = _walk(folder, parts[:-1])
    try:
        fd = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    except (OSError, IndexError, ValueError):
        raise Absent from None
    finally:
        os.close(at)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise Absent
    return fd, found


def is_file(folder: Path, parts: Sequence[str]) -> bool:
    """Whether this is a regular file below `folder` with no link on the way."""
    try:
        os.close(open_below(folder, parts)[0])
    except Absent:
        return False
    return True


def is_folder(folder: Path, parts: Sequence[str]) -> bool:
    """Whether this is a directory below `folder` with no link on the way."""
    try:
        os.close(_walk(folder, parts))
    except Absent:
        return False
    return True


def _walk(folder: Path, parts: Sequence[str]) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        at = os.open(folder, flags)
    except OSError:
        raise Absent from None
    for part in parts:
        if part in ("", ".", "..") or "/" in part:  # `parts_of` has refused them; here it must not matter
            os.close(at)
            raise Absent
        try:
            below = os.open(part, flags | os.O_NOFOLLOW, dir_fd=at)
        except (OSError, ValueError):
            raise Absent from None
        finally:
            os.close(at)
        at = below
    return at


def listing(folder: Path) -> Iterator[tuple[str, int]]:
    """(name below `folder`, bytes) of the regular files there, at most 1,000 of them; links are not followed."""
    left = _most_files
    waiting = [(folder, "", 0)]
    while waiting:
        path, before, depth = waiting.pop(0)
        try:
            entries = sorted(os.scandir(path), key=lambda e: e.name)
        except OSError as e:
            if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                continue
            raise
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    if depth < _deepest:
                        waiting.append((Path(entry.path), f"{before}{entry.name}/", depth + 1))
                elif entry.is_file(follow_symlinks=False):
                    yield f"{before}{entry.name}", entry.stat(follow_symlinks=False).st_size
                    left -= 1
            except OSError:
                continue  # gone meanwhile
            if not left:
                return


def content_type(name: str) -> str | None:
    """How a file is shown: text is text, whatever is in it. None: it is handed over to be saved."""
    suffix = Path(name).suffix.lower()
    return "text/plain; charset=utf-8" if suffix in _text else None


def report_policy(fd: int, *, asks: bool = False) -> str:
    """The policy for a page that a run or a campaign left, which is open at `fd`.

    The sandbox takes its origin away, so that it can neither read another page nor send the cookie's requests;
    of scripts it may run those that it names itself by hash, which no text that was put into it later can be.
    One that `asks` may send requests to this server, of which it can read what `beside` answers and nothing else.
    """
    match = _meta.search(os.pread(fd, _head, 0))
    scripts = match[1].decode("ascii") if match else "'none'"
    connect = " connect-src 'self';" if asks else ""
    return (
        f"sandbox allow-scripts; default-src 'none'; script-src {scripts}; style-src 'unsafe-inline';"
        f"{connect} img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )
