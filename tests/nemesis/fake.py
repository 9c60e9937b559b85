"""A cluster in memory: blocks stop connections, signals change processes, and nothing else happens."""

from __future__ import annotations

import random
import time
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from harness.core.cluster import (
    ClockReading,
    Cluster,
    Course,
    Echoes,
    Endpoint,
    Node,
    Pair,
    Place,
    ProcessState,
    Shaping,
)
from harness.core.fault import FaultContext, Plan
from harness.core.system import Status, System
from tests.nemesis.fake_admin import FakeAdmin, FakePrograms
from tests.nemesis.fake_disk import FakeDisk
from tests.nemesis.fake_members import FakeMembers
from tests.nemesis.fake_tracer import FakeTracer


class FakeCluster:
    """Its own network and its own processes; one process `etcd` on each node."""

    def __init__(self, nodes: int) -> None:
        self.nodes = tuple(Node(f"n{i}", f"10.0.0.{i}") for i in range(1, nodes + 1))
        self.places = tuple(Place(f"c{i}", f"n{i}", f"10.0.1.{i}") for i in range(1, nodes + 1))
        self.network = self.process = self.limits = self.clock = self
        self.disk = FakeDisk(self)
        self.tracer = FakeTracer(self)
        self.members = FakeMembers([node.name for node in self.nodes])
        self.programs = FakePrograms([node.name for node in self.nodes])
        self.courses: dict[str, dict[str, tuple[Course, int]]] = {}
        self.limited: dict[tuple[str, str], dict[str, float]] = {}  # (node, kind) -> fault -> amount
        self.met = 0
        half = nodes // 2
        names = tuple(n.name for n in self.nodes)
        self.zones = {"east": names[:half], "west": names[half:]} if half else {}
        self.flaps: set[str] = set()
        self.looks = 0
        self.blocks: dict[str, set[Pair]] = {}
        self.drops = 0
        self.shapes: dict[str, tuple[set[Pair], Shaping]] = {}
        self.pids = iter(range(100, 1000))
        self.running: dict[str, ProcessState] = {}
        self.loops: dict[str, str] = {}  # node -> fault
        for node in self.nodes:
            self.start(node.name)

    def block(self, fault: str, pairs: list[Pair], *, flap_s: float | None = None) -> dict[str, Any]:
        self.blocks[fault] = set(pairs)
        if flap_s is not None:
            self.flaps.add(fault)
        return {"pairs": len(pairs)}

    def unblock(self, fault: str) -> None:
        self.blocks.pop(fault, None)

    def dropped(self) -> int:
        return self.drops

    def cut(self, source: str, target: str) -> bool:
        return any((Endpoint(source), Endpoint(target)) in pairs for pairs in self.blocks.values())

    def reaches(self, source: str, target: str, port: int, timeout_s: float = 0.3) -> bool:
        self.looks += 1
        lost = self.cut(source, target) or self.cut(target, source)
        if self.flaps & self.blocks.keys() and self.looks // 10 % 2:
            lost = False
        self.drops += lost
        return not lost

    def loop(self, fault: str, node: str, *, up_s: float, down_s: float) -> None:
        self.signal(node, "KILL")
        self.loops[node] = fault

    def unloop(self, fault: str) -> None:
        self.loops = {node: of for node, of in self.loops.items() if of != fault}

    def limit(self, fault: str, node: str, kind: str, amount: float) -> None:
        if self.running[node].alive:
            self.limited.setdefault((node, kind), {})[fault] = amount

    def unlimit(self, fault: str) -> None:
        for held in self.limited.values():
            held.pop(fault, None)

    def usage(self, node: str, kind: str) -> dict[str, Any]:
        held = self.limited.get((node, kind))
        limit = min(held.values()) if held else None
        self.met += bool(held)
        if kind == "cpu":
            return {"limit": limit, "throttled": self.met, "throttled_ms": 0.0}
        if kind == "memory":
            return {"limit": limit, "used": 1e9, "cache": 0, "pressed": self.met, "killed": 0}
        one = self.running[node]
        facts = {"name": one.name, "pid": one.pid, "start": one.start, "open": 9}
        some = [{**facts, "limit": 9 if held else 1024, "room": 0 if held else 1015}] if one.alive else []
        return {"limit": None, "room": None, "processes": some}

    def shape(self, fault: str, pairs: list[Pair], shaping: Shaping) -> dict[str, Any]:
        self.shapes[fault] = (set(pairs), shaping)
        return {"pairs": len(pairs)}

    def unshape(self, fault: str) -> None:
        self.shapes.pop(fault, None)

    def shaped(self) -> dict[str, Any]:
        return {}

    def echo(self, source: str, target: str, *, count: int = 20, **_more: Any) -> Echoes:
        """What the shapes do on the average, in both directions."""
        trip, arrive, right, copies, ahead, kbit = 0.1, 1.0, 1.0, 1.0, 1.0, 1e6
        for way in ((Endpoint(source), Endpoint(target)), (Endpoint(target), Endpoint(source))):
            for pairs, one in self.shapes.values():
                if way in pairs:
                    trip += one.delay_ms
                    arrive *= 1 - one.loss
                    right *= 1 - one.corrupt
                    copies *= 1 + one.duplicate
                    ahead *= 1 - one.reorder
                    kbit = min(kbit, one.rate_kbit or kbit)
        received = round(count * arrive * right)
        return Echoes(
            sent=count,
            received=received,
            duplicates=round(received * (copies - 1)),
            overtaken=round(received * (1 - ahead)),
            rtt_ms=(trip,) * received,
            bad_checksums=round(count * (1 - right)),
            kbit=kbit,
        )

    def start(self, node: str, after_s: float = 0.0) -> None:
        if node not in self.running or not self.running[node].alive:
            pid = next(self.pids)
            self.running[node] = ProcessState(name="etcd", pid=pid, start=pid * 7, state="S")

    def signal(
        self, node: str, signal: str, *, pid: int | None = None, start: int | None = None
    ) -> tuple[ProcessState, ...]:
        was = self.running[node]
        end = {"KILL": -9, "TERM": -15}.get(signal)
        state = {"KILL": None, "TERM": None, "STOP": "T", "CONT": "S"}[signal]
        if was.alive and pid in (None, was.pid) and start in (None, was.start):
            self.running[node] = msgspec.structs.replace(was, state=state, exit=end)
        return (was,)

    def state(self, node: str) -> tuple[ProcessState, ...]:
        was = self.running[node]
        if node in self.loops:  # comes and goes each time one looks
            self.signal(node, "KILL") if was.alive else self.start(node)
        elif was.state == "S":  # what runs uses the processor
            self.running[node] = msgspec.structs.replace(was, cpu_ticks=was.cpu_ticks + 1)
        return (self.running[node],)

    def shift(self, fault: str, node: str, course: Course) -> dict[str, Any]:
        self.courses.setdefault(node, {})[fault] = (course, time.monotonic_ns())
        return {}

    def unshift(self, fault: str, node: str) -> None:
        self.courses.get(node, {}).pop(fault, None)

    def clocks(self, node: str) -> tuple[ClockReading, ...]:
        state, now = self.running[node], time.monotonic_ns()
        course, since = next(reversed(self.courses.get(node, {}).values()), (Course(), now))
        passed = now - since
        wave = course.swing_ns if course.half_ns and passed // course.half_ns % 2 else 0
        off = course.offset_ns + wave + round((course.rate - 1) * passed)
        names = {"name": state.name, "pid": state.pid, "start": state.start, "how": "call"}
        mono = off if course.monotonic else 0
        seen = {"offset_ns": off, "monotonic_ns": mono, "true_ns": now, "true_monotonic_ns": now}
        one = ClockReading(**names, **seen, shifted=passed > 0, doubt_ns=1000)
        return (one,) if state.alive else ()


