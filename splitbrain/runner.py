"""Joins a run, its checkers and its results. `splitbrain check` is the second half alone.

    python -P -m splitbrain.runner RUN_DIR      what `splitbrain run` starts, with RUN_DIR/spec.json

First half: resolve names to things, enter the provider's enclosure, live through the run
(`harness.lifecycle`). Second half: merge the journal, judge the history, weigh whether it means
anything, write `results.json`, `report.html` and the index row. The second half needs nothing but
the run directory, so that it can be repeated at any time, on any machine.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from harness.core import secrets
from harness.core.checker import CheckContext, Checker, Result, Verdict, worst
from harness.core.errors import HistoryError, Interrupted, SplitbrainError, UsageError, unknown_name
from harness.core.exits import INTERRUPTED, VALID, exit_code
from harness.core.ledger import FaultRecord, read_faults, read_resources
from harness.core.results import blank, failed
from harness.core.spec import Spec
from splitbrain import alive, expecting, kept, registry
from splitbrain.foreign import also_edn

if TYPE_CHECKING:
    from harness.admission import Slot
    from harness.core.cluster import Cluster

Progress = Callable[[str, int, int], None]  # check's name, how much is done, of how much
# Checks of every run, whatever its workload; `availability` of those with faults that came to their end.
RUN_WIDE: Final = ("availability", "revisions", "terms", "divergence", "logs", "operations")
_OBSERVED: Final = 20  # observations of one check that are told
_GRACE_S = 10.0  # a checker that overstays its own limit by this much is given up


def main(alter: Callable[[Any, Any], Any] = lambda parts, _stop: parts) -> None:
    """Run the spec of the run directory named on the command line; the exit code says how it went. `alter` may put
    other parts into the run, before anything is started."""
    run_dir = Path(sys.argv[1])
    alive.hold(run_dir)
    spec = msgspec.json.decode((run_dir / "spec.json").read_bytes(), type=Spec)
    try:
        registry.adopt_again(spec, run_dir)
        parts, stop, slot = _parts(run_dir, _apart(run_dir, spec))
        parts = alter(parts, stop)
    except SplitbrainError as e:
        results = _without_a_history(spec, run_dir, str(e))
        if isinstance(e, Interrupted):
            results |= {"error": None, "interrupted": True}
        conclude(run_dir, results)
        sys.exit(e.exit_code)
    from harness.lifecycle import run
    from splitbrain import incremental

    left: list[Cluster] | None = [] if spec.keep else None
    outcome = run(parts, stop, left)
    incremental.tidy(run_dir)
    if not read_resources(run_dir / "faults.jsonl"):
        secrets.forget(parts.run)  # nothing is left that they would be needed for
    if slot is not None:
        slot.look(run_dir)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # what there is gets judged; a second one kills us
    crashed = outcome.error if outcome.end == "error" else None
    try:
        results = judge(run_dir, crashed=crashed)
    except SplitbrainError as e:
        results = _without_a_history(spec, run_dir, crashed or str(e))
    cluster = left[0] if left else None
    if cluster is not None and exit_code(results) in (VALID, INTERRUPTED):
        _close(cluster, run_dir, results)
        cluster = None
    if slot is not None:
        slot.close()
    results["kept"] = kept.until(time.time()) if cluster else None
    conclude(run_dir, results)
    print(results["verdict"], results["reason"], sep=": ", flush=True)
    if cluster is not None:
        try:
            kept.stay(cluster, run_dir, results["kept"])
        except SplitbrainError as e:
            sys.exit(str(e))  # into the controller's log; the ledger is open


def _close(cluster: Cluster, run_dir: Path, results: dict[str, Any]) -> None:
    """End a cluster that could have been kept, and has not failed."""
    try:
        kept.end(cluster, run_dir)
    except SplitbrainError as e:
        results["error"] = str(e)
        if results["verdict"] == "valid":
            results |= {"verdict": "unknown", "reason": str(e).splitlines()[0]}


def _parts(run_dir: Path, spec: Spec) -> tuple[Any, Any, Slot | None]:
    """Everything a run is put together from. Enters the provider's enclosure on the way: nothing
    here may start a thread before that, so what is heavy is imported after it."""
    named: dict[str, Any] = {"addresses": spec.addresses} if spec.addresses else {}
    if spec.hosts:
        named["hosts"] = spec.hosts
    options = secrets.reveal(spec, _run(run_dir)).of(spec.provider)
    provider = registry.create("providers", spec.provider, options | named)
    system = registry.create("systems", spec.system, spec.of(spec.system))
    from clusters.artifacts import Artifacts
    from clusters.means.kernel import die_with_parent

    die_with_parent(signal.SIGTERM)  # a run whose command was killed heals, judges and ends
    install = None if spec.addresses else system.install(spec.version, Artifacts(offline=True))
    others = [system.install(v, Artifacts(offline=True)) for v in registry.other_versions(spec)]
    if install is not None and registry.restores(spec):
        system.admin.equip(install.version, Artifacts(offline=True))
    slot = _admitted(run_dir, spec)
    provider.enclose()
    from harness.lifecycle import Parts, Stop

    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda n, _: stop.request(signal.Signals(n).name))
    workload = registry.create("workloads", spec.workload, spec.of(spec.workload))(
        spec.concurrency, spec.seed
    )
    from splitbrain import incremental
    from splitbrain.spec import limit, schedule

    faults = {f: registry.create("faults", f, spec.of(f)) for f in spec.families}
    parts = Parts(
        run=_run(run_dir),
        run_dir=run_dir,
        spec=spec,
        provider=provider,
        system=system,
        system_ref=registry.describe("systems", spec.system).target,
        install=install,
        workload=workload,
        faults=faults,
        steps=schedule(spec),
        most=limit(spec),
        others=others,
        helpers=(
            {}
            if incremental.wanted(workload.checkers) is None
            else {"incremental": incremental.command(run_dir)}
        ),
        early=incremental.Watch(run_dir).first if spec.fail_fast else None,
    )
    env = {
        "format": 1,
        "splitbrain": registry.version(),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "cpus": os.cpu_count(),
        "install": msgspec.to_builtins(install) if install else {},
        **({"others": msgspec.to_builtins(others)} if others else {}),
        "capabilities": dict(provider.probe()),
    }
    (run_dir / "env.json").write_bytes(msgspec.json.format(msgspec.json.encode(env)))
    return parts, stop, slot


def _apart(run_dir: Path, spec: Spec) -> Spec:
    """In a cluster that others use as well, all that a run writes stands below a prefix of its own."""
    if not spec.addresses:
        return spec
    options = spec.of(spec.system)
    own = {**options, "prefix": f"{options['prefix']}{_run(run_dir)}/"}
    return msgspec.structs.replace(spec, options={**spec.options, spec.system: own})


def _admitted(run_dir: Path, spec: Spec) -> Slot | None:
    """A place among the runs of this machine, once there is room.

    Raises: Interrupted by a signal while it waits.
    """
    from harness import admission

    def stop(number: int, _frame: object) -> NoReturn:
        raise Interrupted(f"interrupted: {signal.Signals(number).name} while it waited for other runs")

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return admission.enter(_run(run_dir), run_dir, spec)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(run_dir: Path) -> str:
    return run_dir.name.rsplit("-", 1)[-1]


@also_edn
def check(
    path: Path,
    *,
    model: str | None = None,
    witness: Path | None = None,
    sensitivity: bool = False,
    keyed: bool | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge a run directory again, or a bare history file: the results object.

    A run directory's `results.json` and report are written anew. `model` replaces the model of the
    linearizability check; the orders that it finds go to `witness`. With `sensitivity` a valid verdict comes
    with the shares of planted violations that the checker sees in this history. `keyed` says of an EDN history
    whether its values are [key value].

    Raises: UsageError for a path that is neither; HistoryError for a file that breaks the format.
    """
    if keyed is not None:
        raise UsageError(f"--keyed says how an EDN history is to be read, and {path} is none; leave it out")
    if path.is_dir():
        if not (path / "spec.json").exists():
            raise UsageError(f"{path} is no run directory: it has no spec.json")
        results = judge(path, model=model, witness=witness, progress=progress)
        if sensitivity:
            results["sensitivity"] = _sensitivity(path / "history.jsonl", results["checks"])
        conclude(path, results)
        return results
    if not path.exists():
        raise UsageError(f"cannot read {path}: no such file; expected a run directory or a history.jsonl")
    began = time.monotonic()
    checks = run_checks(_of_a_bare_history(model, witness), path, None, Spec(), progress)
    verdict = worst(r.verdict for r in checks.values())
    return {
        **blank(),
        "verdict": verdict,
        "reason": _reason(checks, verdict),
        "ops": next(iter(checks.values())).detail.get("ops"),
        "seconds": round(time.monotonic() - began, 3),
        "history": str(path),
        "checks": _plain(checks),
        **({"sensitivity": _sensitivity(path, _plain(checks))} if sensitivity else {}),
    }


