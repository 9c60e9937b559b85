"""A report whose values stand beside it: what a server hands out, to whom, and what the page makes of it."""

from __future__ import annotations

import json
import os
import re
import shutil

import pytest

from results.report import payload
from results.report.page import write_report
from results.report.values import NAME
from results.web.server import Site
from tests.results.synth import make_run
from tests.results.web.browser import chromium, page_of, until
from tests.results.web.conftest import HOSTILE, serving

TOKEN = "a-token-of-some-length"
EVIL = HOSTILE + "\x1b[31m\u202e"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A root with a run that needs the file, whose values are hostile, and one that does not."""
    root = tmp_path_factory.mktemp("beside") / "runs"
    run = make_run(root, "invalid", ops=9000, run="aaaaaa")
    make_run(root, "valid", ops=300, run="bbbbbb")
    history = run / "history.jsonl"
    lines = history.read_text().splitlines(keepends=True)
    key = json.loads((run / "results.json").read_text())["checks"]["linearizable"]["anomalies"][0]["key"]
    for n, line in enumerate(lines):
        event = json.loads(line)
        if event.get("f") == "write" and event["key"] != key:
            lines[n] = json.dumps({**event, "value": f"{event['value']} {EVIL}"}, ensure_ascii=False) + "\n"
    history.write_text("".join(lines))
    patch = pytest.MonkeyPatch()
    patch.setattr(payload, "LIMIT_BYTES", 60_000)
    for path in root.glob("*/*-*"):
        write_report(path)
    patch.undo()
    return root


@pytest.fixture
def run(root):
    (found,) = root.glob("*/*-aaaaaa")
    return found


@pytest.fixture
def path(run, root):
    return run.relative_to(root).as_posix()


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


def address_in(answer):
    """Where the page that was served says its values are."""
    return json.loads(re.search(r'id="served">(.*?)</script>', answer.text)[1])["values"]


def test_who_got_the_page_gets_its_values_and_nobody_else(root, run, path):
    with serving(root, TOKEN) as served, serving(root) as another:
        page = served.ask(f"/file/{path}/report.html", cookie=f"splitbrain-{served.port}={TOKEN}")
        assert page.headers["content-length"] == str(len(page.body))
        assert "connect-src 'self'" in page.headers["content-security-policy"]
        address = address_in(page)
        part = served.ask(f"{address}&from=5&to=900")
        assert (part.status, part.body) == (200, (run / NAME).read_bytes()[5:900])
        assert part.headers["access-control-allow-origin"] == "null"
        assert part.headers["content-type"] == "application/octet-stream"
        assert "sandbox" in part.headers["content-security-policy"]
        assert part.headers["x-content-type-options"] == "nosniff"
        bare = address.partition("?")[0]
        sign = address.partition("?")[2]
        for refused in (
            f"{bare}?from=0&to=9",
            f"{bare}?sign=&from=0&to=9",
            f"{bare}?sign={'0' * 64}&from=0&to=9",
            f"{bare.replace(NAME, 'history.jsonl')}?{sign}&from=0&to=9",
            f"{bare.replace('aaaaaa', 'bbbbbb')}?{sign}&from=0&to=9",
            f"{bare.replace('/values/file/', '/values/campaign/')}?{sign}&from=0&to=9",
            f"/values/?{sign}&from=0&to=9",
        ):
            answer = served.ask(refused)
            assert answer.status == 403, refused
            assert b"\x1f\x8b" not in answer.body
        assert another.ask(f"{address}&from=0&to=9").status == 403, "another server has another key"
        own = address_in(another.ask(f"/file/{path}/report.html"))
        assert another.ask(f"{own}&from=0&to=9").status == 200
        assert another.ask(f"{own}&from=0&to=9", host="evil.example").status == 421


@pytest.mark.parametrize(
    "asked",
    ["from=9&to=9", "from=-1&to=9", "from=0&to=99999999", "from=0", "from=x&to=9", "from=0&to=%C2%B2", ""],
)
def test_only_a_stretch_of_the_file_is_answered(root, path, asked):
    with serving(root) as served:
        address = address_in(served.ask(f"/file/{path}/report.html"))
        assert served.ask(f"{address}&{asked}").status == 416


def test_what_stands_in_the_files_place_is_not_followed(root, run, path, tmp_path):
    (tmp_path / "secret").write_text("the secret")
    with serving(root) as served:
        address = address_in(served.ask(f"/file/{path}/report.html"))
        kept = (run / NAME).rename(run / "kept")
        try:
            assert served.ask(f"{address}&from=0&to=4").status == 404
            (run / NAME).symlink_to(tmp_path / "secret")
            assert served.ask(f"{address}&from=0&to=4").status == 404
            page = served.ask(f"/file/{path}/report.html")
            assert 'id="served"' not in page.text
            assert "connect-src" not in page.headers["content-security-policy"]
            (run / NAME).unlink()
            os.mkfifo(run / NAME)
            assert served.ask(f"{address}&from=0&to=4").status == 404
        finally:
            (run / NAME).unlink()
            kept.rename(run / NAME)


def test_a_report_that_needs_nothing_is_handed_nothing(root):
    (other,) = root.glob("*/*-bbbbbb")
    with serving(root) as served:
        page = served.ask(f"/file/{other.relative_to(root)}/report.html")
        assert page.body == (other / "report.html").read_bytes()
        assert "connect-src" not in page.headers["content-security-policy"]


def test_where_one_report_is_opened_nothing_else_is_served(root, run, path):
    from results.web.server import Server

    site = Site(root, lambda _: False, only=(run.parent.name, run.name))
    with serving(root) as served:
        served.server.site = site
        assert isinstance(served.server, Server)
        assert served.ask(f"/file/{path}/report.html").status == 200
        for other in ("/", "/trends", "/campaigns", "/latest", f"/compare?r={path}&r={path}", f"/run/{path}",
                      f"/live/{path}", f"/file/{path.replace('aaaaaa', 'bbbbbb')}/report.html"):  # fmt: skip
            assert served.ask(other).status == 404, other


def test_values_are_brought_as_they_are_looked_at(browser, root, path):
    with serving(root) as served, page_of(browser, viewport={"width": 1280, "height": 900}) as page:
        asked = []
        page.on("request", lambda r: asked.append(r.url) if "/values/" in r.url else None)
        page.goto(f"{served.url}/file/{path}/report.html")
        page.wait_for_selector("html[data-ready=true]", state="attached")
        page.locator("#lanes").scroll_into_view_if_needed()
        page.wait_for_timeout(300)
        assert asked == [], "nothing is asked for before somebody looks"
        page.fill("#find", "f:write type:ok")
        page.press("#find", "Enter")
        page.locator("#op-rows .rows .c-value", has_text="<script>").first.wait_for()
        assert "…" not in page.locator("#op-rows .rows .c-value").all_text_contents()
        assert len(asked) == 1
        for key in ("Home", "End"):  # of another part
            page.keyboard.press(key)
            page.wait_for_selector("#picked", state="visible")
            until(page, "!/on its way/.test(document.querySelector('#picked').textContent)")
            assert "<script>" in page.text_content("#picked h3"), "as text"
            assert "\\u001b[31m[U+202E]" in page.text_content("#picked h3")
        assert 2 <= len(asked) <= 3
        page.fill("#find", "value:17")
        page.press("#find", "Enter")
        assert "cannot be searched here" in page.text_content("#found")


def test_in_the_frame_of_a_run_with_a_token_they_are_brought_as_well(browser, root, path):
    with serving(root, TOKEN) as served, page_of(browser) as page:
        page.goto(f"{served.url}/run/{path}?token={TOKEN}")
        frame = page.frame_locator("iframe.report")
        frame.locator("html[data-ready=true]").wait_for()
        frame.locator("#find").fill("f:write type:ok")
        frame.locator("#find").press("Enter")
        frame.locator("#op-rows .rows .c-value", has_text="<script>").first.wait_for()
        assert frame.locator("html").get_attribute("data-errors") == ""


def test_from_a_file_the_page_says_what_to_type_and_asks_for_nothing(browser, root, run):
    asked = []
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.on("console", lambda m: errors.append(m.text) if m.type in ("error", "warning") else None)
    page.on("request", lambda r: asked.append(r.url))
    page.goto((run / "report.html").as_uri())
    page.wait_for_selector("html[data-ready=true]", state="attached")
    page.fill("#find", "f:write type:ok")
    page.press("#find", "Enter")
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("#picked", state="visible")
    assert "not in this page: splitbrain open aaaaaa" in page.text_content("#picked")
    page.keyboard.press("n")  # a violation: its key's values are in the page
    until(page, "document.documentElement.dataset.case === '0'")
    assert "splitbrain open" not in page.text_content("#picked")
    assert "read → " in page.text_content("#picked h3")
    assert page.get_attribute("html", "data-errors") == ""
    assert errors == []
    assert [url for url in asked if not url.startswith("file:")] == []
    assert len(asked) == 1
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gone", "another's", "cut"])
def test_a_file_that_does_not_fit_the_page_is_said(browser, root, run, path, how, tmp_path):
    shutil.copy(run / NAME, tmp_path / NAME)
    with serving(root) as served:
        page = browser.new_page()
        page.goto(f"{served.url}/file/{path}/report.html")
        page.wait_for_selector("html[data-ready=true]", state="attached")
        try:
            if how == "gone":
                (run / NAME).unlink()
            elif how == "cut":
                (run / NAME).write_bytes((run / NAME).read_bytes()[:100])
            else:
                data = (run / NAME).read_bytes()
                (run / NAME).write_bytes(data[1:] + data[:1])
            page.fill("#find", "f:write type:ok")
            page.press("#find", "Enter")
            page.keyboard.press("ArrowDown")
            says = {"gone": "not beside this page any more", "another's": "damaged, or another report's",
                    "cut": "the server says 416"}[how]  # fmt: skip
            page.locator("#picked", has_text=says).wait_for()
        finally:
            shutil.copy(tmp_path / NAME, run / NAME)
        page.close()
