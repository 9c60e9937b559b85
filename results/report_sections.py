"""The report's sections that are text: verdict, properties, meaning, faults, cluster, logs, words.

They are made here, once, and need no script: what a reader without JavaScript, a screen reader and
a printer get is the same page without its plots.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from harness.core.ledger import FaultRecord
from results.report_data import COLOURS, Run, as_dict, as_int, as_list, as_number
from results.report_html import (
    NONE,
    count,
    esc,
    key_text,
    outcome_cell,
    outcome_names,
    plural,
    seconds,
    section,
    shape,
    span,
    table,
    verdict_cell,
)
from results.report_ops import INFO

_codes: Final = {name: code for code, name in outcome_names.items()}
_rows: Final = 200  # of any table that a run can make long
_verdict_words: Final = {
    "valid": ("Valid", "Every check passed. No violation was found in what this run recorded."),
    "invalid": ("Invalid", "The system broke a promise, and the recorded history proves it."),
    "unknown": ("Unknown", "This run decides nothing. It is not a success."),
    "error": (
        "Error",
        "The machine, the cluster or the harness failed: the verdict is unknown, nothing is accused.",
    ),
    "unfinished": ("Unfinished", "There is no verdict: this history has not been judged."),
}


def outcome_of(run: Run) -> str:
    """Which of the report's faces a run gets: a verdict, `error` or `unfinished`."""
    verdict = run.results.get("verdict")
    if not run.results or verdict not in ("valid", "invalid", "unknown"):
        return "unfinished"
    return "error" if verdict == "unknown" and run.results.get("error") else str(verdict)


def vacuous(run: Run) -> bool:
    """Whether the run passed without meaning anything."""
    return as_dict(run.results.get("meaning")).get("vacuous") is True


def title_of(run: Run) -> str:
    """What the run was: `etcd 3.6.16 · register`."""
    system = " ".join(str(x) for x in (run.said("system"), run.said("version")) if x)
    return " · ".join(x for x in (system, str(run.said("workload") or "")) if x) or run.path.name


def hero(run: Run) -> str:
    """The verdict, why, and everything needed to run it again."""
    face = outcome_of(run)
    word, meaning = _verdict_words[face]
    tags = []
    if vacuous(run):
        tags.append("vacuous")
        meaning = "Nothing was violated, but too little happened for that to mean anything."
    if run.results.get("interrupted"):
        tags.append("interrupted")
    expect = run.results.get("expect") or (run.spec.get("expect") if run.results else None)
    if expect:
        met = run.results.get("verdict") == expect and not run.results.get("unmet")
        tags.append("as expected" if met else f"expected {expect}")
    marks = "".join(f'<span class="tag">{esc(tag)}</span>' for tag in tags)
    sign = shape({"unfinished": "unknown"}.get(face, face))
    return (
        f'<section class="hero f-{face}" aria-label="Verdict">'
        f'<div class="call">{sign}<div><h1>{word}{marks}</h1><p class="means">{esc(meaning)}</p></div></div>'
        f'<p class="reason">{esc(_reason(run, face))}</p>'
        f"{_error(run)}{_first_anomaly(run)}{_facts(run)}{_command(run)}{_notes(run)}</section>"
    )


def _reason(run: Run, face: str) -> str:
    reason = run.results.get("reason")
    if reason:
        return str(reason)
    if face != "unfinished":
        return "No reason was given."
    if not run.journal:
        return "There is neither a result nor a journal: the run ended before its first operation."
    if run.ended is None:
        last = f" in the phase “{run.phases[-1][0]}”" if run.phases else ""
        return (
            f"The journal has no last line: the run goes on, or its controller was killed{last}. What was"
            f" recorded can be judged with splitbrain check {run.run}, what was broken mended with"
            f" splitbrain heal {run.run}."
        )
    return (
        f"The journal ends with “{run.ended}”, but there is no result."
        f" Judge what was recorded with splitbrain check {run.run}."
    )


def _error(run: Run) -> str:
    text = str(run.results.get("error") or run.end_error or "")
    text = text.removeprefix(str(run.results.get("reason") or "")).strip("\n")  # often its first line
    if not text:
        return ""
    return f'<pre class="error" tabindex="0">{esc(text)}</pre>'


def _first_anomaly(run: Run) -> str:
    if not run.anomalies:
        return ""
    check, anomaly = run.anomalies[0]
    where = "".join(f"<b>{esc(n)}</b> " for n in as_list(anomaly.get("nodes"))[:8])
    more = len(run.anomalies) - 1
    rest = f" and {plural(more, 'more violation')}" if more else ""
    return (
        '<div class="finding"><p class="what">'
        f"{esc(check)} <span>of key</span> <b>{esc(key_text(anomaly.get('key')), 80)}</b>"
        f"{f' <span>on</span> {where}' if where else ''}</p>"
        f"<p>{esc(anomaly.get('explanation') or 'No explanation was given.')}</p>"
        f'<p class="go"><a href="#anomalies">See the operations</a>{esc(rest)}</p></div>'
    )


