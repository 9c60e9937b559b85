"""How commands speak: data on stdout, talk on stderr. Light: nothing of ours is imported."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def print_json(value: Any) -> None:
    """One JSON object on stdout, on one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def console(*, stderr: bool = False) -> Console:
    """A terminal for people: colours where there are any, no reading of markup into values."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def say(text: str) -> None:
    """One line of talk on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
