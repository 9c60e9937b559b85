"""Redis 7 with Sentinel: a primary, replicas that follow it asynchronously, and watchers that replace it.

A positive control: Redis says itself that a failover may lose what was acknowledged, and runs are judged as if it
had promised not to. Here stand life cycle and status. Beside it, private to it: `_redis_client` (what workloads do)
on `_redis_wire`, `_redis_errors` (which errors are definite) and `_redis_logs`.

Each node runs two processes, the server and its Sentinel. Both write into their own configuration whom they follow,
so it is made once, where there is none, and kept over restarts.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from time import monotonic
from typing import Any, Final

from harness.core.client import Client
from harness.core.cluster import Node, Process, View
from harness.core.descriptor import Descriptor
from harness.core.errors import Indeterminate
from harness.core.options import Option
from harness.core.system import Dump, Install, LogEvent, Promise, Role, Status, majority
from harness.core.versions import Source, Versions

OPTIONS: Final = (
    Option(
        name="min_replicas",
        default=0,
        summary="min-replicas-to-write: with fewer in touch a primary refuses writes; it narrows the loss, and no more",
        least=0,
        most=100,
    ),
    Option(
        name="down_ms",
        default=1000,
        summary="down-after-milliseconds: after how long a silent primary is taken for dead",
        least=100,
        most=600_000,
    ),
    Option(
        name="fsync",
        default="everysec",
        choices=("always", "everysec", "no"),
        summary="appendfsync: when the append-only file is synced",
    ),
    Option(name="prefix", default="splitbrain/", summary="what the keys of a run begin with"),
)
VERSIONS: Final = Versions(default="", sources=(Source(via="debian", what="redis-server"),))

REDIS: Final = Descriptor(
    name="redis",
    summary="Redis 7 with Sentinel; a positive control: failover loses acknowledged writes, by design",
    target="clusters.systems.redis:Redis",
    options=OPTIONS,
    versions=VERSIONS,
)

_PACKAGES: Final = ("redis-server", "redis-tools", "redis-sentinel", "libjemalloc2", "liblzf1", "libatomic1")
_SENTINEL_GAP_MS: Final = 700  # a Sentinel looks for replicas when it starts, and then only every ten seconds
_judged: Final = (
    "not promised, only judged as if it were: Redis documents that a failover may lose acknowledged writes"
)
_link: Final = "https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/"
_survived: Final = frozenset({"partition", "packet", "kill", "terminate", "crash-loop", "pause"})
_CAVEAT: Final = (
    "Redis with Sentinel replicates asynchronously and documents that a failover can lose acknowledged writes:"
    " runs are judged as if it promised linearizability (a positive control, no finding against Redis)."
)


class Redis:
    """A primary and its replicas, each with a Sentinel. `ports` are for where the usual ones are taken."""

    name = "redis"
    promises: tuple[Promise, ...] = (
        Promise(prop="linearizable", families=_survived, most="all", source=_judged, link=_link),
        Promise(
            prop="availability",
            families=_survived,
            most="all",
            source="Redis documentation, Sentinel: automatic failover when a primary is not working as expected",
            link=_link,
        ),
    )

    def __init__(
        self, options: Mapping[str, Any] | None = None, *, ports: Mapping[str, int] | None = None
    ) -> None:
        from clusters.systems._redis_client import RedisClient

        given = options or {}
        self.options = {o.name: o.parse(given[o.name]) if o.name in given else o.default for o in OPTIONS}
        self.ports: Mapping[str, int] = dict(ports or {"client": 6379, "peer": 6379, "sentinel": 26379})
        self._client = RedisClient(self.ports["sentinel"])
        self.client: Client = self._client
        self._replicating: set[str] = set()  # nodes that once were seen to

    # How it is obtained and run.

    def install(self, version: str | None, artifacts: Any) -> Install:
        from clusters.artifacts import VersionRefused

        asked = VERSIONS.resolve("redis", version) if version is not None else None
        try:
            tree = artifacts.debian_tree("redis", asked or None, packages=_PACKAGES)
        except VersionRefused as e:
            raise VERSIONS.refused("redis", asked or "", str(e), e.served) from e
        return Install(
            version=tree.version,
            program={"redis": tree.path},
            sha256={"redis": tree.sha256},
            caveats=(_CAVEAT,),
        )

    def launch(self, node: Node, view: View) -> list[Process]:
        first, port, sentinel = view.nodes[0], self.ports["client"], self.ports["sentinel"]
        data, tree = view.data_dir, view.program["redis"]
        env = {"LD_LIBRARY_PATH": f"{tree}/usr/lib/{platform.machine()}-linux-gnu"}
        server = [
            f"bind {node.address}",
            f"bind-source-addr {node.address}",
            f"port {port}",
            f"dir {data}",
            "protected-mode no",
            "appendonly yes",
            f"appendfsync {self.options['fsync']}",
            'save ""',
            f"replica-announce-ip {node.address}",
            f"min-replicas-to-write {self.options['min_replicas']}",
            "min-replicas-max-lag 2",
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
            "repl-ping-replica-period 1",
            "repl-timeout 5",
        ]
        if node != first:
            server.append(f"replicaof {first.address} {port}")
        watcher = [
            f"bind {node.address}",
            f"port {sentinel}",
            f"dir {data}",
            "protected-mode no",
            f"sentinel announce-ip {node.address}",
            f"sentinel monitor main {first.address} {port} {majority(view.nodes)}",
            f"sentinel down-after-milliseconds main {self.options['down_ms']}",
            "sentinel failover-timeout main 3000",
            "sentinel parallel-syncs main 1",
        ]

        def process(name: str, lines: list[str], at: int, after_ms: int, *flags: str) -> Process:
            template, conf = f"{data}/{name}.template", f"{data}/{name}.conf"
            # What a failover has written into it must not be undone by a restart.
            script = f'test -e {conf} || cp {template} {conf}; exec "$0" {conf} "$@"'
            return Process(
                name=name,
                argv=("/bin/sh", "-c", script, f"{tree}/usr/bin/redis-{name}", *flags),
                env=env,
                files={template: "\n".join([*lines, ""])},
                dirs=(data,),
                ports=(at,),
                start_after_ms=after_ms,
            )

        return [process("server", server, port, 0), process("sentinel", watcher, sentinel, _SENTINEL_GAP_MS)]

    # How it is.

    def ready(self, node: Node, timeout_s: float) -> None:
        if node.name not in self._replicating:
            self._refuse_before_replication(node, timeout_s)
        self.barrier(node, timeout_s)
        self._replicating.add(node.name)

    def _refuse_before_replication(self, node: Node, timeout_s: float) -> None:
        """Before the first fault: a replica has its primary's data, and its Sentinel knows enough of the others
        for a failover.

        Raises: Indeterminate, OSError.
        """
        said = self._replication(node, timeout_s)
        if said.get("role") == "slave" and said.get("master_link_status") != "up":
            raise Indeterminate("not replicating yet")
        known = self._ask(node, "sentinel", timeout_s, "SENTINEL", "MASTER", "main")
        it = iter(_word(word) for word in known)
        facts = dict(zip(it, it, strict=False))
        needed = int(facts["quorum"]) - 1
        for what in ("num-slaves", "num-other-sentinels"):
            if int(facts[what]) < needed:
                raise Indeterminate(f"sentinel: {what} {facts[what]}, needs {needed}")

    def barrier(self, node: Node, timeout_s: float) -> int | None:
        client = self._client.open(node, None, self.options, timeout_s)
        try:
            client.write(["node", node.name], True)  # noqa: FBT003 - the value
        finally:
            client.close()
        return None  # there is no order of all changes that outlives a failover

    def tidy(self, node: Node, timeout_s: float) -> None:
        client = self._client.open(node, None, self.options, timeout_s)
        try:
            client.tidy()
        finally:
            client.close()

    def status(self, node: Node, timeout_s: float) -> Status:
        said = self._replication(node, timeout_s)
        role: Role = "leader" if said.get("role") == "master" else "follower"
        offset = said.get("master_repl_offset") if role == "leader" else said.get("slave_repl_offset")
        return Status(role=role, applied=None if offset is None else int(offset))

    def _replication(self, node: Node, timeout_s: float) -> dict[str, str]:
        """What the node's server says of its replication."""
        said = _word(self._ask(node, "client", timeout_s, "INFO", "replication"))
        return dict(line.split(":", 1) for line in said.splitlines() if ":" in line)

    def _ask(self, node: Node, port: str, timeout_s: float, *command: str) -> Any:
        """One question on a connection of its own.

        Raises: OSError, Indeterminate.
        """
        from redis.exceptions import RedisError

        from clusters.systems._redis_errors import classify
        from clusters.systems._redis_wire import Wire

        deadline = monotonic() + timeout_s
        wire = Wire(node.address, self.ports[port])
        try:
            wire.connect(deadline)
            return wire.ask(deadline, *command)
        except RedisError as e:
            raise Indeterminate((classify(e) or (str(e)[:80], False))[0]) from None
        finally:
            wire.close()

    def dump(self, node: Node, revision: int, timeout_s: float) -> Dump | None:
        return None  # replicas lag, and there is no revision at which they could be compared

    def events(self, node: str, log: Iterable[tuple[int, str]]) -> Iterator[LogEvent]:
        from clusters.systems._redis_logs import events

        return events(node, log)


def _word(data: Any) -> str:
    return data.decode(errors="replace") if isinstance(data, bytes) else str(data)
