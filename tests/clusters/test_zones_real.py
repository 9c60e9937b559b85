"""Standing round-trip times between zones, and blocks that come and go, on real clusters."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise
from pathlib import Path

import pytest

from clusters.means.leftovers import leftovers
from harness.core.cluster import Endpoint, Shaping
from harness.core.descriptor import load

RTT_MS = 60


@pytest.mark.parametrize(
    "provider",
    [
        pytest.param("netns", marks=pytest.mark.netns),
        pytest.param("docker", marks=(pytest.mark.docker, pytest.mark.slow)),
    ],
)
def test_zones_are_as_far_apart_as_asked_for(provider: str, tmp_path: Path) -> None:
    options = {"zones": "eu:n1,n2;us:n3", "rtt": f"eu-us:{RTT_MS}ms"}
    made = load(f"clusters.providers.{provider}:{provider.capitalize()}")(options).create(
        run="tzone1", run_dir=tmp_path, nodes=3, mounts={}
    )
    try:
        assert made.zones == {"eu": ("n1", "n2"), "us": ("n3",)}

        def trip_ms(source: str, target: str) -> float:
            echoes = made.echo(source, target)
            assert echoes.received > echoes.sent / 2
            return statistics.median(echoes.rtt_ms)

        near = trip_ms("n1", "n2")
        assert max(near, trip_ms("c3", "n3"), trip_ms("c1", "n2")) < 10
        for source, target in (("n1", "n3"), ("n3", "n2"), ("c1", "n3"), ("n1", "c3")):
            assert trip_ms(source, target) - near == pytest.approx(RTT_MS, rel=0.15)
        both = [(Endpoint("n1"), Endpoint("n3")), (Endpoint("n1"), Endpoint("n2"))]
        made.shape("f1", both, Shaping(delay_ms=20))
        assert trip_ms("n1", "n3") - near == pytest.approx(RTT_MS + 20, rel=0.15)
        made.unshape("f1")
        assert trip_ms("n1", "n3") - near == pytest.approx(RTT_MS, rel=0.15)
        assert trip_ms("n1", "n2") < 10
    finally:
        made.close()
    assert leftovers("tzone1") == []


@pytest.mark.netns
def test_a_block_flaps_until_it_is_lifted(tmp_path: Path) -> None:
    made = load("clusters.providers.netns:Netns")().create(run="tflap1", run_dir=tmp_path, nodes=2, mounts={})
    try:
        made.block("f1", [(Endpoint("n1"), Endpoint("n2"))], flap_s=0.2)
        seen: list[bool] = []
        end = time.monotonic() + 10
        while (changes := sum(a != b for a, b in pairwise(seen))) < 4:
            assert time.monotonic() < end, seen
            seen.append(made.reaches("n1", "n2", 1, 0.05))
        assert changes == 4
        made.unblock("f1")
        quiet = time.monotonic() + 0.6
        while time.monotonic() < quiet:
            assert made.reaches("n1", "n2", 1, 1.0)
    finally:
        made.close()
