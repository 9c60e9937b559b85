"""Does a lock exclude, and does what it guards stay safe when it does not?

A lock that expires can be lost by a holder that does not know it yet, so three properties are kept apart.

(a) *Grants*: nobody is granted the lock while an earlier holder's lease is certainly alive
    (`double-grant`; see `_leases` for "certainly"), and every grant's token is larger than those of all
    grants that had completed before it was asked for (`token-order`), and nobody else's (`token-twice`).
(b) *Sections*: two holders are never at work at once, whatever their leases (`overlap`). From the grant's
    completion to the invocation of the release, or to what the holder last did to the guarded resource.
    No lock with a lease can promise that (Kleppmann 2016, "How to do distributed locking"): a violation
    only for `fencing=false`, where nothing else protects the resource, and an observation otherwise.
(c) *The resource*: no write with a token is accepted once one with a larger token certainly was
    (`stale-write`); nobody's read and write has an older holder's write between them (`lost-update`).
    The latter is an observation for a resource that learns of a token by the first write that carries it.
    One that asks the lock itself, in one step with the write (`guard=granted`), has no such excuse, and must
    refuse a token as soon as a larger one was granted.

The same serves elections, under other names of operations. There a read of who leads never returns an
older token than was known before it (`old-leader`), and none but the leader's own while that one's
lease is certainly alive (`other-leader`). All times are the harness's; an operation of unknown outcome accuses nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from checkers import _lock_resource as resource
from checkers._findings import Findings, most
from checkers._leases import Leases, certain_end
from checkers._operations_of import NEVER, Call, calls
from checkers.explain import Clock
from harness.core.checker import CheckContext, Result
from harness.core.descriptor import Descriptor
from harness.core.history import FAIL, OK, History, identity
from harness.core.options import Option

# What the history's operations mean. A workload that has other words for them says so in the checker's
# options (`acquire=campaign`); nobody else has to, so they are no options of the command line.
_roles: Final = ("grant", "keepalive", "acquire", "release", "read", "write", "leader")
LOCK: Final = Descriptor(
    name="lock",
    summary="nobody gets a lock that is certainly held, and what it guards takes no stale token",
    target="checkers.lock:Lock",
    options=(
        Option(
            name="fencing", default=True, summary="the guarded resource checks tokens, so holders may overlap"
        ),
        Option(
            name="guard",
            default="seen",
            choices=("seen", "granted"),
            summary="the tokens that a fenced resource knows: those of writes it took, or of all grants",
        ),
        Option(name="drift", default=0.05, least=0.0, most=0.99, summary="share by which clocks may differ"),
    ),
)


class Section(msgspec.Struct):
    """One grant of the lock to `lease`, and its holder's section: from position `start` to `end`."""

    acquire: Call
    token: int | None
    start: int
    end: int
    certain: int = -1  # the position before which its lease certainly lives
    proof: int = -1  # the grant or keep-alive that says so
    last: int = -1  # what ended the section: a release, or the last thing done in it

    @property
    def lease(self) -> Any:
        return identity(self.acquire.value)


class _Object(msgspec.Struct):
    """All that happened to one lock."""

    key: Any
    sections: list[Section] = []
    leaders: list[Call] = []
    guarded: resource.Guarded = msgspec.field(default_factory=resource.Guarded)


