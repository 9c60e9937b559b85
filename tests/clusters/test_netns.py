"""Provider `netns`: what it decides without touching the machine."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from clusters.providers._ranges import addresses, choose, claimed, in_use
from clusters.providers.netns import NETNS, Netns
from harness.core.errors import InfrastructureError, UsageError

ETH = {IPv4Network("192.0.2.0/24"): "eth0 (192.0.2.2/24)"}


def test_the_descriptor_names_the_provider() -> None:
    assert NETNS.load() is Netns
    assert [option.name for option in NETNS.options] == ["subnet", "pcap", "zones", "rtt", "disk_mb"]


def test_the_descriptor_is_light() -> None:
    code = "import sys, clusters.providers.netns; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "ctypes", "clusters.means.kernel"} & set(done.stdout.split())


def test_the_first_free_range_is_taken() -> None:
    free = choose(None, ETH)
    assert choose(None, {**ETH, free: "docker0"}) != free


def test_runs_at_the_same_time_have_ranges_of_their_own() -> None:
    one, first = claimed(None, ETH)
    two, second = claimed(None, ETH)
    assert one != two
    assert first is not None
    assert second is not None
    first.close()
    again, third = claimed(None, ETH)
    assert again == one
    assert third is not None
    claims = [second, third]
    while (more := claimed(None, ETH)[1]) is not None:  # until there are no more, when they are shared
        claims.append(more)
    assert claimed("10.1.2.0/24", ETH) == (IPv4Network("10.1.2.0/24"), None)
    for claim in claims:
        claim.close()


def test_a_range_in_use_is_refused_by_name() -> None:
    with pytest.raises(InfrastructureError) as caught:
        choose("192.0.2.128/25", ETH)
    text = str(caught.value)
    assert "192.0.2.128/25" in text
    assert "in use by eth0 (192.0.2.2/24)" in text
    assert "--opt netns.subnet=" in text


def test_a_host_that_uses_everything() -> None:
    with pytest.raises(InfrastructureError, match=r"uses each of 10\."):
        choose(None, {IPv4Network("10.0.0.0/8"): "tun0"})


@pytest.mark.parametrize("given", ["10.0.0.1/24", "hello", "fd00::/64", "10.0.0.0/40"])
def test_what_is_no_range_is_a_usage_error(given: str) -> None:
    with pytest.raises(UsageError, match="expected a range such as"):
        choose(given, {})


def test_addresses_are_distinct_and_in_the_range() -> None:
    network = IPv4Network("10.9.8.0/24")
    nodes, places = addresses(network, 5, six="fd73::")
    assert [n.name for n in nodes] == ["n1", "n2", "n3", "n4", "n5"]
    assert (places[0].name, places[0].node) == ("c1", "n1")
    every = [e.address for e in (*nodes, *places)] + [e.address6 for e in (*nodes, *places)]
    assert len(set(every)) == 20
    assert all(IPv4Network(f"{e.address}/32").subnet_of(network) for e in (*nodes, *places))


def test_without_ipv6_there_are_no_such_addresses() -> None:
    nodes, places = addresses(IPv4Network("10.9.8.0/24"), 1, six=None)
    assert (nodes[0].address6, places[0].address6) == (None, None)


def test_a_small_range_is_refused_for_many_nodes() -> None:
    assert addresses(IPv4Network("10.9.8.0/28"), 7, six="fd73::")
    with pytest.raises(UsageError, match="too small for 8 nodes"):
        addresses(IPv4Network("10.9.8.0/28"), 8, six="fd73::")


def test_loopback_is_a_range_that_every_host_uses() -> None:
    assert "lo" in in_use()[IPv4Network("127.0.0.0/8")]


def test_too_many_nodes() -> None:
    with pytest.raises(UsageError, match="takes 1 to 99"):
        Netns().create(run="x", run_dir=Path("nowhere"), nodes=100, mounts={})
