"""What a host hands to its packet queue: packets of its own that go to other nodes, see `nfqueue`.

On hosts there is no bridge that all packets cross, so each host queues what it sends. Only echo requests, their
answers and the ports of the system under test are handed over: SSH is not touched. Copies that the listener
sends carry a mark, and are not handed over again.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Sequence
from typing import Final

from clusters.means import nfqueue
from clusters.means.nft import Nft

MARK: Final = 0x5B11
_SO_MARK: Final = 36
_schema: Final = """
table inet %(table)s {
  set v4 { type ipv4_addr . ipv4_addr; }
  set v6 { type ipv6_addr . ipv6_addr; }
  set ports { type inet_service; }
  chain handed { }
  chain ours {
    meta l4proto { icmp, ipv6-icmp } jump handed
    meta l4proto { tcp, udp } th sport @ports jump handed
    meta l4proto { tcp, udp } th dport @ports jump handed
  }
  chain output {
    type filter hook output priority 10; policy accept;
    meta mark %(mark)d accept
    ip saddr . ip daddr @v4 jump ours
    ip6 saddr . ip6 daddr @v6 jump ours
  }
}
"""


class HostFeed:
    """What this host hands to a queue, in a table of ours, made anew. Raises: OSError."""

    def __init__(self, nft: Nft, table: str, queue: int, ports: Sequence[int]) -> None:
        self._nft = nft
        self._table = f"inet {table}"
        nft.run(
            f"add table {self._table}\ndelete table {self._table}\n"
            + _schema % {"table": table, "mark": MARK}
        )
        try:
            try:
                nft.run(f"add rule {self._table} handed queue flags bypass to {queue}")
            except OSError:
                nfqueue.add_target(table, "handed", queue)
            if ports:
                nft.run(f"add element {self._table} ports {{ {', '.join(map(str, ports))} }}")
        except OSError as e:
            with contextlib.suppress(OSError):
                self.remove()
            raise OSError(
                f"the kernel queues no packets ({e.strerror or e}); it needs nft_queue, or xt_NFQUEUE and nft_compat"
            ) from None

    def set(self, v4: set[tuple[str, str]], v6: set[tuple[str, str]]) -> None:
        """Hand over packets between exactly these (source, destination), from now on."""
        self._nft.run(nfqueue.elements(self._table, v4, v6))

    def remove(self) -> None:
        """Remove the table. Idempotent."""
        self._nft.run(f"add table {self._table}\ndelete table {self._table}")


class Copies:
    """Where copies of packets are sent from, by their own IP header. Raises: OSError."""

    def __init__(self) -> None:
        self._v4 = _raw(socket.AF_INET)
        self._v6: socket.socket | None = None
        with contextlib.suppress(OSError):  # a host without IPv6
            self._v6 = _raw(socket.AF_INET6)

    def send(self, packet: bytes) -> None:
        """Raises: OSError."""
        if packet[0] >> 4 == 4:
            self._v4.sendto(packet, (socket.inet_ntop(socket.AF_INET, packet[16:20]), 0))
        elif self._v6 is not None:
            self._v6.sendto(packet, (socket.inet_ntop(socket.AF_INET6, packet[24:40]), 0))


def _raw(family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
    sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, MARK)
    return sock


def why_not() -> str | None:
    """Why this host's own packets cannot be queued, or None where they can. Makes a table and removes it."""
    try:
        nft = Nft()
        queue = nfqueue.Queue()
        with queue.sock:
            HostFeed(nft, f"splitbrain_probe_{os.getpid()}", queue.number, (1,)).remove()
    except OSError as e:
        return f"{e.strerror or e}; without it, partition is what can be done to a network"
    return None
