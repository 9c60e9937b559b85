"""Leases, and what is built on them: locks and elections, each call one request.

A lock is a key that exists while somebody holds it. Acquiring is one transaction: if the key does not
exist, put it with the caller's lease. It never waits; held is an answer. The token is the key's create
revision, which grows with every grant because revisions do. Releasing is revoking the lease, which
deletes the key with it, and so does the lease's end: a holder that was paused beyond its TTL does not
know that it lost the lock. What it guards is another key, without a lease, and is written either
blindly, or fenced: in a transaction that compares the token with the lock as it is then.

An election is the same thing under another name: the leader is who holds the key.

A lease's id is the text of an int64. Grants and revocations go through the log. A keep-alive does not:
the leader extends its own timer, hence any error of it but "not found" leaves open whether it did.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from clusters.systems._etcd_gateway import Gateway, changed
from clusters.systems._etcd_wire import (
    ELECTION,
    GUARDED,
    LEASE,
    LOCK,
    KeyValue,
    created_at,
    decode,
    keepalive_decoder,
    lease_body,
    lease_decoder,
    put_decoder,
    range_body,
    set_to,
    txn_body,
    txn_decoder,
)
from harness.core.errors import Definite, Mismatch
from harness.core.op import Reply


class Leases(Gateway):
    """Operations of the workloads lease, lock and election."""

    def lease_grant(self, key: Any, ttl_s: float) -> Reply:
        """A new lease; `ttl_s` beside it is the server's, which may be longer than what was asked for."""
        del key  # a lease belongs to no key before one is attached
        answer = self._change("/v3/lease/grant", b'{"TTL":"%d"}' % ceil(ttl_s), lease_decoder)
        lease = str(answer.id)
        return Reply(lease, lease=lease, ttl_s=answer.ttl_s)

    def lease_revoke(self, key: Any, lease: str) -> Reply:
        """End the lease, and with it all keys that hang on it."""
        del key
        self._change("/v3/lease/revoke", lease_body(lease), put_decoder)
        return Reply(lease, lease=lease)

    def lease_keepalive(self, key: Any, lease: str) -> Reply:
        """Start the lease's TTL anew."""
        del key
        # A stream that ends by itself, since what it is sent ends.
        body = lease_body(lease)
        answer = self._change("/v3/lease/keepalive", body, keepalive_decoder, logged=False).result
        if answer.ttl_s <= 0:
            raise Definite("lease not found")
        return Reply(lease, lease=lease, ttl_s=answer.ttl_s)

    def lease_attach(self, key: Any, lease: str) -> Reply:
        """Put the key, to live as long as the lease."""
        return changed(lease, self._put(self._key(LEASE, key), lease, int(lease)), lease=lease)

    def lease_read(self, key: Any) -> Reply:
        """The lease that the key hangs on, None when the key is gone."""
        body = range_body(self._key(LEASE, key), serializable=self._serializable)
        return self._read(body, lambda kvs: str(kvs[0].lease) if kvs else None)

    # Locks.

    def lock_acquire(self, key: Any, lease: str) -> Reply:
        """The lock's token.

        Raises: Mismatch("held"), which is evidence that somebody held it at that moment.
        """
        return self._hold(self._key(LOCK, key), lease)

    def lock_read(self, key: Any) -> Reply:
        """What the lock guards."""
        body = range_body(self._key(GUARDED, key), serializable=self._serializable)
        return self._read(body, lambda kvs: decode(kvs[0].value) if kvs else None)

    def lock_write(self, key: Any, what: list[Any]) -> Reply:
        """Set what the lock guards to the first of [v, token], whoever holds the lock."""
        return changed(what, self._put(self._key(GUARDED, key), what[0]))

    def lock_write_fenced(self, key: Any, what: list[Any]) -> Reply:
        """The same, if the lock is still the one that was granted with this token.

        Raises: Definite("stale token").
        """
        value, token = what
        body = txn_body([created_at(self._key(LOCK, key), token)], [set_to(self._key(GUARDED, key), value)])
        answer = self._change("/v3/kv/txn", body, txn_decoder)
        if not answer.succeeded:
            raise Definite("stale token")
        return changed(what, answer.header)

    # Elections.

    def election_campaign(self, key: Any, lease: str) -> Reply:
        """The token of the term won.

        Raises: Mismatch("held"): somebody leads.
        """
        return self._hold(self._key(ELECTION, key), lease)

    def election_leader(self, key: Any) -> Reply:
        """The token of who leads, None for nobody."""
        body = range_body(self._key(ELECTION, key), serializable=self._serializable)
        return self._read(body, _created)

    def _hold(self, name: bytes, lease: str) -> Reply:
        body = txn_body([created_at(name, 0)], [set_to(name, lease, int(lease))])
        answer = self._change("/v3/kv/txn", body, txn_decoder)
        if not answer.succeeded:
            raise Mismatch("held")
        # The transaction's only change created the key.
        return changed(answer.header.revision, answer.header, token=answer.header.revision, lease=lease)


def _created(kvs: list[KeyValue]) -> int | None:
    return kvs[0].create_revision if kvs else None
