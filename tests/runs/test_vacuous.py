"""Rule 6: a fault that did nothing makes a run vacuous, for every registered fault and target.

`apply` is replaced by nothing, the rest is real: etcd, the load, the measuring. Runs are started five
at a time, since most of their time is waiting. `make test` has one target of some families, `make test-all`
the others; in memory, all are in tests/nemesis.
"""

import shutil
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from splitbrain import registry
from tests.runs.commands import Done, beside, run_altered

pytestmark = pytest.mark.netns

# Of each kind of fault one belongs to every change, the others, and the other targets, to `make test-all`.
QUICK = {"partition", "kill", "clock", "power-loss", "bit-flip"}
WALK = "walk:kill+pause+partition"  # each family in turn does nothing, while the others do
CASES = [
    pytest.param(f"{d.name}:{target}", marks=() if i == 0 and d.name in QUICK else pytest.mark.slow)
    for d in registry.descriptors("faults")
    for i, target in enumerate(d.targets)
]
CASES += [
    pytest.param(f"{WALK}/{family}", marks=pytest.mark.slow) for family in ("kill", "pause", "partition")
]
MORE = {
    "partition:zone": ("--opt", "zones=eu:n1,n2;us:n3"),
    **dict.fromkeys(
        ("upgrade:rolling", "upgrade:mixed", "upgrade:one"), ("--version", "3.5", "--opt", "upgrade.to=3.6")
    ),
}
NODES = {"majorities-ring": 5, "minority-third": 4}

REPLACED = """
from splitbrain import registry
family = {family!r}
registry.describe("faults", family).load().apply = lambda self, ctx, plan: None
"""


def family_of(word: str) -> str:
    """The family that does nothing."""
    return word.partition("/")[2] or word.partition(":")[0]


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Done]]]:
    folder = tmp_path_factory.mktemp("vacuous")

    def one(word: str) -> Done:
        own = folder / word.replace(":", "-").replace("/", "-")
        own.mkdir()
        code = REPLACED.format(family=family_of(word))
        walks = word.startswith(WALK)
        return run_altered(
            code,
            own,
            "--faults",
            word.partition("/")[0],
            "--time",
            "6s" if walks else "4s",
            "--seed",
            "5",
            "--nodes",
            5 if walks else NODES.get(word.partition(":")[2], 3),
            "--no-admission",
            *MORE.get(word, ()),
        )

    with beside(request, "word", one, workers=5) as runs:
        yield runs
    shutil.rmtree(folder)


@pytest.mark.parametrize("word", CASES)
def test_a_fault_that_does_nothing_is_vacuous(runs: dict[str, "Future[Done]"], word: str) -> None:
    done = runs[word].result()
    family = family_of(word)
    assert done.results["verdict"] == "unknown", done.results["reason"]
    assert done.results["reason"].startswith("vacuous"), done.results["reason"]
    assert done.code == 3
    assert done.results["faults"][family]["applied"] >= 1
    assert done.results["faults"][family]["effective"] == 0
