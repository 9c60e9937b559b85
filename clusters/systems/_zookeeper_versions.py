"""Which versions of ZooKeeper are known, where each comes from, and how its jars are put together.

Every version runs on Java 17 with the same logging: slf4j's simple binding on standard error. The bindings
that the versions themselves ask for (log4j 1.2 up to 3.4, logback from 3.8 on) are left out; log4j itself stays
where 3.4 loads it. From 3.6 on two jars that ZooKeeper's own distribution brings are declared optional, and
are named here.
"""

from __future__ import annotations

import re
from typing import Any, Final

from harness.core.versions import Source, Versions, order

DEFAULT: Final = "3.9.5"
DEBIAN: Final = "3.8.0"
_group: Final = "org.apache.zookeeper:zookeeper"
_jars: Final = (
    *(f"3.4.{n}" for n in (6, 14)),
    "3.5.10",
    "3.6.4",
    "3.7.2",
    *(f"3.8.{n}" for n in (3, 4, 5, 6)),
    *(f"3.9.{n}" for n in range(6)),
)
VERSIONS: Final = Versions(
    default=DEFAULT,
    sources=(
        Source(via="maven", what=_group, versions=_jars, least="3.4.6"),
        Source(via="debian", what="libzookeeper-java", versions=(DEBIAN,)),
    ),
    needs=("java",),
)
_logging: Final = ("org.slf4j:slf4j-api:1.7.36", "org.slf4j:slf4j-simple:1.7.36")
_beside: Final = ("io.dropwizard.metrics:metrics-core:4.1.12.1", "org.xerial.snappy:snappy-java:1.1.10.5")
_left_out: Final = (
    "org.slf4j:slf4j-log4j12",
    "org.slf4j:slf4j-reload4j",
    "ch.qos.logback:*",
    "io.netty:netty-tcnative-boringssl-static",  # for TLS, which nobody uses here
    "jline:jline",
    "junit:junit",
)
# Debian's, and of what is in them the jars that a server loads.
_packages: Final = (
    "libzookeeper-java",
    "libslf4j-java",
    "libdropwizard-metrics-java",
    "libsnappy-java",
    "libnetty-java",
    "libcommons-io-java",
)
_debian_jars: Final = (
    "zookeeper",
    "zookeeper-jute",
    "slf4j-api",
    "slf4j-simple",
    "metrics-core",
    "snappy-java",
    "netty-common",
    "netty-buffer",
    "netty-transport",
    "netty-handler",
    "netty-codec",
    "commons-io",
)

# In every version before these: first patch that has the fix, by minor release, as the release notes tell; what it
# does; which issue.
_bugs: Final[tuple[tuple[dict[tuple[int, int], int], str, int], ...]] = (
    (
        {(3, 5): 10, (3, 6): 3},
        "acknowledged changes can be lost when a majority dies just after it was brought up to date by a new leader",
        3911,
    ),
    (
        {(3, 8): 5, (3, 9): 2},
        "a follower can lose changes that it was brought up to date with, when it dies just after it",
        4785,
    ),
    (
        {(3, 9): 3},
        "a follower that loses its leader can leave its log writer behind, and its data differ then",
        4712,
    ),
)


def obtain(version: str, artifacts: Any) -> Any:
    """The artifact of an exact version: a folder that holds its jars."""
    source = VERSIONS.source(version)
    assert source is not None, version
    if source.via == "debian":
        return artifacts.debian_tree("zookeeper", version, packages=_packages)
    beside = _beside if order(version) >= order("3.6") else ()
    return artifacts.maven(
        "zookeeper", version, roots=(f"{_group}:{version}", *beside, *_logging), exclude=_left_out
    )


def class_path(version: str, folder: str) -> str:
    """Of what `obtain` got, as the node sees it."""
    if version == DEBIAN:
        return ":".join(f"{folder}/usr/share/java/{jar}.jar" for jar in _debian_jars)
    return f"{folder}/*"


def caveats(version: str) -> tuple[str, ...]:
    """Known bugs that a finding against this version may be. Empty for a version without a number."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if match is None:
        return ()
    release, patch = (int(match[1]), int(match[2])), int(match[3])
    found = []
    for fixed, what, issue in _bugs:
        if release < min(fixed) or patch < fixed.get(release, 0):
            where = " and ".join(f"{major}.{minor}.{p}" for (major, minor), p in fixed.items())
            found.append(f"ZooKeeper {version}: {what} (ZOOKEEPER-{issue}, fixed in {where}).")
    return tuple(found)
