"""ZooKeeper: how it is obtained, launched and asked how it is, its client, and what it promises.

Here stand life cycle and status. Beside it, private to it: `_zookeeper_client` (what workloads do) on
`_zookeeper_holders` and `_zookeeper_gateway`; `_zookeeper_session` (one session on one connection),
`_zookeeper_errors` (which errors are definite), `_zookeeper_logs` (what its log tells), `_zookeeper_tree` (reading
and removing all of a run) and `_zookeeper_versions` (where a version comes from, and what is known against it).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Final

from clusters.systems import _zookeeper_versions as versions
from harness.core.client import Client
from harness.core.cluster import Node, Process, View
from harness.core.descriptor import Descriptor
from harness.core.errors import Indeterminate, UsageError
from harness.core.options import Option
from harness.core.system import Dump, Install, LogEvent, Promise, Role, Status

OPTIONS: Final = (
    Option(
        name="reads",
        default="fenced",
        summary="fenced: a change before each read makes it linearizable; sync: a sync does, which is nearly so; "
        "local: answered by the server alone, may be stale",
        choices=("fenced", "sync", "local"),
    ),
    Option(name="prefix", default="splitbrain/", summary="below which path a run writes"),
    Option(name="jars", default=None, summary="test the jars of this folder instead of a published version"),
    Option(
        name="tick_ms",
        default=100,
        summary="ZooKeeper's tick, in ms: of these are sync_limit and init_limit, and two the shortest session",
        least=20,
        most=60_000,
    ),
    Option(
        name="sync_limit",
        default=10,
        summary="ticks after which leader and follower take each other for lost",
        least=2,
        most=1000,
    ),
    Option(
        name="init_limit",
        default=30,
        summary="ticks that a follower may take to join a leader",
        least=2,
        most=10_000,
    ),
    Option(
        name="snapshot_count",
        default=0,
        summary="changes between two snapshots; 0: the version's own default",
        least=0,
        most=10_000_000,
    ),
    Option(name="heap_mb", default=256, summary="the most that a server's heap takes", least=32, most=65536),
    Option(
        name="forceSync",
        default="yes",
        summary="known bad: no, and what is acknowledged was never synced, so that a power loss takes it away",
        choices=("yes", "no"),
    ),
    Option(
        name="fresh",
        default="no",
        summary="known bad: yes, and a power loss takes away the first snapshot, which ZooKeeper never syncs and"
        " does not start without; no: it is on the disk before the load, as half a minute later it is anyway",
        choices=("no", "yes"),
    ),
    Option(
        name="quick_restart",
        default="no",
        summary="known bad: yes, and a process that died comes back while what it had not synced stands in memory only:"
        " ZooKeeper takes it for its own, and a power loss leaves a hole there; no: it is on the disk before, as half a"
        " minute later it is anyway",
        choices=("no", "yes"),
    ),
)

ZOOKEEPER: Final = Descriptor(
    name="zookeeper",
    summary="coordination service in Java; Zab, linearizable writes, reads from the server's own state",
    target="clusters.systems.zookeeper:ZooKeeper",
    options=OPTIONS,
    versions=versions.VERSIONS,
    start_s=1.5,  # a Java that starts, and an election
)

_internals: Final = "https://zookeeper.apache.org/doc/r3.9.5/zookeeperInternals.html"
_admin: Final = "https://zookeeper.apache.org/doc/r3.9.5/zookeeperAdmin.html"
_deaths: Final = frozenset({"kill", "terminate", "crash-loop"})
_power: Final = frozenset({"power-loss", "crash-point"})  # what was not synced is gone as well
_stalls: Final = frozenset({"pause", "cpu-pressure", "memory-pressure", "slow-disk", "hung-disk"})
_survived: Final = _deaths | _power | _stalls | {"partition", "packet"}
_ROLES: Final[dict[str, Role]] = {"leader": "leader", "standalone": "leader", "follower": "follower"}
_linearizable: Final = (
    'ZooKeeper Internals, "Consistency Guarantees": writes are linearizable, and a client\'s requests are done in'
    " the order that it sent them, so that a read after a change of its own is no older than that;"
    " reads alone may be stale, and a sync is no operation of a quorum"
)


class ZooKeeper:
    """An ensemble of ZooKeeper servers. `ports` are for where the usual ones are taken."""

    name = "zookeeper"
    promises: tuple[Promise, ...] = (
        *(
            Promise(
                prop="linearizable",
                families=_survived,
                most="all",  # safety does not depend on how many are gone, as long as disks keep what was synced
                unless={"reads": weaker},
                source=_linearizable,
                link=f"{_internals}#sc_consistency",
            )
            for weaker in ("sync", "local")
        ),
        Promise(
            prop="availability",
            families=_survived,
            most="all",  # it is judged by coming back once all is healed, which a lost majority does as well
            source='ZooKeeper Administrator\'s Guide, "Cross Machine Requirements": active while a majority is',
            link=f"{_admin}#sc_CrossMachineRequirements",
        ),
        # A server that acknowledges a client's ping tells the leader, who counts the time, a little later.
        Promise(
            prop="lease",
            families=frozenset(),
            source="none is made of an acknowledged ping whose server, or the leader, fails before it is told",
            link=f"{_internals}#sc_consistency",
        ),
        Promise(
            prop="durable",
            families=_deaths | _power,
            most="all",
            unless={"forceSync": "no"},
            source='ZooKeeper Administrator\'s Guide, "Unsafe Options": forceSync, and what is lost without',
            link=f"{_admin}#Unsafe+Options",
        ),
    )

    def __init__(
        self, options: Mapping[str, Any] | None = None, *, ports: Mapping[str, int] | None = None
    ) -> None:
        from clusters.systems._zookeeper_client import ZooKeeperClient

        given = options or {}
        self.options = {o.name: o.parse(given[o.name]) if o.name in given else o.default for o in OPTIONS}
        self.flush_first: bool = self.options["fresh"] == "no"
        self.flush_restarts: bool = self.options["quick_restart"] == "no"
        self.supervised = True  # "ZooKeeper is fail-fast": Administrator's Guide, Supervision
        self.ports: Mapping[str, int] = dict(ports or {"client": 2181, "peer": 2888, "election": 3888})
        self.client: Client = ZooKeeperClient(self.ports["client"])

    # How it is obtained and run.

    def install(self, version: str | None, artifacts: Any) -> Install:
        from clusters.artifacts import VersionRefused, require_java

        java = require_java("ZooKeeper")
        if jars := self.options["jars"]:
            if version is not None:
                raise UsageError(f"--version {version} and option jars={jars}: expected one of them")
            artifact = artifacts.local(jars, executable=False)
            exact = _version_of(Path(artifact.path))
        else:
            exact = versions.VERSIONS.resolve("zookeeper", version)
            try:
                artifact = versions.obtain(exact, artifacts)
            except VersionRefused as e:
                raise versions.VERSIONS.refused("zookeeper", exact, str(e), e.served) from e
        # All of the Java that runs here, so that it is found wherever nodes are.
        home = Path(java.path).resolve().parent.parent
        return Install(
            version=exact,
            program={"zookeeper": artifact.path, "java": str(home)},
            sha256={"zookeeper": artifact.sha256},
            caveats=(*versions.caveats(exact), *self._caveats()),
        )

    def _caveats(self) -> tuple[str, ...]:
        """What this run's own options break."""
        found = []
        if self.options["forceSync"] == "no":
            found.append(
                "forceSync=no: ZooKeeper was told not to sync what it acknowledges; a power loss must lose some"
                " of it (a positive control, no finding against ZooKeeper)."
            )
        if self.options["fresh"] == "yes":
            found.append(
                "fresh=yes: a server that loses its power within some 30 s of its very first start can lose its"
                " first snapshot, which ZooKeeper does not sync, and does not start again without it."
            )
        if self.options["quick_restart"] == "yes":
            found.append(
                "quick_restart=yes: a server that dies before it has synced, starts again and loses its power within"
                " some 30 s has a hole in its log, since ZooKeeper does not sync what it finds at its start: from"
                " 3.9.4 on it may not start any more, and where that goes unnoticed it lacks acknowledged changes."
            )
        return tuple(found)

    def launch(self, node: Node, view: View) -> list[Process]:
        ids = {n.name: at for at, n in enumerate(view.nodes, 1)}
        client, peer, election = (self.ports[p] for p in ("client", "peer", "election"))

        def host(of: Node) -> str:
            return f"[{of.address}]" if ":" in of.address else of.address

        settings = {
            "tickTime": self.options["tick_ms"],
            "initLimit": self.options["init_limit"],
            "syncLimit": self.options["sync_limit"],
            "dataDir": view.data_dir,
            "clientPort": client,
            "clientPortAddress": node.address,
            "maxSessionTimeout": 60_000,  # ms; the default of 20 ticks is short where ticks are
            "maxClientCnxns": 0,  # all clients of a node come from one address
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "*",
            "forceSync": self.options["forceSync"],
        }
        for n in view.nodes:
            settings[f"server.{ids[n.name]}"] = f"{host(n)}:{peer}:{election}"
        properties = {
            "zookeeper.forceSync": self.options["forceSync"],  # read before the file is
            "zookeeper.preAllocSize": 1024,  # KB; the default of 64 MB fills a small disk
            "zookeeper.admin.enableServer": "false",
            "zookeeper.jmx.log4j.disable": "true",
            "zookeeper.cnxTimeout": 500,  # ms; while a peer that does not answer is waited for, others may have to
            "zookeeper.fastleader.maxNotificationInterval": 500,  # ms; a minute is long for who was cut off
            "org.slf4j.simpleLogger.logFile": "System.err",
            # A trace for every client that is turned away while there is no leader.
            "org.slf4j.simpleLogger.log.org.apache.zookeeper.server.NIOServerCnxn": "error",
            "org.slf4j.simpleLogger.showDateTime": "true",
            "org.slf4j.simpleLogger.dateTimeFormat": "yyyy-MM-dd HH:mm:ss.SSS",
        }
        if self.options["snapshot_count"]:
            properties["zookeeper.snapCount"] = self.options["snapshot_count"]
        config = str(Path(view.data_dir).parent / "zoo.cfg")
        argv = (
            f"{view.program['java']}/bin/java",
            f"-Xmx{self.options['heap_mb']}m",
            # What a small server needs least of: time to start.
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-XX:+ExitOnOutOfMemoryError",
            *(f"-D{name}={value}" for name, value in properties.items()),
            "-cp",
            versions.class_path(view.version, view.program["zookeeper"]),
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            config,
        )
        files = {
            f"{view.data_dir}/myid": f"{ids[node.name]}\n",
            config: "".join(f"{name}={value}\n" for name, value in settings.items()),
        }
        return [
            Process(
                name="zookeeper",
                argv=argv,
                files=files,
                dirs=(view.data_dir,),
                ports=(client, peer, election),
            )
        ]

    # How it is.

    def ready(self, node: Node, timeout_s: float) -> None:
        from clusters.systems._zookeeper_tree import Tree

        with Tree(node, self.ports["client"], self.options, timeout_s) as tree:
            tree.prepare()
            tree.mark(node.name)

    def barrier(self, node: Node, timeout_s: float) -> int | None:
        from clusters.systems._zookeeper_tree import Tree

        with Tree(node, self.ports["client"], self.options, timeout_s) as tree:
            return tree.mark(node.name)

    def tidy(self, node: Node, timeout_s: float) -> None:
        from clusters.systems._zookeeper_tree import Tree

        with Tree(node, self.ports["client"], self.options, timeout_s) as tree:
            tree.remove()

    def dump(self, node: Node, revision: int, timeout_s: float) -> Dump:
        from clusters.systems._zookeeper_tree import Tree

        with Tree(node, self.ports["client"], self.options, timeout_s) as tree:
            return Dump(revision=revision, content=tree.content(revision))

    def status(self, node: Node, timeout_s: float) -> Status:
        said = four_letters(node.address, node.port or self.ports["client"], b"srvr", timeout_s)
        mode = re.search(r"^Mode: (\w+)", said, re.MULTILINE)
        if mode is None:
            if "not currently serving" in said:
                return Status(role="candidate")
            raise Indeterminate("garbage: srvr")
        role = _ROLES.get(mode[1], "learner")
        at = re.search(r"^Zxid: 0x([0-9a-f]+)", said, re.MULTILINE)
        zxid = int(at[1], 16) if at else None
        return Status(
            role=role,
            term=None if zxid is None else zxid >> 32,
            leader=node.name if role == "leader" else None,
            commit=zxid,
            applied=zxid,
            revision=zxid,
        )

    def events(self, node: str, log: Iterable[tuple[int, str]]) -> Iterator[LogEvent]:
        from clusters.systems._zookeeper_logs import events

        return events(node, log)


def four_letters(address: str, port: int, word: bytes, timeout_s: float) -> str:
    """The answer to one of the commands of four letters, on a connection of its own.

    Raises: OSError.
    """
    deadline = monotonic() + timeout_s
    with socket.create_connection((address, port), timeout_s) as sock:
        sock.sendall(word)
        data = b""
        while True:
            left = deadline - monotonic()
            if left <= 0:
                raise TimeoutError("timeout")
            sock.settimeout(left)
            part = sock.recv(65536)
            if not part:
                return data.decode(errors="replace")
            data += part


def _version_of(folder: Path) -> str:
    """What a folder of the user's own says that it is, by the name of its jar.

    Raises: UsageError where it is no folder that has one.
    """
    for jar in sorted(folder.glob("zookeeper-*.jar")) if folder.is_dir() else ():
        if match := re.fullmatch(r"zookeeper-(\d+\.\d+\.\d+\S*)\.jar", jar.name):
            return match[1]
    raise UsageError(f"option jars={folder}: expected a folder that holds zookeeper-VERSION.jar")
