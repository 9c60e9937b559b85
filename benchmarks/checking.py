"""How fast a verdict comes, on one hot key and on many, each beside Porcupine alone in the same run.

    python -m benchmarks.checking [--only zones,frontier,refute,keys,maps,whole] [--peer-s 20] [--seeds 10]

`engine s` is what the engine takes for the key once the file is read; `peak MB` is the whole engine process,
the history in it. `peer` is the same program with `--engines porcupine`, given up after `--peer-s`: Porcupine
1.3.1 on the same operations. `open` is the mean number of operations open when one is called.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from benchmarks.histories import Shape, write, write_maps
from checkers.engine_binary import engine_path


class Run(msgspec.Struct):
    """What the engine said of a file: verdict, seconds for the keys together, what decided, peak memory."""

    verdict: str
    seconds: float
    read_s: float
    engine: str
    peak_mb: float
    window: int
    confirmed: bool


def run(path: Path, *flags: str, model: str = "cas-register") -> Run:
    """One run of the engine."""
    argv = [str(engine_path()), "linearizable", "--model", model, "--time-s", "900", "--memory-mb", "16000"]
    done = subprocess.run([*argv, *flags, str(path)], stdout=subprocess.PIPE, check=False)
    lines = [msgspec.json.decode(line) for line in done.stdout.splitlines()]
    keys = [x for x in lines if "verdict" in x]
    verdicts = {x["verdict"] for x in keys}
    worst = next((v for v in ("invalid", "unknown", "valid") if v in verdicts), "nothing")
    read_s = lines[1]["read"]["s"] if len(lines) > 1 and "read" in lines[1] else 0.0
    end: dict[str, Any] = next((x["done"] for x in lines if "done" in x), {"s": 900.0, "peak_mb": 0})
    bad = next((x for x in keys if x["verdict"] == "invalid"), {})
    return Run(
        verdict=worst,
        seconds=end["s"] - read_s,
        read_s=read_s,
        engine="+".join(sorted({x["engine"] for x in keys})),
        peak_mb=end["peak_mb"],
        window=len(bad.get("window", ())),
        confirmed=bad.get("confirmed", False),
    )


def peer(path: Path, limit_s: float, model: str = "cas-register") -> Run:
    """Porcupine alone."""
    return run(path, "--engines", "porcupine", "--key-time-s", f"{limit_s:g}", model=model)


def versus(ours: Run, theirs: Run) -> tuple[str, str]:
    """The peer's seconds, and how many times as long it took."""
    if theirs.verdict == "unknown":
        return f"none in {theirs.seconds:.0f} s", f"> {theirs.seconds / max(ours.seconds, 1e-4):,.0f}x"
    return f"{theirs.seconds:.3f} {theirs.verdict}", f"{theirs.seconds / max(ours.seconds, 1e-4):,.1f}x"


def table(title: str, *columns: str) -> Table:
    """An empty table with right-aligned figures."""
    out = Table(title=title)
    for n, column in enumerate(columns):
        out.add_column(column, justify="left" if n == 0 else "right", no_wrap=True)
    return out


def hot(scratch: Path, peer_s: float) -> Table:
    """A million operations on one key with unique values, 50 clients."""
    out = table("one key, 1,000,000 operations, unique values, 50 clients: aims 1.0 s, 500 MB",
                "history", "open", "verdict", "engine s", "peak MB", "peer s", "peer / ours")  # fmt: skip
    rows: dict[str, dict[str, Any]] = {
        "0% info, cas without mismatch": {"mismatch": False, "missing": 0.5},
        "0% info, a third mismatches": {},
        "5% info, cas without mismatch": {"info": 0.05, "mismatch": False, "missing": 0.5},
        "5% info, a third mismatches": {"info": 0.05},
        "0% info, stale read at the end": {"plant": "stale"},
        "5% info, stale read at the end": {"info": 0.05, "plant": "stale"},
    }
    for name, more in rows.items():
        path = scratch / "hot.jsonl"
        mean = write(Shape(ops=1_000_000, clients=50, **more), path)
        ours = run(path)
        theirs, ratio = versus(ours, peer(path, peer_s))
        out.add_row(
            name, f"{mean:.1f}", ours.verdict, f"{ours.seconds:.2f}", f"{ours.peak_mb:.0f}", theirs, ratio
        )
    return out


def small(scratch: Path, peer_s: float, seeds: int) -> Table:
    """Values 0..4, mismatches kept, valid."""
    out = table("one key, values 0..4, mismatches kept, valid: aims 1 s; 10 s for 9 of 10 (1 s); 60 s (10 s)",
                "history", "open", "valid", "median s", "worst s", "peak MB", "peer s", "peer / ours")  # fmt: skip
    shapes = [
        ("100,000 ops, 20 clients, 0% info", 100_000, 20, 0.0, 1),
        ("10,000 ops, 20 clients, 5% info", 10_000, 20, 0.05, seeds),
        ("100,000 ops, 50 clients, 0% info", 100_000, 50, 0.0, 1),
        ("100,000 ops, 20 clients, 5% info", 100_000, 20, 0.05, 1),
    ]
    for name, ops, clients, info, count in shapes:
        runs, mean = [], 0.0
        for seed in range(1, count + 1):
            path = scratch / "small.jsonl"
            mean = write(Shape(ops=ops, clients=clients, domain=5, info=info, seed=seed), path)
            runs.append(run(path, "--key-time-s", "300"))
        theirs, ratio = versus(runs[-1], peer(path, peer_s))
        seconds = [r.seconds for r in runs]
        good = sum(r.verdict == "valid" for r in runs)
        out.add_row(
            name, f"{mean:.1f}", f"{good} of {count}", f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}",
            f"{max(r.peak_mb for r in runs):.0f}", theirs, ratio,
        )  # fmt: skip
    return out


