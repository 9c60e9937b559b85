"""The matrix system x workload x checker, with the reason for every gap."""

import json
from pathlib import Path
from textwrap import dedent

import pytest

from splitbrain import listing, registry
from tests.splitbrain.helpers import command


def acme(folder: Path) -> Path:
    """An installed distribution with a system whose client only generates, a workload that names a checker that
    nobody has, one that cannot be made, and a checker that no workload names."""
    info = folder / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    points = {"systems": "acmedb", "workloads": "jobs", "checkers": "nosy"}
    lines = [f"[splitbrain.{group}]\n{name} = acme:{name.upper()}\n" for group, name in points.items()]
    lines[1] += "ruin = acme:RUIN\n"
    (info / "entry_points.txt").write_text("".join(lines))
    (folder / "acme.py").write_text(
        dedent(
            """\
            from splitbrain import Descriptor, Workload, op
            from harness.core.generators import stream

            ACMEDB = Descriptor(name="acmedb", summary="a database", target="acme:Acme")
            JOBS = Descriptor(name="jobs", summary="work to do", target="acme:jobs", needs=frozenset({"enqueue"}))
            RUIN = Descriptor(name="ruin", summary="broken", target="acme:ruin", needs=frozenset({"generate"}))
            NOSY = Descriptor(name="nosy", summary="looks at nothing", target="acme:Acme")


            class Acme:
                name = "acmedb"

                def __init__(self, options):
                    self.client = self

                def generate(self):
                    return 1


            def jobs(options):
                return lambda threads, seed: Workload(
                    name="jobs", needs=JOBS.needs, generator=stream(lambda n: op("enqueue", n)),
                    checkers={"queue": ("fifo", {}), "all": ("linearizable", {})},
                )


            def ruin(options):
                raise ValueError("ruined")
            """
        )
    )
    return folder


def test_every_workload_runs_on_etcd_or_says_what_is_missing() -> None:
    row = listing.matrix()["etcd"]
    assert set(row) == set(registry.names("workloads"))
    assert row["register"] == []


def test_every_checker_has_a_word_for_every_workload() -> None:
    found = listing.checks()
    for row in found.values():
        assert set(registry.names("checkers")) <= set(row)
    assert found["register"]["linearizable"] is None
    assert found["register"]["availability"] is None
    assert found["set"]["linearizable"] == "judges the operations of kv, register"


def test_gaps_of_third_parties_are_explained(tmp_path: Path) -> None:
    there = acme(tmp_path / "acme")
    found = json.loads(command("list", "--json", cwd=tmp_path, path=(there,)).stdout)
    assert found["matrix"]["acmedb"]["unique-ids"] == []
    assert found["matrix"]["acmedb"]["jobs"] == ["enqueue"]
    assert found["matrix"]["acmedb"]["set"] == ["set_add", "set_read"]
    checks = found["checks"]
    assert checks["jobs"]["linearizable"] is None
    assert checks["jobs"]["fifo"] == "not registered"
    assert checks["jobs"]["nosy"] == "no workload names it"
    assert checks["set"]["linearizable"] == "judges the operations of jobs, kv, register"
    assert checks["ruin"]["nosy"] == "workload 'ruin' cannot be made: ValueError: ruined"


def test_the_table_for_people_says_the_same(tmp_path: Path) -> None:
    there = acme(tmp_path / "acme")
    wide = {"COLUMNS": "240"}  # a column for each system, and none of its words broken in two
    done = command("list", cwd=tmp_path, path=(there,), env=wide)
    assert done.returncode == 0, done.stderr
    table = done.stdout.partition("system x workload x checker")[2]
    assert "jobs (enqueue)" in " ".join(table.split())
    assert "✕ fifo: not" in table
    assert "✔ linearizable" in table
    assert "checker nosy judges nothing: no workload names it" in table
    assert "every run is judged by availability" in table


@pytest.mark.parametrize(("fencing", "write"), [("true", "lock_write_fenced"), ("false", "lock_write")])
def test_what_a_run_needs_is_what_its_options_need(tmp_path: Path, fencing: str, write: str) -> None:
    there = acme(tmp_path / "acme")
    words = ("run", "--dry-run", "--system", "acmedb", "--workload", "lock", "--opt", f"fencing={fencing}")
    done = command(*words, "--faults", "none", cwd=tmp_path, path=(there,))
    assert done.returncode == 2
    lacking = done.stderr.partition("its client has no ")[2].partition(";")[0].split(", ")
    assert lacking == ["lease_grant", "lease_revoke", "lock_acquire", "lock_read", write]
