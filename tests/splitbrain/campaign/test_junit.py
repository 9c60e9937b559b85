"""A night as JUnit XML: what each cell's case says, names that stay, and red where the night is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core.errors import InfrastructureError, UsageError
from harness.core.results import failed
from splitbrain.campaign import home, junit, runner, summary
from splitbrain.campaign import merge as merging
from splitbrain.campaign.plan import Cell
from splitbrain.commands import campaign as commands
from tests.results.junitxml import cases
from tests.splitbrain.campaign.made import (
    SMALL,
    STALE,
    Pretended,
    Quiet,
    campaign,
    invalid,
    kill_is_stale,
    spend,
    valid,
)

pytestmark = pytest.mark.usefixtures("in_no_time")

ROOT = "splitbrain.nightly"
REGISTER = f"{ROOT}.etcd_register_time_5s_faults_none"
KILL = f"{ROOT}.etcd_register_time_5s_faults_kill"
SET = f"{ROOT}.etcd_set_time_5s_faults_none"
KNOWN = f'[[known]]\nsignature = "{STALE}"\nreason = "on purpose"\nexpires = 2999-01-01\n'
BASELINE = SMALL.replace('name = "nightly"', 'name = "nightly"\n    baseline = "known.toml"')
UNKNOWN = {"verdict": "unknown", "reason": "vacuous: nothing"}


def xml(told: dict[str, Any]) -> str:
    return junit.build(told, Path(told["path"]))


def red(text: str) -> bool:
    return any(said.startswith(("failure", "error")) for said in cases(text).values())


def message(text: str, name: str, case: str = "run") -> str:
    found = ET.fromstring(text).find(f".//testcase[@classname='{name}'][@name='{case}']/*")
    assert found is not None
    return str(found.get("message"))


def test_a_good_night_is_green_and_says_seeds_and_reports_where_names_do_not(tmp_path: Path) -> None:
    told = spend(campaign(tmp_path, SMALL), tmp_path / "c")
    text = xml(told)
    found = cases(text)
    assert set(found.values()) == {"system-out:"}
    assert len(found) == 10
    assert {
        (REGISTER, "run"),
        (REGISTER, "run[2]"),
        (f"{ROOT}.canary", "etcd-serializable"),
        (ROOT, "night"),
    } <= set(found)
    again = spend(campaign(tmp_path, SMALL.replace("seed = 7", "seed = 8")), tmp_path / "c")
    assert list(cases(xml(again))) == list(found), "names stay from night to night"
    said = ET.fromstring(text).find(f".//testcase[@classname='{REGISTER}']/system-out")
    (cell, *_) = [c for c in told["cells"] if c["id"] == "m1-0001-001"]
    assert said is not None
    assert f"run {cell['attempts'][0]['run']}: valid, cell m1-0001-001, seed {cell['seed']}" in str(said.text)
    assert str(said.text).endswith("/report.html")


def test_what_each_cell_says(tmp_path: Path) -> None:
    def mixed(cell: Cell) -> dict[str, Any]:
        if cell.spec["faults"] == "kill":
            return {**invalid(explanation="k1: 5 is gone"), "command": "splitbrain run --seed 7"}
        if cell.spec["workload"] == "set":
            return UNKNOWN
        return failed("no node got ready") if cell.id.endswith("002") else valid(cell)

    told = spend(campaign(tmp_path, SMALL), tmp_path / "c", mixed)
    text = xml(told)
    found = cases(text)
    assert (found[KILL, "run"], found[KILL, "run[2]"]) == ("failure:new-finding",) * 2
    assert (found[SET, "run"], found[REGISTER, "run[2]"]) == ("error:unknown", "error:error")
    assert found[REGISTER, "run"] == "system-out:"
    assert message(text, KILL) == f"new: {STALE}: k1: 5 is gone"
    assert message(text, REGISTER, "run[2]") == "no node got ready"
    body = next(ET.fromstring(text).iter("failure")).text or ""
    assert "linearizable: k1: 5 is gone\nk: k1: 5 is gone\n  read" in body
    assert body.endswith("again: splitbrain run --seed 7")
    later = xml(spend(campaign(tmp_path, SMALL), tmp_path / "c", mixed))
    assert cases(later)[KILL, "run"] == "failure:known-finding", "known is no excuse, a baseline is"


def test_what_the_baseline_has_is_skipped_with_its_reason_unless_the_rest_is_undecided(
    tmp_path: Path,
) -> None:
    (tmp_path / "known.toml").write_text(KNOWN)
    asked = campaign(tmp_path, BASELINE)
    text = xml(spend(asked, tmp_path / "c", kill_is_stale))
    assert cases(text)[KILL, "run"] == "skipped:"
    assert message(text, KILL) == f"known until 2999-01-01: {STALE} (on purpose)"
    assert not red(text)

    def half(cell: Cell) -> dict[str, Any]:
        found = kill_is_stale(cell)
        if found["verdict"] == "invalid":
            found["checks"]["set"] = {"verdict": "unknown", "reason": "too little time"}
        return found

    told = spend(asked, tmp_path / "c", half)
    assert (told["exit"], told["verdict"]) == (3, "unknown"), "a known finding hides nothing else"
    assert "4 with known findings only, and undecided besides" in told["reason"]
    assert cases(xml(told))[KILL, "run"] == "error:unknown"


def test_an_expectation_that_is_not_met_is_a_failure_and_one_that_is_met_passes(tmp_path: Path) -> None:
    text = SMALL.replace('time = "5s"', 'time = "5s"\n    expect = "invalid:linearizable"')
    asked = campaign(tmp_path, text)

    def expected(cell: Cell) -> dict[str, Any]:
        found = kill_is_stale(cell)
        if cell.spec["workload"] == "set" and found["verdict"] == "invalid":
            found["checks"] = {"set": {**found["checks"]["linearizable"]}}
            found |= {"unmet": "expected a finding of linearizable; found another"}
        return {**found, "expect": "invalid", "expected": ["linearizable"]}

    told = spend(asked, tmp_path / "c", expected)
    written = xml(told)
    kinds = {
        (("kill" in name), ("_set_" in name)): said
        for (name, case), said in cases(written).items()
        if case == "run"
    }
    assert kinds == {
        (True, False): "system-out:",
        (True, True): "failure:new-finding",
        (False, False): "failure:expectation",
        (False, True): "failure:expectation",
    }
    assert "a violation was expected, and none was found" in written
    assert told["exit"] == 1
    assert "not as expected: " in told["reason"]
    assert "### Not as expected" in (Path(told["path"]) / "summary.md").read_text()
    assert "not as expected</span>" in (Path(told["path"]) / "index.html").read_text()
    other = STALE.replace("linearizable", "set")
    (tmp_path / "known.toml").write_text(KNOWN.replace(STALE, other))
    excused = campaign(
        tmp_path, text.replace('name = "nightly"', 'name = "nightly"\n    baseline = "known.toml"')
    )
    again = spend(excused, tmp_path / "c", lambda c: expected(c) if "set" in c.spec["workload"] else valid(c))
    kept = {said for (name, _), said in cases(xml(again)).items() if "_set_" in name and "kill" in name}
    assert kept == {"failure:expectation"}, (
        "a baseline excuses a finding, not that the expected one is missing"
    )


def test_the_canary_and_the_night_have_cases(tmp_path: Path) -> None:
    class Blind(Pretended):
        def __init__(self, come_to: Callable[[Cell], dict[str, Any]]) -> None:
            super().__init__(come_to)

        def start(self, cell: Cell, order: Any) -> None:
            kind = {"kind": "matrix"} if cell.kind == "canary" else {}
            super().start(msgspec.structs.replace(cell, **kind), order)

    for come_to, said in ((valid, "failure:canary"), (lambda _c: failed("no etcd"), "error:canary")):
        folder = tmp_path / said.partition(":")[0]
        asked = campaign(folder, SMALL)
        with home.held(folder / "c"):
            path, _ = runner.open_night(asked, folder / "c", resume=False, seed=None, shard=None)
            night = runner.Night(asked, path, Blind(come_to), Quiet())
            begun = cases(junit.build(night.so_far(), path, ended=False))
            assert {s.partition(":")[0] for s in begun.values()} == {"error"}, (
                "nothing is green before it has run"
            )
            night.work()
            told = night.conclude()
            night.close()
        assert cases(xml(told))[f"{ROOT}.canary", "etcd-serializable"] == said
        assert set(begun) == set(cases(xml(told)))


def test_what_was_not_started_or_left_out_is_there(tmp_path: Path) -> None:
    told = spend(campaign(tmp_path, SMALL), tmp_path / "c", lambda _c: invalid(), max_failures=3)
    found = cases(xml(told))
    assert list(found.values()).count("error:not-started") == told["counts"]["not_started"] > 0
    assert "not started: 3 attempts failed" in xml(told) or "not started: 4 attempts failed" in xml(told)
    text = SMALL.replace(
        'workload = ["register", "set"]', 'system = ["etcd", "nats"]\n    workload = ["register", "lock"]'
    )
    left = spend(campaign(tmp_path / "left", text), tmp_path / "left" / "c")
    skipped = [said for said in cases(xml(left)).values() if said == "skipped:"]
    assert len(skipped) == len(left["left_out"]) > 0
    assert "cannot be run: " in xml(left)


@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    ends=st.lists(
        st.sampled_from(["valid", "known", "new", "unknown", "error", "half"]), min_size=4, max_size=4
    )
)
def test_red_where_the_night_is_and_nowhere_else(
    tmp_path_factory: pytest.TempPathFactory, ends: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("night")
    (folder / "known.toml").write_text(KNOWN)
    left = iter(ends)
    half = invalid()
    half["checks"]["set"] = {"verdict": "unknown", "reason": "too little memory"}
    outcomes = {
        "valid": valid(None),  # type: ignore[arg-type]
        "known": invalid(),
        "new": invalid(kind="lost"),
        "unknown": UNKNOWN,
        "error": failed("no disk"),
        "half": half,
    }
    asked = campaign(folder, BASELINE.replace("seeds = 2", "seeds = 1"))
    told = spend(asked, folder / "c", lambda _c: outcomes[next(left)])
    assert red(xml(told)) == (told["exit"] != 0)
    tags = {said.partition(":")[0] for said in cases(xml(told)).values()}
    assert ("failure" in tags) == (told["exit"] == 1)


def test_shards_that_are_merged_have_the_names_of_the_whole(tmp_path: Path) -> None:
    asked = campaign(tmp_path, SMALL)
    whole = cases(xml(spend(asked, tmp_path / "whole", kill_is_stale)))
    for i in (1, 2, 3):
        spend(asked, tmp_path / f"shard{i}", kill_is_stale, shard=(i, 3))
    nights = merging.nights_below([tmp_path / f"shard{i}" for i in (1, 2, 3)])
    merged = summary.again(merging.merge(asked, nights, tmp_path / "merged"), asked)
    assert cases(xml(merged)) == whole
    partly = summary.again(merging.merge(asked, nights[:2], tmp_path / "partly"), asked)
    found = cases(xml(partly))
    assert list(found.values()).count("error:not-started") == 2
    assert found[f"{ROOT}.canary", "etcd-serializable"] == "failure:canary"


def test_hostile_text_is_text(tmp_path: Path) -> None:
    evil = "]]></failure><x/>\x00\x1b[31m\ufffe"
    text = xml(spend(campaign(tmp_path, SMALL), tmp_path / "c", lambda _c: invalid(explanation=evil)))
    text.encode()
    assert cases(text)[KILL, "run"] == "failure:new-finding"


def test_of_a_finished_night_and_one_that_was_cut_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign(tmp_path, SMALL)
    file, out, written = tmp_path / "nightly.toml", tmp_path / "c", tmp_path / "new" / "junit.xml"
    spend(campaign(tmp_path, SMALL), out / "nightly", kill_is_stale)
    assert commands.show(file, out, junit=written) == 0
    assert f"new      {STALE}: 4 of 4 tonight" in capsys.readouterr().out
    assert cases(written.read_text())[KILL, "run"] == "failure:new-finding"
    (night,) = home.nights(out / "nightly")
    (night / summary.NAME).unlink()
    lines = (night / "ledger.jsonl").read_text().splitlines(keepends=True)
    (night / "ledger.jsonl").write_text("".join(lines[:8]))
    assert commands.show(file, out, junit=written, json=True) == 0
    assert json.loads(capsys.readouterr().out)["complete"] is False
    assert not (night / summary.NAME).exists(), "to look is to write nothing"
    found = cases(written.read_text())
    assert found[ROOT, "night"] == "error:incomplete"
    assert "error:not-started" in found.values()
    with pytest.raises(UsageError, match="holds no night 7; there are nights 1 to 1"):
        commands.show(file, out, night=7)


def test_a_file_that_cannot_be_written_stops_a_night_before_it_begins(tmp_path: Path) -> None:
    campaign(tmp_path, SMALL)
    (tmp_path / "a-file").touch()
    with pytest.raises(InfrastructureError, match="choose another with --junit"):
        commands.run(tmp_path / "nightly.toml", tmp_path / "c", junit=tmp_path / "a-file" / "junit.xml")
    assert not (tmp_path / "c").exists()
    assert set(cases(junit.begun("nightly")).values()) == {"error:incomplete"}


def test_the_file_of_a_night_is_there_from_its_beginning_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    campaign(tmp_path, SMALL)
    written, seen = tmp_path / "junit.xml", []

    class Watched(Pretended):
        def __init__(self, **_options: Any) -> None:
            super().__init__(kill_is_stale)

        def start(self, cell: Cell, order: Any) -> None:
            seen.append(set(cases(written.read_text()).values()))
            super().start(cell, order)

    monkeypatch.setattr("splitbrain.campaign.places.Here", Watched)
    assert commands.run(tmp_path / "nightly.toml", tmp_path / "c", junit=written) == 1
    assert seen == [{"error:not-started", "error:canary", "error:incomplete"}] * 9
    assert set(cases(written.read_text()).values()) == {"system-out:", "failure:new-finding"}
    assert "1 new finding" in capsys.readouterr().out

    class Gone(Watched):
        def start(self, cell: Cell, order: Any) -> None:
            Pretended.start(self, cell, order)
            if written.is_file():
                written.unlink()
                written.mkdir()

    monkeypatch.setattr("splitbrain.campaign.places.Here", Gone)
    assert commands.run(tmp_path / "nightly.toml", tmp_path / "c", junit=written) == 1, (
        "what was found stands"
    )
    assert "`splitbrain campaign show --junit` writes it as well" in capsys.readouterr().err
