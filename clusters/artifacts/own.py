"""A program, a jar or a folder of the user's own: used where it is, and never copied."""

from __future__ import annotations

import os
from pathlib import Path

from clusters.artifacts.store import Artifact, digest
from harness.core.errors import ArtifactError


def local(path: str | Path, *, sha256: str | None, executable: bool) -> Artifact:
    """A file or a folder; a file must be executable, unless it is a jar or told not to be."""
    full = Path(path).expanduser().absolute()
    if not full.exists():
        raise ArtifactError(f"there is no file {full}; expected the program to test")
    if full.is_file() and executable and full.suffix != ".jar" and not os.access(full, os.X_OK):
        raise ArtifactError(f"{full} is not executable; `chmod +x` it")
    try:
        has = digest(full)
    except OSError as e:
        raise ArtifactError(f"{e.filename or full} cannot be read: {e.strerror}") from e
    if sha256 is not None and has != sha256.lower():
        raise ArtifactError(f"{full} has the sha256 {has}, expected {sha256}: it is not used")
    return Artifact(path=str(full), sha256=has, origin="local")
