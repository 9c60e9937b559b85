"""`export --perfetto`: a trace that ui.perfetto.dev opens, in the trace-event JSON that Chrome began with.

Processes of the trace are groups of tracks: the faults, a track a family; the cluster, a track a node, with its roles
as the sampler saw them and what its logs say; the clients of each node, a track a process, with its operations. A
violation is a slice from its first operation to its last and an instant where it was complete; a change of leader is an
instant. An operation that never completed is a slice with no end.

Times are microseconds since the run's start. Form: "Trace Event Format", Google, 2016. Faults of one family may lie
across each other, which slices of a track may not; those have further tracks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from results.export import Source, summary
from results.export.operations import Operation, operations
from results.report_case import cases
from results.report_data import Run
from results.report_html import json_text, key_text, op_text, outcome_names, plain

_FAULTS, _VIOLATIONS, _CLUSTER, _CLIENTS = (
    1,
    2,
    3,
    10,
)  # pids of the trace; the last of the first node's clients
_chars: Final = 2000
_colours: Final = {"fail": "yellow", "info": "grey"}  # names of the format's own
_codes: Final = {name: code for code, name in outcome_names.items()}
_Event = dict[str, Any]


def write(source: Source, path: Path) -> None:
    """Write the trace of a run, or of a history. Raises: like `operations`."""
    run = source.run
    encode = msgspec.json.Encoder().encode
    with path.open("wb", buffering=1 << 20) as file:
        about = {k: plain(v, _chars) for k, v in summary(source).items()}
        file.write(b'{"displayTimeUnit":"ms","otherData":%b,"traceEvents":[\n' % encode(about))
        between = b""
        for event in _events(source, run):
            file.write(between + encode(event))
            between = b",\n"
        file.write(b"\n]}\n")


def _events(source: Source, run: Run) -> Iterator[_Event]:
    yield from _faults(run)
    yield from _violations(run)
    yield from _cluster(run)
    if source.history is not None:
        yield from _clients(source.history)


def _faults(run: Run) -> Iterator[_Event]:
    applied = [f for f in run.faults if f.applied is not None]
    if not applied:
        return
    yield _named("process_name", _FAULTS, 0, "faults")
    tracks: list[tuple[str, int]] = []  # family, and until when the track is taken
    for fault in applied:
        start, end = (
            fault.applied or 0,
            fault.undone if fault.undone is not None else max(run.until, fault.applied or 0),
        )
        track = next(
            (i for i, (family, until) in enumerate(tracks) if family == fault.family and until <= start), None
        )
        if track is None:
            track = len(tracks)
            tracks.append((fault.family, 0))
            yield _named("thread_name", _FAULTS, track + 1, fault.family)
        tracks[track] = fault.family, end
        about = {
            "fault": fault.fault,
            "nodes": ", ".join(fault.nodes),
            "says": fault.says,
            "took effect": fault.effective,
            "undone": fault.undone is not None,
        }
        yield _slice(fault.label or fault.family, "fault", _FAULTS, track + 1, start, end, about)


def _violations(run: Run) -> Iterator[_Event]:
    found = cases(run)
    if not found:
        return
    yield _named("process_name", _VIOLATIONS, 0, "violations")
    for track, case in enumerate(found, 1):
        start, end = case.times or (run.until, run.until)
        name = f"{case.check} of key {key_text(case.key)}"
        about = {"explanation": case.explanation, "kind": case.kind, "nodes": ", ".join(case.nodes)}
        yield _named("thread_name", _VIOLATIONS, track, name)
        yield _slice(name, "violation", _VIOLATIONS, track, start, end, about)
        yield _instant(name, "violation", _VIOLATIONS, track, end, about, scope="g")


def _cluster(run: Run) -> Iterator[_Event]:
    names = [n.node for n in run.nodes]
    names += sorted({e["node"] for e in run.events if e["node"]} - set(names))
    if not names:
        return
    yield _named("process_name", _CLUSTER, 0, "cluster")
    tracks = {node: track for track, node in enumerate(names, 1)}
    for node, track in tracks.items():
        yield _named("thread_name", _CLUSTER, track, node)
    for history in run.nodes:
        for span in history.spans:
            about = {"term": span.term, "error": span.error}
            yield _slice(span.role, "role", _CLUSTER, tracks[history.node], span.start, span.end, about)
    for event in run.events:
        about = {"text": event["text"], "term": event["term"]}
        track = tracks.get(event["node"], 0)
        yield _instant(event["kind"], "log", _CLUSTER, track, event["time"], about, scope="t")
    for change in run.leaders:
        name = f"{change.node} leads" if change.term is None else f"{change.node} leads, term {change.term}"
        about = {"previous": change.previous}
        yield _instant(name, "leader", _CLUSTER, tracks[change.node], change.time, about, scope="p")


def _clients(history: Path) -> Iterator[_Event]:
    pids: dict[str | None, int] = {}
    tids: dict[int | str, tuple[int, int]] = {}
    for op in operations(history):
        if op.node not in pids:
            pid = pids[op.node] = _CLIENTS + len(pids)
            yield _named("process_name", pid, 0, "clients" if op.node is None else f"clients of {op.node}")
        if op.process not in tids:
            tids[op.process] = pids[op.node], len(tids) + 1
            yield _named("thread_name", *tids[op.process], f"process {op.process}")
        yield _operation(op, *tids[op.process])


def _operation(op: Operation, pid: int, tid: int) -> _Event:
    value, result = (raw[:_chars].decode("utf-8", "replace") for raw in (op.value, op.result))
    about: dict[str, Any] = {
        "key": op.key.decode("utf-8", "replace"),
        "value": value,
        "result": result,
        "outcome": op.outcome,
        "invoke": op.invoke,
        "complete": op.complete,
        "error": op.error,
        "ext": None if op.ext == b"null" else op.ext[:_chars].decode("utf-8", "replace"),
    }
    text = op_text(op.f, value, result, _codes.get(op.outcome, 0))
    mark = "" if op.outcome == "ok" else f" ({op.outcome})"
    event = _slice(f"{plain(text, 60)}{mark}", f"operation,{op.f}", pid, tid, op.start_ns, op.end_ns, about)
    if op.outcome in _colours:
        event["cname"] = _colours[op.outcome]
    return event


def _slice(
    name: str, kind: str, pid: int, tid: int, start: int, end: int | None, about: Mapping[str, Any]
) -> _Event:
    """A stretch of time; with no end it goes on to the trace's."""
    event = {
        "name": plain(name, 200),
        "cat": kind,
        "pid": pid,
        "tid": tid,
        "ts": start / 1000,
        "args": _args(about),
    }
    return {**event, "ph": "B"} if end is None else {**event, "ph": "X", "dur": max(end - start, 0) / 1000}


def _instant(
    name: str, kind: str, pid: int, tid: int, time: int, about: Mapping[str, Any], *, scope: str
) -> _Event:
    """A moment; `scope` g is drawn over all tracks, p over the process's, t over its own."""
    event = {"name": plain(name, 200), "cat": kind, "ph": "i", "s": scope, "pid": pid, "tid": tid}
    return {**event, "ts": time / 1000, "args": _args(about)}


def _named(what: str, pid: int, tid: int, name: str) -> _Event:
    return {"name": what, "ph": "M", "pid": pid, "tid": tid, "args": {"name": plain(name, 200)}}


def _args(about: Mapping[str, Any]) -> dict[str, Any]:
    return {k: plain(v, _chars) if isinstance(v, str) else v if isinstance(v, int) else json_text(v)
            for k, v in about.items() if v is not None and v != ""}  # fmt: skip
