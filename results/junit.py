"""Results objects as JUnit XML, which CI servers read: a pure function, and one that writes its file. What it is made
of (`case_of`, `say`, `document`) serves the file of a whole campaign as well.

One `testsuite` a run, one `testcase` a check, and a last case `run` for what is no check's business: that the run
came to its end, meant something, and ended as was expected. **Names are stable**, for servers follow a case by its
name through the nights: the class is `splitbrain.<system>.<workload>`, the case is the check's name; of several
runs of one class the second has `[2]` behind its cases' names, whatever its seed (which is a property of the
suite), unless the caller labels them. Nothing that a run draws or measures is part of a name.

A violation is a `failure`. JUnit has no word for unknown and every server takes `skipped` for good, so unknown is
an `error` unless it is asked for as `skipped`. The form is that of Jenkins' junit-10.xsd, as GitLab and others read.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal
from xml.etree import ElementTree as ET

from harness.core.exits import VALID, VIOLATION, exit_code
from results.report.html import json_text, key_text, op_text, outcome_names, plain
from results.writing import whole

Unknown = Literal["error", "skipped"]
MESSAGE_CHARS: Final = 1000
TEXT_CHARS: Final = 20_000
_anomalies: Final = 20  # of a check, told; the rest are counted
_window: Final = 40  # operations of an anomaly, told
_codes: Final = {name: code for code, name in outcome_names.items()}
_properties: Final = ("verdict", "seed", "version", "provider", "nodes", "ops", "run", "command", "expect")
_counts: Final = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}
_never: Final = re.compile("[\ufffe\uffff]")  # beside what `plain` shows as signs, XML has no such characters
_run: Final = "run"  # the case of the run as a whole


def junit(
    runs: Iterable[Mapping[str, Any]],
    *,
    planned: int | None = None,
    labels: Sequence[str] | None = None,
    unknown: Unknown = "error",
) -> str:
    """The XML of results objects (docs/run-directory.md), in their order.

    `planned`: how many runs there should have been; each that is missing is an error of the last one's class.
    `labels`: of each run, what sets it apart from others of its class, in a way that is the same every night
    (of a campaign's cell, its name), "" for nothing.

    Raises: ValueError when there are not as many labels as runs.
    """
    every = list(runs)
    given = [""] * len(every) if labels is None else list(labels)
    if len(given) != len(every):
        raise ValueError(f"{len(given)} labels for {len(every)} runs; expected one for each")
    top = ET.Element("testsuites", name="splitbrain")
    seen: Counter[tuple[str, str]] = Counter()
    name = "splitbrain"
    for results, label in zip(every, given, strict=True):
        name = class_name(results)
        top.append(_suite(results, name, _mark(seen, name, label), unknown))
    for number in range(len(every), planned or 0):
        suite = ET.SubElement(top, "testsuite", name=f"{name}{(mark := _mark(seen, name, ''))}", time="0.000")
        case = ET.SubElement(suite, "testcase", classname=name, name=f"{_run}{mark}", time="0.000")
        say(
            case,
            "error",
            f"run {number + 1} of {planned} was never made: the series ended before it",
            "missing",
        )
    return document(top)


def write_junit(path: Path, runs: Iterable[Mapping[str, Any]], **options: Any) -> None:
    """Write the XML to a file, whole or not at all; `options` are those of `junit`.

    Raises: InfrastructureError when it cannot be written.
    """
    write_xml(path, junit(runs, **options))


def write_xml(path: Path, xml: str) -> None:
    """Write a document to the file that `--junit` named, whole or not at all.

    Raises: InfrastructureError when it cannot be written.
    """
    with whole(path, "choose another with --junit") as part:
        part.write_text(xml, encoding="utf-8")


def document(top: ET.Element) -> str:
    """The XML of a `testsuites` whose suites have their cases and `time`: what is to be counted is counted here."""
    for suite in [*top, top]:
        for attribute, tag in _counts.items():
            if suite is not top or tag != "skipped":
                suite.set(attribute, str(sum(1 for _ in suite.iter(tag))))
    top.set("time", f"{sum(float(suite.get('time', 0)) for suite in top):.3f}")
    ET.indent(top)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(top, encoding="unicode")}\n'


def class_name(results: Mapping[str, Any]) -> str:
    """`splitbrain.etcd.register`; `splitbrain` where a run came to no system and workload, `splitbrain.history` for a
    bare history.

    >>> class_name({"system": "etcd", "workload": "register"}), class_name({})
    ('splitbrain.etcd.register', 'splitbrain')
    """
    parts = [results.get("system"), results.get("workload")]
    if not any(parts) and results.get("history"):
        parts = ["history"]
    return ".".join(["splitbrain", *(name_part(str(part)) for part in parts if part)])


def name_part(text: str) -> str:
    """A part of a class's name, in which a dot would begin another.

    >>> name_part("etcd 3.6 set, faults kill, reads=serializable")
    'etcd_3_6_set_faults_kill_reads_serializable'
    """
    return re.sub(r"[^\w-]+", "_", text)


def _mark(seen: Counter[tuple[str, str]], name: str, label: str) -> str:
    seen[name, label] += 1
    number = seen[name, label]
    return f"{f'[{label}]' if label else ''}{f'[{number}]' if number > 1 else ''}"


def _suite(results: Mapping[str, Any], name: str, mark: str, unknown: Unknown) -> ET.Element:
    suite = ET.Element(
        "testsuite", name=xml_text(f"{name}{mark}", 300), time=seconds_text(results.get("seconds"))
    )
    if results.get("started"):
        suite.set("timestamp", xml_text(str(results["started"]).removesuffix("Z"), 40))
    held = ET.SubElement(suite, "properties")
    for about in _properties:
        if results.get(about) is not None:
            ET.SubElement(held, "property", name=about, value=xml_text(results[about], MESSAGE_CHARS))
    excused = results.get("verdict") == "invalid" and exit_code(results) != VIOLATION  # expected, or known
    accused = False
    for check, result in _checks(results).items():
        case = case_of(suite, name, f"{check}{mark}", result.get("seconds"))
        reason = str(result.get("reason") or "")
        if result.get("verdict") == "invalid":
            accused = True
            if excused:
                say(
                    case,
                    "system-out",
                    body=f"violated, as is expected or known: {reason}\n{_told(result, results)}",
                )
            else:
                say(case, "failure", reason, "violation", _told(result, results))
        elif result.get("verdict") != "valid":
            say(case, unknown, reason, "unknown", _again(results))
    case = case_of(suite, name, f"{_run}{mark}", None)
    _judge_whole(case, results, unknown, accused=accused)
    return suite


def _judge_whole(case: ET.Element, results: Mapping[str, Any], unknown: Unknown, *, accused: bool) -> None:
    """What the run's own case says: nothing when the run ended as it should, or when its checks say it already."""
    verdict, reason, code = results.get("verdict"), str(results.get("reason") or ""), exit_code(results)
    again = _again(results)
    if code == VALID or (code == VIOLATION and accused):
        return
    if results.get("error"):
        say(case, "error", reason, "error", f"{results['error']}\n{again}")
    elif results.get("interrupted"):
        say(case, "error", f"interrupted: {reason}", "interrupted", again)
    elif code == VIOLATION and verdict == "valid":
        say(case, "failure", "a violation was expected, and none was found", "expectation", again)
    elif code == VIOLATION:
        say(case, "failure", reason, "violation", again)
    else:
        kind = "vacuous" if (results.get("meaning") or {}).get("vacuous") is True else "unknown"
        say(case, unknown, reason, kind, again)


def _checks(results: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    checks = results.get("checks")
    every = checks.items() if isinstance(checks, Mapping) else ()
    return {str(name): result for name, result in every if isinstance(result, Mapping)}


def violations(results: Mapping[str, Any]) -> str:
    """What the violated checks of a run have found, check by check, and the command that runs it again."""
    parts = [
        f"{check}: {result.get('reason') or ''}\n{_anomalies_of(result)}".rstrip()
        for check, result in _checks(results).items()
        if result.get("verdict") == "invalid"
    ]
    return "\n".join([*parts, _again(results)])


def case_of(suite: ET.Element, name: str, case: str, seconds: Any) -> ET.Element:
    """A case of class `name`, passed as long as nothing is said in it; `seconds` None: not known."""
    return ET.SubElement(
        suite, "testcase", classname=xml_text(name, 300), name=xml_text(case, 300), time=seconds_text(seconds)
    )


def say(case: ET.Element, tag: str, message: str = "", kind: str = "", body: str = "") -> None:
    """Let a case say how it ended: `failure`, `error`, `skipped`; or `system-out`, which has a body and no more."""
    child = ET.SubElement(case, tag)
    if tag != "system-out":
        child.set("message", xml_text(message, MESSAGE_CHARS))
    if kind and tag != "skipped":
        child.set("type", kind)
    child.text = xml_text(body, TEXT_CHARS) or None


def _told(result: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """The anomalies of a check, and the command that runs it again."""
    return "\n".join(filter(None, (_anomalies_of(result), _again(results))))


def _anomalies_of(result: Mapping[str, Any]) -> str:
    """As a reader of a log wants them."""
    found = [a for a in result.get("anomalies") or () if isinstance(a, Mapping)]
    lines = []
    for anomaly in found[:_anomalies]:
        lines.append(
            f"{key_text(anomaly.get('key'))}: {anomaly.get('explanation') or 'no explanation was given'}"
        )
        window = [op for op in anomaly.get("window") or () if isinstance(op, Mapping)]
        lines += [f"  {_operation(op)}" for op in window[:_window]]
        if len(window) > _window:
            lines.append(f"  and {len(window) - _window} more operations, in results.json")
    if len(found) > _anomalies:
        lines.append(f"and {len(found) - _anomalies} more violations, in results.json")
    return "\n".join(lines)


def _operation(op: Mapping[str, Any]) -> str:
    asked, answered = op.get("value", op.get("input")), op.get("result", op.get("output"))
    outcome = str(op.get("type") or ("ok" if op.get("complete") is not None else "info"))
    text = op_text(
        str(op.get("f") or "operation"),
        plain(json_text(asked), 200),
        "" if answered is None else plain(json_text(answered), 200),
        _codes.get(outcome, 0),
    )
    process, node = op.get("process"), op.get("node")
    where = f"{'' if process is None else f'process {process}'}{f' on {node}' if node else ''}"
    start = op.get("start_ns")
    when = f"{start / 1e9:.6f} s  " if isinstance(start, int) else ""
    return f"{when}{text}  {outcome}  {where}".rstrip()


def _again(results: Mapping[str, Any]) -> str:
    lines = [f"run: {results['run']}"] if results.get("run") else []
    if results.get("command"):
        lines.append(f"again: {results['command']}")
    return "\n".join(lines)


def seconds_text(value: Any) -> str:
    """A time as the schema wants it; 0 for what is none."""
    good = isinstance(value, int | float) and 0 <= value < 1e9
    return f"{value if good else 0:.3f}"


def xml_text(value: Any, limit: int) -> str:
    r"""Text that XML can hold.

    >>> xml_text("a\x00b\x1b[31mred\ufffe", 20)
    'a␀bred�'
    """
    return _never.sub("\N{REPLACEMENT CHARACTER}", plain(value, limit))
