"""Addresses for the nodes and places of a cluster: a range that is free on this host, one after the other."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from harness.core.cluster import Node, Place
from harness.core.errors import InfrastructureError, MissingCapability, UsageError

MOST_NODES: Final = 99
_ranges: Final = tuple(f"10.{n}.0.0/24" for n in (73, 91, 107, 133, 151, 179, 211, 233))
_ours6: Final = "fd73:706c"  # unique local (RFC 4193), of our own choosing


def addresses(
    network: ipaddress.IPv4Network, nodes: int, *, six: str | None
) -> tuple[tuple[Node, ...], tuple[Place, ...]]:
    """Nodes and places with their addresses: `.1` and on for nodes, `.101` and on for places; with a prefix `six`,
    of IPv6 as well.

    Raises: UsageError when the range is too small.
    """
    offset = min(100, network.num_addresses // 2)
    if nodes >= offset:
        raise UsageError(f"option subnet={network}: too small for {nodes} nodes and their clients; use a /24")

    def v4(host: int) -> str:
        return str(network.network_address + host)

    def v6(host: int) -> str | None:
        return f"{six}{host}" if six else None

    every = range(1, nodes + 1)
    return (
        tuple(Node(f"n{i}", v4(i), v6(i)) for i in every),
        tuple(Place(f"c{i}", f"n{i}", v4(offset + i), v6(offset + i)) for i in every),
    )


def prefix6() -> str | None:
    """The IPv6 prefix of networks that nobody else sees, or None on a host without IPv6."""
    return f"{_ours6}:6974:b7a1::" if Path("/proc/net/if_inet6").exists() else None


def prefix6_of(network: ipaddress.IPv4Network) -> str | None:
    """The one of a network that others see: as unique as its IPv4 range.

    >>> prefix6_of(ipaddress.IPv4Network("10.73.0.0/24"))
    'fd73:706c:a49:0::'
    """
    if prefix6() is None:
        return None
    high, low = divmod(int(network.network_address), 1 << 16)
    return f"{_ours6}:{high:x}:{low:x}::"


def choose(
    given: str | None, used: Mapping[ipaddress.IPv4Network, str], provider: str = "netns"
) -> ipaddress.IPv4Network:
    """The range for the nodes: the one given, or the first of ours that this host does not use.

    `used`: network -> who uses it, for people. `provider` is whose option it is.

    Raises: UsageError for what is no IPv4 range, InfrastructureError for one that is in use.
    """
    for text in _ranges if given is None else (given,):
        try:
            network = ipaddress.IPv4Network(text)
        except ValueError as e:
            raise UsageError(f"option subnet={text}: {e}; expected a range such as {_ranges[0]}") from None
        holder = next((who for other, who in used.items() if other.overlaps(network)), None)
        if holder is None:
            return network
        if given is not None:
            raise InfrastructureError(
                f"address range {network} is in use by {holder}; choose another with --opt {provider}.subnet=..."
            )
    raise InfrastructureError(
        f"this host uses each of {', '.join(_ranges)}; name a free range with --opt {provider}.subnet=..."
    )


def claimed(
    given: str | None, used: Mapping[ipaddress.IPv4Network, str], provider: str = "netns"
) -> tuple[ipaddress.IPv4Network, socket.socket | None]:
    """A range as `choose` finds it that no other run on this host has, as long as there are such.

    Runs have networks of their own and do not collide; but addresses in logs and captures then say
    whose they are. The claim is a socket's name, which the kernel frees when its holder ends. A range
    that was asked for is not claimed.
    """
    taken = dict(used)
    while given is None:
        try:
            network = choose(None, taken)
        except InfrastructureError:
            break  # then two runs have the same one
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0splitbrain-range-{network}")
        except OSError:
            claim.close()
            taken[network] = "another run"
        else:
            return network, claim
    return choose(given, used, provider), None


def in_use() -> dict[ipaddress.IPv4Network, str]:
    """The IPv4 ranges that this host has addresses in or routes to, and through which interface.

    Raises: MissingCapability without the command ip.
    """
    from clusters.means.nft import find_program

    program = find_program("ip")
    if program is None:
        raise MissingCapability(
            "provider netns cannot work here: the command ip is missing; install iproute2"
        )
    done = subprocess.run(
        [program, "-4", "-o", "addr", "show"], capture_output=True, text=True, timeout=10, check=False
    )
    used = {}
    for line in done.stdout.splitlines():
        fields = line.split()
        at = ipaddress.IPv4Interface(fields[fields.index("inet") + 1])
        used[at.network] = f"{fields[1]} ({at})"
    with contextlib.suppress(FileNotFoundError):
        for line in Path("/proc/net/route").read_text().splitlines()[1:]:
            fields = line.split()
            there, mask = (int.from_bytes(bytes.fromhex(fields[i]), "little") for i in (1, 7))
            if mask:  # the default route is no claim on a range
                route = ipaddress.IPv4Network((there, mask.bit_count()))
                used.setdefault(route, f"{fields[0]} (route to {route})")
    return used
