"""What an administrator asks of etcd, through the JSON gateway: members, versions, upkeep.

Definite are refusals from before the proposal (`mayAddMember`, `mayRemoveMember`, `mayPromoteMember` of etcd's
server: they want every voter connected for 5 s, so that a change is often refused after a fault), and those
that the application gives instead of the effect, which every member gives alike. They were read in
etcd's sources, 3.5 and 3.6. A promotion is handed on to the leader, again and again within one request;
what it refuses then it may refuse because an attempt before succeeded, which the caller sees in the list.

A node of 3.6 or later says of what it has on its disk in which version's form it is; an older version can take
over once that is its own, to which the cluster comes by itself after `downgrade` was enabled (etcd's
documentation, "Downgrade etcd from v3.6 to v3.5"). Counts are the node's own metrics.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from clusters.http1 import Connection
from clusters.systems._etcd_errors import message_of
from clusters.wire import Lost, NotSent
from harness.core.admin import Member
from harness.core.cluster import Node
from harness.core.errors import Definite, Indeterminate

REFUSED: Final = frozenset(
    {
        "etcdserver: unhealthy cluster",
        "etcdserver: re-configuration failed due to not enough started members",
        "etcdserver: can only promote a learner member which is in sync with leader",
        "etcdserver: can only promote a learner member",
        "etcdserver: too many learner members in cluster",
        "etcdserver: member ID already exist",
        "etcdserver: Peer URLs already exists",
        "etcdserver: member not found",
        "etcdserver: no leader",
        "raft proposal dropped",
    }
)

# Answers to `lower` that say that it is so already, or will be.
_LOWERED: Final = frozenset(
    {
        "etcdserver: cluster has a downgrade job in progress",
        "etcdserver: invalid downgrade target version",
    }
)
_COUNTS: Final = {
    "compact": "etcd_debugging_mvcc_compact_revision",
    "defragment": "etcd_disk_backend_defrag_duration_seconds_count",
    "snapshot": "etcd_disk_backend_snapshot_duration_seconds_count",
}
_DIGEST: Final = 32  # bytes of SHA-256 behind a snapshot

_T = TypeVar("_T")


class _Member(msgspec.Struct):
    id: int = msgspec.field(default=0, name="ID")
    name: str = ""
    peers: list[str] = msgspec.field(default_factory=list, name="peerURLs")
    learner: bool = msgspec.field(default=False, name="isLearner")


class _Members(msgspec.Struct):
    members: list[_Member] = []


class _Status(msgspec.Struct):
    version: str = ""
    storage_version: str = msgspec.field(default="", name="storageVersion")


class _Part(msgspec.Struct):
    blob: str = ""


class _Line(msgspec.Struct):
    """One message of the stream that answers `snapshot`: `result`, or an error."""

    result: _Part | None = None


# Made once, at import: msgspec crashes when several threads are the first to decode a type at once.
_members: Final = msgspec.json.Decoder(_Members, strict=False)
_status: Final = msgspec.json.Decoder(_Status, strict=False)
_line: Final = msgspec.json.Decoder(_Line, strict=False)
_anything: Final = msgspec.json.Decoder(msgspec.Raw)


class EtcdAdmin:
    """Implements `harness.core.admin.Admin`. `url` says where a node's peers find it."""

    def __init__(self, client_port: int, url: Callable[[Node], str]) -> None:
        self._port, self._url = client_port, url
        self._restores = ""

    def members(self, node: Node, timeout_s: float, *, agreed: bool) -> tuple[Member, ...]:
        body = b'{"linearizable":true}' if agreed else b"{}"
        said = self._ask(node, "/v3/cluster/member/list", body, _members, timeout_s)
        return tuple(
            Member(
                id=str(m.id),
                address=urlsplit(m.peers[0]).hostname or "" if m.peers else "",
                name=m.name,
                learner=m.learner,
            )
            for m in said.members
        )

    def add(self, through: Node, new: Node, timeout_s: float, *, learner: bool) -> None:
        body = msgspec.json.encode({"peerURLs": [self._url(new)], "isLearner": learner})
        self._ask(through, "/v3/cluster/member/add", body, _anything, timeout_s)

    def promote(self, through: Node, member: str, timeout_s: float) -> None:
        self._ask(through, "/v3/cluster/member/promote", _of(member), _anything, timeout_s)

    def remove(self, through: Node, member: str, timeout_s: float) -> None:
        self._ask(through, "/v3/cluster/member/remove", _of(member), _anything, timeout_s)

    def version(self, node: Node, timeout_s: float) -> str:
        return self._ask(node, "/v3/maintenance/status", b"{}", _status, timeout_s).version

    def ready_for(self, node: Node, version: str, timeout_s: float) -> bool:
        said = self._ask(node, "/v3/maintenance/status", b"{}", _status, timeout_s)
        wanted = _release(version)
        return _release(said.version) <= wanted or _release(said.storage_version) <= wanted

    def lower(self, through: Node, version: str, timeout_s: float) -> None:
        major, minor = _release(version)
        body = msgspec.json.encode({"action": "ENABLE", "version": f"{major}.{minor}.0"})
        try:
            self._ask(through, "/v3/maintenance/downgrade", body, _anything, timeout_s)
        except (Definite, Indeterminate) as e:
            if str(e) not in _LOWERED:
                raise

    def transfer(self, leader: Node, member: str, timeout_s: float) -> None:
        body = b'{"targetID":"%d"}' % int(member)
        self._ask(leader, "/v3/maintenance/transfer-leadership", body, _anything, timeout_s)

    def compact(self, node: Node, revision: int, timeout_s: float) -> None:
        self._ask(node, "/v3/kv/compaction", b'{"revision":"%d"}' % revision, _anything, timeout_s)

    def defragment(self, node: Node, timeout_s: float) -> None:
        self._ask(node, "/v3/maintenance/defragment", b"{}", _anything, timeout_s)

    def snapshot(self, node: Node, timeout_s: float) -> bytes:
        connection = Connection(node.address, node.port or self._port)
        deadline = monotonic() + timeout_s
        data = bytearray()
        try:
            stream = connection.stream("/v3/maintenance/snapshot", b"{}", timeout_s)
            while (line := stream.line(deadline)) is not None:
                part = _line.decode(line).result
                if part is None:
                    raise Indeterminate(message_of(line) or "garbage: no part of a snapshot")
                data += b64decode(part.blob)
        except NotSent as e:
            raise Definite(e.text) from None
        except Lost as e:
            raise Indeterminate(e.text) from None
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError):
            raise Indeterminate("garbage: body") from None
        finally:
            connection.close()
        if hashlib.sha256(data[:-_DIGEST]).digest() != bytes(data[-_DIGEST:]):
            raise Indeterminate(f"a snapshot of {len(data)} bytes does not have the checksum behind it")
        return bytes(data)

    def equip(self, version: str, artifacts: Any) -> None:
        from clusters.systems import _etcd_restore

        self._restores = _etcd_restore.obtain(version, artifacts)

    def restored(self, snapshot: bytes, nodes: Sequence[Node], cluster: str, folder: Path) -> dict[str, Path]:
        from clusters.systems import _etcd_restore

        urls = {node.name: self._url(node) for node in nodes}
        return _etcd_restore.restored(self._restores, snapshot, urls, cluster, folder)

    def counts(self, node: Node, timeout_s: float) -> dict[str, float]:
        connection = Connection(node.address, node.port or self._port)
        try:
            status, body = connection.request("GET", "/metrics", b"", timeout_s)
        except (NotSent, Lost) as e:
            raise Indeterminate(e.text) from None
        finally:
            connection.close()
        text = body.decode(errors="replace") if status == 200 else ""
        found = {kind: re.search(rf"^{name} (\S+)$", text, re.MULTILINE) for kind, name in _COUNTS.items()}
        return {kind: float(match[1]) for kind, match in found.items() if match is not None}

    def _ask(
        self, node: Node, path: str, body: bytes, decoder: msgspec.json.Decoder[_T], timeout_s: float
    ) -> _T:
        """One request on a connection of its own.

        Raises: Definite, Indeterminate.
        """
        connection = Connection(node.address, node.port or self._port)
        try:
            status, answer = connection.post(path, body, timeout_s)
        except NotSent as e:
            raise Definite(e.text) from None
        except Lost as e:
            raise Indeterminate(e.text) from None
        finally:
            connection.close()
        if status != 200:
            said = message_of(answer) or f"http {status}"
            raise (Definite if said in REFUSED else Indeterminate)(said)
        try:
            return decoder.decode(answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Indeterminate("garbage: body") from None


def _of(member: str) -> bytes:
    return b'{"ID":"%d"}' % int(member)


def _release(version: str) -> tuple[int, int]:
    """The release of a version; of none the greatest, since nobody can take over what has no version.

    >>> _release("3.5.35"), _release("")
    ((3, 5), (999, 0))
    """
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (999, 0)
