"""A correct service of leases, locks and attached keys in virtual time, and clients that use it badly.

Requests and answers take a random time, get lost, or take effect after the client gave up; holders
fall asleep longer than their leases live; the server's clock runs wrong by up to 4%, it notices
expired leases late, and prolongs all of them when leadership moves. Every history is legal.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Generator
from typing import Any

from tests.checkers.calls import Did

MS = 10**6
Step = tuple[str, Any, Any]  # f, key, value
Script = Generator[Step | int, Did | None, None]
Effect = tuple[str, Any, dict[str, Any]]


class Server:
    """The service. `early`, `fenced` and such make it wrong or right; see `Sim`."""

    def __init__(self, rng: random.Random, *, fenced: bool, early: float) -> None:
        self.rng, self.fenced = rng, fenced
        self.rate = rng.uniform(0.96, 1.04) * early
        self.revision = 10
        self.leases: dict[str, tuple[int, int]] = {}  # id -> ttl and end, ns
        self.locks: dict[Any, tuple[str, int]] = {}
        self.attached: dict[Any, str] = {}
        self.values: dict[Any, tuple[Any, int]] = {}  # value, largest token
        self.count = 0

    def tick(self, now: int) -> None:
        """Notice what has run out; sometimes late, sometimes leadership moves and all begins anew."""
        if self.rng.random() < 0.02:
            self.leases = {i: (ttl, now + int(ttl * self.rate)) for i, (ttl, _) in self.leases.items()}
        for name, (_, end) in list(self.leases.items()):
            if end <= now and self.rng.random() < 0.8:
                self.drop(name)

    def drop(self, lease: str) -> None:
        self.leases.pop(lease, None)
        self.locks = {k: v for k, v in self.locks.items() if v[0] != lease}
        self.attached = {k: v for k, v in self.attached.items() if v != lease}

    def do(self, now: int, f: str, key: Any, value: Any) -> Effect:
        self.tick(now)
        match f:
            case "grant":
                self.count += 1
                name, ttl = f"L{self.count}", int(value * 1e9)
                self.leases[name] = (ttl, now + int(ttl * self.rate))
                return "ok", name, {"ttl_s": value, "lease": name}
            case "keepalive":
                if value not in self.leases:
                    return "fail", "lease not found", {}
                ttl = self.leases[value][0]
                self.leases[value] = (ttl, now + int(ttl * self.rate))
                return "ok", value, {"ttl_s": ttl / 1e9, "lease": value}
            case "release" | "revoke" | "resign":
                if value not in self.leases:
                    return "fail", "lease not found", {}
                self.drop(value)
                return "ok", value, {}
            case "acquire" | "campaign":
                if value not in self.leases or key in self.locks:
                    return "fail", "held", {}
                self.revision += 1
                self.locks[key] = (value, self.revision)
                return "ok", self.revision, {"token": self.revision, "lease": value}
            case "leader":
                return "ok", self.locks[key][1] if key in self.locks else None, {}
            case "attach":
                if value not in self.leases:
                    return "fail", "lease not found", {}
                self.attached[key] = value
                return "ok", value, {}
            case "write":
                _, largest = self.values.get(key, (None, 0))
                if self.fenced and value[1] < largest:
                    return "fail", "stale token", {}
                self.values[key] = (value[0], max(largest, value[1]))
                return "ok", value, {}
        if f == "read" and str(key).startswith("g"):
            return "ok", self.attached.get(key), {}
        return "ok", self.values.get(key, (None, 0))[0], {}


class Sim:
    """Clients against one server until `until` ns. `info` is the share of requests without an answer."""

    def __init__(self, seed: int, *, info: float, fenced: bool = True, early: float = 1.0) -> None:
        self.rng = random.Random(seed)
        self.server = Server(self.rng, fenced=fenced, early=early)
        self.info = info
        self.done: list[Did] = []
        self.heap: list[tuple[int, int, Callable[[int], None]]] = []
        self.count = self.values = self.processes = 0

    def at(self, time: int, what: Callable[[int], None]) -> None:
        self.count += 1
        heapq.heappush(self.heap, (time, self.count, what))

    def run(self, scripts: list[Callable[[], Script]], until: int) -> list[Did]:
        for script in scripts:
            self.client(script, self.rng.randrange(50 * MS))
        while self.heap and self.heap[0][0] < until:
            time, _, what = heapq.heappop(self.heap)
            what(time)
        return self.done

    def client(self, script: Callable[[], Script], begin: int) -> None:
        """A process works off the script; after an operation of unknown outcome another takes its place."""
        self.processes += 1
        process, steps = self.processes, script()

        def resume(answer: Did | None, now: int) -> None:
            try:
                step = steps.send(answer)
            except StopIteration:
                return
            if isinstance(step, int):
                self.at(now + step, lambda t: resume(None, t))
            else:
                self.ask(process, step, now, resume, lambda t: self.client(script, t))

        self.at(begin, lambda t: resume(None, t))

    def ask(
        self,
        process: int,
        step: Step,
        now: int,
        resume: Callable[[Did, int], None],
        replace: Callable[[int], None],
    ) -> None:
        f, key, value = step
        op = Did(f=f, begin=now, end=None, process=process, key=key, value=value, how="info")
        self.done.append(op)
        slow = 40 if self.rng.random() < 0.1 else 3
        there = now + self.rng.randrange(1, slow * MS)
        if self.rng.random() < self.info:
            give_up = now + 20 * MS
            if self.rng.random() < 0.5:
                self.at(there, lambda t: void(self.server.do(t, f, key, value)))
            if self.rng.random() < 0.9:
                op.end, op.error = give_up, "timeout"
            replace(give_up + 1 * MS)
            return

        def effect(time: int) -> None:
            how, result, ext = self.server.do(time, f, key, value)
            back = time + self.rng.randrange(1, slow * MS)

            def answer(t: int) -> None:
                op.end, op.how, op.ext = t, "ok" if how == "ok" else "fail", ext
                op.result, op.error = result, None if how == "ok" else result
                resume(op, t + 1)

            self.at(back, answer)

        self.at(there, effect)

    def fresh(self) -> int:
        self.values += 1
        return self.values


def void(_: Any) -> None:
    """What came of it nobody hears."""


def holder(sim: Sim, key: str, *, election: bool = False) -> Callable[[], Script]:
    """Takes the lock over and over, works, and sleeps too long at times."""
    rng = sim.rng
    take, give = ("campaign", "resign") if election else ("acquire", "release")

    def script() -> Script:
        while True:
            granted = yield ("grant", key, rng.choice([0.05, 0.1, 0.2]))
            assert granted is not None
            lease = granted.result
            for _ in range(20):
                got = yield (take, key, lease)
                assert got is not None
                if got.how == "ok":
                    break
                yield rng.randrange(1, 20 * MS)
                kept = yield ("keepalive", key, lease)
                if kept is not None and kept.how == "fail":
                    break
            else:
                continue
            for _ in range(rng.randrange(4)):
                if got.how != "ok":
                    break
                yield rng.randrange(1, 300 * MS if rng.random() < 0.15 else 5 * MS)
                if election:
                    yield ("leader", key, None)
                elif rng.random() < 0.5:
                    yield ("read", key, None)
                    yield rng.randrange(1, 10 * MS)
                    yield ("write", key, [sim.fresh(), got.result])
                else:
                    yield ("write", key, [sim.fresh(), got.result])
                if rng.random() < 0.3:
                    yield ("keepalive", key, lease)
            if rng.random() < 0.8:
                yield (give, key, lease)
            yield rng.randrange(1, 10 * MS)

    return script


def watcher(sim: Sim, key: str, f: str) -> Callable[[], Script]:
    """Asks now and then."""

    def script() -> Script:
        while True:
            yield sim.rng.randrange(1, 15 * MS)
            yield (f, key, None)

    return script


def lessee(sim: Sim, names: Callable[[], str], live: list[str]) -> Callable[[], Script]:
    """Attaches a fresh key to a fresh lease, keeps it for a while, and lets it run out or revokes it."""
    rng = sim.rng

    def script() -> Script:
        while True:
            key = names()
            granted = yield ("grant", key, rng.choice([0.05, 0.1]))
            assert granted is not None
            live.append(key)
            yield ("attach", key, granted.result)
            for _ in range(rng.randrange(5)):
                yield rng.randrange(1, 150 * MS if rng.random() < 0.2 else 30 * MS)
                yield ("keepalive", key, granted.result)
            if rng.random() < 0.5:
                yield ("revoke", key, granted.result)
            yield rng.randrange(1, 100 * MS)

    return script


def onlooker(sim: Sim, live: list[str]) -> Callable[[], Script]:
    """Reads one of the keys that came last."""

    def script() -> Script:
        while True:
            yield sim.rng.randrange(1, 8 * MS)
            if live:
                yield ("read", sim.rng.choice(live[-4:]), None)

    return script


def lock_history(seed: int, *, election: bool = False, fenced: bool = True, early: float = 1.0) -> list[Did]:
    """Some hundred operations of holders of two locks."""
    sim = Sim(seed, info=random.Random(seed).choice([0, 0.02, 0.1]), fenced=fenced, early=early)
    scripts = [holder(sim, f"x{i % 2}", election=election) for i in range(4)]
    scripts += [watcher(sim, "x0", "leader" if election else "read")]
    return sim.run(scripts, 500 * MS)


def lease_history(seed: int, *, early: float = 1.0) -> list[Did]:
    """Some hundred operations on leases and their keys."""
    sim = Sim(seed, info=random.Random(seed).choice([0, 0.02, 0.1]), early=early)
    live: list[str] = []
    count = iter(range(10**6))
    scripts = [lessee(sim, lambda: f"g{next(count)}", live) for _ in range(2)]
    scripts += [onlooker(sim, live) for _ in range(3)]
    return sim.run(scripts, 500 * MS)
