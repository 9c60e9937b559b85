"""Which PySyncObj versions are known, and what is known against them."""

from __future__ import annotations

import re
from typing import Final

from harness.core.versions import Source, Versions

VERSIONS: Final = Versions(
    default="0.3.17",
    sources=(
        Source(
            via="pypi", what="pysyncobj", versions=tuple(f"0.3.{n}" for n in range(10, 18)), least="0.3.10"
        ),
    ),
)
_FIXED: Final = 16  # the first 0.3.N that keeps term and vote


def caveats(version: str) -> tuple[str, ...]:
    """Known bugs that a finding against this version may be."""
    match = re.match(r"0\.3\.(\d+)", version)
    if match is None or int(match[1]) >= _FIXED:
        return ()
    return (
        (
            f"PySyncObj {version}: a node that is restarted has forgotten its term and its vote; when all are killed,"
            f" committed entries can be overwritten and replicas diverge (PySyncObj issue 201, fixed in 0.3.{_FIXED})."
        ),
    )
