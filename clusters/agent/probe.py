"""Whether this host can hold a cluster: does once, in namespaces of its own, what the agent would do.

Started as `python -I -S probe.py`; prints one JSON object, capability -> reason why not, or null.
Everything it makes is gone when it ends.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # last: the standard library comes first

from clusters.agent import clocks, network
from clusters.means import cgroup, enclosure, kernel, loopdisk, namespaces, nfqueue, strace, userns
from clusters.means.nft import Blocks, Nft, find_program


def probe() -> dict[str, str | None]:
    """Capability -> None, or the reason why not and what to do."""
    loop = loopdisk.refusal()  # before we may have become root of a namespace of our own
    base = _enter()
    clock = base or clocks.why_not()  # while a child has a PID namespace to be in
    base = base or _make()
    found: dict[str, str | None] = dict.fromkeys(
        ("netns", "client-places", "signal", "restart", "descriptor-limit"), base
    )
    found["block"] = base or _block()
    found["shape"] = base or nfqueue.why_not()
    found["cgroup"] = base or cgroup.hierarchy()[1]
    found |= {f"{c}-limit": base or cgroup.controlling(c)[1] for c in cgroup.CONTROLLERS}
    found["users"] = base or userns.lonely()
    found["clock"] = base or clock
    found["at-rest"] = base
    found["loop-disk"] = base or loop
    found["trace"] = base or strace.refusal()
    return found


def _enter() -> str | None:
    if find_program("ip") is None:
        return "the command ip is missing; install iproute2"
    if not userns.privileged():
        refused = enclosure.rehearse()
        if refused is not None:
            bare = "root has no rights of root in this container, and " if os.geteuid() == 0 else ""
            return bare + userns.refusal(refused, userns.settings())
        userns.enter()
    return None


def _make() -> str | None:
    try:
        kernel.unshare(kernel.CLONE_NEWNET | kernel.CLONE_NEWNS | kernel.CLONE_NEWUTS | kernel.CLONE_NEWPID)
    except OSError as e:
        return f"this host does not let root make namespaces ({e}); a container needs --privileged"
    here = namespaces.current()
    try:
        # by a child in the old PID namespace no more: pids are those of the new one, so no netns PATH
        network.batch(["link add name probe type bridge", "link add name left type veth peer name right"])
    except OSError as e:
        return f"bridge or veth interfaces cannot be made ({e}); load the kernel modules bridge and veth"
    finally:
        os.close(here)
    return None


def _block() -> str | None:
    try:
        Blocks(Nft())
    except OSError as e:
        return str(e)
    return None


if __name__ == "__main__":
    json.dump(probe(), sys.stdout)
