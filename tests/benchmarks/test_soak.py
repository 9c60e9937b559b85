"""Which kinds the soak knows, and how many seeds of each it runs."""

import pytest

from benchmarks.soak import chosen, kinds
from splitbrain import listing, registry
from splitbrain import spec as specs


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Systems that files describe are not known to other tests."""
    monkeypatch.setattr(registry, "_adopted", {})


def test_every_workload_has_a_kind_on_namespaces_and_one_in_containers() -> None:
    known = kinds()
    for system, row in listing.matrix().items():
        for workload, lacking in row.items():
            name = f"{system}-{workload}"
            assert (name in known) is (lacking == [] and workload != "noop")
            if name in known:
                assert [known[f"{name}{how}"].seeds for how in ("", "-docker", "-five")] == [10, 2, 1]
    controls = {name for name, kind in known.items() if kind.wanted == "invalid"}
    assert {name for name in controls if not name.startswith("redis-")} == {
        "stale",
        "abd-sloppy",
        "lock-plain",
        "power-loss-unsafe",
    }


@pytest.mark.parametrize("name", kinds())
def test_each_is_a_run_that_can_be(name: str) -> None:
    kind = kinds()[name]
    words = dict(zip(kind.args[::2], kind.args[1::2], strict=True))
    options = [value for flag, value in zip(kind.args[::2], kind.args[1::2], strict=True) if flag == "--opt"]
    flags = {flag.removeprefix("--"): value for flag, value in words.items() if flag != "--opt"}
    spec = specs.resolve(None, {**flags, "opt": options, "seed": 1})
    assert (spec.expect == "invalid") == (kind.wanted == "invalid")


def test_seeds_can_be_chosen_by_kind() -> None:
    few = chosen("demo,set:3,set-docker", None)
    assert {name: kind.seeds for name, kind in few.items()} == {"demo": 20, "set": 3, "set-docker": 2}
    assert {kind.seeds for kind in chosen("demo,set:3", 5).values()} == {5, 3}
    assert chosen(None, None) == kinds()


@pytest.mark.parametrize(
    ("words", "says"), [("sett", "unknown kind 'sett'"), ("set:x", "expected KIND:SEEDS")]
)
def test_what_is_refused(words: str, says: str) -> None:
    with pytest.raises(SystemExit, match=says):
        chosen(words, None)