def _facts(run: Run) -> str:
    ops = run.results.get("ops")
    if ops is None and run.ops is not None:
        ops = len(run.ops)
    lag = as_dict(run.results.get("lag_ms"))
    length = as_number(run.results.get("seconds"))
    nodes = run.said("nodes")
    changes = run.results.get("leader_changes")
    families = run.said("faults")
    families = list(families) if isinstance(families, dict | list) else []
    facts: list[tuple[str, str, str]] = [
        ("System", " ".join(str(x) for x in (run.said("system"), run.said("version")) if x), ""),
        ("Workload", str(run.said("workload") or ""), ""),
        ("Cluster", f"{nodes} nodes, {run.said('provider') or '?'}" if nodes else "", ""),
        ("Faults", ", ".join(str(f) for f in families[:30]) or "none", ""),
        ("Operations", count(ops) if ops is not None else "", ""),
        ("Duration", f"{length:.1f} s" if length is not None else span(run.until) if run.until else "", ""),
        ("Leader changes", str(changes) if changes is not None else "", "as the sampler saw them"),
        ("Seed", str(run.said("seed", "")), "the same seed gives the same operations and faults"),
        ("Started", _started(run), ""),
        (
            "Stamp lag p99",
            f"{lag['p99']} ms" if lag.get("p99") is not None else "",
            "how late the harness itself stamped answers",
        ),
        ("Run", run.run, str(run.said("run", ""))),
    ]
    cells = "".join(
        f"<div{f' title={chr(34)}{esc(hint)}{chr(34)}' if hint else ''}><dt>{esc(name)}</dt>"
        f"<dd>{esc(value, 200)}</dd></div>"
        for name, value, hint in facts
        if value
    )
    return f'<dl class="facts">{cells}</dl>'


def _started(run: Run) -> str:
    started = run.results.get("started")
    if started:
        return str(started).replace("T", " ").replace("Z", " UTC")
    if run.epoch_real_ns is None:
        return ""
    try:
        when = datetime.fromtimestamp(run.epoch_real_ns / 1e9, tz=UTC)
    except (ValueError, OverflowError, OSError):
        return ""
    return when.strftime("%Y-%m-%d %H:%M:%S UTC")


def _command(run: Run) -> str:
    command = run.results.get("command")
    if not command:
        return ""
    return (
        '<div class="command"><span class="label">Run it again</span>'
        f'<code id="command" tabindex="0">{esc(command)}</code>'
        '<button type="button" data-copy="command">Copy</button></div>'
    )


def _notes(run: Run) -> str:
    groups = (
        ("Observation", as_list(run.results.get("observations"))),
        ("Warning", as_list(run.results.get("warnings"))),
        ("Known", as_list(run.results.get("caveats"))),
        ("Report", run.problems),
    )
    items = "".join(
        f'<li><span class="label">{name}</span><span>{esc(text, 600)}</span></li>'
        for name, texts in groups
        for text in texts[:20]
    )
    return f'<ul class="notes">{items}</ul>' if items else ""


def properties(run: Run) -> str:
    """Each checker's answer."""
    checks = run.checks
    if not checks:
        body = '<p class="empty">No check has judged this run.</p>'
        return section("properties", "Properties", body)
    rows = []
    for name, check in checks.items():
        time = as_number(check.get("seconds"))
        found = len(as_list(check.get("anomalies")))
        rows.append(
            (
                f"<b>{esc(name)}</b>",
                verdict_cell(check.get("verdict")),
                esc(check.get("reason")),
                esc(check.get("engine") or NONE),
                f"{time:.2f} s" if time is not None else NONE,
                f'<a href="#anomalies">{found:,}</a>' if found else "0",
            )
        )
    head = ("check", "verdict", "why", "engine", "#time", "#violations")
    return section(
        "properties",
        "Properties",
        table(head, rows, "checks", "Properties"),
        "What was checked. Unknown is never success.",
    )


def meaning(run: Run) -> str:
    """Whether the verdict means something: demands, outcomes, faults with their evidence, errors."""
    parts = [p for p in (_demands(run), _outcomes(run)) if p]
    body = f'<div class="pair">{"".join(parts)}</div>' if parts else ""
    body += _faults(run) + _errors(run) + _holes(run)
    if not body:
        body = '<p class="empty">The run left nothing to judge this by.</p>'
    return section(
        "meaning",
        "Was it meaningful?",
        body,
        "A pass counts only where enough happened while the faults were in force.",
    )


