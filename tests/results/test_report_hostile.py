"""What a system under test wrote is text in the report: in values, keys, errors, log lines and node names."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from results.report import write_report
from tests.results.synth import S, make_run
from tests.results.test_browser import Seen, browser
from tests.results.test_report import HOSTILE, Page

__all__ = ["browser"]  # the fixture
HUGE: Final = 10_000_000
CONTENTS: Final = {
    "script": HOSTILE,
    "attribute": "\"'><svg onload=document.documentElement.setAttribute('data-owned','1')><b title=\"",
    "ansi": "\x1b[2J\x1b[31mred\x1b[0m\x07\x08",
    "nul": "a\x00b\x1fc\x7fd",
    "bidi": "user\u202etxt.exe\u2066\u200f\u05d0\u05d1\u05d2",
    "template": "{{script}}{{main}}${x}<!--",
}
PLACES: Final = ("value", "key", "error", "log", "node")


def hostile_run(root: Path, contents: dict[str, str], run: str = "a1b2c3") -> Path:
    """A run whose one violation, log lines, nodes and faults hold each of the given texts in each place."""
    path = make_run(root, "invalid", ops=60, run=run)
    events: list[dict[str, Any]] = []
    anomalies = []
    for number, text in enumerate(contents.values()):
        t, node, key = 0.01 + 0.03 * number, f"{text}n1", f"{text}k"
        base = {"process": number, "key": key, "node": node}
        read = {**base, "process": 100 + number, "f": "read"}
        at = len(events)
        events += [
            {**base, "f": "write", "type": "invoke", "value": f"{text}v", "time": int(t * S)},
            {**base, "f": "write", "type": "ok", "value": f"{text}v", "time": int((t + 0.005) * S)},
            {**read, "type": "invoke", "value": None, "time": int((t + 0.01) * S)},
            {
                **read,
                "type": "ok",
                "value": [f"{text}w"],
                "ext": {"note": text},
                "time": int((t + 0.015) * S),
            },
            {**base, "f": "cas", "type": "invoke", "value": [text, 1], "time": int((t + 0.02) * S)},
            {
                **base,
                "f": "cas",
                "type": "fail",
                "value": [text, 1],
                "error": f"{text}e",
                "time": int((t + 0.025) * S),
            },
        ]
        window = [{"invoke": at, "complete": at + 1}, {"invoke": at + 2, "complete": at + 3}]
        order = [{"invoke": at, "state": f"{text}v"}]
        anomalies.append(
            (
                {"kind": text, "key": key, "window": window, "explanation": f"{text}x", "nodes": [node]},
                {"key": key, "initial": text, "order": order, "stuck": at + 2, "could_be": [text]},
            )
        )
    for index, event in enumerate(events):
        event["index"] = index
    (path / "history.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    body = json.loads((path / "results.json").read_text())
    texts = list(contents.values())
    body["checks"] = {
        name: {"verdict": "invalid", "reason": texts[0], "engine": texts[0], "anomalies": [a for a, _ in anomalies],
               "detail": {"linearizations": [s for _, s in anomalies], "unknown": [{"key": texts[0]}]}}
        for name in ("linearizable", "set", "lock")
    }  # fmt: skip
    body |= {"errors": [{"error": text, "type": "info", "f": text, "count": 1} for text in texts]}
    body |= {"warnings": texts, "reason": "".join(texts), "command": f"splitbrain run {texts[0]}"}
    (path / "results.json").write_text(json.dumps(body))
    monitor: list[dict[str, Any]] = [{"time": S // 50, "logs": {"n1/etcd.log": 10**6}}]
    monitor += [
        {"time": S // 10 * i, "node": f"{text}n1", "ok": True, "role": "leader", "applied": i, "leader": text}
        for i in (1, 2)
        for text in texts
    ]
    (path / "monitor.jsonl").write_text("".join(json.dumps(x) + "\n" for x in monitor))
    said = [{"time": 5, "node": f"{t}n1", "kind": t, "text": t} for t in texts]
    (path / "events.jsonl").write_text("".join(json.dumps(x) + "\n" for x in said))
    log = "\n".join(texts).encode("utf-8", "surrogatepass") + b"\nbroken \xff\xfe\xc3( \xed\xa0\x80 bytes\n"
    (path / "logs" / "n1" / "etcd.log").write_bytes(log)
    return path


def harmless(page: Page) -> None:
    """No tag, attribute or character is there that the report did not put there itself."""
    assert "could not be made" not in page.text
    assert "could not be drawn" not in page.text
    assert len([a for tag, a in page.tags if tag == "script"]) == 3
    assert not [tag for tag, _ in page.tags if tag in ("img", "iframe", "link", "object", "base")]
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert not re.findall("[\x00-\x08\x0b-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2060-\u206f]", page.source)
    assert page.source.count("<!--") == 0 or "&lt;!--" in page.source


@pytest.mark.parametrize("kind", CONTENTS)
def test_each_place_shows_it_as_text(tmp_path: Path, kind: str) -> None:
    page = Page(write_report(hostile_run(tmp_path, {kind: CONTENTS[kind]})))
    harmless(page)
    shown = {
        "script": "</script><script>",
        "attribute": "<svg onload=",
        "ansi": "red␇␈",
        "nul": "a␀b␟c␡d",
        "bidi": "user[U+202E]txt.exe[U+2066][U+200F]",
        "template": "{{script}}{{main}}${x}<!--",
    }[kind]
    for anchor, places in {
        "anomalies": ("value", "key", "error", "node"),
        "logs": ("log",),
        "cluster": ("node",),
    }.items():
        source = page.source[page.source.index(f'<section id="{anchor}"') :]
        text = re.sub("<[^>]*>", "", source[: source.index("</section>")])
        text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&#x27;", "'")
        wanted = shown if kind != "attribute" or anchor != "anomalies" else "<svg onload"
        assert wanted in text, places


def test_invalid_utf8_and_lone_surrogates_are_replaced(tmp_path: Path) -> None:
    run = hostile_run(tmp_path, {"script": HOSTILE})
    (run / "history.jsonl").write_bytes(
        (run / "history.jsonl").read_bytes().replace(b"<img", b"\xff\xfe\xed\xa0\x80<img")
    )
    page = Page(write_report(run))
    assert "broken \ufffd\ufffd\ufffd( " in page.text
    assert "\\ud800" not in page.source
    page.source.encode("utf-8")


@pytest.mark.parametrize("place", PLACES)
def test_ten_megabytes_are_cut_and_their_length_is_said(tmp_path: Path, place: str) -> None:
    run = hostile_run(tmp_path, {"script": "x"})
    huge = "y" * HUGE
    if place == "log":
        (run / "logs" / "n1" / "etcd.log").write_text(f"before\n{huge}\n{huge[:10_000]}\nafter\n")
    else:
        lines = [json.loads(x) for x in (run / "history.jsonl").read_text().splitlines()]
        for line in lines:
            if place == "value" and line["f"] == "write":
                line["value"] = huge
            elif place == "key":
                line["key"] = huge
            elif place == "node":
                line["node"] = huge
            elif place == "error" and "error" in line:
                line["error"] = huge
        (run / "history.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
        if place == "key":
            text = (run / "results.json").read_text()
            (run / "results.json").write_text(text.replace('"key": "xk"', f'"key": "{huge}"'))
    path = write_report(run)
    assert path.stat().st_size < 1_500_000
    page = Page(path)
    harmless(page)
    assert re.search(r"y{20,}… ?\([0-9,]+ (?:characters|bytes)\)", page.text), place
    if place == "log":
        assert re.search(r"10,0\d\d,\d\d\d of 10,0\d\d,\d\d\d bytes left out", page.text)
        assert "after" in page.text


def test_nothing_runs_nothing_breaks_and_links_lead_where_they_say(browser: Any, tmp_path: Path) -> None:
    contents = {
        **CONTENTS,
        "long": "z" * 5000,
        "rtl": "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 " * 20,
    }
    seen = Seen(browser, write_report(hostile_run(tmp_path, contents)), reduced_motion="reduce").ready()
    page = seen.page
    for wide in (1280, 400):
        page.set_viewport_size({"width": wide, "height": 900})
        page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
        assert (
            page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        )
    page.set_viewport_size({"width": 1280, "height": 900})
    page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = false))")
    made = "main img, main iframe, main script, main [onload], main [onerror], main [onclick]"
    assert page.locator(made).count() == 0
    page.locator("[data-logs-at]").first.click()
    assert page.text_content("#log-time") == "at 0.025 s"
    log = page.locator("details.log").first
    assert log.get_attribute("open") is not None
    assert log.locator(".chosen").is_visible()
    log.locator("[data-seconds]").first.click()  # a time beside a line leads to the plots, and selects it
    assert page.text_content("#log-time") == "at 0.020 s"
    seen.sound()
    seen.context.close()


def test_terms_tell_what_they_mean_to_a_pointer_and_to_the_keyboard(browser: Any, tmp_path: Path) -> None:
    seen = Seen(browser, write_report(make_run(tmp_path, "invalid", ops=300))).ready()
    lag = seen.page.locator(".term", has_text="Stamp lag p99")
    lag.focus()
    assert "How late the harness itself woke up" in (seen.page.text_content("#tip") or "")
    seen.page.keyboard.press("Escape")
    assert seen.page.is_hidden("#tip")
    lag.hover()
    assert seen.page.is_visible("#tip")
    seen.sound()
    seen.context.close()


def test_logs_follow_the_selected_time_and_stay_in_place(browser: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path, "invalid", ops=600)
    (run / "logs" / "n1" / "etcd.log").write_text("".join(f"line {i:04}\n" for i in range(200)))
    noted = [{"time": i * S // 10, "logs": {"n1/etcd.log": i * 100}} for i in range(21)]
    (run / "monitor.jsonl").write_text("".join(json.dumps(x) + "\n" for x in noted))
    seen = Seen(browser, write_report(run), reduced_motion="reduce").ready()
    log = seen.page.locator("details.log").first
    log.locator("summary").click()
    for t, line in ((1.55, "line 0149"), (0.2, "line 0019")):
        seen.page.evaluate("(t) => window.splitbrain.goTo(t)", t)
        assert line in (log.locator(".chosen").text_content() or "")
        inside = """(pre) => {
          const all = pre.getBoundingClientRect(), one = pre.querySelector(".chosen").getBoundingClientRect();
          return one.top >= all.top - 1 && one.bottom <= all.bottom + 1;
        }"""
        assert log.locator("pre").evaluate(inside)
    seen.page.evaluate("(t) => window.splitbrain.goTo(t)", 0.0)
    assert log.locator(".now").text_content() == "nothing written yet"
    seen.sound()
    seen.context.close()
