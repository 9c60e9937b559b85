"""A history as the report's columns: one row an operation, read as a stream and tolerantly.

The contract of `history.jsonl` is strict and its readers refuse whatever breaks it; a report is
written for broken runs above all, so here a line that cannot be read is counted and left out, and
a journal serves where there is no history. Only lines are parsed, values stay the bytes they were:
a million operations take seconds and some hundred megabytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.core.errors import SplitbrainError
from harness.core.history import open_text
from harness.core.op import NEMESIS

OK, FAIL, INFO = 1, 2, 3
_outcomes: Final = {"ok": OK, "fail": FAIL, "info": INFO}
VALUE_BYTES: Final = 120  # of a value, for hovering; failing keys are kept longer
_cut_bytes: Final = 100  # of one that is longer, before its length
FULL_BYTES: Final = 2000
FULL_OPS: Final = 20_000  # operations of failing keys that are kept whole
_other: Final = 65_535
_null: Final = b"null"
_latest: Final = 2**61


class FullOp(msgspec.Struct, kw_only=True):
    """One operation of a failing key, as text. Times in ns; `complete` None: never completed."""

    row: int
    process: int | str
    f: str
    node: str | None
    asked: str
    started: int
    invoke: int
    answered: str = ""
    ended: int | None = None
    complete: int | None = None
    outcome: int = INFO
    error: str | None = None
    ext: str = ""
    key: int = 0


class Operations(msgspec.Struct, kw_only=True):
    """Columns over operations in the order of their invocations.

    `start` and `duration` in ns (duration -1: no completion); `lane` a row of the timeline: a
    worker, whose processes follow one another. `asked` and `answered` are JSON as it stood, cut where
    it has more than `VALUE_BYTES`; `answered` is empty where it repeats what was asked.
    """

    source: str
    start: NDArray[np.int64]
    duration: NDArray[np.int64]
    index: NDArray[np.int64]
    outcome: NDArray[np.uint8]
    lane: NDArray[np.uint16]
    f: NDArray[np.uint16]
    key: NDArray[np.uint32]
    error: NDArray[np.uint16]
    asked: list[bytes]
    answered: list[bytes]
    f_names: list[str]
    keys: list[bytes]
    errors: list[str]
    lanes: list[str]  # the node of each lane, "" for none
    processes: list[tuple[str, int, int]]  # name, lane, its first operation's start
    full: list[FullOp]
    bad_lines: int = 0
    bad_first: str = ""

    def __len__(self) -> int:
        return len(self.start)


class _Event(msgspec.Struct, gc=False):
    time: int
    process: int | str
    type: str
    f: str = ""
    value: msgspec.Raw = msgspec.Raw(_null)
    key: msgspec.Raw = msgspec.Raw(_null)
    node: str | None = None
    error: str | None = None
    index: int = -1
    started: int = -1
    ext: msgspec.Raw = msgspec.Raw(b"")


class _Table:
    """Names to small codes; the last code stands for all that do not fit."""

    def __init__(self, limit: int) -> None:
        self.codes: dict[Any, int] = {}
        self.limit = limit

    def code(self, name: Any) -> int:
        found = self.codes.get(name)
        if found is None:
            if len(self.codes) >= self.limit:
                return self.codes.setdefault("(others)", self.limit)
            found = self.codes[name] = len(self.codes)
        return found


def read_operations(run_dir: Path, failing: Collection[Any]) -> Operations | None:
    """The operations of a run, from `history.jsonl` (or its compressed forms), else from
    `journal.jsonl`; None when it has neither. `failing` are keys whose operations are kept whole.
    """
    for name in ("history.jsonl", "history.jsonl.zst", "history.jsonl.gz", "journal.jsonl"):
        path = run_dir / name
        if path.is_file() and path.stat().st_size:
            return _read(path, failing)
    return None


def canonical(key: Any) -> bytes:
    """A key as bytes under which equal JSON is equal."""
    return msgspec.json.encode(key, order="deterministic")


def _lines(path: Path, problems: list[str]) -> Iterator[bytes]:
    try:
        with open_text(path) as lines:
            yield from lines
    except (SplitbrainError, OSError, EOFError, ValueError) as e:  # a torn .gz, an unreadable file
        problems.append(f"{path.name} cannot be read to its end: {e}")
    except Exception as e:  # noqa: BLE001 - zstandard raises an error class of its own
        problems.append(f"{path.name} cannot be read to its end: {e}")


def _read(path: Path, failing: Collection[Any]) -> Operations:
    wanted = {canonical(key) for key in failing}
    wanted_codes: set[int] = set()
    start, end, index = array("q"), array("q"), array("q")
    outcome, fs, keys, errors = bytearray(), array("H"), array("I"), array("H")
    processes = array("I")
    asked: list[bytes] = []
    answered: list[bytes] = []
    f_table, key_table, error_table = _Table(_other), _Table(2**32 - 1), _Table(_other)
    error_table.code("")
    process_table = _Table(2**32 - 1)
    nodes: list[str] = []  # of each process
    open_at: dict[int | str, int] = {}
    full: dict[int, FullOp] = {}
    bad, problems = 0, list[str]()
    decode = msgspec.json.Decoder(_Event).decode
    journal = path.name.startswith("journal")
    for number, line in enumerate(_lines(path, problems)):
        try:
            event = decode(line)
            if not (-1 <= event.time < _latest and -1 <= event.index < _latest and event.started < _latest):
                raise msgspec.ValidationError("a number beyond anything that a run can reach")
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            torn = journal and not line.endswith(b"\n")  # a killed controller's last word: tolerated
            if not (torn or (journal and _is_note(line))):
                bad += 1
                problems = problems or [f"line {number + 1} of {path.name}: {e}"]
            continue
        process = event.process
        if process == NEMESIS:
            continue
        raw = bytes(event.value)
        if event.type == "invoke":
            row = len(start)
            open_at[process] = row
            start.append(event.time)
            end.append(-1)
            index.append(event.index if event.index >= 0 else number)
            outcome.append(INFO)
            fs.append(f_table.code(event.f))
            raw_key = bytes(event.key)
            known = len(key_table.codes)
            key = key_table.code(raw_key)
            if key == known and wanted and _canonical_raw(raw_key) in wanted:
                wanted_codes.add(key)
            keys.append(key)
            errors.append(0)
            asked.append(b"" if raw == _null else _cut(raw))
            answered.append(b"")
            known = len(process_table.codes)
            code = process_table.code(process)
            if code == known:
                nodes.append(event.node or "")
            processes.append(code)
            if key in wanted_codes and len(full) < FULL_OPS:
                full[row] = FullOp(
                    row=row,
                    process=process,
                    f=event.f,
                    node=event.node,
                    asked=_shorten(raw),
                    started=event.time,
                    invoke=index[row],
                    key=key,
                )
            continue
        at = open_at.pop(process, None)
        code = _outcomes.get(event.type, 0)
        if at is None or not code:
            bad += 1
            problems = problems or [
                f"line {number + 1} of {path.name}: a completion without an invocation, or of unknown type"
            ]
            continue
        if event.started > start[at]:
            start[at] = event.started
        end[at] = max(event.time, start[at])
        outcome[at] = code
        if raw != _null and (shown := _cut(raw)) != asked[at]:
            answered[at] = shown
        elif raw == _null and code == OK and not asked[at]:
            answered[at] = _null  # a read that found nothing says so
        if event.error:
            errors[at] = error_table.code(event.error[:300])
        if at in full:
            op = full[at]
            op.started, op.ended, op.outcome = start[at], end[at], code
            op.complete = event.index if event.index >= 0 else number
            op.answered, op.error, op.ext = _shorten(raw), event.error, _shorten(bytes(event.ext))
    starts = np.array(start, dtype=np.int64)
    order = np.argsort(starts, kind="stable") if journal else None
    ends = np.array(end, dtype=np.int64)
    codes = np.array(processes, dtype=np.uint32)
    lane_of, lanes = _lanes(starts, ends, codes, nodes)
    names = list(process_table.codes)
    first = np.full(len(names), -1, dtype=np.int64)
    first[codes[::-1]] = starts[::-1]
    columns = {
        "start": starts,
        "duration": np.where(ends < 0, -1, ends - starts),
        "index": np.array(index, dtype=np.int64),
        "outcome": np.frombuffer(bytes(outcome), dtype=np.uint8),
        "lane": lane_of[codes] if len(codes) else np.zeros(0, dtype=np.uint16),
        "f": np.array(fs, dtype=np.uint16),
        "key": np.array(keys, dtype=np.uint32),
        "error": np.array(errors, dtype=np.uint16),
    }
    kept = list(full.values())
    if order is not None:
        columns = {name: column[order] for name, column in columns.items()}
        asked = [asked[i] for i in order.tolist()]
        answered = [answered[i] for i in order.tolist()]
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        for op in kept:
            op.row = int(place[op.row])
        kept.sort(key=lambda op: op.row)
    return Operations(
        source=path.name,
        asked=asked,
        answered=answered,
        f_names=[str(name) for name in f_table.codes],
        keys=list(key_table.codes),
        errors=list(error_table.codes),
        lanes=lanes,
        processes=[(str(n), int(lane_of[i]), int(first[i])) for i, n in enumerate(names)],
        full=kept,
        bad_lines=bad,
        bad_first=problems[0] if problems else "",
        **columns,
    )


def _is_note(line: bytes) -> bool:
    """Whether a journal's line is its header, a phase or its end."""
    return line.startswith((b'{"format"', b'{"phase"', b'{"end"'))


