"""Registers: one value, read, written, compared-and-set. They start as null."""

from __future__ import annotations

from typing import Any, Final

from checkers.models.model import INCONSISTENT, Call


class Register:
    """Read and written."""

    name = "register"
    summary = "one value, read and written; starts as null"
    fs: frozenset[str] = frozenset({"read", "write"})
    initial: Final = None

    def step(self, state: Any, call: Call) -> Any:
        """As `Model.step`."""
        if call.f == "write":
            return call.value
        return state if not call.known or call.result == state else INCONSISTENT


class CasRegister(Register):
    """With compare-and-set of [old, new]."""

    name = "cas-register"
    summary = "a register with compare-and-set of [old, new]; starts as null"
    fs = frozenset({"read", "write", "cas"})
    compares = frozenset({"cas"})

    def step(self, state: Any, call: Call) -> Any:
        """As `Model.step`."""
        if call.f != "cas":
            return super().step(state, call)
        old, new = call.value
        if call.failed:
            return state if old != state else INCONSISTENT
        return new if old == state else INCONSISTENT
