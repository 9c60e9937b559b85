"""What a command tells to CI: the XML from the beginning on, a summary, annotations that nothing breaks out of."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from harness.core.results import blank, failed
from results.markdown import summary
from splitbrain.told import Telling, notices, of_a_night
from tests.splitbrain.helpers import command


def results(verdict: str, **more: Any) -> dict[str, Any]:
    return {**blank(), "verdict": verdict, "reason": "so", "system": "etcd", "workload": "kv", **more}


EVIL = "a,b:c%\r\n::error::x\n::stop-commands::y | <img src=x> [a](b) `code` @team"


def test_annotations_are_one_line_each_and_say_what_is_no_success() -> None:
    runs = [results("valid"), results("invalid", reason=EVIL), results("unknown"), failed("no disk")]
    lines = notices(runs)
    assert [line.partition(" ")[0] for line in lines] == ["::error", "::error", "::warning"]
    assert all(not set("\r\n") & set(line) for line in lines)
    assert lines[0].startswith("::error title=splitbrain%3A etcd kv invalid::a,b:c%25%0A::error::x%0A")
    assert notices([results("invalid", expect="invalid")]) == []
    assert "none was found" in notices([results("valid", expect="invalid")])[0]
    many = notices([results("invalid")] * 30)
    assert (len(many), many[-1]) == (10, "::error title=splitbrain::and 21 more like these")


def test_a_night_names_what_is_new() -> None:
    new = {"status": "new", "signature": "etcd/linearizable/x", "explanation": EVIL, "baseline": False}
    findings = [new, {**new, "status": "known"}, {**new, "baseline": True}]
    told = {"exit": 1, "campaign": "nightly", "reason": "1 new finding", "findings": findings}
    first, second = of_a_night(told)
    assert first == "::error title=splitbrain%3A campaign nightly::1 new finding"
    assert second.startswith(
        "::error title=splitbrain%3A campaign nightly%2C new::etcd/linearizable/x: a,b:c%25"
    )
    assert "\n" not in second
    assert of_a_night({**told, "exit": 0}) == []
    assert len(of_a_night({**told, "exit": 3, "findings": [new] * 30})) == 10


def test_markdown_of_hostile_text_is_text() -> None:
    anomaly = {"key": EVIL, "explanation": EVIL, "nodes": ["n1"]}
    bad = results("invalid", reason=EVIL, command=EVIL, checks={"linearizable": {"anomalies": [anomaly]}})
    told = summary([bad, results("valid")], planned=3)
    rows = [line for line in told.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert all(line.replace("\\|", "").count("|") == 6 for line in rows)
    assert "**1 of 3 runs were not made.**" in told
    plain = told.replace("`` ", "\0").split("\0")[0]
    assert "<img" not in plain.replace("\\<img", "")
    assert "[a]" not in plain


def cases(path: Path) -> list[tuple[str | None, str | None, list[str]]]:
    return [(c.get("classname"), c.get("name"), [x.tag for x in c]) for c in ET.parse(path).iter("testcase")]


def test_the_xml_is_there_from_the_beginning_and_nothing_in_it_is_green(tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    telling = Telling(path, 2, results("unknown", error="the run has not come to its end"))
    telling.begin()
    name = "splitbrain.etcd.kv"
    assert cases(path) == [(name, "run", ["error"]), (name, "run[2]", ["error"])]
    telling.add(results("valid"))
    assert cases(path) == [(name, "run", []), (name, "run[2]", ["error"])]


def test_a_folder_that_goes_away_takes_no_verdict_along(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    telling = Telling(tmp_path / "a" / "junit.xml", 1, results("unknown"))
    telling.begin()
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").touch()
    telling.add(results("invalid"))
    assert telling.lost
    assert "choose another with --junit" in capsys.readouterr().err


def test_a_request_that_cannot_be_met_is_told_as_well(tmp_path: Path) -> None:
    github = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}
    done = command("run", "--system", "etdc", "--junit", "j.xml", "--json", cwd=tmp_path, env=github)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]
    assert cases(tmp_path / "j.xml") == [("splitbrain", "run", ["error"])]
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("::")]
    assert told.startswith("::error title=splitbrain%3A  error::")
    assert "⚠️ error" in (tmp_path / "summary.md").read_text()


def test_a_summary_that_cannot_be_written_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    Telling(None, 1, results("valid")).end()
    assert "the step's summary cannot be written" in capsys.readouterr().err
