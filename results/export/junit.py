"""`export --junit`: the checks of a run as cases, under the names that `splitbrain run --junit` gives them."""

from __future__ import annotations

from pathlib import Path

from harness.core.results import failed
from results.export import Source
from results.junit import junit


def write(source: Source, path: Path) -> None:
    """Write the XML; a run without results is an error, never a success."""
    run = source.run
    results = run.results
    if not results:
        known = {name: run.spec.get(name) for name in ("system", "version", "workload", "seed", "expect")}
        results = failed("the run has no results: it has not ended, or was killed") | known
        results["run"] = str(source.path)
    path.write_text(junit([results]), encoding="utf-8")
