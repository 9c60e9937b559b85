"""Keys checked while a run goes on: which are spent, that no prefix is accused, what is said at the end."""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.core.checker import Result
from harness.core.results import blank
from splitbrain.incremental import FILE, IDLE_S, Keys, Watch, judge, summary, verdicts, wanted, weigh
from tests.checkers.brute import history, linearizable

SECOND = 1_000_000_000
HEADER = {"format": 1, "run": "a1b2c3", "epoch_mono_ns": 0, "epoch_real_ns": 1}
OPTIONS = {"model": "cas-register", "time_s": 10.0, "key_time_s": 5.0, "memory_mb": 512}


def line(kind: str, process: Any = 0, key: Any = "k", time: int = 1, **more: Any) -> bytes:
    began = {} if kind == "invoke" else {"started": time}
    event = {"time": time, **began, "process": process, "type": kind, "f": "read", "value": None, "key": key}
    return msgspec.json.encode(event | more)


def keys(*lines: bytes, ops: int | None = None, infos: int | None = None) -> Keys:
    found = Keys(ops, infos)
    for raw in (msgspec.json.encode(HEADER), *lines):
        found.take(raw)
    return found


def test_a_key_is_spent_when_its_operations_are_and_none_is_open() -> None:
    k = keys(line("invoke", 1), line("ok", 1), line("invoke", 1), line("invoke", 2), line("ok", 1), ops=3)
    assert k.spent(1) == {}
    k.take(line("info", 2))
    ((name, (lines, last)),) = k.spent(1).items()
    assert (name, len(lines), last) == (b'"k"', 6, True)
    k.retire(name)
    k.take(line("invoke", 3))
    k.take(line("ok", 3))
    assert k.spent(100 * SECOND) == {}, "what comes late is for the check at the end"


def test_a_key_is_spent_when_its_unknown_outcomes_are() -> None:
    k = keys(line("invoke", 1), line("info", 1), line("invoke", 2), ops=100, infos=1)
    assert k.spent(1) == {}
    k.take(line("ok", 2))
    assert list(k.spent(1)) == [b'"k"']


def test_a_key_that_nobody_touches_is_checked_once_until_it_grows() -> None:
    k = keys(line("invoke", 1, time=SECOND), line("ok", 1, time=SECOND))
    assert k.spent(SECOND + 1) == {}
    later = SECOND + int(IDLE_S * SECOND) + 1
    ((_, (lines, last)),) = k.spent(later).items()
    assert (len(lines), last) == (2, False)
    assert k.spent(2 * later) == {}
    k.take(line("invoke", 1, time=2 * later))
    k.take(line("ok", 1, time=2 * later))
    ((_, (lines, _last)),) = k.spent(4 * later).items()
    assert len(lines) == 4


def test_the_nemesis_is_nobody_and_the_end_of_the_load_is_seen() -> None:
    nemesis = {"time": 1, "process": "nemesis", "type": "info", "f": "kill", "value": {}}
    k = keys(msgspec.json.encode({"phase": "load", "time": 1}), msgspec.json.encode(nemesis))
    assert (k.spent(100 * SECOND), k.over) == ({}, False)
    k.take(msgspec.json.encode({"phase": "heal", "time": 2}))
    assert k.over
    assert keys(msgspec.json.encode({"end": "error", "time": 2})).over


