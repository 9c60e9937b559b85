"""`export --svg`: latency and rate over time, drawn by `results.export.plots`."""

from __future__ import annotations

from pathlib import Path

from results.export import Source
from results.export.plots import draw


def write(source: Source, path: Path) -> None:
    """Write the picture. Raises: UsageError for a run that has nothing to draw."""
    draw(source, path, "svg")
