"""Echo requests from one network namespace to an address of another: what a link does to packets.

ICMP (RFC 792), since every kernel answers it and nothing has to run at the other end. Round trips end
at the kernel's time stamp of the answer, so that a busy interpreter here makes none longer. Answers are
checked against their checksum by hand: a raw socket is given them before the kernel does.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from clusters.means.namespaces import enter

_SO_TIMESTAMPNS: Final = 35
_head: Final = struct.Struct(">BBHHHI")  # type, code, checksum, id, sequence number, time of our own
_timespec: Final = struct.Struct("@qq")
_overhead: Final = 20 + _head.size
_lock = threading.Lock()
_number = 0


def run(
    source: int, target: int, address: str, count: int, interval_s: float, size: int, wait_s: float
) -> dict[str, Any]:
    """The fields of `harness.core.cluster.Echoes`; `source` and `target` are the namespaces.

    Works in a thread of its own, which ends with this call: the caller's is never moved. Raises: OSError.
    """
    found: dict[str, Any] = {}
    failed: list[OSError] = []

    def work() -> None:
        try:
            enter(target)
            bad = -bad_checksums()
            enter(source)
            bad -= bad_checksums()
            with _socket() as sock:
                found.update(_echo(sock, address, count, interval_s, size, wait_s))
            bad += bad_checksums()
            enter(target)
            found["bad_checksums"] = bad + bad_checksums()
        except OSError as e:
            failed.append(e)

    thread = threading.Thread(target=work, name="splitbrain-echo")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found


def send(address: str, count: int, interval_s: float, size: int, wait_s: float) -> dict[str, Any]:
    """The same from where the caller is, with the checksums that are bad here only. Raises: OSError."""
    bad = bad_checksums()
    with _socket() as sock:
        found = _echo(sock, address, count, interval_s, size, wait_s)
    return {**found, "bad_checksums": bad_checksums() - bad}


def bad_checksums() -> int:
    """Packets that the kernel of the calling thread's network discarded for a wrong checksum."""
    lines = Path("/proc/thread-self/net/snmp").read_text().splitlines()
    total = 0
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        fields: Mapping[str, str] = dict(zip(names.split(), values.split(), strict=True))
        total += int(fields.get("InCsumErrors", 0))
    return total


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071); 0 for data that contains a right one."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    sock.settimeout(0)
    return sock


def _echo(
    sock: socket.socket, address: str, count: int, interval_s: float, size: int, wait_s: float
) -> dict[str, Any]:
    global _number
    with _lock:
        _number += 1
        mark = (os.getpid() << 6 ^ _number) & 0xFFFF
    filler = bytes(max(0, size - _overhead))
    sent_ns: list[int] = []
    answers: list[tuple[int, int]] = []  # sequence number and time, as they came
    begin = time.monotonic()
    deadline = begin + count * interval_s + wait_s
    while (now := time.monotonic()) < deadline:
        if len(sent_ns) < count and now >= begin + len(sent_ns) * interval_s:
            packet = _request(mark, len(sent_ns), filler)
            sent_ns.append(time.time_ns())
            sock.sendto(packet, (address, 0))
            deadline = max(deadline, time.monotonic() + wait_s)
        _receive(sock, address, mark, answers)
        if len(sent_ns) == count:
            if len({number for number, _at in answers}) == count and time.monotonic() > begin + (
                count * interval_s + min(wait_s, 0.02)
            ):
                break  # all are there, and copies had a moment to come
            wait = deadline - time.monotonic()
        else:
            wait = begin + len(sent_ns) * interval_s - time.monotonic()
        select.select([sock], [], [], max(0.0, min(wait, 0.02)))
    _receive(sock, address, mark, answers)
    return summary(sent_ns, answers, max(size, _overhead))


def summary(sent_ns: list[int], answers: list[tuple[int, int]], size: int) -> dict[str, Any]:
    """What the answers (sequence number, time) to requests sent at these times come to."""
    first: dict[int, int] = {}
    overtaken, highest = 0, -1
    for number, at in answers:
        if number not in first:
            first[number] = at
            overtaken += number < highest
            highest = max(highest, number)
    times = [at for _number, at in answers]
    span_ns = max(times) - min(times) if len(set(times)) > 1 else 0
    return {
        "sent": len(sent_ns),
        "received": len(first),
        "duplicates": len(answers) - len(first),
        "overtaken": overtaken,
        "rtt_ms": tuple((first[n] - at) / 1e6 for n, at in enumerate(sent_ns) if n in first),
        "kbit": (len(answers) - 1) * size * 8e6 / span_ns if span_ns else None,
    }


def _request(mark: int, number: int, filler: bytes) -> bytes:
    blank = _head.pack(8, 0, 0, mark, number, 0) + filler
    return _head.pack(8, 0, checksum(blank), mark, number, 0) + filler


def _receive(sock: socket.socket, address: str, mark: int, answers: list[tuple[int, int]]) -> None:
    while True:
        try:
            data, beside, _flags, sender = sock.recvmsg(2048, socket.CMSG_SPACE(_timespec.size))
        except BlockingIOError:
            return
        begin = (data[0] & 15) * 4
        if len(data) < begin + _head.size or sender[0] != address:
            continue
        kind, _code, _sum, got, number, _own = _head.unpack_from(data, begin)
        if (kind, got) != (0, mark) or checksum(data[begin:]):
            continue
        stamp = next((_timespec.unpack(body) for _level, _kind, body in beside), None)
        answers.append((number, stamp[0] * 1_000_000_000 + stamp[1] if stamp else time.time_ns()))
