"""Whatever the engine does, there is a verdict in time and it is never a pass."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.histories import Shape, write
from checkers import engine_process
from checkers.engine_binary import engine_path, source_hash
from harness.core.cache import cache_dir
from harness.core.errors import UsageError
from tests.checkers.brute import Event, write_keys
from tests.checkers.test_linearizable import judge

HELLO = '{"engine":"splitbrain-engine","version":"0","protocol":2}'
READ = '{"read":{"ops":4,"keys":2,"s":0.1}}'
VALID = '{"key":"a","verdict":"valid","engine":"porcupine","ops":2,"s":0.1,"verified":true}'
OTHER = VALID.replace('"a"', '"b"')
ONE = (
    '{"invoke":0,"complete":1,"process":1,"f":"read","value":null,"result":3,"node":null,"type":"ok",'
    '"start_ns":0,"end_ns":9}'
)
INVALID = (
    '{"key":"a","verdict":"invalid","engine":"precheck","ops":2,"s":0.1,"kind":"never-written","culprit":0,'
    f'"proven":true,"confirmed":true,"prefix":0,"shortest":false,"window":[{ONE}],"assumed":[]}}'
)
DONE = '{"done":{"keys":2,"s":0.2}}'


def says(*lines: str) -> str:
    return "cat <<'END'\n" + "\n".join(lines) + "\nEND\n"


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a shell script in the engine's place."""

    def put(script: str) -> None:
        path = tmp_path / "engine"
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)
        monkeypatch.setenv("SPLITBRAIN_ENGINE", str(path))

    monkeypatch.setattr(engine_process, "GRACE_S", 0.5)
    return put


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("exit 0", "ended with status 0 before it was done"),
        ("echo oh dear >&2; exit 7", "status 7 before it was done: oh dear"),
        (says(HELLO, READ, VALID, OTHER), "before it was done"),
        (says(HELLO, READ, VALID, OTHER, DONE) + "exit 5", "status 5"),
        (says(HELLO, READ, VALID, DONE), "spoke of 1 keys and had read 2"),
        (says(HELLO, READ, VALID, VALID, DONE), "not its protocol"),
        (says(HELLO, READ, VALID, OTHER, DONE, OTHER), "not its protocol"),
        (says(READ, VALID, OTHER, DONE), "not its protocol"),
        (says(HELLO.replace(":2}", ":1}"), READ, VALID, OTHER, DONE), "not its protocol"),
        (says(HELLO, READ, VALID, OTHER.replace("valid", "fine"), DONE), "not its protocol"),
        (says(HELLO, READ, VALID, OTHER, "segmentation fault", DONE), "not its protocol"),
        (says(HELLO, READ, VALID, OTHER) + "printf '{\"done'", "not its protocol"),
        ("head -c 3000000 /dev/urandom", "not its protocol"),
        ("kill -9 $$", "killed (signal 9)"),
        (
            says(HELLO, READ, VALID, OTHER, '{"stopped":"memory","keys":2,"undecided":0}') + "exit 3",
            "memory_mb=",
        ),
        (
            says(HELLO, '{"stopped":"time","keys":null}') + "exit 3",
            "while reading the history; raise it with",
        ),
    ],
)
def test_an_engine_that_does_not_finish_is_unknown(
    tmp_path: Path, engine: Any, script: str, words: str
) -> None:
    engine(script)
    result = judge(tmp_path / "any")
    assert result.verdict == "unknown"
    assert words in result.reason


def exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    "script",
    [
        "exec sleep 1000",
        "sleep 1000 & sleep 1000",
        "exec >&- 2>&-; sleep 1000",
        says(HELLO, READ, VALID) + "sleep 1000",
        "while :; do :; done",
    ],
)
def test_an_engine_that_hangs_is_ended_with_all_it_started(tmp_path: Path, engine: Any, script: str) -> None:
    engine(f"echo $$ > {tmp_path}/pid\n{script}")
    result = judge(tmp_path / "any", time_s=0.3)
    assert result.verdict == "unknown"
    assert "--opt linearizable.time_s=0.6" in result.reason
    group = int((tmp_path / "pid").read_text())
    for _ in range(200):  # init reaps the orphans in its own time
        if not exists(group):
            break
        time.sleep(0.05)
    assert not exists(group)


