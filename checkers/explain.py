"""Sentences about violations, for someone who has never read a paper.

Pure: from one line of the engine about a violating key to plain words. What an operation asked and
got, who did it where and when, what it should have met instead, and why nothing can excuse it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

Operation = Mapping[str, Any]
_shown: Final = 60  # characters of a value in a sentence


def explain(found: Mapping[str, Any]) -> str:
    """Why the key's operations fit no order, from the engine's line about it."""
    window: Sequence[Operation] = found["window"]
    by_invoke = {o["invoke"]: o for o in window}
    culprit = by_invoke.get(found["culprit"])
    evidence = by_invoke.get(found.get("evidence"))
    source = by_invoke.get(found.get("source"))
    clock = Clock(window)
    key = found["key"]
    if culprit is None:
        return f"{_of(key)} no order of its operations fits what they answered"
    kind = found["kind"]
    if kind == "stale-read" and evidence is not None:
        return _stale(key, culprit, evidence, clock)
    if kind == "read-before-write" and source is not None:
        return (
            f"{_met(key, culprit, clock)}, but nothing had put {_saw(culprit)} there yet:"
            f" {who(source)} {_verb(source)} it only from {clock(source['start_ns'])} on"
        )
    if kind == "never-written":
        return f"{_met(key, culprit, clock)}, but nothing ever wrote {_saw(culprit)}"
    if kind == "impossible-mismatch":
        old = text(culprit["value"][0])
        what = f"{_asked(key, culprit)} failed at {clock(culprit['end_ns'])} because the value was not {old}"
        if evidence is None:
            return f"{what}, but it had been {old} from the start and nothing changed it"
        return f"{what}, but {_shown_by(evidence, clock)} and nothing changed it after that"
    return _no_order(found, key, culprit, clock)


class Clock:
    """Times in seconds with as few decimals, two at least, as keep those of a window apart."""

    def __init__(self, window: Sequence[Operation]) -> None:
        stamps = {t for o in window for t in (o["start_ns"], o["end_ns"]) if t is not None}
        for self.digits in (2, 3, 6, 9):
            if len({self(t) for t in stamps}) == len(stamps):
                break

    def __call__(self, ns: int) -> str:
        whole, rest = divmod(ns, 10**9)
        return f"{whole}.{f'{rest:09d}'[: self.digits]} s"


def _stale(key: Any, read: Operation, evidence: Operation, clock: Clock) -> str:
    seen = _saw(read)
    if evidence["type"] == "fail":
        by = clock(evidence["end_ns"])
        return (
            f"{_met(key, read, clock)}, but a compare-and-set had found another value than {seen} by {by}"
            f" and nothing wrote {seen} again"
        )
    return (
        f"{_met(key, read, clock)}, but {_shown_by(evidence, clock)} and nothing wrote {seen} again;"
        f" it should have seen {text(_left(evidence))} or a value that replaced it"
    )


def _no_order(found: Mapping[str, Any], key: Any, culprit: Operation, clock: Clock) -> str:
    window, assumed = found["window"], found["assumed"]
    more = len(assumed) + found.get("more_assumed", 0)
    pending = f"{count(more, 'operation')} still open or of unknown outcome"
    open_ones = f", wherever the {pending} may have taken effect" if more else ""
    if len(window) == 1:
        return f"{_did(key, culprit, clock)}, which nothing in this history allows{open_ones}"
    if found["proven"]:
        return (
            f"{_did(key, culprit, clock)}, but no order of it and the {count(len(window) - 1, 'operation')}"
            f" around it in the window fits what they answered{open_ones}"
        )
    last = "; without this last one there is an order" if found["shortest"] else ""
    first = f"the first {found['prefix']} completed operations on this key"
    return (
        f"{_did(key, culprit, clock)}, but no order of {first}"
        f" fits what they answered{last}{open_ones}."
        f" The window shows the last {count(len(window), 'operation')} of them, which need not be a"
        " counterexample by themselves"
    )


def _met(key: Any, o: Operation, clock: Clock) -> str:
    if o["f"] == "cas":
        return f"{_asked(key, o)} succeeded at {clock(o['end_ns'])}, so it met {_saw(o)}"
    return f"{_asked(key, o)} returned {_saw(o)} at {clock(o['end_ns'])}"


def _did(key: Any, o: Operation, clock: Clock) -> str:
    if o["f"] == "read":
        return _met(key, o, clock)
    outcome = "failed for a mismatch" if o["type"] == "fail" else "succeeded"
    token = f" with token {text(o['result'])}" if o["f"] == "acquire" and o["result"] is not None else ""
    return f"{_asked(key, o)} {outcome}{token} at {clock(o['end_ns'])}"


def _asked(key: Any, o: Operation) -> str:
    where = f" on {o['node']}" if o["node"] is not None else ""
    of = "" if key is None else f" of {text(key, bare=True)}"
    what = ""
    if o["f"] == "cas":
        what = f" from {text(o['value'][0])} to {text(o['value'][1])}"
    elif o["f"] == "write":
        what = f" of {text(o['value'])}"
        of = "" if key is None else f" to {text(key, bare=True)}"
    elif o["f"] == "txn":
        what = f" ({_steps(o)})"
    if o["f"] == "write":
        return f"write{what}{of} by process {o['process']}{where}"
    return f"{o['f']}{of}{what} by process {o['process']}{where}"


def _steps(o: Operation) -> str:
    """What a transaction did, with what its reads saw where that is known."""
    told = []
    for kind, entry, *values in o["result"] if o["type"] == "ok" and o["result"] else o["value"]:
        name = text(entry, bare=True)
        if kind == "r":
            told.append(f"{name} read as {text(values[0])}" if o["type"] == "ok" else f"read {name}")
        elif kind == "w":
            told.append(f"{name} set to {text(values[0])}")
        else:
            told.append(f"{name} from {text(values[0])} to {text(values[1])}")
    return ", ".join(told) or "nothing"


def _shown_by(o: Operation, clock: Clock) -> str:
    value = text(_left(o))
    if o["f"] == "read":
        return f"{value} had been read by {clock(o['end_ns'])}"
    return f"{value} had been written and acknowledged by {clock(o['end_ns'])}"


def who(o: Operation) -> str:
    """`process 7 on n2`."""
    return f"process {o['process']}" + (f" on {o['node']}" if o["node"] is not None else "")


def _verb(o: Operation) -> str:
    return "set" if o["f"] == "cas" else "wrote"


def _saw(o: Operation) -> str:
    return text(o["value"][0] if o["f"] == "cas" else o["result"])


def _left(o: Operation) -> Any:
    return {"read": o["result"], "write": o["value"]}.get(o["f"], o["value"][1] if o["f"] == "cas" else None)


def _of(key: Any) -> str:
    return "" if key is None else f"of {text(key, bare=True)}:"


def count(n: int, what: str) -> str:
    """`1 read`, `2 reads`."""
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def text(value: Any, *, bare: bool = False) -> str:
    """A JSON value for a sentence, cut short; `bare`: a text without its quotes."""
    if bare and isinstance(value, str):
        return value
    whole = msgspec.json.encode(value).decode()
    return whole if len(whole) <= _shown else f"{whole[:_shown]}..."
