"""`report.html`: one file that works offline from `file://`, written for every outcome.

A pure function of the run directory. Where the values of a very large run do not fit they stand in a file beside
it (`values`), which a page that is served asks for as it needs it. Text is made here (`verdict` to `logs`),
plots are drawn in the page from compact columns (`payload`, `assets/`). A section that fails
is replaced by a sentence in its place; should everything fail, a page with the verdict and the
error is written. The page may run its own script and nothing else: its policy names that script's
hash and forbids every address (but, where values stand beside it, that of the server it came from), so that nothing a
system wrote can act even if it were not escaped.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import html
import re
import traceback
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import BinaryIO, Final

from harness.core.errors import InfrastructureError
from results.report.anomaly import anomalies
from results.report.case import Case, cases
from results.report.checks import properties
from results.report.cluster import cluster
from results.report.data import read_run
from results.report.html import esc, section, shapes
from results.report.logs import logs
from results.report.meaning import meaning
from results.report.payload import Payload, payload
from results.report.plots import operations_section, plots_section
from results.report.values import NAME as VALUES
from results.report.verdict import hero, outcome_of, title_of
from results.report.words import words
from results.rundir import read_object, run_id

NAME: Final = "report.html"
_scripts: Final = (
    "core.js",
    "values.js",
    "strips.js",
    "lanes.js",
    "filter.js",
    "timeline.js",
    "minimap.js",
    "table.js",
    "link.js",
    "terms.js",
    "anomaly.js",
    "logs.js",
    "main.js",
)
_slot: Final = re.compile(r"\{\{(\w+)\}\}")


def write_report(run_dir: Path) -> Path:
    """Write `report.html` of a run directory, whatever the run left there, and `report.values` where it needs one;
    returns the page's path.

    Raises: InfrastructureError when a file cannot be written, nothing else.
    """
    path, values = run_dir / NAME, run_dir / VALUES
    part, values_part = run_dir / f".{NAME}.part", run_dir / f".{VALUES}.part"
    try:
        with values_part.open("wb") as beside:
            try:
                page, moved = build(run_dir, beside)
            except Exception:  # noqa: BLE001 - a run without a report is what this package exists to avoid
                page, moved = _minimal(run_dir, traceback.format_exc()), False
        part.write_text(page, encoding="utf-8", errors="replace")
        if moved:
            values_part.replace(values)
        else:
            values.unlink(missing_ok=True)  # it would be another page's
        part.replace(path)
    except OSError as e:
        raise InfrastructureError(
            f"cannot write {path}: {e.strerror}; free some space and run `splitbrain report` on the run"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            values_part.unlink(missing_ok=True)
    return path


def build(run_dir: Path, beside: BinaryIO | None = None) -> tuple[str, bool]:
    """The page as text, and whether values were written to `beside`, which belongs to it then."""
    run = read_run(run_dir)
    found: list[Case] = []
    data = Payload(meta="null", columns="")
    try:
        found = cases(run)
        try:
            data = payload(run, found, beside=beside)
        except OSError:  # no room for the values: the page has the rest
            if beside is not None:
                beside.truncate(0)
            data = payload(run, found)
        if data.left_out:
            run.problems.append(data.left_out)
    except Exception as e:  # noqa: BLE001 - plots are an addition; the words stand without them
        run.problems.append(f"The plots could not be prepared ({type(e).__name__}: {e}).")
    parts: list[tuple[str, str, Callable[[], str]]] = [
        ("verdict", "Verdict", lambda: hero(run, found)),
        ("properties", "Properties", lambda: properties(run)),
        ("meaning", "Was it meaningful?", lambda: meaning(run)),
        ("time", "Over time", lambda: plots_section(run)),
        ("cluster", "Cluster", lambda: cluster(run)),
        ("anomalies", "Violations", lambda: anomalies(run, found)),
        ("operations", "Operations", lambda: operations_section(run)),
        ("logs", "Node logs", lambda: logs(run)),
        ("words", "Words", words),
    ]
    bodies = [(anchor, title, _guarded(anchor, title, make)) for anchor, title, make in parts]
    links = "".join(
        f'<a href="#{anchor}">{esc(title)}</a>'
        for anchor, title, body in bodies
        if body and anchor not in ("verdict", "words")
    )
    script = "\n".join([_uplot_script(), "(function () {", '"use strict";', *map(_asset, _scripts), "})();"])
    face = outcome_of(run)
    page = _fill(
        _asset("report.html"),
        {
            "title": esc(f"{face}: {title_of(run)} · {run.run}", 200),
            "policy": _policy(script, beside=data.beside),
            "style": _asset("uPlot.min.css") + _asset("report.css") + _asset("sections.css"),
            "face": face,
            "word": face,
            "name": esc(title_of(run), 120),
            "run": esc(run.run, 40),
            "links": links,
            "main": shapes() + "".join(body for _, _, body in bodies),
            "version": esc(run.env.get("splitbrain") or "", 40),
            "meta": data.meta,
            "columns": data.columns,
            "script": script,
            "loads": f" but for values, in {VALUES}" if data.beside else "; it loads nothing",
        },
    )
    return page, data.beside


def _guarded(anchor: str, title: str, make: Callable[[], str]) -> str:
    try:
        return make()
    except Exception as e:  # noqa: BLE001 - one section must not take the others with it
        text = f"This part could not be made from what the run left behind ({type(e).__name__}: {e})."
        return section(anchor, title, f'<p class="empty">{esc(text, 400)}</p>')


def _uplot_script() -> str:
    """The charts' library, its licence in place of its banner: this page has no addresses in it."""
    code = re.sub(r"\A/\*!.*?\*/\s*", "", _asset("uPlot.iife.min.js"), count=1, flags=re.DOTALL)
    return f"/* uPlot 1.6.32\n{_asset('uPlot.LICENSE').strip()}\n*/\n{code}"


def _policy(script: str, *, beside: bool) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    connect = " connect-src 'self';" if beside else ""
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline';{connect} base-uri 'none';"
        " form-action 'none'"
    )


def _asset(name: str) -> str:
    return resources.files("results").joinpath("assets", name).read_text(encoding="utf-8")


def _fill(template: str, slots: dict[str, str]) -> str:
    """Fill `{{name}}` in one pass, so that nothing filled in is filled again."""
    return _slot.sub(lambda m: slots[m[1]], template)


def _minimal(run_dir: Path, trace: str) -> str:
    results = read_object(run_dir / "results.json") or {}
    verdict = html.escape(str(results.get("verdict") or "unknown"))
    reason = html.escape(str(results.get("reason") or "There is no readable result."))
    return (
        '<!doctype html><html lang="en" data-errors="" data-minimal="true"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">'
        f"<title>{verdict}: {html.escape(run_id(run_dir))}</title></head><body>"
        f"<h1>{verdict}</h1><p>{reason}</p><p>The report itself failed; the run's files are beside this one."
        f" This is what happened:</p><pre>{html.escape(trace)}</pre></body></html>"
    )
