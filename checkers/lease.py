"""Does a key that hangs on a lease stay until the lease has run out, and go when it is revoked?

Each key is attached to one lease. What is decided, from the harness's clock and the servers' answers:

`vanished-early`: a read misses the key although it was asked for after the key was certainly attached,
    and answered before the invocation of an acknowledged grant or keep-alive plus the ttl that the
    server returned, reduced by the assumed drift, and nobody had asked to revoke the lease by then. A keep-alive
    that was acknowledged only afterwards counts as well; `_leases` says why.
`after-revoke`: a read sees the key although it was asked for after a revoke had been acknowledged.
`revived`: a read sees the key, asked for after another one had certainly missed it: what is gone stays gone.
`never-attached`: a read returns a lease that nobody attached, or not yet when it was answered.

A key seen long after its lease should have run out is an observation (`immortal`): systems prolong
leases when leadership moves (etcd does), and none promises how soon an expired one is noticed.
Not decided: leases whose answer told no ttl, keys that several leases were attached to, and how long a
lease lives whose key nobody reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from checkers._findings import Findings
from checkers._leases import Lease, Leases
from checkers._operations_of import NEVER, Call, calls
from checkers.explain import Clock
from harness.core.checker import CheckContext, Result
from harness.core.descriptor import Descriptor
from harness.core.history import FAIL, INFO, OK, identity
from harness.core.options import Option

_words: Final = ("grant", "attach", "keepalive", "read", "revoke")
LEASE: Final = Descriptor(
    name="lease",
    summary="a key on a lease stays until the lease has run out, and not longer than until it is revoked",
    target="checkers.lease:LeaseChecker",
    options=(
        Option(name="drift", default=0.05, least=0.0, most=0.99, summary="share by which clocks may differ"),
        Option(
            name="grace_s",
            default=2.0,
            least=0.0,
            most=3600.0,
            summary="how long after its end a lease may be seen before that is noted, in seconds",
        ),
    ),
)


class _Key(msgspec.Struct):
    """What happened to one key; reads and attachments in the order of their invocations."""

    key: Any
    attaches: list[Call] = []
    reads: list[Call] = []


class LeaseChecker:
    """The checker; see the options of `LEASE`."""

    name = "lease"

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        given = options or {}
        o = {x.name: x.parse(given[x.name]) if x.name in given else x.default for x in LEASE.options}
        self._drift, self._grace_ns = float(o["drift"] or 0), int(float(o["grace_s"] or 0) * 1e9)

    def check(self, ctx: CheckContext) -> Result:
        history = ctx.history()
        leases, keys = Leases(self._drift), dict[Any, _Key]()
        for call in calls(history, _words):
            if call.f in ("grant", "keepalive"):
                leases.granted(call, kept=call.f == "keepalive")
            elif call.f == "revoke":
                leases.released(call)
            elif call.how != FAIL and (call.f == "attach" or call.how == OK):
                name = identity(call.key)
                if name not in keys:
                    keys[name] = _Key(call.key)
                (keys[name].attaches if call.f == "attach" else keys[name].reads).append(call)
        found = Findings(history)
        several = judged = 0
        for k in keys.values():
            attached = {identity(c.value) for c in k.attaches}
            _never_attached(k, found)
            if len(attached) != 1:
                several += len(attached) > 1
                continue
            lease = leases.get(k.attaches[0].value)
            judged += self._judge(k, lease, found)
            _revived(k, found)
        detail: dict[str, Any] = {
            "leases": len(leases),
            "keys": len(keys),
            "reads": sum(len(k.reads) for k in keys.values()),
            "reads_while_alive": judged,
            "leases_without_ttl": leases.without_ttl,
            "keys_with_several_leases": several,
            "drift": self._drift,
        }
        if not len(leases) and not keys:
            reason = "the history holds no operation on a lease, so there is nothing to decide"
            return found.result(reason, detail, "unknown")
        reason = f"no key of {len(keys)} was gone while its lease was certainly alive ({judged} reads then)"
        return found.result(reason, detail)

    def _judge(self, k: _Key, lease: Lease, found: Findings) -> int:
        """Judge the reads of a key; how many of them had to see it."""
        since, shown_by = _attached(k)
        alive = 0
        for read in k.reads:
            had_to = since < read.at and read.end < lease.until and read.done < lease.released
            alive += had_to
            if read.result is None:
                if had_to:
                    positions = (*shown_by, lease.by, read.at)
                    found.violation(
                        "vanished-early", k.key, positions, _vanished, read, lease.until, self._drift
                    )
                continue
            if lease.revoked < read.at:
                revoked = (lease.revoke_at, read.at)
                found.violation("after-revoke", k.key, revoked, _after_revoke, read)
            # Its life may begin anew at the last moment at which a grant or keep-alive can have taken effect.
            last = lease.latest + int(lease.ttl * (1 + self._drift))
            if lease.ttl and lease.latest < NEVER and read.begin > last + self._grace_ns:
                found.observation("immortal", (read.at,), _immortal, read, (read.begin - last) / 1e9)
        return alive


def _attached(k: _Key) -> tuple[int, tuple[int, ...]]:
    """The position by which the key was certainly attached, and the operations that show it: an attach
    that was acknowledged, or any attach together with a read that saw what it did."""
    acknowledged = [(c.done, (c.at,)) for c in k.attaches if c.how == OK]
    seen = [(c.done, (k.attaches[0].at, c.at)) for c in k.reads if c.result is not None]
    return min([*acknowledged, *seen], key=lambda x: x[0], default=(NEVER, ()))


def _revived(k: _Key, found: Findings) -> None:
    """Reads that see the key after one has missed it, when no attach was left to bring it (back)."""
    if any(c.how == INFO for c in k.attaches) or not k.attaches:
        return
    since = max(c.done for c in k.attaches)
    missed: Call | None = None  # the one that completed first
    for c in k.reads:
        if c.result is None and c.at > since and (missed is None or c.done < missed.done):
            missed = c
        elif c.result is not None and missed is not None and missed.done < c.at:
            found.violation("revived", k.key, (k.attaches[-1].at, missed.at, c.at), _comes_back, missed, c)


def _never_attached(k: _Key, found: Findings) -> None:
    asked: dict[Any, int] = {}
    for c in k.attaches:
        asked.setdefault(identity(c.value), c.at)
    for c in k.reads:
        if c.result is not None and asked.get(identity(c.result), NEVER) > c.done:
            found.violation("never-attached", k.key, (c.at,), _phantom, c)


def _vanished(clock: Clock, read: Call, until: int, drift: float) -> str:
    return (
        f"{_saw(clock, read)}, but the server had given its lease a time to live that, even shortened by"
        f" {drift:.0%} for clocks that differ, lasts until {clock(until)}, and nobody had asked to revoke it"
    )


def _after_revoke(clock: Clock, read: Call) -> str:
    return (
        f"{_saw(clock, read)}, asked for at {clock(read.begin)}, after the lease's revocation had been"
        " acknowledged"
    )


def _comes_back(clock: Clock, missed: Call, read: Call) -> str:
    return (
        f"{_saw(clock, read)}, but the key was gone at {clock(missed.end)}, when process {missed.process} missed"
        " it, and nothing attached it again"
    )


def _phantom(clock: Clock, read: Call) -> str:
    return f"{_saw(clock, read)}, a lease that nobody had asked to attach to it by then"


def _immortal(clock: Clock, read: Call, late_s: float) -> str:
    return f"{_saw(clock, read)}, {late_s:.1f} s after its lease should have run out at the latest"


def _saw(clock: Clock, read: Call) -> str:
    what = "the key" if read.key is None else read.key
    seen = "was gone" if read.result is None else f"was there with lease {read.result}"
    return f"{what} {seen} for process {read.process} at {clock(read.end)}"
