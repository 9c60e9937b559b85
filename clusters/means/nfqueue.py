"""Handing packets to a process and back: nfnetlink_queue in raw netlink, and the rule that feeds it.

The rule stands in a table of our own, so that namespaces of our own and Docker's bridges are caught
alike, and IPv4 and IPv6. Where bridged packets are shown to the IP hooks (br_netfilter) it is an inet
table, else one of the bridge family. Where nftables has no `queue` statement (CONFIG_NFT_QUEUE), the
iptables target NFQUEUE does the same through nft_compat, for IP only; the `nft` command cannot write it, so
that one rule is a netlink message of our own. Either way with *bypass*: packets pass when nobody listens.

Sources: linux/netfilter/nfnetlink_queue.h, nf_tables.h, nf_tables_compat.h, xt_NFQUEUE.h.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path
from typing import Final, NamedTuple

from clusters.means.nft import Nft

HEADERS: Final = 48  # bytes of a packet that tell addresses and ports: IPv6 40, ports 4; IPv4 20 to 60
WHOLE: Final = 0xFFFF
ACCEPT: Final = 1
DROP: Final = 0
MAXLEN: Final = 1 << 16  # packets that wait for their verdict; what comes then is dropped, and counted

_NETLINK_NETFILTER: Final = 12
_NETLINK_NO_ENOBUFS: Final = 5
_SOL_NETLINK: Final = 270
_SO_RCVBUFFORCE: Final = 33
_buffer_bytes: Final = 32 << 20
_subsys_queue: Final = 3 << 8
_subsys_tables: Final = 10 << 8
_request, _ack, _create_append = 0x1, 0x4, 0xC00
_verdict: Final = struct.Struct(">II")
_fields: Final = struct.Struct("=HH")

_schema: Final = """
table %(family)s %(table)s {
  set v4 { type ipv4_addr . ipv4_addr; }
  set v6 { type ipv6_addr . ipv6_addr; }
  chain handed { }
  chain forward {
    type filter hook forward priority 10; policy accept;
    ip saddr . ip daddr @v4 jump handed
    ip6 saddr . ip6 daddr @v6 jump handed
  }
}
"""  # after the blocks, whose priority is 0: what is cut is not shaped
# The host may track connections, also of what crosses bridges. It would drop all but one of the packets of a
# new flow that wait in the queue at the same time, since each of them seems to begin it.
_untracked: Final = """
add chain inet %(table)s untracked { type filter hook prerouting priority -300; policy accept; }
add rule inet %(table)s untracked ip saddr . ip daddr @v4 notrack
add rule inet %(table)s untracked ip6 saddr . ip6 daddr @v6 notrack
"""


class Packet(NamedTuple):
    """A packet that waits for its verdict. `payload` begins with the IP header; `out` is the index of the
    interface that it would leave by, 0 where only headers are seen."""

    number: int
    payload: bytes
    out: int


def attribute(kind: int, data: bytes) -> bytes:
    """A netlink attribute, padded."""
    return _fields.pack(len(data) + 4, kind) + data + bytes(-len(data) % 4)


def message(kind: int, flags: int, family: int, number: int, body: bytes = b"") -> bytes:
    """A netfilter netlink message; `number` is the queue, or the subsystem of a batch."""
    size = 20 + len(body)
    return struct.pack("=IHHII", size, kind, flags, 0, 0) + struct.pack(">BBH", family, 0, number) + body


class Queue:
    """One end of a packet queue, in the network namespace in which this object was made.

    Whenever a netfilter hook is taken away in the same network, by whomever (a run that ends, on a host
    with Docker), the kernel drops all that waits in every queue there: `flushed` counts those, as far as a
    verdict was given since.

    Takes the first number from `first` on that nobody listens to, far from those that other programs have
    by default: for Docker it is one of the host's. Raises: OSError.
    """

    def __init__(self, first: int = 21930) -> None:
        self.sock = _open()
        try:
            self.number = self._bind(first)
        except OSError:
            self.sock.close()
            raise
        self._head = message(_subsys_queue | 1, _request, 0, self.number)[4:]
        self._room = 0
        self.flushed = 0
        self.copy(HEADERS)

    def copy(self, size: int) -> None:
        """How much of each packet to see: `HEADERS`, and large ones are not cut to the size of the wire;
        or `WHOLE`, and they are, with their checksums filled in."""
        whole = size == WHOLE
        flags = 0 if whole else 4  # NFQA_CFG_F_GSO
        body = attribute(2, struct.pack(">IB", size, 2)) + attribute(3, struct.pack(">I", MAXLEN))
        body += attribute(5, struct.pack(">I", flags)) + attribute(4, struct.pack(">I", 4))
        self._config(self.number, body)
        self._room = 70_000 if whole else 512

    def receive(self) -> Packet | None:
        """The next packet, or None when none waits. Never blocks."""
        while True:
            try:
                data = self.sock.recv(self._room)
            except BlockingIOError:
                return None
            if data[5] == 3:
                return parse(data)
            self.flushed += 1  # what else comes are errors, about verdicts on packets that are gone

    def verdict(self, number: int, verdict: int) -> bytes:
        """What says what becomes of a packet; several may go to `send` in one piece."""
        return b"\x20\0\0\0" + self._head + b"\x0c\0\x02\0" + _verdict.pack(verdict, number)

    def replace(self, number: int, payload: bytes) -> bytes:
        """Let a packet pass with another content of the same length."""
        body = attribute(2, _verdict.pack(ACCEPT, number)) + attribute(10, payload)
        return message(_subsys_queue | 1, _request, 0, self.number, body)

    def send(self, verdicts: bytes) -> None:
        """Hand verdicts to the kernel."""
        self.sock.send(verdicts)

    def _bind(self, first: int) -> int:
        error: OSError | None = None
        for number in range(first, first + 64):
            try:
                self._config(number, attribute(1, struct.pack(">BBH", 1, 0, 0)))
            except OSError as e:
                error = e
            else:
                return number
        raise OSError(f"no packet queue can be had ({error}); the kernel needs nfnetlink_queue")

    def _config(self, number: int, body: bytes) -> None:
        self.sock.settimeout(2)
        try:
            self.sock.send(message(_subsys_queue | 2, _request | _ack, 0, number, body))
            while (data := self.sock.recv(70_000))[5] == 3:
                # a packet that came before the answer, and would never get a verdict otherwise
                self.sock.send(self.verdict(parse(data).number, ACCEPT))
            _raise(data)
        finally:
            self.sock.settimeout(0)


def parse(data: bytes) -> Packet:
    """A packet message: its number, content and the way out."""
    (number,) = struct.unpack_from(">I", data, 24)
    if data[-52:-48] == b"\x34\0\x0a\0" and len(data) < 500:  # headers alone, and the content is the last
        return Packet(number, data[-48:], 0)
    at, payload, out = 20, b"", 0
    while at + 4 <= len(data):
        size, kind = _fields.unpack_from(data, at)
        if size < 4:
            break
        if kind == 10:
            payload = data[at + 4 : at + size]
        elif kind == 8 or (kind == 6 and not out):
            (out,) = struct.unpack_from(">I", data, at + 4)
        at += size + -size % 4
    return Packet(number, payload, out)


class Feed:
    """What is handed to a queue: pairs of addresses, in a table of our own, made anew.

    Raises: OSError when the kernel has no way to queue packets from a bridge.
    """

    def __init__(self, nft: Nft, table: str, queue: int) -> None:
        self._nft = nft
        self._table = ""
        statement = f"add rule %s {table} handed queue flags bypass to {queue}"
        try:
            _show_bridged()
            self._make("inet", table)
            try:
                nft.run(statement % "inet")
            except OSError:
                add_target(table, "handed", queue)
            with contextlib.suppress(OSError):  # no connection tracking, none to keep out of
                nft.run(_untracked % {"table": table})
        except OSError as e:
            try:
                self._make("bridge", table)
                nft.run(statement % "bridge")
            except OSError:
                with contextlib.suppress(OSError):
                    self.remove()
                raise OSError(
                    f"the kernel queues no packets of a bridge ({e.strerror or e}); it needs nft_queue, or br_netfilter"
                    " with xt_NFQUEUE and nft_compat"
                ) from None

    def _make(self, family: str, table: str) -> None:
        self.remove()
        self._table = f"{family} {table}"
        schema = _schema % {"family": family, "table": table}
        self._nft.run(f"add table {self._table}\ndelete table {self._table}\n{schema}")

    def set(self, v4: set[tuple[str, str]], v6: set[tuple[str, str]]) -> None:
        """Hand over packets between exactly these (source, destination), from now on."""
        self._nft.run(elements(self._table, v4, v6))

    def remove(self) -> None:
        """Remove the table. Idempotent."""
        table, self._table = self._table, ""
        if table:
            self._nft.run(f"add table {table}\ndelete table {table}")


def elements(table: str, v4: set[tuple[str, str]], v6: set[tuple[str, str]]) -> str:
    """The transaction that has exactly these pairs in a table's sets."""
    lines = [f"flush set {table} {name}" for name in ("v4", "v6")]
    for name, pairs in (("v4", v4), ("v6", v6)):
        if pairs:
            words = ", ".join(" . ".join(pair) for pair in sorted(pairs))
            lines.append(f"add element {table} {name} {{ {words} }}")
    return "\n".join(lines) + "\n"


