"""What a client is, and the check that one can do what a workload needs.

One client per process, pinned to one node; one call, one request. A client never retries: a retry
turns an operation of known outcome into two of unknown outcome (several published "bugs" were
that). Operations are methods named like `f`, or as the workload's `calls` says; they are called with
the key, if there is one, and then the value; a `cas` with `(key, old, new)`. A method returns the
value, or `Reply(value, **ext)`, and raises `Definite` or `Indeterminate`; anything else counts as
indeterminate and as a hole in the client's error table, which the results show with its first
traceback.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, Self, runtime_checkable

from harness.core.cluster import Node, Place


@runtime_checkable
class Client(Protocol):
    """A connection of one process to one node. `open` is called on a prototype and returns a new one."""

    def open(
        self, node: Node, place: Place | None, options: Mapping[str, Any], timeout_s: float = 1.0
    ) -> Self:
        """Connect to `node` (lazily or not). Called in the worker's thread, inside `place`.

        Raises: Indeterminate or OSError when the node does not answer; the worker tries again
        with its next operation.
        """

    def close(self) -> None:
        """Let go of the connection; never raises for a connection that is already broken."""


def supported(client: type, names: Iterable[str]) -> frozenset[str]:
    """Those of `names` for which `client` has a method."""
    return frozenset(f for f in names if callable(getattr(client, f, None)))
