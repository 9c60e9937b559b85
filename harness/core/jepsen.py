"""Jepsen's `history.edn`, and ours: both ways, event by event, and nothing guessed.

What Jepsen writes (jepsen.store, jepsen.history): one map a line,
`{:index 0, :time 12, :type :invoke, :process 3, :f :read, :value nil}`; Knossos's samples are one
vector or list of such maps, with neither `:index` nor `:time`. Either is read, and
`#jepsen.history.Op{...}` too, as it stands in results. What is made of it:

* **The order of the events is the order of real time.** A `:time` (ns) that runs backwards
  contradicts that and is refused; with no `:time` at all the events are numbered. `:index` is kept,
  so that a violation names events of the file; without one it is the event's place, from 0.
* Keywords become texts without the colon, sets sorted lists, characters and `#uuid` and `#inst`
  texts: mappings under which equal values stay equal, so no violation can come of them. Anything else
  that JSON does not have is refused.
* `:fail` is no effect and nothing more. Somebody else's word `mismatch` is quoted, so that their
  failed compare-and-set is never taken for evidence; `:splitbrain/mismatch` is ours.
* What a `:fail` or `:info` has as its value is passed over (clients put all sorts of things there):
  what was asked stands.
* The nemesis is passed over.
* jepsen.independent wraps values as `[key value]`. In Jepsen's memory that is a map entry, in the
  file it is a vector like any other, so a reader has to be told. A history that can hardly be anything
  else (a read that asks with `[k nil]`) is refused until it is: taken for one register it would be a
  false alarm.

The way back writes the same form, keys as jepsen.independent has them, marked by `:splitbrain/key`;
that, `:node`, `:ext` and `:error` make the round trip whole.
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.core.edn import EdnError, Keyword, Map, Set, Symbol, Tagged, forms, written
from harness.core.errors import HistoryError, InfrastructureError
from harness.core.history import open_text
from harness.core.op import NEMESIS, Op, OpType

ENDINGS: Final = (".edn", ".edn.gz", ".edn.zst")
RECORD: Final = "jepsen.history.Op"
_mismatch: Final = "mismatch"
_ours: Final = Keyword("splitbrain/mismatch")
_own_key: Final = "splitbrain/key"
_nullary: Final = frozenset(("read", "acquire", "release", "dequeue", "generate"))
_word: Final = re.compile(r"[A-Za-z][A-Za-z0-9_*!?.-]*")
_types: Final[dict[str, OpType]] = {"invoke": "invoke", "ok": "ok", "fail": "fail", "info": "info"}
_encode: Final = msgspec.json.Encoder().encode


def is_edn(path: Path) -> bool:
    """Whether a file is one of Jepsen's, by its name."""
    return path.name.endswith(ENDINGS)


def read(path: Path, *, keyed: bool | None = None) -> Iterator[tuple[int, Op]]:
    """The clients' events of a history, each with the line in which it begins.

    `keyed`: whether values are `[key value]`; None where nobody has said.

    Raises: HistoryError with the line; UsageError when the file cannot be opened.
    """
    events = _Events(keyed)
    try:
        for line, form in forms(_lines(path)):
            op = events.take(line, form)
            if op is not None:
                yield line, op
    except EdnError as e:
        raise HistoryError(path, e.line, e.problem) from None


def convert(source: Path, target: Path, *, keyed: bool | None = None) -> array[int]:
    """Write the clients' events of `source` as a `history.jsonl`; returns the line that each comes from.

    Raises: like `read`; InfrastructureError when it cannot be written.
    """
    origin = array("q")
    try:
        with target.open("wb", buffering=1 << 20) as out:
            for line, op in read(source, keyed=keyed):
                origin.append(line)
                out.write(_encode(op) + b"\n")
    except OSError as e:
        raise InfrastructureError(
            f"cannot write {target}: {e.strerror}; free some space, or name another place in TMPDIR"
        ) from None
    return origin


def lines(ops: Iterable[Op]) -> Iterator[str]:
    """Events as Jepsen writes them, a line each."""
    for op in ops:
        fields: dict[Keyword, Any] = {
            Keyword("index"): op.index,
            Keyword("time"): op.time,
            Keyword("type"): Keyword(op.type),
            Keyword("process"): Keyword(op.process) if isinstance(op.process, str) else op.process,
            Keyword("f"): _keyword(op.f),
            Keyword("value"): _micro_ops(op.value) if op.f == "txn" else op.value,
        }
        if op.key is not None:
            fields[Keyword("value")] = [op.key, fields[Keyword("value")]]
            fields[Keyword(_own_key)] = op.key
        if op.error is not None:
            mismatch = op.type == "fail" and op.error == _mismatch
            fields[Keyword("error")] = _ours if mismatch else op.error
        if op.node is not None:
            fields[Keyword("node")] = op.node
        if op.ext is not None:
            fields[Keyword("ext")] = op.ext
        yield written(fields) + "\n"


