"""Damage to data at rest: that file and no other, just so much, and what was copied comes back whole."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusters.means import atrest
from clusters.means.leftovers import leftovers
from clusters.providers.docker import Docker
from clusters.providers.netns import Netns, NetnsCluster
from harness.core.cluster import DATA_DIR, Process
from harness.core.errors import InfrastructureError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A log of a megabyte of which ten bytes are used, a small file, and an empty one."""
    found = tmp_path / "data"
    (found / "wal").mkdir(parents=True)
    (found / "wal" / "1.wal").write_bytes(b"0123456789")
    os.truncate(found / "wal" / "1.wal", 1 << 20)
    (found / "db").write_bytes(b"abc")
    (found / "empty").touch()
    return found


def changed(data: Path, act: Callable[[], object]) -> set[str]:
    before = atrest.sums(data)
    act()
    after = atrest.sums(data)
    return {file for file in {*before, *after} if before.get(file) != after.get(file)}


@pytest.mark.parametrize("seed", range(20))
def test_one_bit_of_one_file_is_flipped_where_it_holds_something(data: Path, seed: int) -> None:
    old = (data / "wal" / "1.wal").read_bytes()
    assert changed(data, lambda: atrest.flip(data, "wal/*", seed, 1)) == {"wal/1.wal"}
    new = (data / "wal" / "1.wal").read_bytes()
    assert len(new) == len(old)
    assert new[10:] == old[10:]
    assert sum((a ^ b).bit_count() for a, b in zip(old, new, strict=True)) == 1
    assert changed(data, lambda: atrest.flip(data, "wal/*", seed, 1)) == {"wal/1.wal"}
    assert (data / "wal" / "1.wal").read_bytes() == old, "by the seed, it is the same bit"


def test_the_end_of_a_file_is_cut_off(data: Path) -> None:
    facts = atrest.cut(data, "wal/*", 3)
    assert facts["used_bytes"] == 10
    assert (data / "wal" / "1.wal").stat().st_size == facts["left_bytes"] < 10


def test_a_copy_comes_back_as_it_was(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atrest, "SNAPSHOT", str(tmp_path / "snapshot"))
    before = atrest.sums(data)
    atrest.snapshot(data)
    assert changed(data, lambda: atrest.wipe(data)) == {"wal/1.wal", "db", "empty"}
    assert atrest.roll_back(data) == {"files": 3}
    assert atrest.sums(data) == before
    assert (data / "wal" / "1.wal").stat().st_blocks < 100, "what was not written is not copied"
    with pytest.raises(OSError, match="no copy that could be restored"):
        atrest.roll_back(data)


def test_what_was_sent_in_pieces_is_the_same(data: Path, tmp_path: Path) -> None:
    (data / "big").write_bytes(os.urandom(3 << 20))
    os.truncate(data / "big", 8 << 20)
    (data / "db").chmod(0o640)
    sent = json.loads(json.dumps(list(atrest.pieces(data))))
    assert max(len(one["data"]) for one in sent) < 1.5 * (1 << 20)
    there = tmp_path / "there"
    there.mkdir()
    for one in reversed(sent):
        atrest.put(there, [one])
    assert atrest.sums(there) == atrest.sums(data)
    assert (there / "big").read_bytes() == (data / "big").read_bytes()
    assert ((there / "db").stat().st_mode & 0o777, (there / "empty").stat().st_size) == (0o640, 0)
    assert (there / "big").stat().st_blocks * 512 < 4 << 20, "what was not written is not sent"


def test_a_file_that_is_not_there_is_named(data: Path) -> None:
    with pytest.raises(OSError, match=r"no file that holds anything is called 'emp\*'"):
        atrest.flip(data, "emp*", 1, 1)


@pytest.fixture(
    params=[pytest.param(Netns, marks=pytest.mark.netns), pytest.param(Docker, marks=pytest.mark.docker)]
)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NetnsCluster]:
    run = f"trest{request.param.__name__[0].lower()}"
    made = request.param({}).create(run=run, run_dir=tmp_path, nodes=1, mounts={})
    text = f"cd {DATA_DIR}; n=0; while :; do n=$((n + 1)); echo $n >> count; sleep 0.01; done"
    try:
        assert made.capabilities["at-rest"] is None
        made.launch({"n1": [Process(name="counts", argv=("/bin/sh", "-c", text))]})
        time.sleep(0.2)
        yield made
    finally:
        made.close()
    assert leftovers(run) == []


def test_other_data_take_the_place_of_what_was_there(cluster: NetnsCluster, data: Path) -> None:
    cluster.signal("n1", "KILL")
    assert cluster.disk.replace("n1", data) == cluster.disk.sums("n1") == atrest.sums(data)
    cluster.start("n1")
    assert cluster.state("n1")[0].alive


def test_a_node_comes_back_with_what_it_had(cluster: NetnsCluster) -> None:
    cluster.disk.snapshot("n1")
    assert {s.state for s in cluster.state("n1")} <= {"R", "S", "D"}, "it goes on after the copy"
    first = cluster.disk.sums("n1")
    assert list(first) == ["count"]
    time.sleep(0.2)
    with pytest.raises(InfrastructureError, match="its data are not at rest"):
        cluster.disk.tamper("n1", "wipe", {})
    cluster.signal("n1", "KILL")
    stood = cluster.disk.sums("n1")
    assert stood != first
    cluster.disk.tamper("n1", "bit-flip", {"pattern": "*", "seed": 1, "count": 1})
    assert cluster.disk.sums("n1") != stood
    cluster.disk.tamper("n1", "rollback", {})
    rolled = cluster.disk.sums("n1")
    assert rolled not in ({}, stood)
    cluster.disk.tamper("n1", "wipe", {})
    assert cluster.disk.sums("n1") == {}
    cluster.start("n1")
    assert cluster.state("n1")[0].alive
