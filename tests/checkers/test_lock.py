"""Locks and elections: each anomaly written by hand beside its clean twin; simulated ones, right and wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from checkers.lock import LOCK, Lock
from harness.core.checker import Result
from tests.checkers.calls import Did, did, made
from tests.checkers.leasing import MS, lock_history
from tests.checkers.runs import context

ELECTION = {"acquire": "campaign", "release": "resign"}


def check(ops: Sequence[Did], **options: Any) -> Result:
    checker: Lock = LOCK.load()(options)
    return checker.check(context(None, made(ops)))


def kinds(result: Result) -> set[str]:
    assert {a.kind for a in result.anomalies} == set(result.detail["violations"])
    return set(result.detail["violations"])


def held(
    process: int, begin: float, lease: str, token: int, ttl: float = 10, f: str = "acquire"
) -> list[Did]:
    """A grant and an acquire, half a second each."""
    return [
        did("grant", begin, begin + 0.5, process, ttl, result=lease, ttl_s=ttl, lease=lease),
        did(f, begin + 0.5, begin + 1, process, lease, result=token, token=token, lease=lease),
    ]


def test_nothing_to_decide() -> None:
    assert check([]).verdict == "unknown"
    assert check([did("write", 0, 1, 1, [1, 2], how="info")]).verdict == "valid"
    refused = [did("acquire", 0, 1, 1, "A", how="fail", error="held")]
    assert "never granted" in check(refused).reason


def test_a_grant_while_the_holder_is_certainly_alive() -> None:
    # Granted at 0 for 10 s: with 5% of drift certainly alive until 9.5 s.
    result = check([*held(1, 0, "A", 7), *held(2, 8, "B", 8)])
    assert kinds(result) == {"double-grant"}
    (anomaly,) = result.anomalies
    assert [o["f"] for o in anomaly.window] == ["grant", "acquire", "acquire"]
    assert anomaly.window[0]["process"] == 1
    assert "could not have run out" in anomaly.explanation
    assert check([*held(1, 0, "A", 7), *held(2, 8.6, "B", 8)]).verdict == "valid"  # granted at 9.6 s perhaps
    assert kinds(check([*held(1, 0, "A", 7), *held(2, 8.6, "B", 8)], drift=0.0)) == {"double-grant"}
    assert check([*held(1, 0, "A", 7), *held(2, 8, "B", 8)], drift=0.2).verdict == "valid"


def test_a_grant_that_overlaps_the_holders_own_accuses_nobody() -> None:
    second = did("acquire", 0.9, 2, 2, "B", result=8)
    first = [did("grant", 0, 0.5, 1, 10, result="A", ttl_s=10), did("acquire", 0.5, 1, 1, "A", result=7)]
    assert check([*first, second]).verdict == "valid"  # A's may have been the later one, of a token unknown
    second = did("acquire", 1.1, 2, 2, "B", result=8)
    assert kinds(check([*first, second])) == {"double-grant"}


@pytest.mark.parametrize("how", ["ok", "info"])
def test_a_release_frees_the_lock_from_its_invocation_on(how: Any) -> None:
    release = did("release", 2, 4, 1, "A", how=how)
    assert check([*held(1, 0, "A", 7), release, *held(2, 2, "B", 8)]).verdict == "valid"
    assert kinds(check([*held(1, 0, "A", 7), release, *held(2, 0.95, "B", 8)])) == {"double-grant"}
    pending = did("release", 2, None, 1, "A", how="info")
    assert check([*held(1, 0, "A", 7), pending, *held(2, 2, "B", 8)]).verdict == "valid"


def test_a_release_that_failed_had_no_effect() -> None:
    release = did("release", 2, 4, 1, "A", how="fail", error="lease not found")
    assert kinds(check([*held(1, 0, "A", 7), release, *held(2, 2, "B", 8)])) == {"double-grant"}


@pytest.mark.parametrize(("how", "kept"), [("ok", True), ("info", False), ("fail", False)])
def test_an_acknowledged_keepalive_prolongs(how: Any, kept: bool) -> None:
    prolong = did("keepalive", 8, 8.1, 1, "A", how=how, ttl_s=10)
    result = check([*held(1, 0, "A", 7), prolong, *held(2, 12, "B", 8)])
    assert kinds(result) == ({"double-grant"} if kept else set())


def test_one_acknowledged_after_the_second_grant_counts_too() -> None:
    prolong = did("keepalive", 14, 14.1, 1, "A", ttl_s=10)  # so it was alive all the time
    assert kinds(check([*held(1, 0, "A", 7), *held(2, 11, "B", 8), prolong])) == {"double-grant"}


def test_without_a_ttl_nothing_is_certain() -> None:
    ops = held(1, 0, "A", 7)
    ops[0].ext = {}
    result = check([*ops, *held(2, 2, "B", 8)])
    assert result.verdict == "valid"
    assert result.detail["leases_without_ttl"] == 1


def test_the_holder_itself_may_be_granted_it_again() -> None:
    again = did("acquire", 2, 3, 1, "A", result=7)
    assert check([*held(1, 0, "A", 7), again]).verdict == "valid"


def test_two_locks_have_nothing_to_do_with_one_another() -> None:
    other = held(2, 2, "B", 3)
    for op in other:
        op.key = "y"
    assert check([*held(1, 0, "A", 7), *other]).verdict == "valid"


def test_tokens_grow_with_real_time() -> None:
    result = check([*held(1, 0, "A", 7), *held(2, 20, "B", 6)])
    assert kinds(result) == {"token-order"}
    assert [o["result"] for o in result.anomalies[0].window] == [7, 6]
    assert check([*held(1, 0, "A", 7), *held(2, 20, "B", 8)]).verdict == "valid"
    first, second = held(1, 0, "A", 7, ttl=1), held(2, 0.1, "B", 6, ttl=1)  # at the same time
    assert check([*first, *second]).verdict == "valid"


def test_a_token_belongs_to_one_grant() -> None:
    assert kinds(check([*held(1, 0, "A", 7), *held(2, 20, "B", 7)])) == {"token-twice"}
    first, second = held(1, 0, "A", 7, ttl=1), held(2, 0.1, "B", 7, ttl=1)
    assert kinds(check([*first, *second])) == {"token-twice"}


def work(process: int, begin: float, value: int, token: int, how: Any = "ok") -> list[Did]:
    """A read and a write of the guarded resource, half a second each."""
    return [
        did("read", begin, begin + 0.5, process, None),
        did("write", begin + 0.5, begin + 1, process, [value, token], how=how),
    ]


def test_sections_overlap_when_a_holder_oversleeps() -> None:
    late = [*held(1, 0, "A", 7, ttl=2), *held(2, 3, "B", 8), did("write", 5, 6, 1, [1, 7])]
    unfenced = check(late, fencing=False)
    assert kinds(unfenced) == {"overlap"}
    assert [o["f"] for o in unfenced.anomalies[0].window] == ["acquire", "acquire", "write"]
    fenced = check(late)
    assert fenced.verdict == "valid"
    assert fenced.detail["observed"] == {"overlap": 1}
    assert "overlapped once" in fenced.reason
    # The same, but the first holder is done before the second is granted the lock.
    done = [*held(1, 0, "A", 7, ttl=2), did("write", 2, 3, 1, [1, 7]), *held(2, 3, "B", 8)]
    assert check(done, fencing=False).verdict == "valid"


def test_a_section_ends_where_its_release_is_invoked() -> None:
    ops = [*held(1, 0, "A", 7, ttl=2), did("release", 5, 6, 1, "A", how="fail"), *held(2, 3, "B", 8)]
    assert kinds(check(ops, fencing=False)) == {"overlap"}
    ops[2] = did("release", 3, 6, 1, "A")
    assert check(ops, fencing=False).verdict == "valid"


def test_of_an_unknown_outcome_only_the_invocation_lies_in_the_section() -> None:
    ops = [*held(1, 0, "A", 7, ttl=2), did("write", 3.5, 9, 1, [1, 7], how="info"), *held(2, 3, "B", 8)]
    assert check(ops, fencing=False).verdict == "valid"  # granted at 4 s
    ops[2] = did("write", 4.5, 9, 1, [1, 7], how="info")
    assert kinds(check(ops, fencing=False)) == {"overlap"}


def test_final_reads_and_readers_without_the_lock_are_in_no_section() -> None:
    ops = [*held(1, 0, "A", 7, ttl=2), *held(2, 3, "B", 8)]
    ops += [did("read", 5, 6, 1, None, final=True), did("read", 5, 6, 3, None)]
    assert check(ops, fencing=False).verdict == "valid"


@pytest.mark.parametrize("fencing", [True, False])
def test_the_resource_takes_a_stale_token(fencing: bool) -> None:
    new = did("write", 4, 5, 2, [2, 8])
    ops = [*held(1, 0, "A", 7, ttl=2), *held(2, 3, "B", 8), new, did("write", 6, 7, 1, [1, 7])]
    result = check(ops, fencing=fencing)
    assert "stale-write" in kinds(result)
    anomaly = next(a for a in result.anomalies if a.kind == "stale-write")
    assert [o["value"] for o in anomaly.window] == [[2, 8], [1, 7]]
    ops[-1] = did("write", 6, 7, 1, [1, 7], how="fail", error="stale token")
    assert "stale-write" not in kinds(check(ops, fencing=fencing))
    ops[-1] = did("write", 6, 7, 1, [1, 7], how="info")
    assert "stale-write" not in kinds(check(ops, fencing=fencing))
    ops[-1] = did("write", 4.5, 7, 1, [1, 7])  # at the same time
    assert "stale-write" not in kinds(check(ops, fencing=fencing))


def test_a_read_shows_what_became_of_a_write_of_unknown_outcome() -> None:
    new = did("write", 4, 5, 2, [2, 8], how="info")
    ops = [*held(1, 0, "A", 7, ttl=2), *held(2, 3, "B", 8), new, did("write", 7, 8, 1, [1, 7])]
    assert check(ops).verdict == "valid"
    seen = did("read", 5, 6, 3, None, result=2)
    result = check([*ops, seen])
    assert kinds(result) == {"stale-write"}
    assert [o["f"] for o in result.anomalies[0].window] == ["write", "read", "write"]
    # And the stale one may be the one of unknown outcome.
    stale = [did("write", 4, 5, 2, [2, 8]), did("write", 7, 8, 1, [1, 7], how="info")]
    assert kinds(check([*ops[:4], *stale, did("read", 9, 10, 3, None, result=1)])) == {"stale-write"}


def test_a_value_written_twice_shows_nothing() -> None:
    twice = [did("write", 4, 5, 2, [2, 8], how="info"), did("write", 1, 2, 4, [2, 5])]
    ops = [*held(2, 3, "B", 8), *twice, did("read", 5, 6, 3, None, result=2), did("write", 7, 8, 1, [1, 7])]
    assert check(ops).verdict == "valid"


def test_an_update_is_lost_between_a_read_and_a_write() -> None:
    second = [did("read", 4, 5, 2, None), did("write", 7, 8, 2, [2, 8])]
    ops = [*held(1, 0, "A", 7, ttl=2), *held(2, 3, "B", 8), *second, did("write", 5, 6, 1, [1, 7])]
    assert kinds(check(ops, fencing=False)) == {"overlap", "lost-update"}
    fenced = check(ops)  # token 8 had not been seen by then, so 7 was no stale one
    assert fenced.verdict == "valid"
    assert fenced.detail["observed"]["lost-update"] == 1
    ops[-1] = did("write", 4.5, 6, 1, [1, 7])  # perhaps before the read took effect
    assert "lost-update" not in kinds(check(ops, fencing=False))


def test_a_resource_that_asks_the_lock_knows_every_grant() -> None:
    ops = [*held(1, 0, "A", 7, ttl=2), *held(2, 3, "B", 8), did("write", 5, 6, 1, [1, 7])]
    assert check(ops).verdict == "valid"  # nobody has written with token 8 yet
    result = check(ops, guard="granted")
    assert kinds(result) == {"stale-write"}
    assert [o["f"] for o in result.anomalies[0].window] == ["acquire", "write"]
    assert "process 2 had been granted the larger 8" in result.reason
    ops[-1] = did("write", 3.9, 6, 1, [1, 7])  # it may have been taken before the grant
    assert check(ops, guard="granted").verdict == "valid"
    assert "stale-write" not in kinds(check(ops, guard="granted", fencing=False))
    lost = [*held(1, 0, "A", 7, ttl=2), *held(2, 3, "B", 8), did("read", 4, 5, 2, None)]
    lost += [did("write", 7, 8, 2, [2, 8]), did("write", 5, 6, 1, [1, 7])]
    assert kinds(check(lost, guard="granted")) == {"stale-write", "lost-update"}


def test_an_election_has_its_own_words() -> None:
    ops = [*held(1, 0, "A", 7, f="campaign"), *held(2, 5, "B", 8, f="campaign")]
    assert kinds(check(ops, **ELECTION)) == {"double-grant"}
    resigned = did("resign", 4, 5, 1, "A")
    assert check([*ops, resigned], **ELECTION).verdict == "valid"


def test_who_led_earlier_never_leads_again() -> None:
    ops = [*held(1, 0, "A", 7, ttl=2, f="campaign"), *held(2, 5, "B", 8, ttl=2, f="campaign")]
    old = did("leader", 8, 9, 3, None, result=7)
    result = check([*ops, old], **ELECTION)
    assert kinds(result) == {"old-leader"}
    assert [o["result"] for o in result.anomalies[0].window] == [8, 7]
    seen = did("leader", 8, 9, 3, None, result=9)
    assert kinds(check([*ops, seen, did("leader", 9.5, 10, 4, None, result=8)], **ELECTION)) == {"old-leader"}
    for fine in (None, 8, 9):
        assert check([*ops, did("leader", 8, 9, 3, None, result=fine)], **ELECTION).verdict == "valid"
    assert check([*ops, did("leader", 5.8, 9, 3, None, result=7)], **ELECTION).verdict == "valid"


@pytest.mark.parametrize("seen", [None, 9])
def test_none_but_the_certain_leader_leads(seen: int | None) -> None:
    ops = held(1, 0, "A", 7, f="campaign")
    assert kinds(check([*ops, did("leader", 2, 3, 3, None, result=seen)], **ELECTION)) == {"other-leader"}
    assert check([*ops, did("leader", 2, 3, 3, None, result=7)], **ELECTION).verdict == "valid"
    assert check([*ops, did("leader", 9, 10, 3, None, result=seen)], **ELECTION).verdict == "valid"
    gone = did("resign", 2.5, 4, 1, "A")
    assert check([*ops, gone, did("leader", 2, 3, 3, None, result=seen)], **ELECTION).verdict == "valid"


@pytest.mark.parametrize("part", range(4))
def test_no_right_one_is_accused(part: int) -> None:
    """Two thousand histories of a correct service, of locks and of elections."""
    overlaps = 0
    for seed in range(part * 250, part * 250 + 250):
        for words in ({}, ELECTION):
            result = check(lock_history(seed, election=bool(words)), **words)
            assert result.verdict == "valid", (seed, words, result.reason)
            overlaps += result.detail["observed"].get("overlap", 0)
    assert overlaps  # so the holders did oversleep


def test_a_plain_lock_is_found_to_be_unfenced() -> None:
    found = [check(lock_history(seed, fenced=False), fencing=False) for seed in range(120)]
    assert sum("overlap" in kinds(r) for r in found) > 60
    assert sum("stale-write" in kinds(r) for r in found) > 20
    assert sum("lost-update" in kinds(r) for r in found) > 2


def test_leases_that_run_out_early_are_found() -> None:
    for words in ({}, ELECTION):
        found = [check(lock_history(s, election=bool(words), early=0.4), **words) for s in range(60)]
        assert sum("double-grant" in kinds(r) for r in found) > 40


def test_what_is_planted_is_found() -> None:
    """In right histories one operation is added that cannot be; every time it is found."""
    planted = dict.fromkeys(("double-grant", "token-order", "token-twice", "stale-write", "old-leader"), 0)
    for seed in range(400):
        rng = random.Random(seed)
        kind = rng.choice(list(planted))
        words = ELECTION if kind == "old-leader" else {}
        ops = lock_history(seed, election=bool(words))
        intruder = _plant(kind, ops, rng)
        if intruder is None:
            continue
        planted[kind] += 1
        result = check([*ops, intruder], **words)
        assert kind in kinds(result), (seed, kind)
    assert min(planted.values()) > 20, planted


def _plant(kind: str, ops: list[Did], rng: random.Random) -> Did | None:
    """An operation by a process of its own, after everything (or in a holder's certain time)."""
    good = [o for o in ops if o.how == "ok" and o.end is not None]
    grants = [o for o in good if o.f in ("acquire", "campaign")]
    end = max(o.end or o.begin for o in ops) + MS
    late: dict[str, Any] = {"begin": end, "end": end + MS, "process": 10**6, "how": "ok"}
    if kind == "double-grant":
        alive = []
        for o in grants:
            given = [g for g in good if g.f in ("grant", "keepalive") and g.result == o.value]
            until = max(g.begin + int(g.ext["ttl_s"] * 0.95e9) for g in given)
            left = [r.begin for r in ops if r.f == "release" and r.value == o.value]
            if o.end is not None and min([until, *left]) > o.end + 10 * MS:
                alive.append(o)
        if not alive:
            return None
        a = rng.choice(alive)
        assert a.end is not None
        when = {"begin": a.end + MS, "end": a.end + 5 * MS, "process": 10**6, "how": "ok"}
        return Did(f="acquire", key=a.key, value="other", result=10**6, **when)
    if kind == "stale-write":
        writes = [o for o in good if o.f == "write"]
        if not writes:
            return None
        w = rng.choice(writes)
        return Did(f="write", key=w.key, value=[10**6, w.value[1] - 1], **late)
    if not grants:
        return None
    a = rng.choice(grants)
    if kind == "old-leader":
        return Did(f="leader", key=a.key, result=a.result - 1, **late)
    token = a.result if kind == "token-twice" else a.result - 1
    return Did(f="acquire", key=a.key, value="other", result=token, **late)


def test_whatever_the_history_holds_it_decides() -> None:
    """Words of a lock with any values at all: a verdict, and windows that are part of the history."""
    anything = [None, 1, 1.5, True, "A", "B", [], [1], [1, 2], [1, "x"], {"a": 1}, -1, 2**70]
    for seed in range(500):
        rng = random.Random(seed)
        ops = []
        for process in range(rng.randrange(1, 30)):
            begin = rng.random()
            end = begin + rng.random() if rng.random() < 0.9 else None
            how: Any = "info" if end is None else rng.choice(["ok", "ok", "ok", "fail", "info"])
            f = rng.choice(["grant", "keepalive", "acquire", "release", "read", "write", "leader"])
            key, value, result = (rng.choice(anything) for _ in range(3))
            ext = {"ttl_s": rng.choice(anything)} if rng.random() < 0.8 else {}
            ops.append(did(f, begin, end, process, value, key=key, result=result, how=how, **ext))
        for options in ({}, {"fencing": False}, {"guard": "granted"}):
            result_ = check(ops, **options)
            assert result_.verdict in ("valid", "invalid", "unknown")
            assert all(a.window for a in result_.anomalies)
