"""Locks and elections, against a lock service of a few lines that keeps leases by virtual time."""

import itertools
from collections import Counter
from typing import Any

import pytest

from harness.core.op import Op
from tests.workloads.plans import answering, by_thread, completed, invoked, seconds

S = 1_000_000_000


class Service:
    """Leases that expire, and who holds what by them. With `fencing` a stale token is refused."""

    def __init__(self, *, fencing: bool = True) -> None:
        self.fencing = fencing
        self.ends: dict[str, int] = {}
        self.held: dict[Any, tuple[str, int]] = {}
        self.stale = 0

    def live(self, key: Any, now: int) -> tuple[str, int] | None:
        lease = self.held.get(key)
        return lease if lease and self.ends.get(lease[0], 0) > now else None

    def __call__(self, op: Op) -> Any:
        now = op.time
        match op.f:
            case "grant":
                lease = f"{op.process}@{now}"
                self.ends[lease] = now + round(op.value * S)
                return lease
            case "acquire" | "campaign":
                if self.live(op.key, now) or self.ends.get(op.value, 0) <= now:
                    return ValueError("held")
                self.held[op.key] = (op.value, now)
                return now
            case "write":
                holder = self.live(op.key, now)
                if holder is None or holder[1] != op.value[1]:
                    self.stale += 1
                    if self.fencing:
                        return ValueError("stale token")
                return op.value
            case "release" | "resign":
                return op.value if self.ends.pop(op.value, 0) > now else ValueError("lease not found")
        return None


COURSES = {
    "lock": ["grant", "acquire", "read", "write", "release"],
    "election": ["grant", "campaign", "leader", "resign"],
}


@pytest.mark.parametrize("name", COURSES)
def test_plenty_are_granted_and_plenty_refused(name: str) -> None:
    events = seconds(name, 20, answering(Service()))
    take = COURSES[name][1]
    assert len([e for e in completed(events) if e.f == take]) > 100
    assert len([e for e in completed(events, "fail") if e.f == take]) > 100
    assert {e.key for e in invoked(events)} == {f"{name[0]}0", f"{name[0]}1"}
    assert len({e.process for e in completed(events) if e.f == take}) == 10, "everybody has a turn"


@pytest.mark.parametrize("name", COURSES)
def test_each_client_keeps_to_the_course(name: str) -> None:
    course = COURSES[name]
    follows = {f: {g} for f, g in zip(course, [*course[1:], "grant"], strict=True)}
    for mine in by_thread(seconds(name, 20, answering(Service()))).values():
        lease = token = key = None
        before: Op | None = None
        for e in mine:
            if e.type == "invoke":
                if e.f in (course[1], course[-1]):
                    assert e.value == lease
                if e.f == "write":
                    assert e.value[1] == token
                if e.f != "grant":
                    assert e.key == key
                elif before is not None:
                    assert e.time > before.time or before.f in ("acquire", course[-1], "leader")
                if before is not None and before.type == "ok" and before.f != "leader":
                    assert e.f in follows[before.f]
                if before is not None and before.type == "fail" and before.f == course[1]:
                    assert e.f == ("leader" if name == "election" else "grant")
                key = e.key
                continue
            before = e
            lease = e.value if e.f == "grant" else lease
            token = e.value if e.f == course[1] else token


def test_values_are_unique_and_holders_hold() -> None:
    events = seconds("lock", 20, answering(Service()), hold_s=0.3)
    writes = [e.value[0] for e in invoked(events) if e.f == "write"]
    assert len(set(writes)) == len(writes) > 50
    for mine in by_thread(events).values():
        done = 0
        for e in mine:
            if e.f == "write" and e.type == "ok":
                done = e.time
            if e.f == "release" and e.type == "invoke":
                assert e.time >= done + 0.3 * S


def test_an_unknown_outcome_begins_anew_with_a_fresh_lease() -> None:
    def vague(op: Op) -> Any:
        return TimeoutError() if op.time % 5 == 0 else service(op)

    service = Service()
    infos = Counter[str]()
    for mine in by_thread(seconds("lock", 20, answering(vague))).values():
        for e, after in itertools.pairwise(mine):
            if e.type == "info":
                infos[e.f] += 1
                assert after.f == "grant"
    assert infos.total() > 20


def test_what_fails_inside_lets_go_at_once() -> None:
    service = Service()
    events = seconds("lock", 5, answering(lambda op: OSError() if op.f == "read" else service(op)))
    for mine in by_thread(events).values():
        for e, after in itertools.pairwise(mine):
            if e.f == "read" and e.type == "fail":
                assert after.f == "release"
    assert not any(e.f == "write" for e in events)
    assert sum(e.f == "release" for e in completed(events)) > 10


@pytest.mark.parametrize("fencing", [True, False])
def test_holders_that_pause_write_by_stale_tokens(fencing: bool) -> None:
    service = Service(fencing=fencing)
    events = seconds("lock", 20, answering(service), pause_share=0.3, pause_s=3.0, fencing=fencing)
    assert service.stale > 5
    refused = [e for e in completed(events, "fail") if e.f == "write"]
    assert len(refused) == (service.stale if fencing else 0)
    calm = Service()
    seconds("lock", 20, answering(calm))
    assert calm.stale == 0


def test_without_fencing_another_method_writes() -> None:
    from tests.workloads.plans import workload

    plain = workload("lock", fencing=False)
    assert "lock_write" in plain.needs
    assert "lock_write_fenced" not in plain.needs
    assert plain.calls["write"] == "lock_write"
    assert plain.checkers == {"lock": ("lock", {"fencing": False})}
