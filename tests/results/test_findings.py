"""Signatures: the same bug has the same one whatever the seed, and other bugs have others."""

from __future__ import annotations

import doctest
import json

import pytest

from harness.core.errors import UsageError
from results import findings as module
from results.findings import findings, matches, of_run


def op(f, kind="ok", **more):
    return {"f": f, "type": kind, "process": 3, "node": "n1", "start_ns": 5, "end_ns": 9, **more}


def anomaly(kind, *window, text="why", key="k1"):
    return {"kind": kind, "key": key, "window": list(window), "explanation": text, "nodes": ["n1"]}


def results(checker, *anomalies, **more):
    check = {"verdict": "invalid", "reason": "because", "anomalies": list(anomalies)}
    good = {"verdict": "valid", "reason": "fine", "anomalies": []}
    base = {"system": "etcd", "version": "3.6.1", "seed": 1, "faults": {"partition": {}, "kill": {}}}
    return {**base, "checks": {"operations": good, checker: check}, **more}


def signatures(*args, **more):
    return [f.signature for f in findings(results(*args, **more))]


STALE = anomaly("stale-read", op("cas"), op("read"))


def test_examples():
    assert doctest.testmod(module).failed == 0


def test_only_what_is_invalid_is_a_finding():
    (found,) = findings(results("linearizable", STALE))
    assert found.signature == "etcd/linearizable/stale-read/read+write/kill+partition"
    assert (found.checker, found.anomalies, found.explanation, found.version) == (
        *("linearizable", 1, "why"),
        "3.6.1",
    )
    assert findings({"checks": {}}) == []


def test_what_a_seed_draws_changes_nothing():
    other = anomaly("stale-read", op("write", process=99, node="n3"), op("read", value=4), key="k7", text="x")
    many = [other] * 9 + [anomaly("stale-read", op("write"), op("read"), op("delete"))]
    assert signatures("linearizable", STALE) == signatures(
        "linearizable", *many, seed=5, version="3.5.1", started="2027"
    )


@pytest.mark.parametrize(
    "other",
    [
        results("linearizable", anomaly("never-written", op("cas"), op("read"))),
        results("linearizable", anomaly("stale-read", op("cas"), op("txn"))),
        results("linearizable", STALE, faults={"clock": {}}),
        results("linearizable", STALE, system="redis"),
        results("revisions", STALE),
    ],
)
def test_what_a_bug_keeps_tells_it_from_another(other):
    assert findings(other)[0].signature not in signatures("linearizable", STALE)


def test_one_shape_a_check_is_one_finding():
    assert signatures("set", anomaly("flicker", op("add")), anomaly("stale", op("add"))) == [
        "etcd/set/stale/add/kill+partition"
    ]
    assert len(signatures("set", anomaly("lost", op("add")), anomaly("stale", op("add")))) == 2
    none = anomaly("no-order", op("cas"), op("read"))
    assert signatures("linearizable", none, STALE) == signatures("linearizable", STALE)
    assert signatures("linearizable", none) == ["etcd/linearizable/no-order/read+write/kill+partition"]


def test_operations_of_unknown_outcome_are_no_evidence():
    window = (op("acquire"), op("acquire"), op("write", "info"))
    assert signatures("lock", anomaly("overlap", *window)) == ["etcd/lock/overlap/acquire/kill+partition"]


def test_a_crash_is_known_by_its_words_and_not_by_what_went_on_meanwhile():
    def crash(node, number, f):
        text = f'{node} logged "panic: slice [{number}:4] out of range at 0x{number}" by {number}.0 s'
        return signatures("logs", anomaly("crash", op(f), text=text))

    assert crash("n1", 3, "read") == crash("n2", 71, "cas")
    assert crash("n1", 3, "read") == ["etcd/logs/crash:panic-slice-out-of-range-at/none/kill+partition"]


def test_invalid_without_an_anomaly_is_a_finding_all_the_same():
    (found,) = findings(results("custom"))
    assert found.signature == "etcd/custom/none/none/kill+partition"
    assert found.explanation == "because"


def test_families_can_be_told():
    (found,) = findings(results("linearizable", STALE), ["pause", "kill", "kill"])
    assert found.signature.endswith("/kill+pause")


def test_patterns():
    (found,) = signatures("linearizable", STALE)
    assert matches(found, found)
    assert matches("etcd/linearizable/*", found)
    assert not matches("etcd/linearizable", found)


def test_of_a_run(tmp_path):
    (tmp_path / "results.json").write_text(json.dumps(results("linearizable", STALE)))
    assert len(of_run(tmp_path)) == 1
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(UsageError, match="splitbrain check"):
        of_run(tmp_path)
