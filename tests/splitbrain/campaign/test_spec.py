"""A campaign's file: what is refused, with the nearest word, and the cells that a good one has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from splitbrain.campaign.plan import plan
from splitbrain.campaign.spec import read
from tests.splitbrain.campaign.made import PLAIN, campaign
from tests.splitbrain.helpers import command

REFUSED = [
    ("matrx = 1", "unknown key 'matrx'; did you mean 'matrix'?"),
    ("budgt = '1h'", "unknown key 'budgt'; did you mean 'budget'?"),
    ("[[matrix]]\nwrokload = ['set']", "[[matrix]] 1: unknown key 'wrokload'; did you mean 'workload'?"),
    ("[[matrix]]\nworkload = []", "workload = []: expected at least one value"),
    ("[[matrix]]\nworkload = ['set', 'set']", "has a value twice; `seeds` repeats a cell"),
    ("[[matrix]]\nseeds = 0", "seeds = 0: expected how many, 1 or more, or a list of seeds"),
    ("[[sample]]\nworkload = 'set'", "goes on until the budget is over; set budget, or count"),
    ("name = '../up'\n[[matrix]]", "name = '../up': expected letters, digits, dots and hyphens"),
    ("memory = '4 apples'\n[[matrix]]", "memory = '4 apples': expected a size such as 500MB"),
    ("budget = 'soon'\n[[matrix]]", "budget: time 'soon': expected seconds or a duration"),
    ("[[matrix]]\n[canary]\nbug = 'etcd-serialisable'", "did you mean 'etcd-serializable'?"),
    ("[[matrix]]\n[notify]\nwebhok = 'x'", "unknown key of [notify] 'webhok'; did you mean 'webhook'?"),
    ("[[matrix]]\n[notify]\nwebhook = 'ftp://x'", "expected an address that begins with http:// or https://"),
    ("", "it has no cells; expected [[matrix]] or [[sample]]"),
    ("[[matrix]", "expected TOML"),
    ("max-failures = 0\n[[matrix]]", "max-failures = 0: expected a whole number, 1 or more"),
]
REFUSED_CELLS = [
    (
        "[[matrix]]\nworkload = ['set', 'regster']",
        "workload = 'regster' occurs in no cell",
        "did you mean 'register'?",
    ),
    (
        "budget = '1h'\n[[sample]]\nworkload = ['register', 'queue']",
        "[[sample]] 1: workload = 'queue' occurs in no cell",
        "its client has no dequeue",
    ),
    ("[[matrix]]\nsystem = 'etdc'", "system = 'etdc' occurs in no cell", "did you mean 'etcd'?"),
    ("[[matrix]]\n[matrix.opt]\nraeds = 'x'", "opt.raeds = 'x' occurs in no cell", "did you mean 'reads'?"),
    ("[[matrix]]\nfaults = 'kil'", "faults = 'kil' occurs in no cell", "did you mean 'kill'?"),
    ("[[matrix]]\nnodes = [3, 99]", "nodes = 99 occurs in no cell", "expected 1 to 9"),
    (
        "limit = '20s'\n[[matrix]]\ntime = '30s'",
        "occurs in no cell",
        "a cell has 30 s of load alone; raise it",
    ),
]


@pytest.mark.parametrize(("text", "says"), REFUSED, ids=[says[:30] for _, says in REFUSED])
def test_a_file_that_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(UsageError) as e:
        read(tmp_path / "c.toml")
    assert says in str(e.value)
    assert str(e.value).startswith((f"campaign {tmp_path / 'c.toml'}: ", "cannot read campaign"))


@pytest.mark.parametrize(("text", "says", "why"), REFUSED_CELLS, ids=[s[:30] for _, s, _ in REFUSED_CELLS])
def test_a_value_that_is_in_no_cell(tmp_path: Path, text: str, says: str, why: str) -> None:
    with pytest.raises(UsageError) as e:
        plan(campaign(tmp_path, text), 1)
    assert says in str(e.value)
    assert why in str(e.value)


def test_a_combination_that_cannot_be_is_left_out_and_told(tmp_path: Path) -> None:
    made = plan(
        campaign(
            tmp_path,
            "[[matrix]]\nsystem = ['etcd', 'redis']\nworkload = ['register', 'watch']\nfaults = 'none'",
        ),
        1,
    )
    assert [c.label for c in made.cells if c.kind == "matrix"] == [
        "etcd register, faults none",
        "etcd watch, faults none",
        "redis register, faults none",
    ]
    assert [x.label for x in made.left_out] == ["redis watch, faults none"]


def test_cells_are_a_function_of_the_seed_and_take_turns(tmp_path: Path) -> None:
    asked = campaign(tmp_path, PLAIN)
    one, same, other = plan(asked, 1), plan(asked, 1), plan(asked, 2)
    assert one == same
    assert [c.id for c in one.cells] == [c.id for c in other.cells]
    assert not {c.seed for c in one.cells} & {c.seed for c in other.cells}
    assert len({c.seed for c in one.cells}) == len(one.cells) == 21
    assert one.cells[0].kind == "canary"
    assert len({c.label for c in one.cells[1:5]}) == 4, "each combination before any has its second seed"
    with_more = plan(campaign(tmp_path, PLAIN.replace('"kill"]', '"kill", "pause"]')), 1)
    assert {(c.label, c.seed) for c in one.cells} < {(c.label, c.seed) for c in with_more.cells}


def test_shards_part_the_cells(tmp_path: Path) -> None:
    asked = campaign(tmp_path, PLAIN)
    whole = {c.id for c in plan(asked, 1).cells if c.kind != "canary"}
    parts = [[c.id for c in plan(asked, 1, (i, 3)).cells if c.kind != "canary"] for i in (1, 2, 3)]
    assert sorted(x for part in parts for x in part) == sorted(whole)
    canaries = [c.seed for i in (1, 2, 3) for c in plan(asked, 1, (i, 3)).cells if c.kind == "canary"]
    assert len(set(canaries)) == 3


def test_the_example_is_a_campaign() -> None:
    path = Path(__file__).resolve().parents[3] / "examples" / "nightly.toml"
    made = plan(read(path), 1)
    assert (len(made.cells), made.endless, made.left_out) == (37, True, ())


def test_commands(tmp_path: Path) -> None:
    campaign(tmp_path, PLAIN)
    planned = command("campaign", "plan", "nightly.toml", "--shards", "4", "--json", cwd=tmp_path)
    assert planned.returncode == 0, planned.stderr
    told = json.loads(planned.stdout)
    assert [job["shard"] for job in told["include"]] == ["1/4", "2/4", "3/4", "4/4"]
    assert sum(job["cells"] for job in told["include"]) == 20
    late = command("campaign", "overdue", "nightly.toml", cwd=tmp_path)
    assert (late.returncode, late.stdout) == (4, "no night has ever happened in campaigns/nightly\n")


def test_what_is_no_shard_and_no_night(tmp_path: Path) -> None:
    from splitbrain.campaign import merge
    from splitbrain.commands.campaign import _shard

    asked = campaign(tmp_path, PLAIN)
    assert _shard("2/4", None, asked) == (2, 4)
    for text in ("5/4", "0/4", "2", "a/b"):
        with pytest.raises(UsageError, match=f"--shard {text}: expected I/N such as 2/4"):
            _shard(text, None, asked)
    with pytest.raises(UsageError, match="--shard 1/2 needs --seed"):
        _shard("1/2", None, campaign(tmp_path, PLAIN.replace("seed = 7", "")))
    with pytest.raises(UsageError, match="holds no night of a campaign"):
        merge.nights_below([tmp_path])
