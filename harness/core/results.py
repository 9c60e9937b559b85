"""The results object: what `results.json` holds and `--json` prints; docs/run-directory.md says what
stands in it. Every key of the contract is there, in every outcome."""

from __future__ import annotations

from typing import Any

FORMAT = 1


def blank() -> dict[str, Any]:
    """The object with nothing in it yet; `verdict` is unknown until somebody knows."""
    unset = dict.fromkeys(
        ("error", "seed", "run", "system", "version", "workload", "provider", "nodes", "started", "command")
    )
    lists: dict[str, Any] = {
        k: [] for k in ("errors", "holes", "recovery_s", "observations", "warnings", "caveats")
    }
    maps: dict[str, Any] = {k: {} for k in ("faults", "checks", "outcomes", "lag_ms")}
    return {
        "format": FORMAT,
        "verdict": "unknown",
        "reason": "",
        "ops": None,
        "seconds": None,
        **unset,
        "expect": None,
        "expected": [],
        "unmet": None,
        "baseline": None,
        "interrupted": False,
        "meaning": None,
        "leader_changes": None,
        "leadership": None,
        "rate": None,
        "waited_s": None,
        "kept": None,
        "outages": None,
        "incremental": None,
        **maps,
        **lists,
    }


def failed(error: str) -> dict[str, Any]:
    """The object of what ended in an error before there was anything to judge: exits 2 and 4."""
    return {**blank(), "reason": error.splitlines()[0], "error": error}
