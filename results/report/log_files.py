"""Log files as the report shows them: whole where they are small, else the parts around what happened and the end.

The sampler noted, with the harness's own clock, how large each log was when (`monitor.jsonl`). What a
line's end is below had been written by then; a node's own time stamps lie under a skewed clock.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import msgspec

LINE_CHARS: Final = 600
FILES: Final = 40
_whole_bytes: Final = 64 * 1024  # of a file, shown
_near_bytes: Final = 6 * 1024  # on each side of a moment
_tail_bytes: Final = 16 * 1024
_file_bytes: Final = 2 * 1024 * 1024  # of all files together


class Chunk(msgspec.Struct, kw_only=True):
    """Lines that follow one another and had been written by `time` (ns; None: nobody noted it).

    `before`: bytes left out ahead of them.
    """

    time: int | None
    lines: list[str]
    before: int = 0


class Log(msgspec.Struct, kw_only=True):
    """A log file. `lines` counts those shown, `left_out` the bytes that are not."""

    name: str
    node: str
    size: int
    chunks: list[Chunk]
    lines: int = 0
    left_out: int = 0


def read_logs(
    top: Path, sizes: Mapping[str, Sequence[tuple[int, int]]], moments: Iterable[int], problems: list[str]
) -> list[Log]:
    """The logs below `top`; `moments` (ns) are the times about which lines are wanted, the dearest first."""
    files = sorted(p for p in top.glob("*/*") if p.is_file() and not p.is_symlink())
    files += sorted(p for p in top.glob("*") if p.is_file() and not p.is_symlink())
    if len(files) > FILES:
        problems.append(f"There are {len(files)} log files; the first {FILES} are shown.")
    files = files[:FILES]
    most = min(_whole_bytes, _file_bytes // max(len(files), 1))
    wanted = list(moments)
    out = []
    for path in files:
        name = path.relative_to(top).as_posix()
        noted = sorted(sizes.get(name, ()))
        out.append(_read(path, name, path.parent.name if path.parent != top else "", noted, wanted, most))
    return out


def _read(
    path: Path, name: str, node: str, noted: Sequence[tuple[int, int]], moments: Sequence[int], most: int
) -> Log:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        log = Log(name=name, node=node, size=size, chunks=[], left_out=size)
        shown = 0
        for start, end in _ranges(size, noted, moments, most):
            file.seek(start)
            data = file.read(end - start)
            at = start
            if start:  # not in the middle of a line
                cut = data.find(b"\n") + 1
                at, data = start + cut, data[cut:]
            if end < size:
                data = data[: data.rfind(b"\n") + 1]
            if data:
                _chunks(log, data, at, at - shown, noted)
                log.left_out -= len(data)
                shown = at + len(data)
    return log


def _ranges(
    size: int, noted: Sequence[tuple[int, int]], moments: Sequence[int], most: int
) -> list[tuple[int, int]]:
    """Stretches of a file, in order and apart from each other, of `most` bytes in sum or little more."""
    if size <= most:
        return [(0, size)] if size else []
    tail = min(_tail_bytes, most)
    ranges = [(size - tail, size)]
    left = most - tail
    times = [t for t, _ in noted]
    for moment in moments:
        place = bisect_right(times, moment) - 1
        if place < 0 or left < 2 * _near_bytes:
            continue
        at = noted[place][1]
        if any(a <= at <= b for a, b in ranges):
            continue
        ranges.append((max(at - _near_bytes, 0), min(at + _near_bytes, size)))
        left -= 2 * _near_bytes
    ranges.sort()
    apart = [ranges[0]]
    for start, end in ranges[1:]:
        if start <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(apart[-1][1], end))
        else:
            apart.append((start, end))
    return apart


def _chunks(log: Log, data: bytes, start: int, before: int, noted: Sequence[tuple[int, int]]) -> None:
    """Lines by the time at which the file was first seen to hold them."""
    ends = [size for _, size in noted]
    if any(a > b for a, b in pairwise(ends)):
        ends, noted = [], []  # it was cut or replaced meanwhile: its sizes tell no times
    at = start
    for raw in data.removesuffix(b"\n").split(b"\n"):
        at += len(raw) + 1
        place = bisect_left(ends, min(at, log.size))
        time = noted[place][0] if place < len(noted) else None
        if not log.chunks or before or log.chunks[-1].time != time:
            log.chunks.append(Chunk(time=time, lines=[], before=before))
            before = 0
        text = raw.decode("utf-8", "replace")
        cut = f"{text[:LINE_CHARS]}… ({len(raw):,} bytes)"
        log.chunks[-1].lines.append(text if len(text) <= LINE_CHARS else cut)
        log.lines += 1
