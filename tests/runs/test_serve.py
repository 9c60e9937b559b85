"""A real run in the browser of runs, while it goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from splitbrain.alive import goes_on
from tests.results.web.browser import chromium, page_of, until
from tests.results.web.conftest import serving
from tests.runs.commands import ENV

pytestmark = [pytest.mark.netns, pytest.mark.slow]


def test_a_real_run_is_followed_from_its_set_up_to_its_report(tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-P", "-m", "splitbrain", "run", "--system", "etcd", "--workload", "register"),
        *("--faults", "partition,kill", "--time", "8s", "--seed", "7", "--out", str(tmp_path), "--json"),
    ]
    with serving(tmp_path) as served, chromium() as browser, page_of(browser, base_url=served.url) as page:
        served.site.goes_on = served.site.hub._goes_on = goes_on
        with subprocess.Popen(command, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as run:
            page.set_default_timeout(60_000)
            page.goto("/")
            while not page.query_selector("tr[data-state=running]"):
                assert run.poll() is None
                page.wait_for_timeout(200)
                page.goto("/")
            page.click("tr[data-state=running] .open")
            page.wait_for_selector("#phase:text('load and faults')")
            until(page, "Number(document.getElementById('rate').textContent) > 50")
            page.wait_for_function(
                "/^n[123], term [0-9]+$/.test(document.getElementById('leader').textContent)"
            )
            page.wait_for_selector("#faults li .glyph")
            until(page, "/[0-9]+ keys? checked/.test(document.getElementById('said').textContent)")
            frame = page.frame_locator("iframe.report")
            frame.locator("html[data-ready=true]").wait_for()
            assert run.wait() == 0
            assert frame.locator("html").get_attribute("data-face") == "valid"
            page.goto("/")
            assert page.get_attribute("tbody tr", "data-state") == "valid"
