"""What happens to packets on a shaped link, without a kernel: draws, sums, and the bytes themselves."""

from __future__ import annotations

import socket
import statistics
import struct

import pytest

from clusters.agent.shaping import addresses, request
from clusters.means import echo
from clusters.means.nfqueue import attribute, message, parse
from clusters.means.nft import Side
from clusters.means.shaping import Rule, Shape, Shapes, flipped

A, B = (socket.inet_aton(f"10.0.0.{n}") for n in (1, 2))
A6, B6 = (socket.inet_pton(socket.AF_INET6, f"fd00::{n}") for n in (1, 2))


def four(
    source: bytes = A, target: bytes = B, sport: int = 1000, dport: int = 2000, size: int = 100
) -> bytes:
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, size, 0, 0, 64, 6, 0, source, target)
    return (head + struct.pack(">HH", sport, dport)).ljust(size, b"\0")


def six(source: bytes = A6, target: bytes = B6) -> bytes:
    head = struct.pack(">IHBB16s16s", 0x60000000, 60, 17, 64, source, target)
    return (head + struct.pack(">HH", 1000, 2000)).ljust(100, b"\0")


def waits(count: int = 20_000, **spec: object) -> list[float]:
    shape = Shape(spec)
    return [shape.fate((A, B), 100, 0).wait_ns / 1e6 for _ in range(count)]


def test_a_delay_without_jitter_is_the_same_for_all() -> None:
    assert set(waits(100, delay_ms=20)) == {20.0}


@pytest.mark.parametrize(
    ("distribution", "spread"), [("uniform", 10 / 3**0.5), ("normal", 10), ("pareto", 9.5)]
)
def test_jitter_keeps_the_mean(distribution: str, spread: float) -> None:
    some = waits(delay_ms=100, jitter_ms=10, distribution=distribution, seed=1)
    assert statistics.mean(some) == pytest.approx(100, abs=0.5)
    assert statistics.stdev(some) == pytest.approx(spread, rel=0.15)


def test_a_pareto_delay_has_its_tail_on_the_late_side() -> None:
    some = sorted(waits(delay_ms=100, jitter_ms=10, distribution="pareto", seed=1))
    assert some[0] > 93
    assert some[-20] > 140


def test_draws_come_from_the_seed_and_have_the_probability_asked_for() -> None:
    shapes = [Shape({"loss": 0.2, "duplicate": 0.1, "corrupt": 0.3, "seed": seed}) for seed in (7, 7, 8)]
    fates = [[shape.fate((A, B), 100, 0) for _ in range(10_000)] for shape in shapes]
    assert fates[0] == fates[1] != fates[2]
    assert sum(f.drop for f in fates[0]) == pytest.approx(2000, abs=200)
    assert sum(f.copy for f in fates[0]) == pytest.approx(800, abs=140)
    assert sum(f.flip is not None for f in fates[0]) == pytest.approx(2400, abs=220)


def test_a_rate_makes_packets_queue_up_and_drops_what_does_not_fit() -> None:
    shape = Shape({"rate_kbit": 800})  # 100 bytes a millisecond
    fates = [shape.fate((A, B), 100, 0) for _ in range(500)]
    assert [f.wait_ns / 1e6 for f in fates[:3]] == [1, 2, 3]
    assert sum(not f.drop for f in fates) == pytest.approx(400, abs=2)
    assert shape.fate((B, A), 100, 0).wait_ns == 1e6, "the other direction is a link of its own"
    assert shape.fate((A, B), 100, int(1e9)).wait_ns == 1e6, "it is idle again"


def test_shapes_are_found_by_addresses_and_ports_and_add_up() -> None:
    shapes = Shapes()
    rules = [Rule(A, B, None, None, "f1"), Rule(A, B, None, 2000, "f2"), Rule(A6, B6, None, None, "f1")]
    shapes.set({"f1": {"delay_ms": 10}, "f2": {"delay_ms": 5}}, rules)

    def wait_ms(packet: bytes) -> float | None:
        fate = shapes.fate(packet, 0)
        return None if fate is None else fate.wait_ns / 1e6

    assert wait_ms(four()) == 15
    assert wait_ms(four(dport=2001)) == 10
    assert wait_ms(four(source=B, target=A)) is None
    assert wait_ms(six()) == 10
    assert wait_ms(six(source=B6)) is None
    assert not shapes.whole
    shapes.set({"f2": {"loss": 1.0}}, [Rule(A, B, None, None, "f2")])
    fate = shapes.fate(four(), 0)
    assert fate is not None
    assert fate.drop
    assert shapes.whole


