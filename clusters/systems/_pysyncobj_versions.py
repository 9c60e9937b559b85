"""Which PySyncObj versions are known, and what is known against them."""

from __future__ import annotations

import re
from typing import Any, Final

from harness.core.errors import UsageError

DEFAULT: Final = "0.3.17"
KNOWN: Final = tuple(f"0.3.{n}" for n in range(10, 18))
_FIXED: Final = 16  # the first 0.3.N that keeps term and vote


def resolve(asked: str | None) -> str:
    """The exact version meant: None is the default, `0.3` the newest known.

    Raises: UsageError for what is no 0.3.
    """
    if asked is None:
        return DEFAULT
    text = asked.strip().removeprefix("v")
    if text in ("0", "0.3"):
        return KNOWN[-1]
    if not re.fullmatch(r"0\.3\.\d+", text):
        raise UsageError(f"unknown PySyncObj version {asked!r}; nearest known: {nearest(text)}")
    return text


def nearest(version: str) -> str:
    """The known version nearest to `version`.

    >>> nearest("0.3.99"), nearest("0.3.2"), nearest("1.0")
    ('0.3.17', '0.3.10', '0.3.17')
    """
    match = re.fullmatch(r"0\.(\d+)\.(\d+)", version)
    if match is None:
        return DEFAULT
    if match[1] != "3":
        return KNOWN[0] if int(match[1]) < 3 else DEFAULT
    return min((v for v in KNOWN if v != version), key=lambda v: abs(number(v) - int(match[2])))


def number(version: str) -> int:
    """The N of 0.3.N."""
    return int(version.rsplit(".", 1)[1])


def obtain(version: str, artifacts: Any) -> Any:
    """The library as a folder to import from.

    Raises: UsageError for a version that there is not; ArtifactError.
    """
    from clusters.artifacts import VersionRefused

    try:
        return artifacts.pypi_tree("pysyncobj", version, project="pysyncobj")
    except VersionRefused as e:
        raise UsageError(f"PySyncObj {version} cannot be had: {e}; nearest known: {nearest(version)}") from e


def caveats(version: str) -> tuple[str, ...]:
    """Known bugs that a finding against this version may be."""
    if number(version) >= _FIXED:
        return ()
    return (
        (
            f"PySyncObj {version}: a node that is restarted has forgotten its term and its vote; when all are killed,"
            f" committed entries can be overwritten and replicas diverge (PySyncObj issue 201, fixed in 0.3.{_FIXED})."
        ),
    )