class Lock:
    """The checker; see the options of `LOCK`, and those words of `_roles` that a workload calls otherwise."""

    name = "lock"

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        given = options or {}
        o = {x.name: x.parse(given[x.name]) if x.name in given else x.default for x in LOCK.options}
        self._fencing = bool(o["fencing"])
        self._knows_grants = self._fencing and o["guard"] == "granted"
        self._drift = float(o["drift"] or 0.0)
        self._role = {str(given.get(role, role)): role for role in _roles}

    def check(self, ctx: CheckContext) -> Result:
        history = ctx.history()
        leases = Leases(self._drift)
        objects = self._read(history, leases)
        found = Findings(history)
        for o in objects:
            for s in o.sections:
                lease = leases.get(s.acquire.value)
                s.certain, s.proof = certain_end(history, lease), lease.by
                if lease.left < NEVER:
                    s.end, s.last = max(s.start, lease.left), lease.left
            _double_grants(o, found)
            _tokens(o, found)
            _overlaps(o, found, fencing=self._fencing)
            _leaders(o, found)
            grants = _as_writes(o) if self._knows_grants else []
            resource.check(o.key, o.guarded, grants, found, overlap_allowed=self._fencing)
        granted = sum(len(o.sections) for o in objects)
        detail: dict[str, Any] = {
            "locks": len(objects),
            "grants": granted,
            "leases": len(leases),
            "leases_without_ttl": leases.without_ttl,
            "grants_without_token": sum(s.token is None for o in objects for s in o.sections),
            "fencing": self._fencing,
            "drift": self._drift,
        }
        if not objects:
            reason = "the history holds no operation on a lock, so there is nothing to decide"
            return found.result(reason, detail, "unknown")
        many = f"{granted} grants of {len(objects)} locks"
        reason = f"{many}: none while an earlier one was certainly held, and no stale token was accepted"
        if overlaps := found.observed["overlap"]:
            times = "once" if overlaps == 1 else f"{overlaps} times"
            reason += f"; holders overlapped {times}, which fencing made harmless"
        return found.result(reason if granted else "the lock was never granted to anybody", detail)

    def _read(self, history: History, leases: Leases) -> list[_Object]:
        """The history by lock, with the holders' sections as far as their own operations show them."""
        objects: dict[Any, _Object] = {}
        holds: dict[int | str, Section] = {}  # by process: the section that it is in
        for call in calls(history, self._role):
            role = self._role[call.f]
            if role in ("grant", "keepalive"):
                leases.granted(call, kept=role == "keepalive")
                continue
            if role == "release":
                leases.released(call)
                holds.pop(call.process, None)
                continue
            name = identity(call.key)
            o = objects.setdefault(name, _Object(call.key))
            if role == "leader":
                o.leaders.append(call)
            elif role == "acquire":
                holds.pop(call.process, None)
                if call.how == OK:
                    token = call.result if type(call.result) is int else None
                    section = Section(call, token, call.done, call.done, last=call.at)
                    o.sections.append(section)
                    holds[call.process] = section
            else:
                section_of = holds.get(call.process)
                if call.final or (section_of is not None and section_of.acquire.key != call.key):
                    section_of = None  # final reads are the harness's, and another lock's are not of this one
                if section_of is not None:
                    # One of unknown outcome was certainly begun inside; nobody knows what came of its process.
                    reached = call.at if call.how not in (OK, FAIL) else call.done
                    section_of.end, section_of.last = reached, call.at
                o.guarded.take(role, call, None if section_of is None else section_of.acquire.at)
        return list(objects.values())


def _as_writes(o: _Object) -> list[resource.Write]:
    """The grants as what they tell a resource that asks the lock itself."""
    known = [(s.acquire, s.start, s.token) for s in o.sections if s.token is not None]
    return [
        resource.Write(c.at, start, token, None, c.begin, c.end, c.process, granted=True)
        for c, start, token in known
    ]


def _double_grants(o: _Object, found: Findings) -> None:
    """Whoever is granted the lock wholly inside the certain time of an earlier holder."""
    held = sorted(o.sections, key=lambda s: s.start)
    longest = most([s.certain for s in held])
    at = -1
    for b in o.sections:
        while at + 1 < len(held) and held[at + 1].start < b.acquire.at:
            at += 1
        if at < 0:
            continue
        a = held[longest[at]]
        if a.certain > b.start and a.lease != b.lease:
            found.violation(
                "double-grant", o.key, (a.proof, a.acquire.at, b.acquire.at), _double_grant, o.key, a, b
            )


def _double_grant(clock: Clock, key: Any, a: Section, b: Section) -> str:
    return (
        f"{_granted(clock, key, b)}, but process {a.acquire.process} held it since {clock(a.acquire.end)} with"
        f" lease {a.acquire.value}, which had not been given back and could not have run out by then, even"
        " if clocks differ as much as is assumed"
    )


