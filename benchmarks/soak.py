"""Seeds by the dozen: correct runs, which must never be accused, and positive controls, which must be.

    python -m benchmarks.soak [--kinds demo,lock:5,set-docker] [--seeds N] [--table]

A kind is a command line and the verdict that is wanted of it: `demo` and its control `stale` (reads that may be
stale); each workload by its name, 20 s under partition, kill and pause in network namespaces, and as
NAME-docker in containers; SYSTEM-WORKLOAD, on each system that can do it, 20 s under all that the system
survives, together (ZooKeeper 75 s, NATS 40 s; Redis, a control: under partition, kill and pause), as
SYSTEM-WORKLOAD-docker in containers and as SYSTEM-WORKLOAD-five on five nodes; `together` (and
`together-docker`), all survivable faults at once on five nodes for 120 s; `lock-plain`, whose holders pause
beyond the TTL with nothing to fence them off, and `lock-fenced`, the same with fencing; `membership`, members
that change under partition and kill; `upgrade`, from 3.5 to 3.6 and back; `admin`, what administrators do under
partition and kill; `restore`, all nodes anew from a snapshot; `power-loss` of all
nodes and of one, and its control `power-loss-unsafe`, an etcd that does not sync. Without `--kinds` all of them
run, without `--seeds` each with a number of seeds of its own; KIND:N is N seeds of that kind.

Seeds are drawn from the commit's hash, not from a favourite list. Every run's results are kept in
`.soak/<commit>/`, so that an interrupted soak goes on where it stopped; `--table` only prints what
there is. A row gives k of n with its 95% interval (Wilson). Several soaks may go on at once, of different kinds; with
`--no-admission` their runs do not wait for each other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table

from splitbrain import listing, registry, series

_CONTROLS: Final = frozenset({"redis"})  # a failover loses what they acknowledged, and they say so
# A dozen families within 20 s leave each a second. NATS does not elect within less than four, nor do its nodes
# find each other again at once, so that a node that had no disk to sync to yet is seen again later.
_OVERLAP: Final = {"nats": 0}
# A Java that was killed takes a second and more to be back, and until then nothing can be seen of the next
# family; a leader that is gone or paused shows nothing else within two. So a dozen of families, most of which kill,
# need 50 s of load by the schedule. The rest is for a machine that is busy, where each begins later than it should.
_TIME_S: Final = {"nats": 40, "zookeeper": 75}
_STEP_S: Final = {"zookeeper": 3.0}
ROOT: Final = Path(__file__).resolve().parent.parent


class Kind(NamedTuple):
    """What is run, the verdict wanted of it, and how many seeds belong to it."""

    args: tuple[str, ...]
    wanted: str = "valid"
    seeds: int = 10
    overlap: int | None = (
        None  # the operations that must have succeeded under each family, where not the usual 20
    )


def kinds() -> dict[str, Kind]:
    """Every kind by name."""
    faults = ("--faults", "partition,kill,pause")
    brief = (*faults, "--time", "20s")
    stale = ("--faults", "partition", "--time", "30s", "--opt", "reads=serializable", "--expect", "invalid")
    out = {"demo": Kind((*faults, "--time", "30s"), seeds=20), "stale": Kind(stale, "invalid", 20)}
    for name in (name for name, lacking in listing.matrix()["etcd"].items() if lacking == []):
        out[name] = Kind(("--workload", name, *brief))
        out[f"{name}-docker"] = Kind(("--workload", name, *brief, "--provider", "docker"), seeds=2)
    # Longer: while holders pause there is less to do, and each fault must meet enough operations.
    options = [word for o in ("ttl_s=1", "pause_share=0.2", "pause_s=4") for word in ("--opt", o)]
    paused = ("--workload", "lock", *faults, "--time", "30s", *options)
    out["lock-plain"] = Kind((*paused, "--opt", "fencing=false", "--expect", "invalid"), "invalid")
    steps = ("--opt", "schedule.rounds=3", "--opt", "schedule.step_s=1.6")
    together = ("--faults", "walk:survivable", "--nodes", "5", "--time", "120s", *steps)
    out["together"] = Kind(together)
    out["together-docker"] = Kind((*together, "--provider", "docker"))
    out["lock-fenced"] = Kind((*paused, "--opt", "fencing=true"))
    out["membership"] = Kind(("--faults", "membership,partition,kill", "--time", "60s"), seeds=20)
    upgrade = ("--version", "3.5", "--opt", "upgrade.to=3.6", "--faults", "upgrade", "--time", "60s")
    out["upgrade"] = Kind(upgrade)
    out["restore"] = Kind(("--faults", "restore", "--time", "30s"))
    out["restore-set"] = Kind(("--workload", "set", "--faults", "restore", "--time", "30s"))
    out["admin"] = Kind(("--faults", "admin,partition,kill", "--time", "40s"))
    # While all nodes are down nothing succeeds, so that some faults must leave a majority.
    lost = ("--faults", "power-loss:all,power-loss:one", "--time", "20s")
    out["power-loss"] = Kind(lost)
    out["power-loss-set"] = Kind(("--workload", "set", *lost))
    out["power-loss-docker"] = Kind((*lost, "--provider", "docker"), seeds=2)
    out["power-loss-unsafe"] = Kind(
        (*lost, "--opt", "unsafe-no-fsync=true", "--expect", "invalid"), "invalid"
    )
    return out | _of_systems()


def _all_in_20s(families: Collection[str], step_s: float | None = None) -> tuple[str, ...]:
    """All that a system survives, by so many families: each has its turn, and as much of the time as there is."""
    step_s = step_s or 12 / max(8, len(families))
    return (
        "--faults",
        "walk:survivable",
        "--opt",
        "schedule.rounds=1",
        "--opt",
        f"schedule.step_s={step_s:.1f}",
    )


def _of_systems() -> dict[str, Kind]:
    """Every workload on every system that has the operations for it."""
    out: dict[str, Kind] = {}
    for system, row in listing.matrix().items():
        defaults = {option.name: option.default for option in registry.describe("systems", system).options}
        promises = registry.create("systems", system, defaults).promises
        if system in _CONTROLS:
            wanted, faults = "invalid", ("--faults", "partition,kill,pause", "--expect", "invalid")
        else:
            families = {family for p in promises for family in p.families}
            wanted, faults = "valid", _all_in_20s(families, _STEP_S.get(system))
        for workload in (name for name, lacking in row.items() if lacking == [] and name != "noop"):
            time = f"{_TIME_S.get(system, 20)}s"
            args = ("--system", system, "--workload", workload, *faults, "--time", time)
            kind = Kind(args, wanted, overlap=_OVERLAP.get(system, 5))
            out[f"{system}-{workload}"] = kind
            out[f"{system}-{workload}-docker"] = kind._replace(args=(*args, "--provider", "docker"), seeds=2)
            out[f"{system}-{workload}-five"] = kind._replace(args=(*args, "--nodes", "5"), seeds=1)
    # The service of examples/, by each of its two files, and its control.
    for file in ("abd", "abd-http"):
        args = ("--system", f"examples/abd/{file}.toml", "--opt", "register.cas=false", "--time", "20s")
        out[file] = Kind((*args, *_all_in_20s(())))
    out["abd-docker"] = Kind((*out["abd"].args, "--provider", "docker"), seeds=2)
    out["abd-five"] = Kind((*out["abd"].args, "--nodes", "5"), seeds=1)
    bad = ("--faults", "partition,kill,pause", "--opt", "sloppy=true", "--expect", "invalid")
    out["abd-sloppy"] = Kind(
        ("--system", "examples/abd/abd.toml", "--opt", "register.cas=false", "--time", "20s", *bad), "invalid"
    )
    return out


def chosen(words: str | None, seeds: int | None) -> dict[str, Kind]:
    """The kinds of `--kinds`, with as many seeds as they shall have; all where nothing is named.

    Raises: SystemExit for one that does not exist, or a number that is none.
    """
    known = kinds()
    out: dict[str, Kind] = {}
    for word in words.split(",") if words else known:
        name, colon, number = word.partition(":")
        if name not in known:
            sys.exit(f"unknown kind {name!r}; known: {', '.join(known)}")
        if colon and not number.isdigit():
            sys.exit(f"kind {word!r}: expected KIND:SEEDS, such as {name}:5")
        wished = int(number) if colon else seeds
        out[name] = known[name] if wished is None else known[name]._replace(seeds=wished)
    return out


def folder(revision: str) -> Path:
    """Where a commit's runs and results are kept."""
    return ROOT / ".soak" / series.short(revision)


