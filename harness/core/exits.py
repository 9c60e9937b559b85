"""Exit codes: a contract that scripts rely on.

Several results: violation outranks error, error outranks unknown, unknown outranks valid. An
interruption leaves something undone, which is no success, and hides nothing that was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

VALID, VIOLATION, USAGE, UNKNOWN, ERROR, INTERRUPTED = 0, 1, 2, 3, 4, 130
_outranks: Final = (VIOLATION, INTERRUPTED, ERROR, USAGE, UNKNOWN, VALID)


def exit_code(results: Mapping[str, Any], *, usage: bool = False) -> int:
    """The exit code of one results object.

    Its `expect` turns it round: `invalid` and met is 0, a valid run is then not what was expected; nor is one of
    which `unmet` says that it found something else. A `baseline` says what is left without findings that are known.
    `usage` says that the error, if there is one, is the request's own (2).

    >>> exit_code({"verdict": "invalid", "expect": "invalid"}), exit_code({"verdict": "unknown"})
    (0, 3)
    >>> exit_code({"verdict": "invalid", "baseline": {"verdict": "valid"}})
    0
    """
    expect = results.get("expect")
    verdict = results.get("verdict")
    if verdict == "invalid":
        if expect == "invalid":
            return VIOLATION if results.get("unmet") else VALID
        verdict = (results.get("baseline") or {}).get("verdict", verdict)
        if verdict == "invalid":
            return VIOLATION
    if results.get("error"):
        return USAGE if usage else ERROR
    if results.get("interrupted"):
        return INTERRUPTED
    if verdict != "valid":
        return UNKNOWN
    return VIOLATION if expect == "invalid" else VALID


def overall(codes: Iterable[int]) -> int:
    """The exit code of several runs.

    >>> overall([0, 3, 4]), overall([3, 0]), overall([4, 1]), overall([])
    (4, 3, 1, 0)
    """
    return min(codes, key=_outranks.index, default=VALID)