def _tokens(o: _Object, found: Findings) -> None:
    """Tokens grow in the order of real time, and belong to one grant each."""
    with_token = [(s, s.token) for s in o.sections if s.token is not None]
    owner: dict[int, Section] = {}
    done = sorted(with_token, key=lambda x: x[0].start)
    largest = most([token for _, token in done])
    at = -1
    for s, token in with_token:
        first = owner.setdefault(token, s)
        if first.lease != s.lease:
            found.violation("token-twice", o.key, (first.acquire.at, s.acquire.at), _twice, o.key, first, s)
        while at + 1 < len(done) and done[at + 1][0].start < s.acquire.at:
            at += 1
        if at >= 0 and done[largest[at]][1] > token:
            a = done[largest[at]][0]
            found.violation("token-order", o.key, (a.acquire.at, s.acquire.at), _order, o.key, a, s)


def _twice(clock: Clock, key: Any, a: Section, b: Section) -> str:
    return (
        f"{_granted(clock, key, b)} with token {b.token}, which process {a.acquire.process} was given as well,"
        f" by {clock(a.acquire.end)}; with equal tokens the guarded resource cannot tell two holders apart"
    )


def _order(clock: Clock, key: Any, a: Section, b: Section) -> str:
    return (
        f"{_granted(clock, key, b)} with token {b.token}, but process {a.acquire.process} had been given the"
        f" larger {a.token} by {clock(a.acquire.end)}, before this one was asked for at"
        f" {clock(b.acquire.begin)}; what checks tokens shuts the new holder out"
    )


def _overlaps(o: _Object, found: Findings, *, fencing: bool) -> None:
    """Two holders between their grant and what they last did."""
    a: Section | None = None
    for b in sorted(o.sections, key=lambda s: s.start):
        if a is not None and a.end > b.start and a.lease != b.lease:
            positions = (a.acquire.at, b.acquire.at, a.last)
            if fencing:
                found.observation("overlap", positions, _overlap, o.key, a, b)
            else:
                found.violation("overlap", o.key, positions, _overlap, o.key, a, b)
        if a is None or b.end > a.end:
            a = b


def _overlap(clock: Clock, key: Any, a: Section, b: Section) -> str:
    return (
        f"{_granted(clock, key, b)} while process {a.acquire.process}, its holder since"
        f" {clock(a.acquire.end)}, was still in its critical section: both were at work at once"
    )


def _leaders(o: _Object, found: Findings) -> None:
    """What reads of the leader returned, against the tokens known before and the certain holders."""
    seen = [(s.start, s.token, s.acquire.at) for s in o.sections if s.token is not None]
    seen += [(c.done, c.result, c.at) for c in o.leaders if c.how == OK and type(c.result) is int]
    seen.sort()
    largest = most([token for _, token, _ in seen])
    held = sorted(o.sections, key=lambda s: s.start)
    longest = most([s.certain for s in held])
    own = {(s.lease, s.token) for s in o.sections}
    at = holder = -1
    for c in o.leaders:
        while at + 1 < len(seen) and seen[at + 1][0] < c.at:
            at += 1
        while holder + 1 < len(held) and held[holder + 1].start < c.at:
            holder += 1
        if c.how != OK or (c.result is not None and type(c.result) is not int):
            continue
        if c.result is not None and at >= 0 and seen[largest[at]][1] > c.result:
            _, token, source = seen[largest[at]]
            found.violation("old-leader", o.key, (source, c.at), _old_leader, c, token)
        elif holder >= 0:
            a = held[longest[holder]]
            if a.certain > c.done and a.token is not None and (a.lease, c.result) not in own:
                positions = (a.proof, a.acquire.at, c.at)
                found.violation("other-leader", o.key, positions, _other_leader, c, a)


def _old_leader(clock: Clock, c: Call, token: int) -> str:
    return (
        f"{_returned(clock, c)}, but the larger {token} was known before that was asked at"
        f" {clock(c.begin)}: whoever led earlier never leads again with the same token"
    )


def _other_leader(clock: Clock, c: Call, a: Section) -> str:
    return (
        f"{_returned(clock, c)}, but process {a.acquire.process} led with token {a.token} since"
        f" {clock(a.acquire.end)}, and its lease could not have run out by then"
    )


def _granted(clock: Clock, key: Any, s: Section) -> str:
    what = "the lock" if key is None else key
    return f"{what} was granted to process {s.acquire.process} at {clock(s.acquire.end)}"


def _returned(clock: Clock, c: Call) -> str:
    of = "" if c.key is None else f" of {c.key}"
    who = "nobody" if c.result is None else f"token {c.result}"
    return f"{c.f}{of} by process {c.process} returned {who} at {clock(c.end)}"
