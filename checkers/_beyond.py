"""Which faults a system promises to survive, and which of those in a run went beyond.

What a system is judged under is what it promises. Once a fault of another family was applied (a wiped
voter, flipped bits), what is found after it is an observation; what was found before stays a violation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from harness.core.ledger import FaultRecord, read_faults

_usual: Final = frozenset({"partition", "kill", "pause"})


def promised(spec: Mapping[str, Any], prop: str | None = None) -> frozenset[str]:
    """The families that the system promises to survive as to `prop`, or as to anything at all; where
    its promises are not told, partition, kill and pause. `promises` are as in `core.system`."""
    given: Sequence[Mapping[str, Any]] | None = spec.get("promises")
    if given is None:
        return _usual
    return frozenset(f for p in given if prop in (None, p["prop"]) for f in p["families"])


def applied(run_dir: Path | None) -> list[FaultRecord]:
    """The faults of a run that were applied, in the order they were planned."""
    faults = [] if run_dir is None else read_faults(run_dir / "faults.jsonl")
    return [f for f in faults if f.applied is not None]


def beyond(
    faults: Iterable[FaultRecord], spec: Mapping[str, Any], until: int, prop: str | None = None
) -> list[str]:
    """The families of faults applied at `until` ns or before that the system does not promise to survive."""
    families = {f.family for f in faults if f.applied is not None and f.applied <= until}
    return sorted(families - promised(spec, prop))
