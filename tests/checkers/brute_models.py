"""Random small histories of every model, and the plainest judge of them: all orders, by `Model.step`."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from checkers.models import INCONSISTENT, Call, Model
from checkers.models.model import evidence, follow, started
from harness.core.history import identity
from tests.checkers.brute import Event

Outcome = tuple[Any, str, Any]  # the state after, "ok" or the error of a failure, the result


class Player:
    """An object that really behaves: `ask` draws an operation, `act` does it."""

    def __init__(
        self,
        initial: Any,
        ask: Callable[[random.Random, Any, int], tuple[str, Any]],
        act: Callable[[random.Random, Any, str, Any, int], Outcome],
    ) -> None:
        self.initial, self.ask, self.act = initial, ask, act


def history(rng: random.Random, player: Player, *, most: int = 14) -> list[Event]:
    """A history of one key; in about half of them some answers are bent."""
    clients = rng.randint(2, 5)
    count = rng.randint(4, most)
    info_share = rng.choice([0.0, 0.1, 0.25])
    overlap = rng.choice([0.4, 0.7, 0.9])
    state = player.initial
    events: list[Event] = []
    busy: dict[int, tuple[Event, list[Any]]] = {}  # process -> invocation, [outcome]
    fresh = iter(range(clients, 1000))
    free = list(range(clients))
    started_ops = 0

    def take_effect(process: int) -> None:
        nonlocal state
        e, outcome = busy[process]
        state, how, result = player.act(rng, state, e["f"], e["value"], process)
        outcome.append((how, result))

    while started_ops < count or busy:
        if free and started_ops < count and (rng.random() < overlap or not busy):
            process = free.pop(rng.randrange(len(free)))
            f, value = player.ask(rng, state, process)
            e = {"process": process, "type": "invoke", "f": f, "value": value}
            events.append(e)
            busy[process] = (e, [])
            started_ops += 1
            continue
        process = rng.choice(list(busy))
        e, outcome = busy[process]
        if not outcome and rng.random() < 0.6:
            take_effect(process)
            continue
        if rng.random() < info_share:
            if not outcome and rng.random() < 0.5:
                take_effect(process)
            del busy[process]
            if rng.random() < 0.5:
                events.append({**e, "type": "info", "error": "timeout"})
            free.append(next(fresh))
            continue
        if not outcome:
            take_effect(process)
        how, result = outcome[0]
        del busy[process]
        free.append(process)
        done = {**e, "type": "ok", "value": result} if how == "ok" else {**e, "type": "fail", "error": how}
        events.append(done)
    if rng.random() < 0.75:
        bend(rng, events)
    return events


def bend(rng: random.Random, events: list[Event]) -> None:
    """Change some answers to others that were in play, turn failures into successes and the reverse, and let
    some operations end sooner than they did."""
    for _ in range(rng.choice([1, 3, 6])):
        done = [n for n, e in enumerate(events) if e["type"] in ("ok", "fail")]
        if len(done) < 2:
            return
        n = rng.choice(done)
        e = events[n]
        others = [events[m]["value"] for m in done if events[m]["f"] == e["f"] and events[m]["type"] == "ok"]
        if not others:
            continue
        if rng.random() < 0.3:
            while n > 0 and events[n - 1]["process"] != e["process"] and rng.random() < 0.7:
                events[n - 1], events[n] = events[n], events[n - 1]
                n -= 1
        elif e["f"] == "txn" and e["type"] == "ok" and rng.random() < 0.7:
            bent_read(rng, events, n)
        elif e["type"] == "fail" and e["f"] not in ("txn", "push"):
            bent = {k: v for k, v in e.items() if k != "error"}
            events[n] = bent | {"type": "ok", "value": rng.choice(others)}
        elif e["type"] == "ok" and e["f"] == "txn":
            invoke = next(x for x in reversed(events[:n]) if x["process"] == e["process"])
            events[n] = {**invoke, "type": "fail", "error": "mismatch"}
        elif e["type"] == "ok" and e["f"] != "push":
            events[n] = {**e, "value": rng.choice(others)}


def bent_read(rng: random.Random, events: list[Event], n: int) -> None:
    """One read of a transaction sees a value that some other one had written."""
    steps = [list(step) for step in events[n]["value"]]
    reads = [step for step in steps if step[0] == "r"]
    if not reads:
        return
    step = rng.choice(reads)
    written = [
        s[-1] for e in events[:n] if e["f"] == "txn" for s in e["value"] if s[0] != "r" and s[1] == step[1]
    ]
    step[2] = rng.choice([None, *written])
    events[n] = {**events[n], "value": steps}


def linearizable(model: Model, events: list[Event], starts: list[Any] | None = None) -> bool:
    """Whether one key's events, in order of real time, have an order that fits. A completion of type `maybe`
    has an answer, and may have come at any time, or not at all."""
    calls: list[tuple[Call, int, int | None]] = []
    current: dict[Any, tuple[int, Event]] = {}
    for position, e in enumerate(events):
        if e["type"] == "invoke":
            current[e["process"]] = (position, e)
            continue
        begin, asked = current.pop(e["process"])
        if e["type"] == "fail" and not evidence(model, e["f"], e.get("error")):
            continue
        known, failed = e["type"] in ("ok", "maybe"), e["type"] == "fail"
        result = identity(e["value"]) if known else None
        call = Call(e["f"], identity(asked["value"]), result, known, e["process"], failed)
        calls.append((call, begin, position if e["type"] in ("ok", "fail") else None))
    for begin, e in current.values():
        calls.append((Call(e["f"], identity(e["value"]), None, False, e["process"]), begin, None))
    must = frozenset(n for n, (_, _, end) in enumerate(calls) if end is not None)
    stack: list[tuple[frozenset[int], Any]] = [(frozenset(), s) for s in starts or [started(model)]]
    seen: set[tuple[frozenset[int], Any]] = set()
    while stack:
        done, state = stack.pop()
        if must <= done:
            return True
        if (done, state) in seen:
            continue
        seen.add((done, state))
        first = min(calls[n][2] for n in must - done)  # type: ignore[type-var]
        for n, (call, begin, _) in enumerate(calls):
            if n in done or begin > first:  # type: ignore[operator]
                continue
            after = follow(model, state, call)
            if after is not INCONSISTENT:
                stack.append((done | {n}, after))
    return False


def _kv_ask(rng: random.Random, state: dict[str, int], process: int) -> tuple[str, Any]:
    if rng.random() < 0.1:
        return "read", None
    steps: list[list[Any]] = []
    for sub in rng.sample(["x", "y", "z"], rng.randint(1, 3)):
        kind = rng.random()
        new = rng.choice([None, 1, 2, 3, 4, True]) if rng.random() < 0.3 else rng.randint(10, 99)
        if kind < 0.5:
            steps.append(["r", sub, None])
        elif kind < 0.8:
            steps.append(["w", sub, new])
        else:
            steps.append(
                ["cas", sub, state.get(sub) if rng.random() < 0.7 else rng.choice([None, 1, 2]), new]
            )
    return "txn", steps


def _kv_act(rng: random.Random, state: dict[str, int], f: str, value: Any, process: int) -> Outcome:
    if f == "read":
        return state, "ok", dict(state)
    if any(s[0] == "cas" and identity(state.get(s[1])) != identity(s[2]) for s in value):
        return state, "mismatch" if rng.random() < 0.8 else "refused", None
    after = {**state, **{s[1]: s[-1] for s in value if s[0] != "r"}}
    answer = [["r", s[1], state.get(s[1])] if s[0] == "r" else s for s in value]
    return {k: v for k, v in after.items() if v is not None}, "ok", answer


def _lock_ask(rng: random.Random, state: Any, process: int) -> tuple[str, Any]:
    return ("release" if state[0] is not None and rng.random() < 0.6 else "acquire"), None


def _lock_act(owned: bool, fenced: bool) -> Callable[[random.Random, Any, str, Any, int], Outcome]:
    def act(rng: random.Random, state: Any, f: str, value: Any, process: int) -> Outcome:
        holder, token = state
        if f == "acquire":
            if holder is not None:
                return state, "held", None
            token += rng.randint(1, 3)
            return (process, token), "ok", token if fenced else None
        if holder is None or (owned and holder != process):
            return state, "not held", None
        return (None, token), "ok", None

    return act


def _stack_ask(rng: random.Random, state: Any, process: int) -> tuple[str, Any]:
    return rng.choice([("push", rng.randint(1, 3)), ("pop", None)])


def _stack_act(rng: random.Random, state: Any, f: str, value: Any, process: int) -> Outcome:
    if f == "push":
        return ((*state, value), "ok", value) if len(state) < 3 else (state, "full", None)
    return (state[:-1], "ok", state[-1]) if state else (state, "ok", None)


class Stack:
    """A stack of at most three; a `pop` of an empty one returns null."""

    name, summary, fs = "stack", "push and pop", frozenset({"push", "pop"})
    initial: tuple[Any, ...] = ()

    def step(self, state: Any, call: Call) -> Any:
        if call.f == "push":
            return (*state, call.value) if len(state) < 3 else INCONSISTENT
        top = state[-1] if state else None
        return state[:-1] if not call.known or top == call.result else INCONSISTENT


class Bag(Stack):
    """The same with a `pop` that may return any element: several ways from a state."""

    name, nondeterministic = "bag", True
    initial: Any = ((),)

    def step(self, state: Any, call: Call) -> Any:
        if call.f == "push":
            return [tuple(sorted((*state, call.value)))] if len(state) < 3 else []
        if not state:
            return [state] if not call.known or call.result is None else []
        ways = [(x, state[:n] + state[n + 1 :]) for n, x in enumerate(state)]
        return {rest for x, rest in ways if not call.known or x == call.result}


class WideStack(Stack):
    """A stack without a bottom that a table could have: it is searched in Python."""

    name, by_process = "wide-stack", True


PLAYERS: dict[str, Player] = {
    "kv": Player({}, _kv_ask, _kv_act),
    "mutex": Player((None, 0), _lock_ask, _lock_act(owned=False, fenced=False)),
    "owner-mutex": Player((None, 0), _lock_ask, _lock_act(owned=True, fenced=False)),
    "fenced-mutex": Player((None, 0), _lock_ask, _lock_act(owned=True, fenced=True)),
    "stack": Player((), _stack_ask, _stack_act),
    "bag": Player((), _stack_ask, _stack_act),
    "wide-stack": Player((), _stack_ask, _stack_act),
}
OWN: dict[str, Any] = {"stack": Stack(), "bag": Bag(), "wide-stack": WideStack()}
