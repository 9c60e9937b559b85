"""A real etcd 3.6.16, one node on loopback: registers, status and logs against what it really says."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from harness.core.errors import Definite, Indeterminate, Mismatch
from tests.clusters.real_etcd import Member, running


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with running(tmp_path_factory.mktemp("etcd")) as (member,):
        yield member


def test_a_register_from_nothing_to_nothing(etcd: Member) -> None:
    c = etcd.client()
    assert c.read("a").value is None
    assert c.write("a", 1).value == 1
    assert c.read("a").value == 1
    assert c.cas("a", 1, 2).value == [1, 2]
    with pytest.raises(Mismatch):
        c.cas("a", 1, 3)
    with pytest.raises(Mismatch):
        c.cas("a", None, 3)
    assert c.read("a").value == 2
    c.write("a", None)
    assert c.read("a").value is None
    with pytest.raises(Mismatch):
        c.cas("a", 2, 3)
    assert c.cas("a", None, 4).value == [None, 4]
    c.cas("a", 4, None)
    assert c.read("a").value is None
    c.close()


@pytest.mark.parametrize(
    "value", [0, 1, True, False, "1", "", "ü\0", -(2**63), [1, None, "x"], {"a": [True]}]
)
def test_types_survive_and_are_compared_as_what_they_are(etcd: Member, value: object) -> None:
    c = etcd.client()
    c.write(("types", 1), value)
    read = c.read(("types", 1)).value
    assert (read, type(read)) == (value, type(value))
    with pytest.raises(Mismatch):
        c.cas(("types", 1), [value], 0)
    c.cas(("types", 1), value, 0)
    c.close()


def test_keys_of_different_types_are_different_objects(etcd: Member) -> None:
    c = etcd.client()
    for key in (1, "1", None, "k/\u00e9\n", "a" * 500):
        assert c.read(key).value is None
        c.write(key, repr(key))
    assert c.read(1).value == "1"
    assert c.read("1").value == "'1'"
    c.close()


def test_a_large_value_comes_back_whole(etcd: Member) -> None:
    c = etcd.client()
    value = ["x" * 1000] * 300  # the answer is chunked, and takes many reads
    c.write("large", value)
    assert c.read("large").value == value
    with pytest.raises(Definite, match="request too large"):
        c.write("large", ["x" * 1000] * 1600)
    assert c.read("large").value == value
    c.close()


def test_revisions_grow_with_writes_and_only_with_them(etcd: Member) -> None:
    c = etcd.client()
    first = c.write("r", 1).ext
    assert c.read("r").ext == first
    with pytest.raises(Mismatch):
        c.cas("r", 9, 10)
    assert c.read("r").ext["revision"] == first["revision"]
    assert c.cas("r", 1, 2).ext["revision"] == first["revision"] + 1
    assert first["raft_term"] >= 2
    c.close()


def test_serializable_reads_are_asked_for_as_such(etcd: Member) -> None:
    c = etcd.client(reads="serializable")
    assert "revision" in c.write("s", 5).ext
    read = c.read("s")
    assert read.value == 5
    assert "revision" not in read.ext  # it would be the node's own, which no order of real time binds
    c.close()


def test_status_and_barrier(etcd: Member) -> None:
    status = etcd.system.status(etcd.node, 2.0)
    assert (status.role, status.leader) == ("leader", "n1")
    assert status.term is not None
    assert status.term >= 2
    revision = etcd.system.barrier(etcd.node, 2.0)
    after = etcd.system.status(etcd.node, 2.0)
    assert after.revision == revision
    assert revision is not None
    assert status.revision == revision - 1
    assert after.commit is not None
    assert status.commit is not None
    assert after.commit > status.commit
    assert after.applied == after.commit


def test_readiness_does_not_write_below_the_registers_prefix(etcd: Member) -> None:
    c = etcd.client()
    before = c.read("n1").value
    etcd.system.ready(etcd.node, 2.0)
    assert c.read("n1").value == before
    c.close()


def test_a_paused_server_times_out_and_its_late_answers_reach_nobody(etcd: Member) -> None:
    c = etcd.client(timeout_s=0.3)
    c.write("p", "before")
    etcd.signal(signal.SIGSTOP)
    try:
        with pytest.raises(Indeterminate, match=r"^timeout$"):
            c.write("p", "during")
        # The kernel still accepts connections for it.
        with pytest.raises(Definite, match="timeout"):
            c.read("p")
        with pytest.raises(OSError, match="timeout"):
            etcd.system.status(etcd.node, 0.2)
    finally:
        etcd.signal(signal.SIGCONT)
    c = etcd.client()
    c.write("q", "asked later")
    assert c.read("q").value == "asked later"
    assert c.read("p").value in {"before", "during"}
    c.close()


def test_a_killed_server_refuses_and_what_it_acknowledged_is_there_again(etcd: Member) -> None:
    c = etcd.client()
    c.write("kept", 1)
    etcd.end()
    with pytest.raises(Definite, match=r"refused|reset"):
        c.write("kept", 2)
    with pytest.raises(Definite):
        c.read("kept")
    with pytest.raises(OSError, match="refused"):
        etcd.system.ready(etcd.node, 1.0)
    etcd.start()
    etcd.await_ready()
    assert c.read("kept").value == 1
    c.close()


def test_the_log_tells_of_starts_and_elections(etcd: Member) -> None:
    lines = etcd.log.read_text().splitlines()
    events = list(etcd.system.events("n1", enumerate(lines)))
    kinds = [e.kind for e in events]
    assert kinds[0] == "start"
    assert "3.6.16" in events[0].text
    elections = [e.term for e in events if e.kind == "election"]
    assert len(elections) == kinds.count("start")
    assert elections == sorted(set(elections), key=lambda t: t or 0)
    assert etcd.system.status(etcd.node, 2.0).term == elections[-1]
    assert "leader-seen" in kinds
    assert "crash" not in kinds
