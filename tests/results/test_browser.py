"""The report in a real browser, from `file://`: what its script offers does what it says."""

from __future__ import annotations

import itertools
import json
import re
import shutil

import pytest

from results.report.page import write_report
from tests.results.synth import make_run
from tests.results.test_report import HOSTILE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
unlike = itertools.count()  # an address that stands already would bring back nothing
READY = "html[data-ready=true]"


class Seen:
    """A page, and what went wrong or was asked for in it."""

    def __init__(self, browser, path, hash_="", **context):
        self.context = browser.new_context(viewport={"width": 1280, "height": 900}, **context)
        self.page = self.context.new_page()
        self.errors, self.asked = [], []
        self.page.on(
            "console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on("request", lambda r: self.asked.append(r.url))
        self.page.goto(path.as_uri() + hash_)

    def ready(self):
        self.page.wait_for_selector(READY, state="attached")
        return self

    def at(self, name):
        return self.page.get_attribute("html", f"data-{name}")

    def sound(self):
        assert self.errors == []
        assert self.at("errors") == ""
        assert self.at("owned") is None
        assert all(url.startswith("file:") for url in self.asked)

    def settled(self):
        """After two frames: whatever was asked for has been drawn."""
        self.page.evaluate("() => new Promise((d) => requestAnimationFrame(() => requestAnimationFrame(d)))")
        return self

    def find(self, text):
        self.page.fill("#find", text)
        self.page.press("#find", "Enter")
        return self.settled()

    def seen(self):
        return int(self.settled().page.get_attribute("#lanes", "data-seen"))

    def shown(self):
        """From and to, in seconds, as the page says them."""
        text = self.settled().page.text_content("#range")
        return [float(x) for x in re.match(r"([\d.]+) s to ([\d.]+) s", text).groups()]

    def rows(self, column):
        return self.page.locator(f"#op-rows .rows .c-{column}").all_text_contents()


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("needs Chromium (the Debian package `chromium`) on PATH")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("page"), "invalid")
    write_report(made)
    return made


@pytest.fixture(scope="module")
def only(browser, run):
    """One page for all tests that leave it as they found it."""
    seen = Seen(browser, run / "report.html", reduced_motion="reduce").ready()
    yield seen
    seen.sound()
    seen.context.close()


@pytest.fixture
def page(only):
    """The shared page, in its first state."""
    only.page.evaluate("(n) => { location.hash = `#view=0..0&unlike=${n}`; }", next(unlike))
    only.page.evaluate("window.scrollTo(0, 0)")
    only.settled()
    return only


