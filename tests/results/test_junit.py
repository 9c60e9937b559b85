"""Results objects as JUnit XML: names that stay, unknown that is no success, content that is only text."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from harness.core.errors import InfrastructureError
from harness.core.results import blank, failed
from results.junit import junit, write_junit
from tests.results.junitxml import cases


def results(verdict: str = "valid", **more: Any) -> dict[str, Any]:
    check = {"verdict": verdict, "reason": "so", "seconds": 0.25, "engine": "porcupine", "anomalies": []}
    about = {
        "system": "etcd",
        "workload": "register",
        "seed": 7,
        "seconds": 5.0,
        "command": "splitbrain run --seed 7",
    }
    return {**blank(), **about, "verdict": verdict, "reason": "so", "checks": {"linearizable": check}, **more}


REGISTER = "splitbrain.etcd.register"


@pytest.mark.parametrize(
    ("given", "check", "whole"),
    [
        (results(), "", ""),
        (results("invalid"), "failure:violation", ""),
        (results("unknown"), "error:unknown", "error:unknown"),
        (results("invalid", expect="invalid"), "system-out:", ""),
        (results("invalid", baseline={"verdict": "valid"}), "system-out:", ""),
        (results("invalid", baseline={"verdict": "unknown"}), "system-out:", "error:unknown"),
        (results("invalid", expect="invalid", unmet="another"), "failure:violation", ""),
        (results(expect="invalid"), "", "failure:expectation"),
        (results(interrupted=True), "", "error:interrupted"),
        (results("invalid", interrupted=True), "failure:violation", ""),
        (
            results(verdict="unknown", meaning={"vacuous": True}, checks=results()["checks"]),
            "",
            "error:vacuous",
        ),
        (results(verdict="invalid", checks=results()["checks"]), "", "failure:violation"),
    ],
)
def test_what_each_outcome_is_to_a_server(given: dict[str, Any], check: str, whole: str) -> None:
    assert cases(junit([given])) == {(REGISTER, "linearizable"): check, (REGISTER, "run"): whole}


def test_unknown_is_skipped_only_where_that_is_asked_for() -> None:
    text = junit([results("unknown")], unknown="skipped")
    assert cases(text)[REGISTER, "linearizable"] == "skipped:"
    assert ET.fromstring(text).get("errors") == "0"
    assert (
        cases(junit([results(error="no disk", verdict="unknown")], unknown="skipped"))[REGISTER, "run"]
        == "error:error"
    )


def test_names_do_not_depend_on_seeds_and_repeats_have_their_number() -> None:
    names = list(cases(junit([results(seed=n) for n in (5, 6)], planned=3)))
    assert names == [
        (REGISTER, "linearizable"),
        (REGISTER, "run"),
        (REGISTER, "linearizable[2]"),
        (REGISTER, "run[2]"),
        (REGISTER, "run[3]"),
    ]
    labelled = cases(junit([results(), results()], labels=["kill", "pause"]))
    assert (REGISTER, "linearizable[kill]") in labelled
    assert (REGISTER, "linearizable[pause]") in labelled
    with pytest.raises(ValueError, match="1 labels for 2 runs"):
        junit([results(), results()], labels=["kill"])


def test_sums_and_properties() -> None:
    top = ET.fromstring(junit([results("invalid"), results(), results("unknown")], planned=4))
    assert {k: top.get(k) for k in ("tests", "failures", "errors", "time")} == {
        "tests": "7", "failures": "1", "errors": "3", "time": "15.000",
    }  # fmt: skip
    first = top[0]
    held = {str(p.get("name")): p.get("value") for p in first.iter("property")}
    assert (held["seed"], held["command"]) == ("7", "splitbrain run --seed 7")
    assert first.get("tests") == "2"


def test_a_violation_tells_its_operations_and_the_command() -> None:
    op = {
        "invoke": 3,
        "complete": 4,
        "f": "read",
        "value": None,
        "result": 5,
        "type": "ok",
        "process": 7,
        "node": "n2",
    }
    found = results("invalid")
    found["checks"]["linearizable"]["anomalies"] = [
        {"key": "k1", "explanation": "5 is gone", "window": [op]}
    ] * 21
    body = next(ET.fromstring(junit([found])).iter("failure")).text or ""
    assert "k1: 5 is gone\n  read → 5  ok  process 7 on n2" in body
    assert "and 1 more violations" in body
    assert body.endswith("again: splitbrain run --seed 7")


def test_what_ended_before_there_was_a_system_has_a_case_too() -> None:
    assert cases(junit([failed("no such file")])) == {("splitbrain", "run"): "error:error"}


def test_hostile_text_is_text() -> None:
    evil = "]]></failure><x/>\x00\x1b[31m\ufffe\ud800\u202e" + "y" * 50_000
    found = results("invalid", reason=evil, system="a/../<b>")
    found["checks"]["linearizable"] |= {
        "reason": evil,
        "anomalies": [{"key": evil, "explanation": evil, "window": []}],
    }
    text = junit([found])
    text.encode()
    assert len(text) < 50_000
    assert cases(text) == {
        ("splitbrain.a_b_.register", "linearizable"): "failure:violation",
        ("splitbrain.a_b_.register", "run"): "",
    }


def test_damaged_results_do_not_stop_it() -> None:
    assert cases(junit([{"verdict": 7, "checks": [], "seconds": "x"}])) == {
        ("splitbrain", "run"): "error:unknown"
    }


def test_the_file_is_whole_or_not_there(tmp_path: Path) -> None:
    write_junit(tmp_path / "new" / "junit.xml", [results()])
    assert cases((tmp_path / "new" / "junit.xml").read_text())
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["junit.xml"]
    (tmp_path / "a-file").touch()
    with pytest.raises(InfrastructureError, match="choose another with --junit"):
        write_junit(tmp_path / "a-file" / "junit.xml", [results()])
