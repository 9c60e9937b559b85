"""Until when a lease is certainly alive, by the harness's clock alone.

A server that acknowledged a grant, or a keep-alive, gave the lease a time to live *after* that was
invoked: it cannot have run out before that moment plus the ttl that the server returned. Clocks may
drift, so the ttl is reduced by a share of it. An acknowledged keep-alive counts whenever it came: one
that took effect before the moment in question had prolonged the lease by then; one that took effect
later met a lease that was still there, and a lease that is gone never comes back.

A release (or revoke) may take effect at any time from its invocation on; one that ended `fail` had no effect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from checkers._operations_of import NEVER, Call
from harness.core.history import FAIL, OK, identity

if TYPE_CHECKING:
    from harness.core.history import History


class Lease(msgspec.Struct):
    """What the history says of one lease. Positions of events, times in ns.

    `until` is the time before which it has certainly not run out, by the answer to the operation at
    `by` (-1: nobody knows). `released` is where the first release that may have had an effect was
    invoked, `left` the first of any outcome, `revoked` where the first acknowledged one completed. After
    `latest` no acknowledgement, however late, would let it live on; `ttl` is the longest one granted.
    """

    until: int = -1
    by: int = -1
    released: int = NEVER
    left: int = NEVER
    revoked: int = NEVER
    revoke_at: int = -1
    latest: int = -1
    ttl: int = 0


class Leases:
    """All leases of a history, by id. `drift` is the share by which clocks may differ."""

    def __init__(self, drift: float) -> None:
        self._drift = drift
        self._of: dict[Any, Lease] = {}
        self.without_ttl = 0  # acknowledged ones whose answer had no usable ttl: they prove nothing

    def __len__(self) -> int:
        return len(self._of)

    def get(self, lease: Any) -> Lease:
        """The lease of that id; one of which nothing is known for an id never heard of."""
        name = identity(lease)
        if name not in self._of:
            self._of[name] = Lease()
        return self._of[name]

    def granted(self, call: Call, *, kept: bool = False) -> None:
        """Take in a grant, or a keep-alive (`kept`, which alone names its lease when it is not answered)."""
        if call.how != OK:
            if kept and call.how != FAIL:
                lease = self.get(call.value)
                lease.latest = max(lease.latest, call.end)
            return
        lease = self.get(call.result)
        given = call.ext.get("ttl_s")
        if isinstance(given, bool) or not isinstance(given, int | float) or given <= 0:
            self.without_ttl += 1
            lease.latest = NEVER
            return
        ttl = int(given * 1e9)
        lease.ttl, lease.latest = max(lease.ttl, ttl), max(lease.latest, call.end)
        until = call.begin + int(ttl * (1 - self._drift))
        if until > lease.until:
            lease.until, lease.by = until, call.at

    def released(self, call: Call) -> None:
        """Take in a release or a revoke."""
        lease = self.get(call.value)
        lease.left = min(lease.left, call.at)
        if call.how != FAIL:
            lease.released = min(lease.released, call.at)
        if call.how == OK and call.done < lease.revoked:
            lease.revoked, lease.revoke_at = call.done, call.at


def certain_end(history: History, lease: Lease) -> int:
    """The position of the first event at which `lease` may be gone; before it, it certainly is not."""
    if lease.until < 0:
        return -1
    return min(int(np.searchsorted(history.time, lease.until, side="left")), lease.released)