def history(run):
    """(invocation, completion) of each operation, in the order of invocations."""
    opened, pairs = {}, []
    for line in (run / "history.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["type"] == "invoke":
            pairs.append([event, None])
            opened[event["process"]] = pairs[-1]
        else:
            opened.pop(event["process"])[1] = event
    return pairs


@pytest.mark.parametrize("outcome", ["valid", "vacuous", "error", "killed"])
def test_the_script_runs_without_errors(browser, tmp_path, outcome):
    seen = Seen(browser, write_report(make_run(tmp_path, outcome, ops=1500))).ready()
    seen.sound()
    assert seen.at("face") == {"vacuous": "unknown", "killed": "unfinished"}.get(outcome, outcome)
    assert seen.page.is_hidden("#plots-failed")
    if outcome != "error":
        assert seen.page.get_attribute("#lanes", "data-drawn") == "direct"
        assert seen.seen() > 0
        assert seen.page.locator(".u-over").count() == 2  # two plots by uPlot
        assert len(seen.rows("t")) > 10
    seen.context.close()


@pytest.mark.parametrize("left", ["faults and nodes", "nothing"])
def test_without_operations_nothing_breaks(browser, tmp_path, left):
    run = make_run(tmp_path, "valid" if left == "faults and nodes" else "error", ops=300)
    for name in ("history.jsonl", "journal.jsonl"):
        (run / name).unlink(missing_ok=True)
    seen = Seen(browser, write_report(run), reduced_motion="reduce").ready()
    seen.page.evaluate("splitbrain.goTo(0.5)")
    assert seen.page.locator("#plots").count() == (left != "nothing")
    if left != "nothing":
        seen.page.focus("#plots")
        for key in ("+", "ArrowRight", "Shift+ArrowRight", "n", "/", "Enter", "0"):
            seen.page.keyboard.press(key)
        seen.settled()
        assert seen.page.is_hidden("#fig-lanes")
        seen.page.wait_for_selector("#chosen", state="visible")
    seen.settled().sound()
    seen.context.close()


def test_many_operations_are_drawn_from_the_pyramid_and_few_rows_exist(page):
    assert page.page.get_attribute("#lanes", "data-drawn") == "pyramid"
    assert page.seen() == 6000
    page.page.focus("#op-rows")
    page.page.keyboard.press("End")
    page.settled()
    assert 10 < page.page.locator("#op-rows .rows > *").count() < 40
    assert page.page.get_attribute("[aria-selected=true]", "aria-rowindex") == "6001"
    assert page.page.is_visible("#picked")


def test_on_a_telephone_nothing_that_decides_is_cut_off(browser, run):
    seen = Seen(browser, run / "report.html")
    seen.page.set_viewport_size({"width": 400, "height": 800})
    seen.ready().settled()
    beyond = """(selector) => [...document.querySelectorAll(selector)].filter((e) => {
      const box = e.getBoundingClientRect();
      return box.width < 1 || box.right > innerWidth || e.scrollWidth > e.clientWidth + 1;
    }).map((e) => e.textContent)"""
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 400
    for decides in (
        ".checks td",
        ".demands td",
        ".finding dd",
        "#command",
        "#op-rows .c-value",
        "#op-rows .c-type",
    ):
        assert seen.page.locator(decides).count() > 0, decides
        assert seen.page.evaluate(beyond, decides) == [], decides
    seen.sound()
    seen.context.close()


def test_hostile_content_does_nothing(browser, tmp_path):
    run = make_run(tmp_path, "invalid", ops=300)
    for name in ("results.json", "history.jsonl", "faults.jsonl", "monitor.jsonl", "events.jsonl"):
        text = (run / name).read_text()
        for word in ("timeout", "n1", "k1", "partition", "Key"):
            text = text.replace(f'"{word}', f'"{HOSTILE}{word}')
        (run / name).write_text(text)
    (run / "history.jsonl").write_text(
        (run / "history.jsonl").read_text().replace('"value": 5', f'"value": "{HOSTILE}"')
    )
    seen = Seen(browser, write_report(run)).ready()
    seen.page.keyboard.press("n")
    for by in ("key", "node"):
        seen.page.click(f"[data-by={by}]")
    seen.find(f'value:"{HOSTILE[:20]}"')
    assert any("<script>" in text for text in seen.rows("value"))
    seen.find('<img src=x onerror="document.documentElement.dataset.owned=1">').sound()
    assert "&lt;script&gt;" in seen.page.content()
    seen.context.close()


def test_n_goes_to_the_violation_and_pointing_tells_the_operation(page, run):
    whole = page.shown()
    page.page.keyboard.press("n")
    shown = page.shown()
    assert whole[0] == 0 < shown[0] < shown[1] < whole[1]
    assert "Violation 1 of 1: linearizable of key k" in page.page.text_content("#said")
    picked = page.page.text_content("#picked")
    anomaly = json.loads((run / "results.json").read_text())["checks"]["linearizable"]["anomalies"][0]
    assert f"key{anomaly['key']}" in picked
    assert "violationlinearizable" in picked
    # The same by pointing: the selected moment's line crosses the operation's lane.
    lanes = page.page.locator("#lanes")
    lanes.scroll_into_view_if_needed()
    box, line = lanes.bounding_box(), page.page.locator("#chosen").bounding_box()
    for y in range(20, int(box["height"]) - 24, 6):
        page.page.mouse.move(line["x"] + 2, box["y"] + y)
        if "violation" in (page.page.text_content("#tip") or ""):
            break
    tip = page.page.text_content("#tip")
    for word in ("invoked", "completed", "noden1", "process", "UTC", "partition"):
        assert word in tip
    page.page.mouse.move(5, 5)
    assert page.page.is_hidden("#tip")
    page.page.keyboard.press("p")
    assert page.at("case") == "0"


def test_wheel_zooms_at_the_pointer_and_lets_the_page_scroll_when_out(page):
    page.page.locator("#lanes").scroll_into_view_if_needed()
    box = page.page.locator("#lanes").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 40
    page.page.mouse.move(x, y)
    before = page.page.evaluate("scrollY")
    page.page.mouse.wheel(0, 60)  # nothing to zoom out of
    page.settled()
    assert page.page.evaluate("scrollY") > before
    page.page.locator("#lanes").scroll_into_view_if_needed()
    box = page.page.locator("#lanes").bounding_box()
    y = box["y"] + 40
    page.page.mouse.move(x, y)
    under = page.page.text_content("#crosshair")
    for _ in range(10):
        page.page.mouse.wheel(0, -100)
    start, end = page.shown()
    assert 0 < start < end < 30
    assert end - start < 8
    page.page.mouse.move(x + 1, y)
    assert abs(float(page.page.text_content("#crosshair").split()[0]) - float(under.split()[0])) < 0.2
    page.page.mouse.down()
    page.page.mouse.move(x + 200, y, steps=4)
    page.page.mouse.up()
    later = page.shown()
    assert later[0] < start  # dragged to the right: what was before comes into sight
    assert abs((later[1] - later[0]) - (end - start)) < 0.01
    page.page.dblclick("#lanes", position={"x": 300, "y": 40})
    assert page.shown()[0] == 0


def test_the_minimap_moves_the_window(page):
    page.page.locator("#minimap").scroll_into_view_if_needed()
    box = page.page.locator("#minimap").bounding_box()
    page.page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + 25)
    start, end = page.shown()
    assert start > 15
    page.page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 25)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + 25, steps=3)
    page.page.mouse.up()
    again = page.shown()
    assert again[1] < start
    assert abs((again[1] - again[0]) - (end - start)) < 0.01


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("f:cas type:fail", lambda i, c: i["f"] == "cas" and c["type"] == "fail"),
        ("node:n2,n3 -f:read", lambda i, c: i["node"] != "n1" and i["f"] != "read"),
        ("type:info error:time", lambda i, c: c["type"] == "info" and "timeout" in c["error"]),
        ('process:4 key:"k0-0"', lambda i, c: i["process"] == 4 and i["key"] == "k0-0"),
        ("t:10s..12000ms", lambda i, c: i["time"] < 12e9 + 1000 and c["time"] >= 10e9 - 1000),
        ("value:17", lambda i, c: "17" in json.dumps([i["value"], c["value"]], separators=(",", ":"))),
    ],
)  # fmt: skip
def test_a_filter_shows_what_it_says_in_the_table_and_the_plots(page, run, text, wanted):
    number = sum(bool(wanted(i, c)) for i, c in history(run))
    assert 0 < number < 6000
    assert page.find(text).seen() == number
    assert page.page.text_content("#found") == f"{number:,} of 6,000 operations"
    if text.startswith("f:cas"):
        assert set(page.rows("f")) == {"cas"}
        assert set(page.rows("type")) == {"fail"}
    page.page.click("#filtered button")
    assert page.seen() == 6000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("colour:red", "there is no “colour:”"),
        ("cas", "“cas” has no name"),
        ("type:lost", "is no outcome"),
        ("t:9s..3s", "ends before it begins"),
        ("t:soon..", "is no time"),
        ("f:", "says nothing"),
    ],
)
def test_a_filter_that_means_nothing_says_why_and_changes_nothing(page, text, says):
    page.find(text)
    assert says.casefold() in page.page.text_content("#found").casefold()
    assert page.page.get_attribute("#find", "aria-invalid") == "true"
    assert page.seen() == 6000


