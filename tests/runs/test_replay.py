"""A real run again: the same operations and faults, each time in a directory of its own, told to CI as well."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.runs.commands import lines, splitbrain

pytestmark = [pytest.mark.netns, pytest.mark.slow]


def asked(run_dir: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What was asked of the first keys, in order; of a compare-and-set the new value, for the old is the run's."""
    found: dict[str, list[tuple[Any, ...]]] = {key: [] for key in ("k0", "k1")}
    for op in lines(run_dir / "journal.jsonl"):
        if op.get("type") == "invoke" and op["key"] in found:
            found[op["key"]].append((op["f"], op["value"][1] if op["f"] == "cas" else op["value"]))
    return {key: ops[:20] for key, ops in found.items()}


def hit(run_dir: Path) -> list[tuple[str, list[str]]]:
    return [(x["family"], x["nodes"]) for x in lines(run_dir / "faults.jsonl") if x.get("event") == "plan"]


def test_a_run_again_exactly(tmp_path: Path) -> None:
    flags = ("--faults", "kill", "--time", "6s", "--seed", "5", "--json")
    first = splitbrain("run", *flags, "--out", tmp_path / "runs", "--junit", tmp_path / "first.xml")
    recorded = Path(first.results["run"])
    done = splitbrain(
        "replay",
        recorded,
        "--times",
        "2",
        "--exact",
        "--json",
        "--out",
        tmp_path / "again",
        "--junit",
        tmp_path / "j.xml",
    )
    told = done.results
    assert done.code == first.code, done.err
    assert (told["exact"], told["planned"], told["counted"], told["other_programs"]) == (True, 2, 2, [])
    again = [Path(results["run"]) for results in told["runs"]]
    assert len({recorded, *again}) == 3
    for run_dir in again:
        assert asked(run_dir) == asked(recorded)
        assert hit(run_dir) == hit(recorded)
        assert json.loads((run_dir / "spec.json").read_text())["seed"] == 5
    names = [
        [case.get("name") for case in suite.iter("testcase")]
        for suite in ET.parse(tmp_path / "j.xml").getroot()
    ]
    assert names[1] == [f"{name}[2]" for name in names[0]]
    (suite,) = ET.parse(tmp_path / "first.xml").getroot()
    assert [case.get("name") for case in suite.iter("testcase")] == names[0]


def test_a_violation_comes_back_under_its_signature(tmp_path: Path) -> None:
    flags = (
        "--opt",
        "etcd.reads=serializable",
        "--faults",
        "partition",
        "--time",
        "8s",
        "--seed",
        "2",
        "--json",
    )
    first = splitbrain("run", *flags, "--out", tmp_path / "runs")
    assert first.code == 1, first.results["reason"]
    done = splitbrain("replay", first.results["run"], "--times", "2", "--json", "--out", tmp_path / "again")
    (finding,) = done.results["findings"]
    assert finding["signature"].startswith("etcd/linearizable/")
    assert finding["of"] == 2
    assert (done.code, done.results["verdict"]) == ((1, "invalid") if finding["came_back"] else (0, "valid"))
    assert f"came back in {finding['came_back']} of 2 runs" in done.results["reason"]
