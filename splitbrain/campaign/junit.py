"""A night as JUnit XML, for servers that follow cases by their names: a function of its summary object.

One `testsuite` for each combination (a row of the page's cells), one `testcase` for each cell; then the canary, and
`night` for what is no cell's business: that the night came to its end. **Names are stable**: the class is
`splitbrain.<campaign>.<combination>`, the case is `run`, of a combination's second cell `run[2]`; seeds and ids of runs
stand in what a case says. A sample without a count has as many cases as its budget had room for.

A case is a `failure` where it fails the night for what was found: a finding that no baseline has, an expectation that
was not met, a canary that ran and was not found. It is `skipped` where its findings are all in the baseline, with the
entry's reason, and where a combination cannot be run. Whatever says nothing about the system is an `error`: no verdict,
unknown, cut off, not started. So no case is red where the night ends with 0, and one is where it does not.

What was told of a violation is read from its run's `results.json`, which retention leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree as ET

from harness.core.exits import ERROR, INTERRUPTED, UNKNOWN, USAGE, VALID, VIOLATION
from results.junit import case_of, document, name_part, say, seconds_text, violations, xml_text
from results.rundir import read_object

_case: Final = "run"
_kinds: Final = {UNKNOWN: "unknown", ERROR: "error", USAGE: "error", INTERRUPTED: "interrupted"}
_early: Final = "the night has not come to its end: this was written as it began"


def build(told: Mapping[str, Any], night: Path, *, ended: bool = True) -> str:
    """The XML of a summary object; `night` is its folder. `ended` False: the night has only begun."""
    top = ET.Element("testsuites", name=xml_text(f"splitbrain campaign {told['campaign']}", 300))
    root = f"splitbrain.{name_part(told['campaign'])}"
    found = {
        run: [f for f in told["findings"] if run in f["runs"]] for f in told["findings"] for run in f["runs"]
    }
    seen: Counter[str] = Counter()
    for label, cells in _rows(told).items():
        name = f"{root}.{name_part(label)}"
        suite = _suite(top, f"{told['campaign']}: {label}", [a for c in cells for a in c["attempts"]])
        for cell in cells:
            case = case_of(suite, name, _numbered(seen, name), _seconds(cell["attempts"]))
            _judge(case, cell, found, told, night, ended=ended)
    for left in told["left_out"]:
        suite = _suite(top, f"{told['campaign']}: {left['label']}", [])
        name = f"{root}.{name_part(left['label'])}"
        case = case_of(suite, name, _numbered(seen, name), None)
        say(case, "skipped", f"cannot be run: {left['reason']}")
    _canary(top, told, f"{root}.canary", ended=ended)
    _night(top, told, root, ended=ended)
    return document(top)


def _numbered(seen: Counter[str], name: str) -> str:
    seen[name] += 1
    return f"{_case}[{seen[name]}]" if seen[name] > 1 else _case


def begun(campaign: str) -> str:
    """The XML before there is a plan: one case, which is an error until the night has come to its end."""
    top = ET.Element("testsuites", name=xml_text(f"splitbrain campaign {campaign}", 300))
    suite = _suite(top, f"{campaign}: night", [])
    say(case_of(suite, f"splitbrain.{name_part(campaign)}", "night", None), "error", _early, "incomplete")
    return document(top)


def _rows(told: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """The cells by what they have in common, each row in the order of the ids: shards are merged in another one."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for cell in told["cells"]:
        if cell["kind"] != "canary":
            rows.setdefault(cell["label"], []).append(cell)
    return {label: sorted(cells, key=lambda c: str(c["id"])) for label, cells in rows.items()}


def _suite(top: ET.Element, name: str, attempts: Sequence[Mapping[str, Any]]) -> ET.Element:
    suite = ET.SubElement(top, "testsuite", name=xml_text(name, 300), time=seconds_text(_seconds(attempts)))
    started = min((str(a["started"]) for a in attempts if a["started"]), default=None)
    if started is not None:
        suite.set("timestamp", xml_text(started.removesuffix("Z"), 40))
    return suite


def _seconds(attempts: Sequence[Mapping[str, Any]]) -> float:
    return sum(float(a["seconds"] or 0) for a in attempts)


