"""`splitbrain replay`: what is run again, and how often a finding came back."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.core.results import blank, failed
from splitbrain import replay
from splitbrain import spec as specs
from tests.splitbrain.helpers import command

KEPT = Path(__file__).resolve().parents[1] / "data" / "format-1"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "etcd-register" / "20261124T030625Z-3-fjegfk"
    shutil.copytree(KEPT, path)
    return path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def altered(run: Path, **fields: Any) -> None:
    path = run / "spec.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def invalid(kind: str, **more: Any) -> dict[str, Any]:
    window = [{"f": "read", "type": "ok"}, {"f": "write", "type": "ok"}]
    check = {
        "verdict": "invalid",
        "reason": "so",
        "anomalies": [{"kind": kind, "key": "k", "window": window}],
    }
    about = {"system": "etcd", "workload": "register", "faults": {"kill": {}}}
    return {**blank(), **about, "verdict": "invalid", "checks": {"linearizable": check}, **more}


def test_the_spec_is_the_recorded_one_and_expects_nothing(run: Path) -> None:
    altered(run, expect="invalid", keep=True)
    spec = replay.spec_of(run)
    assert (spec.seed, spec.faults, spec.time_s, spec.rate) == (3, ("kill",), 4.0, 30.0)
    assert (spec.expect, spec.keep) == (None, False)


def test_a_secret_that_is_not_recorded_has_to_be_said(run: Path) -> None:
    altered(run, provider="ssh", hosts=["a@b:22"], options={"ssh": {"key": "[redacted]", "jump": None}})
    with pytest.raises(UsageError, match=r"say --opt ssh\.key=VALUE"):
        replay.spec_of(run)
    with pytest.raises(UsageError, match=r"of one of these: ssh\.key"):
        replay.spec_of(run, ["ssh.jump=x"])
    assert replay.spec_of(run, ["ssh.key=/a/key"]).of("ssh")["key"] == "/a/key"


def test_exactly_is_the_nodes_and_times_of_the_ledger(run: Path) -> None:
    (plan,) = [line for line in lines(run / "faults.jsonl") if line.get("event") == "plan"]
    assert plan["target"] != plan["nodes"][0]
    spec, notes = replay.exactly(replay.spec_of(run), run)
    (step,) = specs.schedule(spec)
    assert (step.family, step.target, notes) == ("kill", "+".join(plan["nodes"]), [])
    times = {line["event"]: line["time"] for line in lines(run / "faults.jsonl") if "time" in line}
    load = next(x["time"] for x in lines(run / "journal.jsonl") if x.get("phase") == "load")
    assert step.at_s == pytest.approx((times["applied"] - load) / 1e9, abs=0.001)
    assert step.hold_s == pytest.approx((times["undone"] - times["applied"]) / 1e9, abs=0.001)
    again = specs.command_line(spec)
    assert "schedule.script=" in again


def test_what_is_no_set_of_nodes_keeps_its_kind_and_is_said(run: Path) -> None:
    ledger = run / "faults.jsonl"
    altered(run, faults=["partition:one-way"])
    ledger.write_text(ledger.read_text().replace('"family":"kill"', '"family":"partition"'))
    every = lines(ledger)
    for line in every:
        if line.get("event") == "plan":
            line["target"] = "one-way"
    ledger.write_text("".join(f"{json.dumps(line)}\n" for line in every))
    spec, notes = replay.exactly(replay.spec_of(run), run)
    assert [s.target for s in specs.schedule(spec)] == ["one-way"]
    assert len(notes) == 1
    assert "partition:one-way, is no set of nodes" in notes[0]


def test_exactly_needs_a_ledger(run: Path) -> None:
    (run / "faults.jsonl").unlink()
    with pytest.raises(UsageError, match="leave out --exact"):
        replay.exactly(replay.spec_of(run), run)


def test_how_often_a_finding_came_back(run: Path) -> None:
    (run / "results.json").write_text(json.dumps(invalid("stale-read")))
    runs = [invalid("stale-read"), invalid("lost-write"), {**blank(), "verdict": "valid"}, failed("no disk")]
    told = replay.tell(run, runs, planned=4, exact=False)
    (finding,) = told["findings"]
    assert (finding["came_back"], finding["of"]) == (1, 3)
    assert [round(bound, 2) for bound in finding["interval"]] == [0.06, 0.79]
    assert told["new"] == ["etcd/linearizable/lost-write/read+write/kill"]
    assert "came back in 1 of 3 runs (95% interval 6-79%)" in told["reason"]
    assert "1 of 4 runs ended with no answer" in told["reason"]
    assert told["verdict"] == "invalid"


def test_a_run_with_no_finding_says_so(run: Path) -> None:
    told = replay.tell(run, [{**blank(), "verdict": "valid"}], planned=1, exact=True)
    assert told["reason"] == "the run had no finding that could come back; 1 of 1 runs: 1 valid"


def test_other_programs_are_named(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    env = json.loads((run / "env.json").read_text())
    (other / "env.json").write_text(json.dumps(env))
    assert replay.other_programs(run, other) == []
    name = next(iter(env["install"]["sha256"]))
    env["install"]["sha256"][name] = "0"
    (other / "env.json").write_text(json.dumps(env))
    assert replay.other_programs(run, other) == [name]


def test_from_the_shell_it_never_writes_into_the_recorded_run(run: Path, tmp_path: Path) -> None:
    done = command("replay", "fjegfk", "--out", str(run), "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert "is the recorded run itself" in json.loads(done.stdout)["error"]