def _canonical_raw(raw: bytes) -> bytes:
    try:
        return canonical(msgspec.json.decode(raw))
    except msgspec.DecodeError:
        return raw


def _cut(raw: bytes) -> bytes:
    """A value as it stands, or its beginning and its length: less than 256 bytes."""
    if len(raw) <= VALUE_BYTES:
        return raw
    past = _cut_bytes
    while past > _cut_bytes - 4 and raw[past] & 0xC0 == 0x80:  # within a character
        past -= 1
    return raw[:past] + f"… ({len(raw):,} bytes)".encode()


def _shorten(raw: bytes) -> str:
    text = raw[:FULL_BYTES].decode("utf-8", "replace")
    return text if len(raw) <= FULL_BYTES else f"{text}… ({len(raw):,} bytes)"


def _lanes(
    start: NDArray[np.int64], end: NDArray[np.int64], codes: NDArray[np.uint32], nodes: list[str]
) -> tuple[NDArray[np.uint16], list[str]]:
    """A lane for each process: its worker's, as far as the history shows it.

    A process whose operation ended `info` is retired and its worker goes on under another name, on
    the same node; so a process takes a lane of its node that has come to its end.
    """
    count = len(nodes)
    first = np.full(count, np.iinfo(np.int64).max, dtype=np.int64)
    last = np.full(count, -1, dtype=np.int64)
    np.minimum.at(first, codes, start)
    np.maximum.at(last, codes, np.maximum(start, end))
    lane_node: list[str] = []
    lane_end: list[int] = []
    free: dict[str, list[int]] = {}
    taken = np.zeros(count, dtype=np.int64)
    for process in np.argsort(first, kind="stable").tolist():
        mine = free.setdefault(nodes[process], [])
        lane = next((n for n in mine if lane_end[n] <= first[process]), None)
        if lane is None:
            if len(lane_node) >= _other:
                lane = mine[0] if mine else 0
            else:
                lane = len(lane_node)
                lane_node.append(nodes[process])
                lane_end.append(0)
                mine.append(lane)
        lane_end[lane] = max(lane_end[lane], int(last[process]))
        taken[process] = lane
    order = sorted(range(len(lane_node)), key=lambda n: (_natural(lane_node[n]), n))
    place = np.zeros(max(len(order), 1), dtype=np.uint16)
    place[order] = np.arange(len(order), dtype=np.uint16)
    return place[taken], [lane_node[n] for n in order]


def _natural(name: str) -> tuple[str, int, str]:
    digits = name[len(name.rstrip("0123456789")) :]
    return name[: len(name) - len(digits)], int(digits or 0), name
