"""Leases: each anomaly written by hand beside its clean twin; simulated ones, right and wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from checkers.lease import LEASE, LeaseChecker
from harness.core.checker import Result
from tests.checkers.calls import Did, did, made
from tests.checkers.leasing import MS, lease_history
from tests.checkers.runs import context


def check(ops: Sequence[Did], **options: Any) -> Result:
    checker: LeaseChecker = LEASE.load()(options)
    return checker.check(context(None, made(ops)))


def kinds(result: Result) -> set[str]:
    assert {a.kind for a in result.anomalies} == set(result.detail["violations"])
    return set(result.detail["violations"])


def attached(ttl: float = 10, how: Any = "ok") -> list[Did]:
    """Granted from 0 to 1 s, attached from 1 to 2 s."""
    return [did("grant", 0, 1, 1, ttl, result="L", ttl_s=ttl), did("attach", 1, 2, 1, "L", how=how)]


def read(begin: float, end: float, result: Any = None, process: int = 5) -> Did:
    return did("read", begin, end, process, None, result=result)


def test_nothing_to_decide() -> None:
    assert check([]).verdict == "unknown"
    assert check([read(0, 1)]).verdict == "valid"
    assert check([did("grant", 0, 1, 1, 5, how="info")]).verdict == "unknown"


def test_gone_while_certainly_alive() -> None:
    # Asked for at 0, for 10 s: less 5% it lives until 9.5 s.
    result = check([*attached(), read(9, 9.4)])
    assert kinds(result) == {"vanished-early"}
    (anomaly,) = result.anomalies
    assert [o["f"] for o in anomaly.window] == ["grant", "attach", "read"]
    assert "9.50 s" in anomaly.explanation
    assert check([*attached(), read(9, 9.6)]).verdict == "valid"
    assert kinds(check([*attached(), read(9, 9.6)], drift=0.0)) == {"vanished-early"}
    assert check([*attached(), read(9, 9.4, "L")]).verdict == "valid"
    assert check([*attached(), read(9, 9.4, "L")]).detail["reads_while_alive"] == 1


def test_before_it_was_certainly_attached_it_may_be_missed() -> None:
    assert check([*attached(), read(1.5, 3)]).verdict == "valid"
    assert kinds(check([*attached(), read(2.5, 3)])) == {"vanished-early"}
    assert check([*attached(how="info"), read(2.5, 3)]).verdict == "valid"
    assert check([*attached(how="fail"), read(2.5, 3)]).verdict == "valid"


def test_a_read_shows_that_it_was_attached() -> None:
    ops = [*attached(how="info"), read(2.5, 3, "L")]
    result = check([*ops, read(4, 5, process=6)])
    assert kinds(result) == {"vanished-early"}
    assert [o["f"] for o in result.anomalies[0].window] == ["grant", "attach", "read", "read"]
    assert check([*ops, read(2.9, 5, process=6)]).verdict == "valid"


@pytest.mark.parametrize(("how", "alive"), [("ok", True), ("info", False), ("fail", False)])
def test_an_acknowledged_keepalive_counts_whenever_it_came(how: Any, alive: bool) -> None:
    for begin, end, missed in ((8, 8.2, 15), (8, 16, 15), (18, 19, 15)):
        keep = did("keepalive", begin, end, 1, "L", how=how, ttl_s=10)
        result = check([*attached(), keep, read(missed - 1, missed)])
        assert kinds(result) == ({"vanished-early"} if alive else set())


def test_what_the_server_returned_counts_and_not_what_was_asked_for() -> None:
    ops = attached()
    ops[0].ext = {"ttl_s": 5}
    assert check([*ops, read(5, 6)]).verdict == "valid"
    ops[0].ext = {"ttl_s": 20}
    assert kinds(check([*ops, read(12, 13)])) == {"vanished-early"}
    for useless in ({}, {"ttl_s": None}, {"ttl_s": True}, {"ttl_s": -1}):
        ops[0].ext = useless
        assert check([*ops, read(3, 4)]).verdict == "valid"


@pytest.mark.parametrize(("how", "revoked"), [("ok", True), ("info", True), ("fail", False)])
def test_a_revoke_counts_from_its_invocation_on(how: Any, revoked: bool) -> None:
    revoke = did("revoke", 4, 6, 1, "L", how=how)
    result = check([*attached(), revoke, read(3, 4.5)])
    assert kinds(result) == (set() if revoked else {"vanished-early"})
    assert kinds(check([*attached(), revoke, read(3, 3.9)])) == {"vanished-early"}


def test_seen_after_its_revocation() -> None:
    revoke = did("revoke", 4, 6, 1, "L")
    assert kinds(check([*attached(), revoke, read(7, 8, "L")])) == {"after-revoke"}
    assert check([*attached(), revoke, read(5, 8, "L")]).verdict == "valid"
    revoke = did("revoke", 4, 6, 1, "L", how="info")
    assert check([*attached(), revoke, read(7, 8, "L")]).verdict == "valid"


def test_gone_and_there_again() -> None:
    result = check([*attached(ttl=3), read(3, 4), read(5, 6, "L", process=6)])
    assert kinds(result) == {"revived"}
    assert [o["f"] for o in result.anomalies[0].window] == ["attach", "read", "read"]
    assert check([*attached(ttl=3), read(3, 5), read(4.9, 6, "L", process=6)]).verdict == "valid"
    late = did("attach", 1, 9, 1, "L")  # it may have come between
    assert check([attached(ttl=3)[0], late, read(3, 4), read(5, 6, "L", process=6)]).verdict == "valid"
    late = did("attach", 1, 2, 1, "L", how="info")
    assert check([attached(ttl=3)[0], late, read(3, 4), read(5, 6, "L", process=6)]).verdict == "valid"


def test_a_lease_that_nobody_attached() -> None:
    assert kinds(check([*attached(), read(3, 4, "other")])) == {"never-attached"}
    assert kinds(check([*attached(how="fail"), read(3, 4, "L")])) == {"never-attached"}
    assert kinds(check([*attached(), read(0, 0.9, "L")])) == {"never-attached"}
    assert check([*attached(), read(0, 1.5, "L")]).verdict == "valid"
    assert check([*attached(how="info"), read(3, 4, "L")]).verdict == "valid"


def test_seen_too_long_is_an_observation() -> None:
    result = check([*attached(), read(20, 21, "L")])
    assert result.verdict == "valid"
    assert result.detail["observed"] == {"immortal": 1}
    assert check([*attached(), read(13, 14, "L")]).detail["observed"] == {}  # 1 + 10.5 + 2 s
    keep = did("keepalive", 10, 12, 1, "L", how="info")
    assert check([*attached(), keep, read(20, 21, "L")]).detail["observed"] == {}


def test_a_key_of_several_leases_is_left_out() -> None:
    ops = [*attached(), did("attach", 3, 4, 2, "M"), read(5, 6)]
    result = check(ops)
    assert result.verdict == "valid"
    assert result.detail["keys_with_several_leases"] == 1


@pytest.mark.parametrize("part", range(4))
def test_no_right_one_is_accused(part: int) -> None:
    """A thousand histories of a correct service."""
    alive = 0
    for seed in range(part * 250, part * 250 + 250):
        result = check(lease_history(seed))
        assert result.verdict == "valid", (seed, result.reason)
        alive += result.detail["reads_while_alive"]
    assert alive > 1000


def test_leases_that_run_out_early_are_found() -> None:
    found = [check(lease_history(seed, early=0.5)) for seed in range(60)]
    assert sum(kinds(r) == {"vanished-early"} for r in found) > 50


def test_what_is_planted_is_found() -> None:
    planted = dict.fromkeys(("vanished-early", "after-revoke", "never-attached", "revived"), 0)
    for seed in range(400):
        rng = random.Random(seed)
        kind = rng.choice(list(planted))
        ops = lease_history(seed)
        intruder = _plant(kind, ops, rng)
        if intruder is None:
            continue
        planted[kind] += 1
        assert kind in kinds(check([*ops, intruder])), (seed, kind)
    assert min(planted.values()) > 20, planted


def _plant(kind: str, ops: list[Did], rng: random.Random) -> Did | None:
    """A read by a process of its own that cannot have returned what it did."""
    good = [o for o in ops if o.how == "ok" and o.end is not None]
    attaches = [o for o in good if o.f == "attach"]
    end = max(o.end or o.begin for o in ops) + MS
    late: dict[str, Any] = {"f": "read", "begin": end, "end": end + MS, "process": 10**6}
    if kind == "vanished-early":
        spans = []
        for a in attaches:
            given = [g for g in good if g.f in ("grant", "keepalive") and g.result == a.value]
            until = max(g.begin + int(g.ext["ttl_s"] * 0.95e9) for g in given)
            left = [r.begin for r in ops if r.f == "revoke" and r.value == a.value]
            if a.end is not None and min([until, *left]) > a.end + 10 * MS:
                spans.append((a.key, a.end + MS, min([until, *left]) - MS))
        if not spans:
            return None
        key, begin, stop = rng.choice(spans)
        return Did(f="read", key=key, begin=begin, end=stop, process=10**6)
    if kind == "after-revoke":
        revoked = {o.value for o in good if o.f == "revoke"}
        attaches = [a for a in attaches if a.value in revoked]
    if kind == "revived":
        missed = {o.key for o in good if o.f == "read" and o.result is None}
        seen = {o.key for o in good if o.f == "read" and o.result is not None}
        attaches = [a for a in attaches if a.key in missed & seen and _missed_after(good, a)]
    if not attaches:
        return None
    a = rng.choice(attaches)
    result = "other" if kind == "never-attached" else a.value
    return Did(key=a.key, result=result, **late)


def _missed_after(good: list[Did], attach: Did) -> bool:
    return any(
        o.f == "read" and o.key == attach.key and o.result is None and o.begin > (attach.end or 0)
        for o in good
    )


def test_whatever_the_history_holds_it_decides() -> None:
    """Words of leases with any values at all: a verdict, and windows that are part of the history."""
    anything = [None, 1, 1.5, True, "A", "B", [], [1, 2], {"a": 1}, -1, 2**70]
    for seed in range(500):
        rng = random.Random(seed)
        ops = []
        for process in range(rng.randrange(1, 30)):
            begin = rng.random()
            end = begin + rng.random() if rng.random() < 0.9 else None
            how: Any = "info" if end is None else rng.choice(["ok", "ok", "ok", "fail", "info"])
            f = rng.choice(["grant", "keepalive", "attach", "read", "revoke"])
            key, value, result = (rng.choice(anything) for _ in range(3))
            ext = {"ttl_s": rng.choice(anything)} if rng.random() < 0.8 else {}
            ops.append(did(f, begin, end, process, value, key=key, result=result, how=how, **ext))
        found = check(ops)
        assert found.verdict in ("valid", "invalid", "unknown")
        assert all(a.window for a in found.anomalies)
