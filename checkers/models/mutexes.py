"""Mutexes: acquired by one at a time. They start free."""

from __future__ import annotations

from typing import Any, Final

from checkers.models.model import INCONSISTENT, Call

_free: Final = None


class Mutex:
    """Released by whoever wants to."""

    name = "mutex"
    summary = "acquired by one at a time and released, whoever does; starts free"
    fs: frozenset[str] = frozenset({"acquire", "release"})
    initial: Final = False

    def step(self, state: Any, call: Call) -> Any:
        """As `Model.step`."""
        return call.f == "acquire" if state == (call.f == "release") else INCONSISTENT


class OwnerMutex:
    """Released by the process that acquired it, and by no other."""

    name = "owner-mutex"
    summary = "acquired by one process at a time and released by that one; starts free"
    fs: frozenset[str] = frozenset({"acquire", "release"})
    initial: Final = _free

    def step(self, state: Any, call: Call) -> Any:
        """As `Model.step`. A state is the process that holds it."""
        if call.f == "acquire":
            return call.process if state is _free else INCONSISTENT
        return _free if state == call.process else INCONSISTENT


class FencedMutex:
    """Owner-aware, and an `acquire` returns a fencing token greater than every one before."""

    name = "fenced-mutex"
    summary = "an owner-aware mutex whose acquire returns a token that grows with every grant"
    fs: frozenset[str] = frozenset({"acquire", "release"})
    initial: Final = (_free, None)

    def step(self, state: Any, call: Call) -> Any:
        """As `Model.step`. A state is (holder, last token); a token that nobody saw was at least one more."""
        holder, last = state
        if call.f == "release":
            return (_free, last) if holder == call.process else INCONSISTENT
        if holder is not _free:
            return INCONSISTENT
        if not call.known:
            return call.process, None if last is None else last + 1
        token = call.result
        if not isinstance(token, int) or (last is not None and token <= last):
            return INCONSISTENT
        return call.process, token
