"""A history's operations one at a time, each with what became of it.

An operation is an invocation and, perhaps, its completion. What came before what is decided by the
positions of events (line order is the order of real time); stamps serve where a duration is meant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from harness.core.history import INFO, OK

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
