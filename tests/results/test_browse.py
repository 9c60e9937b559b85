"""Search, filters, order, pages and trends, over the rows of an index."""

import json

import pytest

from harness.core.errors import UsageError
from results import browse, index


def a_run(root, n, **results):
    run = root / "etcd-register" / f"202601{1 + n // 50:02}T000000Z-{n}-r{n:05}"
    run.mkdir(parents=True)
    (run / "results.json").write_text(
        json.dumps(
            {
                "verdict": "valid", "reason": f"reason {n}", "seed": n, "system": "etcd", "version": "3.6.16",
                "workload": "register", "provider": "netns", "faults": {"kill": {}}, "ops": n,
                "started": f"2026-01-{1 + n // 50:02}T00:{n % 50:02}:00Z", "leader_changes": n % 3,
                "checks": {"operations": {"detail": {"latency_ms": {"p50": 1.0, "p99": float(n)}}}},
            }
            | results
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for n in range(120):
        a_run(root, n)
    a_run(
        root, 120, verdict="invalid", system="redis", faults={"clock": {}, "packet": {}}, reason="100%_lost"
    )
    a_run(root, 121, verdict="unknown", error="no", provider="docker", workload="set")
    index.refresh(root)
    return root


def seeds(root, **asked):
    return [row.seed for row in browse.search(root, browse.Query(**asked)).rows]


def test_pages_are_of_the_newest_first_and_one_beyond_the_last_is_the_last(root):
    assert seeds(root)[:3] == [121, 120, 119]
    found = browse.search(root, browse.Query(page=99))
    assert (found.total, found.all, found.page, found.pages) == (122, 122, 3, 3)
    assert [row.seed for row in found.rows] == list(range(21, -1, -1))


def test_every_word_has_to_occur_and_signs_mean_themselves(root):
    assert seeds(root, q="REDIS clock") == [120]
    assert seeds(root, q="redis kill") == []
    assert seeds(root, q="%_") == [120]
    assert seeds(root, q="'; drop table runs; --") == []


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({"state": "error"}, [121]),
        ({"system": "redis"}, [120]),
        ({"fault": "packet"}, [120]),
        ({"fault": "pack"}, []),
        ({"provider": "docker"}, [121]),
        ({"workload": "set", "version": "3.6.16"}, [121]),
        ({"version": "3"}, []),
    ],
)
def test_filters(root, asked, expected):
    assert seeds(root, **asked) == expected


def test_order_with_what_is_not_known_last(root):
    assert seeds(root, sort="ops", order="asc")[:2] == [0, 1]
    assert seeds(root, sort="state", order="asc")[0] == 121


def test_facets_count_the_whole_index(root):
    facets = browse.search(root, browse.Query(system="redis")).facets
    assert facets["system"] == [("etcd", 121), ("redis", 1)]
    assert facets["fault"] == [("kill", 121), ("clock", 1), ("packet", 1)]


@pytest.mark.parametrize("asked", [{"sort": "sead"}, {"order": "up"}, {"page": 0}, {"state": "vald"}])
def test_what_there_is_not_is_refused(asked):
    with pytest.raises(UsageError):
        browse.Query(**asked)


def test_trends_by_day_and_by_what_ran(root):
    found = browse.trend(root, browse.Query())
    assert [(day.name, day.runs) for day in found.days] == [
        ("2026-01-01", 50), ("2026-01-02", 50), ("2026-01-03", 22),
    ]  # fmt: skip
    assert found.days[0].p99_ms == 24.5
    assert found.days[2].states == {"valid": 20, "invalid": 1, "error": 1}
    assert [group.name for group in found.groups] == ["etcd · register", "etcd · set", "redis · register"]
    assert browse.trend(root, browse.Query(system="redis")).days[0].runs == 1


def test_no_runs_at_all(tmp_path):
    assert browse.search(tmp_path / "nowhere", browse.Query()).rows == []
    assert browse.search(tmp_path, browse.Query()).total == 0
    assert browse.trend(tmp_path, browse.Query()).days == []
