"""How stable leadership was, by what the nodes said."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from harness.core.ledger import FaultRecord
from results.leadership import leadership, sentence
from results.report.data import Run
from results.report.leadership import leadership_part

S = 10**9


def say(time_s: float, node: str, leader: str | None, term: int | None = 2, **more: Any) -> dict[str, Any]:
    role = "leader" if leader == node else "follower"
    return {
        "time": int(time_s * S),
        "node": node,
        "ok": True,
        "role": role,
        "term": term,
        "leader": leader,
        **more,
    }


def down(time_s: float, node: str) -> dict[str, Any]:
    return {"time": int(time_s * S), "node": node, "ok": False, "error": "refused"}


def fault(family: str, begin_s: float, end_s: float) -> FaultRecord:
    style = {"label": family, "glyph": "x", "colour": "process"}
    times = {"planned": int(begin_s * S), "applied": int(begin_s * S), "undone": int(end_s * S)}
    return FaultRecord(
        fault="f1", family=family, target="one", nodes=["n1"], says="", undo=[], **style, **times
    )


def figures(where: Path, lines: list[dict[str, Any]], *faults: FaultRecord) -> dict[str, Any]:
    path = where / "monitor.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"time":1,"no')
    found = leadership(path, faults, 0, 20 * S, 3)
    assert found is not None
    return found


START = [say(1.0, "n1", "n1"), say(1.0, "n2", "n1"), say(1.0, "n3", "n1")]


def test_one_leader_all_the_time_is_no_election(tmp_path: Path) -> None:
    found = figures(tmp_path, START)
    assert (found["elections"], found["without_leader_s"], found["seconds"]) == (0, 0.0, 19.0)
    assert found["term_s"] == {"median": 19.0, "shortest": 19.0, "longest": 19.0}


def test_a_leader_that_was_killed_is_succeeded_by_another(tmp_path: Path) -> None:
    later = [down(5.0, "n1"), say(5.5, "n2", None, 3), say(6.0, "n2", "n2", 3), say(6.5, "n3", "n2", 3)]
    found = figures(tmp_path, [*START, *later], fault("kill", 4.9, 8.0))
    assert (found["elections"], found["elections_by_fault"], found["elections_unprovoked"]) == (
        1,
        {"kill": 1},
        0,
    )
    assert found["without"] == [{"from_s": 5.0, "to_s": 6.5, "seconds": 1.5}]
    assert [(t["node"], t["seconds"]) for t in found["terms"]] == [("n1", 4.0), ("n2", 13.5)]
    assert sentence(found).startswith(
        "1 election (1 under kill), a leader for 8.8 s in the median, none for 1.5"
    )


def test_a_leader_that_nobody_follows_is_none(tmp_path: Path) -> None:
    """A deposed leader that has not heard of it still calls itself so."""
    later = [
        say(5.0, "n2", None, 3),
        say(5.0, "n3", None, 3),
        say(7.0, "n2", "n2", 3),
        say(7.0, "n3", "n2", 3),
    ]
    found = figures(tmp_path, [*START, *later], fault("partition", 12.0, 13.0))
    assert found["without_leader_s"] == 2.0
    assert (found["elections_by_fault"], found["elections_unprovoked"]) == ({"partition": 0}, 1)


def test_where_nobody_names_a_leader_its_own_word_is_enough(tmp_path: Path) -> None:
    lines = [{**say(1.0, "n1", "n1", None), "leader": None}, {**say(9.0, "n2", "n2", None), "leader": None}]
    lines.insert(1, {**say(8.0, "n1", None, None), "leader": None})
    found = figures(tmp_path, lines)
    assert (found["elections"], found["without_leader_s"]) == (1, 1.0)


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_a_restored_cluster_begins_its_terms_anew(tmp_path: Path, node: str) -> None:
    still = [say(5.1, "n1", "n1"), *(down(5.5, n) for n in ("n1", "n2", "n3"))]
    later = [say(7.0, n, node) for n in ("n1", "n2", "n3")]
    evidence = [{"phase": "during", "effect": True, "facts": {"anew": int(5.2 * S)}}]
    restored = msgspec.structs.replace(fault("restore", 5.0, 8.0), evidence=evidence)
    found = figures(tmp_path, [*START, *still, *later], restored)
    assert (found["elections"], found["elections_by_fault"]) == (1, {"restore": 1})
    assert figures(tmp_path, [*START, *still, *later], fault("kill", 5.0, 8.0))["elections"] == 0


def test_where_nobody_led_there_are_no_figures(tmp_path: Path) -> None:
    assert leadership(tmp_path / "none", (), 0, S, 3) is None


@pytest.mark.parametrize("given", [None, {}])
def test_the_report_says_nothing_without_figures(given: Any) -> None:
    assert leadership_part(_run({"leadership": given})) == ""


def test_the_report_has_them_in_words_and_tables(tmp_path: Path) -> None:
    text = leadership_part(_run({"leadership": figures(tmp_path, [*START, down(5.0, "n1")])}))
    assert "0 elections, a leader for 4.0 s in the median" in text
    assert "Without a leader" in text


def _run(results: dict[str, Any]) -> Run:
    return cast("Run", SimpleNamespace(results=results))
