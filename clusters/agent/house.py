"""One node as the agent has it: its init, the way to it, and the processes that were started through it.

Also the words in which requests are answered, and refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from clusters.agent import node
from clusters.means import procfs

_answer_s: Final = 15.0
_exit_s: Final = 0.5

Answer = tuple[Any, list[int]]


class Refusal(Exception):
    """A request that cannot be met. `kind` tells the controller which error to raise."""

    def __init__(self, kind: str, text: str) -> None:
        self.kind = kind
        super().__init__(text)


class Incarnation:
    """One process of the system, from its start to its end and after."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.inner = 0  # its pid as the node has it
        self.pid = 0  # its pid as we have it
        self.start = 0
        self.exit: int | None = None
        self.ended = True

    def stat(self) -> procfs.Stat | None:
        """The process, unless it has ended."""
        found = None if self.ended else procfs.same(self.pid, self.start)
        return None if found is None or found.state in "ZX" else found


class House:
    """One node: its init, the way to it, and the processes that were started through it."""

    def __init__(self, name: str, pid: int, sock: socket.socket, logs: Path) -> None:
        self.name = name
        self.pid = pid
        self.processes: dict[str, Incarnation] = {}
        self.at_exec: Callable[[int], None] | None = (
            None  # called with the pid of what executes, before it begins
        )
        self._sock = sock
        self._logs = logs
        self._hello: tuple[int, int, int] = (0, 0, 0)  # inner pid, start, our pid

    def ready(self) -> None:
        """Wait until the node's mounts are made."""
        answer = self._expect(("ready", "error"))
        if "error" in answer:
            raise Refusal("setup", f"node {self.name} could not be set up: {answer['error']}")

    def start(self, spec: dict[str, Any]) -> None:
        """Start one process, and wait until it has been executed.

        Raises: Refusal of kind `exec` naming the program, or `prepare` naming the path.
        """
        one = Incarnation(spec)
        where = f"{self.name}: {spec['name']}"
        data = json.dumps({**spec, "held": self.at_exec is not None}).encode()
        if len(data) > node.LARGEST:
            raise Refusal("prepare", f"{where}: its files hold over {node.LARGEST} bytes of text")
        log = os.open(self._logs / f"{spec['name']}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        spec_fd = os.memfd_create("spec")  # it may be larger than an ordinary user's socket would take
        try:
            _write_whole(spec_fd, data)
            self._sock.settimeout(_answer_s)
            socket.send_fds(self._sock, [b"start"], [spec_fd, log])
        except OSError as e:
            raise Refusal("setup", f"{where}: the node's init is gone ({e})") from None
        finally:
            os.close(spec_fd)
            os.close(log)
        if self.at_exec is None:
            answer = self._expect(("started", "failed"))
        elif "hello" in (answer := self._expect(("hello", "failed"))):
            self._hold(where)
            answer = self._expect(("started", "failed"))
        if "failed" in answer:
            if answer["stage"] == "exec":
                text = f"{where} cannot be executed: {spec['argv'][0]}: {answer['failed']}"
            else:
                text = f"{where} cannot be prepared: {answer['failed']}"
            raise Refusal(answer["stage"], text)
        one.inner, one.start, one.pid = self._hello
        one.ended = False
        self.processes[spec["name"]] = one

    def settle(self) -> None:
        """Take note of what has ended; waits for the init's word where the kernel knows already."""
        self._drain(0.0)
        deadline = time.monotonic() + _exit_s
        for one in self.processes.values():
            while not one.ended and one.stat() is None:
                left = deadline - time.monotonic()
                if left <= 0 or not self._drain(left):
                    one.ended = True

    def states(self) -> list[dict[str, Any]]:
        """Each process as it is now."""
        self.settle()
        found = []
        for name, one in self.processes.items():
            stat = one.stat()
            found.append(
                {
                    "name": name,
                    "pid": one.pid,
                    "start": one.start,
                    "state": stat.state if stat else None,
                    "cpu_ticks": stat.cpu_ticks if stat else 0,
                    "exit": None if stat else one.exit,
                    "stop_signal": one.spec["stop_signal"],
                }
            )
        return found

    def signal(self, number: signal.Signals, pid: int | None, start: int | None) -> None:
        """Send `number` to the node's processes with their groups, or to the one process named."""
        for one in self.processes.values():
            if pid is not None and (one.pid, one.start) != (pid, start):
                continue
            if one.stat() is not None:
                # Its children, too, and each once: a second SIGTERM ends many that had begun to end well. It
                # leads its session, so its group has its pid; it has just been there, so the group is its own.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(one.pid, number)

    def _hold(self, where: str) -> None:
        """Do what is to be done to a process that executes its program just now."""
        assert self.at_exec is not None
        try:
            self.at_exec(self._hello[2])
        except OSError as e:
            self._expect(("started", "failed"))
            raise Refusal("setup", f"{where} cannot be changed at its start: {e}") from None

    def _expect(self, kinds: tuple[str, ...]) -> dict[str, Any]:
        deadline = time.monotonic() + _answer_s
        while True:
            message = self._receive(max(deadline - time.monotonic(), 0.001))
            if message is None:
                raise Refusal("setup", f"the init of node {self.name} does not answer")
            if any(kind in message for kind in kinds):
                return message

    def _drain(self, timeout_s: float) -> bool:
        """Take what the init has said; False when nothing came, or it is gone."""
        message = self._receive(timeout_s)
        some = message is not None
        while message is not None:
            message = self._receive(0.0)
        return some

    def _receive(self, timeout_s: float) -> dict[str, Any] | None:
        self._sock.settimeout(timeout_s)
        try:
            data, beside, _flags, _address = self._sock.recvmsg(65536, socket.CMSG_SPACE(12))
        except (TimeoutError, BlockingIOError, ConnectionError):
            return None
        if not data:
            return None
        message: dict[str, Any] = json.loads(data)
        if "hello" in message:
            sender = next(int.from_bytes(body[:4], sys.byteorder) for _level, _kind, body in beside)
            self._hello = (message["hello"], message["start"], sender)
        elif "exited" in message:
            for one in self.processes.values():
                if one.inner == message["exited"] and not one.ended:
                    one.exit, one.ended = message["code"], True
        return message


def _write_whole(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
