"""`export --jepsen`: the history as Jepsen writes it, for Knossos, Elle and whoever reads EDN."""

from __future__ import annotations

from pathlib import Path

from harness.core import jepsen
from harness.core.history import read_ops
from results.export import Source


def write(source: Source, path: Path) -> None:
    """Write `history.edn`. Raises: HistoryError for a history that breaks the format."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(jepsen.lines(read_ops(source.needed())))
