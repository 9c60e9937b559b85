"""The table of docs/faults.md is what `make docs` would write."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import faults
from splitbrain import registry

DOCS = Path(__file__).parents[2] / "docs" / "faults.md"


def test_every_registered_fault_is_in_the_table_with_an_answer_for_every_provider() -> None:
    found = faults.kept(DOCS.read_text())
    assert list(found) == [d.name for d in registry.descriptors("faults")], "run make docs"
    for fault, cells in found.items():
        assert set(cells) == set(faults.WHERE)
        for where, text in cells.items():
            assert text == "yes" or text.startswith("no: "), f"{fault}, {where}: run make docs"


@pytest.mark.netns
@pytest.mark.rootless
def test_what_the_table_says_is_what_this_machine_says() -> None:
    """Reasons may be worded by the machine (which control groups it has); yes and no may not differ."""
    found = faults.kept(DOCS.read_text())
    for fault, cells in faults.rows(faults.capabilities()).items():
        for where, text in cells.items():
            said = found[fault][where]
            assert (said == "yes") == (text == "yes"), f"{fault}, {where}: {said!r}, but here {text!r}"


def test_a_column_that_cannot_be_measured_stays() -> None:
    first = faults.written(
        f"a\n{faults.BEGIN}\n{faults.END}\nz\n", {"kill": dict.fromkeys(faults.WHERE, "yes")}
    )
    second = faults.written(first, {"kill": {"netns": "no: a\\|b"}, "new": {"docker": "yes"}})
    assert faults.kept(second) == {
        "kill": {**dict.fromkeys(faults.WHERE, "yes"), "netns": "no: a\\|b"},
        "new": {**dict.fromkeys(faults.WHERE, "not measured yet"), "docker": "yes"},
    }
    assert second.startswith("a\n")
    assert second.endswith("\nz\n")
    with pytest.raises(ValueError, match="expected the lines"):
        faults.written("nothing", {})
