"""The last write that every node is to have applied, and what each holds at its revision.

What each holds goes to `dump/NODE.json`, so that checkers can compare them.

Asked for when faults are over and each node has applied a last write, at the revision that this write
made. A node that cannot be asked, or does not answer, gets a file that says why: the lack of an answer
is not a difference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from harness.asking import ask_all
from harness.core.cluster import Cluster
from harness.core.system import Dump, Status, System

CATCH_UP_S: Final = 10.0  # for a node to apply the barrier
_ASK_S: Final = 5.0  # for each request of a dump
_WAIT_S: Final = 20.0  # for the whole of it


def barrier(
    cluster: Cluster, system: System, names: Sequence[str], stopped: Callable[[], bool]
) -> tuple[int | None, list[str]]:
    """Commit a last write and wait, `CATCH_UP_S` at most, until each of the nodes `names` has applied it; its
    revision, None where there is none, and the names of those behind."""
    nodes = {n.name: n for n in cluster.nodes if n.name in names}
    if not nodes:
        return None, []
    first = next(iter(nodes.values()))
    answer = ask_all(cluster, [first.name], lambda _: system.barrier(first, 1.0), wait_s=3.0)[first.name]
    if isinstance(answer, Exception) or answer is None:
        return None, []
    behind = list(nodes)
    deadline = time.monotonic() + CATCH_UP_S
    while behind and time.monotonic() < deadline and not stopped():
        answers = ask_all(cluster, behind, lambda name: system.status(nodes[name], 0.5), wait_s=1.0)
        behind = [n for n, s in answers.items() if not _caught_up(s, answer)]
        if behind:
            time.sleep(0.05)
    return answer, behind


def _caught_up(status: Status | Exception, revision: int) -> bool:
    return isinstance(status, Status) and status.revision is not None and status.revision >= revision


def write_dumps(
    cluster: Cluster, system: System, revision: int, unfit: Mapping[str, str], folder: Path
) -> dict[str, str]:
    """Ask every node that is not `unfit` (name -> why) and write a file for each of all.

    Returns why, by name, for those that were asked and gave none. Writes nothing at all for a system
    that has no dumps.
    """
    nodes = {n.name: n for n in cluster.nodes}
    answers = ask_all(
        cluster,
        [name for name in nodes if name not in unfit],
        lambda name: system.dump(nodes[name], revision, _ASK_S),
        wait_s=_WAIT_S,
    )
    if None in answers.values():
        return {}
    folder.mkdir(exist_ok=True)
    failed: dict[str, str] = {}
    for name in nodes:
        answer = answers.get(name)
        body: dict[str, object] = {"format": 1, "node": name}
        if isinstance(answer, Dump):
            body |= msgspec.to_builtins(answer)
        else:
            if isinstance(answer, Exception):
                failed[name] = str(answer) or type(answer).__name__
            body["error"] = failed.get(name) or unfit[name]
        (folder / f"{name}.json").write_bytes(msgspec.json.encode(body) + b"\n")
    return failed
