"""A history as operations: an invocation and its completion are one, and nothing is cut short.

The contract of `history.jsonl` holds: what breaks it is refused with its line. Values stay the JSON that they were,
so that 1, true and "1" stay apart and integers exact.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from harness.core.errors import HistoryError
from harness.core.history import open_text
from harness.core.op import NEMESIS, OpType

_null: Final = b"null"


class Operation(msgspec.Struct, kw_only=True):
    """One operation. `key`, `value` (what was asked), `result` (what was answered) and `ext` are JSON. `end_ns` and
    `complete` are None where it never completed, which is as good as `info`; times since the run's start."""

    invoke: int
    complete: int | None = None
    start_ns: int
    end_ns: int | None = None
    process: int | str
    node: str | None
    f: str
    key: bytes
    value: bytes
    result: bytes = _null
    outcome: OpType = "info"
    error: str | None = None
    ext: bytes = _null


class _Event(msgspec.Struct, gc=False):
    index: int
    time: int
    process: int | str
    type: OpType
    f: str
    value: msgspec.Raw
    key: msgspec.Raw = msgspec.Raw(_null)
    node: str | None = None
    error: str | None = None
    ext: msgspec.Raw = msgspec.Raw(_null)


def operations(history: Path) -> Iterator[Operation]:
    """The clients' operations in the order of their invocations.

    Raises: HistoryError with the line; UsageError when the file cannot be opened.
    """
    waiting: deque[Operation] = deque()  # all since the oldest that is still open
    open_now: dict[int | str, Operation] = {}
    decode = msgspec.json.Decoder(_Event).decode
    with open_text(history) as lines:
        for number, line in enumerate(lines, 1):
            try:
                event = decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as e:
                raise HistoryError(history, number, f"{e}; expected one event") from None
            if event.process == NEMESIS:
                continue
            if event.type == "invoke":
                if event.process in open_now:
                    raise HistoryError(
                        history, number, f"process {event.process} has an open operation already"
                    )
                op = Operation(
                    invoke=event.index,
                    start_ns=event.time,
                    process=event.process,
                    node=event.node,
                    f=event.f,
                    key=bytes(event.key),
                    value=bytes(event.value),
                )
                open_now[event.process] = op
                waiting.append(op)
                continue
            op_or_none = open_now.pop(event.process, None)
            if op_or_none is None:
                raise HistoryError(
                    history, number, f"process {event.process} completes without an invocation"
                )
            op = op_or_none
            op.complete, op.end_ns, op.outcome = event.index, event.time, event.type
            op.result, op.error, op.ext = bytes(event.value), event.error, bytes(event.ext)
            while waiting and waiting[0].complete is not None:
                yield waiting.popleft()
    yield from waiting
