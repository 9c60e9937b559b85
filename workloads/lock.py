"""Workload `lock`: clients lock, read and write what the lock guards, and unlock; with fencing or without.

What it does: each client is granted a lease of `ttl_s` seconds and tries to acquire one of a few locks
with it. Whoever gets it (with a token that grows with every grant) reads the guarded value, writes a
new one that is unique in the run, holds on for `hold_s` seconds and releases the lock by revoking
the lease. Who is refused waits `retry_s` on average and tries again. With `fencing` (the default) the
write carries the token and the resource must refuse one that is not the newest; without, it takes
whatever comes. `pause_share` of the holders pause for `pause_s` seconds between reading and
writing, as a garbage collection would make them: beyond the TTL, they write without holding anything.

What it can show: a lock granted while an earlier lease certainly lives; without fencing, that critical
sections overlap although no lock was at fault (the positive control); a resource that accepts a
stale token. What it cannot: unfairness or starvation; a wrong grant in the time in which an
earlier lease may or may not have expired; what happens to locks that are held for ever.

The n-th attempt of a client (lock, value, pause, wait) is a function of the seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from harness.core.descriptor import Descriptor
from harness.core.generators import each_thread
from harness.core.options import Option
from harness.core.seeds import subseed
from harness.core.workload import Workload, WorkloadFactory
from workloads._holders import Course, Holder

LOCK: Final = Descriptor(
    name="lock",
    summary="leases, locks and a guarded value, with fencing tokens or without",
    target="workloads.lock:lock",
    needs=frozenset({"lease_grant", "lock_acquire", "lock_read", "lock_write_fenced", "lease_revoke"}),
    options=(
        Option(name="fencing", default=True, summary="whether the resource refuses tokens that are stale"),
        Option(name="locks", default=4, least=1, most=1000, summary="how many locks there are"),
        Option(name="ttl_s", default=2.0, least=0.1, most=3600, summary="of a lease, in seconds"),
        Option(
            name="hold_s", default=0.1, least=0, most=3600, summary="between write and release, in seconds"
        ),
        Option(
            name="retry_s",
            default=0.1,
            least=0.001,
            most=3600,
            summary="mean wait between attempts, in seconds",
        ),
        Option(
            name="pause_share",
            default=0.0,
            least=0,
            most=1,
            summary="of the holders that pause before they write",
        ),
        Option(name="pause_s", default=4.0, least=0, most=3600, summary="of such a pause, in seconds"),
    ),
)


def lock(options: Mapping[str, Any]) -> WorkloadFactory:
    """The workload with these options, still to be told threads and seed."""
    return partial(_lock, options)


def _lock(options: Mapping[str, Any], threads: int, seed: int) -> Workload:
    del threads  # each has a plan of its own
    fencing = bool(options["fencing"])
    course = Course(
        prefix="l",
        objects=options["locks"],
        take="acquire",
        inside=("read", "write"),
        let_go="release",
        ttl_s=options["ttl_s"],
        hold_s=options["hold_s"],
        retry_s=options["retry_s"],
        pause_share=options["pause_share"],
        pause_s=options["pause_s"],
    )
    calls = {
        "grant": "lease_grant",
        "acquire": "lock_acquire",
        "read": "lock_read",
        "write": "lock_write_fenced" if fencing else "lock_write",
        "release": "lease_revoke",
    }
    return Workload(
        name="lock",
        needs=frozenset(calls.values()),
        generator=each_thread(Holder(course, subseed(seed, "lock"))),
        checkers={"lock": ("lock", {"fencing": fencing})},
        key_ops=frozenset(calls),
        calls=calls,
    )
