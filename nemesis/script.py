"""Scripts: what happens when, written down by a person in a spec's `[[schedule]]`.

    [[schedule]]                       # pause two nodes after 3 s, kill a third, let all go on
    at = "3s"
    do = "pause n1, n2; wait 2s; kill n3; wait 4s; resume"

    [[schedule]]                       # cut off whoever becomes leader, for 5 s, once
    when = { leader = "any" }          # or { log = "regex", node = "n1" }, or { ops = 500 }
    fault = "partition:leader"
    hold = "5s"

A condition is watched from the moment on at which the entry before it has begun. `at` counts from the
beginning of the load, `after` from the entry before (1 s where neither is said) or, with `when`, from the
moment at which that came true; an entry that only says `after` goes with the one before it. A fault
without `hold` stays until the load is over. In `do`, actions follow each other by 1 s or what `wait`
says; `resume` heals everything that the entry, and those that it goes with, have in force;
`resume pause` or `resume pause n1` only that. A target is a kind or names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from harness.core.errors import UsageError, unknown_name
from nemesis.families import Family
from nemesis.schedule import QUIET_S, Step

KEYS: Final = ("at", "after", "when", "fault", "target", "hold", "do")
_GAP_S: Final = 1.0
_conditions: Final = {"leader": str, "log": str, "ops": int}


class _Here(msgspec.Struct, frozen=True):
    """Where the reader has come to: an entry, and the clock that it goes by."""

    entry: int
    group: int
    when: dict[str, Any] | None
    since: _Open | None


class _Open(msgspec.Struct):
    """A fault that is in force at the place that the reader has come to; `until` once that is known."""

    at_s: float
    family: str
    target: str
    group: int
    when: dict[str, Any] | None
    since: _Open | None = None
    until: float | None = None


def normalized(entries: Any, seconds: Callable[[Any], float]) -> list[dict[str, Any]]:
    """The entries with all times in seconds, as `words` and `script` take them.

    Raises: UsageError for what is no list of tables, a key nobody knows, a time that is none, an entry
    that says both or neither of `fault` and `do`, or a condition that is none.
    """
    if not isinstance(entries, list) or not all(isinstance(e, Mapping) for e in entries):
        raise UsageError(f"schedule = {entries!r}: expected [[schedule]] entries, each a table")
    out = []
    for number, entry in enumerate(entries, 1):
        where = f"schedule entry {number}"
        for key in entry:
            if key not in KEYS:
                raise UsageError(f"{where}: {unknown_name('key', key, KEYS)}")
        plain = dict(entry)
        for key in ("at", "after", "hold"):
            if key in plain:
                plain[key] = seconds(plain[key])
                if plain[key] < 0:
                    raise UsageError(f"{where}: {key} = {entry[key]!r}: expected no less than 0s")
        if ("fault" in plain) == ("do" in plain):
            raise UsageError(f"{where}: expected either fault or do")
        if "do" in plain and {"target", "hold"} & plain.keys():
            raise UsageError(f"{where}: target and hold go with fault; in do, write them as actions")
        if "at" in plain and {"after", "when"} & plain.keys():
            raise UsageError(f"{where}: at counts from the load's beginning; leave out after and when, or at")
        for key in ("fault", "target", "do"):
            if key in plain and not (isinstance(plain[key], str) and plain[key].strip()):
                raise UsageError(f"{where}: {key} = {plain[key]!r}: expected text")
        if "when" in plain:
            plain["when"] = _condition(where, plain["when"])
        out.append(plain)
    return out


def words(entries: Sequence[Mapping[str, Any]], known: Callable[[str], Any]) -> list[str]:
    """The faults that a script names, each once, as `family` or `family:target`.

    `known` raises for a family that there is not.
    """
    found: dict[str, None] = {}
    for number, entry in enumerate(entries, 1):
        for family, target in _named(number, entry):
            known(family)
            found[f"{family}:{target}" if target else family] = None
    return list(found)


def script(
    entries: Sequence[Mapping[str, Any]],
    families: Mapping[str, Family],
    time_s: float,
    seconds: Callable[[Any], float],
) -> tuple[Step, ...]:
    """The steps of a script.

    Raises: UsageError for an action nobody knows, a `resume` of nothing, and a fault that would begin
    when the load is over.
    """
    end = max(time_s - QUIET_S, time_s * 0.8)
    found: list[_Open] = []
    cursor, group, when = 0.0, 0, None
    since: _Open | None = None  # the last fault before the entry with the condition
    for number, entry in enumerate(entries, 1):
        if "when" in entry:
            group, when, cursor = number, dict(entry["when"]), float(entry.get("after", 0.0))
            since = found[-1] if found else None
        elif "at" in entry:
            group, when, cursor = 0, None, float(entry["at"])
        else:
            cursor += float(entry.get("after", _GAP_S))
        here = _Here(number, group, when, since if group else None)
        if "fault" in entry:
            ((family, target),) = _named(number, entry)
            one = _begin(here, family, target, cursor, families, end if when is None else None)
            one.until = cursor + entry["hold"] if "hold" in entry else None
            found.append(one)
            continue
        waited = True
        for verb, rest in _actions(entry["do"]):
            if verb == "wait":
                cursor, waited = cursor + seconds(rest.strip()), True
                continue
            cursor += 0.0 if waited else _GAP_S
            waited = False
            if verb == "resume":
                _resume(here, rest, cursor, [o for o in found if o.group == group and o.until is None])
            else:
                target = _target(rest)
                found.append(_begin(here, verb, target, cursor, families, end if when is None else None))
    last = {0: end}
    order = sorted(found, key=lambda o: (o.group, o.at_s))
    return tuple(
        Step(
            n,
            round(o.at_s, 3),
            round(max(0.0, (last.get(o.group, o.at_s + time_s) if o.until is None else o.until) - o.at_s), 3),
            o.family,
            o.target,
            when=o.when,
            group=o.group,
            since=None if o.since is None else next(i for i, x in enumerate(order, 1) if x is o.since),
        )
        for n, o in enumerate(order, 1)
    )


def _begin(
    here: _Here,
    family: str,
    target: str,
    at_s: float,
    families: Mapping[str, Family],
    end: float | None,
) -> _Open:
    number = here.entry
    own = families[family]
    kind = target or (own.defaults[0] if own.defaults else "")
    problem = own.refusal(kind) if kind else "no kind of target here; name one"
    if problem:
        raise UsageError(f"schedule entry {number}, {family}: {problem}")
    if end is not None and at_s >= end:
        raise UsageError(
            f"schedule entry {number}: {family} would begin at {at_s:g} s, and all is healed at {end:g} s, before"
            " the load ends; begin sooner, or raise time"
        )
    return _Open(at_s, family, kind, here.group, here.when, here.since)


def _resume(here: _Here, rest: str, at_s: float, open_now: Sequence[_Open]) -> None:
    """End what `rest` names (a family, and a target), or everything."""
    family, _, target = rest.strip().partition(" ")
    ending = [
        o
        for o in open_now
        if (not family or o.family == family) and (not target.strip() or o.target == _target(target))
    ]
    if not ending:
        what = f"resume {rest.strip()}".strip()
        raise UsageError(
            f"schedule entry {here.entry}: {what!r} at {at_s:g} s: no such fault is in force then"
        )
    for one in ending:
        one.until = at_s


def _named(number: int, entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The families and targets of an entry, in order; an empty target where none is named."""
    if "do" in entry:
        found = [(v, _target(rest)) for v, rest in _actions(entry["do"]) if v not in ("wait", "resume")]
        if not found and "resume" not in entry["do"]:
            raise UsageError(f"schedule entry {number}: do = {entry['do']!r} does nothing; expected a fault")
        return found
    family, colon, target = entry["fault"].strip().partition(":")
    if colon and "target" in entry:
        raise UsageError(f"schedule entry {number}: the target is said twice; leave one of them out")
    return [(family, _target(target or entry.get("target", "")))]


