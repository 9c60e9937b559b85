"""Building a system of the user's own: its file says how, and what goes into it.

What was built is kept in the cache, in a folder named for the command and the contents of its inputs, so that it
is built again when one of these has changed, and only then:

    <cache>/own/<16 digits>/
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from clusters.artifacts.tools import BUILD_TIMEOUT_S, ToolFailed, run
from clusters.systems import _own_file as schema
from clusters.systems._own_template import fill
from harness.core.cache import cache_dir
from harness.core.errors import ArtifactError, UsageError
from harness.core.golang import build_env, require_go

_least_go: Final = (1, 21)


def folder(file: schema.OwnFile) -> Path:
    """Where what the file builds is, or will be.

    Raises: UsageError when it has no inputs.
    """
    build = file.build
    assert build is not None
    digest = hashlib.sha256()
    for text in (*build.argv, *(f"{k}={v}" for k, v in sorted(build.env.items()))):
        digest.update(text.encode() + b"\0")
    inputs = sorted({path for glob in build.inputs for path in file.home.glob(glob) if path.is_file()})
    if not inputs:
        raise UsageError(f"{file.path}: build.inputs: {', '.join(build.inputs)} match no file in {file.home}")
    for path in inputs:
        digest.update(str(path.relative_to(file.home)).encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return cache_dir().absolute() / "own" / digest.hexdigest()[:16]


def build(file: schema.OwnFile, say: Callable[[str], None]) -> Path:
    """The folder with what was built, now or before.

    Raises: ArtifactError with the command's last lines; UsageError.
    """
    assert file.build is not None
    out = folder(file)
    if out.is_dir():
        return out
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with (out.parent / f"{out.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not out.is_dir():
                say(f"building {file.name}")
                _make(file, out)
    except OSError as e:
        raise ArtifactError(f"{file.name} cannot be built in {e.filename or out}: {e.strerror or e}") from e
    return out


def _make(file: schema.OwnFile, out: Path) -> None:
    """Build beside, then rename: `out` is whole or not there."""
    assert file.build is not None
    given = file.build
    values = {"build": "", "go": "go"}
    env = dict(os.environ)
    if any("${go}" in text for text in given.argv):
        values["go"], env = str(require_go(_least_go)), build_env()
    with tempfile.TemporaryDirectory(prefix=f"partial-{out.name}-", dir=out.parent) as temporary:
        work = Path(temporary) / "out"
        work.mkdir()
        argv = [fill(text, {**values, "build": str(work)}) for text in given.argv]
        try:
            run(argv, cwd=file.home, timeout_s=BUILD_TIMEOUT_S, env={**env, **given.env})
        except ToolFailed as e:
            raise ArtifactError(f"{file.path}: build: {e.explain()}") from None
        shutil.move(work, out)
