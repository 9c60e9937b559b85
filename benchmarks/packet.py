"""How exactly packets are delayed by the packet queue under load, from a receiver's side.

    python -m benchmarks.packet [PACKETS_PER_SECOND] [SECONDS]

UDP packets of 100 bytes go from one node to another at a steady rate. Each carries the time when it was
sent; the kernel stamps its arrival. The aim at 20,000 packets/s is that 99 of 100 have a delay within 2 ms
of what was asked for. What they take without a queue is printed first; a machine too busy to send at the
rate asked for says so, and has shown less than it should.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from clusters.means import kernel
from clusters.providers.netns import Netns, NetnsCluster
from harness.core.cluster import Endpoint, Shaping

AIM_MS = 2.0
DELAYS_MS = (1, 10, 50)
PORT = 9000
TICK_S = 0.0003  # between small bursts
LATE_S = 0.002  # how late a burst may be and still be sent whole
_SO_TIMESTAMPNS = 35
_timespec = struct.Struct("@qq")
_stamp = struct.Struct("=Q")


def send(cluster: NetnsCluster, rate: int, seconds: float) -> None:
    """In a process of its own, so that it shares no interpreter lock with the receiver."""
    cluster.enter("n1")
    kernel.sharp_timers()
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((cluster.nodes[1].address, PORT))
        filler = bytes(100 - 28 - _stamp.size)
        begin, sent, total = time.monotonic_ns(), 0, int(rate * seconds)
        while sent < total:
            due = min(total, (time.monotonic_ns() - begin) * rate // 1_000_000_000)
            if due - sent > rate * LATE_S:  # held up: not made up for, since a burst is no steady rate
                begin += (due - sent) * 1_000_000_000 // rate
                continue
            for _ in range(due - sent):
                sock.send(_stamp.pack(time.time_ns()) + filler)
            sent = due
            time.sleep(TICK_S)


def receive(cluster: NetnsCluster, ready: threading.Event, took_ms: list[float]) -> None:
    """Until nothing has come for half a second."""
    cluster.enter("n2")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.bind(("", PORT))
        sock.settimeout(1.0)
        ready.set()
        while True:
            try:
                data, beside, _flags, _address = sock.recvmsg(256, socket.CMSG_SPACE(_timespec.size))
            except TimeoutError:
                return
            seconds, ns = _timespec.unpack(beside[0][2])
            took_ms.append((seconds * 1_000_000_000 + ns - _stamp.unpack_from(data)[0]) / 1e6)


def measure(cluster: NetnsCluster, rate: int, seconds: float) -> tuple[list[float], float]:
    """Each packet's way in ms, sorted, and the rate that was reached."""
    took_ms: list[float] = []
    ready = threading.Event()
    receiver = threading.Thread(target=receive, args=(cluster, ready, took_ms))
    receiver.start()
    ready.wait()
    begin = time.monotonic()
    pid = os.fork()
    if pid == 0:
        try:
            send(cluster, rate, seconds)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    reached = rate * seconds / (time.monotonic() - begin)
    receiver.join()
    return sorted(took_ms), reached


def main(rate: int, seconds: float) -> int:
    provider = Netns()
    provider.enclose()
    table = Table(title=f"UDP through the packet queue, {rate} packets/s for {seconds:g} s")
    for heading in (
        "delay, ms",
        "arrived",
        "packets/s",
        "p50",
        "p99",
        "p99.9",
        "max",
        f"p99 within {AIM_MS:g} ms",
    ):
        table.add_column(heading, justify="right")
    good, slow = True, False
    with tempfile.TemporaryDirectory() as run_dir:
        cluster = provider.create(run="bench2", run_dir=Path(run_dir), nodes=2, mounts={})
        try:
            for delay_ms in (0, *DELAYS_MS):
                if delay_ms:
                    cluster.shape("f1", [(Endpoint("n1"), Endpoint("n2"))], Shaping(delay_ms=delay_ms))
                some, reached = measure(cluster, rate, seconds)
                if not some:
                    print("no packet arrived", file=sys.stderr)
                    return 1
                off = sorted(abs(x - delay_ms) for x in some)
                p99 = off[int(0.99 * (len(off) - 1))]
                at = [some[int(q * (len(some) - 1))] for q in (0.5, 0.99, 0.999, 1.0)]
                whole = f"{100 * len(some) / (rate * seconds):.2f}%"
                verdict = "no queue" if not delay_ms else "yes" if p99 <= AIM_MS else f"NO: {p99:.2f}"
                row = [f"{delay_ms}", whole, f"{reached:,.0f}", *(f"{x:.2f}" for x in at), verdict]
                table.add_row(*row)
                slow = slow or reached < 0.9 * rate
                good = good and (not delay_ms or p99 <= AIM_MS)
            counts = dict(cluster.shaped())
        finally:
            cluster.close()
    Console().print(table)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; the queue counted {counts}")
    if slow:
        print("this machine was too busy to send at that rate; measure again when it is not", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    numbers = [float(x) for x in sys.argv[1:]]
    sys.exit(main(int(numbers[0]) if numbers else 20_000, numbers[1] if len(numbers) > 1 else 5.0))
