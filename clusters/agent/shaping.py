"""Shaped links: which pairs of nodes and places have their packets delayed, lost, and so on.

The agent's part: it owns the rule that hands packets over and the process that listens
(`clusters.agent.listener`), both made when the first shape is asked for. Shapes have the name of the
fault that made them; those of several faults add up.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from clusters.agent.channel import Channel
from clusters.means import kernel
from clusters.means.nfqueue import Feed
from clusters.means.nft import Nft, Side

_answer_s: Final = 5.0
_end_s: Final = 2.0
_SIOCGIFHWADDR: Final = 0x8927

Shaped = tuple[frozenset[tuple[Side, Side]], dict[str, Any]]  # the pairs, and what happens on them


class Broken(OSError):
    """The listener has ended or does not answer: nothing is shaped any more, and everything passes."""


class Feeding(Protocol):
    """What hands packets to the queue."""

    def set(self, v4: set[tuple[str, str]], v6: set[tuple[str, str]]) -> None:
        """Hand over packets between exactly these (source, destination)."""

    def remove(self) -> None:
        """Hand over none, and leave nothing."""


class Shaper:
    """All shapes of one cluster, in the network namespace in which this object was made.

    Raises: OSError when packets cannot be queued here.
    """

    def __init__(
        self,
        table: str,
        logs: Path,
        feed: Callable[[Nft, str, int], Feeding] = Feed,
        *kind: str,
    ) -> None:
        self._log = logs / "queue.log"
        ours, theirs = socket.socketpair()
        agent = os.getpid()

        def before_exec() -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            kernel.die_with_parent()
            if os.getppid() != agent:
                os._exit(1)

        argv = [
            sys.executable,
            "-I",
            "-S",
            str(Path(__file__).with_name("listener.py")),
            str(theirs.fileno()),
            *kind,
        ]
        logs.mkdir(parents=True, exist_ok=True)
        with theirs, self._log.open("ab") as log:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                preexec_fn=before_exec,  # noqa: PLW1509 - one thread, nothing to deadlock with
            )
        self._channel = Channel(ours)
        self._shapes: dict[str, Shaped] = {}
        self._feed: Feeding | None = None
        try:
            hello, _fds = self._channel.receive(timeout_s=_answer_s)
            if "error" in hello:
                raise OSError(hello["error"])
            self._feed = feed(Nft(), table, hello["queue"])
        except OSError:
            self.close()
            raise

    @property
    def shaping(self) -> tuple[str, ...]:
        """The faults whose shapes are in force."""
        return tuple(self._shapes)

    def shape(
        self,
        fault: str,
        pairs: Sequence[tuple[Side, Side]],
        spec: Mapping[str, Any],
        hardware: Mapping[str, str],
    ) -> int:
        """Put a shape in force; returns how many pairs are shaped in all. `hardware`: address -> MAC."""
        self._change({**self._shapes, fault: (frozenset(pairs), dict(spec))}, hardware)
        return self._count()

    def unshape(self, fault: str, hardware: Mapping[str, str]) -> int:
        """Take the shape of `fault` away; returns how many pairs are still shaped.

        Where the listener has ended there is nothing left to take away.
        """
        if fault in self._shapes:
            left = {name: shaped for name, shaped in self._shapes.items() if name != fault}
            try:
                self._change(left, hardware)
            except Broken:
                self._shapes = left
        return self._count()

    def facts(self) -> dict[str, Any]:
        """What the listener has counted so far. Raises: Broken."""
        return self._ask({})

    def check(self) -> None:
        """Raises: Broken when the listener has ended."""
        if self._process.poll() is not None:
            raise Broken(self._obituary())

    def close(self) -> list[str]:
        """End the listener and take the rule away. Idempotent."""
        self._channel.sock.close()
        self._process.terminate()  # its child ends with it
        try:
            self._process.wait(_end_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_end_s)
        feed, self._feed = self._feed, None
        try:
            if feed is not None:
                feed.remove()
        except OSError as e:
            return [f"the rule of the packet queue could not be removed: {e}"]
        return []

    def _change(self, shapes: dict[str, Shaped], hardware: Mapping[str, str]) -> None:
        """Rules first, then packets, and the other way round where packets are no more: none meets a
        listener that does not know it."""
        assert self._feed is not None
        v4, v6 = addresses(shapes)
        fewer = len(shapes) < len(self._shapes)
        if fewer:
            self._feed.set(v4, v6)
        self._ask(request(shapes, hardware))
        if not fewer:
            self._feed.set(v4, v6)
        self._shapes = shapes

    def _count(self) -> int:
        return len({pair for pairs, _spec in self._shapes.values() for pair in pairs})

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            self._channel.send(message)
            answer, _fds = self._channel.receive(timeout_s=_answer_s)
        except OSError:
            raise Broken(self._obituary()) from None
        return answer

    def _obituary(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        last = f", its last line: {lines[-1]}" if lines else ""
        return f"the listener of the packet queue has ended, so that all packets pass{last} (see {self._log})"


def addresses(shapes: Mapping[str, Shaped]) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """The pairs of IPv4 and of IPv6 addresses whose packets must be handed over."""
    v4, v6 = set(), set()
    for pairs, _spec in shapes.values():
        for a, b in pairs:
            v4.add((a.v4, b.v4))
            if a.v6 and b.v6:
                v6.add((a.v6, b.v6))
    return v4, v6


def request(shapes: Mapping[str, Shaped], hardware: Mapping[str, str]) -> dict[str, Any]:
    """What the listener must know."""
    rules = []
    for name, (pairs, _spec) in shapes.items():
        for a, b in sorted(pairs, key=str):
            rules.append([_hex(a.v4), _hex(b.v4), a.port, b.port, name])
            if a.v6 and b.v6:
                rules.append([_hex(a.v6), _hex(b.v6), a.port, b.port, name])
    return {
        "rules": rules,
        "shapes": {name: spec for name, (_pairs, spec) in shapes.items()},
        "hardware": {_hex(address): mac for address, mac in hardware.items()},
    }


def hardware_address(interface: str, enter: Callable[[], None], leave: Callable[[], None]) -> str:
    """The MAC of `interface` in the network that `enter` moves the calling thread to, in hexadecimal."""
    enter()
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            answer = fcntl.ioctl(sock, _SIOCGIFHWADDR, struct.pack("16s24x", interface.encode()))
    finally:
        leave()
    return answer[18:24].hex()


def _hex(address: str) -> str:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address).hex()
