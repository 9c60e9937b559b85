"""Zones as options name them: every node in one, every round-trip time between two that exist."""

from __future__ import annotations

import pytest

from clusters.providers._zones import pairs, parse
from harness.core.cluster import Endpoint
from harness.core.errors import UsageError
from splitbrain import spec

NODES = ["n1", "n2", "n3"]


@pytest.mark.parametrize(
    ("zones", "rtt", "says"),
    [
        ("eu", None, "expected NAME:NODE"),
        ("eu:n1;eu:n2,n3", None, "'eu' is named twice"),
        ("eu:n1,n4;us:n2,n3", None, "unknown node 'n4'"),
        ("eu:n1,n2;us:n2,n3", None, "n2 is in more than one"),
        ("eu:n1;us:n2", None, "n3 in no zone"),
        ("eu:n1;us:n2,n3", "eu-us", "expected ZONE-ZONE:80ms"),
        ("eu:n1;us:n2,n3", "eu-uk:80ms", "unknown zone 'uk'"),
        ("eu:n1;us:n2,n3", "eu-us:80ms;us-eu:90ms", "us-eu is named twice"),
        ("eu:n1;us:n2,n3", "eu-us:80s", "too long"),
        (None, "eu-us:80ms", "unknown zone 'eu'"),
    ],
)
def test_what_is_wrong_is_refused_by_name(zones: str | None, rtt: str | None, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse({"zones": zones, "rtt": rtt}, NODES)


def test_round_trips_are_read_in_milliseconds() -> None:
    found = parse({"zones": "a : n1".replace(" ", "") + "; b:n2, n3", "rtt": "a-b:0.08s; b-b:2"}, NODES)
    assert found == ({"a": ("n1",), "b": ("n2", "n3")}, {("a", "b"): 80.0, ("b", "b"): 2.0})
    assert parse({}, NODES) == ({}, {})


def test_clients_stand_in_the_zone_of_their_node() -> None:
    found = pairs({"a": ("n1",), "b": ("n2",)}, {"c1": "n1", "c2": "n2"}, "a", "b")
    ends = [(x, y) for x in ("c1", "n1") for y in ("c2", "n2")]
    assert found == sorted((Endpoint(a), Endpoint(b)) for x, y in ends for a, b in ((x, y), (y, x)))
    inside = pairs({"a": ("n1", "n2")}, {}, "a", "a")
    assert inside == [(Endpoint("n1"), Endpoint("n2")), (Endpoint("n2"), Endpoint("n1"))]


def test_a_spec_is_refused_before_anything_is_made() -> None:
    with pytest.raises(UsageError, match="unknown node 'n5'"):
        spec.resolve(None, {"opt": ["zones=eu:n1,n2;us:n3,n5"], "nodes": 3})
    with pytest.raises(UsageError, match="needs a cluster in two zones"):
        spec.resolve(None, {"faults": "partition:zone"})
    made = spec.resolve(None, {"faults": "partition:zone", "opt": ["netns.zones=eu:n1,n2;us:n3"]})
    assert made.of("netns")["zones"] == "eu:n1,n2;us:n3"
