"""Helpers that run beside the controller, where nodes have no networks that could be entered, and signals by name."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.core.errors import unknown_name

_end_s: Final = 2.0


def stay(_name: str) -> None:
    """How a thread of a helper enters a node's network: it is there already."""


class Helpers:
    """Processes of the harness on this machine; they end with `close`, or with the controller."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[subprocess.Popen[bytes]] = []

    def spawn(self, argv: Sequence[str], name: str) -> int:
        """See `harness.core.cluster.Cluster.spawn_helper`."""
        from clusters.means import kernel

        controller = os.getpid()

        def before_exec() -> None:
            kernel.die_with_parent()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            if os.getppid() != controller:
                os._exit(1)

        self._logs.mkdir(parents=True, exist_ok=True)
        with (self._logs / f"{name}.log").open("ab") as log:
            helper = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, "SPLITBRAIN_ENTER": f"{__name__}:{stay.__name__}"},
                preexec_fn=before_exec,  # noqa: PLW1509 - two system calls; what they need is loaded by now
                start_new_session=True,
            )
        self._running.append(helper)
        return helper.pid

    def close(self) -> None:
        """End all of them. Idempotent."""
        for helper in self._running:
            helper.terminate()
            try:
                helper.wait(_end_s)
            except subprocess.TimeoutExpired:
                helper.kill()
                helper.wait()
        self._running = []


def signal_of(name: str) -> signal.Signals:
    """The signal called `KILL` or `SIGKILL`. Raises: UsageError with the nearest name."""
    try:
        return signal.Signals[f"SIG{name.removeprefix('SIG')}"]
    except KeyError:
        raise unknown_name("signal", name, [s.name.removeprefix("SIG") for s in signal.Signals]) from None