def context(cluster: FakeCluster, *, leader: str | None = "n2", seed: int = 0) -> FaultContext:
    roles = {n.name: Status(role="leader" if n.name == leader else "follower", term=3) for n in cluster.nodes}
    admin = FakeAdmin(cluster.nodes, leader or "n0")
    ports = {"client": 2379, "peer": 2380}
    system = cast("System", SimpleNamespace(ports=ports, admin=admin, status=admin.status, ready=admin.ready))
    return FaultContext(
        cluster=cast("Cluster", cluster),
        system=system,
        roles=roles,
        rng=random.Random(seed),
        fault="f1",
        now=0,
        members=cluster.members,
        programs=cluster.programs,
    )


def undo(cluster: FakeCluster, plan: Plan) -> None:
    """The primitives of `harness.undo`, on the fake."""
    known: dict[str, Any] = {
        "unblock": cluster.unblock,
        "unshape": cluster.unshape,
        "unshift": cluster.unshift,
        "start": cluster.start,
        "signal": cluster.signal,
        "unloop": cluster.unloop,
        "unlimit": cluster.unlimit,
        "mount": cluster.disk.mount,
        "mend": cluster.disk.mend,
        "untrace": cluster.tracer.untrace,
        "members": cluster.members.want,
        "version": cluster.programs.run,
    }
    for step in plan.undo:
        known[step.do](**step.args)
