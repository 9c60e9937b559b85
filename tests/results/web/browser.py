"""A real Chromium, for pages of a server: what goes wrong in one is collected."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser, closed at the end; skips where there is none."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium (the Debian package `chromium`) on PATH")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


def until(page: Any, expression: str, most_s: float = 60.0) -> None:
    """Wait for an expression to be true; the pages' policy forbids the page itself to be told to wait for one."""
    deadline = time.monotonic() + most_s
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, f"never true: {expression}"
        page.wait_for_timeout(50)


@contextmanager
def page_of(browser: Any, **context: Any) -> Iterator[Any]:
    """A page whose errors, and whose requests to elsewhere, fail the test."""
    problems: list[str] = []
    page = browser.new_page(**context)
    page.set_default_timeout(90_000)  # a machine may be busy; what is never seen fails all the same
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.on("request", lambda r: None if r.url.startswith("http://127.0.0.1:") else problems.append(r.url))
    page.on("dialog", lambda d: (problems.append("dialog"), d.dismiss()))
    try:
        yield page
        assert page.evaluate("document.documentElement.dataset.errors") in ("", None)
        assert problems == []
    finally:
        page.close()
