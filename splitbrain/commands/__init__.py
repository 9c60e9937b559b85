"""The commands, a module for those that belong together; each registers with `app.app` when it is imported."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typer.models import CommandInfo

MODULES: Final = (
    "run",
    "judge",
    "replay",
    "export",
    "nodes",
    "campaign",
    "catalogue",
    "bugs",
    "serve",
    "shells",
)
# As a newcomer needs them; `--help` lists them so. One that is not here stands behind them.
_ORDER: Final = (
    *("run", "check", "show", "open", "report", "replay", "diff", "export", "logs", "exec", "heal"),
    *(
        "serve",
        "campaign",
        "list",
        "systems",
        "workloads",
        "faults",
        "doctor",
        "fetch",
        "new",
        "bugs",
        "completion",
    ),
)


def load() -> None:
    """Have every command registered, in the order in which `--help` lists them. Imports of ours stand behind
    this, since packages of theirs may bear our names (`splitbrain.check_packages`)."""
    for name in MODULES:
        import_module(f"{__name__}.{name}")
    from splitbrain.commands.app import app

    app.registered_commands.sort(key=_rank)


def _rank(command: CommandInfo) -> int:
    name = command.name or getattr(command.callback, "__name__", "")
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)
