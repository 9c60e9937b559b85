"""What a night comes to: exit codes, findings, the canary, what stops it, and what nobody may slip into a page."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import InfrastructureError, UsageError
from harness.core.results import failed
from splitbrain.campaign import home, ledger, notify, retention, runner, trend, watch
from splitbrain.campaign import merge as merging
from splitbrain.campaign.plan import Cell
from splitbrain.campaign.runner import Night
from splitbrain.campaign.spec import Keep, Notify
from tests.splitbrain.campaign.made import (
    SMALL,
    STALE,
    Pretended,
    Quiet,
    campaign,
    invalid,
    kill_is_stale,
    spend,
    valid,
)

pytestmark = pytest.mark.usefixtures("in_no_time")


def test_all_is_well(tmp_path: Path) -> None:
    told = spend(campaign(tmp_path, SMALL), tmp_path / "c")
    assert (told["exit"], told["verdict"], told["complete"]) == (0, "valid", True)
    assert told["canary"]["sentence"] == "the canary was found: etcd-serializable, in 1 of 1 runs"
    assert told["counts"]["valid"] == 8
    assert json.loads((Path(told["path"]) / "summary.json").read_bytes())["reason"] == "8 cells: 8 valid"


def test_a_finding_is_new_then_known_and_red_both_times_unless_the_baseline_has_it(tmp_path: Path) -> None:
    asked = campaign(tmp_path, SMALL)
    for status in ("new", "known"):
        told = spend(asked, tmp_path / "c", kill_is_stale)
        assert [(f["signature"], f["status"], f["fails"]) for f in told["findings"]] == [
            (STALE, status, True)
        ]
        assert (told["exit"], told["findings"][0]["hits"], told["findings"][0]["eligible"]) == (1, 4, 4)
        report = told["findings"][0]["reports"][0]
        assert (Path(told["path"]) / report).exists()
        assert f'href="{report}"' in (Path(told["path"]) / "index.html").read_text()
        assert f"1 {status} finding: {STALE}" in told["reason"]
    (tmp_path / "known.toml").write_text(
        f'[[known]]\nsignature = "{STALE}"\nreason = "on purpose"\nexpires = 2999-01-01\n'
    )
    excused = campaign(
        tmp_path, SMALL.replace('name = "nightly"', 'name = "nightly"\n    baseline = "known.toml"')
    )
    told = spend(excused, tmp_path / "c", kill_is_stale)
    assert (told["exit"], told["findings"][0]["baseline"]["reason"]) == (0, "on purpose")
    rows = trend.rows(tmp_path / "c")
    assert [r.exit for r in rows] == [1, 1, 0]
    assert [[f.status for f in r.findings] for r in rows] == [["new"], ["known"], ["known"]]


def test_a_canary_that_is_not_found_fails_the_night(tmp_path: Path) -> None:
    class Blind(Pretended):
        def start(self, cell: Cell, order: Any) -> None:
            kind = {"kind": "matrix"} if cell.kind == "canary" else {}
            import msgspec

            super().start(msgspec.structs.replace(cell, **kind), order)

    told_of: list[str] = []
    asked = campaign(tmp_path, SMALL)
    with home.held(tmp_path / "c"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(notify, "tell", lambda _n, event, text, _m: told_of.append(f"{event}: {text}") or [])
        path, _ = runner.open_night(asked, tmp_path / "c", resume=False, seed=None, shard=None)
        night = Night(asked, path, Blind(), Quiet())
        night.work()
        told = night.conclude()
        night.close()
    assert (told["exit"], told["verdict"]) == (4, "unknown")
    assert told["reason"].startswith("the canary was not found: etcd-serializable is a known bug")
    assert [t for t in told_of if t.startswith("canary: the canary was not found")]


def test_one_broken_cell_never_stops_the_rest(tmp_path: Path) -> None:
    def broken(cell: Cell) -> dict[str, Any]:
        return failed("no node got ready") if cell.id == "m1-0001-001" else valid(cell)

    told = spend(campaign(tmp_path, SMALL), tmp_path / "c", broken)
    assert (told["exit"], told["counts"]["error"], told["counts"]["valid"]) == (4, 1, 7)


def test_unknown_is_no_success(tmp_path: Path) -> None:
    told = spend(
        campaign(tmp_path, SMALL),
        tmp_path / "c",
        lambda _c: {"verdict": "unknown", "reason": "vacuous: nothing"},
    )
    assert (told["exit"], told["verdict"], told["counts"]["unknown"]) == (3, "unknown", 8)


def test_max_failures(tmp_path: Path) -> None:
    told = spend(campaign(tmp_path, SMALL), tmp_path / "c", lambda _c: invalid(), max_failures=3)
    assert told["exit"] == 1
    assert "attempts failed, and --max-failures is 3" in told["stop"]
    assert told["counts"]["invalid"] in (3, 4)
    assert told["counts"]["not_started"] == 8 - told["counts"]["invalid"]


def test_the_budget_is_of_a_clock_that_nobody_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Jumps(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.fromtimestamp(0, tz) + timedelta(days=10 * len(seen))

    seen: list[float] = []
    ticks = iter(range(100_000))

    def slow(night: Night, _places: Pretended) -> None:
        night.ledger._clock = lambda: seen.append(0.0) or float(next(ticks))  # type: ignore[func-returns-value]
        night.ledger._began_s = -1.0

    monkeypatch.setattr(ledger, "datetime", Jumps)
    asked = campaign(tmp_path, SMALL.replace("seed = 7", 'seed = 7\n    budget = "12s"'))
    told = spend(asked, tmp_path / "c", change=slow)
    assert told["stop"] == "the budget of 12 s is over"
    assert 0 < told["counts"]["valid"] < 8
    assert told["exit"] == 3, "what was not started has not been shown to work"
    assert told["complete"], "a budget that is over is an end of its own"


def test_samples_without_a_count_go_on_until_the_budget_is_over(tmp_path: Path) -> None:
    text = """
        seed = 3
        budget = "30s"
        free = "1MB"
        [[sample]]
        workload = ["register", "set", "lock"]
        nodes = [3, 5]
        faults = ["none", "kill", "pause"]
        time = "5s"
    """
    ticks = iter(range(100_000))

    def slow(night: Night, _places: Pretended) -> None:
        night.ledger._clock, night.ledger._began_s = lambda: float(next(ticks)), 0.0

    asked = campaign(tmp_path, text)
    told = spend(asked, tmp_path / "c", change=slow)
    assert (told["exit"], told["counts"]["not_started"]) == (0, 0)
    cells = [(c["id"], c["label"], c["seed"]) for c in told["cells"]]
    assert len(cells) > 3
    ticks = iter(range(100_000))
    again = spend(asked, tmp_path / "c", change=slow)
    assert [(c["id"], c["label"], c["seed"]) for c in again["cells"]][: len(cells)] == cells[
        : len(again["cells"])
    ]


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_and_on_again(tmp_path: Path, times: int) -> None:
    import signal

    def interrupt(_night: Night, places: Pretended) -> None:
        start, stop = places.start, places.stop

        def start_and_ask(cell: Cell, order: Any) -> None:
            start(cell, order)
            if len(places.started) == 4:
                os.kill(os.getpid(), signal.SIGINT)

        def stop_and_ask() -> None:
            stop()
            if places.stops < times:
                os.kill(os.getpid(), signal.SIGINT)

        places.start, places.stop = start_and_ask, stop_and_ask  # type: ignore[method-assign]

    asked = campaign(tmp_path, SMALL)
    told = spend(asked, tmp_path / "c", change=interrupt)
    assert (told["exit"], told["stop"], told["complete"]) == (130, "interrupted", False)
    cut = told["counts"]["cut_off"]
    assert cut >= 1
    told = spend(asked, tmp_path / "c", resume=True)
    assert (told["exit"], told["counts"]["valid"], told["counts"]["cut_off"]) == (0, 8, cut)
    assert len(home.nights(tmp_path / "c")) == 1


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write

    def full(night: Night, places: Pretended) -> None:
        def write(fd: int, data: bytes) -> int:
            if fd == night.ledger._fd and len(places.started) >= 4:
                return real(fd, data[: len(data) // 2])
            return real(fd, data)

        monkeypatch.setattr(os, "write", write)

    asked = campaign(tmp_path, SMALL)
    with pytest.raises(InfrastructureError, match=r"cannot write the campaign's ledger .*nothing is lost"):
        spend(asked, tmp_path / "c", change=full)
    monkeypatch.setattr(os, "write", real)
    lines = (home.nights(tmp_path / "c")[0] / ledger.NAME).read_bytes()
    assert lines.endswith(b"}\n"), "the half line was taken back"
    told = spend(asked, tmp_path / "c", resume=True)
    assert (told["exit"], told["counts"]["valid"]) == (0, 8)


def test_the_disk_budget_is_looked_at_before_each_cell(tmp_path: Path) -> None:
    asked = campaign(tmp_path, SMALL.replace('free = "1MB"', 'free = "900TB"'))
    told = spend(asked, tmp_path / "c")
    assert (told["exit"], told["counts"]["not_started"], told["complete"]) == (4, 8, False)
    assert "and `free` asks for 900,000,000 MB" in told["stop"]


def test_two_campaigns_in_one_folder(tmp_path: Path) -> None:
    asked = campaign(tmp_path)
    with (
        home.held(tmp_path / "c"),
        pytest.raises(UsageError, match=f"at work in .* already .pid {os.getpid()}"),
    ):
        spend(asked, tmp_path / "c")


def test_a_broken_run_directory_is_said(tmp_path: Path) -> None:
    def ruin(night: Night, places: Pretended) -> None:
        start = places.start

        def start_and_ruin(cell: Cell, order: Any) -> None:
            start(cell, order)
            if cell.id == "m1-0001-001":
                del places.on[order.run]
                run_dir = night.folder / "runs" / "etcd-register" / f"20260101T000000Z-1-{order.run}"
                run_dir.mkdir(parents=True)
                (run_dir / "spec.json").write_text("{ruined")
                from splitbrain.campaign.cell import outcome

                night._end(outcome(order, code=-9, stopped=False, limited=None))

        places.start = start_and_ruin  # type: ignore[method-assign]

    told = spend(campaign(tmp_path, SMALL), tmp_path / "c", change=ruin)
    assert (told["exit"], told["counts"]["error"], told["counts"]["valid"]) == (4, 1, 7)
    (broken,) = [c for c in told["cells"] if c["id"] == "m1-0001-001"]
    assert "was killed by signal 9 before it had a verdict; its directory" in broken["attempts"][0]["reason"]


def test_nothing_that_a_system_says_acts_in_a_page_or_in_markdown(tmp_path: Path) -> None:
    evil = "</td><script>alert(1)</script> | [x](javascript:1) `tick`\x1b[31m"
    told = spend(campaign(tmp_path, SMALL), tmp_path / "c", lambda _c: invalid(explanation=evil))
    night = Path(told["path"])
    page, words = (night / "index.html").read_text(), (night / "summary.md").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\x1b" not in page + words
    assert "<script" not in words.replace("\\<script", "")
    assert "[x]" not in words.replace("\\[x\\]", "")
    rows = [line for line in words.splitlines() if STALE in line]
    assert rows
    assert trend.build(tmp_path / "c", trend.rows(tmp_path / "c")).count("<script") == 0


def test_the_step_summary_of_github_is_the_campaigns_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from splitbrain import told as telling
    from splitbrain.campaign import cell, markdown

    told = spend(campaign(tmp_path, SMALL), tmp_path / "c")
    monkeypatch.setenv(telling.SUMMARY, str(tmp_path / "step.md"))
    telling.step_summary(markdown.summary(told))
    assert (tmp_path / "step.md").read_text().startswith("## ✔ nightly, night 1: valid")
    assert telling.SUMMARY not in cell._environment(), "its runs do not write there as well"


def test_retention(tmp_path: Path) -> None:
    told = spend(campaign(tmp_path, SMALL), tmp_path / "c", kill_is_stale)
    night = Path(told["path"])
    data = sorted(
        (c["attempts"][0]["verdict"], (night / c["attempts"][0]["run_dir"] / "data").exists())
        for c in told["cells"]
    )
    assert data == [("invalid", True)] * 5 + [("valid", False)] * 4, "data of valid runs went at once"
    now = datetime.now(UTC)
    keep = Keep(valid_days=1, others_days=3)
    assert retention.by_age(tmp_path / "c", keep, now - timedelta(days=900)).runs == 0, "a clock was set back"
    assert retention.by_age(tmp_path / "c", keep, now).runs == 0
    assert retention.by_age(tmp_path / "c", keep, now + timedelta(days=2)).runs == 4
    freed = retention.by_age(tmp_path / "c", keep, now + timedelta(days=4))
    assert (freed.runs, freed.bytes) == (5, 5 * (1000 + 500))
    for run_dir in (night / "runs").glob("*/*-*"):
        assert {p.name for p in run_dir.iterdir()} == {"results.json", "report.html", "reduced.json"}
    assert retention.by_age(tmp_path / "c", keep, now + timedelta(days=9)).runs == 0


def test_who_is_told(tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = tmp_path / "tell"
    script.write_text(f"#!/bin/sh\necho $SPLITBRAIN_EVENT >> {told}\ncat >> {told}\necho >> {told}\n")
    script.chmod(0o755)
    text = SMALL + f'\n    [notify]\n    command = ["{script}"]\n    webhook = "http://127.0.0.1:9/hook"\n'
    spend(campaign(tmp_path, text), tmp_path / "c", kill_is_stale)
    lines = told.read_text().splitlines()
    assert lines[0] == "new-finding"
    assert json.loads(lines[1])["signature"] == STALE
    assert len(lines) == 2, "once for each finding"
    notes = ledger.read(home.nights(tmp_path / "c")[0] / ledger.NAME).notes
    assert [n for n in notes if "could not be reached" in n]
    assert notify.tell(Notify(command=("/no/such",)), "x", "y", {}) == [
        "the command of [notify] cannot be started: /no/such: No such file or directory"
    ]
    assert "NOWHERE_SET is not set" in notify.tell(Notify(webhook_env="NOWHERE_SET"), "x", "y", {})[0]


def test_a_night_that_did_not_happen(tmp_path: Path) -> None:
    folder, now = tmp_path / "c", datetime.now(UTC)
    assert watch.look(folder, 3600, now).sentence.startswith("no night has ever happened")
    spend(campaign(tmp_path, SMALL), folder)
    assert not watch.look(folder, 3600, now).late or not watch.look(folder, 3600, datetime.now(UTC)).late
    late = watch.look(folder, 26 * 3600, now + timedelta(hours=30))
    assert late.late
    assert "a night did not happen: night 1 ended 30.0 h ago, and one is due every 26h" in late.sentence
    assert "a clock was set" in watch.look(folder, 3600, now - timedelta(days=3)).sentence


def test_shards_are_merged_and_one_that_is_missing_is_said(tmp_path: Path) -> None:
    from splitbrain.campaign import summary

    asked = campaign(tmp_path, SMALL)
    whole = spend(asked, tmp_path / "whole", kill_is_stale)
    for i in (1, 2, 3):
        spend(asked, tmp_path / f"shard{i}", kill_is_stale, shard=(i, 3))
    nights = merging.nights_below([tmp_path / f"shard{i}" for i in (1, 2, 3)])
    merged = merging.merge(asked, nights, tmp_path / "merged")
    told = summary.again(merged, asked)

    def came_to(found: dict[str, Any]) -> list[tuple[str, int, str]]:
        cells = [c for c in found["cells"] if c["kind"] != "canary"]
        return sorted((c["id"], c["seed"], c["attempts"][0]["verdict"]) for c in cells)

    assert came_to(told) == came_to(whole)
    assert told["canary"]["n"] == 3
    assert (told["exit"], told["findings"][0]["status"]) == (1, "new")
    assert all((merged / r).exists() for r in told["findings"][0]["reports"])
    partly = summary.again(merging.merge(asked, nights[:2], tmp_path / "partly"), asked)
    assert (partly["exit"], partly["canary"]["verdict"]) == (1, "not found")
    assert partly["counts"]["not_started"] == 2
    assert "shard 3 of 3 did not come; what it was to run has not been shown to work" in partly["notes"]
    with pytest.raises(UsageError, match="shard 1 is there twice"):
        merging.merge(asked, [nights[0], copied(nights[0])], tmp_path / "twice")


def copied(night: Path) -> Path:
    import shutil

    target = night.parents[1] / "copied" / night.name
    shutil.copytree(night, target)
    return target
