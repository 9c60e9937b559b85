"""Files that are whole or not there: written beside their place, then put into it in one step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from harness.core.errors import InfrastructureError


@contextlib.contextmanager
def whole(path: Path, advice: str = "choose another file") -> Iterator[Path]:
    """A path to write to, which takes the place of `path` once the block ends well; folders on the way are made.

    Whatever happens, nothing half-written stays. `advice` ends the sentence of a failure.

    Raises: InfrastructureError when it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(path)
    except OSError as e:
        raise InfrastructureError(f"cannot write {path}: {e.strerror or e}; {advice}") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
