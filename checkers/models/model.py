"""What a model is: an object of one kind, as states and what an operation makes of them.

    class Stack:
        name, summary, fs = "stack", "push and pop", frozenset({"push", "pop"})
        initial = ()

        def step(self, state, call):
            if call.f == "push":
                return (*state, call.value)
            ...

`step` is pure. Values are `harness.core.history.identity` of the JSON values, so that `==` tells 1, true
and "1" apart. A model that may go several ways from a state says `nondeterministic = True`; its `initial` is
then a collection of states and its `step` returns one. The manner is knossos.model's.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final, Protocol, runtime_checkable

import msgspec


class Call(msgspec.Struct, frozen=True, gc=False):
    """One operation as a model sees it. `result` is what it returned, and means nothing unless `known`.
    `failed`: it had no effect, and the reason for that (a compare that did not hold) is evidence."""

    f: str
    value: Any
    result: Any
    known: bool
    process: Any
    failed: bool = False


class _Inconsistent:
    """The only one of its kind: no state follows."""

    def __repr__(self) -> str:
        return "INCONSISTENT"

    def __bool__(self) -> bool:
        return False


INCONSISTENT: Final = _Inconsistent()


@runtime_checkable
class Model(Protocol):
    """An object of one kind; see the module's text. States are hashable."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def summary(self) -> str:
        """What it is, in one line."""

    @property
    def fs(self) -> frozenset[str]:
        """The operations that a history of it may hold."""

    @property
    def initial(self) -> Hashable:
        """The state in which it starts."""

    def step(self, state: Any, call: Call) -> Any:
        """The state after `call` took effect in `state`, or `INCONSISTENT` where it could not have
        taken effect, or not with this result."""


def started(model: Model) -> Any:
    """The initial state; of a non-deterministic model the set of them."""
    return frozenset(model.initial) if several(model) else model.initial  # type: ignore[call-overload]


def several(model: Model) -> bool:
    """Whether it may go several ways from a state."""
    return bool(getattr(model, "nondeterministic", False))


def follow(model: Model, state: Any, call: Call) -> Any:
    """The state after `call`, or `INCONSISTENT`; of a non-deterministic model from a set of states to one."""
    if not several(model):
        return model.step(state, call)
    return frozenset(after for before in state for after in model.step(before, call)) or INCONSISTENT


def evidence(model: Model, f: str, error: str | None) -> bool:
    """Whether a failed operation says something: a comparison in it did not hold."""
    return error == "mismatch" and f in getattr(model, "compares", ())
