"""From Debian: packages unpacked and not installed, so that nothing of theirs starts.

The release decides which version there is; another one is refused. None of it needs root.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from clusters.artifacts.store import Artifact, Store, VersionRefused
from clusters.artifacts.tools import FETCH_TIMEOUT_S, ToolFailed, need, run, sentence
from harness.core.errors import ArtifactError


def member(store: Store, name: str, version: str, *, package: str, member: str) -> Artifact:
    """The file `member` of a package."""

    def make(work: Path, program: Path) -> str:
        has = _unpack(store, name, version, (package,), work, work / "tree")
        inside = work / "tree" / member.lstrip("/")
        if not inside.is_file():
            raise ArtifactError(f"Debian's {package} {has[0]} holds no {member}")
        shutil.move(inside, program)
        return f"Debian {package} {has[0]}: {member}"

    return store.obtain(name, version, ("debian", package, member), make)


def tree(store: Store, name: str, version: str | None, *, packages: Sequence[str]) -> Artifact:
    """All of `packages` unpacked over each other; `version` is that of the first, None: whatever there is."""
    recipe = ("debian-tree", *packages)
    found = version or candidate(packages[0]) or _kept(store, name, recipe)
    if found is None:
        raise ArtifactError(_unknown(name, packages[0]))
    exact = found

    def make(work: Path, folder: Path) -> str:
        has = _unpack(store, name, exact, packages, work, folder)
        return "Debian " + ", ".join(f"{p} {v}" for p, v in zip(packages, has, strict=True))

    return store.obtain(name, exact, recipe, make, tree=True)


def candidate(package: str) -> str | None:
    """The version that this Debian would install, without Debian's own numbers; None where it has none.

    Asks no network: what `apt-get update` last fetched decides.
    """
    if shutil.which("apt-cache") is None:
        return None
    try:
        said = run(["apt-cache", "policy", package], cwd=Path("/"), timeout_s=30)
    except ToolFailed:
        return None
    match = re.search(r"^\s*Candidate: (?!\(none\))(\S+)", said, re.MULTILINE)
    return upstream(match[1]) if match else None


def upstream(version: str) -> str:
    """A package's version without epoch and revision.

    >>> upstream("5:7.0.15-1~deb12u10"), upstream("3.8.0-11+deb12u2"), upstream("2:1.2")
    ('7.0.15', '3.8.0', '1.2')
    """
    plain = version.rpartition(":")[2]
    return plain.rpartition("-")[0] or plain


def _unpack(
    store: Store, name: str, version: str, packages: Sequence[str], work: Path, folder: Path
) -> list[str]:
    """Fetch and unpack; the full version of each package.

    Raises: VersionRefused, ArtifactError, ToolFailed.
    """
    what = f"{name} {version} comes from Debian's {packages[0]}"
    for tool, from_ in (("apt-get", "apt, or take another version"), ("dpkg-deb", "dpkg")):
        need(tool, what, from_)
    store.say(f"fetching {name} {version} from Debian ({', '.join(packages)})")
    fetched = work / "fetched"
    fetched.mkdir()
    # As root it would fetch as another user, who cannot write here, and warn of it.
    quiet = ["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=1"]
    try:
        run(["apt-get", "-q", "download", *quiet, *packages], cwd=fetched, timeout_s=FETCH_TIMEOUT_S)
    except ToolFailed as e:
        if gone := re.search(
            r"Unable to locate package (\S+)|Package '?(\S+?)'? has no installation", e.output
        ):
            raise ArtifactError(sentence(_unknown(name, gone[1] or gone[2]), e)) from None
        raise
    has: dict[str, str] = {}
    for deb in sorted(fetched.glob("*.deb")):
        said = run(
            ["dpkg-deb", "--show", "--showformat", "${Package} ${Version}", str(deb)], cwd=work, timeout_s=60
        )
        package, at = said.split()
        has[package] = at
        if (
            package == packages[0]
            and re.match(rf"(\d+:)?{re.escape(version)}(?![\d.])", has[package]) is None
        ):
            what = f"this Debian has {package} {has[package]}, not {version}"
            raise VersionRefused(what, served=(upstream(has[package]),))
        run(["dpkg-deb", "--extract", str(deb), str(folder)], cwd=work, timeout_s=120)
    if missing := [package for package in packages if package not in has]:
        raise ArtifactError(f"apt-get fetched no package {', '.join(missing)}")
    return [has[package] for package in packages]


def _unknown(name: str, package: str) -> str:
    if shutil.which("apt-get") is None:
        return f"{name} comes from Debian's {package}, but there is no apt-get here"
    return f"apt knows no package {package}; `apt-get update` may bring it"


def _kept(store: Store, name: str, recipe: Sequence[str]) -> str | None:
    """A version that is in the cache, for where apt cannot say what it would fetch."""
    before, after = store.folder(name, "\0", recipe).name.split("\0")
    versions = [
        found.name[len(before) : -len(after)]
        for found in sorted((store.cache / "programs").glob(f"{name}-*"))
        if found.name.startswith(before) and found.name.endswith(after)
    ]
    return versions[-1] if versions else None
