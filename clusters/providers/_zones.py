"""Zones: which nodes stand in one rack or data centre, and the round-trip times between these.

    zones = "eu:n1,n2;us:n3;ap:n4,n5"        every node in exactly one zone
    rtt = "eu-us:80ms;us-ap:150ms;eu-eu:2ms" between two zones, or within one; what is not named is as fast as it is

The clients of a node stand in its zone. Delays are in force for the whole run, half a round trip each way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Final

from harness.core.cluster import Cluster, Endpoint, Pair, Shaping
from harness.core.errors import MissingCapability, UsageError, unknown_name
from harness.core.options import Option

OPTIONS: Final = (
    Option(
        name="zones",
        default=None,
        summary="which nodes stand together, such as eu:n1,n2;us:n3 (racks, data centres)",
    ),
    Option(
        name="rtt",
        default=None,
        summary="round-trip times between zones for the whole run, such as eu-us:80ms",
    ),
)
_name: Final = r"[A-Za-z][A-Za-z0-9_]*"
_zone: Final = re.compile(rf"({_name}):(.+)")
_trip: Final = re.compile(rf"({_name})-({_name}):(\d+(?:\.\d+)?)(ms|s)?")
_most_ms: Final = 10_000.0

Zones = dict[str, tuple[str, ...]]
Trips = dict[tuple[str, str], float]  # ms


def parse(options: Mapping[str, Any], nodes: Sequence[str]) -> tuple[Zones, Trips]:
    """Zones and round-trip times (ms) of a provider's options; both empty where there are none.

    >>> parse({"zones": "eu:n1,n2;us:n3", "rtt": "eu-us:80ms"}, ["n1", "n2", "n3"])
    ({'eu': ('n1', 'n2'), 'us': ('n3',)}, {('eu', 'us'): 80.0})

    Raises: UsageError naming what is wrong.
    """
    zones: Zones = {}
    for text in _parts(options.get("zones")):
        match = _zone.fullmatch(text)
        if match is None:
            raise UsageError(f"option zones={options['zones']}: expected NAME:NODE,NODE;... and not {text!r}")
        if match[1] in zones:
            raise UsageError(f"option zones={options['zones']}: zone {match[1]!r} is named twice")
        zones[match[1]] = tuple(node.strip() for node in match[2].split(","))
    held = [node for some in zones.values() for node in some]
    for node in held:
        if node not in nodes:
            raise UsageError(f"option zones={options['zones']}: {unknown_name('node', node, nodes)}")
        if held.count(node) > 1:
            raise UsageError(f"option zones={options['zones']}: node {node} is in more than one zone")
    if zones and (left := [node for node in nodes if node not in held]):
        raise UsageError(
            f"option zones={options['zones']}: {', '.join(left)} in no zone; put every node into one"
        )
    trips: Trips = {}
    for text in _parts(options.get("rtt")):
        match = _trip.fullmatch(text)
        if match is None:
            raise UsageError(f"option rtt={options['rtt']}: expected ZONE-ZONE:80ms;... and not {text!r}")
        for zone in (match[1], match[2]):
            if zone not in zones:
                raise UsageError(f"option rtt={options['rtt']}: {unknown_name('zone', zone, zones)}")
        pair = (match[1], match[2])
        if pair in trips or pair[::-1] in trips:
            raise UsageError(f"option rtt={options['rtt']}: {match[1]}-{match[2]} is named twice")
        trips[pair] = float(match[3]) * (1000 if match[4] == "s" else 1)
        if trips[pair] > _most_ms:
            raise UsageError(f"option rtt={options['rtt']}: {text!r} is too long; expected at most 10s")
    return zones, trips


def pairs(zones: Zones, places: Mapping[str, str], one: str, other: str) -> list[Pair]:
    """All directed pairs between two zones (or within one), clients included; `places`: place -> node."""
    ends = {
        zone: [*some, *(place for place, node in places.items() if node in some)]
        for zone, some in zones.items()
    }
    both = {(a, b) for a, b in product(ends[one], ends[other]) if a != b}
    return [(Endpoint(a), Endpoint(b)) for a, b in sorted(both | {(b, a) for a, b in both})]


def stand(cluster: Cluster, zones: Zones, trips: Trips) -> None:
    """Put the standing delays in force.

    Raises: MissingCapability where packets cannot be delayed.
    """
    if trips and (reason := cluster.capabilities.get("shape")) is not None:
        raise MissingCapability(
            f"option rtt needs packets to be delayed, which cannot be had here: {reason}; leave it out"
        )
    places = {place.name: place.node for place in cluster.places}
    for (one, other), rtt_ms in trips.items():
        cluster.network.shape(
            f"rtt-{one}-{other}", pairs(zones, places, one, other), Shaping(delay_ms=rtt_ms / 2)
        )


def _parts(text: str | None) -> Iterator[str]:
    yield from (part.strip() for part in (text or "").split(";") if part.strip())