def _of_a_bare_history(model: str | None, witness: Path | None) -> dict[str, tuple[str, dict[str, Any]]]:
    """The check that `model` names: linearizability under a model, or another checker (`set`, `counter`)."""
    from checkers.models import MODELS

    others = [name for name in registry.names("checkers") if name != "linearizable"]
    if model is None or ":" in model or model in MODELS:
        return {"linearizable": ("linearizable", _linearizable_options(model, witness))}
    if model not in others:
        raise unknown_name("model", model, [*MODELS, *others])
    if witness is not None:
        raise UsageError(f"--witness asks for orders, which the check of {model} has none of; leave it out")
    return {model: (model, {})}


def _linearizable_options(model: str | None, witness: Path | None) -> dict[str, Any]:
    given = {"model": model, "witness": str(witness) if witness else None}
    return {name: value for name, value in given.items() if value is not None}


def _sensitivity(history: Path, checks: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a green verdict is worth, or None where it is not green, or not of a register."""
    from checkers.sensitivity import measure

    found = checks.get("linearizable")
    if found is None or found["verdict"] != "valid":
        return None
    shares = measure(history, found["detail"]["model"])
    return msgspec.to_builtins(shares) if shares is not None else None


def judge(
    run_dir: Path,
    *,
    model: str | None = None,
    witness: Path | None = None,
    crashed: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The results object of a run directory, from its journal on.

    `crashed` is what the run itself died of, where its journal could not say so.
    """
    from checkers._beyond import not_made
    from checkers.meaning import meaning
    from harness.admission import read_record
    from harness.core.history import read_history
    from harness.journal import begun, merge
    from splitbrain import incremental, lateness

    spec = msgspec.json.decode((run_dir / "spec.json").read_bytes(), type=Spec)
    registry.adopt_again(spec, run_dir)
    journal, path = run_dir / "journal.jsonl", run_dir / "history.jsonl"
    if not begun(journal):
        return _without_a_history(spec, run_dir, crashed or "the run ended before it had a journal")
    merged = merge(journal, path)
    end = merged.end or {}
    error = crashed or (end.get("error") if end.get("end") == "error" else None)
    interrupted = merged.end is None or end.get("end") == "interrupted"
    faults = read_faults(run_dir / "faults.jsonl")
    workload = registry.create("workloads", spec.workload, spec.of(spec.workload))(
        spec.concurrency, spec.seed
    )
    wanted = {name: (which, dict(options)) for name, (which, options) in workload.checkers.items()}
    if "linearizable" in wanted:
        wanted["linearizable"][1].update(_linearizable_options(model, witness))
    ended = bool(faults) and error is None and not interrupted
    wanted |= {name: (name, {}) for name in RUN_WIDE if ended or name != "availability"}
    if (run_dir / "members.jsonl").exists():
        wanted["members"] = ("members", {})
    history = read_history(path)
    checks = run_checks(wanted, path, run_dir, spec, progress) if len(history) else {}
    weight = meaning(history, faults, spec, workload.must_succeed, spec.overlap)
    verdict = worst(r.verdict for r in checks.values())
    reason = _reason(checks, verdict)
    notes = not_made({"promises": _promises(spec)}, spec.of(spec.system), spec.system)
    if verdict != "invalid":
        if error is not None:
            verdict, reason = "unknown", error.splitlines()[0]
        elif interrupted:
            how = end.get("error") or "interrupted: the run was cut off before its end"
            verdict, reason = "unknown", how
        elif verdict == "valid" and weight.vacuous:
            verdict, reason = "unknown", f"vacuous: {weight.reason}"
    leaders = _leadership(run_dir, faults, merged.phases, spec.nodes)
    pace, admission = lateness.pace(history, merged.phases, spec), read_record(run_dir)
    results = {
        **blank(),
        **(about := _about(spec, run_dir)),
        "caveats": [*about["caveats"], *notes],
        "verdict": verdict,
        "reason": reason,
        "error": error,
        "ops": int(history.invocations().size),
        "seconds": round((end.get("time") or (int(history.time[-1]) if len(history) else 0)) / 1e9, 3),
        "started": _iso(merged.header["epoch_real_ns"]),
        "interrupted": interrupted and error is None,
        "faults": msgspec.to_builtins(weight.faults),
        "outages": _outages(faults, merged.phases),
        "checks": _plain(checks),
        "observations": _observations(checks),
        "meaning": {"vacuous": weight.vacuous, "rows": msgspec.to_builtins(weight.rows)},
        "outcomes": _outcomes(history),
        "errors": _errors(history),
        "holes": end.get("holes", []),
        "leader_changes": None if leaders is None else leaders["elections"],
        "leadership": leaders,
        "recovery_s": checks["availability"].detail.get("recovery_s", []) if "availability" in checks else [],
        "lag_ms": end.get("lag_ms", {}),
        "rate": msgspec.to_builtins(pace),
        "waited_s": admission.waited_s if admission else None,
        "kept": standing.until if (standing := kept.read(run_dir)) else None,
        "warnings": [
            *(f"{f.fault} ({f.says}) could not be applied: {f.error}" for f in faults if f.error),
            *end.get("notes", []),
            *lateness.warnings(history, end.get("lag_ms", {}), pace, admission),
        ],
    }
    results["unmet"] = expecting.unmet(results, spec.expect_found)
    if model is not None:  # what was found under another model says nothing about this one
        return results
    whole = error is None and not interrupted
    return incremental.weigh(results, run_dir, fail_fast=spec.fail_fast, whole=whole)


def conclude(run_dir: Path, results: Mapping[str, Any]) -> None:
    """Write `results.json`, the report and the index row. A report that fails is a warning: what
    was found stands."""
    from results import index
    from results.report.page import write_report

    write_results(run_dir, results)
    for what, write in (("report", write_report), ("index", index.add)):
        try:
            write(run_dir)
        except Exception:  # noqa: BLE001 - a plot that fails never touches the verdict
            print(f"the {what} could not be written:\n{traceback.format_exc()}", file=sys.stderr)


def write_results(run_dir: Path, results: Mapping[str, Any]) -> None:
    """`results.json`, whole or not at all."""
    part = run_dir / "results.json.part"
    part.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    part.replace(run_dir / "results.json")


def run_checks(
    wanted: Mapping[str, tuple[str, Mapping[str, Any]]],
    path: Path,
    run_dir: Path | None,
    spec: Spec,
    progress: Progress | None,
) -> dict[str, Result]:
    """Every check at once, each in a thread (the heavy ones work in a process of their own).

    A checker that crashes or overstays says unknown.

    Raises: HistoryError for a history that breaks the format.
    """
    from checkers._beyond import labelled
    from harness.core.history import History, read_history

    cache: list[History] = []
    lock = threading.Lock()

    def history() -> History:
        with lock:
            if not cache:
                cache.append(read_history(path))
            return cache[0]

    results: dict[str, Result] = {}
    broken: list[HistoryError] = []
    promises = None if run_dir is None else _promises(spec)  # a bare history is nobody's

    def one(name: str, checker: Checker, limit_s: float) -> None:
        begin = time.monotonic()
        ctx = CheckContext(
            history_path=path,
            history=history,
            run_dir=run_dir,
            spec={**msgspec.to_builtins(spec), "promises": promises},
            time_s=limit_s,
            progress=(lambda done, of: progress(name, done, of)) if progress else lambda _done, _of: None,
        )
        try:
            results.setdefault(name, labelled(checker.check(ctx), ctx, checker.name))
        except HistoryError as e:
            broken.append(e)
        except Exception as e:  # noqa: BLE001 - a checker that crashes says unknown
            trace = traceback.format_exc()
            reason = f"the checker crashed: {type(e).__name__}: {e}; this is a bug of splitbrain's"
            spent = time.monotonic() - begin
            results[name] = Result(
                verdict="unknown", reason=reason, seconds=spent, detail={"traceback": trace}
            )

    threads = []
    for name, (which, given) in wanted.items():
        options = registry.checker_options(which, given, spec)
        limit_s = float(options.get("time_s", 60.0))
        checker = registry.create("checkers", which, options)
        thread = threading.Thread(
            target=one, args=(name, checker, limit_s), daemon=True, name=f"check-{name}"
        )
        thread.start()
        threads.append((name, thread, time.monotonic() + limit_s + _GRACE_S))
    for name, thread, deadline in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            owner = registry.checker_owner(wanted[name][0], spec.owners)
            reason = f"the checker did not end within its time; raise it with --opt {owner}.time_s=SECONDS"
            results.setdefault(name, Result(verdict="unknown", reason=reason))
    if broken:
        raise broken[0]
    return {name: results[name] for name in wanted}


def _promises(spec: Spec) -> Any:
    """What the system of a run promises to survive, as plain data."""
    return msgspec.to_builtins(registry.create("systems", spec.system, spec.of(spec.system)).promises)


def _outages(faults: Sequence[FaultRecord], phases: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How the faults lay beside each other while load was on; None where there was none of either."""
    from harness.core.outages import outages

    at = {p["phase"]: p["time"] for p in phases}
    if not faults or "load" not in at or "heal" not in at:
        return None
    return dict(msgspec.to_builtins(outages(faults, at["load"], at["heal"])))


def _leadership(
    run_dir: Path, faults: Sequence[FaultRecord], phases: Sequence[Mapping[str, Any]], nodes: int
) -> dict[str, Any] | None:
    """How stable leadership was while load was on; None where there was none of it."""
    from results.leadership import leadership

    at = {p["phase"]: p["time"] for p in phases}
    if "load" not in at or "heal" not in at:
        return None
    return leadership(run_dir / "monitor.jsonl", faults, at["load"], at["heal"], nodes)


def _observations(checks: Mapping[str, Result]) -> list[str]:
    """What the checks found that nobody promised would not happen."""
    return [
        f"{name}: {text}"
        for name, result in checks.items()
        for text in result.detail.get("observations", ())[:_OBSERVED]
    ]


def _about(spec: Spec, run_dir: Path) -> dict[str, Any]:
    from splitbrain.spec import command_line

    env_path = run_dir / "env.json"
    env = msgspec.json.decode(env_path.read_bytes()) if env_path.exists() else {}
    install = env.get("install", {})
    return {
        "seed": spec.seed,
        "run": str(run_dir),
        "system": spec.system,
        "version": install.get("version", spec.version),
        "workload": spec.workload,
        "provider": spec.provider,
        "nodes": spec.nodes,
        "expect": spec.expect,
        "expected": list(spec.expect_found),
        "command": command_line(spec),
        "caveats": [*install.get("caveats", []), *whose_keys(run_dir, spec)],
    }


def whose_keys(run_dir: Path, spec: Spec) -> list[str]:
    """What becomes of other people's data in a cluster that is not ours: nothing."""
    if not spec.addresses:
        return []
    prefix = _apart(run_dir, spec).of(spec.system)["prefix"]
    return [f"the run writes to keys that begin with {prefix} and to no others; at its end it removes them"]


def _without_a_history(spec: Spec, run_dir: Path, error: str) -> dict[str, Any]:
    return failed(error) | _about(spec, run_dir)


def _plain(checks: Mapping[str, Result]) -> dict[str, Any]:
    return {name: msgspec.to_builtins(result) for name, result in checks.items()}


def _reason(checks: Mapping[str, Result], verdict: Verdict) -> str:
    """One sentence: the reasons of the checks that the verdict comes from; of a good run, what its own say."""
    told = {n: r.reason for n, r in checks.items() if r.verdict == verdict}
    if verdict == "valid":
        told = {n: reason for n, reason in told.items() if n not in RUN_WIDE} or told
    return "; ".join(f"{n}: {reason}" for n, reason in told.items()) or "no operations"


def _outcomes(history: Any) -> dict[str, dict[str, int]]:
    """How many operations of each f ended ok, fail and info."""
    import numpy as np

    fs = history.f[history.invocations()]
    outcome = history.outcome()
    return {
        name: {
            kind: int(np.count_nonzero((fs == code) & (outcome == at)))
            for at, kind in ((1, "ok"), (2, "fail"), (3, "info"))
        }
        for code, name in enumerate(history.f_names)
        if np.any(fs == code)
    }


def _errors(history: Any) -> list[dict[str, Any]]:
    """How often each error text came, the most frequent first."""
    import numpy as np

    counts: dict[tuple[str, str, str], int] = {}
    for at in np.flatnonzero(history.client & (history.type > 1)):
        op = history.ops[at]
        key = (op.error or "", op.type, op.f)
        counts[key] = counts.get(key, 0) + 1
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    return [{"error": e, "type": t, "f": f, "count": n} for (e, t, f), n in ranked[:50]]


def _iso(real_ns: int) -> str:
    return datetime.fromtimestamp(real_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


if __name__ == "__main__":
    main()
