"""Processes that are killed again each time they come up, until somebody says that it is enough.

One thread for each node that loops. It belongs to the controller: when that ends, so do the nodes.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Final

from harness.core.cluster import Processes
from harness.core.errors import SplitbrainError

_join_s: Final = 30.0  # a start waits for a process to be executed, a kill for the kernel


class Loops:
    """The loops of one cluster, by fault and node."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._lock = threading.Lock()
        self._running: dict[tuple[str, str], tuple[threading.Event, threading.Thread]] = {}

    def loop(self, fault: str, node: str, *, up_s: float, down_s: float) -> None:
        """See `harness.core.cluster.Processes`. Under the same names it goes on as it began."""
        with self._lock:
            if (fault, node) in self._running:
                return
            self._processes.signal(node, "KILL")
            stop = threading.Event()
            thread = threading.Thread(
                target=self._run, args=(stop, node, up_s, down_s), name=f"crash-loop {node}", daemon=True
            )
            self._running[fault, node] = stop, thread
            thread.start()

    def unloop(self, fault: str) -> None:
        """End the loops of `fault`, and wait until nothing more is done in its name.

        Raises: TimeoutError when one does not end.
        """
        with self._lock:
            ended = [self._running.pop(key) for key in list(self._running) if key[0] == fault]
        for stop, _ in ended:
            stop.set()
        deadline = time.monotonic() + _join_s
        for _, thread in ended:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise TimeoutError(f"the {thread.name} of {fault} did not end within {_join_s:g} s")

    def close(self) -> None:
        """End all of them."""
        for fault in {key[0] for key in self._running}:
            with contextlib.suppress(TimeoutError):
                self.unloop(fault)

    def _run(self, stop: threading.Event, node: str, up_s: float, down_s: float) -> None:
        """Start and kill. What cannot be started now (its disk is full) is tried again."""
        while not stop.wait(down_s):
            with contextlib.suppress(SplitbrainError):
                self._processes.start(node)
            if stop.wait(up_s):
                return
            with contextlib.suppress(SplitbrainError):
                self._processes.signal(node, "KILL")