def _demands(run: Run) -> str:
    demands = [r for r in as_list(as_dict(run.results.get("meaning")).get("rows")) if isinstance(r, dict)]
    rows = [
        (
            esc(r.get("what")),
            esc(count(r.get("value"))),
            esc(count(r.get("needed"))),
            '<span class="yes">met</span>' if r.get("met") is True else '<span class="no">not met</span>',
        )
        for r in demands[:_rows]
    ]
    head = ("demand", "#seen", "#needed", "")
    return f"<div>{table(head, rows, 'demands', 'Demands on the run')}</div>" if rows else ""


def _outcomes(run: Run) -> str:
    rows = []
    for f, given in list(as_dict(run.results.get("outcomes")).items())[:_rows]:
        numbers = [max(as_int(as_dict(given).get(k)) or 0, 0) for k in ("ok", "fail", "info")]
        whole = sum(numbers) or 1
        bar = "".join(
            f'<i class="b-{name}" style="width:{100 * n / whole:.2f}%"></i>'
            for name, n in zip(("ok", "fail", "info"), numbers, strict=True)
        )
        rows.append(
            (
                f"<b>{esc(f)}</b>",
                *(f"{n:,}" for n in numbers),
                f'<span class="bar" aria-hidden="true">{bar}</span>',
            )
        )
    head = ("operation", "#ok", "#fail", "#info", "share")
    return f"<div>{table(head, rows, 'outcomes', 'Outcomes by operation')}</div>" if rows else ""


def colour_of(fault: FaultRecord) -> str:
    """The colour role of a fault; unknown roles share one."""
    return fault.colour if fault.colour in COLOURS else "other"


def _faults(run: Run) -> str:
    if not run.faults:
        wanted = run.spec.get("faults")
        return (
            '<p class="empty">No fault was injected.</p>'
            if not wanted
            else ('<p class="empty">Faults were asked for, but the ledger holds none.</p>')
        )
    recovery = {
        str(r.get("fault")): as_number(r.get("seconds"))
        for r in as_list(run.results.get("recovery_s"))
        if isinstance(r, dict)
    }
    items = "".join(_fault(f, recovery) for f in run.faults[:_rows])
    more = len(run.faults) - _rows
    rest = f'<p class="empty">and {more:,} more faults</p>' if more > 0 else ""
    effective = sum(f.effective for f in run.faults)
    tally = f"{plural(len(run.faults), 'fault')} planned, {effective:,} shown to have taken effect"
    return f'<h3>Faults <span class="note">{tally}</span></h3><ol class="faults">{items}</ol>{rest}'


def _fault(fault: FaultRecord, recovery: dict[str, float | None]) -> str:
    if fault.applied is None:
        when = f"planned at {seconds(fault.planned)}, never applied"
    elif fault.undone is None:
        when = f"{seconds(fault.applied)} {NONE} not undone in this ledger"
    else:
        length = span(max(fault.undone - fault.applied, 0))
        when = f"{seconds(fault.applied)} {NONE} {seconds(fault.undone)} ({length})"
    back = recovery.get(fault.fault)
    if back is not None:
        when += f", recovered in {back:g} s"
    effect = (
        '<span class="yes">took effect</span>'
        if fault.effective
        else '<span class="no">no effect shown</span>'
    )
    evidence = "".join(
        f'<li><span class="label">{esc(e.get("phase"))}</span><span>{esc(e.get("says"), 600)}</span></li>'
        for e in fault.evidence[:12]
    )
    failed = f'<p class="no">apply failed: {esc(fault.error, 600)}</p>' if fault.error else ""
    target = f":{fault.target}" if fault.target else ""
    glyph = f'<span class="glyph" aria-hidden="true">{esc(fault.glyph[:2])}</span>'
    return (
        f'<li class="c-{colour_of(fault)}">{glyph}<div>'
        f"<p><b>{esc(fault.label or fault.family)}</b> <code>{esc(fault.family + target)}</code> {effect}"
        f'<span class="when">{esc(fault.fault)} · {esc(when)}</span></p>'
        f'<p>{esc(fault.says, 600)}</p>{failed}<ul class="evidence">{evidence}</ul></div></li>'
    )


def _errors(run: Run) -> str:
    found = [e for e in as_list(run.results.get("errors")) if isinstance(e, dict)]
    if not found:
        return ""
    rows = [
        (
            outcome_cell(_codes.get(str(e.get("type")), INFO)),
            esc(e.get("f")),
            f"<code>{esc(e.get('error'), 300)}</code>",
            esc(count(e.get("count"))),
        )
        for e in found[:_rows]
    ]
    return "<h3>Errors that clients met</h3>" + table(
        ("outcome", "operation", "error", "#count"), rows, "errors", "Errors"
    )