def refute(scratch: Path, peer_s: float, seeds: int) -> Table:
    """Two overlapping writes read as a, b, a near the end: the values exist, but not then."""
    out = table(
        "a violation near the end of 10,000 operations, 10 clients: aims 5 s, window at most 32",
        "history",
        "open",
        "refuted",
        "median s",
        "worst s",
        "window",
        "confirmed",
        "peer s",
        "peer / ours",
    )
    for domain, info in ((0, 0.01), (0, 0.05), (5, 0.01), (5, 0.05)):
        runs, mean = [], 0.0
        for seed in range(1, seeds + 1):
            path = scratch / "refute.jsonl"
            mean = write(
                Shape(ops=10_000, clients=10, domain=domain, info=info, seed=seed, plant="flip"), path
            )
            runs.append(run(path))
        theirs, ratio = versus(runs[-1], peer(path, peer_s))
        seconds = [r.seconds for r in runs]
        bad = [r for r in runs if r.verdict == "invalid"]
        values = f"values 0..{domain - 1}" if domain else "unique values"
        out.add_row(
            f"{values}, {info:.0%} info", f"{mean:.1f}", f"{len(bad)} of {seeds}", f"{statistics.median(seconds):.2f}",
            f"{max(seconds):.2f}", f"at most {max((r.window for r in bad), default=0)}",
            f"{sum(r.confirmed for r in bad)} of {len(bad)}", theirs, ratio,
        )  # fmt: skip
    return out


def many(scratch: Path, peer_s: float) -> Table:
    """A million operations over 5,000 keys."""
    out = table("5,000 keys, 1,000,000 operations, 50 clients: aim: no slower than Porcupine",
                "history", "open", "verdict", "engine s", "peak MB", "peer s", "peer / ours")  # fmt: skip
    path = scratch / "many.jsonl"
    for name, more in {"unique values": {}, "values 0..4": {"domain": 5}}.items():
        mean = write(Shape(ops=1_000_000, clients=50, keys=5000, **more), path)  # type: ignore[arg-type]
        ours = run(path)
        theirs, ratio = versus(ours, peer(path, peer_s))
        out.add_row(
            name, f"{mean:.1f}", ours.verdict, f"{ours.seconds:.2f}", f"{ours.peak_mb:.0f}", theirs, ratio
        )
    return out


def maps(scratch: Path, peer_s: float) -> Table:
    """Transactions of one to three entries, and reads of the whole map."""
    out = table("key-value maps with transactions (model kv)",
                "history", "verdict", "engine s", "peak MB", "peer s", "peer / ours")  # fmt: skip
    shapes: list[tuple[str, dict[str, Any]]] = [
        ("one map, 10,000 ops, 10 clients", {"ops": 10_000, "clients": 10}),
        ("one map, 10,000 ops, 20 clients", {"ops": 10_000, "clients": 20}),
        ("one map, 2,000 ops, 10 clients, 5% info", {"ops": 2_000, "clients": 10, "info": 0.05}),
        ("5,000 maps, 500,000 ops, 50 clients", {"ops": 500_000, "clients": 50, "maps": 5000}),
    ]
    path = scratch / "maps.jsonl"
    for name, shape in shapes:
        write_maps(path, **shape)
        ours = run(path, model="kv")
        theirs, ratio = versus(ours, peer(path, peer_s, model="kv"))
        out.add_row(name, ours.verdict, f"{ours.seconds:.2f}", f"{ours.peak_mb:.0f}", theirs, ratio)
    return out


def whole(scratch: Path) -> Table:
    """`splitbrain check` of the file, against what Python's json.loads takes over its lines."""
    out = table("the whole of `splitbrain check`, 1,000,000 operations on one key: aims 1.5x; witness 3x",
                "history", "json.loads s", "check s", "ratio", "--witness s", "witness alone, ratio")  # fmt: skip
    for name, more in {"0% info": {}, "5% info": {"info": 0.05}}.items():
        path = scratch / "whole.jsonl"
        write(Shape(ops=1_000_000, clients=50, **more), path)  # type: ignore[arg-type]
        lines = path.read_text().splitlines()
        begin = time.perf_counter()
        for line in lines:
            json.loads(line)
        loads = time.perf_counter() - begin
        del lines
        plain = command(path)
        proven = command(path, "--witness", str(scratch / "orders"))
        out.add_row(
            name, f"{loads:.2f}", f"{plain:.2f}", f"{plain / loads:.2f}", f"{proven:.2f}",
            f"{(proven - plain) / loads:.2f}",
        )  # fmt: skip
    return out


def command(path: Path, *flags: str) -> float:
    """Seconds of `splitbrain check`."""
    begin = time.perf_counter()
    argv = [sys.executable, "-P", "-m", "splitbrain", "check", str(path), "--json", *flags]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return time.perf_counter() - begin


def main() -> None:
    """Print the tables asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="zones,frontier,refute,keys,maps,whole")
    parser.add_argument("--peer-s", type=float, default=20.0)
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    with tempfile.TemporaryDirectory(prefix="splitbrain-") as folder:
        scratch = Path(folder)
        parts = {
            "zones": lambda: hot(scratch, args.peer_s),
            "frontier": lambda: small(scratch, args.peer_s, args.seeds),
            "refute": lambda: refute(scratch, args.peer_s, args.seeds),
            "keys": lambda: many(scratch, args.peer_s),
            "maps": lambda: maps(scratch, args.peer_s),
            "whole": lambda: whole(scratch),
        }
        for name in args.only.split(","):
            console.print(parts[name]())


if __name__ == "__main__":
    main()
