"""The sections of the report say what the run's files say, for every outcome."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from results.report.cluster import clock_offsets, lags, overlapping_leaders
from results.report.data import NodeHistory, Span, read_run
from results.report.life import trace
from results.report.log_files import read_logs
from results.report.ops import FullOp
from results.report.page import write_report
from results.report.sides import holds
from results.report.when import wall
from tests.results.answers import answers
from tests.results.synth import S, make_run
from tests.results.test_report import Page

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "etcd-stale-read.html"


def results_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "results.json").read_text())


def rewrite(run: Path, **changes: Any) -> None:
    (run / "results.json").write_text(json.dumps({**results_of(run), **changes}))


def part(page: Page, anchor: str) -> str:
    """The text of one section, its tags taken out."""
    source = page.source[page.source.index(f'<section id="{anchor}"') :]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", source[: source.index("</section>")]))


def history(run: Path, *ops: tuple[Any, ...]) -> None:
    """`history.jsonl` of operations (start, end or None, process, f, key, value, result, type, node), times in s."""
    events = []
    for start, end, process, f, key, value, result, kind, node in ops:
        one = {"process": process, "f": f, "key": key, "node": node}
        events.append((start, 0, {**one, "type": "invoke", "value": value}))
        if end is not None:
            events.append((end, 1, {**one, "type": kind, "value": result}))
    events.sort(key=lambda e: e[:2])
    lines = [{"index": i, "time": int(t * S), **e} for i, (t, _, e) in enumerate(events)]
    (run / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def window(run: Path, *indexes: tuple[int, int]) -> list[dict[str, Any]]:
    lines = [json.loads(x) for x in (run / "history.jsonl").read_text().splitlines()]
    return [
        {
            "invoke": a, "complete": b, "process": lines[a]["process"], "f": lines[a]["f"], "value": lines[a]["value"],
            "result": lines[b]["value"], "node": lines[a]["node"], "type": lines[b]["type"],
            "start_ns": lines[a]["time"], "end_ns": lines[b]["time"],
        }
        for a, b in indexes
    ]  # fmt: skip


def violation(
    run: Path, check: str, kind: str, key: str, ops: list[dict[str, Any]], said: str, **detail: Any
) -> None:
    anomaly = {"kind": kind, "key": key, "window": ops, "assumed": [], "explanation": said, "nodes": ["n1"]}
    checks = {
        check: {
            "verdict": "invalid",
            "reason": said,
            "seconds": 0.1,
            "anomalies": [anomaly],
            "detail": detail,
        }
    }
    rewrite(run, checks=checks, verdict="invalid", reason=said)


@pytest.mark.parametrize("outcome", ["valid", "invalid", "unknown", "vacuous", "error", "killed"])
def test_the_sections_stand_in_their_order(tmp_path: Path, outcome: str) -> None:
    page = Page(write_report(make_run(tmp_path, outcome, ops=300)))
    found = re.findall(r'<section (?:class="hero|id="(\w+)")', page.source)
    order = ["", "properties", "meaning", "time", "cluster", "anomalies", "operations", "logs", "words"]
    gone = {"invalid": set(), "error": {"anomalies", "operations"}}.get(outcome, {"anomalies"})
    assert found == [x for x in order if x not in gone]


def test_the_card_has_time_of_day_lag_sensitivity_versions_and_command(tmp_path: Path) -> None:
    run = make_run(tmp_path, "valid", ops=300)
    checks = results_of(run)["checks"]
    checks["operations"] = {"verdict": "valid", "detail": {"latency_ms": {"p50": 0.5}}}
    checks["linearizable"]["detail"] = {"model": "cas-register"}
    rewrite(run, checks=checks)
    text = Page(write_report(run)).text
    assert "2026-01-31 12:00:00 UTC" in text
    assert "0.6 ms, above the median latency" in text
    assert "not measured" in text
    assert "splitbrain 0.1.0, python 3.11.2, kernel 6.1" in text
    assert "Seed 7" in text
    shares = {"stale-read": {"planted": 200, "detected": 150}, "lost-write": {"planted": 100, "detected": 99}}
    rewrite(run, sensitivity=shares)
    assert "75% of 200 planted stale reads; 99% of 100 planted lost writes" in Page(write_report(run)).text


def test_run_time_and_time_of_day_stand_side_by_side(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path, "valid", ops=60))
    assert wall(run, 1_500_000_000) == "12:00:01.500 UTC"
    assert wall(read_run(tmp_path), 0) == ""


def test_a_killed_run_names_a_command_that_runs_it_again(tmp_path: Path) -> None:
    assert "splitbrain replay a1b2c3" in Page(write_report(make_run(tmp_path, "killed", ops=300))).text


def test_an_interrupted_run_is_no_success(tmp_path: Path) -> None:
    run = make_run(
        tmp_path, "unknown", ops=300, results={"interrupted": True, "reason": "interrupted by Ctrl-C"}
    )
    page = Page(write_report(run))
    assert '<span class="tag">interrupted</span>' in page.source
    assert "This run decides nothing. It is not a success." in page.text


def test_what_is_undecided_says_which_limit_and_what_to_raise(tmp_path: Path) -> None:
    run = make_run(tmp_path, "unknown", ops=300)
    checks = results_of(run)["checks"]
    undecided = {
        "key": "k3",
        "ops": 812,
        "limit": "key-time",
        "reached": 400,
        "raise": "raise it with --opt x=40",
    }
    checks["linearizable"]["detail"] = {"unknown": [undecided], "unknown_keys": 1}
    rewrite(run, checks=checks)
    text = part(Page(write_report(run)), "properties")
    assert (
        "k3 : 812 operations, an order was found for the first 400; stopped by key-time: raise it with"
        in text
    )


def test_a_vacuous_pass_looks_vacuous(tmp_path: Path) -> None:
    text = part(Page(write_report(make_run(tmp_path, "vacuous", ops=300))), "meaning")
    assert "No. This pass is vacuous : operations overlapping partition" in text
    fine = part(Page(write_report(make_run(tmp_path, "valid", ops=300, run="bbbbbb"))), "meaning")
    assert "Yes: every demand is met, and 3 of 3 faults were shown" in fine
    assert "recovered in 0.8 s" in fine
    bare = make_run(tmp_path, "valid", ops=300, run="cccccc")
    (bare / "faults.jsonl").unlink()
    assert "no fault was injected: this says" in part(Page(write_report(bare)), "meaning")


def test_operations_that_met_a_fault_are_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path, "valid", ops=60, results={"recovery_s": []})
    length = 60 / 200  # the first fault lasts from 16% to 36% of it
    history(
        run,
        (0.1 * length, 0.2 * length, 1, "read", "k", None, 1, "ok", "n1"),
        (0.2 * length, 0.3 * length, 2, "read", "k", None, 1, "ok", "n1"),
        (0.2 * length, 0.3 * length, 3, "read", "k", None, None, "fail", "n1"),
        (0.37 * length, 0.4 * length, 4, "read", "k", None, 1, "ok", "n1"),
    )
    assert "2 operations ended ok meanwhile" in part(Page(write_report(run)), "meaning")


def test_steps_show_the_state_and_what_cannot_follow(tmp_path: Path) -> None:
    run = make_run(tmp_path, "invalid", ops=60)
    history(
        run,
        (0.01, 0.02, 1, "write", "k", 1, 1, "ok", "n1"),
        (0.03, 0.04, 2, "write", "k", 2, 2, "ok", "n2"),
        (0.05, 0.06, 3, "read", "k", None, 1, "ok", "n3"),
    )
    steps = {
        "key": "k", "initial": "null", "order": [{"invoke": 0, "state": "1"}, {"invoke": 2, "state": "2"}],
        "stuck": 4, "could_be": ["2"], "could_be_more": 0,
    }  # fmt: skip
    violation(
        run, "linearizable", "stale-read", "k", window(run, (2, 3), (4, 5)), "stale", linearizations=[steps]
    )
    text = part(Page(write_report(run)), "anomalies")
    assert "2 operations in an order that fits" in text
    assert "2 0.030 s 2 n2 write 2 2" in text
    assert "Impossible next: read → 1 process 3 on n3, 0.050 s to 0.060 s" in text
    assert "can only have been 2 by then" in text


def test_a_lost_element_has_its_life_told(tmp_path: Path) -> None:
    run = make_run(tmp_path, "invalid", ops=60)
    history(
        run,
        (0.01, 0.02, 1, "add", "s", 7, 7, "ok", "n1"),
        (0.03, 0.04, 2, "read", "s", None, [5, 7], "ok", "n1"),
        (0.05, 0.06, 3, "read", "other", None, [7], "ok", "n1"),
        (0.07, 0.08, 4, "read", "s", None, [5], "ok", "n2"),
    )
    violation(run, "set", "lost", "s", window(run, (0, 1), (6, 7)), "7 was lost")
    text = part(Page(write_report(run)), "anomalies")
    assert "The life of 7" in text
    assert re.search(
        r"sent 0.010 s 1 n1 add 7 acknowledged 0.020 s 1 n1 add 7 ok seen 0.040 s 2 n1 read", text
    )
    assert "missing 0.080 s 4 n2 read → 1 element, it not among them" in text
    read = read_run(run)
    from results.report.case import cases

    kinds = [s.kind for s in trace(read, cases(read)[0], (7,))]
    assert kinds == ["sent", "acknowledged", "seen", "missing"]


def test_an_id_that_was_handed_out_twice_says_to_whom(tmp_path: Path) -> None:
    run = make_run(tmp_path, "invalid", ops=60)
    history(
        run,
        (0.01, 0.02, 1, "generate", None, None, 7, "ok", "n1"),
        (0.03, 0.04, 2, "generate", None, None, 8, "ok", "n1"),
        (0.05, 0.06, 3, "generate", None, None, 7, "ok", "n2"),
    )
    violation(run, "unique-ids", "duplicate", None, window(run, (0, 1), (4, 5)), "7 was handed out twice")
    path = write_report(run)
    text = part(Page(path), "anomalies")
    assert "handed out 0.020 s 1 n1 generate → 7 handed out 0.060 s 3 n2 generate → 7" in text
    assert answers(path)["violated"] == "unique-ids"


def test_holders_stand_side_by_side_where_they_overlap(tmp_path: Path) -> None:
    run = make_run(tmp_path, "invalid", ops=60)
    history(
        run,
        (0.01, 0.02, 1, "acquire", "l", "a", 6, "ok", "n1"),
        (0.03, 0.04, 2, "acquire", "l", "b", 7, "ok", "n2"),
        (0.05, 0.06, 1, "write", "l", [9, 6], [9, 6], "ok", "n1"),
        (0.07, 0.08, 2, "release", "l", "b", "b", "ok", "n2"),
        (0.09, 0.10, 1, "release", "l", "a", "a", "ok", "n1"),
    )
    violation(run, "lock", "overlap", "l", window(run, (0, 1), (2, 3)), "two holders")
    page = Page(write_report(run))
    text = part(page, "anomalies")
    assert "Holders side by side" in text
    assert "n1 · process 1, token 6" in text
    assert "n2 · process 2, token 7" in text
    assert "both at work at once for 30 ms, from 0.040 s" in text
    rows = page.source[page.source.index('<table class="sides">') :].split("<tr>")[2:]
    # The first holder's column is the second cell, the other's the third.
    sides = [[bool(cell) for cell in re.findall(r"<td>(.*?)</td>", row)] for row in rows[:4]]
    assert sides == [[True, False], [False, True], [True, False], [False, True]]


def test_a_section_ends_with_the_release_or_the_last_thing_done() -> None:
    def op(process: int, f: str, start: int, end: int, outcome: int = 1) -> FullOp:
        return FullOp(
            row=0,
            process=process,
            f=f,
            node="n1",
            asked="",
            started=start,
            invoke=0,
            ended=end,
            outcome=outcome,
        )

    ops = [op(1, "acquire", 0, 2), op(1, "write", 3, 4), op(2, "acquire", 4, 5, 2), op(1, "release", 6, 7)]
    found = holds([*ops, op(1, "write", 9, 10)])
    assert [(h.process, h.start, h.end) for h in found] == [("1", 2, 6)]


def test_primaries_that_answered_are_the_two_sides(tmp_path: Path) -> None:
    run = make_run(tmp_path, "invalid", ops=60)
    history(
        run,
        (0.01, 0.02, 1, "write", "k", 1, 1, "ok", "n1"),
        (0.03, 0.04, 2, "read", "k", None, None, "ok", "n1"),
    )
    lines = [json.loads(x) for x in (run / "history.jsonl").read_text().splitlines()]
    lines[1]["ext"], lines[3]["ext"] = {"primary": "10.0.0.1"}, {"primary": "10.0.0.2"}
    (run / "history.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    violation(run, "linearizable", "stale-read", "k", window(run, (0, 1), (2, 3)), "stale")
    text = part(Page(write_report(run)), "anomalies")
    assert "Two primaries side by side" in text
    assert "primary 10.0.0.1 primary 10.0.0.2" in text


def test_lag_is_against_the_node_that_was_furthest_at_the_time() -> None:
    a = NodeHistory(node="a", points=[(0, 5, 5), (1 * S, 100, 100), (9 * S, 101, 101)])
    b = NodeHistory(node="b", points=[(S + 5, 100, 40), (9 * S + 5, 101, 101)])
    late = NodeHistory(node="c", points=[(4 * S, 1, 1)])  # nobody else was asked near that time
    assert lags([a, b, late]) == {"a": (0, 0), "b": (60, S + 5), "c": (0, 4 * S)}


def test_two_leaders_at_once_are_told_apart_from_one_after_the_other() -> None:
    a = NodeHistory(node="a", spans=[Span(start=0, end=5, role="leader", term=2)])
    b = NodeHistory(node="b", spans=[Span(start=3, end=9, role="leader", term=3)])
    c = NodeHistory(node="c", spans=[Span(start=9, end=12, role="leader", term=4)])
    assert overlapping_leaders([a, b, c]) == [(3, 5, [("a", 2), ("b", 3)])]


def test_the_cluster_has_clock_offsets_as_they_were_read_back(tmp_path: Path) -> None:
    run = make_run(tmp_path, "valid", ops=60)
    clocks = [{"node": "n2", "nth": 0, "reading": {"offset_ns": -1_500_000_000}}]
    seen = {"event": "evidence", "time": 5, "fault": "f1", "phase": "during", "effect": True, "says": "off"}
    with (run / "faults.jsonl").open("a") as ledger:
        ledger.write(json.dumps({**seen, "facts": {"clocks": clocks}}) + "\n")
    assert clock_offsets(read_run(run)) == {"n2": "-1.500 s (f1)"}
    assert "-1.500 s (f1)" in part(Page(write_report(run)), "cluster")


def test_log_lines_have_the_time_at_which_the_sampler_saw_them(tmp_path: Path) -> None:
    run = make_run(tmp_path, "valid", ops=60)
    (run / "logs" / "n1" / "etcd.log").write_text("one\ntwo\nthree\nfour\n")
    sizes = [{"time": 1 * S, "logs": {"n1/etcd.log": 4}}, {"time": 2 * S, "logs": {"n1/etcd.log": 14}}]
    (run / "monitor.jsonl").write_text("".join(json.dumps(x) + "\n" for x in sizes))
    log = next(x for x in read_run(run).logs if x.name == "n1/etcd.log")
    assert [(c.time, c.lines) for c in log.chunks] == [
        (S, ["one"]),
        (2 * S, ["two", "three"]),
        (None, ["four"]),
    ]
    source = Page(write_report(run)).source
    assert '<span class="chunk" data-t="2.000">' in source
    assert 'title="12:00:02.000 UTC"' in source


def test_of_a_large_log_what_is_near_a_moment_and_the_end_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "n1"
    folder.mkdir()
    lines = [f"line {i:06}" for i in range(40_000)]
    (folder / "x.log").write_text("\n".join(lines) + "\n")
    width = len(lines[0]) + 1
    noted = [(i * S, i * 1000 * width) for i in range(1, 41)]
    log = read_logs(tmp_path, {"n1/x.log": noted}, [20 * S], [])[0]
    shown = [line for c in log.chunks for line in c.lines]
    assert "line 019999" in shown
    assert shown[-1] == lines[-1]
    assert len(shown) == log.lines < 5000
    assert log.left_out + log.lines * width == log.size
    assert sum(c.before for c in log.chunks) == log.left_out
    assert next(c.time for c in log.chunks if "line 019999" in c.lines) == 20 * S


def test_terms_are_explained_where_they_stand(tmp_path: Path) -> None:
    page = Page(write_report(make_run(tmp_path, "invalid", ops=300)))
    told = {a["title"] for tag, a in page.tags if tag == "abbr"}
    assert any("Nobody knows" in text for text in told)
    assert all(a.get("tabindex") == "0" for tag, a in page.tags if tag == "abbr")
    assert {"stamp lag", "fencing token", "vacuous"} <= set(re.findall(r"<dt>([^<]*)</dt>", page.source))


def test_five_answers_stand_on_the_card(tmp_path: Path) -> None:
    run = make_run(tmp_path, "invalid")
    anomaly = results_of(run)["checks"]["linearizable"]["anomalies"][0]
    found = answers(write_report(run))
    assert found["violated"] == f"linearizable of key {anomaly['key']}"
    assert found["by"].count("process") == len(anomaly["window"]) == 3
    assert found["on"] == "n1"
    assert found["under"] == "partition f1: n1 and its clients cut off from n2, n3"
    assert found["again"] == results_of(run)["command"]


def test_the_kept_report_of_a_real_violation_answers_them() -> None:
    found = answers(EXAMPLE)
    assert found == {
        "violated": "linearizable of key k2",
        "by": "write 205 process 2 on n3, 2.251 s read → null process 5 on n1, 2.726 s",
        "on": "n1, n3",
        "under": "partition f1: n1, the leader, cut off from n2 and n3",
        "at": "2.251 s to 2.727 s (16:27:32.210 to 16:27:32.686 UTC)",
        "again": "splitbrain run --system etcd --version 3.6.16 --workload register --faults partition --nodes 3"
        " --provider netns --time 5s --rate 120 --concurrency 5 --seed 4 --opt etcd.reads=serializable"
        " --expect invalid",
    }
    assert EXAMPLE.stat().st_size < 500_000


def test_a_fault_that_is_just_over_is_named_too(tmp_path: Path) -> None:
    run = make_run(tmp_path, "invalid", ops=60)
    history(
        run,
        (0.2, 0.21, 1, "write", "k", 1, 1, "ok", "n1"),
        (0.205, 0.209, 2, "read", "k", None, 2, "ok", "n1"),
    )
    violation(run, "linearizable", "never-written", "k", window(run, (0, 3), (1, 2)), "2 was never written")
    path = write_report(run)
    under = answers(path)["under"]
    assert "partition f1, over 92 ms before: n1" in under
    assert "kill and restart f2, over 20 ms before: etcd on n2, the leader, killed with SIGKILL" in under
    assert "faults just over partition f1, 92 ms before" in part(Page(path), "anomalies")


def test_a_violation_in_logs_names_no_operation_and_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, "invalid", ops=60)
    violation(run, "logs", "crash", "k", [], "n1 panicked")
    found = answers(write_report(run))
    assert found["by"] == "no operation: it is in the logs or the nodes' own state"
    assert "under" not in found
