"""Final reads are asked for again, by new operations, where nobody has answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runs.commands import lines, run_altered

pytestmark = pytest.mark.netns

# The first round of final reads is refused through every node, the second one through all but n2.
REFUSED = """
from harness.core.errors import Definite
from harness.scheduler import _Connection
real = _Connection.call
asked = {}
def call(self, op):
    if op.ext and op.ext.get("final"):
        turn = asked[op.key, op.node] = asked.get((op.key, op.node), 0) + 1
        if turn == 1 or op.node != "n2":
            raise Definite("planted")
    return real(self, op)
_Connection.call = call
"""


def test_a_key_that_nobody_answered_for_is_read_again(tmp_path: Path) -> None:
    done = run_altered(
        REFUSED, tmp_path, "--workload", "set", "--faults", "none", "--time", "1s", "--seed", "1"
    )
    (run_dir,) = (tmp_path / "runs").glob("*/*-*")
    reads = [o for o in lines(run_dir / "history.jsonl") if o.get("ext", {}).get("final")]
    keys = {o["key"] for o in reads}
    for key in keys:
        asked = [o["node"] for o in reads if o["key"] == key and o["type"] == "invoke"]
        assert sorted(asked) == ["n1", "n1", "n2", "n2", "n3", "n3"]
        assert [o["node"] for o in reads if o["key"] == key and o["type"] == "ok"] == ["n2"]
    assert keys
    assert done.results["checks"]["set"]["verdict"] == "valid"
