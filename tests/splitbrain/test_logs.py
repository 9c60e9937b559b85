"""What `splitbrain logs` prints of a run's directory."""

from pathlib import Path

import pytest

from harness.core.errors import UsageError
from splitbrain.logs import write_logs


def printed(run_dir: Path, name: str | None) -> str:
    blocks: list[bytes] = []
    write_logs(run_dir, name, blocks.append, follow=False)
    return b"".join(blocks).decode()


def test_where_each_host_has_an_agent_their_logs_are_told_apart_and_had_together(tmp_path: Path) -> None:
    (tmp_path / "logs" / "n1").mkdir(parents=True)
    (tmp_path / "logs" / "n1" / "etcd.log").write_text("serves\n")
    for name, text in (("agent-n1", "one\n"), ("agent-n2", "two\n"), ("controller", "well\n")):
        (tmp_path / "logs" / f"{name}.log").write_text(text)
    assert printed(tmp_path, "agent") == "agent-n1: one\nagent-n2: two\n"
    assert printed(tmp_path, "agent-n2") == "two\n"
    assert printed(tmp_path, "controller") == "well\n"
    assert printed(tmp_path, None) == "serves\n"
    with pytest.raises(UsageError, match=r"Known: agent, agent-n1, agent-n2, controller, n1"):
        printed(tmp_path, "sampler")
