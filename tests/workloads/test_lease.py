"""Leases, against a service of a few lines that keeps them by virtual time."""

import itertools
from collections import Counter
from typing import Any

from harness.core.op import Op
from tests.workloads.plans import answering, by_thread, completed, invoked, seconds

S = 1_000_000_000
TTL = 2 * S


class Service:
    """Leases that expire, and the keys that go with them."""

    def __init__(self) -> None:
        self.ends: dict[str, int] = {}
        self.lease_of: dict[Any, str] = {}

    def __call__(self, op: Op) -> Any:
        live = isinstance(op.value, str) and self.ends.get(op.value, 0) > op.time
        match op.f:
            case "grant":
                self.ends[f"of {op.key}"] = op.time + round(op.value * S)
                return f"of {op.key}"
            case "read":
                lease = self.lease_of.get(op.key)
                return lease if lease and self.ends.get(lease, 0) > op.time else None
            case "attach" if live:
                self.lease_of[op.key] = op.value
            case "keepalive" if live:
                self.ends[op.value] = op.time + TTL
            case "revoke" if live:
                del self.ends[op.value]
            case _:
                return ValueError("lease not found")
        return op.value


def test_all_of_a_leases_life_is_seen() -> None:
    events = seconds("lease", 30, answering(Service()))
    done = Counter(e.f for e in completed(events))
    assert done["grant"] > 40
    assert done["attach"] == done["grant"]
    assert done["keepalive"] > done["grant"]
    assert 10 < done["revoke"] < done["grant"]
    reads = [e.value is None for e in completed(events) if e.f == "read"]
    assert 10 < sum(reads) < len(reads) / 2


def test_no_key_has_two_leases_and_others_look_at_it() -> None:
    events = seconds("lease", 30, answering(Service()))
    grants = [e.key for e in invoked(events) if e.f == "grant"]
    assert len(set(grants)) == len(grants)
    by = {e.key: e.process for e in invoked(events) if e.f == "grant"}
    apart = [e for e in invoked(events) if e.f == "read" and by[e.key] != e.process]
    assert len(apart) > 100


def test_a_lease_is_kept_well_before_its_end_and_then_let_go() -> None:
    service = Service()
    events = seconds("lease", 30, answering(service))
    assert [e for e in completed(events, "fail") if e.f == "keepalive"] == []
    ended = Counter[str]()
    for mine in by_thread(events).values():
        last: dict[Any, list[Op]] = {}
        for e in mine:
            if e.f in ("revoke", "keepalive", "grant"):
                last.setdefault(e.key, []).append(e)
        for history in last.values():
            ended["revoked" if history[-1].f == "revoke" else "expired"] += 1
    assert min(ended["revoked"], ended["expired"]) > 10


def test_lost_answers_begin_a_lease_anew_and_a_lost_keep_alive_does_not() -> None:
    service = Service()

    def vague(op: Op) -> Any:
        return TimeoutError() if op.f != "read" and op.time % 4 == 0 else service(op)

    events = seconds("lease", 30, answering(vague))
    anew = kept = 0
    for mine in by_thread(events).values():
        for e, after in itertools.pairwise(mine):
            if e.type == "info" and e.f in ("grant", "attach", "revoke"):
                assert after.f == "grant"
                assert after.key != e.key
                anew += 1
            if e.type == "info" and e.f == "keepalive":
                kept += after.f != "grant"
    assert anew > 5
    assert kept > 5


def test_a_key_that_went_early_is_left_behind() -> None:
    service = Service()
    events = seconds("lease", 5, answering(lambda op: None if op.f == "read" else service(op)))
    grants = sum(e.f == "grant" for e in invoked(events))
    assert grants > 50, "read once, gone, and the next"
