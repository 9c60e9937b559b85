"""`splitbrain replay RUN`: the recorded seed and schedule again, and how often the finding came back.

A seed fixes the operations and the schedule of faults, and not the interleaving: most findings come back in some of the
runs. So a replay is a number of runs, each with a directory of its own, and its answer is a share with its interval.
The same finding is one under the same signature (`results.findings`). Runs that ended in an error or were interrupted
had no chance to find it, and are not counted.

Roles are resolved anew: `leader` is whoever leads then. With `exact` every fault is what the ledger says it was, on the
nodes that it hit and at its time after the load began; of shapes that are no set of nodes (one-way, a ring) the kind
is all there is, and that is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.core import secrets
from harness.core.errors import UsageError
from harness.core.ledger import FaultRecord, read_faults
from harness.core.spec import Spec, read_spec
from results.findings import findings
from results.rundir import read_object, run_id
from splitbrain import registry, series
from splitbrain import spec as specs

_sets: Final = frozenset({"halves", "zone"})  # kinds that are nodes and nothing else, beside `targets.KINDS`
_digits: Final = 4


def spec_of(run_dir: Path, given: Sequence[str] = ()) -> Spec:
    """The spec of a run as it was resolved, to be run again: nothing is expected of it, no cluster is kept.

    `given` are OWNER.NAME=VALUE for options that are secret and therefore not recorded.

    Raises: UsageError for a run without a spec that can be read, and for a secret that nobody knows any more.
    """
    spec = secrets.reveal(read_spec(run_dir), run_id(run_dir))
    options = {owner: dict(values) for owner, values in spec.options.items()}
    for text in given:
        name, equals, value = text.partition("=")
        owner, dot, option = name.partition(".")
        if not (equals and dot) or options.get(owner, {}).get(option) != secrets.HIDDEN:
            hidden = ", ".join(f"{o}.{n}" for o, n in _hidden(options)) or "none"
            raise UsageError(
                f"--opt {text.partition('=')[0]}: a replay takes only options that the run does not show; expected"
                f" OWNER.NAME=VALUE of one of these: {hidden}"
            )
        options[owner][option] = value
    for owner, option in _hidden(options):
        raise UsageError(
            f"option {owner}.{option} is secret, and the run does not show it; say --opt {owner}.{option}=VALUE"
        )
    file = registry.file_of(msgspec.structs.replace(spec, options=options))
    if file is not None and not file.exists() and (run_dir / registry.COPY).exists():
        options[spec.system][registry.FILE] = str((run_dir / registry.COPY).absolute())
    spec = msgspec.structs.replace(spec, options=options, expect=None, expect_found=(), keep=False)
    registry.adopt_again(spec, run_dir)
    return spec


def _hidden(options: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(o, n) for o, values in options.items() for n, value in values.items() if value == secrets.HIDDEN]


def exactly(spec: Spec, run_dir: Path) -> tuple[Spec, list[str]]:
    """The spec with the faults that were recorded, and sentences about what cannot be had again.

    Raises: UsageError for a run whose ledger or journal does not say what happened when.
    """
    from results.report.data import read_run

    if not spec.faults:
        return spec, []
    began = dict(read_run(run_dir).phases).get("load")
    recorded = [f for f in read_faults(run_dir / "faults.jsonl") if f.applied is not None]
    if began is None or not recorded:
        raise UsageError(
            f"{run_dir} does not say which faults were in force when; leave out --exact, and the schedule of its"
            " seed is run again"
        )
    entries, notes = [], []
    for fault in sorted(recorded, key=lambda f: f.applied or 0):
        entry, note = _entry(fault, began)
        entries.append(entry)
        notes += note
    if missing := sorted(set(spec.families) - {f.family for f in recorded}):
        raise UsageError(
            f"{run_dir} recorded no fault of {', '.join(missing)}, which the spec asks for; leave out --exact"
        )
    options = {
        **spec.options,
        "schedule": {**spec.of("schedule"), "script": msgspec.json.encode(entries).decode()},
    }
    exact = msgspec.structs.replace(
        spec, options=options, faults=tuple(dict.fromkeys(str(e["fault"]) for e in entries))
    )
    specs.schedule(exact)  # refuses here what the run would refuse
    return exact, notes


def _entry(fault: FaultRecord, began: int) -> tuple[dict[str, Any], list[str]]:
    """A fault as an entry of a script, with a sentence where it is less than what was recorded."""
    from nemesis import targets

    start = fault.applied or 0
    entry: dict[str, Any] = {"at": round(max(start - began, 0) / 1e9, _digits)}
    notes: list[str] = []
    nodes = (
        fault.target in targets.KINDS or fault.target in _sets or targets.by_name(fault.target) is not None
    )
    if nodes and fault.nodes:
        entry["fault"] = f"{fault.family}:{'+'.join(fault.nodes)}"
    else:
        entry["fault"] = f"{fault.family}:{fault.target}"
        notes.append(
            f"{fault.fault}, {entry['fault']}, is no set of nodes: its kind is taken, its nodes are chosen anew"
        )
    if fault.undone is not None and fault.undone > start:
        entry["hold"] = round((fault.undone - start) / 1e9, _digits)
    return entry, notes


def tell(run_dir: Path, runs: Sequence[Mapping[str, Any]], *, planned: int, exact: bool) -> dict[str, Any]:
    """The object of a replay: `findings` are those of the recorded run, each with how often it came back."""
    from splitbrain.launch import several

    recorded = findings(read_object(run_dir / "results.json") or {})
    counted = [
        r for r in runs if r.get("verdict") == "invalid" or not (r.get("error") or r.get("interrupted"))
    ]
    seen = [{f.signature for f in findings(r)} for r in counted]
    n = len(counted)
    told = []
    for finding in recorded:
        k = sum(finding.signature in signatures for signatures in seen)
        about = {"signature": finding.signature, "explanation": finding.explanation}
        told.append({**about, "came_back": k, "of": n, "interval": series.interval(k, n)})
    known = {f.signature for f in recorded}
    fresh = sorted({s for signatures in seen for s in signatures} - known)
    found = {**several(runs, planned), "replay_of": str(run_dir), "exact": exact, "planned": planned}
    found |= {"counted": n, "findings": told, "new": fresh}
    found["reason"] = "; ".join(
        [*(_says(f) for f in told), *([f"{len(fresh)} others came up"] if fresh else [])]
    )
    found["reason"] = (
        found["reason"] or f"the run had no finding that could come back; {several(runs, planned)['reason']}"
    )
    if n < len(runs):
        found["reason"] += f"; {len(runs) - n} of {len(runs)} runs ended with no answer and are not counted"
    return found


def _says(finding: Mapping[str, Any]) -> str:
    k, n = finding["came_back"], finding["of"]
    return f"{finding['signature']} came back in {k} of {n} runs (95% interval {series.percent(k, n)})"


def other_programs(run_dir: Path, again: Path) -> list[str]:
    """The programs that are not, byte for byte, those that the recorded run had."""
    first, second = (_sums(path) for path in (run_dir, again))
    return sorted(name for name in first.keys() & second.keys() if first[name] != second[name])


def _sums(run_dir: Path) -> dict[str, Any]:
    install = (read_object(run_dir / "env.json") or {}).get("install")
    sums = install.get("sha256") if isinstance(install, dict) else None
    return sums if isinstance(sums, dict) else {}


def refuse_itself(run_dir: Path, out: Path) -> None:
    """Raises: UsageError when the repeats would be written into the recorded run."""
    if out.resolve() == run_dir.resolve():
        raise UsageError(f"--out {out} is the recorded run itself; expected a folder of its own")
