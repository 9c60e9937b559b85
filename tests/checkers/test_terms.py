"""Election safety: two leaders of one term are found, and everything that only looks like that is not."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from checkers.terms import TERMS, Terms
from harness.core.checker import Result
from harness.core.errors import UsageError
from tests.checkers.runs import context, history, logged, ns, record

Line = tuple[float, str, str, str, int | None]


def check(run_dir: Path | None, **spec: object) -> Result:
    checker: Terms = TERMS.load()({})
    return checker.check(context(run_dir, history([]), spec))


def leads(time: float, node: str, term: int) -> Line:
    return (time, node, "election", f"{node}a7 became leader at term {term}", term)


def test_two_nodes_led_one_term(tmp_path: Path) -> None:
    logged(tmp_path, leads(1, "n1", 2), leads(5, "n2", 3), leads(6.5, "n3", 3))
    result = check(tmp_path)
    assert result.verdict == "invalid"
    (anomaly,) = result.anomalies
    assert (anomaly.kind, anomaly.key, anomaly.nodes) == ("two-leaders", "term 3", ["n2", "n3"])
    for part in ("term 3", '"n2a7 became leader at term 3" by 5.00 s', '"n3a7 became leader', "6.50 s"):
        assert part in anomaly.explanation


def test_one_leader_each(tmp_path: Path) -> None:
    logged(tmp_path, leads(1, "n1", 2), leads(5, "n2", 3), leads(7, "n1", 5))
    result = check(tmp_path)
    assert result.verdict == "valid"
    assert (result.detail["terms"], result.detail["leaders"], result.detail["leader_changes"]) == (3, 2, 2)
    assert result.detail["elections"][0] == {"time": ns(1), "term": 2, "node": "n1"}


def test_a_restored_cluster_begins_its_terms_anew(tmp_path: Path) -> None:
    lines = [leads(1, "n1", 2), *((4.0, n, "start", "starting etcd", None) for n in ("n1", "n2"))]
    logged(tmp_path, *lines, leads(4, "n2", 2), leads(6, "n1", 3))
    record(tmp_path, [("restore", 5, 9, True)])
    survived = [{"prop": "linearizable", "families": ["restore"]}]
    assert check(tmp_path, promises=survived).verdict == "invalid", "of one cluster it would be two leaders"
    (tmp_path / "faults.jsonl").unlink()
    record(tmp_path, [("restore", 5, 9, True)], anew=3.5)
    result = check(tmp_path, promises=survived)
    assert (result.verdict, result.detail["terms"]) == ("valid", 3)
    logged(tmp_path, *lines, leads(4, "n2", 2), leads(6, "n1", 2))
    assert check(tmp_path, promises=survived).anomalies[0].nodes == ["n2", "n1"], (
        "two of the restored cluster"
    )


def test_a_restart_fakes_none(tmp_path: Path) -> None:
    """A node that is started again finds its old lines in its log, and they are told again."""
    again = (3.0, "n1", "start", "starting etcd", None)
    logged(tmp_path, leads(1, "n1", 2), again, leads(3, "n1", 2), leads(5, "n2", 3))
    assert check(tmp_path).verdict == "valid"
    assert check(tmp_path).detail["terms"] == 2


def test_status_and_what_others_saw_are_no_evidence(tmp_path: Path) -> None:
    logged(
        tmp_path,
        leads(1, "n1", 2),
        (1, "n2", "leader-seen", "n2 elected leader n1 at term 2", 2),
        (1, "n3", "leader-lost", "n3 lost leader n1 at term 2", 2),
        (2, "n3", "election", "n3 became leader", None),
    )
    lines = [{"time": ns(2), "node": n, "ok": True, "role": "leader", "term": 2} for n in ("n1", "n2")]
    (tmp_path / "monitor.jsonl").write_bytes(b"".join(msgspec.json.encode(x) + b"\n" for x in lines))
    assert check(tmp_path).verdict == "valid"


def test_beyond_what_is_promised_it_is_an_observation(tmp_path: Path) -> None:
    record(tmp_path, [("wipe", 4, 5, True)])
    logged(tmp_path, leads(5, "n2", 3), leads(6, "n3", 3))
    result = check(tmp_path)
    assert result.verdict == "valid"
    assert "wipe" in result.detail["observations"][0]
    promises = [{"prop": "linearizable", "families": ["wipe"]}]
    assert check(tmp_path, promises=promises).verdict == "invalid"
    logged(tmp_path, leads(1, "n2", 3), leads(2, "n3", 3))  # before the fault
    assert check(tmp_path).verdict == "invalid"


def test_without_elections(tmp_path: Path) -> None:
    assert check(None).verdict == check(tmp_path).verdict == "valid"
    (tmp_path / "logs/n1").mkdir(parents=True)
    (tmp_path / "logs/n1/etcd.log").write_text("a line in other words\n")
    assert check(tmp_path).verdict == "valid"  # perhaps a system without terms
    (tmp_path / "monitor.jsonl").write_text('{"time":1,"node":"n1","ok":true,"role":"leader","term":2}\n{"ti')
    assert check(tmp_path).verdict == "unknown"


def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").write_text('{"time":1,"node":"n1","kind":"start","text":"s"}\nnonsense\n')
    with pytest.raises(UsageError, match="line 2"):
        check(tmp_path)


def test_the_recorded_run() -> None:
    result = check(Path(__file__).parents[1] / "data/format-1")
    assert result.verdict == "valid"
    assert result.detail["terms"] >= 2


@pytest.mark.parametrize("part", range(4))
def test_random_elections(tmp_path: Path, part: int) -> None:
    """Terms with a leader or none, told late and twice; then a second leader of one of them."""
    for seed in range(part * 250, part * 250 + 250):
        rng = random.Random(seed)
        lines: list[Line] = []
        now = 0.0
        for term in range(2, rng.randrange(3, 12)):
            now += rng.random()
            if rng.random() < 0.8:
                leader = rng.choice(["n1", "n2", "n3"])
                lines += [leads(now, leader, term)] * rng.randrange(1, 3)
        logged(tmp_path, *lines)
        assert check(tmp_path).verdict == "valid"
        if lines:
            time, node, _, _, term_ = rng.choice(lines)
            other = rng.choice([n for n in ("n1", "n2", "n3") if n != node])
            logged(tmp_path, *lines, leads(max(0.0, time + rng.uniform(-1, 1)), other, term_ or 0))
            result = check(tmp_path)
            assert [a.key for a in result.anomalies] == [f"term {term_}"]
