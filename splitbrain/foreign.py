"""Histories from elsewhere, judged like ours (the way back is `results.export`).

Jepsen's EDN is turned into a `history.jsonl` in a temporary folder, which the engine then reads as it reads
any; indices are those of the file, and a line that is refused later on is named as the file has it.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, cast

from harness.core.errors import HistoryError

P = ParamSpec("P")
Check = Callable[Concatenate[Path, P], dict[str, Any]]


def also_edn(check: Check[P]) -> Check[P]:
    """Make a function that judges a run or a history judge EDN as well.

    Its option `keyed` (see `harness.core.jepsen`) is for EDN alone, and is used up here.
    """

    @wraps(check)
    def either(path: Path, *args: P.args, **options: P.kwargs) -> dict[str, Any]:
        from harness.core import jepsen  # here: it brings NumPy, whose threads a run must not have yet

        if not jepsen.is_edn(path):
            return check(path, *args, **options)
        keyed = options.pop("keyed", None)
        assert keyed is None or isinstance(keyed, bool)
        with tempfile.TemporaryDirectory(prefix="splitbrain-") as folder:
            converted = Path(folder) / "history.jsonl"
            origin = jepsen.convert(path, converted, keyed=keyed)
            try:
                results = check(converted, *args, **options)
            except HistoryError as e:
                raise HistoryError(path, line_in(origin, e.line), e.problem) from None
        return {**results, "history": str(path)}

    return cast("Check[P]", either)


def line_in(origin: array[int], line: int) -> int:
    """The line of the file that a converted one comes from; `origin` as `jepsen.convert` returns it."""
    return origin[line - 1] if 0 < line <= len(origin) else line