def journal(rng: random.Random, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The lines of a journal that would be merged into these events: invocations are written before they are
    stamped again, and completions come in late."""
    began: dict[Any, int] = {}
    lines = []
    for i, e in enumerate(events):
        now = (i + 1) * 1000
        if e["type"] == "invoke":
            began[e["process"]] = now
            lines.append({**e, "time": now - rng.randint(0, 999)})
        else:
            lines.append({**e, "time": now, "started": began.pop(e["process"])})
    for i in range(len(lines) - 1):
        one, other = lines[i], lines[i + 1]
        if one["type"] != "invoke" and one["process"] != other["process"] and rng.random() < 0.4:
            lines[i], lines[i + 1] = other, one
    return lines


def timed_out(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same lines, and what is open among them comes to nothing."""
    latest = {e["process"]: e for e in lines}
    left = [e for e in latest.values() if e["type"] == "invoke"]
    return lines + [{**e, "type": "info", "started": e["time"], "time": 10**8} for e in left]


@pytest.mark.parametrize("seed", range(4))
def test_no_prefix_of_a_sound_history_is_accused_and_the_whole_gets_its_verdict(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    state = keys()
    right: dict[
        str, tuple[bool, bool]
    ] = {}  # by key: whether the whole is linearizable, whether it is the whole
    for number in range(40):
        events = history(rng, None)
        lines = journal(rng, events)
        sound = linearizable(events)
        for cut in {*rng.sample(range(1, len(lines)), min(3, len(lines) - 1)), len(lines)}:
            key = f"{number} up to {cut}"
            shift = len(right) * SECOND
            right[key] = (sound, cut == len(lines))
            for e in timed_out(lines[:cut]):
                times = {
                    n: e[n] + shift for n in ("time", "started") if n in e
                }  # first, as a journal has them
                state.take(
                    msgspec.json.encode(
                        {**times, **{n: v for n, v in e.items() if n not in times}, "key": key}
                    )
                )
    found = {}
    while due := state.spent(10**18):
        result = judge(state.header, {n: lines for n, (lines, _) in due.items()}, OPTIONS, tmp_path)
        found |= {f.key: f.verdict for f in verdicts(due, result, 5)}
    assert found.keys() == right.keys()
    for key, (sound, whole) in right.items():
        assert found[key] in (("valid",) if sound else ("invalid",) if whole else ("valid", "invalid")), key
    assert sum(not sound and whole for sound, whole in right.values()) >= 10
    assert sum(sound and whole for sound, whole in right.values()) >= 10


def test_verdicts_are_told_apart_by_key_and_what_is_not_known_is_not_valid(tmp_path: Path) -> None:
    def op(key: Any, wrong: bool, process: int) -> list[bytes]:
        read = {"value": 7} if wrong else {}
        return [line("invoke", process, key), line("ok", process, key, **read)]

    state = keys(*op("a", False, 1), *op(1, True, 2), *op("1", False, 3))
    due = state.spent(10**18)
    result = judge(state.header, {n: lines for n, (lines, _) in due.items()}, OPTIONS, tmp_path)
    found = {msgspec.json.encode(f.key): f.verdict for f in verdicts(due, result, 5)}
    assert found == {b'"a"': "valid", b"1": "invalid", b'"1"': "valid"}
    killed = Result(verdict="unknown", reason="killed", detail={"trouble": "the engine was killed"})
    assert {f.verdict for f in verdicts(due, killed, 5)} == {"unknown"}
    late = Result(verdict="unknown", reason="late", detail={"unknown": [{"key": 1, "limit": "time"}]})
    assert {f.verdict for f in verdicts(due, late, 5)} == {"unknown"}


VALID = {"time": SECOND, "key": "k1", "verdict": "valid", "reason": "provisional"}
INVALID = {"time": 2 * SECOND, "key": "k2", "verdict": "invalid", "reason": "read of k2"}
END = {"end": "done", "time": 3 * SECOND}


def written(tmp_path: Path, *lines: dict[str, Any]) -> Path:
    (tmp_path / FILE).write_bytes(b"".join(msgspec.json.encode(x) + b"\n" for x in lines))
    return tmp_path


def test_the_watch_waits_for_whole_lines(tmp_path: Path) -> None:
    watch = Watch(tmp_path)
    assert watch.first() is None
    written(tmp_path, VALID)
    assert watch.first() is None
    whole = msgspec.json.encode(INVALID) + b"\n"
    for part in (whole[:30], whole[30:]):
        assert watch.first() is None
        with (tmp_path / FILE).open("ab") as file:
            file.write(part)
    assert watch.first() == "read of k2"
    watch.close()


def test_the_summary_counts_keys_and_not_checks(tmp_path: Path) -> None:
    assert summary(tmp_path) is None
    found = summary(written(tmp_path, VALID, VALID, INVALID, END))
    assert found == {"keys": 2, "violations": 1, "first_violation_s": 2.0, "ended": True}


def results(verdict: str) -> dict[str, Any]:
    return {**blank(), "verdict": verdict, "reason": "so it is"}


@pytest.mark.parametrize("verdict", ["valid", "invalid", "unknown"])
def test_a_check_that_was_killed_is_a_note_and_no_verdict(tmp_path: Path, verdict: str) -> None:
    run_dir = written(tmp_path, VALID)
    found = weigh(results(verdict), run_dir, fail_fast=False, whole=True)
    assert (found["verdict"], found["reason"]) == (verdict, "so it is")
    (note,) = found["warnings"]
    assert "ended before the load did" in note
    assert found["incremental"]["ended"] is False
    assert weigh(results(verdict), run_dir, fail_fast=False, whole=False)["warnings"] == []
    assert (
        weigh(results(verdict), written(tmp_path, VALID, END), fail_fast=True, whole=True)["warnings"] == []
    )


def test_runs_without_it_say_nothing_unless_it_was_asked_for(tmp_path: Path) -> None:
    assert weigh(results("valid"), tmp_path, fail_fast=False, whole=True)["warnings"] == []
    (note,) = weigh(results("valid"), tmp_path, fail_fast=True, whole=True)["warnings"]
    assert "--fail-fast had nothing to go by" in note


def test_two_checks_that_contradict_each_other_are_no_pass(tmp_path: Path) -> None:
    run_dir = written(tmp_path, INVALID, END)
    found = weigh(results("valid"), run_dir, fail_fast=True, whole=True)
    assert (found["verdict"], "one of the two checks is wrong" in found["reason"]) == ("unknown", True)
    assert weigh(results("invalid"), run_dir, fail_fast=True, whole=True)["verdict"] == "invalid"


def test_only_a_workload_with_the_check_is_checked() -> None:
    assert wanted({"a": ("availability", {})}) is None
    assert wanted({"a": ("availability", {}), "b": ("linearizable", {"model": "mutex"})}) == {
        "model": "mutex"
    }


def test_what_the_whole_history_calls_observations_is_no_contradiction(tmp_path: Path) -> None:
    run_dir = written(tmp_path, VALID, INVALID, END)
    assert weigh(results("valid"), run_dir, fail_fast=False, whole=True)["verdict"] == "unknown"
    checks = {"linearizable": {"detail": {"observed_anomalies": [{"key": "k2"}]}}}
    noted = {**results("valid"), "checks": checks}
    assert weigh(noted, run_dir, fail_fast=False, whole=True)["verdict"] == "valid"
