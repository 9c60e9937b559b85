"""What happens to packets on a link: delay, loss, copies, damage, reordering, a rate. Pure.

`Shape` decides what becomes of one packet, `Shapes` puts all together that are in force. Both know
neither the kernel nor the clock; who hands packets to them, and keeps those that must wait, is
`clusters.agent.listener`. Names and meanings follow tc-netem(8) where it has them.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

_numbers: Final = (
    "delay_ms",
    "jitter_ms",
    "loss",
    "duplicate",
    "corrupt",
    "reorder",
    "reorder_ms",
    "rate_kbit",
)
_backlog_ns: Final = 400_000_000  # of what a slow link holds; more is dropped, as by tbf's `latency`

Address = bytes


class Rule(NamedTuple):
    """Packets between two addresses, of one IP version, and two ports (None: any) have these shapes."""

    source: Address
    target: Address
    sport: int | None
    dport: int | None
    shape: str


class Fate(NamedTuple):
    """What becomes of a packet: after `wait_ns` it passes, or it is dropped at once."""

    wait_ns: int
    drop: bool = False
    copy: bool = False
    flip: int | None = None  # the bit of what follows the IP header, counted modulo its length


class Shape:
    """One description of what happens to packets, with its own random draws.

    `delay_ms` and `jitter_ms` are one way; the jitter's mean is 0 whatever the distribution (`uniform`
    between -j and +j, `normal` with that deviation, `pareto` with a long tail of late packets), and as
    in netem packets overtake each other when it is large. `loss`, `duplicate` and `corrupt` are
    probabilities; `reorder` is that of a packet's being held for another `reorder_ms`. `rate_kbit` is
    of each directed pair by itself.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        number = {name: float(spec.get(name) or 0.0) for name in _numbers}
        self.spec = dict(spec)
        self.delay_ns = int(number["delay_ms"] * 1e6)
        self.jitter_ns = number["jitter_ms"] * 1e6
        self.gap_ns = int(number["reorder_ms"] * 1e6)
        self.loss, self.duplicate = number["loss"], number["duplicate"]
        self.corrupt, self.reorder = number["corrupt"], number["reorder"]
        self.ns_per_byte = 8e6 / number["rate_kbit"] if number["rate_kbit"] else 0.0
        self.spread = {"uniform": _uniform, "normal": _normal, "pareto": _pareto}[
            spec.get("distribution") or "uniform"
        ]
        self._random = random.Random(spec.get("seed", 0))
        self._free: dict[tuple[Address, Address], float] = {}  # when the link of a pair is idle again

    @property
    def whole(self) -> bool:
        """Whether packets must be seen whole, each as it would be on the wire."""
        return bool(self.loss or self.duplicate or self.corrupt or self.reorder or self.ns_per_byte)

    def fate(self, pair: tuple[Address, Address], size: int, now: int) -> Fate:
        """What becomes of a packet of `size` bytes that arrives at `now` (ns)."""
        draw = self._random.random
        if self.loss and draw() < self.loss:
            return Fate(0, drop=True)
        wait = self.delay_ns
        if self.jitter_ns:
            wait = max(0, wait + int(self.jitter_ns * self.spread(self._random)))
        if self.reorder and draw() < self.reorder:
            wait += self.gap_ns
        if self.ns_per_byte:
            begins = max(float(now), self._free.get(pair, 0.0))
            if begins - now > _backlog_ns:
                return Fate(0, drop=True)
            self._free[pair] = begins + size * self.ns_per_byte
            wait += int(self._free[pair]) - now
        copy = bool(self.duplicate) and draw() < self.duplicate
        flip = self._random.getrandbits(20) if self.corrupt and draw() < self.corrupt else None
        return Fate(wait, copy=copy, flip=flip)


class Shapes:
    """All shapes in force, and which packets have which."""

    def __init__(self) -> None:
        self._shapes: dict[str, Shape] = {}
        self._rules: dict[tuple[Address, Address], list[tuple[int | None, int | None, Shape]]] = {}

    def set(self, shapes: Mapping[str, Mapping[str, Any]], rules: Iterable[Rule]) -> None:
        """Put these in force; a shape that has not changed keeps its draws and its backlog."""
        kept = {name: old for name, old in self._shapes.items() if old.spec == shapes.get(name)}
        self._shapes = {name: kept.get(name) or Shape(spec) for name, spec in shapes.items()}
        self._rules = {}
        for rule in rules:
            entry = (rule.sport, rule.dport, self._shapes[rule.shape])
            self._rules.setdefault((rule.source, rule.target), []).append(entry)

    @property
    def whole(self) -> bool:
        return any(shape.whole for shape in self._shapes.values())

    @property
    def idle(self) -> bool:
        return not self._rules

    def fate(self, payload: bytes, now: int) -> Fate | None:
        """What becomes of a packet; None if nothing happens to it. What several shapes do adds up."""
        four = payload[0] >> 4 == 4
        pair = (payload[12:16], payload[16:20]) if four else (payload[8:24], payload[24:40])
        entries = self._rules.get(pair)
        if entries is None:
            return None
        size = struct.unpack_from(">H", payload, 2 if four else 4)[0] + (0 if four else 40)
        found: Fate | None = None
        for sport, dport, shape in entries:
            if (sport is not None or dport is not None) and not _at_ports(payload, sport, dport):
                continue
            one = shape.fate(pair, size, now)
            if one.drop:
                return one
            found = one if found is None else _both(found, one)
        return found


def ends(payload: bytes) -> tuple[Address, Address]:
    """Source and destination of a packet."""
    if payload[0] >> 4 == 4:
        return payload[12:16], payload[16:20]
    return payload[8:24], payload[24:40]


def _both(a: Fate, b: Fate) -> Fate:
    flip = a.flip if b.flip is None else b.flip
    return Fate(a.wait_ns + b.wait_ns, copy=a.copy or b.copy, flip=flip)


def header_length(payload: bytes) -> int:
    """Bytes of a packet's IP header (of IPv6 the fixed one)."""
    return (payload[0] & 15) * 4 if payload[0] >> 4 == 4 else 40


def _at_ports(payload: bytes, sport: int | None, dport: int | None) -> bool:
    protocol = payload[9] if payload[0] >> 4 == 4 else payload[6]
    at = header_length(payload)
    if protocol not in (6, 17) or len(payload) < at + 4:
        return False
    source, target = struct.unpack_from(">HH", payload, at)
    return sport in (None, source) and dport in (None, target)


def flipped(payload: bytes, bit: int) -> bytes:
    """The packet with one bit of what follows its IP header turned over, its checksum left as it was.

    One bit changes every Internet checksum (RFC 1071), so that the receiver must notice.
    """
    begin = header_length(payload)
    if len(payload) <= begin:
        return payload
    at, bit = divmod(bit % ((len(payload) - begin) * 8), 8)
    out = bytearray(payload)
    out[begin + at] ^= 1 << bit
    return bytes(out)


def _uniform(rng: random.Random) -> float:
    return rng.uniform(-1.0, 1.0)


def _normal(rng: random.Random) -> float:
    return rng.gauss(0.0, 1.0)


def _pareto(rng: random.Random) -> float:
    """Mean 0, standard deviation about 1: exponent 3, cut off at 20."""
    return min(20.0, (rng.paretovariate(3.0) - 1.5) / 0.866)