def test_the_address_brings_back_view_filter_grouping_axis_and_selection(browser, page, run):
    page.page.fill("#find", "f:write type:ok")  # as typed, without Enter
    page.page.wait_for_selector("#filtered")
    page.page.locator("#op-rows .rows > *").nth(4).click()
    page.page.click("[data-by=key]")
    page.page.click("[data-axis=order]")
    page.page.click("[data-do=in]")
    page.page.click("[data-do=in]")
    state = (page.shown(), page.seen(), page.page.text_content("#picked"))
    address = ""
    for _ in range(100):  # it is written once the hand rests
        if "axis=order" in (address := page.page.evaluate("location.href")) and "view=" in address:
            break
        page.settled()
    assert "find=f%3Awrite" in address
    other = Seen(browser, run / "report.html", "#" + address.partition("#")[2]).ready()
    again = (other.shown(), other.seen(), other.page.text_content("#picked"))
    assert again[0] == pytest.approx(state[0], abs=1e-4)
    assert again[1:] == state[1:]
    assert other.page.input_value("#find") == "f:write type:ok"
    for name in ("[data-by=key]", "[data-axis=order]"):
        assert other.page.get_attribute(name, "aria-pressed") == "true"
    other.sound()
    other.context.close()


def test_by_key_and_by_node_and_in_order_hold_every_operation(page):
    for by in ("key", "node", "process"):
        for axis in ("order", "time"):
            page.page.click(f"[data-by={by}]")
            page.page.click(f"[data-axis={axis}]")
            assert page.seen() == 6000, (by, axis)
            assert page.page.get_attribute(f"[data-by={by}]", "aria-pressed") == "true"


