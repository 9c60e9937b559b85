"""Plans of the workloads without states: what is asked, and that values say whose they are."""

from collections import Counter
from typing import Any

import pytest

from harness.core.op import Op, OpType
from tests.workloads.plans import answering, by_thread, completed, invoked, steps, workload


def test_set_adds_each_element_once_and_rotates() -> None:
    asked = invoked(steps("set", 2000, adds_per_set=50))
    elements = [e.value for e in asked if e.f == "add"]
    assert len(set(elements)) == len(elements)
    adds = Counter(e.key for e in asked if e.f == "add")
    live = {key for key, n in adds.items() if n < 50}
    assert len(live) <= 2, "two groups of five have a live set each"
    assert set(adds.values()) - {adds[key] for key in live} == {50}
    reads = sum(e.f == "read" for e in asked)
    assert 120 < reads < 280, "one operation in ten"


def test_counter_adds_one_to_three_and_retires_by_unknown_outcomes() -> None:
    asked = invoked(steps("counter", 1000))
    assert {e.value for e in asked if e.f == "add"} == {1, 2, 3}
    assert set(Counter(e.key for e in asked).values()) == {200, 100}
    vague = invoked(steps("counter", 200, answering(lambda _: TimeoutError())))
    assert max(Counter(e.key for e in vague).values()) <= 10 + 5, "ten infos, and what was under way"


def test_kv_names_each_key_once_a_transaction_and_writes_unique_values() -> None:
    asked = invoked(steps("kv", 3000, Map()))
    txns = [e for e in asked if e.f == "txn"]
    assert 0.7 < len(txns) / len(asked) < 0.8
    values: list[tuple[str, int]] = []
    for e in txns:
        subs = [micro[1] for micro in e.value]
        assert 1 <= len(subs) <= 3
        assert len(set(subs)) == len(subs)
        values += [micro[-1] for micro in e.value if micro[0] != "r"]
    assert len(set(values)) == len(values)
    kinds = Counter(micro[0] for e in txns for micro in e.value)
    assert set(kinds) == {"r", "w", "cas"}
    assert min(kinds.values()) > 300
    assert {len(e.value) for e in txns} == {1, 2, 3}


class Map:
    """A map that does what it is told, at once."""

    def __init__(self) -> None:
        self.maps: dict[Any, dict[str, Any]] = {}
        self.refused = 0

    def __call__(self, op: Op) -> tuple[int, OpType, Any]:
        held = self.maps.setdefault(op.key, {})
        if op.f == "read":
            return 1000, "ok", dict(held)
        if any(m[0] == "cas" and held.get(m[1]) != m[2] for m in op.value):
            self.refused += 1
            return 1000, "fail", op.value
        held.update({m[1]: m[-1] for m in op.value if m[0] != "r"})
        return 1000, "ok", [[*m[:2], held.get(m[1])] if m[0] == "r" else m for m in op.value]


def test_kv_expects_what_it_has_seen() -> None:
    state = Map()
    events = steps("kv", 2000, state, threads=1)
    assert state.refused == 0, "one client alone has always seen the latest"
    assert any(
        micro[0] == "cas" and micro[2] is not None
        for e in invoked(events)
        if e.f == "txn"
        for micro in e.value
    )
    crowd = Map()
    steps("kv", 2000, crowd)
    assert 0 < crowd.refused < 600


def watched(op: Op) -> Any:
    if op.f != "watch":
        return op.value
    start = op.value or 1
    return {"from": start, "events": [], "next": start + 7, "bookmark": start + 6}


def test_watch_resumes_where_the_same_client_left_off() -> None:
    events = steps("watch", 2000, answering(watched))
    resumed = again = 0
    for mine in by_thread(events).values():
        at: dict[Any, int] = {}
        for e in mine:
            if e.f != "watch":
                continue
            if e.type == "ok":
                at[e.key] = max(e.value["next"], at.get(e.key, 1))
            elif e.value is None:
                again += e.key in at
            else:
                assert e.value == at[e.key]
                resumed += 1
    assert resumed > 500
    assert 10 < again < 150


def test_watch_goes_on_where_it_was_after_a_failure() -> None:
    def every_third(op: Op) -> Any:
        return TimeoutError() if op.time % 3 == 0 else watched(op)

    events = steps("watch", 600, answering(every_third))
    for mine in by_thread(events).values():
        at: dict[Any, int] = {}
        for e in mine:
            if e.f == "watch" and e.type == "ok":
                at[e.key] = max(e.value["next"], at.get(e.key, 1))
            elif e.f == "watch" and e.type == "invoke" and e.value is not None:
                assert e.value == at[e.key]


def test_watch_puts_distinct_keys_with_unique_values_by_two_clients_in_five() -> None:
    asked = invoked(steps("watch", 2000, answering(watched)))
    puts = [e for e in asked if e.f == "put"]
    assert {int(e.process) % 10 for e in puts} == {0, 1, 5, 6}
    assert {len(e.value) for e in puts} == {1, 2, 3}
    assert all(len({sub for sub, _ in e.value}) == len(e.value) for e in puts)
    values = [value for e in puts for _, value in e.value]
    assert len(set(values)) == len(values)
    assert max(Counter(e.key for e in asked).values()) == 200


@pytest.mark.parametrize("threads", [1, 6])
def test_watch_does_both_however_few_there_are(threads: int) -> None:
    events = steps("watch", 400, answering(watched), threads=threads)
    for key in {e.key for e in invoked(events)}:
        assert {e.f for e in completed(events) if e.key == key} == {"put", "watch"}


def test_a_register_can_do_without_compare_and_set() -> None:
    made = workload("register", cas=False)
    assert made.needs == made.must_succeed == {"read", "write"}
    with_it, without = (
        [o for o in steps("register", 400, cas=cas) if o.type == "invoke"] for cas in (True, False)
    )
    assert {o.f for o in without} == {"read", "write"}
    assert [o.f == "read" for o in with_it] == [o.f == "read" for o in without]
    values = [o.value for o in without if o.f == "write"]
    assert len(set(values)) == len(values) > 150
