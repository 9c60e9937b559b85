"""What a night came to: one object (`summary.json`), and from it Markdown and a page.

The exit code follows the contract: a violation outranks an error outranks unknown. Violations are findings
that no baseline excuses, whether new or known from earlier nights, and expectations that were not met. Errors are runs
without a verdict, a canary that was not found, a disk that was full. Unknown are runs that could not be decided, and
cells that were planned and never started: what was left out has not been shown to work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.core.errors import InfrastructureError
from harness.core.exits import ERROR, INTERRUPTED, UNKNOWN, USAGE, VALID, VIOLATION, overall
from splitbrain.campaign import compare, home, ledger
from splitbrain.campaign.baseline import Baseline
from splitbrain.campaign.ledger import Attempt, State
from splitbrain.campaign.plan import Cell, Plan
from splitbrain.campaign.spec import Campaign

FORMAT: Final = 1
NAME: Final = "summary.json"
CUT_OFF: Final = "the night was cut off, and not taken up again"
_verdict_of: Final = {VALID: "valid", VIOLATION: "invalid"}
_words: Final = ("valid", "invalid", "unknown", "error", "cut off")


def unfinished(night: Path) -> bool:
    """Whether a night was cut off or stopped, and can be taken up again."""
    found = home.read_summary(night)
    return found is None or not found.get("complete")


def conclude(
    night: Path, campaign: Campaign, plan: Plan, state: State, before: list[compare.Known], baseline: Baseline
) -> dict[str, Any]:
    """The summary object of a night, written in all its forms.

    Raises: InfrastructureError when it cannot be written.
    """
    from splitbrain.campaign import markdown, page

    told = build(night, campaign.canary.bug, plan, state, before, baseline)
    files: dict[str, Callable[[], bytes | str]] = {
        NAME: lambda: msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n",
        "summary.md": lambda: markdown.summary(told),
        "index.html": lambda: page.build(told),
    }
    try:
        for name, make in files.items():
            home.write(night / name, make())
    except OSError as e:
        raise InfrastructureError(
            f"cannot write the summary below {night}: {e.strerror}; nothing is lost: free some space, and go on with"
            " `splitbrain campaign run --resume`"
        ) from None
    return told


def build(
    night: Path, bug: str, plan: Plan, state: State, before: list[compare.Known], baseline: Baseline
) -> dict[str, Any]:
    """The summary object: a function of plan, ledger and what was known before."""
    cells = {cell.id: cell for cell in (*plan.cells, *state.drawn.values())}
    attempts = list(state.attempts.values())
    by_cell: dict[str, list[Attempt]] = {ident: [] for ident in cells}
    for attempt in attempts:
        by_cell[attempt.cell].append(attempt)
    done = state.done()
    compared = compare.compare(home.number(night), before, judged(cells, attempts))
    found = sorted((_finding(c, baseline) for c in compared), key=lambda f: not f["fails"])
    canary = _canary(bug, plan, by_cell)
    not_started = [ident for ident in cells if not by_cell[ident] and cells[ident].kind != "canary"]
    cut = [ident for ident in cells if by_cell[ident] and ident not in done]
    interrupted = state.stop == "interrupted"
    codes = [code_of(a, baseline) for a in attempts if cells[a.cell].kind != "canary"]
    codes += [VIOLATION for f in found if f["fails"]]
    codes += [ERROR] if canary["verdict"] == "not found" and not interrupted else []
    codes += [INTERRUPTED if interrupted else UNKNOWN] if not_started else []
    codes += [INTERRUPTED if interrupted else ERROR] if cut else []
    codes += [INTERRUPTED] if interrupted else []
    codes += [ERROR] if (state.stop or "").startswith(("the disk is full", CUT_OFF)) else []
    code = overall(codes)
    counts = _counts(cells, by_cell, not_started)
    ends = [a for a in attempts if a.how is not None]
    told: dict[str, Any] = {
        "format": FORMAT,
        "campaign": plan.name,
        "night": night.name,
        "number": home.number(night),
        "path": str(night),
        "seed": plan.seed,
        "shard": plan.shard,
        "started": min((a.started for a in attempts if a.started), default=None),
        "ended": state.last_at,
        "elapsed_s": round(state.elapsed_s, 1),
        "sessions": state.sessions,
        "verdict": _verdict_of.get(code, "unknown"),
        "reason": "",
        "reasons": [],
        "exit": code,
        "complete": not (cut or interrupted or (not_started and _may_go_on(state.stop))),
        "stop": state.stop,
        "counts": counts,
        "ops": sum(a.ops or 0 for a in ends),
        "bytes": sum(a.bytes for a in ends),
        "canary": canary,
        "findings": found,
        "notes": [*baseline.expired(), *state.notes],
        "left_out": msgspec.to_builtins(plan.left_out),
        "cells": [_cell(cells[ident], by_cell[ident], baseline, night) for ident in cells],
        "findings_so_far": msgspec.to_builtins([c.known for c in compared]),
    }
    told["reasons"] = _reasons(told)
    told["reason"] = "; ".join(told["reasons"])
    return told


def _may_go_on(stop: str | None) -> bool:
    """Whether what stopped the night was nothing that it had asked for itself."""
    return stop is None or stop == "interrupted" or stop.startswith(("the disk is full", CUT_OFF))


def judged(cells: Mapping[str, Cell], attempts: Sequence[Attempt]) -> list[compare.Judged]:
    """The runs that came to a verdict about a system, in the order in which they were started."""
    return [
        compare.Judged(
            run=a.run,
            label=cells[a.cell].label,
            report=f"{a.run_dir}/report.html" if a.run_dir else None,
            version=a.version,
            findings={f["signature"]: str(f.get("explanation") or "") for f in a.findings},
        )
        for a in attempts
        if a.verdict in ("valid", "invalid") and cells[a.cell].kind != "canary"
    ]


def word(attempt: Attempt) -> str:
    """What became of an attempt, in a word: valid, invalid, unknown, error, cut off."""
    if attempt.how is None or attempt.how == "cut-off":
        return "cut off"
    if attempt.verdict in ("valid", "invalid"):
        return str(attempt.verdict)
    return "error" if attempt.exit in (ERROR, USAGE) else "unknown"


def code_of(attempt: Attempt, baseline: Baseline) -> int:
    """What an attempt adds to the exit code. One that was cut off is told by its cell."""
    if attempt.how is None or attempt.how == "cut-off" or attempt.exit is None:
        return VALID
    if attempt.exit == VIOLATION and attempt.findings:
        if attempt.unmet or not all(baseline.entry(f["signature"]) for f in attempt.findings):
            return VIOLATION
        return VALID if attempt.rest in (None, "valid") else UNKNOWN
    return ERROR if attempt.exit == USAGE else attempt.exit


def _unmet(attempt: Attempt, code: int) -> str | None:
    """How an attempt is not what was expected; None where it is, or where nothing was expected of it."""
    if code == VIOLATION and attempt.verdict == "valid":
        return "a violation was expected, and none was found"
    return attempt.unmet if code == VIOLATION else None


def _counts(
    cells: Mapping[str, Cell], by_cell: Mapping[str, list[Attempt]], not_started: list[str]
) -> dict[str, int]:
    ours = [ident for ident in cells if cells[ident].kind != "canary"]
    words = [word(a) for ident in ours for a in by_cell[ident]]
    return {
        "cells": len(ours),
        "attempts": len(words),
        **{w.replace(" ", "_"): words.count(w) for w in _words},
        "not_started": len(not_started),
    }


def _finding(c: compare.Compared, baseline: Baseline) -> dict[str, Any]:
    entry = baseline.entry(c.known.signature)
    return {
        "signature": c.known.signature,
        "status": c.status,
        "returned": c.returned,
        "fails": c.hits > 0 and entry is None,
        "baseline": None if entry is None else {"reason": entry.reason, "expires": entry.expires.isoformat()},
        "hits": c.hits,
        "eligible": c.eligible,
        "k": c.known.k,
        "n": c.known.n + c.known.since,
        "flaky": c.flaky,
        "rate": c.rate,
        "absence": None if c.hits else c.absence,
        "chance": c.chance,
        "first_night": c.known.first_night,
        "last_night": c.known.last_night,
        "versions": list(c.known.versions),
        "labels": list(c.known.labels),
        "explanation": c.known.explanation,
        "runs": list(c.runs),
        "reports": list(c.reports),
    }


def _canary(bug: str, plan: Plan, by_cell: Mapping[str, list[Attempt]]) -> dict[str, Any]:
    """Whether the known bug was found, by the check and in the shape that it is known for."""
    cells = [cell for cell in plan.cells if cell.kind == "canary"]
    runs = [(cell, a) for cell in cells for a in by_cell[cell.id]]
    # each shard has its own, and each has to be found: it speaks for its own machine
    shards: dict[str, bool] = {}
    for cell in cells:
        shard = cell.id.split("-", 2)[2] if cell.id.count("-") > 1 else ""
        shards[shard] = shards.get(shard, False) or any(_hit(cell, a) for a in by_cell[cell.id])
    found = bool(shards) and all(shards.values())
    k, n = sum(_hit(cell, a) for cell, a in runs), sum(a.verdict in ("valid", "invalid") for _, a in runs)
    if n == 0:
        why = next((a.reason for _, a in runs if a.reason), "it was not run")
        told = (
            f"the canary was not found: no run for {bug} came to a verdict ({why}), so nothing shows that the pipeline"
            " detects what it should"
        )
        return {"bug": bug, "verdict": "not found", "sentence": told, "k": 0, "n": 0}
    meant = "does not detect what it should, so nothing that this night found valid means anything"
    if found:
        sentence = f"the canary was found: {bug}, in {k} of {n} runs"
    elif k:
        missed = sum(not hit for hit in shards.values())
        sentence = (
            f"the canary was not found in {missed} of {len(shards)} shards, whose pipeline {meant} ({bug})"
        )
    else:
        many = f"{n} run{'s' * (n != 1)}"
        missed_it = f"{bug} is a known bug, and {many} did not come upon it"
        sentence = f"the canary was not found: {missed_it}; the pipeline {meant}"
    return {
        "bug": bug,
        "verdict": "found" if found else "not found",
        "sentence": sentence,
        "k": k,
        "n": n,
    }


def _hit(cell: Cell, attempt: Attempt) -> bool:
    return attempt.verdict == "invalid" and any(
        kind in kinds for check, kinds in cell.found.items() for kind in attempt.kinds.get(check, [])
    )


def _cell(cell: Cell, attempts: Sequence[Attempt], baseline: Baseline, night: Path) -> dict[str, Any]:
    about = (
        "run",
        "n",
        "how",
        "exit",
        "verdict",
        "reason",
        "run_dir",
        "version",
        "ops",
        "seconds",
        "host",
        "started",
    )
    return {
        "id": cell.id,
        "kind": cell.kind,
        "label": cell.label,
        "seed": cell.seed,
        "attempts": [
            {
                "word": word(a),
                **{name: getattr(a, name) for name in about},
                "report": _report(a, night),
                **(
                    {"found": _hit(cell, a)}
                    if cell.kind == "canary"
                    else {"code": (code := code_of(a, baseline)), "unmet": _unmet(a, code)}
                ),
            }
            for a in attempts
        ],
    }


def _report(attempt: Attempt, night: Path) -> str | None:
    """What there is to read of an attempt, below the night: its report, or else what its process said."""
    places = [f"{attempt.run_dir}/report.html"] if attempt.run_dir else []
    return next((p for p in (*places, f"attempts/{attempt.run}/log") if (night / p).exists()), None)


def _reasons(told: Mapping[str, Any]) -> list[str]:
    """What the night came to, what matters most first."""
    counts, parts = told["counts"], []
    if told["canary"]["verdict"] == "not found":
        parts.append(told["canary"]["sentence"])
    for status in ("new", "known"):
        failing = [f for f in told["findings"] if f["status"] == status and f["fails"]]
        if failing:
            names = ", ".join(f["signature"] for f in failing[:3]) + (" ..." if len(failing) > 3 else "")
            parts.append(f"{len(failing)} {status} finding{'s' * (len(failing) > 1)}: {names}")
    excused = [f for f in told["findings"] if f["hits"] and f["baseline"]]
    if excused:
        parts.append(f"{len(excused)} in the baseline")
    ours = [(cell, a) for cell in told["cells"] if cell["kind"] != "canary" for a in cell["attempts"]]
    unmet = [cell["label"] for cell, a in ours if a["unmet"]]
    if unmet:
        parts.append(f"{len(unmet)} not as expected: {'; '.join(dict.fromkeys(unmet[:3]))}")
    half = sum(a["word"] == "invalid" and a["code"] == UNKNOWN for _, a in ours)
    if half:
        parts.append(f"{half} with known findings only, and undecided besides")
    cells = f"{counts['cells']} cell{'s' * (counts['cells'] != 1)}"
    tally = ", ".join(f"{counts[w.replace(' ', '_')]} {w}" for w in _words if counts[w.replace(" ", "_")])
    parts.append(f"{cells}: {tally or 'no run'}")
    if counts["not_started"]:
        why = f" ({told['stop']})" if told["stop"] else ""
        parts.append(f"{counts['not_started']} not started{why}")
    elif told["stop"] == "interrupted":
        parts.append("interrupted")
    return parts


def read_known(folder: Path, before: Path) -> list[compare.Known]:
    """The findings known from the nights before one."""
    earlier = [s for n in home.nights(folder) if n.name < before.name and (s := home.read_summary(n))]
    return compare.known_of(earlier[-1] if earlier else None)


def again(night: Path, campaign: Campaign, *, write: bool = True) -> dict[str, Any]:
    """The summary of a night, made again from its plan and its ledger, and written unless that is not wanted."""
    state = ledger.read(night / ledger.NAME)
    baseline = Baseline.read(campaign.baseline)
    plan = home.read_plan(night)
    before = read_known(night.parent, night)
    if not write:
        return build(night, campaign.canary.bug, plan, state, before, baseline)
    return conclude(night, campaign, plan, state, before, baseline)