def _keyword(text: Any) -> Any:
    """A word as a keyword; what cannot be one stays as it is."""
    return Keyword(text) if isinstance(text, str) and _word.fullmatch(text) else text


def _micro_ops(value: Any) -> Any:
    """Operations of a transaction begin with keywords in Jepsen and Elle."""
    if not isinstance(value, list):
        return value
    return [[_keyword(m[0]), *m[1:]] if isinstance(m, list) and m else m for m in value]


def _lines(path: Path) -> Iterator[str]:
    """Raises: EdnError for what is no text, or a compressed file that is broken."""
    number = 0
    with open_text(path) as file:
        broken: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error)
        if path.suffix == ".zst":
            import zstandard

            broken = (*broken, zstandard.ZstdError)
        try:
            for raw in file:
                number += 1
                yield raw.decode()
        except UnicodeDecodeError as e:
            raise EdnError(number, f"{e.reason} at byte {e.start}; expected EDN in UTF-8") from None
        except broken as e:
            raise EdnError(number + 1, f"the file cannot be read on: {e}") from None


class _Events:
    """What has been read so far, as far as the next event has to fit it."""

    def __init__(self, keyed: bool | None) -> None:  # noqa: FBT001 - None is a third value
        self.keyed = keyed
        self.count = 0
        self.open: dict[int, tuple[int, Op]] = {}
        self.has: dict[str, bool] = {}  # whether events have an :index, a :time
        self.last: dict[str, int] = {}

    def take(self, line: int, form: Any) -> Op | None:
        """The event of a form; None for the nemesis's."""
        position = self.count
        self.count += 1
        fields = _fields(line, form)
        index = self._number(line, fields, "index", position)
        time = self._number(line, fields, "time", position)
        process = fields.get("process")
        if process == NEMESIS and isinstance(process, str):
            return None
        if isinstance(process, bool) or not isinstance(process, int) or process < 0:
            raise EdnError(line, f":process {_said(fields, 'process')}; expected a whole number or :nemesis")
        said = fields.get("type")
        kind = _types.get(said) if isinstance(said, str) else None
        if kind is None:
            raise EdnError(line, f":type {_said(fields, 'type')}; expected :invoke, :ok, :fail or :info")
        f = fields.get("f")
        if not isinstance(f, str) or isinstance(f, Symbol) or not f:
            raise EdnError(line, f":f {_said(fields, 'f')}; expected a keyword such as :read")
        f = str(f)
        if kind == "invoke":
            return self._invoked(line, fields, index, time, process, f)
        return self._completed(line, fields, index, time, process, kind, f)

    def _number(self, line: int, fields: dict[str, Any], name: str, position: int) -> int:
        """An `:index`, which rises, or a `:time`, which never falls; all events have it or none has."""
        has = name in fields and fields[name] is not None
        if self.has.setdefault(name, has) != has:
            raise EdnError(
                line,
                f"{'a' if has else 'no'} :{name}, unlike the events before; expected all to have it, or none",
            )
        if not has:
            return position
        value = fields[name]
        if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
            raise EdnError(line, f":{name} {_said(fields, name)}; expected a whole number")
        last = self.last.get(name)
        if last is not None and value < last + (name == "index"):
            way_out = (
                ""
                if name == "index"
                else "; where the times are not to be trusted, leave :time out of all events"
            )
            raise EdnError(
                line, f":{name} {value} comes after {last}; events must be in the order of real time{way_out}"
            )
        self.last[name] = value
        return value

    def _invoked(self, line: int, fields: dict[str, Any], index: int, time: int, process: int, f: str) -> Op:
        if process in self.open:
            raise EdnError(
                line,
                f"process {process} invokes {f} while what it invoked in line {self.open[process][0]} is open;"
                " a process does one thing at a time",
            )
        key, value = self._split(line, fields, f)
        op = Op(index, time, process, "invoke", f, value, key, _node(fields), None, _ext(line, fields))
        self.open[process] = (line, op)
        return op

    def _completed(
        self, line: int, fields: dict[str, Any], index: int, time: int, process: int, kind: OpType, f: str
    ) -> Op:
        if process not in self.open:
            raise EdnError(line, f"process {process} completes {f} ({kind}) without an invocation")
        asked = self.open.pop(process)[1]
        if asked.f != f:
            raise EdnError(line, f"process {process} completes {f} but had invoked {asked.f}")
        value = asked.value
        if kind == "ok":
            key, value = self._split(line, fields, f)
            if _encode(key) != _encode(asked.key):
                was, now = _encode(asked.key).decode(), _encode(key).decode()
                raise EdnError(
                    line, f"process {process} completes {f} on key {now} but had invoked it on {was}"
                )
        error, node, ext = _error(fields), _node(fields), _ext(line, fields)
        return Op(index, time, process, kind, f, value, asked.key, node, error, ext)

    def _split(self, line: int, fields: dict[str, Any], f: str) -> tuple[Any, Any]:
        """Key and value of an event."""
        value = fields.get("value")
        pair = _pair(value)
        if _own_key in fields:
            key = plain(line, fields[_own_key])
            if pair is None or _encode(plain(line, pair[0])) != _encode(key):
                own = _said(fields, _own_key)
                raise EdnError(line, f":value {_said(fields, 'value')}; expected [{own} value]")
            return key, plain(line, pair[1])
        if self.keyed:
            if fields.get("key") is not None:
                raise EdnError(
                    line, "a :key beside a value that is said to be [key value]; leave --keyed out"
                )
            if pair is None:
                said = _said(fields, "value")
                raise EdnError(line, f":value {said}; expected [key value], as --keyed says")
            return plain(line, pair[0]), plain(line, pair[1])
        if self.keyed is None and pair is not None and fields.get("key") is None:
            asks = fields["type"] == "invoke" and f in _nullary and pair[1] is None
            if asks or (f == "cas" and _pair(pair[1])):
                raise EdnError(
                    line,
                    f"{f} of {_said(fields, 'value')} looks like [key value] of jepsen.independent, which a file"
                    " does not tell from a plain vector; say --keyed, or --no-keyed where that is the value",
                )
        return plain(line, fields.get("key")), plain(line, value)


