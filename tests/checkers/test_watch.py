"""Watches: each guarantee broken by hand and kept by hand, and at random."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest

from checkers.watch import WATCH
from harness.core.checker import Result
from harness.core.errors import HistoryError
from harness.core.history import History
from harness.core.op import Op
from tests.checkers.hand import (
    Call,
    Did,
    changed,
    context,
    did,
    history,
    kinds,
    renumbered,
    same_from_disk,
    simulate,
)

Events = list[list[Any]]


def check(made: History) -> Result:
    result: Result = WATCH.load()({}).check(context(made))
    return result


def put(pairs: Any, at: tuple[float, float | None], revision: int | None = None, **more: Any) -> Did:
    if revision is not None:
        more["revision"] = revision
    return did("put", pairs, at, **more)


def watch(
    start: int,
    events: Events,
    at: tuple[float, float],
    *,
    bookmark: int | None = None,
    following: int | None = None,
    **more: Any,
) -> Did:
    """By default it is to be resumed right after what was delivered, bookmark included."""
    last = max([start - 1, *(e[0] for e in events), bookmark or 0])
    after = last + 1 if following is None else following
    result = {"from": start, "events": events, "next": after, "bookmark": bookmark}
    return did("watch", start, at, result=result, **more)


A = put([["a", 1]], (0, 1), 5)
B = put([["a", 2]], (2, 3), 6, node="n2")
C = put([["a", 3], ["b", 4]], (4, 5), 8)
ALL: Events = [[5, "a", 1], [6, "a", 2], [8, "a", 3], [8, "b", 4]]


def test_what_is_put_is_delivered() -> None:
    result = check(history(A, B, C, watch(1, ALL, (6, 7), bookmark=9, final=True)))
    assert kinds(result) == []
    assert result.verdict == "valid"
    assert result.detail["events"] == 4
    assert check(history(A, B, C, watch(6, ALL[1:], (6, 7)), watch(9, [], (8, 9)))).verdict == "valid"
    assert check(history(A, B, C, watch(1, ALL[:2], (6, 7)), watch(7, ALL[2:], (8, 9)))).verdict == "valid"


def test_ordered() -> None:
    result = check(history(A, B, C, watch(1, [ALL[1], ALL[0], *ALL[2:]], (6, 7))))
    assert kinds(result) == ["ordered"]
    assert '"a" = 1 at revision 5 after "a" = 2 at revision 6' in result.reason


def test_unique() -> None:
    result = check(history(A, B, C, watch(1, [*ALL, ALL[3]], (6, 7), node="n3")))
    assert kinds(result) == ["unique"]
    assert result.anomalies[0].nodes[0] == "n3"
    # Another watch may well deliver it again.
    assert check(history(A, B, C, watch(1, ALL, (6, 7)), watch(1, ALL, (6, 7)))).verdict == "valid"


def test_past() -> None:
    result = check(history(A, B, C, watch(6, ALL, (6, 7))))
    assert kinds(result) == ["past"]
    assert "older than what was asked for" in result.reason


def test_reliable() -> None:
    result = check(history(A, B, C, watch(1, [ALL[0], *ALL[2:]], (6, 7), node="n3")))
    assert kinds(result) == ["reliable"]
    (a,) = result.anomalies
    assert [o["f"] for o in a.window] == ["put", "watch"]
    assert a.nodes == ["n3", "n2"]
    assert 'did not deliver "a" = 2, put by process 1 on n2' in a.explanation
    # What comes after the last event may be late.
    assert check(history(A, B, C, watch(1, ALL[:1], (6, 7)))).verdict == "valid"


def test_atomic() -> None:
    result = check(history(A, B, C, watch(1, ALL[:3], (6, 7))))
    assert kinds(result) == ["atomic"]
    assert '"b" = 4' in result.reason
    # Of unknown outcome, but half of it was delivered and so all of it happened.
    unknown = put([["a", 3], ["b", 4]], (4, 5), how="info")
    assert check(history(A, B, unknown, watch(1, ALL, (6, 7)))).verdict == "valid"
    assert check(history(A, B, unknown, watch(1, ALL[:2], (6, 7), bookmark=9))).verdict == "valid"
    assert kinds(check(history(A, B, unknown, watch(1, ALL[:3], (6, 7))))) == ["atomic"]


def test_bookmarkable() -> None:
    assert check(history(A, B, watch(1, ALL[:2], (6, 7), bookmark=6))).verdict == "valid"
    result = check(history(A, B, watch(1, ALL[:1], (6, 7), bookmark=6)))
    assert kinds(result) == ["bookmarkable"]
    assert "all up to revision 6 was delivered" in result.reason
    assert check(history(A, B, watch(1, ALL[:1], (6, 7), bookmark=5))).verdict == "valid"


def test_resumable() -> None:
    assert check(history(A, B, watch(1, ALL[:1], (6, 7), following=6))).verdict == "valid"
    result = check(history(A, B, watch(1, ALL[:1], (6, 7), following=7)))
    assert kinds(result) == ["resumable"]
    assert "never gets it" in result.reason
    assert kinds(check(history(A, B, watch(1, ALL[:2], (6, 7), following=6)))) == ["resumable"]
    assert kinds(check(history(A, B, watch(7, [], (6, 7), following=6)))) == ["resumable"]
    assert check(history(A, B, watch(7, [], (6, 7), following=7))).verdict == "valid"


def test_phantom() -> None:
    extra: Events = [*ALL, [9, "a", 77]]
    assert kinds(check(history(A, B, C, watch(1, extra, (6, 7))))) == ["phantom"]
    for late, verdict in (((6.5, 9.0), "valid"), ((8.0, 9.0), "invalid")):
        made = history(A, B, C, watch(1, extra, (6, 7)), put([["a", 77]], late, 9))
        assert check(made).verdict == verdict
    result = check(history(A, B, C, put([["a", 77]], (0, 1), how="fail"), watch(1, extra, (6, 7))))
    assert kinds(result) == ["phantom"]
    assert "certainly failed" in result.reason
    other = put([["a", 77]], (0, 1), 9, key="other")
    assert kinds(check(history(A, B, C, other, watch(1, extra, (6, 7))))) == ["phantom"]


def test_deletions() -> None:
    gone = put([["a", None]], (6, 7), 9)
    assert check(history(A, B, C, gone, watch(1, [*ALL, [9, "a", None]], (8, 9)))).verdict == "valid"
    # Deleting what is not there makes no event.
    assert check(history(A, B, C, gone, watch(1, ALL, (8, 9), bookmark=9))).verdict == "valid"
    result = check(history(A, B, C, watch(1, [*ALL, [9, "a", None]], (8, 9))))
    assert kinds(result) == ["phantom"]
    assert "deletion" in result.reason


def test_disagree() -> None:
    moved: Events = [[5, "a", 1], [7, "a", 2]]
    assert kinds(check(history(A, B, watch(1, moved, (6, 7))))) == ["disagree"]
    unknown = put([["a", 2]], (2, 3), how="info")
    assert check(history(A, unknown, watch(1, moved, (6, 7)))).verdict == "valid"
    result = check(history(A, unknown, watch(1, moved, (6, 7)), watch(1, ALL[:2], (6, 7.5), node="n2")))
    assert kinds(result) == ["disagree"]
    # Two values for one key at one revision.
    two = put([["a", 7]], (2, 3), how="info")
    one = watch(1, [[5, "a", 1], [6, "a", 7]], (6, 7), node="n3")
    assert kinds(check(history(A, two, one))) == []
    assert kinds(check(history(A, B, two, one, watch(1, ALL[:2], (6, 8))))) == ["disagree"]


def test_what_one_watch_shows_all_must() -> None:
    unknown = put([["a", 2]], (2, 3), how="info")
    shows, lacks = watch(1, ALL[:2], (6, 7)), watch(1, ALL[:1], (6, 8), bookmark=9, node="n2")
    assert check(history(A, unknown, lacks)).verdict == "valid"
    assert kinds(check(history(A, unknown, shows, lacks))) == ["bookmarkable"]


def test_one_too_many_does_not_make_up_for_one_too_few() -> None:
    assert kinds(check(history(A, B, C, watch(6, [ALL[0], *ALL[2:]], (6, 7))))) == ["reliable", "past"]
    twice = [ALL[0], ALL[0], *ALL[2:]]
    assert kinds(check(history(A, B, C, watch(1, twice, (6, 7))))) == ["reliable", "unique"]


def test_lost() -> None:
    kept = watch(1, ALL, (6, 7), bookmark=9, final=True)
    for events in ([ALL[0], *ALL[2:]], ALL[:2]):
        result = check(history(A, B, C, kept, watch(1, events, (8, 9), bookmark=9, final=True, node="n2")))
        assert kinds(result) == ["lost"]
        assert result.anomalies[0].nodes[0] == "n2"
    silent = did("watch", 1, (8, 9), how="info", final=True, node="n2")
    assert check(history(A, B, C, kept, silent)).verdict == "valid"


def test_a_final_watch_that_did_not_get_there() -> None:
    result = check(history(A, B, C, watch(1, ALL[:2], (6, 7), final=True, node="n2")))
    assert result.verdict == "unknown"
    assert "ended at revision 6, before revision 8" in result.reason
    assert check(history(A, B, C, watch(1, ALL[:2], (3.5, 7), final=True))).verdict == "valid"


def test_every_violating_prefix_is_listed() -> None:
    ops = [put([["a", 1]], (0, 1), 5, key=k) for k in ("w0", "w1", "w2")]
    ops += [watch(1, [], (2, 3), bookmark=5, key="w0"), watch(1, [[5, "a", 1]], (2, 3), key="w1")]
    ops += [watch(1, [], (2, 3), bookmark=5, key="w2"), watch(1, [], (2, 4), bookmark=5, key="w2")]
    result = check(history(*ops))
    assert [(a.kind, a.key) for a in result.anomalies] == [("bookmarkable", "w0"), ("bookmarkable", "w2")]
    assert "(and 1 more such event)" in result.anomalies[1].explanation
    assert result.reason.endswith("(and 1 more key)")


def test_long_watches_are_shown_around_what_matters() -> None:
    ops = [put([["a", n]], (n, n + 0.5), n + 1) for n in range(1, 200)]
    events: Events = [[n + 1, "a", n] for n in range(1, 200) if n != 100]
    (a,) = check(history(*ops, watch(1, events, (300, 301)))).anomalies
    assert a.window[-1]["left_out"] == 188
    assert [e[0] for e in a.window[-1]["result"]["events"]] == [96, 97, 98, 99, 100, 102, 103, 104, 105, 106]


def test_repeated_values_are_not_traced() -> None:
    ops = [put([["a", 1]], (0, 1), 5), put([["a", 1]], (2, 3), 6)]
    for events in ([[5, "a", 1], [6, "a", 1]], [[5, "a", 1]]):
        assert check(history(*ops, watch(1, events, (4, 5), bookmark=6))).verdict == "valid"
    result = check(history(*ops, watch(1, [[5, "a", 1]], (4, 5), bookmark=6)))
    assert result.detail["untraced_events"] == 1
    # JSON tells these apart.
    ops = [put([["a", x]], (i, i + 0.5), i + 1) for i, x in enumerate([1, True, "1", 1.5, [1]])]
    events = [[i + 1, "a", x] for i, x in enumerate([1, True, "1", 1.5, [1]])]
    assert check(history(*ops, watch(1, events, (8, 9)))).verdict == "valid"
    assert kinds(check(history(*ops, watch(1, [events[0], *events[2:]], (8, 9))))) == ["reliable"]


def test_nothing_to_decide() -> None:
    for ops in ([], [did("write", 1, (0, 1))], [A], [watch(1, [], (0, 1))]):
        assert check(history(*ops)).verdict == "unknown"
    result = check(history(A, watch(1, ALL[:1], (2, 3)), faults=[5]))
    assert result.verdict == "unknown"
    assert "after the last fault" in result.reason


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {"from": 1},
        {"from": 1, "events": [], "next": None, "bookmark": None},
        {"from": True, "events": [], "next": 1, "bookmark": None},
        {"from": 1, "events": [], "next": 1, "bookmark": "9"},
        {"from": 1, "events": [5], "next": 1, "bookmark": None},
        {"from": 1, "events": [[5, "a"]], "next": 1, "bookmark": None},
        {"from": 1, "events": [["5", "a", 1]], "next": 1, "bookmark": None},
        {"from": 1, "events": [[True, "a", 1]], "next": 1, "bookmark": None},
        {"from": 1, "events": [[2**63, "a", 1]], "next": 1, "bookmark": None},
        {"from": 1, "events": [[5, ["a"], 1]], "next": 1, "bookmark": None},
    ],
)
def test_a_malformed_answer_is_refused_by_line(value: Any) -> None:
    with pytest.raises(HistoryError, match="line 4: a watch"):
        check(history(A, did("watch", 1, (2, 3), result=value)))


@pytest.mark.parametrize("value", [None, 5, [5], [["a"]], [["a", 1, 2]], [["a", 1], ["a", 2]], [[1, 1]]])
def test_a_malformed_put_is_refused_by_line(value: Any) -> None:
    with pytest.raises(HistoryError, match="line 1: a put"):
        check(history(put(value, (0, 1), 5)))


class Store:
    """Prefixes below one revision, watched by somebody who may be late."""

    def __init__(self, rng: random.Random) -> None:
        self.revision = 1
        self.log: dict[Any, Events] = {}
        self.rng = rng
        self.calm = False

    def __call__(self, f: str, key: Any, value: Any, node: str) -> tuple[Any, dict[str, Any]]:
        log = self.log.setdefault(key, [])
        if f == "put":
            self.revision += 1
            log += [[self.revision, sub, v] for sub, v in value]
            return value, {"revision": self.revision}
        start = value or 1
        upto = self.revision if self.calm or self.rng.random() < 0.5 else self.rng.randint(0, self.revision)
        events = copy.deepcopy([e for e in log if start <= e[0] <= upto])
        told = upto if self.calm or self.rng.random() < 0.5 else None
        last = max([start - 1, *(e[0] for e in events), told or 0])
        return {"from": start, "events": events, "next": last + 1, "bookmark": told}, {}


def random_history(rng: random.Random) -> list[Op]:
    store = Store(rng)
    keys = [f"w{i}" for i in range(rng.randint(1, 2))]
    fresh = 0
    plan: list[Call] = []
    for _ in range(rng.randint(8, 50)):
        if rng.random() < 0.6:
            subs = rng.sample(["a", "b", "c"], rng.randint(1, 3))
            plan.append(("put", rng.choice(keys), [[s, fresh + i] for i, s in enumerate(subs)]))
            fresh += 3
        else:
            plan.append(("watch", rng.choice(keys), rng.choice([None, 1, rng.randint(1, 12)])))

    def effect(f: str, key: Any, value: Any, node: str) -> tuple[Any, dict[str, Any]]:
        return store(f, key, value, node)

    events = simulate(rng, plan, effect, clients=rng.randint(1, 8))
    store.calm = True
    n, process = len(events), 10**6
    for i in range(6):
        key, node = keys[i % len(keys)], f"n{i % 3 + 1}"
        answer, _ = store("watch", key, None, node)
        ext = {"final": True}
        events.append(Op(n, n * 1000, process, "invoke", "watch", None, key, node, None, ext))
        events.append(Op(n + 1, n * 1000, process, "ok", "watch", answer, key, node, None, ext))
        n += 2
    return events


def test_correct_stores_are_never_accused(tmp_path: Path) -> None:
    valid = 0
    for seed in range(2000):
        made = renumbered(random_history(random.Random(seed)))
        result = check(made)
        assert kinds(result) == [], (seed, result.reason)
        valid += result.verdict == "valid"
        if seed % 100 == 0:
            same_from_disk(check, made, tmp_path / "h.jsonl")
    assert valid > 1900  # the others had nothing acknowledged


def planted(rng: random.Random, answer: dict[str, Any], kind: str, *, final: bool) -> list[str]:
    """Break one guarantee in a watch's answer; the kinds that may be said of it, or none if it cannot be."""
    events: Events = answer["events"]
    at = rng.randrange(len(events)) if events else 0
    if kind == "phantom":
        events.append([max([answer["from"], *(e[0] for e in events)]), "a", 10**6])
        return ["phantom"]
    if not events:
        return []
    whole = sum(e[0] == events[at][0] for e in events) == 1
    if kind == "missing":
        inner = at < len(events) - 1 or (answer["bookmark"] or 0) >= events[at][0]
        del events[at]
        return (["lost" if final else "reliable", "bookmarkable"] if inner and whole else []) or (
            [] if whole else ["atomic"]
        )
    if kind == "unique":
        events.insert(at, list(events[at]))
        return ["unique"]
    if kind == "ordered":
        if events[0][0] == events[-1][0]:
            return []
        events[0], events[-1] = events[-1], events[0]
        return ["ordered"]
    if kind == "past":
        answer["from"] = events[-1][0] + 1
        return ["past"]
    if kind == "resumable":
        answer["next"] = events[-1][0]
        return ["resumable"]
    return []


def test_one_planted_anomaly_is_found() -> None:
    count: dict[str, int] = {}
    for seed in range(3000):
        rng = random.Random(seed)
        events = random_history(rng)
        answers = [i for i, op in enumerate(events) if op.f == "watch" and op.type == "ok"]
        position = rng.choice(answers)
        answer = copy.deepcopy(events[position].value)
        final = bool((events[position].ext or {}).get("final"))
        acked = {(s, v) for op in events if op.f == "put" and op.type == "ok" for s, v in op.value}
        kind = rng.choice(["missing", "unique", "ordered", "past", "phantom", "resumable"])
        before = [tuple(e[1:]) for e in answer["events"]]
        expected = planted(rng, answer, kind, final=final)
        gone = set(before) - {tuple(e[1:]) for e in answer["events"]}
        if not expected or (kind == "missing" and expected != ["atomic"] and not gone <= acked):
            continue
        count[kind] = count.get(kind, 0) + 1
        found = kinds(check(renumbered(changed(events, position, answer))))
        assert set(expected) & set(found), (seed, kind, found)
    assert len(count) == 6
    assert min(count.values()) > 100
