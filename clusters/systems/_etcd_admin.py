"""What an administrator asks of etcd, through the JSON gateway: members.

Definite are refusals from before the proposal (`mayAddMember`, `mayRemoveMember`, `mayPromoteMember` of etcd's
server: they want every voter connected for 5 s, so that a change is often refused after a fault), and those
that the application gives instead of the effect, which every member gives alike. They were read in
etcd's sources, 3.5 and 3.6. A promotion is handed on to the leader, again and again within one request;
what it refuses then it may refuse because an attempt before succeeded, which the caller sees in the list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from clusters.http1 import Connection, Lost, NotSent
from clusters.systems._etcd_errors import message_of
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

_T = TypeVar("_T")


class _Member(msgspec.Struct):
    id: int = msgspec.field(default=0, name="ID")
    name: str = ""
    peers: list[str] = msgspec.field(default_factory=list, name="peerURLs")
    learner: bool = msgspec.field(default=False, name="isLearner")


class _Members(msgspec.Struct):
    members: list[_Member] = []


# Made once, at import: msgspec crashes when several threads are the first to decode a type at once.
_members: Final = msgspec.json.Decoder(_Members, strict=False)
_anything: Final = msgspec.json.Decoder(msgspec.Raw)


class EtcdAdmin:
    """Implements `harness.core.admin.Admin`. `url` says where a node's peers find it."""

    def __init__(self, client_port: int, url: Callable[[Node], str]) -> None:
        self._port, self._url = client_port, url

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
