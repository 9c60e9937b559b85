"""Watching a prefix: one stream a call, read until all that had happened by then has come, then closed.

What etcd promises of a watch ("Watch APIs" of its documentation): events are ordered by revision, never
come twice, are never torn within a revision or missing in between, a watch can be resumed at a
revision, and a progress notification says that everything up to its revision has been sent. So after a
call all up to its *bookmark* has certainly been delivered: the greater of the last notification's
revision and that of the last event. (The head of a message with events says less than it seems: a
backlog comes in pieces of a thousand revisions, each under the store's revision of the time.)

A call ends when a notification covers the revision that the store had when the watch was created, but
not before the watch has been open for a while, so that it sees changes as they happen and not history
alone. Where no notification comes (a server that sends them every ten minutes, a start in the future)
it ends after its budget. A message cut by that end is not looked at, hence nothing is torn by us.
"""

from __future__ import annotations

from time import monotonic
from typing import Any, Final

from clusters.http1 import Stream
from clusters.systems._etcd_errors import classify
from clusters.systems._etcd_gateway import Gateway, changed
from clusters.systems._etcd_wire import (
    WATCHED,
    Watched,
    decode,
    encode,
    garbled,
    put_decoder,
    set_to,
    txn_body,
    watch_body,
    watch_decoder,
)
from clusters.wire import Lost, NotSent
from harness.core.errors import Definite
from harness.core.op import Reply

_open_share: Final = 0.2  # of the call's time-out: how long a watch stays open at least
_budget_share: Final = 0.9  # and at most, where it has not caught up


class Watches(Gateway):
    """Operations of the workload watch."""

    def watch_put(self, key: Any, pairs: list[list[Any]]) -> Reply:
        """Put each [sub, value] below the prefix, None deleting it: at once, in one revision."""
        first = self._below(WATCHED, key)
        body = txn_body([], [set_to(first + encode(sub), value) for sub, value in pairs])
        return changed(pairs, self._change("/v3/kv/txn", body, put_decoder).header)

    def watch_events(self, key: Any, start: int = 1) -> Reply:
        """What happened below the prefix from revision `start` on.

        Raises: Definite; watching changes nothing.
        """
        assert self._connection is not None, "open() makes the clients that can ask"
        first = self._below(WATCHED, key)
        begun = monotonic()
        events: list[list[Any]] = []
        seen = _Progress(start)
        try:
            stream = self._connection.stream("/v3/watch", watch_body(first, start), self._timeout_s)
            if stream.status != 200:
                raise Definite(_refusal(stream, begun + self._timeout_s))
            seen.opened(_next(stream, begun + self._timeout_s))
            shortest, longest = (
                monotonic() + share * self._timeout_s for share in (_open_share, _budget_share)
            )
            while not seen.enough() or monotonic() < shortest:
                try:
                    message = _next(stream, shortest if seen.enough() else longest)
                except Lost as e:
                    if e.text == "timeout" and not seen.silent():
                        break
                    raise
                seen.note(message)
                for event in message.events:
                    value = None if event.type == "DELETE" else decode(event.kv.value)
                    events.append([event.kv.mod_revision, decode(event.kv.key[len(first) :]), value])
        except (NotSent, Lost) as e:
            raise Definite(e.text) from None
        except garbled:
            raise Definite("garbage: body") from None
        finally:
            self.close()  # the stream goes on for ever
        after = start if seen.bookmark is None else max(start, seen.bookmark + 1)
        return Reply({"from": start, "events": events, "next": after, "bookmark": seen.bookmark})


class _Progress:
    """How far a watch has come. `bookmark` is None while nothing is certain."""

    def __init__(self, start: int) -> None:
        self.bookmark: int | None = None
        self._goal = start
        self._past = False  # whether it asks for what has happened already

    def opened(self, message: Watched) -> None:
        """Take the first message, which says that the watch is there."""
        self._refuse_a_cancelled(message)
        if not message.created or not message.header.revision:
            raise Definite("garbage: watch not created")
        self._past = message.header.revision >= self._goal
        self._goal = max(self._goal, message.header.revision)

    def note(self, message: Watched) -> None:
        """Take another message."""
        self._refuse_a_cancelled(message)
        upto = message.events[-1].kv.mod_revision if message.events else message.header.revision
        self.bookmark = max(self.bookmark or 0, upto)

    def silent(self) -> bool:
        """Whether there is something to tell, and nothing came, not even how far it is: that is no answer."""
        return self.bookmark is None and self._past

    def enough(self) -> bool:
        return self.bookmark is not None and self.bookmark >= self._goal

    @staticmethod
    def _refuse_a_cancelled(message: Watched) -> None:
        if message.compact_revision:
            raise Definite("watch compacted")
        if message.canceled:
            raise Definite(f"watch cancelled: {message.cancel_reason[:60]}".rstrip(": "))


def _next(stream: Stream, deadline: float) -> Watched:
    """The next message.

    Raises: Lost, Definite; and what msgspec does with garbage.
    """
    line = stream.line(deadline)
    if line is None:
        raise Definite("watch ended")
    message = watch_decoder.decode(line).result
    if message is None:
        raise Definite(classify(200, line)[0])
    return message


def _refusal(stream: Stream, deadline: float) -> str:
    """What the body of a refusal says."""
    lines = []
    while (line := stream.line(deadline)) is not None:
        lines.append(line)
    return classify(stream.status, b"\n".join(lines))[0]