def run_one(kind: Kind, seed: int, where: Path, more: Sequence[str] = ()) -> dict[str, Any]:
    """One run; its results object."""
    command = [sys.executable, "-P", "-m", "splitbrain", "run"]
    if kind.overlap is not None:
        spec = where / f"overlap-{kind.overlap}.toml"
        spec.write_text(f"overlap = {kind.overlap}\n")
        command.append(str(spec))
    command += ["--system", "etcd", "--nodes", "3"]
    command += [
        "--concurrency",
        "10",
        *kind.args,
        *more,
        "--seed",
        str(seed),
        "--out",
        str(where / "runs"),
        "--json",
    ]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    results = dict(json.loads(done.stdout))
    results["exit"] = done.returncode
    return results


def table(found: dict[str, list[dict[str, Any]]], chosen: dict[str, Kind], revision: str) -> Table:
    """What the runs of each kind came to."""
    columns = (
        "runs",
        "as wanted",
        "95%",
        "valid",
        "invalid",
        "unknown",
        "error",
        "leader changes",
        "ops",
        "seconds",
    )
    out = Table("kind", *columns, title=f"soak of {revision[:12]}")
    for name, runs in found.items():
        verdicts = [r["verdict"] for r in runs]
        wanted = chosen[name].wanted
        met = verdicts.count(wanted)
        errors = sum(r.get("error") is not None for r in runs)
        changes = [r["leader_changes"] for r in runs if r.get("leader_changes") is not None]
        ops = [r["ops"] for r in runs if r.get("ops")]
        seconds = [r["seconds"] for r in runs if r.get("seconds")]
        row = [str(len(runs)), f"{met} of {len(runs)} {wanted}", series.percent(met, len(runs))]
        row += [str(verdicts.count(v)) for v in ("valid", "invalid", "unknown")] + [str(errors)]
        row += [f"{min(changes)} to {max(changes)}" if changes else "-"]
        row += [f"{statistics.median(x):,.0f}" if x else "-" for x in (ops, seconds)]
        out.add_row(name, *row)
    return out