def dropped(number: int) -> int | None:
    """Packets that the kernel dropped since its queue `number` was made, because too many waited or the
    listener did not read them; None where the kernel does not let us know."""
    try:
        with open("/proc/thread-self/net/netfilter/nfnetlink_queue") as file:  # noqa: PTH123 - read often
            for line in file:
                fields = line.split()
                if int(fields[0]) == number:
                    return int(fields[5]) + int(fields[6])
    except OSError:
        return None
    return None


def _open() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _buffer_bytes)
    except PermissionError:  # in a user namespace; then as much as the host allows
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _buffer_bytes)
    sock.setsockopt(_SOL_NETLINK, _NETLINK_NO_ENOBUFS, 1)
    return sock


def _raise(data: bytes) -> None:
    """Raises: OSError for a netlink error message that reports one."""
    kind, (number,) = data[4], struct.unpack_from("=i", data, 16)
    if kind == 2 and number:
        raise OSError(-number, os.strerror(-number))


def add_target(table: str, chain: str, queue: int) -> None:
    """Append the rule `-j NFQUEUE --queue-num N --queue-bypass` to a chain of nftables."""
    info = struct.pack("=HHHxx", queue, 1, 1)
    target = attribute(1, b"NFQUEUE\0") + attribute(2, struct.pack(">I", 3)) + attribute(3, info)
    nested = 0x8000
    expression = attribute(1, b"target\0") + attribute(2 | nested, target)
    body = attribute(1, table.encode() + b"\0") + attribute(2, chain.encode() + b"\0")
    body += attribute(4 | nested, attribute(1 | nested, expression))
    inet = 1
    with _open() as sock:
        sock.settimeout(2)
        sock.send(
            message(0x10, _request, 0, 10)
            + message(_subsys_tables | 6, _request | _ack | _create_append, inet, 0, body)
            + message(0x11, _request, 0, 10)
        )
        _raise(sock.recv(4096))


def _show_bridged() -> None:
    """Make sure that the IP hooks see bridged packets. It is on
    wherever br_netfilter is loaded and nobody has switched it off.

    Raises: OSError.
    """
    for name in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables"):
        try:
            text = Path("/proc/sys/net/bridge", name).read_text()
        except OSError:
            raise OSError("br_netfilter is not there") from None
        if text.strip() != "1":
            raise OSError(f"net.bridge.{name} is {text.strip()}; set it to 1 with sysctl")


def why_not() -> str | None:
    """Why packets cannot be queued in the calling thread's network namespace, or None where they can.

    Makes a queue and a table and removes both.
    """
    try:
        nft = Nft()
    except OSError as e:
        return str(e)
    try:
        queue = Queue()
        with queue.sock:
            Feed(nft, f"splitbrain_probe_{os.getpid()}", queue.number).remove()
    except OSError as e:
        return f"{e.strerror or e}; without it, partition is what can be done to a network"
    return None
