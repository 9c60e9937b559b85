"""NATS JetStream: how it is obtained, launched and asked how it is, its client, and what it promises.

Here stand life cycle and status. Beside it, private to it: `_nats_client` (registers, sets, counters) on
`_nats_messages` (logs), `_nats_queues`, `_nats_states` and `_nats_jetstream` (publishing and asking);
`_nats_wire` (the protocol), `_nats_names` (streams, subjects), `_nats_errors` (which errors are definite),
`_nats_logs` (what its log tells) and `_nats_versions`.

JetStream is one raft group for the cluster's own data (the *meta* group) and one more for each stream. The
leader that faults aim at, and that `status` tells of, is that of the run's first bucket, as good as any: were it
that of all that clients work on, none could go on before the election, which takes NATS 4 to 9 s. Each
group has terms of its own, so `status` tells of none.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from time import monotonic
from typing import Any, Final, TypeVar

import msgspec

from clusters.systems._nats_versions import VERSIONS
from harness.core.client import Client
from harness.core.cluster import Node, Process, View
from harness.core.descriptor import Descriptor
from harness.core.errors import ArtifactError, Definite, Indeterminate, UsageError
from harness.core.options import Option
from harness.core.system import Dump, Install, LogEvent, Promise, Role, Status

OPTIONS: Final = (
    Option(
        name="reads",
        default="checked",
        summary="checked: proven to be current; leader: the stream leader's word; direct: any replica's",
        choices=("checked", "leader", "direct"),
    ),
    Option(name="replicas", default=3, summary="replicas of each stream", least=1, most=5),
    Option(
        name="streams",
        default=6,
        summary="streams over which registers, sets and counters are spread, so that not all have one leader",
        least=1,
        most=100,
    ),
    Option(
        name="sync_interval",
        default="always",
        summary="when the server syncs what it stored; with upstream's default 2m a power loss takes messages away",
        choices=("always", "2m"),
    ),
    Option(name="dedupe", default=True, summary="messages carry an id by which the server knows them again"),
    Option(name="prefix", default="splitbrain", summary="what the streams and subjects of a run begin with"),
    Option(name="binary", default=None, summary="test this nats-server instead of a published version"),
)

NATS: Final = Descriptor(
    name="nats",
    summary="NATS JetStream: replicated message streams and key-value buckets; Raft, one group a stream",
    target="clusters.systems.nats:Nats",
    options=OPTIONS,
    versions=VERSIONS,
)

_docs: Final = "https://docs.nats.io/nats-concepts/jetstream"
_deaths: Final = frozenset({"kill", "terminate", "crash-loop"})
_stalls: Final = frozenset({"pause", "cpu-pressure", "memory-pressure", "slow-disk"})
_survived: Final = _deaths | _stalls | {"partition", "packet", "power-loss"}
_START_GAP_MS: Final = 40
_T = TypeVar("_T")


class _Place(msgspec.Struct):
    """A raft group's members as one of them sees them."""

    leader: str = ""


class _State(msgspec.Struct):
    last_seq: int = 0


class _Stream(msgspec.Struct):
    name: str = ""
    cluster: _Place | None = None
    state: _State = msgspec.field(default_factory=_State)


class _Account(msgspec.Struct):
    name: str = ""
    streams: list[_Stream] = msgspec.field(name="stream_detail", default_factory=list)


class _Jsz(msgspec.Struct):
    """Answer to /jsz; `meta` is the cluster's own group."""

    meta: _Place | None = msgspec.field(name="meta_cluster", default=None)
    accounts: list[_Account] = msgspec.field(name="account_details", default_factory=list)


class _Names(msgspec.Struct):
    streams: list[str] | None = None
    total: int = 0


# Made once, at import: msgspec crashes when several threads are the first to decode a type at once.
_jsz_decoder: Final = msgspec.json.Decoder(_Jsz)
_names_decoder: Final = msgspec.json.Decoder(_Names)


