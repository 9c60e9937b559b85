"""How long it takes to tell of many finished runs: `list`, `campaign trend`, a night's page, and the index made anew.

    python -m benchmarks.campaign [RUNS [NIGHTS]]

The runs are made up (spec and results of the size that real ones have); the aim is 1 s for each with 1,000 runs.
Commands are timed as they are typed, from a new process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from harness.core.results import blank
from harness.core.spec import Spec
from results import index
from results.rundir import new_run_id
from splitbrain.campaign import ledger, page, summary
from splitbrain.campaign.baseline import Baseline
from splitbrain.campaign.ledger import Attempt
from splitbrain.campaign.plan import Cell, Plan

LABELS = [
    f"etcd {w}, faults {f}" for w in ("register", "set", "lock") for f in ("partition", "kill", "pause")
]
SIGNATURE = "etcd/linearizable/stale-read/read+write/partition"


def results_of(run_dir: Path, seed: int) -> dict[str, Any]:
    """A results object of the size of a real one."""
    faults = {"partition": {"applied": 4, "effective": 4, "overlapping_ops": 900}}
    errors = [{"error": f"timeout {i}", "type": "info", "f": "read", "count": i} for i in range(40)]
    checks = {
        name: {
            "verdict": "valid",
            "reason": "no violation in 60 keys",
            "seconds": 0.2,
            "anomalies": [],
            "detail": {},
        }
        for name in ("linearizable", "availability", "revisions", "terms", "divergence", "logs", "operations")
    }
    return {
        **blank(),
        "verdict": "valid",
        "reason": "linearizable: 60 keys",
        "ops": 6000,
        "seconds": 40.0,
        "seed": seed,
        "run": str(run_dir),
        "system": "etcd",
        "version": "3.6.0",
        "workload": "register",
        "nodes": 3,
        "faults": faults,
        "checks": checks,
        "errors": errors,
        "started": "2026-01-01T00:00:00Z",
    }


def make_runs(root: Path, runs: int) -> list[str]:
    """Finished runs below a root."""
    made = []
    for n in range(runs):
        run = new_run_id()
        run_dir = root / "etcd-register" / f"2026010{n % 9 + 1}T{n % 24:02d}0000Z-{n}-{run}"
        run_dir.mkdir(parents=True)
        (run_dir / "spec.json").write_bytes(msgspec.json.encode(Spec(seed=n, faults=("partition",))))
        (run_dir / "results.json").write_text(json.dumps(results_of(run_dir, n)))
        made.append(run)
    return made


def make_night(home: Path, number: int, runs: int) -> dict[str, Any]:
    """The night of a campaign, with its summary."""
    night = home / f"{number:04d}-20260101T000000Z"
    night.mkdir(parents=True)
    cells = [
        Cell(
            id=f"m1-{n:04d}-001",
            kind="matrix",
            label=LABELS[n % len(LABELS)],
            spec={"seed": n},
            cores=0.9,
            memory_mb=850,
            limit_s=300,
        )
        for n in range(runs)
    ]
    state = ledger.State(sessions=1, elapsed_s=6 * 3600.0)
    for cell in cells:
        run = new_run_id()
        hit = cell.seed % 50 == number % 50
        found = [{"signature": SIGNATURE, "explanation": "a read was stale"}] if hit else []
        state.attempts[run] = Attempt(
            cell=cell.id,
            run=run,
            n=1,
            started="2026-01-01T00:00:00Z",
            how="ended",
            exit=1 if hit else 0,
            verdict="invalid" if hit else "valid",
            reason="linearizable: a read was stale" if hit else "linearizable: 60 keys",
            run_dir=f"runs/etcd-register/20260101T000000Z-{cell.seed}-{run}",
            ops=6000,
            findings=found,
        )
    told = summary.build(
        night, "etcd-serializable", Plan(name="bench", seed=1, cells=tuple(cells)), state, [], Baseline()
    )
    (night / "summary.json").write_bytes(msgspec.json.encode(told))
    return told


def main(runs: int, nights: int) -> None:
    """Print the table."""
    table = Table("what", "runs", "s", title="telling of finished runs (aim 1 s)")

    def row(what: str, began: float, number: int = runs) -> None:
        table.add_row(what, f"{number:,}", f"{time.perf_counter() - began:.2f}")

    with tempfile.TemporaryDirectory() as folder:
        root, home = Path(folder) / "runs", Path(folder) / "campaigns" / "bench"
        make_runs(root, runs)
        told = [make_night(home, n, runs) for n in range(1, nights + 1)]
        began = time.perf_counter()
        index.rebuild(root)
        row("index made anew", began)
        for what, words in (
            ("splitbrain list", ["list"]),
            ("splitbrain campaign trend", ["campaign", "trend", str(home)]),
            ("splitbrain --version", ["--version"]),
        ):
            began = time.perf_counter()
            subprocess.run(
                [sys.executable, "-P", "-m", "splitbrain", *words],
                cwd=folder,
                stdout=subprocess.DEVNULL,
                check=True,
            )
            row(what, began, runs * nights if "trend" in what else runs)
        began = time.perf_counter()
        text = page.build(told[-1])
        row(f"a night's page, {len(text) / 1e6:.1f} MB", began)
    Console().print(table)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, int(sys.argv[2]) if len(sys.argv) > 2 else 1)
