"""Histories out of whole operations: written by hand in seconds, or by a simulation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from harness.core.history import History
from harness.core.op import Op, OpType
from tests.checkers.runs import ns

_same: Any = object()


class Did(msgspec.Struct, kw_only=True):
    """One operation, times in ns; `end` None for one that never completed."""

    f: str
    begin: int
    end: int | None
    process: int
    key: Any = None
    value: Any = None
    how: OpType = "ok"
    result: Any = None
    ext: dict[str, Any] = {}
    node: str = "n1"
    error: str | None = None
    final: bool = False


def did(
    f: str,
    begin: float,
    end: float | None,
    process: int,
    value: Any = None,
    *,
    key: Any = "x",
    result: Any = _same,
    how: OpType = "ok",
    error: str | None = None,
    final: bool = False,
    **ext: Any,
) -> Did:
    """One operation; it answers what was asked unless `result` says otherwise. It ends 1 ns before
    `end`, so that the next one of its process, or of the story, may begin there."""
    return Did(
        f=f,
        begin=ns(begin),
        end=None if end is None else ns(end) - 1,
        process=process,
        key=key,
        value=value,
        how=how,
        result=value if result is _same else result,
        ext=ext,
        node=f"n{process % 3 + 1}",
        error=error or (None if how == "ok" else "timeout"),
        final=final,
    )


def made(*given: Did | Iterable[Did]) -> History:
    """The history of these operations; invocations stand first where they tie."""
    ops = [d for x in given for d in ([x] if isinstance(x, Did) else x)]
    events: list[tuple[int, int, int, Op]] = []
    for n, d in enumerate(ops):
        mark = {"final": True} if d.final else {}
        asked = Op(-1, d.begin, d.process, "invoke", d.f, d.value, d.key, d.node, None, mark or None)
        events.append((d.begin, 0, n, asked))
        if d.end is not None:
            value = d.result if d.how == "ok" else d.value
            error = None if d.how == "ok" else d.error
            ext = {**mark, **(d.ext if d.how == "ok" else {})} or None
            done = Op(-1, d.end, d.process, d.how, d.f, value, d.key, d.node, error, ext)
            events.append((d.end, 1, n, done))
    events.sort(key=lambda e: e[:3])
    return History(msgspec.structs.replace(op, index=i) for i, (*_, op) in enumerate(events))
