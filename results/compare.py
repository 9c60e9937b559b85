"""What differs between two runs: spec, versions, binaries, verdict, checks, figures, effects of faults.

A pure function of what three files of each run say (`spec.json`, `env.json`, `results.json`); a file
that is missing or broken is an empty one, and is said. It tells what differs, never why: two runs of
one spec and seed differ in every interleaving, so a figure that moved is no finding by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from results.index import part, read_row
from results.report.html import NONE, plain
from results.rundir import read_object, run_id

FORMAT: Final = 1
_files: Final = ("spec.json", "env.json", "results.json")
_own: Final = ("format",)  # says nothing about the run
_most_depth: Final = 6
_longest: Final = 400  # characters of a value that are shown

Flat = dict[str, Any]  # dotted name -> a plain value, or text for what is none


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as its files say it. `state` as in the index."""

    run: str
    title: str
    state: str
    spec: Mapping[str, Any]
    env: Mapping[str, Any]
    results: Mapping[str, Any]
    missing: tuple[str, ...] = ()


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One thing, on both sides; None: that side does not have it. `change` is relative to `a`, for
    numbers (0.5: half as much again)."""

    name: str
    a: Any
    b: Any
    same: bool
    change: float | None = None


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """What belongs together; `differing` counts its lines that are not the same."""

    name: str
    title: str
    lines: list[Line]
    differing: int


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """`a` and `b` are `{"run", "title", "state"}`; `summary` has a sentence for each thing to know first."""

    a: dict[str, str]
    b: dict[str, str]
    summary: list[str]
    sections: list[Section]
    format: int = FORMAT


def read_side(run_dir: Path) -> Side:
    """A run's side, however little its directory holds."""
    run_dir = run_dir.resolve()
    found = {name: read_object(run_dir / name) for name in _files}
    row = read_row(run_dir.parent.parent, run_dir)
    system = " ".join(filter(None, (row.system, row.version))) if row else ""
    title = " · ".join(filter(None, (system, row.workload if row else None))) or run_dir.name
    return Side(
        run=run_id(run_dir),
        title=title,
        state=row.state if row else "unfinished",
        spec=found["spec.json"] or {},
        env=found["env.json"] or {},
        results=found["results.json"] or {},
        missing=tuple(name for name, value in found.items() if value is None),
    )


def compare(a: Side, b: Side) -> Comparison:
    """The differences from `a` to `b`."""
    sections = [
        _section("verdict", "Verdict", _verdict(a), _verdict(b)),
        _section("spec", "Spec", _flat(a.spec), _flat(b.spec)),
        _section("versions", "Versions and machine", _versions(a), _versions(b)),
        _section("binaries", "Binaries", _binaries(a), _binaries(b)),
        _section("checks", "Checks", _checks(a), _checks(b)),
        _section("figures", "Figures", _figures(a), _figures(b)),
        _section("faults", "Faults", _faults(a), _faults(b)),
    ]
    names = ("run", "title", "state")
    return Comparison(
        a={name: getattr(a, name) for name in names},
        b={name: getattr(b, name) for name in names},
        summary=list(_summary(a, b, {section.name: section for section in sections})),
        sections=sections,
    )


def _section(name: str, title: str, a: Flat, b: Flat) -> Section:
    names = [*a, *(key for key in b if key not in a)]
    lines = [_line(key, a.get(key), b.get(key)) for key in names]
    lines = [line for line in lines if line.a is not None or line.b is not None]
    return Section(name=name, title=title, lines=lines, differing=sum(not line.same for line in lines))


def _line(name: str, a: Any, b: Any) -> Line:
    return Line(name=name, a=a, b=b, same=_same(a, b), change=None if name == "seed" else _change(a, b))


def _same(a: Any, b: Any) -> bool:
    """JSON's types are distinct: 1, true and "1" differ; 1 and 1.0 do not."""
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
    return bool(a == b and (numbers or type(a) is type(b)))


def _change(a: Any, b: Any) -> float | None:
    if any(not isinstance(x, int | float) or isinstance(x, bool) for x in (a, b)) or not a:
        return None
    return round((float(b) - float(a)) / abs(float(a)), 4)


def _summary(a: Side, b: Side, found: Mapping[str, Section]) -> Iterator[str]:
    for side, letter in ((a, "A"), (b, "B")):
        if side.missing:
            yield f"{letter} ({side.run}) has no readable {' and '.join(side.missing)}."
    if a.state == b.state:
        yield f"Both are {a.state}."
    else:
        yield f"A is {a.state}, B is {b.state}."
    settings = [line.name for line in found["spec"].lines if not line.same]
    if a.spec and b.spec:
        words = _some(settings, "setting of the spec", "settings of the spec")
        yield f"{words}." if settings else "The specs are the same, seed included."
    programs = [line.name for line in found["binaries"].lines if not line.same]
    if found["binaries"].lines:
        yield f"{_some(programs, 'binary', 'binaries')}." if programs else "The binaries are the same."
    changed = [line.name for line in found["checks"].lines if not line.same and "." not in line.name]
    if changed:
        yield f"{_some(changed, 'verdict of a check', 'verdicts of checks')}."


