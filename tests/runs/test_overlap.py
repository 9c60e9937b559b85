"""All survivable faults together on five nodes: a walk in which outages overlap, and never too many.

The figures come from the ledger, by `harness.core.outages`; they are printed with `-s`.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters.means.leftovers import leftovers
from harness.core.ledger import read_faults
from harness.core.outages import Outages, outages
from tests.runs.commands import ROOT, Done, lines, run_altered, splitbrain

SPEC = ROOT / "examples" / "together.toml"
FAMILIES = {"partition", "kill", "pause"}
SEEDS = range(401, 411)


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(tmp_path)


def run(out: Path, *more: object, timeout_s: float = 120) -> Done:
    return splitbrain("run", SPEC, "--out", out, "--json", *more, timeout_s=timeout_s)


def figures(run_dir: Path) -> Outages:
    """How the outages of a run lay beside each other, from its ledger and the phases of its journal."""
    at = {x["phase"]: x["time"] for x in lines(run_dir / "journal.jsonl") if "phase" in x}
    return outages(read_faults(run_dir / "faults.jsonl"), at["load"], at["heal"])


def accept(done: Done) -> None:
    """What a run of all survivable faults together has to show."""
    results = done.results
    assert (done.code, results["verdict"]) == (0, "valid"), results["reason"]
    run_dir = Path(results["run"])
    found = figures(run_dir)
    counts = ", ".join(f"{n} {family}" for family, n in sorted(found.families.items()))
    print(
        f"{results['provider']} seed {results['seed']}: {found.seconds:.0f} s, {counts}; two outages at once for"
        f" {found.share:.0%} of the time, at most {found.most} nodes out"
    )
    assert found.families.keys() == FAMILIES
    assert all(n >= 3 for n in found.families.values()), found
    assert found.share >= 1 / 3, found
    assert found.most == 2, found
    assert results["outages"]["most"] == 2
    for fault in read_faults(run_dir / "faults.jsonl"):
        assert fault.effective, fault
        assert [e["phase"] for e in fault.evidence] == ["before", "during", "after"]
        assert fault.evidence[-1]["effect"] is False, fault
        assert not fault.outstanding
    assert leftovers(run_dir.name.rpartition("-")[2]) == []
    assert all(row["overlapping_ops"] >= 20 for row in results["faults"].values())


@pytest.mark.netns
def test_all_survivable_faults_together(out: Path) -> None:
    accept(run(out, "--seed", 3))


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_two_minutes_of_it(out: Path, seed: int) -> None:
    accept(run(out, "--seed", seed, "--time", "120s", timeout_s=240))


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_two_minutes_of_it_in_containers(out: Path, seed: int) -> None:
    accept(run(out, "--seed", seed, "--time", "120s", "--provider", "docker", timeout_s=300))


@pytest.mark.netns
@pytest.mark.slow
def test_a_script_with_a_condition(out: Path) -> None:
    done = splitbrain("run", ROOT / "examples" / "script.toml", "--seed", 3, "--out", out, "--json")
    assert (done.code, done.results["verdict"]) == (0, "valid"), done.results["reason"]
    faults = read_faults(Path(done.results["run"]) / "faults.jsonl")
    assert [(f.family, f.target) for f in faults] == [
        ("pause", "n1"),
        ("kill", "n2"),
        ("pause", "leader"),
        ("partition", "leader"),
    ]
    assert all(f.effective for f in faults)
    assert 0 < (faults[3].applied or 0) - (faults[2].applied or 0) < 4e9


UNPROMISED = """
import msgspec
from clusters.systems.etcd import Etcd
less = lambda p: msgspec.structs.replace(p, families=p.families - {"partition"})
Etcd.promises = tuple(less(p) for p in Etcd.promises)
"""


@pytest.mark.netns
@pytest.mark.slow
def test_stale_reads_after_what_nobody_promised_are_observations(out: Path) -> None:
    stale = ("--faults", "partition", "--time", "12s", "--seed", "3", "--opt", "reads=serializable")
    done = run_altered(UNPROMISED, out, *stale)
    results = done.results
    assert (done.code, results["verdict"]) == (0, "valid"), results["reason"]
    check = results["checks"]["linearizable"]
    assert check["reason"].startswith("observation: ")
    assert "does not promise to survive: partition" in check["reason"]
    assert check["detail"]["observed_anomalies"]
    assert results["observations"][0].startswith("linearizable: ")
    assert any("with reads=serializable; it is judged as if it did" in note for note in results["caveats"])
