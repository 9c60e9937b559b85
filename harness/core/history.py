"""A history: the events of a run in the order of real time, as columns and as pairs.

The format on disk (`history.jsonl`, also `.gz` and `.zst`) is a contract: one event a line with the
fields of `harness.core.op.Op`; `index`, `time`, `process`, `type`, `f` and `value` are required,
unknown fields are ignored. *Line order is the order of real time* and `time` never decreases along
it; where two processes tie, invocations stand first (closed intervals). An invocation without a
completion is as good as `info`. A reader trusts the lines and refuses everything else by number:
nothing is guessed.
"""

from __future__ import annotations

import gzip
import io
import mmap
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, TypeVar, cast, overload

import msgspec
import numpy as np
from numpy.typing import NDArray

from harness.core.errors import HistoryError, UsageError
from harness.core.op import NEMESIS, Op, type_names

INVOKE, OK, FAIL, INFO = range(4)
_type_code: Final = {name: code for code, name in enumerate(type_names)}
_required: Final = ("index", "time", "process", "type", "f", "value")
_decoder: Final = msgspec.json.Decoder(Op)
_batch: Final = 8192  # lines decoded at once
Row = TypeVar("Row", bound=msgspec.Struct)


class History:
    """Events in order, with NumPy columns over them; the events themselves are decoded when asked for.

    `time` int64 ns, `type` uint8 (INVOKE, OK, FAIL, INFO), `f` and `node` uint16 codes into
    `f_names` and `node_names`, `client` bool (not the nemesis), `final` bool (a final read), `pair`
    int32: the position of an invocation's completion and the reverse, -1 for none. 22 bytes an event.
    """

    def __init__(
        self, events: Iterable[Op], *, source: object = "history", ops: Sequence[Op] | None = None
    ) -> None:
        """Take the columns from `events`; `ops` finds them again by position (None: they are kept).

        Raises: HistoryError at the first event that breaks the format; lines count from 1.
        """
        kept: list[Op] = []
        self.source = source
        self.ops: Sequence[Op] = kept if ops is None else ops
        times, types, pairs = array("q"), bytearray(), array("i")
        fs, nodes, clients, finals = array("H"), array("H"), bytearray(), bytearray()
        f_code: dict[str, int] = {}
        node_code: dict[str | None, int] = {}
        open_at: dict[int | str, int] = {}
        last = -(2**63)

        def refuse(problem: str) -> HistoryError:
            return HistoryError(source, len(times) + 1, problem)

        for position, op in enumerate(events):
            if op.time < last:
                raise refuse(f"time {op.time} is before the line above ({last}); lines must be in order")
            last = op.time
            partner = -1
            code = _type_code[op.type]
            f = f_code.setdefault(op.f, len(f_code))
            if op.process != NEMESIS:
                if code == INVOKE:
                    if op.process in open_at:
                        line = open_at[op.process] + 1
                        raise refuse(
                            f"process {op.process} invokes {op.f} while what it invoked in line {line} is open;"
                            " a process does one thing at a time"
                        )
                    open_at[op.process] = position
                else:
                    partner = open_at.pop(op.process, -1)
                    if partner < 0:
                        raise refuse(
                            f"process {op.process} completes {op.f} ({op.type}) without an invocation"
                        )
                    if fs[partner] != f:
                        asked = list(f_code)[fs[partner]]
                        raise refuse(f"process {op.process} completes {op.f} but had invoked {asked}")
                    pairs[partner] = position
            if ops is None:
                kept.append(op)
            times.append(op.time)
            types.append(code)
            fs.append(f)
            nodes.append(node_code.setdefault(op.node, len(node_code)))
            pairs.append(partner)
            clients.append(op.process != NEMESIS)
            finals.append(bool(op.ext and op.ext.get("final")))
        self.f_names = list(f_code)
        self.node_names = [n or "" for n in node_code]
        self.time: NDArray[np.int64] = np.frombuffer(times, dtype=np.int64)
        self.type: NDArray[np.uint8] = np.frombuffer(types, dtype=np.uint8)
        self.f: NDArray[np.uint16] = np.frombuffer(fs, dtype=np.uint16)
        self.node: NDArray[np.uint16] = np.frombuffer(nodes, dtype=np.uint16)
        self.pair: NDArray[np.int32] = np.frombuffer(pairs, dtype=np.int32)
        self.client: NDArray[np.bool_] = np.frombuffer(clients, dtype=np.bool_)
        self.final: NDArray[np.bool_] = np.frombuffer(finals, dtype=np.bool_)

    def __len__(self) -> int:
        return len(self.time)

    def invocations(self) -> NDArray[np.int64]:
        """Positions of the clients' invocations."""
        return np.flatnonzero(self.client & (self.type == INVOKE))

    def outcome(self) -> NDArray[np.uint8]:
        """For each of `invocations()`: OK, FAIL or INFO (also when there is no completion)."""
        pair = self.pair[self.invocations()]
        return np.where(pair < 0, np.uint8(INFO), self.type[pair])

    def completion(self, position: int) -> Op | None:
        """The completion of the invocation at `position`, or None."""
        partner = int(self.pair[position])
        return self.ops[partner] if partner >= 0 else None

    def rows(self, shape: type[Row]) -> Iterator[Row]:
        """All events in order, each with (at least) the fields of `shape`: a struct that names some of an
        `Op`'s fields, with types that take whatever an Op's do. For passes over everything, which
        this makes four times as fast as `ops`: what is not named is not decoded.
        """
        if isinstance(self.ops, _Lines):
            return self.ops.rows(shape)
        return cast("Iterator[Row]", iter(self.ops))  # an Op has every field

    def by_key(self) -> dict[Any, list[int]]:
        """Key -> positions of the clients' invocations on it, in order; keys by JSON identity."""
        out: dict[Any, list[int]] = {}
        for position in self.invocations():
            op = self.ops[position]
            out.setdefault(identity(op.key), []).append(int(position))
        return out