def _some(names: list[str], one: str, many: str = "") -> str:
    """`2 settings differ (seed, nodes)`; the names of the first few."""
    first = ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
    word = one if len(names) == 1 else many or f"{one}s"
    return f"{len(names)} {word} differ{'s' if len(names) == 1 else ''} ({first})"


def _verdict(side: Side) -> Flat:
    r = side.results
    return {
        "state": side.state,
        "reason": r.get("reason"),
        "error": r.get("error"),
        "vacuous": part(r, "meaning").get("vacuous"),
        "expected": r.get("expect"),
        "interrupted": r.get("interrupted"),
        "warnings": _size(r.get("warnings")),
        "observations": _size(r.get("observations")),
    }


def _versions(side: Side) -> Flat:
    flat = {"system": side.results.get("system") or side.spec.get("system")}
    install = part(side.env, "install")
    flat["version"] = side.results.get("version") or install.get("version")
    plain = {k: v for k, v in side.env.items() if k not in ("install", "capabilities")}
    flat |= _flat(plain)
    for name, reason in part(side.env, "capabilities").items():
        flat[f"capability {name}"] = "yes" if reason is None else f"no: {reason}"
    return flat


def _binaries(side: Side) -> Flat:
    return _flat(part(part(side.env, "install"), "sha256"))


def _checks(side: Side) -> Flat:
    flat: Flat = {}
    for name, check in part(side.results, "checks").items():
        if isinstance(check, dict):
            flat[name] = check.get("verdict")
            flat[f"{name}.anomalies"] = _size(check.get("anomalies"))
            flat[f"{name}.engine"] = check.get("engine")
    return flat


def _figures(side: Side) -> Flat:
    r = side.results
    latency = part(part(part(part(r, "checks"), "operations"), "detail"), "latency_ms")
    leadership, rate = part(r, "leadership"), part(r, "rate")
    recovery = [
        x["seconds"] for x in _objects(r.get("recovery_s")) if isinstance(x.get("seconds"), int | float)
    ]
    flat: Flat = {
        "operations": r.get("ops"),
        "seconds": r.get("seconds"),
        "operations/s achieved": rate.get("achieved"),
        "latency p50 (ms)": latency.get("p50"),
        "latency p99 (ms)": latency.get("p99"),
        "latency max (ms)": latency.get("max"),
        "elections": leadership.get("elections", r.get("leader_changes")),
        "elections without a fault": leadership.get("elections_unprovoked"),
        "without a leader (s)": leadership.get("without_leader_s"),
        "recovery, median (s)": round(median(recovery), 3) if recovery else None,
        "recovery, longest (s)": max(recovery, default=None),
        "stamp lag p99 (ms)": part(r, "lag_ms").get("p99"),
        "waited for other runs (s)": r.get("waited_s"),
    }
    for f, counts in part(r, "outcomes").items():
        flat |= {f"{f} {kind}": n for kind, n in (counts.items() if isinstance(counts, dict) else ())}
    return flat


def _faults(side: Side) -> Flat:
    flat: Flat = {}
    for family, found in part(side.results, "faults").items():
        if isinstance(found, dict):
            flat |= {
                f"{family} applied": found.get("applied"),
                f"{family} effective": found.get("effective"),
                f"{family} overlapping operations": found.get("overlapping_ops"),
            }
    return flat


def _flat(value: Mapping[str, Any], before: str = "", depth: int = 0) -> Flat:
    """Nested objects with dotted names; lists as text, in order."""
    flat: Flat = {}
    for key, found in value.items():
        name = f"{before}{key}"
        if name in _own:
            continue
        if isinstance(found, dict) and depth < _most_depth:
            flat |= _flat(found, f"{name}.", depth + 1)
        elif isinstance(found, list) and all(isinstance(x, str) for x in found):
            flat[name] = ", ".join(found)
        elif isinstance(found, dict | list):
            flat[name] = msgspec.json.encode(found).decode()
        else:
            flat[name] = found
    return flat


def _objects(value: Any) -> list[dict[str, Any]]:
    return [x for x in value if isinstance(x, dict)] if isinstance(value, list) else []


def _size(value: Any) -> int | None:
    return len(value) if isinstance(value, list) else None


def shown(value: Any, name: str = "") -> str:
    """A value for people; `NONE` where a side has none."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain(f"{value:,}" if isinstance(value, int) and name != "seed" else value, _longest)


def change(line: Line) -> str:
    """`+12%`; nothing where it says nothing."""
    if line.change is None:
        return ""
    return f"{line.change:+.0%}" if abs(line.change) < 10 else f"{line.change + 1:,.0f}x"