def test_a_change_elsewhere_does_not_start_the_draws_anew() -> None:
    shapes, alone = Shapes(), Shape({"loss": 0.5, "seed": 3})
    rules = [Rule(A, B, None, None, "f1"), Rule(B, A, None, None, "f2")]
    seen = []
    for n in range(50):
        shapes.set({"f1": {"loss": 0.5, "seed": 3}, "f2": {"delay_ms": n}}, rules)
        fate = shapes.fate(four(), 0)
        assert fate is not None
        seen.append(fate.drop)
    assert seen == [alone.fate((A, B), 100, 0).drop for _ in range(50)]


@pytest.mark.parametrize("packet", [four(), six()])
def test_damage_is_one_bit_behind_the_ip_header(packet: bytes) -> None:
    begin = 20 if packet[0] >> 4 == 4 else 40
    for bit in range(0, 2000, 7):
        damaged = flipped(packet, bit)
        assert len(damaged) == len(packet)
        assert damaged[:begin] == packet[:begin]
        changed = [a ^ b for a, b in zip(damaged, packet, strict=True) if a != b]
        assert [x.bit_count() for x in changed] == [1]
        assert echo.checksum(damaged[begin:]) != echo.checksum(packet[begin:])


def test_a_packet_message_is_read_whole_or_by_its_headers() -> None:
    def told(payload: bytes, *more: bytes) -> bytes:
        head = attribute(1, struct.pack(">IHB", 77, 0x800, 2))
        return message(3 << 8, 0, 2, 0, head + b"".join(more) + attribute(10, payload))

    assert parse(told(four(size=48))) == (77, four(size=48), 0)
    out = attribute(6, struct.pack(">I", 5)), attribute(8, struct.pack(">I", 9))
    assert parse(told(four(), *out)) == (77, four(), 9)
    assert parse(told(four(size=41), out[0])) == (77, four(size=41), 5)


def test_both_ip_versions_are_handed_over() -> None:
    one, other, old = (
        Side("10.0.0.1", "fd00::1", None),
        Side("10.0.0.2", "fd00::2", 80),
        Side("10.0.0.3", None, None),
    )
    shapes = {"f1": (frozenset({(one, other), (one, old)}), {"delay_ms": 1.0})}
    assert addresses(shapes) == (
        {("10.0.0.1", "10.0.0.2"), ("10.0.0.1", "10.0.0.3")},
        {("fd00::1", "fd00::2")},
    )
    asked = request(shapes, {"10.0.0.1": "0a0000000001"})
    assert [A.hex(), B.hex(), None, 80, "f1"] in asked["rules"]
    assert [A6.hex(), B6.hex(), None, 80, "f1"] in asked["rules"]
    assert len(asked["rules"]) == 3
    assert asked["hardware"] == {A.hex(): "0a0000000001"}


def test_answers_are_counted_as_they_came() -> None:
    sent = [0, 1_000_000, 2_000_000, 3_000_000]
    answers = [(0, 5_000_000), (2, 6_000_000), (1, 7_000_000), (2, 9_000_000)]
    found = echo.summary(sent, answers, 100)
    assert (found["sent"], found["received"], found["duplicates"], found["overtaken"]) == (4, 3, 1, 1)
    assert found["rtt_ms"] == (5.0, 6.0, 4.0)
    assert found["kbit"] == pytest.approx(3 * 800 / 4)
    assert echo.summary(sent, [], 100)["kbit"] is None


def test_a_checksum_over_itself_is_nought() -> None:
    data = b"\x08\0\0\0" + bytes(range(51))
    total = echo.checksum(data)
    assert echo.checksum(data[:2] + struct.pack(">H", total) + data[4:]) == 0
