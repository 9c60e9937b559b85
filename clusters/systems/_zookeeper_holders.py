"""Leases, and what is built on them: locks and elections.

A lease is a session with a connection of its own: granting opens it, keeping it alive is a ping, revoking
closes it, and what the server made of the time that was asked for stands beside the grant. Nothing but
these keeps it alive. What is held by it are ephemeral znodes, which go with the session. A lease whose
connection broke can not be used any more, and runs out by itself; the same when a client lets go of it
without revoking, as when its process is retired.

A lock is an ephemeral znode; acquiring is one transaction that makes it and counts the grant in the
version of a znode beside it. That number is the token. It never waits; that the znode exists is an
answer. The guarded value is another znode, written either blindly, or fenced: in a transaction that
checks that the lock is held and that no later grant was counted.

An election is an ephemeral znode, too; its token is the zxid that made it.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from kazoo.protocol.serialization import (  # type: ignore[import-untyped]
    CheckVersion,
    Close,
    Exists,
    SetData,
    Transaction,
)

from clusters.systems._zookeeper_errors import BAD_VERSION, NO_NODE, NODE_EXISTS
from clusters.systems._zookeeper_gateway import (
    ELECTION,
    EPHEMERAL,
    GRANTS,
    GUARDED,
    LEASE,
    LOCK,
    Answered,
    Gateway,
    create,
    decode,
    encode,
    made,
)
from clusters.systems._zookeeper_session import Session
from clusters.wire import Lost, NotSent
from harness.core.errors import Definite, Indeterminate, Mismatch
from harness.core.op import Reply


class Holders(Gateway):
    """Operations of the workloads lease, lock and election."""

    def __init__(self, port: int = 2181) -> None:
        super().__init__(port)
        self._lease: Session | None = None

    def close(self) -> None:
        """Let go of all connections; nothing is revoked."""
        super().close()
        if self._lease is not None:
            self._lease.close()

    def lease_grant(self, key: Any, ttl_s: float) -> Reply:
        """A new lease; `ttl_s` beside it is the server's, between two ticks and a minute."""
        del key  # a lease belongs to no key before one is attached
        # The one before is left to run out.
        if self._lease is not None:
            self._lease.close()
        session = self._lease = self._new_session(ttl_s, lazy=False)
        try:
            session.open(monotonic() + self._timeout_s)
        except NotSent as e:
            raise Definite(e.text) from None
        except Lost as e:
            raise Indeterminate(e.text) from None
        lease = _id(session)
        return Reply(lease, lease=lease, ttl_s=session.timeout_s)

    def lease_revoke(self, key: Any, lease: str) -> Reply:
        """End the lease, and with it all that it holds."""
        del key
        self._call(self._of(lease)).change(Close())
        return Reply(lease, lease=lease)

    def lease_keepalive(self, key: Any, lease: str) -> Reply:
        """Start the lease's time anew, as far as this server is concerned: it tells the leader a little later."""
        del key
        session = self._of(lease)
        try:
            session.ping(monotonic() + self._timeout_s)
        except NotSent as e:
            raise Definite(e.text) from None
        except Lost as e:
            raise Indeterminate(e.text) from None
        return Reply(lease, lease=lease, ttl_s=session.timeout_s)

    def lease_attach(self, key: Any, lease: str) -> Reply:
        """Make the key, to live as long as the lease."""
        said, _ = self._call(self._of(lease)).change(made(self._path(LEASE, key), encode(lease), EPHEMERAL))
        return Reply(lease, revision=said[1].mzxid, lease=lease)

    def lease_read(self, key: Any) -> Reply:
        """The lease that the key hangs on, None when the key is gone."""
        found = self._read(self._path(LEASE, key))
        return Reply(None) if found is None else self._seen(decode(found[0]), found[2])

    # Locks.

    def lock_acquire(self, key: Any, lease: str) -> Reply:
        """The lock's token.

        Raises: Mismatch("held"), which is evidence that somebody held it at that moment.
        """
        grants, guarded = self._path(GRANTS, key), self._path(GUARDED, key)
        request = Transaction(
            [create(self._path(LOCK, key), encode(lease), EPHEMERAL), SetData(grants, encode(lease), -1)]
        )
        try:
            said, _ = self._call(self._of(lease)).with_nodes((grants, guarded), request)
        except Answered as e:
            raise (Mismatch("held") if e.code == NODE_EXISTS else Definite(e.text)) from None
        token = said[1].version
        return Reply(token, revision=said[1].mzxid, token=token, lease=lease)

    def lock_read(self, key: Any) -> Reply:
        """What the lock guards."""
        found = self._read(self._path(GUARDED, key))
        return Reply(None) if found is None else self._seen(decode(found[0]), found[2])

    def lock_write(self, key: Any, what: list[Any]) -> Reply:
        """Set what the lock guards to the first of [v, token], whoever holds the lock."""
        stat = self._call().put(self._path(GUARDED, key), encode(what[0]))
        return Reply(what, revision=stat.mzxid)

    def lock_write_fenced(self, key: Any, what: list[Any]) -> Reply:
        """The same, if the lock is still the one that was granted with this token.

        Raises: Definite("stale token").
        """
        value, token = what
        parts = [
            CheckVersion(self._path(LOCK, key), -1),  # that it is held
            CheckVersion(self._path(GRANTS, key), token),  # by nobody later
            SetData(self._path(GUARDED, key), encode(value), -1),
        ]
        try:
            said, _ = self._call().change(Transaction(parts))
        except Answered as e:
            stale = e.code in (BAD_VERSION, NO_NODE)
            raise Definite("stale token" if stale else e.text) from None
        return Reply(what, revision=said[2].mzxid)

    # Elections.

    def election_campaign(self, key: Any, lease: str) -> Reply:
        """The token of the term won.

        Raises: Mismatch("held"): somebody leads.
        """
        try:
            request = made(self._path(ELECTION, key), encode(lease), EPHEMERAL)
            said, _ = self._call(self._of(lease)).change(request)
        except Answered as e:
            raise (Mismatch("held") if e.code == NODE_EXISTS else Definite(e.text)) from None
        token = said[1].czxid
        return Reply(token, revision=token, token=token, lease=lease)

    def election_leader(self, key: Any) -> Reply:
        """The token of who leads, None for nobody."""
        call = self._call()
        self._fence(call)
        try:
            stat, zxid = call.look(Exists(self._path(ELECTION, key), None))
        except Answered as e:
            if e.code != NO_NODE:
                raise
            return Reply(None)
        return self._seen(stat.czxid, zxid)

    def _of(self, lease: str) -> Session:
        """The session of a lease.

        Raises: Definite where it is not ours, or its connection has ended: it cannot be used, whether it lives or not.
        """
        session = self._lease
        if session is None or not session.alive() or _id(session) != lease:
            raise Definite("lease lost")
        return session


def _id(session: Session) -> str:
    return f"{session.id & (2**64 - 1):x}"
