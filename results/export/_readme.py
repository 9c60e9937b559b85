"""What a bundle says to a maintainer who would rather disbelieve it, and the script that runs the test again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from results.markdown import code, text, word
from results.report.case import Case, Shown
from results.report.data import Run, as_dict, as_list
from results.report.html import key_text, outcome_names, plural, seconds
from results.report.verdict import outcome_of, title_of
from results.report.when import faults_during

_cases: Final = 5  # told at length; all are in results.json and windows/
_ops: Final = 30

_script: Final = """\
#!/bin/sh
# Runs the recorded test again, with the splitbrain command and nothing else.
#
#   ./reproduce.sh                  once
#   ./reproduce.sh 10               ten times: in how many of them did the finding come back?
#   ./reproduce.sh 10 --exact       on the nodes and at the times that were recorded, whoever leads now
#
# What follows the number are options of `splitbrain replay`. New run directories go to ./runs. Exit code: 1 when a
# violation came back, 0 when all runs were valid, 3 unknown, 4 when the machine or the harness failed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if ! command -v splitbrain >/dev/null 2>&1; then
  echo "splitbrain is not installed. It needs Linux and Python 3.11 or later:" >&2
  echo "  python3 -m venv splitbrain-env && splitbrain-env/bin/pip install '{package}'" >&2
  echo '  PATH="$PWD/splitbrain-env/bin:$PATH" ./reproduce.sh' >&2
  exit 4
