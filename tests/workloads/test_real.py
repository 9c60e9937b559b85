"""Every workload on a real etcd cluster: its operations succeed, its plan meets what it is for, and nobody is
accused. Three runs at a time, since each mostly waits."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from splitbrain import registry
from tests.runs.commands import Done, splitbrain
from tests.workloads.plans import workload

pytestmark = pytest.mark.netns

# register has tests of its own, logs and queues are not etcd's; the others in the order of their length
NAMES = [
    "watch",
    "lease",
    "lock",
    *sorted({*registry.names("workloads")} - {"register", "watch", "lease", "lock"} - {"log", "queue"}),
]


def start(name: str, out: Path, *more: object) -> Done:
    words = (
        "run",
        "--workload",
        name,
        "--faults",
        "none",
        "--time",
        "3s",
        "--seed",
        5,
        "--out",
        out,
        "--json",
    )
    return splitbrain(*words, *more)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Done]]]:
    out = tmp_path_factory.mktemp("runs")
    with ThreadPoolExecutor(3) as pool:
        yield {name: pool.submit(start, name, out, *OPTIONS.get(name, ())) for name in NAMES}


# A lease that runs out within three seconds, and enough that hold a lock one after another.
OPTIONS = {"lease": ("--opt", "ttl_s=1"), "lock": ("--opt", "hold_s=0.05")}


def operations(done: Done) -> list[dict[str, Any]]:
    """The completions of clients, under load and at the end."""
    lines = (Path(done.results["run"]) / "history.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if e["type"] != "invoke"]


def counts(events: list[dict[str, Any]]) -> Counter[str]:
    """By `f/type`."""
    return Counter(f"{e['f']}/{e['type']}" for e in events)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_valid_and_means_something(runs: dict[str, Future[Done]], name: str) -> None:
    done = runs[name].result()
    results = done.results
    assert (done.code, results["verdict"]) == (0, "valid"), results["reason"]
    assert results["holes"] == []
    assert set(results["checks"]) >= set(workload(name).checkers)
    assert all(row["met"] for row in results["meaning"]["rows"])
    assert results["ops"] > 150
    assert not any(kind.endswith("/info") for kind in counts(operations(done))), "nothing was disturbed"


@pytest.mark.parametrize(("name", "take"), [("lock", "acquire"), ("election", "campaign")])
def test_locks_are_contended_and_change_hands(runs: dict[str, Future[Done]], name: str, take: str) -> None:
    events = operations(runs[name].result())
    took = counts(events)
    assert took[f"{take}/ok"] > 10
    assert took[f"{take}/fail"] > 10
    assert {e["error"] for e in events if e["type"] == "fail" and e["f"] == take} == {"held"}
    assert len({e["node"] for e in events if e["f"] == take and e["type"] == "ok"}) == 3
    assert len({e["process"] for e in events if e["f"] == take and e["type"] == "ok"}) > 4


def test_leases_live_are_kept_and_end(runs: dict[str, Future[Done]]) -> None:
    events = operations(runs["lease"].result())
    done = counts(events)
    assert done["keepalive/ok"] > 10
    assert done["revoke/ok"] > 3
    seen = [e["value"] for e in events if e["f"] == "read" and e["type"] == "ok"]
    assert None in seen
    assert sum(value is not None for value in seen) > 50


def test_watchers_see_what_others_put_and_resume(runs: dict[str, Future[Done]]) -> None:
    events = operations(runs["watch"].result())
    watches = [e for e in events if e["f"] == "watch" and not (e.get("ext") or {}).get("final")]
    assert sum(bool(e["value"]["events"]) for e in watches) > 20
    assert sum(e["value"]["from"] > 1 for e in watches) > 20
    final = [e for e in events if e["f"] == "watch" and (e.get("ext") or {}).get("final")]
    put = Counter(str(e["key"]) for e in events if e["f"] == "put" for _ in e["value"])
    for e in final:
        assert len(e["value"]["events"]) == put[e["key"]], "told from the beginning, through every node"


def test_final_reads_show_all_that_was_acknowledged(runs: dict[str, Future[Done]]) -> None:
    events = operations(runs["set"].result())
    added: dict[str, set[int]] = {}
    for e in events:
        if e["f"] == "add":
            added.setdefault(e["key"], set()).add(e["value"])
    final = [e for e in events if (e.get("ext") or {}).get("final")]
    assert {(e["key"], e["node"]) for e in final} == {(key, f"n{i}") for key in added for i in (1, 2, 3)}
    assert all(set(e["value"]) == added[e["key"]] for e in final)


def test_transactions_write_several_keys_and_compare_what_was_seen(runs: dict[str, Future[Done]]) -> None:
    txns = [e for e in operations(runs["kv"].result()) if e["f"] == "txn" and e["type"] == "ok"]
    assert {len(e["value"]) for e in txns} == {1, 2, 3}
    compared = [m for e in txns for m in e["value"] if m[0] == "cas" and m[2] is not None]
    assert len(compared) > 10
    assert any(m[0] == "r" and m[2] is not None for e in txns for m in e["value"])


@pytest.mark.slow
@pytest.mark.parametrize(("fencing", "verdict"), [("false", "invalid"), ("true", "valid")])
def test_the_lock_without_fencing_is_the_positive_control(tmp_path: Path, fencing: str, verdict: str) -> None:
    """Holders pause beyond the TTL: both are at work at once, and only fencing keeps the resource whole."""
    options = [f"fencing={fencing}", "ttl_s=1", "pause_share=0.3", "pause_s=4"]
    words = [word for option in options for word in ("--opt", option)]
    more = (
        "--faults",
        "none",
        "--time",
        "15s",
        "--seed",
        5,
        "--expect",
        verdict,
        "--out",
        tmp_path,
        "--json",
    )
    done = splitbrain("run", "--workload", "lock", *words, *more)
    assert (done.code, done.results["verdict"]) == (0, verdict), done.results["reason"]
    refused = [e for e in operations(done) if e.get("error") == "stale token"]
    assert bool(refused) == (fencing == "true")
