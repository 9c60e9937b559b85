"""Tracers: processes of the agent's that tamper with system calls of a node's processes.

One tracer at most holds a process, so it is the agent that has them all. They end with the agent. A disk is slow
for whoever writes to it: what is started on a node while such a tracer is in force gets one as well.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

from clusters.agent.disks import Disks
from clusters.agent.house import Answer, Refusal
from clusters.means import atrest, kernel, procfs, strace

_appear_s: Final = 1.0
_attach_s: Final = 5.0
_detach_s: Final = 2.0
_poll_s: Final = 0.002


class _Order(NamedTuple):
    """What is done to whose calls; `files` is a pattern for paths below the node's data, or None for any."""

    calls: list[str]
    what: str
    data_dir: str
    files: str | None


class Tracers(Disks):
    """An estate that can have the processes of its nodes traced."""

    def __init__(self) -> None:
        super().__init__()
        self._tracers: dict[tuple[str, str], list[subprocess.Popen[bytes]]] = {}
        self._orders: dict[tuple[str, str], _Order] = {}

    def do_trace_probe(self) -> Answer:
        """Why nothing can be traced here, or None."""
        return strace.probe(), []

    def do_trace(
        self,
        *,
        fault: str,
        node: str,
        calls: list[str],
        what: str,
        data_dir: str,
        files: str | None,
        follow: bool,
    ) -> Answer:
        """Do `what` to these calls of all that runs on the node now, and with `follow` of what is started there
        until it is let go; returns when it is so. With `files`, to calls on those of its data that are called so.
        Nothing is done where nothing runs: another fault may have the node down, and it is for what is measured to
        show it."""
        if (fault, node) in self._tracers:
            return None, []
        deadline = time.monotonic() + _appear_s
        while not (everybody := self._inhabitants([node])) and time.monotonic() < deadline:
            time.sleep(_poll_s)  # it is being started again
        for pid, _start in everybody:
            if holder := strace.tracer_of(pid):
                raise Refusal("setup", f"{node}: process {pid} is traced already, by process {holder}")
        order = _Order(calls, what, data_dir, files)
        self._tracers[fault, node] = []
        if follow:
            self._orders[fault, node] = order
        if everybody:
            self._attach(fault, node, order, everybody)
        return None, []

    def do_start(self, *, node: str) -> Answer:
        """Start what does not run, under the tracers that are in force."""
        answer = super().do_start(node=node)
        for (fault, where), order in self._orders.items():
            if where == node:
                fresh = {(pid, start) for pid, start in self._inhabitants([node]) if not _holder(pid)}
                if fresh:
                    self._attach(fault, node, order, fresh)
        return answer

    def _attach(self, fault: str, node: str, order: _Order, everybody: set[tuple[int, int]]) -> None:
        log = self._logs / node / f"strace-{fault}.txt"
        paths = self._paths(node, order.data_dir, order.files)
        argv = strace.command((pid for pid, _ in everybody), order.calls, order.what, log, paths)
        agent = os.getpid()

        def before_exec() -> None:
            kernel.die_with_parent(signal.SIGKILL)
            if os.getppid() != agent:
                os._exit(1)

        tracer = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=before_exec,  # noqa: PLW1509 - one thread, nothing to deadlock with
        )
        self._tracers[fault, node].append(tracer)
        deadline = time.monotonic() + _attach_s
        while not all(self._held(pid, start, tracer.pid) for pid, start in everybody):
            if tracer.poll() is not None or time.monotonic() > deadline:
                if not self._inhabitants([node]):
                    break  # it has done what it was to do: what it held is dead
                said = self._release(fault, node)
                raise Refusal("agent", f"{node}: strace did not get hold of its processes: {said}")
            time.sleep(0.002)

    def _paths(self, node: str, data_dir: str, files: str | None) -> list[str]:
        """The files of a node's data that are called so, as its processes have them.

        Raises: Refusal where there is none.
        """
        if files is None:
            return []
        found: list[str] = self._inside(node, lambda: atrest.named(Path(data_dir), files))
        if not found:
            raise Refusal("setup", f"{node}: no file of its data is called {files!r}; name others")
        return found

    def do_untrace(self, *, fault: str, node: str) -> Answer:
        """Let go; nothing happens where nobody holds anything."""
        if (fault, node) in self._tracers:
            self._release(fault, node)
        return None, []

    def do_longest(
        self,
        *,
        node: str,
        calls: list[str],
        watch_s: float,
        enough_ms: float,
        data_dir: str,
        files: str | None,
    ) -> Answer:
        """How long a thread was seen in one of these calls. Looked for here, where no other thread holds the
        interpreter: among a dozen busy clients one look would take longer than what is looked for."""
        pids = [pid for pid, _start in self._inhabitants([node])]
        paths = self._paths(node, data_dir, files)
        since: dict[tuple[int, int, str], float] = {}
        longest = 0.0
        begin = now = time.monotonic()
        while now < begin + watch_s and longest < enough_ms:
            there = {stay for pid in pids for stay in strace.stays(pid, calls, paths)}
            now = time.monotonic()
            since = {stay: since.get(stay, now) for stay in there}
            longest = max([longest, *((now - first) * 1e3 for first in since.values())])
            time.sleep(_poll_s)
        return longest, []

    def close(self) -> list[str]:
        for fault, node in list(self._tracers):
            self._release(fault, node)
        return super().close()

    def _held(self, pid: int, start: int, tracer: int) -> bool:
        try:
            return procfs.same(pid, start) is None or strace.tracer_of(pid) == tracer
        except OSError:
            return True  # gone

    def _release(self, fault: str, node: str) -> str:
        """End a fault's tracers on a node; what the last one said. It is not asked: one that holds a call back
        would wait for its end."""
        self._orders.pop((fault, node), None)
        said = b""
        tracer: Any
        for tracer in self._tracers.pop((fault, node)):
            tracer.terminate()
            try:
                said = tracer.communicate(timeout=_detach_s)[1]
            except subprocess.TimeoutExpired:
                tracer.kill()
                said = tracer.communicate()[1]
        return " ".join(said.decode(errors="replace").split()) or "it said nothing"


def _holder(pid: int) -> int:
    try:
        return strace.tracer_of(pid)
    except OSError:
        return -1  # gone
