"""A cluster in memory: blocks stop connections, signals change processes, and nothing else happens."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from harness.core.cluster import Cluster, Endpoint, Node, Pair, Place, ProcessState
from harness.core.fault import FaultContext, Plan
from harness.core.system import Status, System
from tests.nemesis.fake_disk import FakeDisk
from tests.nemesis.fake_tracer import FakeTracer


class FakeCluster:
    """Its own network and its own processes; one process `etcd` on each node."""

    def __init__(self, nodes: int) -> None:
        self.nodes = tuple(Node(f"n{i}", f"10.0.0.{i}") for i in range(1, nodes + 1))
        self.places = tuple(Place(f"c{i}", f"n{i}", f"10.0.1.{i}") for i in range(1, nodes + 1))
        self.network = self.process = self
        self.disk = FakeDisk(self)
        self.tracer = FakeTracer(self)
        self.blocks: dict[str, set[Pair]] = {}
        self.drops = 0
        self.pids = iter(range(100, 1000))
        self.running: dict[str, ProcessState] = {}
        for node in self.nodes:
            self.start(node.name)

    def block(self, fault: str, pairs: list[Pair]) -> dict[str, Any]:
        self.blocks[fault] = set(pairs)
        return {"pairs": len(pairs)}

    def unblock(self, fault: str) -> None:
        self.blocks.pop(fault, None)

    def dropped(self) -> int:
        return self.drops

    def cut(self, source: str, target: str) -> bool:
        return any((Endpoint(source), Endpoint(target)) in pairs for pairs in self.blocks.values())

    def reaches(self, source: str, target: str, port: int, timeout_s: float = 0.3) -> bool:
        lost = self.cut(source, target) or self.cut(target, source)
        self.drops += lost
        return not lost

    def start(self, node: str) -> None:
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
        if was.state == "S":  # what runs uses the processor
            self.running[node] = msgspec.structs.replace(was, cpu_ticks=was.cpu_ticks + 1)
        return (self.running[node],)


def context(cluster: FakeCluster, *, leader: str | None = "n2", seed: int = 0) -> FaultContext:
    roles = {n.name: Status(role="leader" if n.name == leader else "follower", term=3) for n in cluster.nodes}
    system = cast("System", SimpleNamespace(ports={"client": 2379, "peer": 2380}))
    return FaultContext(
        cluster=cast("Cluster", cluster),
        system=system,
        roles=roles,
        rng=random.Random(seed),
        fault="f1",
        now=0,
    )


def undo(cluster: FakeCluster, plan: Plan) -> None:
    """The primitives of `harness.undo`, on the fake."""
    for step in plan.undo:
        {
            "unblock": cluster.unblock,
            "start": cluster.start,
            "signal": cluster.signal,
            "mount": cluster.disk.mount,
            "mend": cluster.disk.mend,
            "untrace": cluster.tracer.untrace,
        }[step.do](**step.args)
