"""etcd: how it is obtained, launched and asked how it is, its client, and what it promises.

Here stand life cycle and status. Beside it, private to it: `_etcd_client` (what workloads do) on
`_etcd_leases`, `_etcd_watch` and `_etcd_gateway`; `_etcd_admin` (what administrators do) and `_etcd_restore`;
`_etcd_wire` (requests and answers), `_etcd_errors` (which errors are definite), `_etcd_logs` (what its log tells) and
`_etcd_versions` (where a version comes from, and what is known against it).
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec

from clusters.systems import _etcd_versions as versions
from harness.core.admin import Admin
from harness.core.client import Client
from harness.core.cluster import Node, Process, View
from harness.core.descriptor import Descriptor
from harness.core.errors import ArtifactError, Indeterminate, UsageError
from harness.core.options import Option
from harness.core.system import Dump, Install, LogEvent, Promise, Role, Status

OPTIONS: Final = (
    Option(
        name="reads",
        default="linearizable",
        summary="serializable reads are answered by the node alone and may be stale",
        choices=("linearizable", "serializable"),
    ),
    Option(name="prefix", default="splitbrain/", summary="what the keys of a run begin with"),
    Option(name="binary", default=None, summary="test this etcd instead of a published version"),
    Option(
        name="heartbeat_ms", default=50, summary="a leader's heartbeat interval, in ms", least=10, most=10_000
    ),
    Option(
        name="election_ms",
        default=250,
        summary="a follower's election timeout, in ms: at least 5 heartbeats",
        least=50,
        most=50_000,
    ),
    Option(
        name="snapshot_count",
        default=0,
        summary="entries between two snapshots of the log; 0: the version's own default",
        least=0,
        most=10_000_000,
    ),
    Option(
        name="unsafe-no-fsync",
        default=False,
        summary="known bad: have etcd never sync what it writes, so that a power loss takes acknowledged writes away",
    ),
)

ETCD: Final = Descriptor(
    name="etcd",
    summary="the key-value store of Kubernetes; Raft, linearizable reads and transactions",
    target="clusters.systems.etcd:Etcd",
    options=OPTIONS,
    versions=versions.VERSIONS,
)

_api: Final = 'etcd documentation, "KV API guarantees"'
_faq: Final = 'etcd documentation, "Understand failures"'
_api_link: Final = "https://etcd.io/docs/v3.6/learning/api_guarantees/"
_faq_link: Final = "https://etcd.io/docs/v3.6/op-guide/failures/"
_deaths: Final = frozenset({"kill", "terminate", "crash-loop"})
_power: Final = frozenset({"power-loss", "crash-point"})  # what was not synced is gone as well
# Time passes that a node does not notice, or cannot use.
_failed_disks: Final = frozenset({"slow-disk", "hung-disk", "disk-full", "read-only", "disk-error"})
_stalls: Final = frozenset({"pause", "cpu-pressure", "memory-pressure"}) | _failed_disks
_changes: Final = frozenset({"membership", "admin", "upgrade", "restore"})
_survived: Final = _deaths | _power | _stalls | _changes | {"partition", "packet", "fd-limit"}
_START_GAP_MS: Final = 40
# Between two progress notifications of a watch, the least that etcd takes; its default of ten minutes would let
# hardly any watch of a run end with one.
_PROGRESS_MS: Final = 100
_PAGE: Final = 1000  # keys that a dump asks for at once

_T = TypeVar("_T")


class _StatusHeader(msgspec.Struct):
    member_id: int
    revision: int | None = None


class _Status(msgspec.Struct, rename="camel"):
    """Answer to `maintenance/status`; protobuf's JSON leaves out what is 0 or false."""

    header: _StatusHeader
    leader: int = 0
    raft_index: int | None = None
    raft_term: int | None = None
    raft_applied_index: int | None = None
    is_learner: bool = False


class _Member(msgspec.Struct):
    id: int = msgspec.field(default=0, name="ID")
    name: str = ""


class _Members(msgspec.Struct):
    members: list[_Member] = []


# Made once, at import: msgspec crashes when several threads are the first to decode a type at once.
_status_decoder: Final = msgspec.json.Decoder(_Status, strict=False)
_members_decoder: Final = msgspec.json.Decoder(_Members, strict=False)


