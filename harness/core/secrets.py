"""Options that no run directory may show, such as paths of keys: kept per run, beside the cache, for its owner alone.

A run's directory is passed around; its `spec.json` has `HIDDEN` where a secret was given. The run itself, and
`heal` after it, find the values here, until nothing is left that they would be needed for.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.core.cache import cache_dir
from harness.core.spec import Spec

HIDDEN: Final = "[redacted]"
_Options = dict[str, dict[str, Any]]


def hide(spec: Spec, secret: dict[str, set[str]]) -> tuple[Spec, _Options]:
    """The spec without the values of the options named in `secret` (owner -> names), and those values."""
    held: _Options = {}
    shown: _Options = {owner: dict(options) for owner, options in spec.options.items()}
    for owner, names in secret.items():
        for name in names:
            value = shown.get(owner, {}).get(name)
            if value not in (None, ""):
                held.setdefault(owner, {})[name] = value
                shown[owner][name] = HIDDEN
    return (msgspec.structs.replace(spec, options=shown) if held else spec), held


def keep(run: str, held: _Options) -> None:
    """Note the secrets of a run. Raises: OSError."""
    if not held:
        return
    path = _path(run)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(msgspec.json.encode(held) + b"\n")


def reveal(spec: Spec, run: str) -> Spec:
    """The spec with the secrets of a run put back, as far as they are known on this machine."""
    try:
        held = msgspec.json.decode(_path(run).read_bytes(), type=_Options)
    except (OSError, msgspec.DecodeError):
        return spec
    shown = {owner: {**options, **held.get(owner, {})} for owner, options in spec.options.items()}
    return msgspec.structs.replace(spec, options=shown)


def forget(run: str) -> None:
    """Drop the secrets of a run. Idempotent."""
    with contextlib.suppress(OSError):
        _path(run).unlink(missing_ok=True)


def _path(run: str) -> Path:
    return cache_dir() / "secrets" / f"{run}.json"
