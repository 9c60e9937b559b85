"""The listener of a packet queue: packets wait here until what shapes them lets them pass.

Started as `python -I -S listener.py FD [host]`, by the agent, in the network namespace of the bridge; with
`host` on a machine whose own packets are queued. The
process that listens is watched by the one that was started: when its heart does not beat for a while it
is killed, and the kernel lets everything pass from then on (see `clusters.means.nfqueue`). What it held
is lost, as with any router.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

sys.path.append(str(Path(__file__).resolve().parents[2]))  # last: the standard library comes first

from clusters.agent.channel import Channel, Closed
from clusters.means import kernel
from clusters.means.hostqueue import Copies
from clusters.means.nfqueue import ACCEPT, DROP, HEADERS, WHOLE, Packet, Queue, dropped
from clusters.means.shaping import Address, Fate, Rule, Shapes, ends, flipped

_beat_s: Final = 0.25  # how often the listener shows that it lives
_silence_s: Final = 1.5  # after which it counts as hung
_batch: Final = 128  # packets that are read before verdicts are given again
_late_ns: Final = 2_000_000
_ip4, _ip6 = b"\x08\x00", b"\x86\xdd"


class Held(NamedTuple):
    """A packet in the heap: when it is due, the order of its coming, what to tell the kernel then; and a
    copy of the frame and the interface it goes to, or two empty ones. A copy without an interface is a packet."""

    due: int
    order: int
    verdict: bytes
    frame: bytes
    out: str


class Listener:
    """The queue's end: reads packets, keeps them until they are due, gives verdicts."""

    def __init__(self, queue: Queue, wire: socket.socket | Copies) -> None:
        self._queue = queue
        self._wire = wire  # where copies are sent from: onto a bridge, or as a host's own packets
        self.shapes = Shapes()
        self._heap: list[Held] = []
        self._order = 0
        self._hardware: dict[Address, bytes] = {}
        self._names: dict[int, str] = {}
        self.counts = dict.fromkeys(
            ("seen", "lost", "delayed", "duplicated", "corrupted", "late", "latest_us", "missed"), 0
        )
        self._last = 0

    def set(self, request: Mapping[str, Any]) -> None:
        """Change what is in force. When nothing is, all that is held passes at once."""
        rules = [
            Rule(bytes.fromhex(a), bytes.fromhex(b), sport, dport, shape)
            for a, b, sport, dport, shape in request["rules"]
        ]
        self._hardware = {bytes.fromhex(a): bytes.fromhex(mac) for a, mac in request["hardware"].items()}
        whole = self.shapes.whole
        self.shapes.set(request["shapes"], rules)
        if whole != self.shapes.whole:
            self._queue.copy(WHOLE if self.shapes.whole else HEADERS)
        if self.shapes.idle:
            self.release(all_of_them=True)

    def facts(self) -> dict[str, Any]:
        return {
            **self.counts,
            "held": len(self._heap),
            "flushed": self._queue.flushed,
            "kernel_dropped": dropped(self._queue.number),
        }

    def take(self) -> None:
        """Read what waits, up to a bound, and decide."""
        verdicts: list[bytes] = []
        counts, queue = self.counts, self._queue
        for _ in range(_batch):
            packet = queue.receive()
            if packet is None:
                break
            number = packet.number
            if number - self._last > 1 and self._last:
                counts["missed"] += number - self._last - 1
            self._last = number
            counts["seen"] += 1
            now = time.monotonic_ns()
            fate = self.shapes.fate(packet.payload, now) if packet.payload else None
            if fate is None:
                verdicts.append(queue.verdict(number, ACCEPT))
            elif fate.drop:
                counts["lost"] += 1
                verdicts.append(queue.verdict(number, DROP))
            else:
                self._keep(packet, fate, now)
        if verdicts:
            queue.send(b"".join(verdicts))

    def _keep(self, packet: Packet, fate: Fate, now: int) -> None:
        """Put a packet where it stays until it is due."""
        counts, payload = self.counts, packet.payload
        counts["delayed"] += fate.wait_ns > 0
        verdict = self._queue.verdict(packet.number, ACCEPT)
        if fate.flip is not None:
            payload = flipped(payload, fate.flip)
            verdict = self._queue.replace(packet.number, payload)
            counts["corrupted"] += 1
        frame, name = b"", ""
        if fate.copy:
            frame, name = self._copy(packet, payload)
            counts["duplicated"] += frame != b""
        self._order += 1
        heapq.heappush(self._heap, Held(now + fate.wait_ns, self._order, verdict, frame, name))

    def release(self, *, all_of_them: bool = False) -> float:
        """Let pass what is due; returns how many seconds until there is more."""
        heap, counts = self._heap, self.counts
        now = time.monotonic_ns()
        while heap and (all_of_them or heap[0][0] <= now):
            verdicts: list[bytes] = []
            copies: list[tuple[bytes, str]] = []
            while heap and len(verdicts) < _batch and (all_of_them or heap[0][0] <= now):
                due, _order, verdict, frame, name = heapq.heappop(heap)
                verdicts.append(verdict)
                if frame:
                    copies.append((frame, name))
                late = now - due
                if late > _late_ns:
                    counts["late"] += 1
                if late > counts["latest_us"] * 1000:
                    counts["latest_us"] = late // 1000
            self._queue.send(b"".join(verdicts))
            for frame, name in copies:
                with contextlib.suppress(OSError):  # the interface is full, or gone: a copy less
                    if isinstance(self._wire, Copies):
                        self._wire.send(frame)
                    else:
                        self._wire.sendto(frame, (name, 0))
            now = time.monotonic_ns()
        return max(0.0, (heap[0][0] - now) / 1e9) if heap else _beat_s

    def _copy(self, packet: Packet, payload: bytes) -> tuple[bytes, str]:
        """What is sent as the copy of a packet, and through which interface; two empty ones for none."""
        if isinstance(self._wire, Copies):
            return payload, ""
        head, name = self._frame(payload), self._name(packet.out)
        return (head + payload, name) if head and name else (b"", "")

    def _frame(self, payload: bytes) -> bytes:
        source, target = ends(payload)
        if source not in self._hardware or target not in self._hardware:
            return b""
        return self._hardware[target] + self._hardware[source] + (_ip4 if len(source) == 4 else _ip6)

    def _name(self, index: int) -> str:
        if index and index not in self._names:
            self._names[index] = socket.if_indextoname(index)
        return self._names.get(index, "")


