"""The models that a history can be judged by, each a class with `initial` and `step`.

The engine has the same ones in Go and uses its own: these serve the independent verifier
(`checkers.witness`), and show how one of your own is written. A model of your own is compiled to a table of its
states and operations (`checkers.models.compile`), which the engine takes as it is.
"""

from __future__ import annotations

from typing import Final

from checkers.models.keyvalue import KeyValue
from checkers.models.model import INCONSISTENT, Call, Model
from checkers.models.mutexes import FencedMutex, Mutex, OwnerMutex
from checkers.models.registers import CasRegister, Register

__all__ = ["INCONSISTENT", "MODELS", "Call", "Model"]

_all: Final[tuple[Model, ...]] = (
    Register(),
    CasRegister(),
    KeyValue(),
    Mutex(),
    OwnerMutex(),
    FencedMutex(),
)
MODELS: Final = {model.name: model for model in _all}
