"""What every workload keeps, whatever it does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.cluster import Node
from harness.core.generator import Context
from harness.core.op import Op
from harness.core.simulator import simulate
from harness.lifecycle import final_reads
from harness.scheduler import Seat
from splitbrain import registry
from tests.workloads.plans import answering, invoked, seconds, workload

NAMES = registry.names("workloads")
NODES = [Node(name=f"n{i}", address=f"192.0.2.{i}") for i in (1, 2, 3)]


def sensible(op: Op) -> object:
    """An answer of the right shape to whatever a workload may ask."""
    if op.f == "watch":
        return {"from": op.value or 1, "events": [], "next": (op.value or 1) + 3, "bookmark": None}
    if op.f in ("acquire", "campaign"):
        return op.time
    if op.f == "grant":
        return f"lease {op.time} {op.process}"
    if op.f == "read" and str(op.key).startswith("log"):
        return {"from": op.value or 1, "messages": [], "next": (op.value or 1) + 3}
    if op.f == "read" and str(op.key).startswith("m"):
        return {"a": 1}
    if op.f == "read" and str(op.key).startswith("g"):
        return "lease"
    return op.value


@pytest.mark.parametrize("name", NAMES)
def test_words_and_methods_fit(name: str) -> None:
    made, descriptor = workload(name), registry.describe("workloads", name)
    assert made.name == name
    assert made.needs == descriptor.needs, "the descriptor says what the defaults need"
    asked = {e.f for e in invoked(seconds(name, 20, answering(sensible)))}
    assert {made.calls.get(f, f) for f in asked} == made.needs
    assert made.key_ops == asked, "each has to succeed for a run to mean something, and each is asked"
    assert made.final_read is None or made.final_read in asked


@pytest.mark.parametrize("name", NAMES)
def test_final_reads_ask_for_every_key_through_every_node(name: str) -> None:
    made = workload(name)
    keys = list(dict.fromkeys(e.key for e in invoked(seconds(name, 5, answering(sensible)))))
    if made.final_read is None:
        return
    seats = [Seat(NODES[i % 3], None) for i in range(10)]
    asked = invoked(simulate(final_reads(made.final_read, keys, seats), 10))
    assert {e.value for e in asked} == {None}
    assert {e.f for e in asked} == {made.final_read}
    assert len(asked) == 3 * len(keys)


@pytest.mark.parametrize("name", NAMES)
def test_asking_twice_gives_the_same_answer(name: str) -> None:
    ctx = Context(5, 1, 1, 10, 1023)
    generator = workload(name).generator
    assert generator.next(ctx) == generator.next(ctx)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), threads=st.integers(1, 12))
def test_the_seed_decides(name: str, seed: int, threads: int) -> None:
    def run(of: int) -> list[Op]:
        return seconds(name, 1.5, answering(sensible), threads=threads, seed=of, per_s=100)

    first = run(seed)
    assert first == run(seed)
    assert len(invoked(first)) > 1
    if name not in ("noop", "unique-ids"):
        assert any(first != run(seed + other) for other in (1, 2, 3))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("outcome", [OSError(), TimeoutError()])
def test_nothing_hangs_or_hurries_where_everything_fails(name: str, outcome: Exception) -> None:
    events = invoked(seconds(name, 10, answering(lambda _: outcome)))
    assert {e.time // 1_000_000_000 for e in events} == set(range(10)), "it goes on trying"
    assert len(events) <= 2001


@pytest.mark.parametrize("name", ["election", "lease", "lock"])
def test_a_dead_node_does_not_eat_the_rate(name: str) -> None:
    """A third of the clients are refused at once; the others must get their share."""
    dead = answering(lambda op: OSError() if op.process % 3 == 0 else sensible(op))  # type: ignore[operator]  # clients' processes are numbers
    events = invoked(seconds(name, 10, dead, threads=9))
    refused = [e for e in events if int(e.process) % 3 == 0]
    assert len(refused) < len(events) / 3