def test_an_engine_that_takes_too_much_memory_is_ended(tmp_path: Path, engine: Any) -> None:
    engine("exec python3 -c 'x = bytearray(400 << 20); import time; time.sleep(1000)'")
    result = judge(tmp_path / "any", memory_mb=32)
    assert result.verdict == "unknown"
    assert "--opt linearizable.memory_mb=64" in result.reason


def test_what_was_decided_before_the_end_stays(tmp_path: Path, engine: Any) -> None:
    engine(says(HELLO, READ, INVALID) + "kill -9 $$")
    result = judge(tmp_path / "any")
    assert (result.verdict, result.anomalies[0].key) == ("invalid", "a")
    assert result.detail["unknown_keys"] == 1
    assert "killed" in result.detail["trouble"]


def test_an_engine_variable_that_names_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITBRAIN_ENGINE", "/nowhere/engine")
    with pytest.raises(UsageError, match="SPLITBRAIN_ENGINE is '/nowhere/engine'"):
        engine_path()


def test_a_checkout_builds_once_for_each_state_of_its_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPLITBRAIN_ENGINE", raising=False)
    first = engine_path()
    assert first.name.endswith(source_hash())
    assert first.is_relative_to(cache_dir())
    before = first.stat().st_mtime_ns
    assert engine_path() == first
    assert first.stat().st_mtime_ns == before


def hard(values: int) -> list[Event]:
    """Each value is written twice, by operations that stay open all the time, and read three times, with
    the others in between. It is invalid, and which writes were wasted when has no short answer."""
    invoke = {"type": "invoke", "f": "write"}
    writes = [invoke | {"process": p, "value": p % values} for p in range(2 * values)]
    events = list(writes)
    for value in [*range(values)] * 3:
        events.append({"process": 999, "type": "invoke", "f": "read", "value": None})
        events.append({"process": 999, "type": "ok", "f": "read", "value": value})
    return events + [e | {"type": "ok"} for e in writes]


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"key_time_s": 0.5}, "key-time"),
        ({"time_s": 1.0}, "time"),
        ({"memory_mb": 100}, "memory"),
        ({"key_memory_mb": 1}, "key-memory"),
    ],
)
def test_a_key_beyond_a_limit_leaves_the_others_their_verdict(
    tmp_path: Path, options: dict[str, Any], limit: str
) -> None:
    easy = [
        {"process": 1, "type": "invoke", "f": "write", "value": 1},
        {"process": 1, "type": "ok", "f": "write", "value": 1},
    ]
    keys: dict[Any, list[Event]] = {"hard": hard(40)}
    keys |= {f"k{i}": easy for i in range(50)}
    path = tmp_path / "history.jsonl"
    write_keys(path, keys)
    result = judge(path, **options)
    assert (result.verdict, result.detail["unknown_keys"]) == ("unknown", 1)
    [entry] = result.detail["unknown"]
    assert (entry["key"], entry["limit"]) == ("hard", limit)
    assert "--opt linearizable." in result.reason
    msgspec.json.encode(result)


def test_what_could_not_be_decided_says_how_far_it_came(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    write(Shape(ops=20_000, clients=20, domain=5, info=0.05), path)
    result = judge(path, key_memory_mb=1)
    assert result.verdict == "unknown"
    reached = result.detail["unknown"][0]["reached"]
    assert 0 < reached < 20_000
    assert f"an order was found for the first {reached} that completed" in result.reason
    assert "--opt linearizable.key_memory_mb=2" in result.reason