class Etcd:
    """A cluster of etcd members. `ports` are for where the usual ones are taken."""

    name = "etcd"
    promises: tuple[Promise, ...] = (
        Promise(
            prop="linearizable",
            families=_survived,
            most="all",  # safety does not depend on how many are gone, as long as disks keep what was synced
            unless={"reads": "serializable"},
            source=f"{_api}: linearizable by default; serializable requests may be stale",
            link=_api_link,
        ),
        Promise(
            prop="availability",
            families=_survived,
            most="all",  # it is judged by coming back once all is healed, which a lost majority does as well
            source=f"{_faq}: once the majority works again, a leader is elected and the cluster is healthy",
            link=_faq_link,
        ),
        # A leader that wakes from a pause, or a sync, may still renew leases, or revoke them, before it hears of
        # its successor.
        Promise(
            prop="lease",
            families=_survived - _stalls,
            most="minority",
            source="etcd #15247, and the discussion of #16822: off by little, and accepted",
            link="https://github.com/etcd-io/etcd/issues/15247",
        ),
        Promise(
            prop="durable",
            families=_deaths | _power,
            most="all",
            source=f"{_api}: completed operations are durable",
            link=_api_link,
        ),
    )

    def __init__(
        self, options: Mapping[str, Any] | None = None, *, ports: Mapping[str, int] | None = None
    ) -> None:
        from clusters.systems._etcd_admin import EtcdAdmin
        from clusters.systems._etcd_client import EtcdClient

        given = options or {}
        self.options = {o.name: o.parse(given[o.name]) if o.name in given else o.default for o in OPTIONS}
        heartbeat, election = self.options["heartbeat_ms"], self.options["election_ms"]
        assert isinstance(heartbeat, int)
        assert isinstance(election, int)
        if election < 5 * heartbeat:  # etcd refuses it as well, but in each node's log
            raise UsageError(
                f"option election_ms={election}: expected at least 5 times heartbeat_ms={heartbeat}, "
                f"that is {5 * heartbeat}"
            )
        self.ports: Mapping[str, int] = dict(ports or {"client": 2379, "peer": 2380})
        self.client: Client = EtcdClient(self.ports["client"])
        self.admin: Admin = EtcdAdmin(self.ports["client"], lambda node: self._at(node, "peer"))
        self._names: dict[int, str] = {}  # member id -> name; they never change while a member lives

    # How it is obtained and run.

    def install(self, version: str | None, artifacts: Any) -> Install:
        from clusters.artifacts import VersionRefused

        if binary := self.options["binary"]:
            if version is not None:
                raise UsageError(f"--version {version} and option binary={binary}: expected one of them")
            artifact = artifacts.local(binary)
            exact = _version_of(artifact.path)
        else:
            exact = versions.VERSIONS.resolve("etcd", version)
            try:
                artifact = versions.obtain(exact, artifacts)
            except VersionRefused as e:
                raise versions.VERSIONS.refused("etcd", exact, str(e), e.served) from e
        return Install(
            version=exact,
            program={"etcd": artifact.path},
            sha256={"etcd": artifact.sha256},
            caveats=(*versions.caveats(exact), *self._caveats()),
        )

    def _caveats(self) -> tuple[str, ...]:
        """What this run's own options break."""
        if not self.options["unsafe-no-fsync"]:
            return ()
        return (
            (
                "unsafe-no-fsync=true: etcd was told not to sync what it acknowledges; a power loss must lose some"
                " of it (a positive control, no finding against etcd)."
            ),
        )

    def launch(self, node: Node, view: View) -> list[Process]:
        url = self._at
        flags = {
            "name": node.name,
            "data-dir": view.data_dir,
            "listen-client-urls": url(node, "client"),
            "advertise-client-urls": url(node, "client"),
            "listen-peer-urls": url(node, "peer"),
            "initial-advertise-peer-urls": url(node, "peer"),
            "initial-cluster": ",".join(f"{n.name}={url(n, 'peer')}" for n in view.nodes),
            "initial-cluster-state": "existing" if view.joining else "new",  # ignored once there is data
            "initial-cluster-token": view.run,  # so that members of another run are never taken for ours
            "heartbeat-interval": str(self.options["heartbeat_ms"]),
            "election-timeout": str(self.options["election_ms"]),
            "logger": "zap",  # 3.4's default is another format
            "log-outputs": "stderr",
            "log-level": "info",
        }
        if flag := _progress_flag(view.version):
            flags[flag] = f"{_PROGRESS_MS}ms"
        if self.options["snapshot_count"]:
            flags["snapshot-count"] = str(self.options["snapshot_count"])
        if self.options["unsafe-no-fsync"]:
            flags["unsafe-no-fsync"] = "true"
        argv = (view.program["etcd"], *(f"--{flag}={value}" for flag, value in flags.items()))
        ports = (self.ports["client"], self.ports["peer"])
        # Three members that start at the same instant find each other's ports open and nobody answering, and
        # wait out a time-out of one second each: 2.4 s to the first write. One after the other it is 0.2 s.
        delay_ms = _START_GAP_MS * view.nodes.index(node)
        return [Process(name="etcd", argv=argv, ports=ports, dirs=(view.data_dir,), start_after_ms=delay_ms)]

    def _at(self, node: Node, port: str) -> str:
        """Where a node's port of this name is."""
        host = f"[{node.address}]" if ":" in node.address else node.address
        return f"http://{host}:{self.ports[port]}"

    # How it is.

    def ready(self, node: Node, timeout_s: float) -> None:
        self.barrier(node, timeout_s)

    def barrier(self, node: Node, timeout_s: float) -> int | None:
        from clusters.systems._etcd_wire import NODE, put_body, put_decoder

        key = f"{self.options['prefix']}{NODE}{node.name}".encode()
        body = put_body(key, True)  # noqa: FBT003 - the value
        return self._ask(node, "/v3/kv/put", body, put_decoder, timeout_s).header.revision

    def tidy(self, node: Node, timeout_s: float) -> None:
        from base64 import b64encode

        from clusters.systems._etcd_wire import behind, put_decoder

        first = str(self.options["prefix"]).encode()
        body = b'{"key":"%b","range_end":"%b"}' % (b64encode(first), b64encode(behind(first)))
        self._ask(node, "/v3/kv/deleterange", body, put_decoder, timeout_s)

    def status(self, node: Node, timeout_s: float) -> Status:
        said = self._ask(node, "/v3/maintenance/status", b"{}", _status_decoder, timeout_s)
        role: Role = "follower"
        if said.is_learner:
            role = "learner"
        elif said.leader == 0:
            role = "candidate"  # raft forgets the leader on becoming (pre-)candidate, and only then
        elif said.leader == said.header.member_id:
            role = "leader"
        if said.leader and said.leader not in self._names:
            # An empty request is answered from the node's own membership, without the leader.
            known = self._ask(node, "/v3/cluster/member/list", b"{}", _members_decoder, timeout_s).members
            self._names |= {m.id: m.name for m in known if m.name}  # nameless until it first started
        return Status(
            role=role,
            term=said.raft_term,
            leader=self._names.get(said.leader),
            commit=said.raft_index,
            applied=said.raft_applied_index,
            revision=said.header.revision,
        )

    def _ask(
        self, node: Node, path: str, body: bytes, decoder: msgspec.json.Decoder[_T], timeout_s: float
    ) -> _T:
        """One question on a connection of its own.

        Raises: OSError, Indeterminate.
        """
        from clusters.http1 import Connection
        from clusters.systems._etcd_errors import classify

        connection = Connection(node.address, node.port or self.ports["client"])
        try:
            status, answer = connection.post(path, body, timeout_s)
        finally:
            connection.close()
        if status != 200:
            raise Indeterminate(classify(status, answer)[0])
        try:
            return decoder.decode(answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Indeterminate("garbage: body") from None

    def dump(self, node: Node, revision: int, timeout_s: float) -> Dump:
        from clusters.systems._etcd_wire import behind, page_body, range_decoder

        first = str(self.options["prefix"]).encode()
        end = behind(first)
        content: dict[str, str] = {}
        more = True
        while more:
            body = page_body(first, end, revision, _PAGE)
            answer = self._ask(node, "/v3/kv/range", body, range_decoder, timeout_s)
            for kv in answer.kvs:
                content[_text(kv.key)] = _text(kv.value)
            more = answer.more and bool(answer.kvs)
            if more:
                first = answer.kvs[-1].key + b"\0"  # the least key behind it
        return Dump(revision=revision, content=content, hash=self._hash(node, revision, timeout_s))

    def _hash(self, node: Node, revision: int, timeout_s: float) -> str | None:
        """The hash of all keys up to `revision`; None where it cannot be had (up to 3.5 the gateway does not
        offer it), or would not compare: it leaves out what is compacted, and nodes compact on their own."""
        from clusters.systems._etcd_wire import hash_decoder

        body = b'{"revision":"%d"}' % revision
        try:
            said = self._ask(node, "/v3/maintenance/hashkv", body, hash_decoder, timeout_s)
        except Indeterminate:
            return None
        return str(said.hash) if said.compact_revision is not None and said.compact_revision <= 0 else None

    def events(self, node: str, log: Iterable[tuple[int, str]]) -> Iterator[LogEvent]:
        from clusters.systems._etcd_logs import events

        return events(node, log)


def _text(data: bytes) -> str:
    """A key or value of ours, which is UTF-8, or of anybody's."""
    return data.decode(errors="backslashreplace")


def _progress_flag(version: str) -> str | None:
    """What the interval of progress notifications is called; None where that is not certain."""
    match = re.match(r"(\d+)\.(\d+)\.", version)
    release = (int(match[1]), int(match[2])) if match else (0, 0)
    if release < (3, 5):
        return None
    return f"{'' if release >= (3, 6) else 'experimental-'}watch-progress-notify-interval"


def _version_of(program: str) -> str:
    """What a build of the user's says that it is.

    Raises: ArtifactError when it does not run, or is no etcd.
    """
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.SubprocessError) as e:
        raise ArtifactError(f"{program} --version did not run: {e}") from None
    match = re.search(r"^etcd Version: (\S+)", done.stdout, re.MULTILINE)
    if match is None:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise ArtifactError(
            f"{program} --version said {said[0][:100] if said else 'nothing'!r}; expected 'etcd Version: ...'"
        )
    return match[1]
