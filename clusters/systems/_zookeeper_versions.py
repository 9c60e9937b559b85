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
    *(f"3.8.{n}" for n in (3, 4, 5, 6, 7)),
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
# With what they bring along for ZooKeeper's server.
_packages: Final = (
    "libzookeeper-java",
    "libslf4j-java",
    "libmetrics-java",
    "libsnappy-java",
    "libsnappy-jni",
    "libsnappy1v5",
    "libnetty-java",
    "libyetus-java",
    "libcommons-cli-java",
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


def caveats(version: str) -> tuple[str, ...]:
    """Known bugs that a finding against this version may be. Empty for a version without a number."""
    if not re.match(r"\d+\.\d+\.\d+", version):
        return ()
    del version
    return ()
