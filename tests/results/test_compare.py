"""What differs between two runs, as a function of their files."""

import json

import pytest

from results.compare import change, compare, read_side, shown
from tests.results.synth import make_run


def section(found, name):
    (one,) = [s for s in found.sections if s.name == name]
    return {line.name: line for line in one.lines}


def test_a_run_does_not_differ_from_itself(tmp_path):
    side = read_side(make_run(tmp_path, "invalid", ops=200))
    found = compare(side, side)
    assert [s.name for s in found.sections if s.differing] == []
    assert sum(len(s.lines) for s in found.sections) > 20
    assert found.summary[:2] == ["Both are invalid.", "The specs are the same, seed included."]


def test_everything_that_differs_is_named(tmp_path):
    a = make_run(tmp_path, "valid", ops=200, seed=1, run="aaaaaa")
    b = make_run(tmp_path, "invalid", ops=300, seed=2, run="bbbbbb")
    env = json.loads((b / "env.json").read_text())
    env["install"] = {"version": "3.5.0", "sha256": {"etcd": "00ff"}}
    (b / "env.json").write_text(json.dumps(env))
    results = json.loads((b / "results.json").read_text())
    results["faults"]["partition"]["effective"] = 0
    results["faults"]["clock"] = {"applied": 1, "effective": 1, "overlapping_ops": 5}
    results["checks"]["operations"] = {"detail": {"latency_ms": {"p50": 1.5, "p99": None}}}
    (b / "results.json").write_text(json.dumps(results))
    found = compare(read_side(a), read_side(b))
    assert (found.a["state"], found.b["run"]) == ("valid", "bbbbbb")
    assert found.summary[0] == "A is valid, B is invalid."
    assert "seed" in found.summary[1]
    assert not section(found, "verdict")["state"].same
    assert (section(found, "spec")["seed"].a, section(found, "spec")["seed"].change) == (1, None)
    assert section(found, "binaries")["etcd"].b == "00ff"
    assert section(found, "checks")["linearizable"].b == "invalid"
    assert section(found, "checks")["linearizable.anomalies"].b == 1
    assert section(found, "figures")["operations"].change == 0.5
    assert section(found, "figures")["latency p50 (ms)"].a is None
    assert section(found, "faults")["partition effective"].b == 0
    assert section(found, "faults")["clock applied"].a is None


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [(1, 1.0, True), (1, True, False), (1, "1", False), (None, False, False), ([], [], True)],
)
def test_types_are_distinct(tmp_path, a, b, same):
    for name, value in (("20260101T000000Z-1-aaaaaa", a), ("20260101T000000Z-1-bbbbbb", b)):
        run = tmp_path / "s-w" / name
        run.mkdir(parents=True)
        (run / "spec.json").write_text(json.dumps({"x": value, "options": {"y": {"z": value}}}))
    sides = [read_side(run) for run in sorted((tmp_path / "s-w").iterdir())]
    lines = section(compare(*sides), "spec")
    assert lines["x"].same is same
    assert lines["options.y.z"].same is same


def test_what_is_missing_or_broken_is_said(tmp_path):
    good = read_side(make_run(tmp_path, "valid", ops=200))
    bad = tmp_path / "etcd-register" / "20260101T000000Z-1-bbbbbb"
    bad.mkdir()
    (bad / "results.json").write_text(
        '{"checks": [1], "faults": {"kill": 3}, "recovery_s": {"a": 1}, "outcomes": {"read": 1}}'
    )
    (bad / "env.json").write_text('{"install": ')
    found = compare(good, read_side(bad))
    assert "B (bbbbbb) has no readable spec.json and env.json." in found.summary
    assert section(found, "figures")["operations"].b is None


def test_values_for_people():
    assert [shown(x) for x in (None, True, 12345, "\x1b[31mred\x00")] == [
        "\N{EN DASH}",
        "yes",
        "12,345",
        "red␀",
    ]
    assert shown(12345, "seed") == "12345"


def test_changes_for_people(tmp_path):
    a = make_run(tmp_path, "valid", ops=200, run="aaaaaa")
    b = make_run(tmp_path, "valid", ops=300, run="bbbbbb")
    assert change(section(compare(read_side(a), read_side(b)), "figures")["operations"]) == "+50%"
