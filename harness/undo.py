"""The primitives that a plan's undo is made of: few, named, with plain arguments, idempotent.

    unblock(fault)                     lift what the fault blocked
    unshape(fault)                     take away what the fault did to packets
    signal(node, signal, pid, start)   to that very process, if it still is the one
    start(node, after_s)               start what does not run on the node, so much later than the step before
    unlimit(fault)                     lift the limits of processors, memory or descriptors that the fault set
    unloop(fault)                      let be what the fault kills again and again
    unshift(fault, node)               give the node's processes the clocks back that the fault changed
    mount(node)                        have the node's disk where it belongs
    mend(node)                         have writes to the node's disk succeed
    untrace(fault, node)               let go of the processes that the fault holds there
    members(nodes)                     have members on these nodes and no others; goes on by itself
    version(nodes, version)            have these nodes run this version, one after the other

The controller works them off after each fault and once more, from the ledger, before the final
reads. All of them act on the nodes alone: where nodes ended with their run, so did what is to be
undone, and `heal`, which makes sure of the former, has nothing else to do.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from harness.core.cluster import Cluster
from harness.core.errors import InfrastructureError, SplitbrainError
from harness.core.fault import Undo

PRIMITIVES: Final[dict[str, Callable[..., Any]]] = {
    "unblock": lambda cluster, fault: cluster.network.unblock(fault),
    "unshape": lambda cluster, fault: cluster.network.unshape(fault),
    "signal": lambda cluster, node, signal, pid=None, start=None: cluster.process.signal(
        node, signal, pid=pid, start=start
    ),
    "start": lambda cluster, node, after_s=0.0: _start(cluster, node, after_s),
    "unlimit": lambda cluster, fault: cluster.limits.unlimit(fault),
    "unloop": lambda cluster, fault: cluster.process.unloop(fault),
    "unshift": lambda cluster, fault, node: cluster.clock.unshift(fault, node),
    "mount": lambda cluster, node: cluster.disk.mount(node),
    "mend": lambda cluster, node: cluster.disk.mend(node),
    "untrace": lambda cluster, fault, node: cluster.tracer.untrace(fault, node),
    "members": lambda cluster, nodes: cluster.members.want(nodes, 0.0),
    "version": lambda cluster, nodes, version: cluster.programs.run(nodes, version),
}


def _start(cluster: Cluster, node: str, after_s: float) -> None:
    time.sleep(after_s)
    cluster.process.start(node)


def _flush(cluster: Cluster, node: str) -> None:
    """A disk that takes no writes just then keeps nobody from being started."""
    with contextlib.suppress(SplitbrainError, OSError):
        cluster.disk.flush([node])


def work_off(cluster: Cluster, steps: Iterable[Undo], *, flush: bool = False) -> None:
    """Take every step, whatever becomes of the others.

    `flush`: a process that is started finds what was written before it, synced or not, on the disk.

    Raises: InfrastructureError that names each step that could not be taken.
    """
    problems = []
    for step in steps:
        primitive = PRIMITIVES.get(step.do)
        if primitive is None:
            problems.append(f"{step.do}: no such primitive; known are {', '.join(PRIMITIVES)}")
            continue
        try:
            if flush and step.do == "start":
                _flush(cluster, step.args["node"])
            primitive(cluster, **step.args)
        except (SplitbrainError, OSError, TypeError) as e:
            problems.append(f"{step.do} {step.args}: {e}")
    if problems:
        raise InfrastructureError(f"could not undo {'; '.join(problems)}")
