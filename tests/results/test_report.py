"""The report as text: written for every outcome and from whatever is left, and never as markup."""

from __future__ import annotations

import base64
import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from results.report import page as report
from results.report import payload as report_payload
from results.report.data import read_run
from results.report.ops import INFO, OK, read_operations
from results.report.page import write_report
from tests.results.synth import S, make_run

OUTCOMES = ("valid", "invalid", "unknown", "vacuous", "error", "killed")
FILES = (
    "spec.json",
    "env.json",
    "journal.jsonl",
    "history.jsonl",
    "faults.jsonl",
    "monitor.jsonl",
    "events.jsonl",
    "results.json",
    "logs",
)
HOSTILE = (
    "</script><script>document.documentElement.setAttribute('data-owned','1')</script>"
    "<img src=x onerror=alert(1)>"
)


class Page(HTMLParser):
    """The text of a page by the heading it stands under, its tags and its attributes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._silent = 0
        self.source = path.read_text("utf-8")
        self.feed(self.source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._silent += tag in ("script", "style")

    def handle_endtag(self, tag):
        self._silent -= tag in ("script", "style")

    def handle_data(self, data):
        if not self._silent:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def ids(self) -> set[str]:
        return {a["id"] for _, a in self.tags if a.get("id")}

    def meta(self):
        found = re.search(r'<script type="application/json" id="meta">(.*?)</script>', self.source, re.DOTALL)
        return json.loads(found[1])

    def columns(self) -> bytes:
        found = re.search(r'<script type="text/plain" id="columns">(.*?)</script>', self.source, re.DOTALL)
        size, encoding = self.meta()["packed"][0]
        data = base64.b64decode(found[1])[:size]
        return gzip.decompress(data) if encoding == "gzip" else data


def decoded(page: Page, name: str) -> np.ndarray:
    """A column as the page's script decodes it."""
    ops = page.meta()["ops"]
    at = next(c for c in ops["columns"] if c["name"] == name)
    n, size = ops["n"], at["size"]
    raw = np.frombuffer(page.columns(), np.uint8, n * size, at["offset"]).reshape(size, n)
    values = sum(raw[b].astype(np.int64) << (8 * b) for b in range(size))
    return np.cumsum(np.where(values % 2, -(values + 1) // 2, values // 2)) if at["grows"] else values


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_every_outcome_has_a_whole_report(tmp_path, outcome):
    run = make_run(tmp_path, outcome)
    page = Page(write_report(run))
    assert page.ids() >= {"properties", "meaning", "time", "cluster", "logs", "words"}
    face = {"vacuous": "unknown", "killed": "unfinished"}.get(outcome, outcome)
    assert f'data-face="{face}"' in page.source
    assert face.capitalize() in page.text
    assert "data-minimal" not in page.source
    if outcome != "killed":
        results = json.loads((run / "results.json").read_text())
        assert results["reason"] in page.text
        assert results["command"] in page.text
    assert not list(run.glob(".*part"))


def test_unknown_and_vacuous_never_read_as_success(tmp_path):
    for number, outcome in enumerate(("unknown", "vacuous", "error", "killed")):
        hero = Page(write_report(make_run(tmp_path, outcome, run=f"aaaaa{number}"))).source
        hero = hero[hero.index('class="hero') : hero.index('id="properties"')]
        assert "s-valid" not in hero
        assert "f-valid" not in hero
    assert "vacuous" in Page(write_report(make_run(tmp_path, "vacuous", run="bbbbbb"))).text


def test_five_answers_stand_in_the_page(tmp_path):
    run = make_run(tmp_path, "invalid")
    anomaly = json.loads((run / "results.json").read_text())["checks"]["linearizable"]["anomalies"][0]
    text = Page(write_report(run)).text
    violations = text[text.index("Violations 1 violation found") :]
    assert anomaly["key"] in violations  # what was violated
    lines = {json.loads(x)["index"]: json.loads(x) for x in (run / "history.jsonl").read_text().splitlines()}
    for op in anomaly["window"]:  # by which operations
        asked = lines[op["invoke"]]
        seconds = f"{asked['time'] / S:.3f} s"
        assert f"{op['invoke']} {seconds}" in violations
    assert "node n1" in violations
    assert "faults in force partition f1" in violations
    assert "splitbrain run --system etcd" in text


def test_the_window_is_drawn_and_its_key_listed_whole(tmp_path):
    run = make_run(tmp_path, "invalid")
    page = Page(write_report(run))
    key = json.loads((run / "results.json").read_text())["checks"]["linearizable"]["anomalies"][0]["key"]
    history = [json.loads(x) for x in (run / "history.jsonl").read_text().splitlines()]
    mine = [o for o in history if o["key"] == key and o["type"] == "invoke"]
    assert f"All that happened to this key: {len(mine)} operations" in page.text
    drawn = page.source[page.source.index('class="scroll picture"') :]
    drawn = drawn[: drawn.index("</svg>")]
    assert drawn.count("<rect") == 3
    rows = page.meta()["cases"][0]["rows"]
    assert len(rows) == 3
    index = decoded(page, "index")
    assert [history[int(index[r])]["key"] for r in rows] == [key] * 3


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "torn", "garbage", "wrong"])
def test_any_file_may_be_missing_or_torn(tmp_path, file, damage):
    run = make_run(tmp_path, "invalid", ops=600)
    path = run / file
    targets = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    for target in targets:
        data = target.read_bytes()
        if damage == "missing":
            target.unlink()
        elif damage == "empty":
            target.write_bytes(b"")
        elif damage == "torn":
            target.write_bytes(data[: len(data) * 2 // 3])
        elif damage == "garbage":
            target.write_bytes(b"\xff\xfe\x00{]\n" + data[::-1])
        else:
            target.write_bytes(
                b'{"time":"x","checks":[1],"meaning":[],"outcomes":{"read":7},"format":[]}\n[]\n3\n'
            )
    page = Page(write_report(run))
    assert "data-minimal" not in page.source
    assert "could not be made" not in page.text
    if file != "results.json":
        assert "The system broke a promise" in page.text
        assert page.ids() >= {"anomalies", "case-0"}
    elif damage != "wrong":
        assert "There is no verdict" in page.text


def test_nothing_at_all_is_still_a_report(tmp_path):
    page = Page(write_report(tmp_path))
    assert "neither a result nor a journal" in page.text


def test_fields_of_unexpected_shape_cost_no_section(tmp_path):
    odd = [None, 7, "text", [], {}, [1, "x", None, {}], {"a": 1, "b": [None]}, True, 1e308]
    for number, value in enumerate(odd):
        run = make_run(tmp_path, "invalid", ops=300, run=f"odd{number:03}")
        body = json.loads((run / "results.json").read_text())
        for name in set(body) - {"verdict"}:
            (run / "results.json").write_text(json.dumps({**body, name: value}))
            page = Page(write_report(run))
            assert "data-minimal" not in page.source, (name, value)
            assert "could not be made" not in page.text, (name, value)
        check = {"verdict": value, "reason": value, "seconds": value, "engine": value, "anomalies": [value]}
        anomaly = {
            "kind": value,
            "key": value,
            "window": value,
            "explanation": value,
            "assumed": [{"invoke": value}],
        }
        body["checks"] = {"a": check, "b": {"verdict": "invalid", "anomalies": [anomaly]}, "c": value}
        (run / "results.json").write_text(json.dumps(body))
        page = Page(write_report(run))
        assert "could not be made" not in page.text, value


def test_what_a_system_wrote_is_text(tmp_path):
    run = make_run(tmp_path, "invalid", ops=300)
    body = json.loads((run / "results.json").read_text())
    anomaly = (
        body["checks"]["linearizable"]["anomalies"][0] if body["checks"]["linearizable"]["anomalies"] else {}
    )
    key = f"k{HOSTILE}"
    anomaly = {
        **anomaly,
        "kind": HOSTILE,
        "key": key,
        "explanation": HOSTILE,
        "nodes": [HOSTILE],
        "window": [{"invoke": 0}],
    }
    body["checks"][HOSTILE] = {
        "verdict": "invalid",
        "reason": HOSTILE,
        "engine": HOSTILE,
        "anomalies": [anomaly],
    }
    body |= {
        "reason": HOSTILE,
        "error": HOSTILE,
        "command": HOSTILE,
        "warnings": [HOSTILE],
        "caveats": [HOSTILE],
    }
    body["errors"] = [{"error": HOSTILE, "type": HOSTILE, "f": HOSTILE, "count": HOSTILE}]
    body["holes"] = [{"exception": HOSTILE, "count": HOSTILE, "traceback": HOSTILE}]
    body["outcomes"] = {HOSTILE: {"ok": 1}}
    body["meaning"] = {
        "vacuous": False,
        "rows": [{"what": HOSTILE, "value": HOSTILE, "needed": HOSTILE, "met": 1}],
    }
    (run / "results.json").write_text(json.dumps(body))
    op = {"process": HOSTILE, "f": HOSTILE, "key": key, "node": HOSTILE}
    events = [
        {"index": 0, "time": 1000, "type": "invoke", "value": HOSTILE, **op},
        {
            "index": 1,
            "time": 2000,
            "type": "ok",
            "value": f"\x00\x1b[31m\u202e{HOSTILE}",
            "error": HOSTILE,
            **op,
        },
    ]
    (run / "history.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    for line in ("monitor.jsonl", "events.jsonl"):
        hostile = {
            "time": 5,
            "node": HOSTILE,
            "ok": True,
            "role": HOSTILE,
            "leader": HOSTILE,
            "kind": HOSTILE,
            "text": HOSTILE,
        }
        (run / line).write_text(json.dumps(hostile) + "\n")
    ledger = (run / "faults.jsonl").read_text().replace('"says": "', f'"says": {json.dumps(HOSTILE)[:-1]}')
    (run / "faults.jsonl").write_text(
        ledger.replace("⫽", "<b>").replace('"network"', json.dumps(f'"{HOSTILE}'))
    )
    (run / "logs" / "n1" / "etcd.log").write_bytes(b"\x1b[31m\x00\xff" + HOSTILE.encode() + b"\xe2\x80\xae\n")
    page = Page(write_report(run))
    assert page.text.count("</script><script>") > 20  # shown, as text
    scripts = [a for tag, a in page.tags if tag == "script"]
    assert len(scripts) == 3
    assert not [tag for tag, _ in page.tags if tag in ("img", "iframe", "link", "object")]
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on")]
    assert "\x00" not in page.source
    assert "\u202e" not in page.text
    assert "[U+202E]" in page.text
    assert not page.meta()["cases"][0]["title"].startswith("<")  # and the data is still data


def test_the_page_names_no_address_and_lets_no_other_script_run(tmp_path):
    source = Page(write_report(make_run(tmp_path, "invalid"))).source
    assert not re.findall(r"(?i)\b(?:https?|wss?|ftp):", source)
    assert not re.findall(r"(?i)url\(|@import|//cdn", source)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', source)[1]
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}'", policy)
    assert "The above copyright notice and this permission notice" in source  # uPlot's licence goes along


def test_a_section_that_fails_is_a_sentence_in_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "cluster", lambda run: 1 / 0)
    monkeypatch.setattr(report, "payload", lambda run, found: 1 / 0)
    page = Page(write_report(make_run(tmp_path, "invalid")))
    assert "This part could not be made from what the run left behind (ZeroDivisionError" in page.text
    assert "The plots could not be prepared" in page.text
    assert "The system broke a promise" in page.text
    assert page.ids() >= {"properties", "anomalies", "cluster"}


def test_a_failure_of_everything_still_tells_verdict_and_error(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "read_run", lambda path: 1 / 0)
    page = Page(write_report(make_run(tmp_path, "invalid")))
    assert "invalid" in page.text
    assert "ZeroDivisionError" in page.text
    assert "overwritten value" in page.text


def test_columns_say_what_the_history_says(tmp_path):
    run = make_run(tmp_path, "valid", ops=2000)
    page = Page(write_report(run))
    history = [json.loads(x) for x in (run / "history.jsonl").read_text().splitlines()]
    invoked = [o for o in history if o["type"] == "invoke"]
    done, opened = {}, {}
    for o in history:
        if o["type"] == "invoke":
            opened[o["process"]] = o["index"]
        else:
            done[opened.pop(o["process"])] = o
    ops = page.meta()["ops"]
    assert ops["n"] == len(invoked) == 2000
    assert decoded(page, "index").tolist() == [o["index"] for o in invoked]
    assert decoded(page, "start").tolist() == [o["time"] // 1000 for o in invoked]
    codes = {"ok": 1, "fail": 2, "info": 3}
    assert decoded(page, "outcome").tolist() == [codes[done[o["index"]]["type"]] for o in invoked]
    assert [ops["f"][c] for c in decoded(page, "f")] == [o["f"] for o in invoked]
    assert [ops["keys"][c] for c in decoded(page, "key")] == [o["key"] for o in invoked]
    assert [ops["errors"][c] or None for c in decoded(page, "error")] == [
        done[o["index"]].get("error") for o in invoked
    ]
    assert [ops["lanes"][c] for c in decoded(page, "lane")] == [o["node"] for o in invoked]
    bins = page.meta()["bins"]
    for name in codes:
        assert round(sum(bins[name]) * bins["width"]) == sum(d["type"] == name for d in done.values())


def test_a_lane_is_a_worker_whose_processes_follow_one_another(tmp_path):
    ops = read_operations(make_run(tmp_path, "valid"), [])
    assert len(ops.lanes) == 10
    assert ops.lanes == sorted(ops.lanes)
    assert len(ops.processes) > 20  # many retired
    end = ops.start + np.maximum(ops.duration, 0)
    for lane in range(10):
        mine = np.flatnonzero(ops.lane == lane)
        assert (ops.start[mine][1:] >= end[mine][:-1]).all()


def test_a_journal_serves_where_there_is_no_history(tmp_path):
    run = make_run(tmp_path, "killed", ops=600)
    lines = (run / "journal.jsonl").read_text()
    late = '{"time":5,"process":900,"type":"invoke","f":"read","value":null,"key":"z","node":"n1"}\n'
    late += (
        '{"time":900,"started":7,"process":900,"type":"ok","f":"read","value":null,"key":"z","node":"n1"}\n'
    )
    (run / "journal.jsonl").write_text(lines[: lines.rindex("\n") + 1] + late + '{"time":1,"proc')
    ops = read_operations(run, ["z"])
    assert ops.source == "journal.jsonl"
    assert (ops.bad_lines, ops.bad_first) == (0, "")  # a torn last line is a killed controller's
    assert int(ops.start[0]) == 7  # the narrower stamp
    assert (ops.full[0].row, ops.full[0].outcome, ops.answered[0]) == (0, OK, b"null")
    assert (np.diff(ops.start) >= 0).all()
    assert (ops.outcome[ops.duration < 0] == INFO).all()
    assert (ops.duration < 0).any()


def test_values_are_left_out_where_there_is_no_room_and_no_file_for_them(tmp_path):
    run = read_run(make_run(tmp_path, "invalid", ops=3000))
    whole = report_payload.payload(run, [])
    assert len(json.loads(whole.meta)["packed"]) == 2
    small = report_payload.payload(run, [], limit=len(whole.columns) - 1000)
    assert len(json.loads(small.meta)["packed"]) == 1
    assert not small.beside
    assert len(small.columns) < len(whole.columns)
    assert "values of 3,000 operations" in small.left_out


def test_long_values_are_cut_and_say_so(tmp_path):
    run = make_run(tmp_path, "invalid", ops=300)
    body = json.loads((run / "results.json").read_text())
    window = [{"invoke": 0, "complete": 1}]
    body["checks"]["linearizable"]["anomalies"] = [
        {"kind": "x", "key": "k", "window": window, "explanation": "y"}
    ]
    (run / "results.json").write_text(json.dumps(body))
    op = {"process": 1, "f": "write", "key": "k", "node": "n1", "value": "x" * 10_000_000}
    events = [{"index": 0, "time": 1, "type": "invoke", **op}, {"index": 1, "time": 2, "type": "ok", **op}]
    (run / "history.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    path = write_report(run)
    assert path.stat().st_size < 500_000
    assert "write" in Page(path).text


def test_the_same_directory_gives_the_same_page(tmp_path):
    run = make_run(tmp_path, "invalid", ops=600)
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_leaders_are_taken_from_the_sampler(tmp_path):
    run = read_run(make_run(tmp_path, "valid"))
    assert [(c.node, c.term, c.previous) for c in run.leaders] == [
        ("n1", 2, None),
        ("n2", 3, "n1"),
        ("n3", 4, "n2"),
        ("n1", 5, "n3"),
    ]
    assert {s.role for n in run.nodes for s in n.spans} == {"leader", "follower", "candidate", "down"}
