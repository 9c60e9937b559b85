"""The pages in a real browser: searched, sorted, chosen, compared and followed as a person would."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from results.web import server as server_module
from tests.results.web.browser import chromium, page_of
from tests.results.web.conftest import find, serving
from tests.results.web.test_live import done, lines, plan

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser, served):
    with page_of(browser, base_url=served.url) as found:
        yield found


def shown(page):
    return page.eval_on_selector_all("#listed input[name=r]", "boxes => boxes.map(b => b.value.slice(-6))")


def test_the_list_is_searched_filtered_and_sorted_in_place(page):
    page.goto("/")
    assert set(shown(page)) == {"run000", "run001", "run002"}
    page.evaluate("window.same = 1")
    page.fill("input[name=q]", "run001")
    page.wait_for_selector("#count:text('1 run of 3')")
    assert page.inner_text("#count") == "1 run of 3"
    assert page.url.endswith("/?q=run001")
    page.fill("input[name=q]", "")
    page.wait_for_selector("#count:text-is('3 runs')")
    page.select_option("select[name=state]", "valid")
    page.wait_for_selector("#count:text('1 run of 3')")
    assert shown(page) == ["run000"]
    assert page.evaluate("window.same") == 1  # the page was never left
    page.click(".clear")
    page.click("th a:text('Verdict')")
    assert page.get_attribute("th[aria-sort]", "aria-sort") == "ascending"
    assert shown(page) == ["run001", "run002", "run000"]
    page.fill("input[name=q]", "nothing like it")
    page.wait_for_selector("text=No run matches")


def test_by_keyboard_alone_two_are_chosen_compared_and_opened(page):
    page.goto("/?sort=state&order=asc")
    page.keyboard.press("/")
    page.keyboard.type("etcd")
    page.wait_for_url("**q=etcd**")
    page.keyboard.press("Escape")
    for key in "jxjjx":
        page.keyboard.press(key)
    assert page.is_enabled("#compare button")
    page.keyboard.press("c")
    page.wait_for_url("**/compare?**")
    assert "A is invalid, B is valid." in page.inner_text(".summary")
    assert page.is_hidden("tr.same >> nth=0")
    page.uncheck("#only")
    assert page.is_visible("tr.same >> nth=0")
    page.click(".sides .side >> nth=0 >> a")
    page.wait_for_selector("iframe.report")


def test_the_report_runs_its_own_script_in_a_sandbox(page, served, path_of):
    page.goto(f"/run/{path_of('run001')}")
    frame = page.frame_locator("iframe.report")
    frame.locator("html[data-ready=true]").wait_for()
    assert frame.locator("html").get_attribute("data-errors") == ""
    assert frame.locator("html").get_attribute("data-face") == "invalid"
    inner = page.frames[1]
    assert inner.evaluate("self.origin") == "null"
    assert (
        inner.evaluate("(() => { try { return parent.document.title } catch (e) { return e.name } })()")
        == "SecurityError"
    )
    page.click("summary")
    page.click("text=logs/n1/odd.log")
    assert page.evaluate("document.contentType") == "text/plain"
    assert page.evaluate("document.documentElement.dataset.owned") is None
    assert "<script>" in page.inner_text("body")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_legible_and_fits(browser, served, path_of, scheme):
    pages = (
        "/",
        "/trends",
        "/campaigns",
        f"/compare?r={path_of('run000')}&r={path_of('run001')}",
        f"/run/{path_of('run002')}",
    )
    for width in (1280, 390):
        context = {
            "viewport": {"width": width, "height": 800},
            "color_scheme": scheme,
            "base_url": served.url,
        }
        with page_of(browser, **context) as page:
            for path in pages:
                page.goto(path)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
                paper, ink = page.evaluate(
                    "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
                )
                assert (luminance(paper) > luminance(ink)) is (scheme == "light")
                assert page.evaluate("document.querySelectorAll('h1').length") == 1
                assert page.evaluate(unseen_signs) == []


unseen_signs = """
[...document.querySelectorAll(".verdict-word .shape")].filter((sign) => {
  const use = sign.querySelector("use");
  return sign.getBoundingClientRect().width < 8 || (use && use.getBBox().width < 8);
}).map((sign) => sign.outerHTML)
"""


def luminance(colour):
    return sum(float(x) for x in colour[colour.index("(") + 1 : -1].split(",")[:3])


@pytest.mark.slow
def test_without_script_the_same_addresses_answer(browser, served):
    context = {"base_url": served.url, "java_script_enabled": False}
    page = browser.new_page(**context)
    page.goto("/")
    page.fill("input[name=q]", "run001")
    page.click("text=Apply")
    assert shown_without_script(page) == 1
    page.goto("/")
    for box in page.query_selector_all("input[name=r]")[:2]:
        box.check()
    page.click("#compare button")
    assert "Verdict" in page.inner_text("main")
    page.close()


def shown_without_script(page):
    return len(page.query_selector_all("#listed tbody tr"))


@pytest.mark.slow
def test_a_token_opens_once_and_the_cookie_stays(browser, runs, path_of):
    with serving(runs, TOKEN) as served:
        context = browser.new_context(base_url=served.url)
        page = context.new_page()
        assert page.goto("/").status == 401
        page.goto(f"/run/{path_of('run001')}?token={TOKEN}")
        assert TOKEN not in page.url
        page.frame_locator("iframe.report").locator("html[data-ready=true]").wait_for()
        assert page.evaluate("document.cookie") == ""  # no script reads it
        assert page.goto("/").status == 200
        context.close()


def test_a_run_is_followed_and_its_report_comes(browser, tmp_path, runs, monkeypatch):
    monkeypatch.setattr(server_module, "TICK_S", 0.1)
    run = tmp_path / "etcd-register" / "20260131T120000Z-1-abcdef"
    run.mkdir(parents=True)
    (run / "spec.json").write_text(json.dumps({"system": "etcd", "workload": "register", "time_s": 30}))
    lines(
        run / "journal.jsonl",
        {"format": 1, "run": "abcdef", "epoch_mono_ns": time.monotonic_ns(), "epoch_real_ns": 1},
        {"phase": "load", "time": 1},
    )
    with serving(tmp_path) as served, page_of(browser, base_url=served.url) as page:
        served.alive.add(run)
        page.goto("/")
        page.click("tr[data-state=running] .open")
        page.wait_for_selector("#phase:text('load and faults')")
        lines(run / "journal.jsonl", *(done(0, ms) for ms in (2, 3, 4)))
        lines(run / "faults.jsonl", *plan("f1", 0))
        lines(run / "monitor.jsonl", {"time": 1, "node": "n1", "ok": True, "role": "leader", "term": 7})
        lines(run / "incremental.jsonl", {"time": 1, "key": "k", "verdict": "invalid", "reason": ""})
        page.wait_for_selector("#ok:text('3')")
        page.wait_for_selector("#strips svg path.p-ok >> nth=0", state="attached")
        assert page.inner_text("#leader") == "n1, term 7"
        assert "<script>" in page.inner_text("#faults")
        assert page.inner_text("#said") == "1 key checked, 1 in violation"
        finished = find(runs, "run000")
        shutil.copy(finished / "report.html", run / "report.html")
        shutil.copy(finished / "results.json", run / "results.json")
        page.frame_locator("iframe.report").locator("html[data-ready=true]").wait_for()
