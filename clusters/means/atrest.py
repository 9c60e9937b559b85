"""Damage to a node's data while nothing runs on it: flipped bits, lost ends, old copies, nothing at all.

All of it works on a directory that is in sight, so whoever calls is in the node's mount namespace. Files are
read and copied by the parts that hold something (SEEK_DATA): logs are often preallocated by the dozen megabytes.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import shutil
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final

SNAPSHOT: Final = "/run/splitbrain/snapshot"
_chunk: Final = 1 << 20
_block: Final = 1 << 12


def sums(data: Path) -> dict[str, str]:
    """Each file's size and the beginning of its SHA-256, by its path below `data`."""
    found = {}
    for path in _files(data):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            for at, piece in _held(file.fileno()):
                for i in range(0, len(piece), _block):
                    block = piece[i : i + _block]
                    if block.strip(b"\0"):  # zeros that are written are as good as those that are not
                        digest.update((at + i).to_bytes(8, "big") + block)
            found[str(path.relative_to(data))] = (
                f"{os.fstat(file.fileno()).st_size}:{digest.hexdigest()[:16]}"
            )
    return found


def flip(data: Path, pattern: str, seed: int, count: int) -> dict[str, Any]:
    """Flip `count` bits of one file, where it holds something. Facts: the file, and the bits.

    Raises: OSError when no file that holds anything is called so.
    """
    rng = Random(seed)
    path, used = _chosen(data, pattern, rng)
    bits = sorted(rng.sample(range(used * 8), min(count, used * 8)))
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for bit in bits:
            byte = os.pread(fd, 1, bit // 8)[0]
            os.pwrite(fd, bytes([byte ^ 1 << bit % 8]), bit // 8)
        os.fsync(fd)
    finally:
        os.close(fd)
    return {"file": str(path.relative_to(data)), "used_bytes": used, "bits": bits}


def cut(data: Path, pattern: str, seed: int) -> dict[str, Any]:
    """Cut the end of one file off. Facts: the file, and what is left of it."""
    rng = Random(seed)
    path, used = _chosen(data, pattern, rng)
    left = rng.randrange(used)
    os.truncate(path, left)
    return {"file": str(path.relative_to(data)), "used_bytes": used, "left_bytes": left}


def wipe(data: Path) -> dict[str, Any]:
    """Remove everything."""
    there = list(_files(data))
    for path in data.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    return {"files": len(there)}


def snapshot(data: Path) -> dict[str, Any]:
    """Copy everything, in place of an earlier copy. Nothing may run meanwhile."""
    copy = Path(SNAPSHOT)
    shutil.rmtree(copy, ignore_errors=True)
    _copy(data, copy)
    return {"files": len(list(_files(copy)))}


def roll_back(data: Path) -> dict[str, Any]:
    """Have the copy in place of what is there, and no copy any more."""
    copy = Path(SNAPSHOT)
    if not copy.is_dir():
        raise OSError("there is no copy that could be restored")
    wipe(data)
    _copy(copy, data)
    shutil.rmtree(copy)
    return {"files": len(list(_files(data)))}


def pieces(folder: Path) -> Iterator[dict[str, Any]]:
    """All that is below `folder`, for `put` on another machine: at most `_chunk` bytes of a file each, as JSON.
    Of a file that holds nothing there is one piece, too."""
    for path in _files(folder):
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            about = {
                "path": str(path.relative_to(folder)),
                "mode": stat.st_mode & 0o7777,
                "size": stat.st_size,
            }
            yield {**about, "at": 0, "data": ""}
            for at, piece in _held(file.fileno()):
                if piece.strip(b"\0"):
                    yield {**about, "at": at, "data": b64encode(zlib.compress(piece, 1)).decode()}


def put(data: Path, some: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Write some of the pieces of `pieces`, with the folders that they need. Each is on the disk then."""
    for one in some:
        path = data / one["path"]
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(fd, one["mode"])
            if one["data"]:
                os.pwrite(fd, zlib.decompress(b64decode(one["data"])), one["at"])
            os.ftruncate(fd, one["size"])
            os.fsync(fd)
        finally:
            os.close(fd)
    return {"pieces": len(some)}


def named(data: Path, pattern: str) -> list[str]:
    """The paths of the files that match, by their path below `data`."""
    return [str(path) for path in _files(data) if fnmatch.fnmatch(str(path.relative_to(data)), pattern)]


def _files(data: Path) -> Iterator[Path]:
    yield from (path for path in sorted(data.rglob("*")) if path.is_file() and not path.is_symlink())


def _chosen(data: Path, pattern: str, rng: Random) -> tuple[Path, int]:
    """A file that matches, and up to where it holds something other than zeros."""
    found = [
        (path, used)
        for path in _files(data)
        if fnmatch.fnmatch(str(path.relative_to(data)), pattern) and (used := _used(path))
    ]
    if not found:
        raise OSError(f"no file that holds anything is called {pattern!r} below {data}")
    return rng.choice(found)


def _used(path: Path) -> int:
    last = 0
    with path.open("rb") as file:
        for begin, end in _parts(file.fileno()):
            for at in range(begin, end, _chunk):
                piece = os.pread(file.fileno(), min(_chunk, end - at), at).rstrip(b"\0")
                last = at + len(piece) if piece else last
    return last


def _parts(fd: int) -> Iterator[tuple[int, int]]:
    """Where an open file holds data, as (begin, end)."""
    at = 0
    while True:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:  # nothing follows
                return
            raise
        begin, at = at, os.lseek(fd, at, os.SEEK_HOLE)
        yield begin, at


def _held(fd: int) -> Iterator[tuple[int, bytes]]:
    """What an open file holds, and where: in order, in pieces that begin at a multiple of `_block`."""
    done = 0
    for begin, end in _parts(fd):
        for at in range(max(done, begin - begin % _block), end, _chunk):
            yield at, os.pread(fd, min(_chunk, end - at), at)
        done = max(done, end + -end % _block)


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        there = target / path.name
        if path.is_symlink():
            there.symlink_to(path.readlink())
        elif path.is_dir():
            _copy(path, there)
        elif path.is_file():
            with path.open("rb") as old, there.open("wb") as new:
                for begin, end in _parts(old.fileno()):
                    for at in range(begin, end, _chunk):
                        os.pwrite(new.fileno(), os.pread(old.fileno(), min(_chunk, end - at), at), at)
                new.truncate(os.fstat(old.fileno()).st_size)
        else:
            continue  # a socket or a pipe is nobody's data
        stat = path.lstat()
        os.chown(there, stat.st_uid, stat.st_gid, follow_symlinks=False)
        if not path.is_symlink():
            there.chmod(stat.st_mode & 0o7777)