def _pair(value: Any) -> list[Any] | None:
    """A vector of two, or None."""
    return value if type(value) is list and len(value) == 2 else None


def _fields(line: int, form: Any) -> dict[str, Any]:
    """A map's keywords and what they say."""
    if isinstance(form, Tagged) and form.tag == RECORD:
        form = form.value
    if not isinstance(form, Map):
        raise EdnError(line, f"{_short(form)}; expected an event, a map with :process, :type, :f and :value")
    names = form[::2]
    fields = dict(zip(names, form[1::2], strict=True)) if all(map(_is_keyword, names)) else None
    if fields is None or len(fields) * 2 != len(form):
        raise EdnError(line, f"{_short(form)}; expected an event whose keys are keywords, each of them once")
    return fields


def _is_keyword(name: Any) -> bool:
    return type(name) is Keyword


def _short(value: Any) -> str:
    text = written(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _said(fields: dict[str, Any], name: str) -> str:
    return _short(fields[name]) if name in fields else "is missing"


def plain(line: int, value: Any) -> Any:
    """A value as JSON has it. `line` is where it stands.

    Raises: EdnError for what JSON has nothing for.
    """
    kind = type(value)
    if kind is int:
        if not -(2**63) <= value < 2**63:
            raise EdnError(line, f"the number {value}; expected whole numbers of 64 bits")
        return value
    if value is None or kind is bool or kind is str or kind is float:
        return value
    if kind is Keyword:
        return str(value)
    if kind is list:
        return [plain(line, v) for v in value]
    if kind is Set:
        return sorted((plain(line, v) for v in value), key=_canonical)
    if kind is Map:
        return _object(line, value)
    if kind is Tagged and value.tag in ("uuid", "inst") and type(value.value) is str:
        return value.value
    raise EdnError(
        line, f"the value {_short(value)}; expected one that JSON has, a keyword, a set, #uuid or #inst"
    )


def _canonical(value: Any) -> bytes:
    return msgspec.json.encode(value, order="deterministic")


def _object(line: int, value: Map) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, inner in zip(value[::2], value[1::2], strict=True):
        if isinstance(name, bool) or not isinstance(name, str | int) or isinstance(name, Symbol):
            raise EdnError(
                line, f"{_short(name)} as a map's key; expected a keyword, a text or a whole number"
            )
        if str(name) in out:
            raise EdnError(line, f"a map with two keys that JSON does not tell apart: {str(name)!r}")
        out[str(name)] = plain(line, inner)
    return out


def _node(fields: dict[str, Any]) -> str | None:
    node = fields.get("node")
    return str(node) if isinstance(node, str) else None


def _ext(line: int, fields: dict[str, Any]) -> dict[str, Any] | None:
    ext = fields.get("ext")
    return _object(line, ext) if isinstance(ext, Map) else None


def _error(fields: dict[str, Any]) -> str | None:
    """Why, as text. Only ours may say `mismatch`."""
    error = fields.get("error")
    if error is None:
        return None
    if error == _ours and type(error) is Keyword:
        return _mismatch
    if isinstance(error, str) and type(error) is not Symbol:
        return written(error) if error == _mismatch else str(error)
    return written(error)
