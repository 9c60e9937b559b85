"""The verdict card: the answer, why, everything needed to trust it and to run it again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from results.report.case import Case, Shown
from results.report.data import Run, as_dict, as_int, as_list, as_number
from results.report.html import count, esc, key_text, plain, plural, seconds, shape, span
from results.report.when import faults_before, faults_during, long_wall, span_text, zone
from results.report.words import term

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


def hero(run: Run, found: Sequence[Case] = ()) -> str:
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
        f"{_error(run)}{_five_answers(run, found)}{_facts(run)}{_command(run)}{_notes(run)}</section>"
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


def _five_answers(run: Run, found: Sequence[Case]) -> str:
    """What was violated, by which operations, on which node, under which fault; the command stands below."""
    if not found:
        return ""
    case = found[0]
    said = "" if case.explanation in str(run.results.get("reason")) else f"<p>{esc(case.explanation)}</p>"
    by = "".join(f"<li>{_by(op)}</li>" for op in _few(case))
    of = f" of key <b>{esc(key_text(case.key), 80)}</b>" if case.key is not None else ""
    rows = [
        ("violated", f"<b>{esc(case.check)}</b>{of}"),
        ("by", f"<ul>{by}</ul>" if by else "no operation: it is in the logs or the nodes' own state"),
        ("on", f"<b>{esc(', '.join(case.nodes), 200)}</b>" if case.nodes else ""),
    ]
    if case.times:
        under = [f"{f.label or f.family} {f.fault}: {f.says}" for f in faults_during(run, *case.times)][:4]
        under += [
            f"{f.label or f.family} {f.fault}, over {span(ns)} before: {f.says}"
            for f, ns in faults_before(run, case.times[0])
        ][:2]
        told = "".join(f"<li>{esc(text, 200)}</li>" for text in under)
        rows.append(("under", f"<ul>{told}</ul>" if told else "no fault was in force"))
        rows.append(("at", f"{span_text(run, *case.times)}"))
    more = len(run.anomalies) - 1
    rest = f" and {plural(more, 'more violation')}" if more else ""
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows if value)
    return (
        f'<div class="finding" id="answers"><dl>{listed}</dl>{said}'
        f'<p class="go"><a href="#anomalies">See how it came about</a>{esc(rest)}</p></div>'
    )


def _few(case: Case) -> list[Shown]:
    """The operations named on the card: all of a few, else the first and the last two."""
    ops = [op for op in case.ops if not op.assumed]
    return ops if len(ops) <= 4 else [*ops[:2], *ops[-2:]]


def _by(op: Shown) -> str:
    where = f" on {op.node}" if op.node else ""
    who = f"process {op.process}{where}" if op.process else where
    return f"<code>{esc(op.text, 120)}</code> <span>{esc(who, 80)}, {seconds(op.started)}</span>"


def _facts(run: Run) -> str:
    ops = run.results.get("ops")
    if ops is None and run.ops is not None:
        ops = len(run.ops)
    nodes = run.said("nodes")
    changes = run.results.get("leader_changes")
    families = run.said("faults")
    families = list(families) if isinstance(families, dict | list) else []
    facts: list[tuple[str, str, Any, str]] = [
        ("System", "", " ".join(str(x) for x in (run.said("system"), run.said("version")) if x), ""),
        ("Workload", "", run.said("workload"), ""),
        ("Cluster", "", f"{nodes} nodes, {run.said('provider') or '?'}" if nodes else "", ""),
        ("Faults", "", ", ".join(str(f) for f in families[:30]) or "none", ""),
        ("Operations", "", count(ops) if ops is not None else "", ""),
        ("Duration", "", _duration(run), ""),
        ("Leader changes", "", changes, "as the sampler saw them while load was on"),
        ("Seed", "seed", run.said("seed"), ""),
        ("Started", "", _started(run), "time 0 of the run: all times in seconds count from here"),
        ("Stamp lag p99", "stamp lag", *_lag(run)),
        ("Sensitivity", "sensitivity", *_sensitivity(run)),
        ("Versions", "", *_versions(run)),
        ("Run", "", run.run, str(run.said("run", ""))),
    ]
    cells = "".join(
        f"<div{f' title={chr(34)}{esc(hint)}{chr(34)}' if hint else ''}>"
        f"<dt>{term(word, name) if word else esc(name)}</dt><dd>{esc(value, 200)}</dd></div>"
        for name, word, value, hint in facts
        if value not in (None, "")
    )
    return f'<dl class="facts">{cells}</dl>'


def _duration(run: Run) -> str:
    length = as_number(run.results.get("seconds"))
    return f"{length:.1f} s" if length is not None else span(run.until) if run.until else ""


def _started(run: Run) -> str:
    started = run.results.get("started")
    if isinstance(started, str) and started:
        return started.replace("T", " ").replace("Z", f" {zone}")
    return long_wall(run)


def _lag(run: Run) -> tuple[str, str]:
    """The stamp lag, and what is to be thought of it."""
    lag = as_dict(run.results.get("lag_ms"))
    p99 = as_number(lag.get("p99"))
    if p99 is None:
        return "", ""
    operations = as_dict(as_dict(run.checks.get("operations")).get("detail"))
    median = as_number(as_dict(operations.get("latency_ms")).get("p50"))
    if median is None:
        return f"{p99:g} ms", ""
    if p99 > median:
        return (
            f"{p99:g} ms, above the median latency",
            f"the median latency is {median:g} ms: violations may hide",
        )
    return f"{p99:g} ms", f"below the median latency of {median:g} ms"


def _sensitivity(run: Run) -> tuple[str, str]:
    """Which share of planted violations would have been seen; for a valid run, how to find out."""
    shares = as_dict(run.results.get("sensitivity"))
    told = []
    for kind, share in shares.items():
        planted, detected = (as_int(as_dict(share).get(name)) for name in ("planted", "detected"))
        if planted and detected is not None:
            told.append(
                f"{100 * detected / planted:.0f}% of {planted:,} planted {plain(kind, 40).replace('-', ' ')}s"
            )
    if told:
        return "; ".join(told), "the share that the check would have seen in this history"
    judged = as_dict(as_dict(run.checks.get("linearizable")).get("detail")).get("model")
    if run.results.get("verdict") == "valid" and judged in ("register", "cas-register"):
        return "not measured", f"splitbrain check {run.run} --sensitivity measures it"
    return "", ""


def _versions(run: Run) -> tuple[str, str]:
    """What ran it, and in full what was tested."""
    env = run.env
    said = [f"splitbrain {env['splitbrain']}" if env.get("splitbrain") else ""]
    said += [f"{name} {env[name]}" for name in ("python", "kernel") if env.get(name)]
    sums = as_dict(as_dict(env.get("install")).get("sha256"))
    return ", ".join(s for s in said if s), "; ".join(
        f"sha256 of {k}: {v}" for k, v in list(sums.items())[:20]
    )


def _command(run: Run) -> str:
    command = run.results.get("command")
    if not isinstance(command, str) or not command:
        if not run.spec:
            return ""
        command = f"splitbrain replay {run.run}"
    words = " ".join(f"<span>{word}</span>" for word in esc(command).split(" "))  # lines break between them
    return (
        '<div class="command"><span class="label">Run it again</span>'
        f'<code id="command" tabindex="0">{words}</code>'
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
