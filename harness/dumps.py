"""What every node holds at one revision, written to `dump/NODE.json`, so that checkers can compare them.

Asked for when faults are over and each node has applied a last write, at the revision that this write
made. A node that cannot be asked, or does not answer, gets a file that says why: the lack of an answer
is not a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from harness.asking import ask_all
from harness.core.cluster import Cluster
from harness.core.system import Dump, System

_ASK_S: Final = 5.0  # for each request of a dump
_WAIT_S: Final = 20.0  # for the whole of it


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