fi
times=1
if [ $# -gt 0 ]; then
  times=$1
  shift
fi
exec splitbrain replay "$here" --times "$times" "$@"
"""


def reproduce(version: str) -> str:
    """`reproduce.sh`, for the version of splitbrain that made the run ("": any)."""
    plain = version if version.replace(".", "").replace("+", "").isalnum() else ""
    return _script.replace("{package}", f"splitbrain=={plain}" if plain else "splitbrain")


def readme(
    run: Run,
    found: Sequence[Case],
    windows: Sequence[tuple[str, str] | None],
    *,
    left_out: Sequence[str],
    redacted: int,
) -> str:
    """`README.md` of a bundle; `windows` are the files of each case, `redacted` how many lines held secrets."""
    reason = run.results.get("reason") or "There is no verdict: the run has not been judged, or did not end."
    parts = [
        f"# {text(title_of(run))}: {outcome_of(run)}",
        text(reason, 2000),
        *_claims(run, found, windows),
        _tested(run),
        _doubt(run, found),
        _again(run),
        _contents(found, left_out, redacted),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _claims(run: Run, found: Sequence[Case], windows: Sequence[tuple[str, str] | None]) -> list[str]:
    verdict = run.results.get("verdict")
    if verdict != "invalid":
        return [
            "**No violation is claimed.**"
            + (" A valid run says that none was found in what it recorded." if verdict == "valid" else "")
            + (" Unknown is no success: nothing was decided." if verdict == "unknown" else "")
        ]
    parts = [
        "## The claim",
        "Each of the following is a contradiction between operations that clients saw complete.",
    ]
    for number, (case, files) in enumerate(list(zip(found, windows, strict=True))[:_cases], 1):
        parts.append(f"### {number}. {text(case.check)} of key {code(key_text(case.key), 120)}")
        parts.append(text(case.explanation, 3000))
        if case.ops:
            parts.append(_table(case.ops))
        during = [] if case.times is None else faults_during(run, *case.times)
        told = [f"{f.label or f.family} ({f.says})" for f in during]
        parts.append(f"Faults in force meanwhile: {text('; '.join(told[:8]) or 'none', 1000)}.")
        if files is not None:
            parts.append(f"Its events are in `{files[0]}`, all that happened to its key in `{files[1]}`.")
    total = len(run.anomalies)
    if total > min(len(found), _cases):
        parts.append(
            f"In all there are {total} violations; `results.json` lists them, `report.html` shows them."
        )
    return parts


def _table(ops: Sequence[Shown]) -> str:
    rows = [
        "| lines of history.jsonl | invoked | completed | process | node | operation | outcome |",
        "|---:|---:|---:|---|---|---|---|",
    ]
    for op in sorted(ops, key=lambda op: op.invoke if op.invoke is not None else -1)[:_ops]:
        lines = ", ".join(str(index + 1) for index in (op.invoke, op.complete) if index is not None)
        outcome = outcome_names.get(op.outcome, "info") + (", assumed to have happened" if op.assumed else "")
        cells = (lines, seconds(op.started), "never" if op.ended is None else seconds(op.ended))
        rows.append(
            f"| {' | '.join(cells)} | {text(op.process, 40)} | {text(op.node, 40)} | {code(op.text, 300)} | {outcome} |"
        )
    if len(ops) > _ops:
        rows.append(f"\nand {len(ops) - _ops} more.")
    return "\n".join(rows)


def _tested(run: Run) -> str:
    install = as_dict(run.env.get("install"))
    sums = as_dict(install.get("sha256"))
    facts: list[tuple[str, Any]] = [
        ("system", " ".join(str(x) for x in (run.said("system"), run.said("version")) if x)),
        ("verdict", word(run.results) if run.results else "none"),
        ("nodes", f"{run.said('nodes')} on {run.said('provider')}" if run.said("nodes") else None),
        ("workload", run.said("workload")),
        ("operations", run.results.get("ops")),
        ("seed", run.said("seed")),
        ("started", run.results.get("started")),
        ("kernel", run.env.get("kernel")),
        ("splitbrain", run.env.get("splitbrain")),
    ]
    rows = ["## What was tested", "| | |\n|---|---|"]
    rows[1] += "".join(f"\n| {name} | {text(value)} |" for name, value in facts if value not in (None, ""))
    rows[1] += "".join(
        f"\n| sha256 of {text(name)} | `{text(value, 80)}` |" for name, value in sorted(sums.items())
    )
    families = as_dict(run.results.get("faults"))
    if families:
        told = [
            f"- {text(name)}: {as_dict(row).get('applied')} applied, {as_dict(row).get('effective')} took effect by"
            f" measurement, {as_dict(row).get('overlapping_ops')} operations meanwhile"
            for name, row in families.items()
        ]
        rows.append("Faults (the evidence for each is in `faults.jsonl`):\n\n" + "\n".join(told))
    caveats = [str(c) for c in as_list(run.results.get("caveats"))]
    if caveats:
        rows.append("Known beforehand:\n\n" + "\n".join(f"- {text(c, 1000)}" for c in caveats))
    return "\n\n".join(rows)


def _doubt(run: Run, found: Sequence[Case]) -> str:
    lag = as_dict(run.results.get("lag_ms")).get("p99")
    points = [
        ("**Read the operations yourself.** `history.jsonl` has one event a line, in the order of real time; `invoke`"
        " is stamped just before the call, its completion right after the answer, by the client's own thread on one"
        " monotonic clock of one machine. No node's clock is used."),
        ("**Was something taken for acknowledged that was not?** Only `ok` counts as done. A timeout or a broken"
        " connection is `info`: it may have happened or not, and either is allowed. `fail` is said only where the"
        " system's answer proves that nothing happened. Clients do not retry."),
        f"**Was the harness late?** Its stamps lagged by {lag} ms at p99; a late stamp widens an operation, which can"
        " hide a violation and cannot make one." if lag is not None else "",
        ("**Did it run as you would run it?** The options are in `spec.json`, the command line below has those that are"
        " not the defaults, `env.json` the sha256 of each program, `logs/` what the nodes printed."),
        ("**Is it a fault that the system does not claim to survive?** What was done to which node and when is in"
        " `faults.jsonl`, with what was measured before, during and after."),
        ("**Is the checker wrong?** Judge it again: `splitbrain check .` in this folder repeats everything from the"
        " journal on. Or with another: `splitbrain export . --jepsen --out history.edn` writes what Knossos and Elle"
        " read."),
    ]  # fmt: skip
    assumed = any(op.assumed for case in found for op in case.ops)
    if assumed:
        points.append(
            "**What is assumed?** Operations marked so have an unknown outcome; the contradiction stands whichever it"
            " was for all the others, and the explanation says what they would have to be."
        )
    return "## If you doubt it\n\n" + "\n".join(
        f"{n}. {p}" for n, p in enumerate((p for p in points if p), 1)
    )


def _again(run: Run) -> str:
    command = run.results.get("command")
    shown = f"\n\n    {' '.join(str(command).split())}" if command else ""
    return (
        "## Run it again\n\n`./reproduce.sh 10` runs it ten times and says in how many the finding came back. It needs"
        " the `splitbrain` command, and says how to install that. By hand, once:"
        f"{shown or ' there is no command line.'}\n\n"
        "The seed fixes the operations and the schedule of faults, not how threads and packets interleave: a finding"
        " may take several runs to come back, and one that does not come back is not refuted."
    )


def _contents(found: Sequence[Case], left_out: Sequence[str], redacted: int) -> str:
    lines = [
        "## What is in here",
        "- `report.html`: everything on one page, offline: time line, violations, logs",
        "- `report.values`, if there: values of a very large run, which `splitbrain open .` shows in that page",
        "- `results.json`, `spec.json`, `env.json`: verdict, the resolved request, versions and hashes",
        (
            "- `history.jsonl` (made of `journal.jsonl`): every operation; `faults.jsonl`, `monitor.jsonl`,"
            " `events.jsonl`: faults with their evidence, what each node said of itself, what the logs say"
        ),
    ]
    if found:
        lines.append("- `windows/`: the events of each violation alone, and all events of its key")
    lines += ["- `logs/`: of each node and of the harness", "- `SHA256SUMS`: `sha256sum -c SHA256SUMS`"]
    if redacted:
        lines.append(
            f"\nSecrets were taken out of {plural(redacted, 'line')}; `[redacted]` stands in their place."
        )
    if left_out:
        lines.append("\nLeft out:\n" + "\n".join(f"- {text(sentence)}" for sentence in left_out))
    return lines[0] + "\n\n" + "\n".join(lines[1:])
