"""What workloads do to etcd beyond registers, against a real one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from clusters.systems._etcd_client import EtcdClient
from harness.core.errors import Definite, Mismatch
from harness.core.op import Reply
from tests.clusters.real_etcd import Member, running


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    with running(tmp_path_factory.mktemp("etcd")) as (member,):
        yield member


@pytest.fixture
def c(etcd: Member) -> Iterator[EtcdClient]:
    client = etcd.client()
    yield client
    client.close()


def revision(reply: Reply) -> int:
    number = reply.ext["revision"]
    assert isinstance(number, int)
    return number


# Maps


def test_a_transaction_does_all_in_one_revision_and_fills_in_its_reads(c: EtcdClient) -> None:
    assert c.kv_read("m1").value == {}
    first = c.kv_txn("m1", [["w", "a", 1], ["r", "b", None], ["cas", "c", None, "x"]])
    assert first.value == [["w", "a", 1], ["r", "b", None], ["cas", "c", None, "x"]]
    read = c.kv_read("m1")
    assert (read.value, revision(read)) == ({"a": 1, "c": "x"}, revision(first))
    second = c.kv_txn("m1", [["cas", "c", "x", None], ["r", "a", None], ["w", "b", [2]]])
    assert second.value[1] == ["r", "a", 1]
    assert revision(second) == revision(first) + 1
    assert c.kv_read("m1").value == {"a": 1, "b": [2]}


def test_a_comparison_that_does_not_hold_undoes_the_whole_transaction(c: EtcdClient) -> None:
    before = c.kv_txn("m2", [["w", "a", 1], ["w", "b", 2]])
    for wrong in (["cas", "b", 1, 9], ["cas", "b", "2", 9], ["cas", "b", None, 9], ["cas", "z", 2, 9]):
        with pytest.raises(Mismatch):
            c.kv_txn("m2", [["w", "a", 7], ["r", "a", None] if wrong[1] != "a" else wrong, wrong][::2])
    after = c.kv_read("m2")
    assert (after.value, revision(after)) == ({"a": 1, "b": 2}, revision(before))


def test_a_sub_named_twice_is_refused_before_it_is_sent(c: EtcdClient) -> None:
    with pytest.raises(Definite, match="twice"):
        c.kv_txn("m3", [["w", "a", 1], ["cas", "a", 1, 2]])
    assert c.kv_read("m3").value == {}


def test_maps_do_not_see_each_other(c: EtcdClient) -> None:
    for key in ("m", "m/", 'm"', "m0"):
        c.kv_txn(key, [["w", "a", key]])
    assert [c.kv_read(key).value for key in ("m", "m/", 'm"', "m0")] == [
        {"a": "m"},
        {"a": "m/"},
        {"a": 'm"'},
        {"a": "m0"},
    ]


# Sets, counters, ids


def test_a_set_holds_what_was_added_once(c: EtcdClient) -> None:
    assert c.set_read("s1").value == []
    for element in (3, 1, 2, 2, 10**15):
        assert c.set_add("s1", element).value == element
    read = c.set_read("s1")
    assert sorted(read.value) == [1, 2, 3, 10**15]
    assert revision(read) > 0


def test_a_counter_is_exact_under_threads(etcd: Member, c: EtcdClient) -> None:
    assert c.counter_read("c1").value == 0

    def add(amounts: list[int]) -> None:
        mine = etcd.client()
        for amount in amounts:
            mine.counter_add("c1", amount)
        mine.close()

    shares = [[1, 5, 100], [2, 3, 7] * 10, [1] * 40, [50, 4]]
    threads = [threading.Thread(target=add, args=(share,)) for share in shares]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert c.counter_read("c1").value == sum(map(sum, shares))


@pytest.mark.parametrize("amount", [0, -1, 101])
def test_a_counter_adds_no_more_than_one_transaction_holds(c: EtcdClient, amount: int) -> None:
    with pytest.raises(Definite, match=r"1\.\.100"):
        c.counter_add("c2", amount)
    assert c.counter_read("c2").value == 0


def test_ids_are_unique_under_threads(etcd: Member) -> None:
    ids: list[int] = []

    def draw() -> None:
        mine = etcd.client()
        ids.extend(mine.generate().value for _ in range(50))
        mine.close()

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(set(ids)) == len(ids) == 200


def test_serializable_reads_of_every_kind_say_no_revision(etcd: Member) -> None:
    c = etcd.client(reads="serializable")
    lease = c.lease_grant("g", 60).value
    made = [c.kv_txn("z", [["w", "a", 1]]), c.set_add("z", 1), c.counter_add("z", 1)]
    made += [c.lock_acquire("z", lease), c.election_campaign("z", lease), c.lease_attach("z", lease)]
    made += [c.lock_write("z", [7, 1]), c.kv_txn("z", [["r", "a", None], ["w", "b", 2]])]
    assert all("revision" in reply.ext for reply in made)
    reads = [c.kv_read("z"), c.set_read("z"), c.counter_read("z"), c.lock_read("z"), c.election_leader("z")]
    reads += [c.lease_read("z"), c.kv_txn("z", [["r", "a", None]])]
    assert [r.value for r in reads[:4]] == [{"a": 1, "b": 2}, [1], 1, 7]
    assert (reads[4].value, reads[5].value) == (made[4].value, lease)
    assert reads[6].value == [["r", "a", 1]]
    assert not any("revision" in reply.ext for reply in reads)
    c.close()


# Leases


def test_a_lease_from_grant_to_revocation(c: EtcdClient) -> None:
    grant = c.lease_grant("g1", 30)
    lease = grant.value
    assert int(lease) > 0
    assert grant.ext == {"lease": lease, "ttl_s": 30}
    assert c.lease_read("g1").value is None
    assert revision(c.lease_attach("g1", lease)) == revision(c.lease_read("g1"))
    assert c.lease_read("g1").value == lease
    alive = c.lease_keepalive("g1", lease)
    assert (alive.value, alive.ext) == (lease, {"lease": lease, "ttl_s": 30})
    assert c.lease_revoke("g1", lease).value == lease
    assert c.lease_read("g1").value is None
    for call in (c.lease_revoke, c.lease_keepalive, c.lease_attach, c.lock_acquire):
        with pytest.raises(Definite, match=r"^lease not found$"):
            call("g1", lease)
    assert c.lease_read("g1").value is None


def test_a_ttl_is_what_the_server_made_of_it(c: EtcdClient) -> None:
    assert c.lease_grant("g2", 0.1).ext["ttl_s"] == 1
    assert c.lease_grant("g2", 1.2).ext["ttl_s"] == 2
    with pytest.raises(Definite, match="TTL too large"):
        c.lease_grant("g2", 10**10)


# Locks and elections


def test_a_lock_is_held_by_one_and_its_tokens_grow(c: EtcdClient) -> None:
    one, other = c.lease_grant("l1", 30).value, c.lease_grant("l1", 30).value
    first = c.lock_acquire("l1", one)
    assert first.ext["token"] == first.value == revision(first)
    assert first.ext["lease"] == one
    for lease in (one, other):
        with pytest.raises(Mismatch, match=r"^held$"):
            c.lock_acquire("l1", lease)
    assert c.lock_acquire("l1-other", other).value > first.value
    c.lease_revoke("l1", one)
    assert c.lock_acquire("l1", other).value > first.value


def test_what_a_lock_guards_survives_it_and_a_fenced_write_needs_the_token_of_now(c: EtcdClient) -> None:
    assert c.lock_read("l2").value is None
    lease = c.lease_grant("l2", 30).value
    token = c.lock_acquire("l2", lease).value
    assert c.lock_write_fenced("l2", [5, token]).value == [5, token]
    for wrong in (token - 1, token + 1, 1):
        with pytest.raises(Definite, match=r"^stale token$"):
            c.lock_write_fenced("l2", [6, wrong])
    assert c.lock_read("l2").value == 5
    c.lease_revoke("l2", lease)
    assert c.lock_read("l2").value == 5
    with pytest.raises(Definite, match=r"^stale token$"):
        c.lock_write_fenced("l2", [7, token])
    assert revision(c.lock_write("l2", [8, token])) == revision(c.lock_read("l2"))
    assert c.lock_read("l2").value == 8


def test_an_expired_lease_takes_its_keys_and_fences_its_holder_off(c: EtcdClient) -> None:
    kept, lease = (c.lease_grant("l3", 1).value for _ in range(2))
    token = c.lock_acquire("l3", lease).value
    c.lease_attach("g3", lease)
    c.lease_attach("g4", kept)
    deadline = time.monotonic() + 6
    while c.lease_read("g3").value is not None:
        c.lease_keepalive("g4", kept)
        assert time.monotonic() < deadline, "a lease of 1 s is there after 6 s"
        time.sleep(0.1)
    assert c.lease_read("g4").value == kept
    with pytest.raises(Definite, match=r"^stale token$"):
        c.lock_write_fenced("l3", [1, token])
    with pytest.raises(Definite, match=r"^lease not found$"):
        c.lease_keepalive("g3", lease)
    assert c.lock_acquire("l3", kept).value > token


def test_an_election_has_one_leader(c: EtcdClient) -> None:
    assert c.election_leader("e1").value is None
    one, other = c.lease_grant("e1", 30).value, c.lease_grant("e1", 30).value
    won = c.election_campaign("e1", one)
    assert won.ext["token"] == won.value
    with pytest.raises(Mismatch, match=r"^held$"):
        c.election_campaign("e1", other)
    assert c.election_leader("e1").value == won.value
    c.lease_revoke("e1", one)
    assert c.election_leader("e1").value is None
    assert c.election_campaign("e1", other).value > won.value


# Watches, which stay open for a share of their time-out


@pytest.fixture
def w(etcd: Member) -> Iterator[EtcdClient]:
    client = etcd.client(1.0)
    yield client
    client.close()


def test_a_watch_gives_all_there_was_and_resumes_behind_it(w: EtcdClient) -> None:
    first = revision(w.watch_put("w1", [["a", 1], ["b", 2], ["c", 3]]))
    w.watch_put("w1/", [["a", 99]])  # another prefix
    second = revision(w.watch_put("w1", [["b", 4], ["a", None]]))
    seen = w.watch_events("w1").value
    assert seen["from"] == 1
    assert sorted(seen["events"][:3]) == [[first, "a", 1], [first, "b", 2], [first, "c", 3]]
    assert sorted(seen["events"][3:], key=repr) == [[second, "a", None], [second, "b", 4]]
    assert seen["bookmark"] >= second
    assert seen["next"] == seen["bookmark"] + 1
    third = revision(w.watch_put("w1", [["c", 5]]))
    again = w.watch_events("w1", seen["next"]).value
    assert again["events"] == [[third, "c", 5]]
    assert again["bookmark"] >= third
    part = w.watch_events("w1", second).value["events"]
    assert [e[0] for e in part] == [second, second, third]


def test_a_watch_with_nothing_to_see_still_has_a_bookmark(w: EtcdClient) -> None:
    now = w.generate().value
    seen = w.watch_events("w2").value
    assert seen["events"] == []
    assert seen["bookmark"] >= now
    ahead = w.watch_events("w2", now + 1000).value
    assert (ahead["events"], ahead["bookmark"], ahead["next"]) == ([], None, now + 1000)


def test_a_watch_sees_what_happens_while_it_is_open(etcd: Member, w: EtcdClient) -> None:
    now = w.generate().value
    over = threading.Event()
    put: list[int] = []

    def write() -> None:
        mine = etcd.client()
        while not over.is_set():
            put.append(revision(mine.watch_put("w3", [["a", len(put)], ["b", len(put)]])))
            time.sleep(0.02)
        mine.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        start, events = now + 1, []
        for _ in range(3):
            seen = w.watch_events("w3", start).value
            events += seen["events"]
            start = seen["next"]
    finally:
        over.set()
        thread.join(10)
    events += w.watch_events("w3", start).value["events"]
    assert [e[0] for e in events] == [r for r in put for _ in "ab"]
    assert [e[2] for e in events] == [i for i in range(len(put)) for _ in "ab"]
    assert len(put) > 10


def test_a_backlog_of_many_revisions_comes_whole_and_in_order(w: EtcdClient) -> None:
    put = [revision(w.watch_put("w6", [["a", i], ["b", i]])) for i in range(1200)]  # more than a piece
    seen = w.watch_events("w6", put[0]).value
    assert [e[0] for e in seen["events"]] == [r for r in put for _ in "ab"]
    assert seen["bookmark"] >= put[-1]


def test_the_connection_is_fit_for_use_after_a_watch(w: EtcdClient) -> None:
    w.watch_put("w4", [["a", 1]])
    for _ in range(2):
        assert len(w.watch_events("w4").value["events"]) == 1
        assert w.set_add("w4", 1).value == 1


def test_a_start_that_was_compacted_fails_the_watch(etcd: Member, w: EtcdClient) -> None:
    old = revision(w.watch_put("w5", [["a", 1]]))
    now = revision(w.watch_put("w5", [["a", 2]]))
    # No operation of ours.
    w._ask("/v3/kv/compaction", b'{"revision":"%d"}' % now)
    with pytest.raises(Definite, match=r"^watch compacted$"):
        w.watch_events("w5", old)
    assert w.watch_events("w5", now).value["events"] == [[now, "a", 2]]
