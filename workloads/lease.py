"""Workload `lease`: keys that live as long as their lease is kept alive, and must not go earlier.

What it does: each client is granted a lease of `ttl_s` seconds, attaches a key to it, and keeps it alive
every third of the TTL for a while (up to twice the TTL, drawn). In between it reads its own key, or that of
the next client, which mostly comes from another node. Then it lets go: half of the leases are revoked,
the others left to expire and the key read until it is gone. No key is ever used twice.

What it can show: a key that is gone before the last acknowledged grant or keep-alive has run out by
the harness's own clock; one that is there after a revocation was acknowledged. What it cannot: a
lease that lives too long, which systems reserve the right to (a new leader extends them); what
happens to keys whose client never came back to look.

The course of the n-th lease of a client is a function of the seed; what its reads and keep-alives
find is the system's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from harness.core.descriptor import Descriptor
from harness.core.generator import Answer, Context, Generator, Pending
from harness.core.generators import NS
from harness.core.op import Op
from harness.core.options import Option
from harness.core.seeds import draw, subseed
from harness.core.workload import Workload, WorkloadFactory

LEASE: Final = Descriptor(
    name="lease",
    summary="keys that must not vanish while their lease is kept alive",
    target="workloads.lease:lease",
    needs=frozenset({"lease_grant", "lease_attach", "lease_keepalive", "lease_read", "lease_revoke"}),
    options=(
        Option(name="ttl_s", default=2.0, least=0.1, most=3600, summary="of a lease, in seconds"),
        Option(
            name="look_s", default=0.1, least=0.001, most=3600, summary="mean time between reads, in seconds"
        ),
    ),
)

_KEPT: Final = 3  # keep-alives a TTL
_GIVEN_UP: Final = 4  # TTLs after which nobody waits any longer for a key to go


class Lease(Struct, frozen=True, gc=False):
    """A client's `n`-th lease. Times in ns: `until` is when it does its next step, `kept` when it last asked for
    the lease or its keep-alive and was told yes, `attached` since when there is a key to read (0: none)."""

    n: int = 0
    until: int = 0
    id: Any = None
    attached: int = 0
    kept: int = 0
    steps: int = 0
    done: bool = False  # the client has let go of it, by revoking it


class Leases(Struct, frozen=True, gc=False):
    """All clients' leases: who reads looks at others', too. `asked` is when each one's operation began."""

    seed: int
    ttl_s: float
    look_s: float
    leases: tuple[Lease, ...]
    asked: tuple[int, ...]

    def next(self, ctx: Context) -> Answer:
        lease = self.leases[ctx.thread]
        if ctx.time < lease.until:
            return Pending(lease.until, event=False), self
        key = self._key(ctx.thread)
        if lease.id is None:
            return Op(-1, -1, -1, "invoke", "grant", self.ttl_s, key), self
        if not lease.attached:
            return Op(-1, -1, -1, "invoke", "attach", lease.id, key), self
        ttl = round(self.ttl_s * NS)
        number = draw(self.seed, lease.n * len(self.leases) + ctx.thread)
        held = ctx.time < lease.attached + (2 * ttl * (number & 1023) >> 10)
        if held and ctx.time >= lease.kept + ttl // _KEPT:
            return Op(-1, -1, -1, "invoke", "keepalive", lease.id, key), self
        if not held and not lease.done and number & 1024:
            return Op(-1, -1, -1, "invoke", "revoke", lease.id, key), self
        beside = (ctx.thread + 1) % len(self.leases)
        if held and lease.steps & 1 and self.leases[beside].attached:
            key = self._key(beside)
        return Op(-1, -1, -1, "invoke", "read", None, key), self

    def update(self, ctx: Context, event: Op) -> Generator:
        thread = ctx.thread
        if event.type == "invoke":
            asked = (*self.asked[:thread], event.time, *self.asked[thread + 1 :])
            return replace(self, asked=asked)
        after = self._after(self.leases[thread], thread, event)
        return replace(self, leases=(*self.leases[:thread], after, *self.leases[thread + 1 :]))

    def _after(self, lease: Lease, thread: int, event: Op) -> Lease:
        """The lease once its client's operation has come to its end."""
        good, now, ttl = event.type == "ok", event.time, round(self.ttl_s * NS)
        rest = self._rest(lease, thread)
        anew = Lease(lease.n + 1, now + rest)
        lease = replace(lease, steps=lease.steps + 1, until=now + rest)
        match event.f:
            case "grant":
                return replace(lease, id=event.value, kept=self.asked[thread], until=now) if good else anew
            case "attach":
                return replace(lease, attached=now) if good else anew
            case "keepalive" if good:
                return replace(lease, kept=self.asked[thread], until=now)
            case "keepalive":
                return anew if event.type == "fail" and now >= lease.kept + ttl else lease
            case "revoke":
                return replace(lease, done=True, until=now) if good else anew
            case _:
                gone = good and event.value is None and event.key == self._key(thread)
                waited = now >= lease.kept + _GIVEN_UP * ttl
                return anew if lease.done or gone or waited else lease

    def _rest(self, lease: Lease, thread: int) -> int:
        """The wait before the next step, 0 to twice `look_s`, in ns."""
        stream = self.seed + lease.n * len(self.leases) + thread + 1
        return 1 + draw(stream, lease.steps) % round(2 * self.look_s * NS)

    def _key(self, thread: int) -> str:
        return f"g{self.leases[thread].n * len(self.leases) + thread}"


def lease(options: Mapping[str, Any]) -> WorkloadFactory:
    """The workload with these options, still to be told threads and seed."""
    return partial(_lease, options)


def _lease(options: Mapping[str, Any], threads: int, seed: int) -> Workload:
    plan = Leases(
        subseed(seed, "lease"), options["ttl_s"], options["look_s"], (Lease(),) * threads, (0,) * threads
    )
    calls = {
        "grant": "lease_grant",
        "attach": "lease_attach",
        "keepalive": "lease_keepalive",
        "read": "lease_read",
        "revoke": "lease_revoke",
    }
    return Workload(
        name="lease",
        needs=LEASE.needs,
        generator=plan,
        checkers={"lease": ("lease", {})},
        key_ops=frozenset(calls),
        final_read=None,  # most are long gone by then, as they should be
        calls=calls,
    )
