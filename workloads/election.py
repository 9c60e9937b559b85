"""Workload `election`: clients campaign, and one of them leads at a time.

What it does: each client is granted a lease of `ttl_s` seconds and campaigns in one of a few elections
with it. Whoever wins (with a token that grows with every term of office) asks who leads, stays for
`hold_s` seconds, and resigns by revoking the lease. Who is refused asks who leads, waits `retry_s` on
average and campaigns again. At the end every election is looked at through every node.

What it can show: two clients elected at once, while the lease of the first certainly lives. What it
cannot: leaders of the system itself and their terms (the check `terms` takes those from logs and
events, whatever the workload); a leader who does not know yet that its lease has expired, which is
legal; who ought to have won.

The n-th attempt of a client (election, wait) is a function of the seed.
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

ELECTION: Final = Descriptor(
    name="election",
    summary="clients campaign by leases; one leads at a time",
    target="workloads.election:election",
    needs=frozenset({"lease_grant", "election_campaign", "election_leader", "lease_revoke"}),
    options=(
        Option(name="elections", default=2, least=1, most=1000, summary="how many there are"),
        Option(name="ttl_s", default=2.0, least=0.1, most=3600, summary="of a lease, in seconds"),
        Option(name="hold_s", default=0.2, least=0, most=3600, summary="a term of office, in seconds"),
        Option(
            name="retry_s",
            default=0.1,
            least=0.001,
            most=3600,
            summary="mean wait between attempts, in seconds",
        ),
    ),
)


def election(options: Mapping[str, Any]) -> WorkloadFactory:
    """The workload with these options, still to be told threads and seed."""
    return partial(_election, options)


def _election(options: Mapping[str, Any], threads: int, seed: int) -> Workload:
    del threads  # each has a plan of its own
    course = Course(
        prefix="e",
        objects=options["elections"],
        take="campaign",
        inside=("leader",),
        let_go="resign",
        refused="leader",
        ttl_s=options["ttl_s"],
        hold_s=options["hold_s"],
        retry_s=options["retry_s"],
    )
    calls = {
        "grant": "lease_grant",
        "campaign": "election_campaign",
        "leader": "election_leader",
        "resign": "lease_revoke",
    }
    return Workload(
        name="election",
        needs=ELECTION.needs,
        generator=each_thread(Holder(course, subseed(seed, "election"))),
        checkers={"lock": ("lock", {"acquire": "campaign", "release": "resign"})},
        key_ops=frozenset(calls),
        final_read="leader",
        calls=calls,
    )
