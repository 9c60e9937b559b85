"""Which versions of a system are known, where each is had from, and which one is meant.

A `Descriptor` may have a `Versions`, so that `splitbrain systems` lists it and imports nothing heavy; a system's
`install` asks the same one. The list serves prefixes (`3.6`), hints and offline use. It is not a limit: registries
list less than they serve and refuse some of what they list, so a source may take other exact versions as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

import msgspec

from harness.core.errors import ArtifactError, UsageError

Via = Literal["go", "pypi", "debian", "maven"]
NAMES: dict[Via, str] = {
    "go": "the Go module proxy",
    "pypi": "PyPI",
    "debian": "Debian",
    "maven": "a Maven repository",
}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One place that has versions: `what` is a module, project, package or group:artifact.

    `versions` are those known to be there; from `least` on others may be asked for by their exact number. Without
    either, the source decides, and any may be asked for.
    """

    via: Via
    what: str
    versions: tuple[str, ...] = ()
    least: str | None = None

    def serves(self, version: str) -> bool:
        """Whether it is worth asking here for an exact version."""
        if self.least is None:
            return version in self.versions or not self.versions
        return version in self.versions or order(version) >= order(self.least)


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """The versions of a system. `default` is "" where the only source decides (this Debian's Redis).

    `needs` are programs that it runs with, such as `java`. Of sources that serve a version the first is asked.
    """

    default: str
    sources: tuple[Source, ...]
    needs: tuple[str, ...] = ()

    @property
    def known(self) -> tuple[str, ...]:
        """All known versions, the oldest first."""
        listed = {version for source in self.sources for version in source.versions}
        return tuple(sorted(listed | ({self.default} if self.default else set()), key=order))

    def source(self, version: str) -> Source | None:
        """Where an exact version is asked for: who lists it before who may have it."""
        listing = (source for source in self.sources if version in source.versions)
        return next(listing, None) or next((s for s in self.sources if s.serves(version)), None)

    def resolve(self, system: str, asked: str | None) -> str:
        """The exact version meant: None is the default, `3.6` the newest known that begins so.

        Raises: UsageError for what is no version, or one that has no source.
        """
        if asked is None:
            return self.default
        text = asked.strip().removeprefix("v")
        example = self.default or (self.known[-1] if self.known else "1.2.3")
        match = re.fullmatch(r"(\d+(?:\.\d+)*)([-.]?[a-zA-Z][\w.]*)?", text)
        parts = match[1].split(".") if match else []
        whole = len(re.split(r"[-+]", example)[0].split("."))
        if match is None or len(parts) > whole or (match[2] and len(parts) < whole):
            short = ".".join(example.split(".")[:2])
            raise UsageError(f"{system} version {asked!r}: expected one such as {example} or {short}")
        if text in self.known:
            return text
        if len(parts) < whole:
            fitting = [v for v in self.known if v.split(".")[: len(parts)] == parts]
            if fitting:
                return fitting[-1]
        elif self.source(text) is not None:
            return text
        raise UsageError(f"unknown {system} version {asked!r}{self._nearest(text)}.{self._others()}")

    def nearest(self, version: str, also: Iterable[str] = ()) -> str | None:
        """The known version (or of `also`) nearest to `version`: of the same minor release first, then by patch;
        None where nothing else is known.
        """
        major, minor, patch = _numbers(version)

        def distance(known: str) -> tuple[int, int, tuple[int, ...]]:
            a, b, c = _numbers(known)
            # Equally far: the newer one, which has the fixes.
            newest = tuple(-n for n in (a, b, c))
            return abs((a - major) * 1000 + b - minor), abs(c - patch) * ((a, b) == (major, minor)), newest

        return min((v for v in {*self.known, *also} if v != version), key=distance, default=None)

    def refused(self, system: str, version: str, reason: str, served: Iterable[str] = ()) -> ArtifactError:
        """For a version that its source does not serve; `served` are those that it named instead.

        Of those it named, only they are a hint: what is merely known may be refused as well.
        """
        named = tuple(served)
        near = Versions(default="", sources=()).nearest(version, named) if named else self.nearest(version)
        hint = f"; nearest {'served' if named else 'known'}: {near}" if near else ""
        return ArtifactError(f"{system} {version} cannot be had: {reason}{hint}")

    def _nearest(self, version: str) -> str:
        near = self.nearest(version)
        return f"; nearest known: {near}" if near else ""

    def _others(self) -> str:
        """What may be asked for though it is not listed."""
        said = [f"from {s.least} on {NAMES[s.via]} is asked for any" for s in self.sources if s.least]
        return f" By its exact number, {' and '.join(said)}" if said else ""


def order(version: str) -> tuple[object, ...]:
    """A key to sort versions by: numbers by their size, a pre-release before its release.

    >>> sorted(["3.10.0", "3.9.5", "3.9.5-alpha", "3.9"], key=order)
    ['3.9', '3.9.5-alpha', '3.9.5', '3.10.0']
    """
    match = re.match(r"(\d+(?:\.\d+)*)(.*)", version)
    if match is None:
        return (), False, version
    return tuple(int(part) for part in match[1].split(".")), not match[2], match[2]


def _numbers(version: str) -> tuple[int, int, int]:
    """Major, minor and patch; what is missing is 0."""
    found = [int(part) for part in re.findall(r"\d+", re.split(r"[-+]", version)[0])][:3]
    major, minor, patch = [*found, 0, 0, 0][:3]
    return major, minor, patch
