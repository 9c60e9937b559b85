"""Logs of messages: a stream each, created by the first publish; read by sequence number, many at once.

A `checked` read publishes a mark first, and then asks replicas (the node's own, if it has one) for every
message up to the mark, so that the log is read as of a moment after the read began, whoever answers. That may
be another replica for each message, and "no such message" is also what one says that has not come so far, even
if another one has given the mark already. So what is missing is asked for again, as the first message *from*
that number on: an answer with a greater number says that the replica has come further and has nothing there.
What no such answer was given for is asked again until the call's time is up. With `leader` and `direct` a read
ends where those asked have no further message.

A log that is asked for from the beginning with None, as final reads are, and whose stream the cluster says
does not exist, is empty. Otherwise that is an error: a deposed leader may not know the stream yet.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
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
    seq: int = 0
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
        """The messages from `first` to before `end`, which is behind a mark; what is missing is not there.

        Raises: Definite.
        """
        found: dict[int, Any] = {}
        wanted = list(range(first, end))
        onward = False
        while wanted:
            wanted = self._ask_for(name, subject, wanted, found, deadline, onward=onward)
            onward = True
            if wanted:
                if monotonic() + _AGAIN_S > deadline:
                    self.close()
                    raise Definite("behind")  # those that answered have not come so far
                sleep(_AGAIN_S)
        return {at: found[at] for at in found if first <= at < end}

    def _as_far_as_it_goes(self, name: str, subject: str, first: int, deadline: float) -> dict[int, Any]:
        found: dict[int, Any] = {}
        at = first
        while len(self._ask_for(name, subject, range(at, at + _PAGE), found, deadline)) < _PAGE:
            at += _PAGE
        holes = [n for n in range(first, max(found, default=first)) if n not in found]
        # Where nobody has come beyond a hole but whoever gave what follows, it ends there.
        unknown = self._ask_for(name, subject, holes, found, deadline, onward=True)
        end = min(unknown, default=max(found, default=first) + 1)
        return {at: found[at] for at in found if at < end}

    def _ask_for(
        self,
        name: str,
        subject: str,
        wanted: Sequence[int],
        found: dict[int, Any],
        deadline: float,
        *,
        onward: bool = False,
    ) -> list[int]:
        """Ask for messages, or `onward` for the first one from each number on, and put them into `found`; the
        numbers of which it is not known whether there is one.

        Raises: Definite.
        """
        gone: set[int] = set()
        for start in range(0, len(wanted), _PAGE):
            page = [at for at in wanted[start : start + _PAGE] if at not in found and at not in gone]
            if not page:
                continue
            for at, seq, value in self._page(name, subject, page, deadline, onward=onward):
                found[seq] = value
                gone.update(range(at, seq))
        return [at for at in wanted if at not in found and at not in gone]

    def _page(
        self, name: str, subject: str, wanted: Sequence[int], deadline: float, *, onward: bool
    ) -> list[tuple[int, int, Any]]:
        """Number asked for, number, and value, of those messages that there are. Raises: Definite."""
        leader = self._reads == "leader"
        to = f"$JS.API.STREAM.MSG.GET.{name}" if leader else f"$JS.API.DIRECT.GET.{name}"
        body = b'{"seq":%d,"next_by_subj":">"}' if onward else b'{"seq":%d}'
        wire = self._connected()
        found: list[tuple[int, int, Any]] = []
        try:
            number = wire.send([(to, body % at) for at in wanted], deadline)
            open_ = dict(enumerate(wanted, number))
            while open_:
                answer = wire.next(deadline)
                at = open_.pop(answer.number, None)
                if at is not None:
                    got = self._stored(answer) if leader else self._direct(answer, subject)
                    if got is not None:
                        value, said, seq = got
                        if seq < at or (seq > at and not onward):
                            self._nonsense()
                        found.append((at, seq, value if said == subject else _MARKED))
        except (NotSent, Lost) as e:
            raise Definite(e.text) from None
        except Definite:
            self.close()  # the other answers of the page are still to come
            raise
        except garbled:
            self._nonsense()
        return found

    @staticmethod
    def _direct(answer: Message, subject: str) -> tuple[Any, str, int] | None:
        """Value, subject and number of a message that a replica gave; None where it has none."""
        if answer.status == 404:
            return None
        if answer.status == RESPONDS_NOBODY:
            raise Definite("no responders")
        if answer.status:
            raise Definite(f"status {answer.status}")
        said = answer.fields.get("nats-subject", "")
        seq = int(answer.fields.get("nats-sequence", "0"))
        return (names.decode(answer.body) if said == subject else None), said, seq

    def _stored(self, answer: Message) -> tuple[Any, str, int] | None:
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
        return (None if mark else names.decode(b64decode(stored.data))), stored.subject, stored.seq