def _holes(run: Run) -> str:
    found = [h for h in as_list(run.results.get("holes")) if isinstance(h, dict)]
    items = "".join(
        f"<details><summary><code>{esc(h.get('exception'), 300)}</code> {esc(count(h.get('count')))} times"
        f"</summary><pre>{esc(h.get('traceback'), 8000)}</pre></details>"
        for h in found[:20]
    )
    if not items:
        return ""
    return (
        '<h3>Holes in the client\'s error table <span class="note">exceptions that it does not know; they'
        f" count as info</span></h3>{items}"
    )


def cluster_table(run: Run) -> str:
    """Each node's last words, and who led when."""
    if not run.nodes:
        return '<p class="empty">The sampler left no record of the nodes.</p>'
    rows = []
    for node in run.nodes:
        down = sum(s.end - s.start for s in node.spans if s.role == "down")
        led = sum(s.end - s.start for s in node.spans if s.role == "leader")
        last = [esc(count(node.last.get(k))) or NONE for k in ("term", "commit", "applied", "revision")]
        role = node.spans[-1].role if node.spans else NONE
        rows.append(
            (f"<b>{esc(node.node)}</b>", esc(role), *last, span(led), span(down), f"{node.samples:,}")
        )
    head = (
        "node",
        "last role",
        "#term",
        "#commit",
        "#applied",
        "#revision",
        "#led for",
        "#unreachable",
        "#samples",
    )
    changes = "".join(
        f"<li><span class=label>{seconds(c.time)}</span><span><b>{esc(c.node)}</b> leads"
        f"{f' in term {c.term}' if c.term is not None else ''}"
        f"{f', after {esc(c.previous)}' if c.previous else ''}</span></li>"
        for c in run.leaders[:_rows]
    )
    lists = f'<ul class="evidence leaders">{changes}</ul>' if changes else ""
    said = "".join(
        f"<li><span class=label>{seconds(e['time'])}</span><span><b>{esc(e['node'])}</b> {esc(e['kind'])}: "
        f"{esc(e['text'], 300)}</span></li>"
        for e in run.events[:_rows]
    )
    more = f" (the first {_rows})" if len(run.events) > _rows else ""
    events = (
        f"<details><summary>What the logs say: {plural(len(run.events), 'event')}{more}</summary>"
        f'<ul class="evidence">{said}</ul></details>'
        if said
        else ""
    )
    led_by = lists or '<p class="empty">Nobody was seen leading.</p>'
    return f"{table(head, rows, 'nodes', 'Nodes')}<h3>Who led</h3>{led_by}{events}"


def logs(run: Run) -> str:
    """The last lines of each log."""
    if not run.logs:
        return section("logs", "Logs", '<p class="empty">There are no logs.</p>')
    face = outcome_of(run)
    items = []
    for log in run.logs:
        before = f", {log.left_out:,} bytes before" if log.left_out else ""
        unfold = " open" if face in ("error", "unfinished") and log.lines else ""
        text = "\n".join(esc(line) for line in log.lines) or "(empty)"
        items.append(
            f"<details{unfold}><summary><code>{esc(log.name)}</code> "
            f'<span class="note">{plural(len(log.lines), "line")}{before}</span></summary>'
            f'<pre tabindex="0">{text}</pre></details>'
        )
    return section("logs", "Logs", "".join(items), "The last lines of each; the whole files are in logs/.")


_words: Final = (
    ("ok", "The operation happened, and this is its answer."),
    ("fail", "The operation certainly did not happen."),
    (
        "info",
        "Nobody knows: it may have happened, may happen later, or never (a timeout, a lost connection).",
    ),
    (
        "process",
        "One client, doing one thing at a time. After an info it retires and a new one takes its place.",
    ),
    (
        "linearizable",
        "Each operation seems to take effect at one moment between its invocation and its completion.",
    ),
    (
        "window",
        "The smallest part of the history found that cannot be explained by any order of its operations.",
    ),
    ("term", "The number of a leader's reign. A higher term deposes a lower one."),
    ("vacuous", "Passed without meaning anything: a fault had no effect, or too few operations met it."),
)


def words() -> str:
    """The terms, explained."""
    items = "".join(f"<div><dt>{esc(word)}</dt><dd>{esc(text)}</dd></div>" for word, text in _words)
    return (
        '<section id="words" aria-label="Words"><details><summary>Words</summary>'
        f'<dl class="words">{items}</dl></details></section>'
    )


def faults_during(run: Run, start: int, end: int) -> Iterable[FaultRecord]:
    """The faults in force at some moment of a stretch of time."""
    for fault in run.faults:
        if (
            fault.applied is not None
            and fault.applied <= end
            and (fault.undone is None or fault.undone >= start)
        ):
            yield fault