def identity(value: Any) -> Any:
    """A hashable stand-in under which JSON values are equal exactly when they are the same: in
    Python 1 == True, in a history they differ; 1.0 is 1 in both.

    Numbers, texts and null are themselves, a boolean is ("bool", it), an array a tuple of its elements, an
    object the frozen set of its (name, value).

    >>> identity([1, True, {"a": 2.0}])
    (1, ('bool', True), frozenset({('a', 2)}))
    """
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list | tuple):
        return tuple(map(identity, value))
    if isinstance(value, dict):
        return frozenset((name, identity(member)) for name, member in value.items())
    return value


def open_text(path: Path) -> IO[bytes]:
    """A history file opened for reading, decompressed by its ending.

    Raises: UsageError when it cannot be opened.
    """
    try:
        if path.suffix == ".gz":
            return io.BufferedReader(gzip.open(path))
        if path.suffix == ".zst":
            import zstandard  # only who has such files pays for it

            return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(path.open("rb")))
        return path.open("rb")
    except OSError as e:
        raise UsageError(f"cannot read {path}: {e.strerror}; expected a history.jsonl") from None


def read_ops(path: Path) -> Iterator[Op]:
    """The events of a history file, each line validated for itself.

    Raises: HistoryError with the line's number; UsageError when the file cannot be read.
    """
    with open_text(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield _decoder.decode(line)
            except msgspec.DecodeError as e:
                raise HistoryError(path, number, _expected(line, e)) from None


def read_history(path: Path) -> History:
    """Read and validate a whole history file. A plain one is mapped, not kept in memory.

    Raises: HistoryError with the line's number; UsageError when the file cannot be read.
    """
    if path.suffix in (".gz", ".zst"):
        return History(read_ops(path), source=path)
    with open_text(path) as file:
        if os.fstat(file.fileno()).st_size == 0:
            return History((), source=path)
        lines = _Lines(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), path)
    return History(lines.scan(), source=path, ops=lines)


class _Lines(Sequence[Op]):
    """The events of a mapped file, decoded one at a time."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._data = data
        self._path = path
        self._starts = array("q")

    def scan(self) -> Iterator[Op]:
        """All of them in order, noting where each begins."""
        data, starts, position = self._data, self._starts, 0
        while position < len(data):
            starts.append(position)
            yield self._decode(len(starts) - 1)
            stop = data.find(b"\n", position)
            position = len(data) if stop < 0 else stop + 1

    def rows(self, shape: type[Row]) -> Iterator[Row]:
        """All of them in order, as `shape`."""
        decoder = msgspec.json.Decoder(shape)
        starts, size = self._starts, len(self._starts)
        for first in range(0, size, _batch):
            stop = starts[first + _batch] if first + _batch < size else len(self._data)
            yield from decoder.decode_lines(self._data[starts[first] : stop])

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, position: int) -> Op: ...
    @overload
    def __getitem__(self, position: slice) -> list[Op]: ...
    def __getitem__(self, position: int | slice) -> Op | list[Op]:
        if isinstance(position, slice):
            return [self._decode(i) for i in range(*position.indices(len(self)))]
        return self._decode(range(len(self))[position])

    def _decode(self, position: int) -> Op:
        start = self._starts[position]
        stop = self._data.find(b"\n", start)
        line = self._data[start : stop if stop >= 0 else len(self._data)]
        try:
            return _decoder.decode(line)
        except msgspec.DecodeError as e:
            raise HistoryError(self._path, position + 1, _expected(line, e)) from None


def _expected(line: bytes, error: Exception) -> str:
    if not line.strip():
        return "an empty line; expected one JSON object"
    return f"{error}; expected an object with {', '.join(_required)}"
