"""Which versions of the NATS server are known, where each comes from, and what is known against it."""

from __future__ import annotations

import re
from typing import Any, Final

from harness.core.versions import Source, Versions

DEFAULT: Final = "2.15.2"
MODULE: Final = "github.com/nats-io/nats-server/v2"
_proxy: Final = (
    "2.9.25",
    *(f"2.10.{n}" for n in (7, 11, 12, 14, 16, 18, 19, 20, 21, 22, 23, 24, 27, 29)),
    *(f"2.11.{n}" for n in (0, 1, 2, 3, 4, 6, 8, 10, 15, 17)),
    *(f"2.12.{n}" for n in (1, 3, 4, 5, 7, 8, 9, 10, 11, 12, 14, 15)),
    *(f"2.14.{n}" for n in range(10)),
    *(f"2.15.{n}" for n in range(3)),
)
VERSIONS: Final = Versions(
    default=DEFAULT,
    sources=(Source(via="go", what=MODULE, versions=_proxy, least="2.9.0"),),
)

Number = tuple[int, int, int]
_SYNCS: Final = (2, 10, 0)  # from here on `sync_interval: always`
_CHECKS: Final = (2, 11, 0)  # see `_nats_client`


def number(version: str) -> Number:
    """Release and patch as numbers; a version without them is as new as can be.

    >>> number("2.12.4-RC.5")
    (2, 12, 4)
    """
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2]), int(match[3])) if match else (99, 0, 0)


def obtain(version: str, artifacts: Any) -> Any:
    """The artifact of an exact version: the module's own main, built in a copy, so that its replacements hold."""
    return artifacts.go_copy("nats", version, module=MODULE)


def syncs(version: str) -> bool:
    """Whether the server can be told to sync before it acknowledges."""
    return number(version) >= _SYNCS


def caveats(version: str) -> tuple[str, ...]:
    """Known bugs that a finding against this version may be, and what it cannot do."""
    n = number(version)
    found = []
    if not syncs(version):
        found.append(
            f"NATS {version} cannot sync before it acknowledges (2.10 can): a power loss may take acknowledged"
            " messages away."
        )
    if (2, 10, 20) <= n <= (2, 10, 22):
        found.append(
            f"NATS {version}: a stream may be gone, with all its acknowledged messages, after nodes were killed soon"
            " after its creation (issue 6888; fixed in 2.10.23)."
        )
    if n < _CHECKS:
        found.append(
            f"NATS {version} has no way to prove a register's value current (2.11 has): reads of registers and"
            " counters are the leader's word, which a deposed leader gives as well."
        )
    return tuple(found)
