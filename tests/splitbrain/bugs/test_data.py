"""The track record's data: every bug is a pair of runs that can be, and has its row in the docs."""

from __future__ import annotations

import re

import msgspec
import pytest

from harness.core.errors import UsageError
from splitbrain import registry
from splitbrain.bugs import data, table
from splitbrain.bugs.data import Variant
from splitbrain.runner import RUN_WIDE
from tests.splitbrain.helpers import ROOT


@pytest.mark.parametrize("bug", data.known().values(), ids=lambda bug: bug.id)
def test_a_bug_is_a_pair_of_runs_that_differ_in_the_variant_alone(bug: data.Bug) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", bug.id)
    assert bug.link.startswith("https://")
    assert bug.spec.keys().isdisjoint({"system", "version", "seed", "expect", "schedule"}), (
        "general specs only"
    )
    specs = {side: bug.resolve(side, 7) for side in bug.sides}
    broken = specs["broken"]
    assert broken.expect == "invalid"
    assert broken.time_s <= 60
    assert broken.faults
    workload = registry.create("workloads", broken.workload, broken.of(broken.workload))
    judges = {*workload(broken.concurrency, broken.seed).checkers, *RUN_WIDE}
    assert bug.found.keys() <= judges
    assert all(bug.found.values())
    if bug.clean is None:
        assert bug.why_no_clean
        return
    assert bug.clean != bug.broken
    twin = msgspec.structs.replace(
        specs["clean"], version=broken.version, expect=broken.expect, options=broken.options
    )
    assert twin == broken
    options = {f"{owner}.{o}": v for owner, own in specs["clean"].options.items() for o, v in own.items()}
    others = {f"{owner}.{o}": v for owner, own in broken.options.items() for o, v in own.items()}
    differ = {name for name in options if options[name] != others[name]}
    named = {*bug.clean.opt, *bug.broken.opt}
    assert all(name in named or name.partition(".")[2] in named for name in differ)


def test_an_unknown_bug_is_named_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown bug 'etcd-14730'; did you mean 'etcd-14370'"):
        data.bug("etcd-14730")


def test_a_variant_in_words() -> None:
    assert Variant(version="3.5", opt={"reads": "local", "n": 2}).says("etcd") == "3.5 reads=local n=2"
    assert Variant().says("etcd") == "the default etcd"


def test_the_docs_have_every_bug_as_the_data_have_it() -> None:
    text = (ROOT / "docs" / "track-record.md").read_text()
    body = text.partition(table.BEGIN)[2].partition(table.END)[0]
    rows = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("| ")]
    bugs = {
        cells[0].partition("]")[0].strip("["): cells
        for cells in rows
        if len(cells) == 7 and cells[0] != "bug"
    }
    runs = {cells[0] for cells in rows if len(cells) == 10} - {"bug", "---"}
    known = data.known()
    assert bugs.keys() - {"---"} == known.keys() == runs, "`make track-record` writes it"
    for name, bug in known.items():
        assert bugs[name][1:5] == table.about(bug)[1:5]
        assert bugs[name][6] == table.about(bug)[6]
        assert bug.link in bugs[name][0]
