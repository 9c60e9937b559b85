"""The scheduler, with real threads and clients that misbehave."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from harness.core import generators as g
from harness.core.cluster import Node, Place
from harness.core.errors import Definite, Indeterminate, InfrastructureError, Mismatch
from harness.core.generator import Context, Generator, op
from harness.core.history import History, read_history
from harness.core.op import Op, Reply
from harness.journal import Journal, merge
from harness.scheduler import Scheduler, Seat

nodes = [Node(f"n{i}", "127.0.0.1") for i in (1, 2, 3)]


class Register:
    """A correct register in memory; `trouble` says what else happens, by value."""

    lock = threading.Lock()
    opened: list[str]

    def __init__(self, state: dict[str, Any] | None = None, trouble: Mapping[Any, Exception] | None = None):
        self.state = {} if state is None else state
        self.trouble = trouble or {}
        self.opened = []
        self.closed = 0

    def open(
        self, node: Node, place: Place | None, options: Mapping[str, Any], timeout_s: float = 1.0
    ) -> Self:
        self.opened.append(node.name)
        if "open" in self.trouble:
            raise self.trouble["open"]
        return self

    def close(self) -> None:
        self.closed += 1

    def read(self, key: str) -> Any:
        with self.lock:
            return Reply(self.state.get(key), revision=len(self.state))

    def write(self, key: str, value: Any) -> None:
        if value in self.trouble:
            raise self.trouble[value]
        with self.lock:
            self.state[key] = value

    def cas(self, key: str, old: Any, new: Any) -> None:
        with self.lock:
            if self.state.get(key) != old:
                raise Mismatch
            self.state[key] = new


def run(
    tmp_path: Path, plan: Generator, client: Any, seats: int = 3, **more: Any
) -> tuple[History, Scheduler]:
    journal = Journal(tmp_path / "journal.jsonl", "test")
    where = [Seat(nodes[i % 3], None) for i in range(seats)]
    scheduler = Scheduler(journal=journal, generator=plan, seats=where, client=client, options={}, **more)
    scheduler.run()
    journal.end("done")
    merge(journal.path, tmp_path / "history.jsonl")
    return read_history(tmp_path / "history.jsonl"), scheduler


def writes(n: int) -> Generator:
    return g.limit(n, g.stream(lambda i: op("write", i, key="k")))


def test_every_operation_is_recorded_with_its_outcome(tmp_path: Path) -> None:
    from workloads.register import REGISTER, register

    plan = register({o.name: o.default for o in REGISTER.options})(10, 5).generator
    history, scheduler = run(tmp_path, g.limit(3000, plan), Register(), seats=10)
    assert history.invocations().size == 3000
    done = Counter((o.f, o.type) for o in history.ops if o.type != "invoke")
    assert done["read", "ok"] > 1000
    assert done["cas", "ok"] > 100
    assert {o.error for o in history.ops if o.type == "fail"} <= {"mismatch"}
    assert all(
        o.ext == {"revision": o.ext["revision"]}
        for o in history.ops
        if o.type == "ok" and o.f == "read" and o.ext
    )
    assert list(scheduler.keys) == list(history.by_key())


def test_an_operation_may_be_another_method_of_the_client(tmp_path: Path) -> None:
    client = Register({"k": 7})
    history, _ = run(tmp_path, g.ops(op("look", key="k")), client, calls={"look": "read"})
    assert [(e.type, e.f, e.value) for e in history.ops] == [("invoke", "look", None), ("ok", "look", 7)]


def test_info_retires_the_process_and_its_connection(tmp_path: Path) -> None:
    client = Register(trouble={2: Indeterminate("timeout"), 5: Definite("refused")})
    history, _ = run(tmp_path, writes(8), client, seats=1)
    assert [(o.process, o.type, o.error) for o in history.ops if o.type in ("info", "fail")] == [
        (0, "info", "timeout"),
        (1, "fail", "refused"),
    ]
    assert [o.process for o in history.ops if o.type == "invoke"] == [0, 0, 0, 1, 1, 1, 1, 1]
    assert len(client.opened) == 2
    assert client.closed == 2


def test_an_unknown_exception_is_info_and_a_hole(tmp_path: Path) -> None:
    client = Register(trouble={1: KeyError("kvs"), 3: KeyError("again")})
    history, scheduler = run(tmp_path, writes(5), client, seats=1)
    infos = [o.error for o in history.ops if o.type == "info"]
    assert infos == ["KeyError: 'kvs'", "KeyError: 'again'"]
    hole = scheduler.holes["KeyError"]
    assert hole.count == 2
    assert "self.trouble[value]" in hole.traceback


def test_a_connection_that_cannot_be_opened_is_a_definite_failure(tmp_path: Path) -> None:
    history, _ = run(
        tmp_path, writes(3), Register(trouble={"open": ConnectionRefusedError("refused")}), seats=1
    )
    assert {(o.type, o.error) for o in history.ops if o.type != "invoke"} == {("fail", "open: refused")}


def test_a_process_never_ties_with_itself(tmp_path: Path) -> None:
    history, _ = run(tmp_path, writes(5000), Register(), seats=4)
    last: dict[Any, int] = {}
    for o in history.ops:
        assert o.time > last.get(o.process, -1)
        last[o.process] = o.time


def test_a_rate_is_kept_by_idle_workers(tmp_path: Path) -> None:
    history, _ = run(tmp_path, g.time_limit(1, g.rate(200, writes(10_000))), Register(), seats=10)
    at = history.invocations()
    assert 150 <= at.size <= 200
    assert len({history.ops[i].process for i in at}) == 10


def test_threads_that_wait_for_an_event_are_woken(tmp_path: Path) -> None:
    plan = g.phases(writes(3), g.limit(1, g.stream(lambda _: op("read", key="k"))), writes(2))
    history, _ = run(tmp_path, plan, Register(), seats=4)
    assert [history.ops[i].f for i in history.invocations()] == ["write"] * 3 + ["read"] + ["write"] * 2


class Slow(Register):
    def write(self, key: str, value: Any) -> None:
        time.sleep(0.2)


def test_stop_lets_open_calls_end_and_begins_none(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", "test")
    scheduler = Scheduler(
        journal=journal,
        generator=writes(10_000),
        seats=[Seat(nodes[0], None)] * 3,
        client=Slow(),
        options={},
    )
    threading.Timer(0.3, scheduler.stop).start()
    scheduler.run()
    journal.end("done")
    merge(journal.path, tmp_path / "history.jsonl")
    history = read_history(tmp_path / "history.jsonl")
    assert 3 <= history.invocations().size <= 9
    assert all(history.completion(i) is not None for i in history.invocations())


def test_interrupted_ends_the_run(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", "test")
    scheduler = Scheduler(
        journal=journal, generator=writes(10**6), seats=[Seat(nodes[0], None)], client=Slow(), options={}
    )
    begin = time.monotonic()
    scheduler.run(lambda: time.monotonic() > begin + 0.2)
    assert scheduler.keys == {"k": None}


class Broken:
    """A generator with a bug."""

    def next(self, ctx: Context) -> Any:
        raise ValueError("a bug in the plan")

    def update(self, ctx: Context, event: Op) -> Any:
        return self


def test_a_generators_bug_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="ValueError: a bug in the plan"):
        run(tmp_path, Broken(), Register())


class Doomed(Journal):
    """A disk that fills up after 50 lines."""

    left = 50

    def append(self, lines: bytes) -> None:
        self.left -= 1
        if self.left < 0:
            raise InfrastructureError("no space left on device")
        super().append(lines)


def test_no_call_is_made_that_could_not_be_journaled(tmp_path: Path) -> None:
    journal = Doomed(tmp_path / "journal.jsonl", "test")
    client = Register()
    made: list[Any] = []
    client.write = lambda key, value: made.append(value)  # type: ignore[method-assign]
    scheduler = Scheduler(
        journal=journal, generator=writes(10_000), seats=[Seat(nodes[0], None)] * 4, client=client, options={}
    )
    with pytest.raises(InfrastructureError, match="no space left"):
        scheduler.run()
    recorded = {o for o in (tmp_path / "journal.jsonl").read_text().splitlines() if '"invoke"' in o}
    assert len(made) == len(recorded)


class Counted:
    """Counts how often a plan is asked."""

    asked = 0

    def __init__(self, inner: Generator) -> None:
        self.inner = inner

    def next(self, ctx: Context) -> Any:
        Counted.asked += 1
        answer = self.inner.next(ctx)
        return None if answer is None else (answer[0], Counted(answer[1]))

    def update(self, ctx: Context, event: Op) -> Generator:
        return Counted(self.inner.update(ctx, event))


def test_clients_that_wait_for_the_same_moment_sleep_until_it(tmp_path: Path) -> None:
    history, _ = run(tmp_path, Counted(g.limit(5, g.rate(10, writes(10)))), Register(), seats=10)
    assert history.invocations().size == 5
    assert Counted.asked < 500, "they woke one another over and over"