def serve(control: socket.socket, heart: int, *, host: bool) -> None:
    """Listen until the control channel closes. Requests: `set`, `facts`; one line of JSON each."""
    channel = Channel(control)
    try:
        queue = Queue()
        wire = Copies() if host else socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except OSError as e:
        channel.send({"error": e.strerror or str(e)})
        return
    channel.send({"queue": queue.number})
    listener = Listener(queue, wire)
    kernel.sharp_timers()
    with contextlib.suppress(OSError):  # an ordinary user has no precedence; then packets are late under load
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    gc.freeze()
    gc.disable()
    beat = 0.0
    while True:
        wait_s = listener.release()
        now = time.monotonic()
        if now >= beat:
            os.write(heart, b".")
            beat = now + _beat_s
        ready, _, _ = select.select([queue.sock, control], [], [], min(wait_s, _beat_s))
        if queue.sock in ready:
            listener.take()
        if control in ready:
            try:
                request, _fds = channel.receive(timeout_s=1.0)
            except Closed:
                return
            if "rules" in request:
                listener.set(request)
            channel.send(listener.facts())


def watch(pid: int, heart: int) -> int:
    """Wait for the listener's end, and bring it about when its heart stands still; the exit code."""
    while True:
        ready, _, _ = select.select([heart], [], [], _silence_s)
        if not ready:
            os.kill(pid, signal.SIGKILL)
            print(
                f"the packet queue's listener did not move for {_silence_s:g} s and was ended",
                file=sys.stderr,
                flush=True,
            )
            break
        if not os.read(heart, 4096):
            break
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(fd: int, *, host: bool) -> int:
    """Fork the listener, and watch it."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    heart, beats = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(heart)
            kernel.die_with_parent()
            serve(socket.socket(fileno=fd), beats, host=host)
            code = 0
        except BaseException:  # noqa: BLE001 - whatever it is, it must not run on into the watcher's code
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    os.close(beats)
    os.close(fd)
    return watch(pid, heart)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), host="host" in sys.argv[2:]))
