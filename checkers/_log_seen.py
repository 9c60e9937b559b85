"""What a history tells of logs: publishes, reads, and at which number which message was met; see `checkers.log`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from checkers._operations_of import NEVER, calls
from checkers._windows import malformed
from checkers.explain import text
from harness.core.history import FAIL, OK, identity

if TYPE_CHECKING:
    from harness.core.checker import CheckContext
    from harness.core.history import History

BEGINNING: Final = -(2**62)


class Publish(msgspec.Struct, gc=False):
    """One attempt to publish a message: `done` is `NEVER` unless it was acknowledged, `seq` None where that is
    not known."""

    at: int
    done: int
    message: Any
    value: Any
    seq: int | None


class Read(msgspec.Struct, gc=False):
    """One answered read of all from number `first` to before `next`: `shown` are the numbers, as they came."""

    at: int
    done: int
    first: int
    next: int
    final: bool
    shown: list[int]


class Met(msgspec.Struct, gc=False):
    """A message at a number, first told of by the operation invoked at `at` and answered at `done`."""

    message: Any
    value: Any
    at: int
    done: int


class Log(msgspec.Struct):
    """One log. `tried` has the first attempt of each message that did not certainly fail, `failed` of the
    others; `met` what stands at which number; `odd` what is wrong as it stands: kind -> positions and values."""

    key: Any
    publishes: list[Publish] = []
    reads: list[Read] = []
    tried: dict[Any, Publish] = {}
    failed: dict[Any, int] = {}
    met: dict[int, Met] = {}
    numbers: dict[Any, list[int]] = {}  # message -> the numbers at which it was met
    odd: dict[str, list[tuple[tuple[int, ...], Any]]] = {}

    def note(self, kind: str, positions: Iterable[int], value: Any) -> None:
        """Something is wrong with a message, as the operations at `positions` show."""
        self.odd.setdefault(kind, []).append((tuple(positions), value))

    def meet(self, seq: int, message: Any, value: Any, at: int, done: int) -> None:
        """A message was told to stand at `seq`."""
        known = self.met.get(seq)
        if known is None:
            self.met[seq] = Met(message, value, at, done)
            self.numbers.setdefault(message, []).append(seq)
        elif known.message != message:
            self.note("disagree", (known.at, at), (seq, known.value, value))
        elif done < known.done:
            known.at, known.done = at, done


def logs(ctx: CheckContext, history: History) -> list[Log]:
    """Every log of the history, in order of first use.

    Raises: HistoryError for a sequence number that is no integer, or a read that shows no messages.
    """
    found: dict[Any, Log] = {}
    reads: list[tuple[Log, Any, list[Any]]] = []
    for call in calls(history, ("publish", "read")):
        key = call.key if type(call.key) is str else identity(call.key)
        log = found.get(key)
        if log is None:
            log = found[key] = Log(call.key)
        if call.f == "read":
            if call.how == OK:
                read, messages = _read(ctx, call)
                log.reads.append(read)
                reads.append((log, read, messages))
            continue
        message = identity(call.value)
        if call.how == FAIL:
            log.failed.setdefault(message, call.at)
            continue
        acked = call.how == OK
        seq = _number(ctx, call.done, call.ext.get("sequence")) if acked else None
        publish = Publish(call.at, call.done if acked else NEVER, message, call.value, seq)
        log.publishes.append(publish)
        log.tried.setdefault(message, publish)
        if seq is not None:
            log.meet(seq, message, call.value, call.at, call.done)
    for log, read, messages in reads:
        _met(log, read, messages)
    return list(found.values())


def _read(ctx: CheckContext, call: Any) -> tuple[Read, list[Any]]:
    """A read's answer: `{"from", "messages": [[number, value], ...], "next"}`, or the list alone, which is the
    whole log."""
    said = call.result
    first: int | None = None
    after: int | None = None
    if type(said) is dict and {"from", "messages", "next"} <= said.keys():
        first, after = _number(ctx, call.done, said["from"]), _number(ctx, call.done, said["next"])
        said = said["messages"]
    if type(said) is not list or not all(type(m) is list and len(m) == 2 and type(m[0]) is int for m in said):
        raise malformed(
            ctx, call.done, f"a read of a log returned {text(call.result)}; expected [[number, message], ...]"
        )
    shown = [m[0] for m in said]
    if after is None:
        after = max(shown, default=BEGINNING) + 1
    begin = BEGINNING if first is None else first
    return Read(call.at, call.done, begin, after, call.final, shown), said


def _met(log: Log, read: Read, messages: list[Any]) -> None:
    """Take what a read shows."""
    last = BEGINNING
    for seq, value in messages:
        message = identity(value)
        if seq <= last:
            log.note("unsorted", (read.at,), value)
        last = max(last, seq)
        tried = log.tried.get(message)
        if tried is None:
            failed = message in log.failed
            log.note("failed-publish" if failed else "phantom", (read.at,), value)
        elif tried.at > read.done:
            log.note("phantom", (read.at,), value)
        log.meet(seq, message, value, read.at, read.done)


def _number(ctx: CheckContext, position: int, value: Any) -> int | None:
    if value is None or type(value) is int:
        return value
    raise malformed(ctx, position, f"the number of a message is {text(value)}; expected an integer")
