"""The table in a document."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import UsageError
from splitbrain.bugs import data, runner, table
from splitbrain.bugs.runner import Tally
from tests.splitbrain.bugs.test_runner import invalid, tally, valid


def test_a_row() -> None:
    made = tally([invalid(end_s=4.0), invalid(end_s=6.0), valid()], [valid(), valid()])
    assert table.row(made) == [
        *("etcd-14370", "2 of 3", "21-94%", "5.0", "0 of 2", "0-66%", "50 / 50", "0", "0", "abababababab"),
    ]
    told = table.data(made)
    assert (told["found"], told["runs"], told["accused"], told["seconds_to_find"]) == (2, 3, 0, 5.0)
    assert table.reason([made]) == "1 of 1 found; no clean twin accused"
    missed = tally([valid()], [invalid()])
    assert table.reason([missed]) == "0 of 1 found; not found: etcd-14370; clean twin accused: etcd-14370"
    assert table.results([missed], 1)["verdict"] == "invalid"


def test_a_bug_without_a_clean_twin_says_none() -> None:
    import msgspec

    lonely = msgspec.structs.replace(data.bug("etcd-14370"), clean=None, why_no_clean="all have it")
    made = Tally(bug=lonely, commit="ab" * 20)
    assert table.about(lonely)[4] == "none"
    assert table.row(made)[4:6] == ["-", "-"]
    made.runs["broken"] = [{**invalid(), "found_s": 4.0}]
    assert made.code() == 0


def test_it_is_written_between_its_marks(tmp_path: Path) -> None:
    path = tmp_path / "record.md"
    tallies = runner.collected(data.known().values(), tmp_path, "ab")
    path.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    table.write(path, tallies)
    table.write(path, tallies)
    text = path.read_text()
    assert text.startswith(f"before\n{table.BEGIN}\n\n| bug | what goes wrong |")
    assert text.endswith(f"{table.END}\nafter\n")
    assert "old" not in text
    path.write_text("nothing")
    with pytest.raises(UsageError, match="has no place for the table"):
        table.write(path, tallies)
