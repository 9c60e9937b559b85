"""The page of a night as somebody sees it: what is wrong on top, on a phone too, and what went well folded away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.core.results import failed
from splitbrain.campaign import summary
from splitbrain.campaign.plan import Cell
from tests.results.web.browser import chromium
from tests.splitbrain.campaign.made import SMALL, STALE, campaign, invalid, kill_is_stale, spend

KNOWN = f'[[known]]\nsignature = "{STALE}"\nreason = "on purpose"\nexpires = 2999-01-01\n'


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A canary missed, a finding that is new, one in the baseline, one that did not come again, a broken cell."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "known.toml").write_text(KNOWN)
    asked = campaign(
        folder, SMALL.replace('name = "nightly"', 'name = "nightly"\n    baseline = "known.toml"')
    )

    def earlier(cell: Cell) -> dict[str, Any]:
        return invalid("flicker", faults="clock") if cell.id == "m1-0003-001" else kill_is_stale(cell)

    def tonight(cell: Cell) -> dict[str, Any]:
        if cell.id == "m1-0001-001":
            return invalid("lost-write", "k1: the write of 5 is gone", "none")
        return failed("n2 did not get ready") if cell.id == "m1-0003-001" else kill_is_stale(cell)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("splitbrain.campaign.runner._look_s", 0)
        patch.setattr("os.fsync", lambda _fd: None)
        spend(asked, folder / "c", earlier)
        patch.setattr(summary, "_hit", lambda _cell, _attempt: False)
        yield Path(spend(asked, folder / "c", tonight)["path"])


def test_what_is_wrong_stands_first_and_what_went_well_is_folded(night: Path) -> None:
    text = (night / "index.html").read_text()
    assert '<span class="tag">canary not found</span>' in text
    assert ">missed</span>" in text
    assert "invalid, known" in text
    findings, attempts = text.index('id="findings"'), text.index('id="attempts"')
    new = text.index("etcd/linearizable/lost-write/", findings)
    known = text.index(f"<code>{STALE}</code>", findings)
    gone = text.index("etcd/linearizable/flicker/", findings)
    assert new < known < gone < attempts, "what fails the night, what is excused, what did not come"
    assert "in the baseline until 2999-01-01: on purpose" in text
    assert text.index("n2 did not get ready", attempts) < text.index("invalid, known", attempts)
    folded = text.index("<summary>2 valid runs</summary>")
    assert folded > text.index("invalid, known", attempts)
    report = next((night / "runs").glob("*/*")).parent
    assert f"splitbrain replay {report}" in text


def test_on_a_phone_a_report_is_one_tap_away(night: Path) -> None:
    with chromium() as browser:
        seen = browser.new_page(viewport={"width": 390, "height": 844})
        problems: list[str] = []
        seen.on("console", lambda m: problems.append(m.text))
        seen.on("request", lambda r: None if r.url.startswith("file:") else problems.append(r.url))
        seen.goto((night / "index.html").as_uri())
        assert seen.evaluate("document.documentElement.scrollWidth") == 390, (
            "nothing is wider than the screen"
        )
        for link in seen.locator("#findings a").all():
            box = link.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
        why = seen.locator("#attempts .why").first.bounding_box()
        assert why["x"] + why["width"] <= 390
        seen.locator("#findings a").first.click()
        seen.wait_for_url("**/report.html")
        assert problems == []


def test_in_markdown_too_each_reason_is_said_once(night: Path) -> None:
    lines = (night / "summary.md").read_text().splitlines()
    assert lines[2].startswith("the canary was not found: ")
    assert sum("the canary was not found" in line for line in lines) == 1
    assert lines[4].startswith("- 1 new finding: ")
    assert lines[5] == "- 1 in the baseline"
    known, new = (
        next(n for n, line in enumerate(lines) if line.startswith(f"| {w} ")) for w in ("known", "new")
    )
    assert new < known
    assert [line for line in lines if "n2 did not get ready" in line]
