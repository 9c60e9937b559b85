"""Bad input to `splitbrain check`: exit 2, the line and the reason, never a verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from splitbrain.cli import execute


def event(index: int, kind: str, f: str, value: Any, process: Any = 0, **more: Any) -> dict[str, Any]:
    return {"index": index, "time": index, "process": process, "type": kind, "f": f, "value": value} | more


GOOD = [event(0, "invoke", "write", 1), event(1, "ok", "write", 1)]


@pytest.mark.parametrize(
    ("events", "flags", "line", "reason"),
    [
        ([*GOOD, event(2, "ok", "write", 1)], [], 3, 'completes "write" (ok) without an invocation'),
        ([*GOOD, event(2, "invoke", "read", None), event(3, "invoke", "read", None)], [], 4, "is open"),
        (
            [*GOOD, event(2, "invoke", "read", None), event(3, "ok", "write", 1)],
            [],
            4,
            "but had invoked read",
        ),
        ([*GOOD, event(2, "invoke", "cas", 7)], [], 3, "expected a pair [old, new]"),
        ([*GOOD, event(2, "invoke", "txn", 7)], ["--model", "kv"], 1, "expected one of read, txn"),
        ([event(0, "invoke", "txn", 7)], ["--model", "kv"], 1, "expected a list of steps"),
        ([*GOOD, event(2, "invoke", "pop", None)], [], 3, 'f is "pop"; expected one of cas, read, write'),
        ([*GOOD, event(2, "invoke", "read", None, time=0)], [], 3, "time 0 is before the line above (1)"),
        ([*GOOD, event(2, "begin", "read", None)], [], 3, "expected invoke, ok, fail or info"),
        ([*GOOD, event(2, "invoke", "read", None, process=1.5)], [], 3, "expected a whole number or a name"),
        ([*GOOD, {"index": 2}], [], 3, 'the field "time" is missing'),
    ],
)
def test_a_history_that_breaks_the_format_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    events: list[Any],
    flags: list[str],
    line: int,
    reason: str,
) -> None:
    path = tmp_path / "history.jsonl"
    path.write_text("".join(json.dumps(e) + "\n" for e in events))
    assert execute(["check", str(path), "--json", *flags]) == 2
    out = json.loads(capsys.readouterr().out)
    assert f"line {line}: " in out["error"]
    assert reason in out["error"]
    assert (out["verdict"], out["checks"]) == ("unknown", {})


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(GOOD[0])[:-9].encode(),
        b"\0" * (70 << 20),
        b"x" * (70 << 20),
        b'{"index":0' * (7 << 20),
        b"\n",
    ],
    ids=["truncated", "zeros", "letters", "half objects", "an empty line"],
)
def test_noise_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    path = tmp_path / "history.jsonl"
    path.write_bytes(content)
    assert execute(["check", str(path), "--json"]) == 2
    assert "line 1: " in json.loads(capsys.readouterr().out)["error"]


def test_a_set_is_judged_by_its_own_checker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "history.jsonl"
    events = [event(0, "invoke", "add", 1), event(1, "ok", "add", 1), event(2, "invoke", "read", None)]
    for answer, verdict, code in (([1], "valid", 0), ([], "invalid", 1)):
        path.write_text("".join(json.dumps(e) + "\n" for e in [*events, event(3, "ok", "read", answer)]))
        assert execute(["check", str(path), "--model", "set", "--json"]) == code
        out = json.loads(capsys.readouterr().out)
        assert (out["verdict"], list(out["checks"])) == (verdict, ["set"])
    assert execute(["check", str(path), "--model", "sett", "--json"]) == 2
    assert "did you mean 'set'" in json.loads(capsys.readouterr().out)["error"]
    assert execute(["check", str(path), "--model", "set", "--witness", str(tmp_path / "w")]) == 2
