"""The controller's side of tracing: requests to the agent, for every provider that has one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from harness.core.cluster import DATA_DIR

TRACE: Final = "trace"
UNASKED: Final = "nothing is traced in this run, since none of its faults needs it"


class Tracer:
    """Implements `harness.core.cluster.Tracer` by `ask`, which sends a request and returns its result."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask

    def make(self, needs: frozenset[str]) -> dict[str, str | None]:
        """Capability -> None, or why not; tried only if it is among the `needs`."""
        return {TRACE: self._ask("trace_probe") if TRACE in needs else UNASKED}

    def trace(
        self,
        fault: str,
        node: str,
        calls: Sequence[str],
        what: str,
        *,
        files: str | None = None,
        follow: bool = False,
    ) -> None:
        narrowed = {"data_dir": DATA_DIR, "files": files}
        self._ask("trace", fault=fault, node=node, calls=list(calls), what=what, follow=follow, **narrowed)

    def untrace(self, fault: str, node: str) -> None:
        self._ask("untrace", fault=fault, node=node)

    def longest_ms(
        self,
        node: str,
        calls: Sequence[str],
        watch_s: float,
        enough_ms: float,
        *,
        files: str | None = None,
    ) -> float:
        found: float = self._ask(
            "longest",
            node=node,
            calls=list(calls),
            watch_s=watch_s,
            enough_ms=enough_ms,
            data_dir=DATA_DIR,
            files=files,
        )
        return found