def _judge(
    case: ET.Element,
    cell: Mapping[str, Any],
    found: Mapping[str, Sequence[Mapping[str, Any]]],
    told: Mapping[str, Any],
    night: Path,
    *,
    ended: bool,
) -> None:
    """What became of a cell: the attempt that came to an end, or the last one."""
    attempts = cell["attempts"]
    if not attempts:
        why = _early if not ended else f"not started: {told['stop'] or 'the night was cut off before'}"
        say(case, "error", why, "not-started")
        return
    last = next((a for a in reversed(attempts) if a["word"] != "cut off"), attempts[-1])
    about = "\n".join(_about(cell, a, night) for a in attempts)
    code = last.get("code", last["exit"])
    its = found.get(last["run"], ())
    failing = [f for f in its if f["fails"]]
    if last["word"] == "cut off":
        why = last["reason"] or (_early if not ended else "it goes on, or nobody saw its end")
        say(case, "error", f"cut off: {why}", "cut-off", about)
    elif failing:
        kind = "new-finding" if any(f["status"] == "new" for f in failing) else "known-finding"
        words = [f"{f['status']}: {f['signature']}: {f['explanation']}" for f in failing]
        say(case, "failure", "; ".join([*words, *_unmet(last)]), kind, f"{about}\n{_details(last, night)}")
    elif code == VIOLATION:
        why = "; ".join(_unmet(last)) or last["reason"]
        say(case, "failure", why, "expectation", f"{about}\n{_details(last, night)}")
    elif code != VALID and its:
        why = f"its findings are known, and the rest of it could not be decided: {last['reason']}"
        say(case, "error", why, _kinds.get(code, "error"), about)
    elif code != VALID:
        say(case, "error", last["reason"], _kinds.get(code, "error"), about)
    elif its:
        words = [
            f"known until {f['baseline']['expires']}: {f['signature']} ({f['baseline']['reason']})"
            for f in its
        ]
        say(case, "skipped", "; ".join(words), "known", about)
    else:
        say(case, "system-out", body=about)


def _unmet(attempt: Mapping[str, Any]) -> list[str]:
    return [f"not as expected: {attempt['unmet']}"] if attempt.get("unmet") else []


def _about(cell: Mapping[str, Any], attempt: Mapping[str, Any], night: Path) -> str:
    """One line for an attempt: all that its case's name does not say."""
    words = [f"run {attempt['run']}: {attempt['word']}", f"cell {cell['id']}", f"seed {cell['seed']}"]
    words += [f"version {attempt['version']}"] if attempt["version"] else []
    words += [f"{attempt['ops']:,} operations"] if attempt["ops"] is not None else []
    words += [str(night / attempt["report"])] if attempt.get("report") else []
    return ", ".join(words)


def _details(attempt: Mapping[str, Any], night: Path) -> str:
    results = read_object(night / attempt["run_dir"] / "results.json") if attempt["run_dir"] else None
    return "" if results is None else violations(results)


def _canary(top: ET.Element, told: Mapping[str, Any], name: str, *, ended: bool) -> None:
    canary = told["canary"]
    attempts = [a for cell in told["cells"] if cell["kind"] == "canary" for a in cell["attempts"]]
    suite = _suite(top, f"{told['campaign']}: canary", attempts)
    case = case_of(suite, name, str(canary["bug"]), _seconds(attempts))
    if canary["verdict"] == "found":
        say(case, "system-out", body=canary["sentence"])
    elif canary["n"]:
        say(case, "failure", canary["sentence"], "canary")
    else:
        say(case, "error", canary["sentence"] if ended else _early, "canary")


def _night(top: ET.Element, told: Mapping[str, Any], name: str, *, ended: bool) -> None:
    """The case that is red where the night is, and no other case says so; and where it did not come to its end."""
    red = any(next(top.iter(tag), None) is not None for tag in ("failure", "error"))
    suite = _suite(top, f"{told['campaign']}: night", [])
    case = case_of(suite, name, "night", None)
    absent = [f"{f['status']}: {f['signature']}: {f['absence']}" for f in told["findings"] if not f["hits"]]
    body = "\n".join(
        [f"night {told['number']}, seed {told['seed']}", told["reason"], *absent, *told["notes"]]
    )
    if not ended:
        say(case, "error", _early, "incomplete")
    elif told["exit"] != VALID and (not told["complete"] or not red):
        tag = "failure" if told["exit"] == VIOLATION and told["complete"] else "error"
        say(case, tag, told["reason"], "incomplete" if not told["complete"] else "night", body)
    else:
        say(case, "system-out", body=body)
