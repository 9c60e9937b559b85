"""Queues: a work-queue stream each, whose one consumer all workers share.

A dequeue takes one message and acknowledges it, and is done when the server has confirmed the
acknowledgement. Where the acknowledgement's answer is lost, the message may be gone or be given out
again once the time to acknowledge it is over; an acknowledgement that nobody received removes nothing.
What is left in a queue is told by the stream, without taking it: its messages carry their element in their
subject.
"""

from __future__ import annotations

from typing import Any, Final

from clusters.systems import _nats_names as names
from clusters.systems._nats_jetstream import RESPONDS_NOBODY
from clusters.systems._nats_states import States
from clusters.wire import Lost, NotSent
from harness.core.errors import Definite, Indeterminate
from harness.core.op import Reply

_ACK_WAIT_S: Final = 30.0  # longer than any call: who was given a message has it alone
_none: Final = frozenset({404, 408})  # no message; the request's time was up


class Queues(States):
    """Operations of the workload queue."""

    def _queue(self, key: Any, deadline: float) -> tuple[str, str]:
        """Stream and stem of the subjects of a queue, which is there then, its consumer too. Raises: Definite."""
        token = names.token(key)
        name, stem = f"{self._prefix}_queue_{token}", f"{self._prefix}.queue.{token}."
        config = names.config(name, [f"{stem}e.>", f"{stem}mark.>"], self._replicas, retention="workqueue")
        self._ensure(config, deadline)
        consumer = names.queue_consumer(name, f"{stem}e.>", self._replicas, _ACK_WAIT_S)
        self._once(f"{name}/", f"CONSUMER.DURABLE.CREATE.{name}.{names.CONSUMER}", consumer, deadline)
        return name, stem

    def enqueue(self, key: Any, element: Any) -> Reply:
        """Put the element into the queue. With `dedupe` it carries an id by which the server knows it again."""
        deadline = self._deadline()
        _, stem = self._queue(key, deadline)
        token = names.token(element)
        fields = {"Nats_Msg_Id": token} if self._options.get("dedupe", True) else None
        return Reply(element, sequence=self._publish(f"{stem}e.{token}", b"", deadline, fields).seq)

    def dequeue(self, key: Any, _asked: Any = None) -> Reply:
        """Take the next element out of the queue; None if it is empty."""
        deadline = self._deadline()
        name, stem = self._queue(key, deadline)
        wire = self._connected()
        try:
            taken = wire.request(
                f"$JS.API.CONSUMER.MSG.NEXT.{name}.{names.CONSUMER}",
                b'{"batch":1,"no_wait":true}',
                self._timeout_s,
                carried=True,
            )
        except NotSent as e:
            raise Definite(e.text) from None
        except Lost as e:
            raise Indeterminate(e.text) from None
        if taken.status in _none:
            return Reply(None)
        if taken.status:  # no message was given out
            self.close()
            raise Definite("no responders" if taken.status == RESPONDS_NOBODY else f"status {taken.status}")
        subject = taken.subject.removeprefix(f"{stem}e.")
        if not taken.reply or subject == taken.subject:
            self._garbage()
        try:
            element = names.value_of(subject)
        except ValueError:
            self._garbage()
        try:
            confirmed = wire.request(taken.reply, b"+ACK", self._timeout_s)
        except NotSent as e:
            raise Definite(f"ack: {e.text}") from None
        except Lost as e:
            raise Indeterminate(f"ack: {e.text}") from None
        if confirmed.status == RESPONDS_NOBODY:
            self.close()
            raise Definite("ack: no responders")  # it reached nobody: the message will be given out again
        if confirmed.status or confirmed.body:
            self._garbage()
        return Reply(element, sequence=self._sequence(taken.reply))

    @staticmethod
    def _sequence(reply: str) -> int:
        """A message's number in its stream, from the subject of its acknowledgement
        (`$JS.ACK.STREAM.CONSUMER.DELIVERED.SEQUENCE...`, later with a domain and an account before the stream)."""
        tokens = reply.split(".")
        at = 5 if len(tokens) < 11 else 7
        return int(tokens[at]) if len(tokens) > at and tokens[at].isdigit() else 0

    def queue_read(self, key: Any) -> Reply:
        """What is still in the queue, given out or not; nothing is taken."""
        deadline = self._deadline()
        name, stem = self._queue(key, deadline)
        return Reply(self._elements(name, f"{stem}e.", f"{stem}mark.", deadline))