def test_a_time_in_the_text_leads_to_the_plots_and_tells_the_rest(page):
    page.page.evaluate(
        "window.told = []; document.addEventListener('splitbrain:time', (e) => told.push(e.detail.seconds))"
    )
    link = page.page.locator("a[data-seconds]").first
    link.evaluate(
        "(e) => { for (let d = e.closest('details'); d; d = d.parentElement.closest('details')) d.open = true; }"
    )
    wanted = float(link.get_attribute("data-seconds"))
    link.click()
    page.settled()
    assert page.page.evaluate("told.at(-1)") == wanted
    assert page.page.is_visible("#chosen")
    assert abs(float(page.page.text_content("#chosen").split()[0]) - wanted) < 0.01
    assert page.page.locator("#plots").evaluate("(e) => Math.abs(e.getBoundingClientRect().top)") < 200
    page.page.evaluate("splitbrain.goTo(12.5)")
    assert page.page.evaluate("told.at(-1)") == 12.5


def test_everything_is_reached_by_keyboard(page):
    press = page.page.keyboard.press
    focused = "document.activeElement.id"
    for _ in range(80):
        press("Tab")
        if page.page.evaluate(focused) == "plots":
            break
    assert page.page.evaluate(focused) == "plots"
    press("+")
    assert page.shown()[0] > 0
    start = page.shown()[0]
    press("ArrowRight")
    assert page.shown()[0] > start
    press("Shift+ArrowRight")  # an operation in sight
    first = page.page.text_content("#picked")
    press("Shift+ArrowRight")
    assert page.page.text_content("#picked") != first
    press("Shift+ArrowDown")
    below = page.page.text_content("#picked")
    press("Enter")
    assert page.page.evaluate(focused) == "op-rows"
    chosen = page.settled().page.locator("[aria-selected=true]")
    assert chosen.count() == 1
    assert chosen.locator(".c-process").text_content() in below
    row = int(chosen.get_attribute("data-row"))
    press("ArrowDown")
    assert int(page.settled().page.get_attribute("[aria-selected=true]", "data-row")) == row + 1
    press("Enter")
    assert page.page.evaluate(focused) == "plots"
    press("Escape")
    assert page.page.is_hidden("#picked")
    press("/")
    assert page.page.evaluate(focused) == "find"


LUMINANCE = """
([scheme]) => {
  const style = getComputedStyle(document.documentElement);
  const rgb = (name) => style.getPropertyValue("--" + name).trim().slice(1).match(/../g).map((h) => parseInt(h, 16));
  const light = (c) => c.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const ratio = (a, b) => ((x, y) => (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05))(light(a), light(b));
  const tint = (name, part) => rgb(name).map((v, k) => v * part + rgb("paper")[k] * (1 - part));
  const found = [];
  const needs = (what, a, b, least) => {
    const r = ratio(a, b);
    if (r < least) found.push(`${what} ${r.toFixed(2)} < ${least}`);
  };
  const drawn = ["ok", "fail", "info", "hit", "chosen", "leader", "candidate", "down"];
  const faults = ["network", "process", "disk", "clock", "membership", "other"];
  for (const ground of ["paper", "raised", "sunk"]) {
    for (const name of ["ink", "soft", "faint"]) needs(`${name} on ${ground}`, rgb(name), rgb(ground), 4.5);
  }
  for (const name of ["valid", "invalid", "unknown", "error", "unfinished"]) needs(name, rgb(name), rgb("paper"), 4.5);
  for (const name of faults) needs(`${name} on its own tint`, rgb(name), tint(name, 0.22), 4.5);
  for (const name of [...drawn, ...faults]) needs(name, rgb(name), rgb("paper"), 3);
  needs("paper on leader", rgb("paper"), rgb("leader"), 4.5);
  needs("paper on chosen", rgb("paper"), rgb("chosen"), 4.5);
  return found;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_motion_and_width(browser, run, scheme):
    seen = Seen(browser, run / "report.html", color_scheme=scheme, reduced_motion="reduce").ready()
    assert seen.page.evaluate(LUMINANCE, [scheme]) == []
    assert seen.page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    seen.page.set_viewport_size({"width": 360, "height": 800})
    seen.settled()
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 360
    seen.page.emulate_media(media="print")
    for name in ("#operations", "#logs", ".controls", "#minimap"):
        assert seen.page.locator(name).first.is_hidden(), name
    for name in (".hero", "#properties", "#lanes", ".case"):
        assert seen.page.locator(name).first.is_visible(), name
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    seen.sound()
    seen.context.close()


def test_without_script_the_words_are_there(browser, run):
    seen = Seen(browser, run / "report.html", java_script_enabled=False)
    table = seen.page.locator("#time noscript table")
    assert "partition f1" in table.text_content()
    ends = [c["type"] for _, c in history(run)]
    cells = table.locator("tbody tr").first.locator("td").all_text_contents()
    assert cells[3:6] == [f"{ends.count(x):,}" for x in ("ok", "fail", "info")]
    assert "It should have seen" in seen.page.text_content("#anomalies")
    assert seen.page.is_hidden("#plots")
    assert seen.page.is_hidden("#find")
    assert seen.errors == []
    seen.context.close()
