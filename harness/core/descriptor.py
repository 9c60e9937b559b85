"""What an entry point names: enough to list, describe and spell-check a thing without importing it.

`target` is `module:attr`; `load()` imports it. Processes hand things to one another in this form
too, with options, never as live objects.
"""

from __future__ import annotations

import importlib
from typing import Any

import msgspec

from harness.core.options import Option
from harness.core.versions import Versions


class Descriptor(msgspec.Struct, frozen=True, kw_only=True):
    """A system, workload, fault, checker or provider, by reference."""

    name: str
    summary: str
    target: str
    options: tuple[Option, ...] = ()
    needs: frozenset[str] = frozenset()
    targets: tuple[str, ...] = ()  # of a fault: the kinds it accepts after `family:`
    exists: bool = False  # of a provider: its cluster is there already and has no life cycle
    hosts: bool = False  # of a provider: its nodes are hosts that have to be named, as USER@HOST:PORT
    start_s: float = (
        0.0  # of a system: how long its processes take to serve, where that is long beside a fault
    )
    versions: Versions | None = None  # of a system: which there are, and where they are had from

    def load(self) -> Any:
        """The object that `target` names."""
        return load(self.target)


def load(target: str) -> Any:
    """Import `module:attr`."""
    module, _, attr = target.partition(":")
    return getattr(importlib.import_module(module), attr)
