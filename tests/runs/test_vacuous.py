"""Rule 6: a fault that did nothing makes a run vacuous, for every registered fault and target.

`apply` is replaced by nothing, the rest is real: etcd, the load, the measuring. Runs are started four
at a time, since most of their time is waiting.
"""

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from splitbrain import registry
from tests.runs.commands import Done, run_altered

pytestmark = pytest.mark.netns

WORDS = [f"{d.name}:{target}" for d in registry.descriptors("faults") for target in d.targets]
NODES = {"partition:majorities-ring": 5} | {w: 4 for w in WORDS if w.endswith(":minority-third")}

# Of each kind of disk fault one belongs to every change, the others to `make test-all`.
DISKS = {"power-loss", "slow-disk", "hung-disk", "crash-point", "disk-full", "read-only", "disk-error"}
DISKS |= {"bit-flip", "truncate", "wipe", "rollback"}
QUICK = {f"{family}:leader" for family in ("power-loss", "slow-disk", "crash-point", "disk-full", "bit-flip")}
CASES = [
    pytest.param(w, marks=pytest.mark.slow if w.partition(":")[0] in DISKS and w not in QUICK else ())
    for w in WORDS
]

REPLACED = """
from splitbrain import registry
family = {family!r}
registry.describe("faults", family).load().apply = lambda self, ctx, plan: None
"""


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Done]]]:
    folder = tmp_path_factory.mktemp("vacuous")

    def one(word: str) -> Done:
        own = folder / word.replace(":", "-")
        own.mkdir()
        code = REPLACED.format(family=word.partition(":")[0])
        return run_altered(
            code,
            own,
            "--faults",
            word,
            "--time",
            "4s",
            "--seed",
            "5",
            "--nodes",
            NODES.get(word, 3),
            "--no-admission",
        )

    with ThreadPoolExecutor(4) as pool:
        wanted = {item.callspec.params["word"] for item in request.session.items if item.path == request.path}
        yield {word: pool.submit(one, word) for word in WORDS if word in wanted}
    shutil.rmtree(folder)


@pytest.mark.parametrize("word", CASES)
def test_a_fault_that_does_nothing_is_vacuous(runs: dict[str, "Future[Done]"], word: str) -> None:
    done = runs[word].result()
    family = word.partition(":")[0]
    assert done.results["verdict"] == "unknown", done.results["reason"]
    assert done.results["reason"].startswith("vacuous"), done.results["reason"]
    assert done.code == 3
    assert done.results["faults"][family]["applied"] >= 1
    assert done.results["faults"][family]["effective"] == 0
