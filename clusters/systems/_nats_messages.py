"""Logs of messages: a stream each, created by the first publish; read by sequence number, many at once.

A `checked` read publishes a mark first, and then asks replicas (the node's own, if it has one) for every
message up to the mark, so that the log is read as of a moment after the read began, whoever answers. A
replica that has not come so far is asked again until it has, or the call's time is up. With `leader` and
`direct` a read ends where the one asked has no further message.

A log that is asked for from the beginning with None, as final reads are, and whose stream the cluster says
does not exist, is empty. Otherwise that is an error: a deposed leader may not know the stream yet.
"""

from __future__ import annotations

from base64 import b64decode
from time import monotonic, sleep
from typing import Any, Final

import msgspec

from clusters.systems import _nats_names as names
from clusters.systems._nats_errors import NO_MESSAGE, NO_STREAM, answer_decoder
from clusters.systems._nats_jetstream import RESPONDS_NOBODY, JetStream, garbled
from clusters.systems._nats_wire import Message
from clusters.wire import Lost, NotSent
from harness.core.errors import Definite
from harness.core.op import Reply

_PAGE: Final = 128  # messages asked for at once
_AGAIN_S: Final = 0.003
_MARKED: Final = object()  # a message that is a mark


class _Stored(msgspec.Struct):
    subject: str = ""
    data: str = ""


class _Got(msgspec.Struct):
    message: _Stored


_got_decoder: Final = msgspec.json.Decoder(_Got)


class Messages(JetStream):
    """Operations of the workload log."""

    def log_publish(self, key: Any, value: Any) -> Reply:
        """Append a message. With `dedupe` it carries an id by which the server knows it again."""
        deadline = self._deadline()
        _, subject = self._log(key, deadline)
        fields = {"Nats_Msg_Id": names.token(value)} if self._options.get("dedupe", True) else None
        return Reply(value, sequence=self._publish(subject, names.encode(value), deadline, fields).seq)

    def _log(self, key: Any, deadline: float) -> tuple[str, str]:
        """Stream and subject of a log, which is there then. Raises: Definite."""
        token = names.token(key)
        name, subject = f"{self._prefix}_log_{token}", f"{self._prefix}.log.{token}"
        self._ensure(names.config(name, [subject, f"{subject}.~mark"], self._replicas), deadline)
        return name, subject

    def log_read(self, key: Any, start: int | None = None) -> Reply:
        """The messages from sequence number `start` on: {"from", "messages": [[sequence, value], ...], "next"}.

        Raises: Definite.
        """
        deadline = self._deadline()
        name, subject = self._log(key, deadline)
        first = start or 1
        try:
            if self._reads == "checked":
                end = self._reading(f"{subject}.~mark", deadline) + 1
                found = self._up_to(name, subject, first, end, deadline)
            else:
                found = self._as_far_as_it_goes(name, subject, first, deadline)
                end = max(found, default=first - 1) + 1
        except Definite as e:
            if start is None and e.text == "no responders" and self._is_gone(name, deadline):
                return Reply({"from": 1, "messages": [], "next": 1})
            raise
        messages = [[at, found[at]] for at in sorted(found) if found[at] is not _MARKED]
        return Reply({"from": first, "messages": messages, "next": max(end, first)})

    def _is_gone(self, name: str, deadline: float) -> bool:
        """The cluster says that there is no such stream, and still does near the end of the call."""
        while self._api(f"STREAM.INFO.{name}", {}, deadline, NO_STREAM) is None:
            if monotonic() + self._timeout_s / 3 > deadline:
                return True
            sleep(self._timeout_s / 10)
        return False

    def _up_to(self, name: str, subject: str, first: int, end: int, deadline: float) -> dict[int, Any]:
        """The messages from `first` to before `end`, which is behind a mark; what is still missing when the
        mark has been met and was asked for again is not there.

        Raises: Definite.
        """
        found: dict[int, Any] = {}
        wanted = list(range(first, end))
        patience = deadline - self._timeout_s / 4
        while wanted:
            for at in range(0, len(wanted), _PAGE):
                found |= self._page(name, subject, wanted[at : at + _PAGE], deadline)
            wanted = [at for at in wanted if at not in found]
            if wanted and monotonic() > patience:
                if end - 1 not in found:
                    self.close()
                    raise Definite("behind")  # what answered has not come so far
                break
            if wanted:
                sleep(_AGAIN_S)
        return found

    def _as_far_as_it_goes(self, name: str, subject: str, first: int, deadline: float) -> dict[int, Any]:
        found: dict[int, Any] = {}
        at = first
        while page := self._page(name, subject, range(at, at + _PAGE), deadline):
            found |= page
            at += _PAGE
        # What came in while the page was answered: numbers are given in order, so those below one that is there
        # are there too, or never will be.
        holes = [n for n in range(first, max(found, default=first)) if n not in found]
        for n in range(0, len(holes), _PAGE):
            found |= self._page(name, subject, holes[n : n + _PAGE], deadline)
        return found

    def _page(self, name: str, subject: str, wanted: Any, deadline: float) -> dict[int, Any]:
        """Those of the messages that there are. Raises: Definite."""
        leader = self._reads == "leader"
        to = f"$JS.API.STREAM.MSG.GET.{name}" if leader else f"$JS.API.DIRECT.GET.{name}"
        wire = self._connected()
        found: dict[int, Any] = {}
        try:
            number = wire.send([(to, b'{"seq":%d}' % at) for at in wanted], deadline)
            open_ = dict(enumerate(wanted, number))
            while open_:
                answer = wire.next(deadline)
                at = open_.pop(answer.number, None)
                if at is not None:
                    value = self._stored(answer) if leader else self._direct(answer, subject)
                    if value is not None:
                        found[at] = value[0] if value[1] == subject else _MARKED
        except (NotSent, Lost) as e:
            raise Definite(e.text) from None
        except Definite:
            self.close()  # the other answers of the page are still to come
            raise
        except garbled:
            self._nonsense()
        return found

    @staticmethod
    def _direct(answer: Message, subject: str) -> tuple[Any, str] | None:
        """Value and subject of a message that a replica gave; None where it has none of that number."""
        if answer.status == 404:
            return None
        if answer.status == RESPONDS_NOBODY:
            raise Definite("no responders")
        if answer.status:
            raise Definite(f"status {answer.status}")
        said = answer.fields.get("nats-subject", "")
        return (names.decode(answer.body) if said == subject else None), said

    def _stored(self, answer: Message) -> tuple[Any, str] | None:
        """The same of what the leader gave."""
        if answer.status == RESPONDS_NOBODY:
            raise Definite("no responders")
        error = answer_decoder.decode(answer.body).error
        if error is not None:
            if error.err_code == NO_MESSAGE:
                return None
            raise Definite(f"code {error.err_code}")
        stored = _got_decoder.decode(answer.body).message
        mark = stored.subject.endswith(".~mark")
        return (None if mark else names.decode(b64decode(stored.data))), stored.subject