def main() -> None:
    """Run what is missing, then print the table; exit 1 if a run was not as wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--kinds", default=None)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--commit", default=None)
    parser.add_argument("--no-admission", action="store_true")
    args = parser.parse_args()
    revision = args.commit or series.revision()
    where = folder(revision)
    where.mkdir(parents=True, exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 160)
    wanted = chosen(args.kinds, args.seeds)
    more = ("--no-admission",) if args.no_admission else ()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted}
    for n in range(max(kind.seeds for kind in wanted.values())):  # a first seed of each kind before a second
        for name, kind in wanted.items():
            seed = series.seed(revision, name, n)
            path = where / f"{name}-{seed}.json"
            if n >= kind.seeds or (args.table and not path.exists()):
                continue
            results = series.keep(path, partial(run_one, kind, seed, where, more))
            found[name].append(results)
            if not args.table:
                console.print(
                    f"{name} seed {seed}: {results['verdict']}: {results['reason']}", highlight=False
                )
    console.print(table(found, wanted, revision))
    odd = [r for name, runs in found.items() for r in runs if r["verdict"] != wanted[name].wanted]
    for r in odd:
        console.print(f"not as wanted: {r['run']}: {r['reason']}", highlight=False)
    sys.exit(1 if odd else 0)


if __name__ == "__main__":
    main()
