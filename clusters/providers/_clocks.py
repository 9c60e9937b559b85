"""Clocks of nodes whose processes the agent owns: the controller's side of `clusters.agent.clocks`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from harness.core.cluster import ClockReading, Course


class Clocks:
    """Implements `harness.core.cluster.Clocks` by `ask`, which sends a request and returns its result; `node` refuses
    a name that is no node's."""

    def __init__(self, ask: Callable[..., Any], node: Callable[[str], str]) -> None:
        self._ask, self._node = ask, node

    def shift(self, fault: str, node: str, course: Course) -> Mapping[str, Any]:
        wire = msgspec.to_builtins(course)
        return self._changed("shift", fault=fault, node=self._node(node), course=wire)

    def unshift(self, fault: str, node: str) -> Mapping[str, Any]:
        return self._changed("unshift", fault=fault, node=self._node(node))

    def clocks(self, node: str) -> tuple[ClockReading, ...]:
        return tuple(ClockReading(**one) for one in self._ask("clocks", node=self._node(node)))

    def _changed(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        began = time.perf_counter_ns()
        processes = self._ask(operation, **arguments)
        return {"processes": processes, "took_ms": (time.perf_counter_ns() - began) / 1e6}