class Nats:
    """A cluster of NATS servers. `ports` are for where the usual ones are taken."""

    name = "nats"
    promises: tuple[Promise, ...] = (
        *(
            Promise(
                prop="linearizable",
                families=_survived,
                most="all",
                unless={"reads": reads, "sync_interval": "2m"},
                source=(
                    "NATS documentation, JetStream: acknowledged by a majority, one global order; KV: direct gets"
                    " may be answered by followers"
                ),
                link=f"{_docs}/key-value-store",
            )
            for reads in ("direct", "leader")
        ),
        Promise(
            prop="durable",
            families=_deaths | {"power-loss"},
            most="all",
            unless={"sync_interval": "2m"},
            source="NATS documentation, JetStream: an acknowledged message is persisted",
            link=_docs,
        ),
        Promise(
            prop="availability",
            families=_survived,
            most="all",  # it is judged by coming back once all is healed
            source="NATS documentation, JetStream clustering: available while a quorum of servers is",
            link="https://docs.nats.io/running-a-nats-service/configuration/clustering/jetstream_clustering",
        ),
    )

    def __init__(
        self, options: Mapping[str, Any] | None = None, *, ports: Mapping[str, int] | None = None
    ) -> None:
        from clusters.systems._nats_client import NatsClient

        given = options or {}
        self.options = {o.name: o.parse(given[o.name]) if o.name in given else o.default for o in OPTIONS}
        self.ports: Mapping[str, int] = dict(ports or {"client": 4222, "peer": 6222, "monitor": 8222})
        replicas = self.options["replicas"]
        assert isinstance(replicas, int)
        self._replicas = replicas
        self.client: Client = NatsClient(self.ports["client"], replicas)
        self._nodes = replicas  # until the launch says how many there are
        self._to_lead: tuple[str, ...] = ()  # whom the buckets are to be led by, in turn, once they are there

    # How it is obtained and run.

    def install(self, version: str | None, artifacts: Any) -> Install:
        from clusters.artifacts import VersionRefused
        from clusters.systems import _nats_versions as versions

        if binary := self.options["binary"]:
            if version is not None:
                raise UsageError(f"--version {version} and option binary={binary}: expected one of them")
            artifact = artifacts.local(binary)
            exact = _version_of(artifact.path)
        else:
            exact = VERSIONS.resolve("nats", version)
            try:
                artifact = versions.obtain(exact, artifacts)
            except VersionRefused as e:
                raise VERSIONS.refused("nats", exact, str(e), e.served) from e
        return Install(
            version=exact,
            program={"nats-server": artifact.path},
            sha256={"nats-server": artifact.sha256},
            caveats=(*versions.caveats(exact), *self._caveats()),
        )

    def _caveats(self) -> tuple[str, ...]:
        """What this run's own options break."""
        every = self.options["sync_interval"]
        if every == "always":
            return ()
        return (
            (
                f"sync_interval={every}: NATS acknowledges what it has not synced; a power loss may take it away"
                " (upstream's default is 2m; a known weakness, issue 7564)."
            ),
        )

    def launch(self, node: Node, view: View) -> list[Process]:
        from clusters.systems._nats_versions import syncs

        self._nodes = len(view.nodes)
        self._to_lead = tuple(n.name for n in view.nodes)
        if self._replicas > self._nodes:
            raise UsageError(
                f"option replicas={self._replicas} with {self._nodes} nodes: expected at most as many replicas as nodes"
            )

        def at(of: Node, port: str) -> str:
            host = f"[{of.address}]" if ":" in of.address else of.address
            return f"{host}:{self.ports[port]}"

        lines = [
            f"server_name: {node.name}",
            f"listen: {at(node, 'client')}",
            f"http: {at(node, 'monitor')}",
            "jetstream {",
            f'  store_dir: "{view.data_dir}"',
            *([f"  sync_interval: {self.options['sync_interval']}"] if syncs(view.version) else []),
            "}",
        ]
        if self._nodes > 1:
            routes = ", ".join(f"nats://{at(n, 'peer')}" for n in view.nodes)
            # So that members of another run are never taken for ours; quoted, or 35324p would be a number.
            name = re.sub(r"\W", "_", view.run)
            lines += [
                "cluster {",
                f'  name: "{name}"',
                f"  listen: {at(node, 'peer')}",
                f"  routes: [{routes}]",
                "}",
            ]
        config = f"{view.data_dir}/nats.conf"
        return [
            Process(
                name="nats-server",
                argv=(view.program["nats-server"], "-c", config),
                files={config: "\n".join((*lines, ""))},
                dirs=(view.data_dir,),
                ports=tuple(self.ports.values()),
                start_after_ms=_START_GAP_MS * view.nodes.index(node),
            )
        ]

    # How it is.

    def _asking(self, node: Node, timeout_s: float) -> Any:
        """A client of our own, for one request."""
        return self.client.open(node, None, self.options, timeout_s)

    def ready(self, node: Node, timeout_s: float) -> None:
        self._write(node, timeout_s)
        leaders, self._to_lead = self._to_lead, ()
        if self._replicas > 1 and leaders:
            self._spread(node, leaders, timeout_s)

    def _spread(self, node: Node, leaders: tuple[str, ...], timeout_s: float) -> None:
        """Ask the buckets' leaders to hand over, so that each node leads some of them, and that the first bucket, at
        whose leader faults aim, is not led by the cluster's own leader, without whom no stream is created.

        Left to chance, one node may lead all, and a fault that hits it leaves clients nothing to do. From 2.11 on;
        before, and where a bucket has another opinion, it stays as it is.
        """
        from clusters.systems import _nats_names as names

        client = self._asking(node, timeout_s)
        own = names.base(str(self.options["prefix"]))
        streams = self.options["streams"]
        assert isinstance(streams, int)
        try:
            said = self._ask(node, "/jsz", _jsz_decoder, timeout_s)
            meta = said.meta.leader if said.meta else ""
            leaders = tuple(sorted(leaders, key=lambda name: name == meta))
            for number in range(streams):
                wanted = {"placement": {"preferred": leaders[number % len(leaders)]}}
                with contextlib.suppress(Definite):
                    client._api(  # noqa: SLF001
                        f"STREAM.LEADER.STEPDOWN.KV_{own}_{number}", wanted, monotonic() + timeout_s
                    )
        finally:
            client.close()

    def barrier(self, node: Node, timeout_s: float) -> int | None:
        seq = self._write(node, timeout_s)
        # Where not every node has a replica of the bucket, some would never be seen to have caught up.
        return seq if self._nodes <= self._replicas else None

    def _write(self, node: Node, timeout_s: float) -> int:
        """Write into the first bucket through the node, and see that every bucket is there and that each stream that
        the node has a replica of has a leader; the message's sequence.

        Raises: OSError, Indeterminate.
        """
        client = self._asking(node, timeout_s)
        try:
            seq = client.write_all(node.name)
        except Definite as e:
            raise Indeterminate(e.text) from None
        finally:
            client.close()
        orphans = [
            s.name for s in self._own(node, timeout_s) if s.cluster is not None and not s.cluster.leader
        ]
        if orphans:
            raise Indeterminate(f"no leader of {len(orphans)} streams, {orphans[0]} among them")
        assert isinstance(seq, int)
        return seq

    def _own(self, node: Node, timeout_s: float) -> list[_Stream]:
        """The run's streams of which the node has a replica."""
        from clusters.systems import _nats_names as names

        said = self._ask(node, "/jsz?streams=true&config=false", _jsz_decoder, timeout_s)
        own = names.base(str(self.options["prefix"]))
        return [s for account in said.accounts for s in account.streams if names.is_of(own, s.name)]

    def tidy(self, node: Node, timeout_s: float) -> None:
        from clusters.systems import _nats_names as names

        own = names.base(str(self.options["prefix"]))
        client = self._asking(node, timeout_s)
        try:
            offset = 0
            found: list[str] = []
            while True:
                body = client._api("STREAM.NAMES", {"offset": offset}, monotonic() + timeout_s)  # noqa: SLF001
                page = _names_decoder.decode(body)
                found += page.streams or []
                offset += len(page.streams or [])
                if not page.streams or offset >= page.total:
                    break
            for name in found:
                if names.is_of(own, name):
                    client._api(f"STREAM.DELETE.{name}", {}, monotonic() + timeout_s)  # noqa: SLF001
        except Definite as e:
            raise Indeterminate(e.text) from None
        finally:
            client.close()

    def status(self, node: Node, timeout_s: float) -> Status:
        from clusters.systems import _nats_names as names

        streams = self._own(node, timeout_s)
        first = f"KV_{names.base(str(self.options['prefix']))}_0"
        bucket = next((s for s in streams if s.name == first), None)
        leader = bucket.cluster.leader if bucket is not None and bucket.cluster is not None else ""
        role: Role = "follower"
        if bucket is None:
            role = "unknown"
        elif leader == node.name:
            role = "leader"
        elif not leader:
            role = "candidate"  # of a group without a leader that it knows
        return Status(role=role, leader=leader or None, revision=bucket.state.last_seq if bucket else None)

    def _ask(self, node: Node, path: str, decoder: msgspec.json.Decoder[_T], timeout_s: float) -> _T:
        """One question to the node's monitoring port, on a connection of its own.

        Raises: OSError, Indeterminate.
        """
        from clusters.http1 import Connection

        connection = Connection(node.address, self.ports["monitor"])
        try:
            status, answer = connection.post(path, b"", timeout_s)
        finally:
            connection.close()
        if status != 200:
            raise Indeterminate(f"http {status}")
        try:
            return decoder.decode(answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Indeterminate("garbage: body") from None

    def dump(self, node: Node, revision: int, timeout_s: float) -> Dump | None:
        """None: a node cannot be asked for what it alone holds as of one moment."""
        del node, revision, timeout_s
        return None

    def events(self, node: str, log: Iterable[tuple[int, str]]) -> Iterator[LogEvent]:
        from clusters.systems._nats_logs import events

        return events(node, log)


def _version_of(program: str) -> str:
    """What a build of the user's says that it is.

    Raises: ArtifactError when it does not run, or is no NATS server.
    """
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError) as e:
        raise ArtifactError(f"{program} --version did not run: {e}") from None
    match = re.search(r"^nats-server: v(\S+)", done.stdout, re.MULTILINE)
    if match is None:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise ArtifactError(
            f"{program} --version said {said[0][:100] if said else 'nothing'!r}; expected 'nats-server: v...'"
        )
    return match[1]
