"""A system under test: how it is obtained, launched, asked how it is, and what it promises.

One file each, life cycle and client together. `launch` is pure: it returns what to run, and the
provider starts, stops, restarts, wraps and traces it. A system's `client` has a method for each
operation `f` it supports; the matrix *system x workload* follows from that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from harness.core.client import Client
from harness.core.cluster import Node, Process, View

Role = Literal["leader", "follower", "candidate", "learner", "unknown"]


class Install(msgspec.Struct, frozen=True, kw_only=True):
    """A version made ready: `program` maps an artifact's name to its path on the host.

    `sha256` has the digest of each; `caveats` are known bugs of this version in plain sentences.
    """

    version: str
    program: dict[str, str]
    sha256: dict[str, str] = {}
    caveats: tuple[str, ...] = ()


class Status(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a node says of itself. None: the system has no such thing, or did not say."""

    role: Role
    term: int | None = None
    leader: str | None = None
    commit: int | None = None
    applied: int | None = None
    revision: int | None = None


class Dump(msgspec.Struct, frozen=True, kw_only=True):
    """All that a run wrote as one node has it at `revision`: `content` is key -> value, as text.

    `hash` is the node's own over its data at that revision, the same on all nodes that agree; None
    where the system has none that can be compared.
    """

    revision: int
    content: dict[str, str]
    hash: str | None = None


class LogEvent(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Something a log line says: `time` in ns since the run's start, `kind` such as `election`.

    Kinds that checkers read: `election` (this node became leader), `leader-seen`, `leader-lost`,
    `start`, `stop`, `crash`, `corruption` (data is corrupt, or differs from other nodes').
    """

    time: int
    node: str
    kind: str
    text: str
    term: int | None = None


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What a system promises to survive: `prop` (`linearizable`, `availability`, `durable`) under
    faults of `families` that hit at most `most` nodes at once (`minority`, `all`).

    `unless` names option values under which the promise is not made, such as
    {"reads": "serializable"}.
    """

    prop: str
    families: frozenset[str]
    most: Literal["minority", "all"] = "minority"
    unless: dict[str, str] = {}
    source: str = ""
    link: str = ""  # where `source` is read


class Artifacts(Protocol):
    """Obtains programs and keeps them in a cache; see `clusters.artifacts` for what it offers."""


class System(Protocol):
    """A system under test. Created with its options: `Etcd(options)`.

    One whose members can be changed has an `admin` as well, see `harness.core.admin`.

    It may have a `flush_first`, true where a power loss is to find a cluster of some age: all that was written while
    it came up is on the disks before the load begins, synced or not, as the kernel has it half a minute later. And
    a `flush_restarts`, true where the same is to hold of what a process had written when it died, before it is started
    again. And a `supervised`, true where its makers have it run under a supervisor that starts it again when it ends by
    itself: once faults are healed, what has ended is started, and the results say so.
    """

    name: str
    client: Client  # a prototype: `client.open(...)` makes the real ones
    promises: tuple[Promise, ...]
    ports: Mapping[str, int]  # `client` and `peer` at least, where it has them

    def install(self, version: str | None, artifacts: Any) -> Install:
        """Obtain `version` (None: the default; `3.6`: the newest known that begins so).

        Raises: UsageError for a version nobody knows, ArtifactError when it cannot be had.
        """

    def launch(self, node: Node, view: View) -> list[Process]:
        """What to run on `node`. Pure."""

    def ready(self, node: Node, timeout_s: float) -> None:
        """Do one write through `node`; called again and again, inside the node's place, until it
        returns.

        Raises: anything when the node does not serve writes yet.
        """

    def status(self, node: Node, timeout_s: float) -> Status:
        """Ask `node` about itself; called inside the node's own network.

        Raises: OSError or Indeterminate when it does not answer.
        """

    def barrier(self, node: Node, timeout_s: float) -> int | None:
        """Commit something through `node` and return the revision that the cluster then has, or None
        where the system has none; a node has caught up when its status shows at least it."""

    def dump(self, node: Node, revision: int, timeout_s: float) -> Dump | None:
        """All that stands below the option `prefix` as `node` itself has it at `revision`, asking no other
        node; called inside the node's place. None where the system cannot say it. `timeout_s` bounds each
        request.

        Raises: OSError or Indeterminate when the node does not answer, or has not come so far.
        """

    def tidy(self, node: Node, timeout_s: float) -> None:
        """Remove, through `node`, all that stands below the option `prefix`.

        Asked for where the cluster goes on after the run, which then has a prefix of its own; a
        system without that option cannot be attached to.

        Raises: OSError or Indeterminate when it could not be done.
        """

    def events(self, node: str, log: Iterable[tuple[int, str]]) -> Iterator[LogEvent]:
        """What the node's log says, from (time in ns since the run's start, line)."""


def majority(nodes: Sequence[object] | int) -> int:
    """The least number of nodes that is a majority.

    >>> majority(3), majority(4), majority(5)
    (2, 3, 3)
    """
    n = nodes if isinstance(nodes, int) else len(nodes)
    return n // 2 + 1
