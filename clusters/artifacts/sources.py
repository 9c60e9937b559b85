"""Whether a source could be asked on this machine, and what of a system is cached. No network is used."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import sys
from pathlib import Path

import msgspec

from clusters.artifacts import debian
from clusters.artifacts.java import require_java, require_mvn
from harness.core.errors import ArtifactError
from harness.core.golang import require_go
from harness.core.versions import Source, order

_LEAST_GO = (1, 21)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What is cached of a version; whether it is still what was fetched is seen when it is used."""

    version: str
    path: str
    origin: str


def missing(source: Source, system: str, cache: Path) -> str | None:
    """Why this source cannot be asked here, in one sentence; None: it can, if the network and it are there."""
    if (reason := _tool(source, system)) is not None:
        return reason
    folder = next(f for f in (cache, *cache.parents) if f.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} cannot be written to; set SPLITBRAIN_CACHE to a folder that can"
    return None


def lacking(program: str, system: str) -> str | None:
    """Why a program that a system runs with is not here, in one sentence."""
    if program == "java":
        try:
            require_java(system)
        except ArtifactError as e:
            return str(e)
        return None
    return None if shutil.which(program) else f"there is no {program} here, and {system} runs with it"


def kept(system: str, cache: Path) -> list[Kept]:
    """The cached artifacts that are called as the system is, the oldest version first."""
    name = re.compile(rf"{re.escape(system)}-(\d.*)-{re.escape(platform.machine())}-[0-9a-f]{{8}}")
    found = []
    for folder in (cache / "programs").glob(f"{system}-*"):
        if match := name.fullmatch(folder.name):
            try:
                origin = str(json.loads((folder / "origin.json").read_text())["origin"])
            except (OSError, ValueError, KeyError, TypeError):
                continue  # a lock, or damaged: as good as not there
            found.append(Kept(version=match[1], path=str(folder / system), origin=origin))
    return sorted(found, key=lambda k: (order(k.version), k.path))


def _tool(source: Source, system: str) -> str | None:
    try:
        if source.via == "go":
            require_go(_LEAST_GO)
        elif source.via == "maven":
            require_mvn(system)
        elif source.via == "pypi" and importlib.util.find_spec("pip") is None:
            return f"{sys.executable} has no pip to fetch {source.what} with; `python -m ensurepip` adds it"
        elif source.via == "debian":
            return _debian(source)
    except ArtifactError as e:
        return str(e)
    return None


def _debian(source: Source) -> str | None:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            return f"there is no {tool} here, so this is no Debian to fetch {source.what} from"
    has = debian.candidate(source.what)
    if has is None:
        return f"apt knows no package {source.what}; `apt-get update` may bring it"
    if source.versions and has not in source.versions and source.least is None:
        return f"this Debian has {source.what} {has}, not {' or '.join(source.versions)}"
    return None
