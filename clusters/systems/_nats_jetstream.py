"""One process's way to one node through JetStream: publishing, asking, and what an answer's failure proves.

Nothing is sent twice. A *publish* that errs is definite only where the table of `_nats_errors` says so, or
where the node itself says that nobody responds: then it found no one to hand the message to. A *read*
that errs has no effect to be unsure of and fails definitely. After any error the connection is discarded.

A stream may for a while have two leaders, one of which was deposed and has not noticed. A message reaches
both, and the first answer is taken: an acknowledgement comes from the true one alone, but a refusal may come
from the other one while the message is stored. So a conditional publish that is refused is *fenced*: a mark
with the same id follows. If the server knows the id, the message was stored; if it takes the mark, the
message was not, and never will be, since its id is used up.

The node hands requests on to the stream's leader, wherever that is, without a word: what is pinned to a
node is the client, not its operations.

A stream is created with the first operation that needs it. That is a request of its own, and idempotent;
where it errs nothing else is asked and the operation fails definitely. `made` is shared by all clients
of a run, and one creates what several need, so that each stream is created once: asked for twice at the same
time, it would be written twice into the cluster's log, which hides what becomes of the last entry.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from time import monotonic
from typing import Any, Final, Never, Self

import msgspec

from clusters.systems import _nats_names as names
from clusters.systems._nats_errors import (
    MOVED,
    Acknowledged,
    acknowledged_decoder,
    answer_decoder,
    classify,
)
from clusters.systems._nats_wire import Message, Wire, head
from clusters.wire import Lost, NotSent
from harness.core.cluster import Node, Place
from harness.core.errors import Definite, Indeterminate

RESPONDS_NOBODY: Final = 503
garbled: Final = (msgspec.DecodeError, UnicodeDecodeError, ValueError)


class Refused(Indeterminate):
    """One that takes itself for the leader says that the sequence expected is not the last one."""


class JetStream:
    """Pinned to one node. `replicas` of each stream that is created."""

    def __init__(self, port: int = 4222, replicas: int = 3) -> None:
        self._port = port
        self._replicas = replicas
        self._timeout_s = 1.0
        self._options: Mapping[str, Any] = {}
        self._prefix = names.PREFIX
        self._reads = "checked"
        self._streams = 1
        self._mark = ""
        self._wire: Wire | None = None
        self.made: set[str] = set()
        self.making: dict[str, threading.Lock] = {}

    def open(
        self, node: Node, place: Place | None, options: Mapping[str, Any], timeout_s: float = 1.0
    ) -> Self:
        del place  # the worker's thread stands there already
        new = type(self)(self._port, int(options.get("replicas", self._replicas)))
        new.__dict__ |= self._shared()
        new._timeout_s = timeout_s  # noqa: SLF001 - our own class
        new._options = options  # noqa: SLF001
        new._prefix = names.base(str(options.get("prefix", names.PREFIX)))  # noqa: SLF001
        new._reads = str(options.get("reads", "checked"))  # noqa: SLF001
        new._streams = int(options.get("streams", 1))  # noqa: SLF001
        new._mark = os.urandom(4).hex()  # noqa: SLF001 - the subject of its marks
        new._wire = Wire(node.address, node.port or self._port)  # noqa: SLF001
        return new

    def _shared(self) -> dict[str, Any]:
        """What all clients of a run have in common."""
        return {"made": self.made, "making": self.making}

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()

    def _connected(self) -> Wire:
        assert self._wire is not None, "open() makes the clients that can ask"
        return self._wire

    def _version(self, deadline: float) -> tuple[int, int, int]:
        """The node's version.

        Raises: Definite; nothing was asked.
        """
        wire = self._connected()
        if wire.version == (0, 0, 0):
            try:
                wire.connect(max(deadline - monotonic(), 0.001))
            except NotSent as e:
                raise Definite(e.text) from None
        return wire.version

    # Publishing.

    def _publish(
        self, subject: str, body: bytes, deadline: float, fields: Mapping[str, Any] | None = None
    ) -> Acknowledged:
        """The acknowledgement of a message.

        Raises: Definite, Indeterminate, and its kind Refused.
        """
        try:
            answer = self._connected().request(
                subject, body, deadline - monotonic(), head(**fields) if fields else b""
            )
        except NotSent as e:
            raise Definite(e.text) from None
        except Lost as e:
            raise Indeterminate(e.text) from None
        if answer.status == RESPONDS_NOBODY:
            self.close()
            raise Definite("no responders")
        try:
            said = acknowledged_decoder.decode(answer.body)
        except garbled:
            self._garbage()
        if said.error is not None:
            text, definite = classify(said.error)
            if said.error.err_code in MOVED:
                raise Refused(text)
            self.close()
            raise (Definite if definite else Indeterminate)(text)
        if said.seq <= 0:
            self._garbage()
        return said

    def _publish_if(
        self, subject: str, body: bytes, expected: int, deadline: float, mark: str, **fields: Any
    ) -> int:
        """Publish on condition that `expected` is the subject's last sequence (0: it has none); the new one.

        Raises: Definite, Indeterminate.
        """
        fields = {
            **fields,
            "Nats_Msg_Id": os.urandom(8).hex(),
            "Nats_Expected_Last_Subject_Sequence": expected,
        }
        try:
            return self._publish(subject, body, deadline, fields).seq
        except Refused as e:
            text = e.text
        try:
            fence = self._publish(mark, b"", deadline, {"Nats_Msg_Id": fields["Nats_Msg_Id"]})
        except (Definite, Indeterminate) as e:
            self.close()
            raise Indeterminate(f"{text}, not fenced: {e.text}") from None
        if fence.duplicate:
            return fence.seq
        raise Definite(text)

    def _garbage(self) -> Never:
        """An answer that is none of JetStream's: who knows what was done."""
        self.close()
        raise Indeterminate("garbage: answer")

    # Reading.

    def _asked(self, subject: str, body: bytes, deadline: float) -> Message:
        """The answer to a request that changes nothing, or nothing that a history knows of.

        Raises: Definite.
        """
        try:
            answer = self._connected().request(subject, body, deadline - monotonic())
        except (NotSent, Lost) as e:
            raise Definite(e.text) from None
        if answer.status == RESPONDS_NOBODY:
            self.close()
            raise Definite("no responders")
        return answer

    def _more(self, number: int, deadline: float) -> Message:
        """The next message of an answer in several.

        Raises: Definite.
        """
        try:
            while (answer := self._connected().next(deadline)).number != number:
                pass
        except Lost as e:
            raise Definite(e.text) from None
        return answer

    def _api(self, subject: str, body: Any, deadline: float, absent: int = 0) -> bytes | None:
        """The body of an API's answer; None where its error is `absent`.

        Raises: Definite.
        """
        answer = self._asked(f"$JS.API.{subject}", names.encode(body), deadline)
        try:
            error = answer_decoder.decode(answer.body).error
        except garbled:
            self._nonsense()
        if error is None:
            return answer.body
        if absent and error.err_code == absent:
            return None
        self.close()
        raise Definite(classify(error)[0])

    def _nonsense(self) -> Never:
        """A read's answer that is none of JetStream's."""
        self.close()
        raise Definite("garbage: answer")

    def _reading(self, subject: str, deadline: float) -> int:
        """Publish a mark: what was acknowledged before stands before it in the stream. Its sequence.

        Raises: Definite; a mark is part of no history.
        """
        try:
            return self._publish(subject, b"", deadline).seq
        except Indeterminate as e:
            raise Definite(e.text) from None

    # Creating.

    def _ensure(self, config: dict[str, Any], deadline: float) -> None:
        """The stream is there.

        Raises: Definite; nothing else has been asked.
        """
        self._once(str(config["name"]), f"STREAM.CREATE.{config['name']}", config, deadline)

    def _once(self, name: str, subject: str, body: Any, deadline: float) -> None:
        """Ask the API for something that is there afterwards, unless it is.

        Raises: Definite.
        """
        if name in self.made:
            return
        lock = self.making.setdefault(name, threading.Lock())
        if not lock.acquire(timeout=max(deadline - monotonic(), 0.001)):
            raise Definite("another client creates the stream")
        try:
            if name not in self.made:
                self._api(subject, body, deadline)
                self.made.add(name)
        finally:
            lock.release()

    def _deadline(self) -> float:
        return monotonic() + self._timeout_s
