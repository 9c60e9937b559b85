"""A history's operations one at a time, and as they stand in an anomaly's window.

An operation is an invocation and, perhaps, its completion. What came before what is decided by the
positions of events (line order is the order of real time); stamps serve where a duration is meant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from harness.core.history import INFO, OK
from harness.core.op import type_names

if TYPE_CHECKING:
    from harness.core.history import History

NEVER: Final = 2**62  # a position, or a time in ns, behind all others
_no_ext: Final[dict[str, Any]] = {}


class Call(msgspec.Struct, frozen=True, gc=False):
    """One operation: invoked at position `at` and `begin` ns, completed at `done` and `end` (`NEVER`
    for none). `how` is OK, FAIL or INFO, `result` an ok one's value, `ext` what came with it."""

    at: int
    done: int
    begin: int
    end: int
    how: int
    process: int | str
    f: str
    key: Any
    value: Any
    result: Any = None
    ext: dict[str, Any] = {}
    final: bool = False


def calls(history: History, fs: Collection[str]) -> Iterator[Call]:
    """The clients' operations `fs`, in the order of their invocations."""
    codes = [code for code, name in enumerate(history.f_names) if name in fs]
    at = history.invocations()
    at = at[np.isin(history.f[at], codes)]
    for position, pair in zip(at.tolist(), history.pair[at].tolist(), strict=True):
        asked = history.ops[position]
        head = (asked.process, asked.f, asked.key, asked.value)
        final = bool(asked.ext and asked.ext.get("final"))
        if pair < 0:
            yield Call(position, NEVER, asked.time, NEVER, INFO, *head, final=final)
            continue
        done = history.ops[pair]
        how = int(history.type[pair])
        result = done.value if how == OK else None
        ext = done.ext or _no_ext
        yield Call(position, pair, asked.time, done.time, how, *head, result=result, ext=ext, final=final)


def window(history: History, positions: Iterable[int]) -> list[dict[str, Any]]:
    """The operations invoked at `positions`, each once and in order, in the results' format."""
    return [_plain(history, position) for position in sorted(set(positions))]


def _plain(history: History, position: int) -> dict[str, Any]:
    asked, done = history.ops[position], history.completion(position)
    how = type_names[INFO] if done is None else done.type
    body = {
        "invoke": asked.index,
        "complete": None if done is None else done.index,
        "process": asked.process,
        "f": asked.f,
        "key": asked.key,
        "value": asked.value,
        "result": done.value if done is not None and how == "ok" else None,
        "node": asked.node,
        "type": how,
        "start_ns": asked.time,
        "end_ns": None if done is None else done.time,
    }
    if done is not None and done.error is not None:
        body["error"] = done.error
    return body