def _actions(text: str) -> list[tuple[str, str]]:
    """(verb, rest) of `pause n1, n2; resume`; `heal` is another word for `resume`."""
    found = []
    for action in text.split(";"):
        if action.strip():
            verb, _, rest = action.strip().partition(" ")
            found.append(("resume" if verb == "heal" else verb, rest))
    return found


def _target(text: str) -> str:
    """`n1, n2` or `n1 n2` as the target `n1+n2`; a kind as it is."""
    return "+".join(filter(None, re.split(r"[\s,+]+", text.strip())))


def _condition(where: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise UsageError(f'{where}: when = {given!r}: expected a table such as {{ leader = "any" }}')
    kinds = [key for key in given if key in _conditions]
    for key in given:
        if key not in _conditions and key != "node":
            raise UsageError(f"{where}: when: {unknown_name('condition', key, _conditions)}")
    if len(kinds) != 1 or ("node" in given and kinds != ["log"]):
        raise UsageError(f"{where}: when = {dict(given)!r}: expected one of leader, ops, or log (with node)")
    kind = kinds[0]
    value = given[kind]
    if not isinstance(value, _conditions[kind]) or isinstance(value, bool) or value in ("", 0):
        wanted = "a number of operations" if kind == "ops" else "text"
        raise UsageError(f"{where}: when: {kind} = {value!r}: expected {wanted}")
    if kind == "log":
        try:
            re.compile(str(value))
        except re.error as e:
            raise UsageError(f"{where}: when: log = {value!r} is no regular expression: {e}") from None
    return dict(given)
