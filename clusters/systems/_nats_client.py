"""NATS' client: registers, sets and counters here; logs and queues beside.

Reads, by the option `reads`:

* `checked`: a mark is published first, and the state that is read must hold it. So the state is one from after
  the read began, whoever answers: linearizable. A register and the mark are asked for together, which needs
  2.11; before, a register is read as with `leader`.
* `leader`: the leader's word. A leader that was deposed and has not noticed answers as well.
* `direct`: the word of any replica, the node's own if it has one, as clients of NATS read a bucket by default.

A compare-and-set compares sequences: the client remembers with which sequence it (or another client of
the run) last met the value that it expects, and publishes on condition that this is the last one. A
refusal shows that the sequence moved on, which is no evidence about the value.
"""

from __future__ import annotations

from base64 import b64decode
from collections import OrderedDict
from time import monotonic, sleep
from typing import Any, Final

import msgspec

from clusters.systems import _nats_names as names
from clusters.systems._nats_errors import NO_MESSAGE
from clusters.systems._nats_jetstream import garbled
from clusters.systems._nats_messages import Messages
from clusters.systems._nats_queues import Queues
from clusters.systems._nats_wire import Message
from harness.core.errors import Definite, Indeterminate
from harness.core.op import Reply

_CHECKS: Final = (2, 11, 0)  # from here on the last messages of several subjects can be asked for at once
_END: Final = 204  # of an answer in several messages
_AGAIN_S: Final = 0.003
_COUNTS: Final = (2, 12, 0)  # from here on there are counters


class _Stored(msgspec.Struct):
    seq: int
    data: str = ""
    hdrs: str = ""


class _Got(msgspec.Struct):
    """Answer to STREAM.MSG.GET."""

    message: _Stored


_got_decoder: Final = msgspec.json.Decoder(_Got)


class Memory:
    """With which sequence each key was last met holding which values; the keys used last are kept."""

    def __init__(self, keys: int = 2000, values: int = 16) -> None:
        self._most = keys, values
        self._keys: OrderedDict[str, OrderedDict[bytes, int]] = OrderedDict()

    def met(self, key: str, value: Any, seq: int) -> None:
        """The key held the value from sequence `seq` on (0: it was never set)."""
        try:
            met = self._keys.setdefault(key, OrderedDict())
            text = names.encode(value)
            if met.get(text, -1) < seq:
                met[text] = seq
                met.move_to_end(text)
            while len(met) > self._most[1]:
                met.popitem(last=False)
            while len(self._keys) > self._most[0]:
                self._keys.popitem(last=False)
        except (KeyError, RuntimeError):  # another thread's hand in it: forgetting is no error
            pass

    def of(self, key: str, value: Any) -> int | None:
        """The sequence; None if it is not known."""
        met = self._keys.get(key)
        seq = met.get(names.encode(value)) if met is not None else None
        return 0 if seq is None and value is None else seq


class NatsClient(Messages, Queues):
    """What workloads can do to NATS."""

    def __init__(self, port: int = 4222, replicas: int = 3) -> None:
        super().__init__(port, replicas)
        self.memory = Memory()

    def _shared(self) -> dict[str, Any]:
        return {**super()._shared(), "memory": self.memory}

    # Registers: keys of buckets.

    def _bucket(self, key: Any, deadline: float) -> tuple[str, str]:
        """The stream that has the key, which is there then, and what its subjects begin with. Raises: Definite."""
        return self._numbered(names.spread(key, self._streams), deadline)

    def _numbered(self, number: int, deadline: float) -> tuple[str, str]:
        config = names.bucket(self._prefix, number, self._replicas)
        self._ensure(config, deadline)
        return str(config["name"]), f"$KV.{self._prefix}_{number}."

    def read(self, key: Any) -> Reply:
        """The value, None for a key that was never set or was deleted."""
        deadline = self._deadline()
        name, stem = self._bucket(key, deadline)
        subject = f"{stem}r.{names.token(key)}"
        value, seq = self._value(name, stem, subject, deadline)
        self.memory.met(subject, value, seq)
        return Reply(value, sequence=seq)

    def _value(self, name: str, stem: str, subject: str, deadline: float) -> tuple[Any, int]:
        """What the subject's last message holds, and its sequence; None and 0 without one.

        Raises: Definite.
        """
        if self._reads == "direct":
            return self._direct_value(self._asked(f"$JS.API.DIRECT.GET.{name}.{subject}", b"", deadline))
        if self._reads == "checked" and self._version(deadline) >= _CHECKS:
            return self._checked_value(name, f"{stem}mark.{self._mark}", subject, deadline)
        body = self._api(f"STREAM.MSG.GET.{name}", {"last_by_subj": subject}, deadline, NO_MESSAGE)
        if body is None:
            return None, 0
        try:
            stored = _got_decoder.decode(body).message
            if stored.hdrs and b"KV-Operation" in b64decode(stored.hdrs):
                return None, stored.seq
            return names.decode(b64decode(stored.data)), stored.seq
        except garbled:
            self._nonsense()

    def _checked_value(self, name: str, mark: str, subject: str, deadline: float) -> tuple[Any, int]:
        """The same from one state of a replica that holds a mark published now.

        Raises: Definite.
        """
        least = self._reading(mark, deadline)
        body = names.encode({"multi_last": [subject, mark]})
        while True:
            found, seen = (None, 0), 0
            answer = self._asked(f"$JS.API.DIRECT.GET.{name}", body, deadline)
            while answer.status == 0:
                at = self._number(answer.fields.get("nats-sequence"))
                if answer.fields.get("nats-subject") == subject:
                    found = self._direct_value(answer)
                else:
                    seen = at
                answer = self._more(answer.number, deadline)
            if answer.status == _END and seen >= least:
                return found
            if monotonic() + _AGAIN_S > deadline:
                self.close()
                raise Definite("behind")  # a state from before the read began
            sleep(_AGAIN_S)

    def _direct_value(self, answer: Message) -> tuple[Any, int]:
        """Value and sequence of a message that a replica gave.

        Raises: Definite.
        """
        if answer.status == 404:
            return None, 0
        if answer.status:
            self.close()
            raise Definite(f"status {answer.status}")
        seq = self._number(answer.fields.get("nats-sequence"))
        if "kv-operation" in answer.fields:
            return None, seq
        try:
            return names.decode(answer.body), seq
        except garbled:
            self._nonsense()

    def _number(self, text: str | None) -> int:
        if text is None or not text.isdigit():
            self._nonsense()
        return int(text)

    def write(self, key: Any, value: Any) -> Reply:
        """Set the key, whatever it held; None deletes it."""
        deadline = self._deadline()
        _, stem = self._bucket(key, deadline)
        subject = f"{stem}r.{names.token(key)}"
        fields = {} if value is not None else {"KV_Operation": "DEL"}
        seq = self._publish(subject, b"" if value is None else names.encode(value), deadline, fields).seq
        self.memory.met(subject, value, seq)
        return Reply(value, sequence=seq)

    def cas(self, key: Any, old: Any, new: Any) -> Reply:
        """Set the key to `new` if it holds `old`, by the sequence with which that was last met.

        Raises: Definite where no sequence is known, or another is the last.
        """
        deadline = self._deadline()
        _, stem = self._bucket(key, deadline)
        subject = f"{stem}r.{names.token(key)}"
        expected = self.memory.of(subject, old)
        if expected is None:
            raise Definite("sequence not known")
        seq = self._set_if(stem, subject, new, expected, deadline)
        return Reply([old, new], sequence=seq)

    def _set_if(self, stem: str, subject: str, value: Any, expected: int, deadline: float) -> int:
        fields = {} if value is not None else {"KV_Operation": "DEL"}
        body = b"" if value is None else names.encode(value)
        mark = f"{stem}mark.{self._mark}"
        seq = self._publish_if(subject, body, expected, deadline, mark, **fields)
        self.memory.met(subject, value, seq)
        return seq

    def write_all(self, name: str) -> int:
        """Write a key of that name into every bucket; the sequence in the first one.

        Raises: Definite, Indeterminate.
        """
        deadline = self._deadline()
        first = 0
        for number in range(self._streams):
            _, stem = self._numbered(number, deadline)
            first = self._publish(f"{stem}node.{name}", b"true", deadline).seq if number == 0 else first
        return first

    # Sets: a subject for each element.

    def set_add(self, key: Any, element: Any) -> Reply:
        """Put the element into the set."""
        deadline = self._deadline()
        _, stem = self._bucket(key, deadline)
        subject = f"{stem}s.{names.token(key)}.{names.token(element)}"
        return Reply(element, sequence=self._publish(subject, b"", deadline).seq)

    def set_read(self, key: Any) -> Reply:
        """All elements."""
        deadline = self._deadline()
        name, stem = self._bucket(key, deadline)
        return Reply(self._elements(name, f"{stem}s.{names.token(key)}.", f"{stem}mark.", deadline))

    # Counters.

    def counter_add(self, key: Any, amount: int) -> Reply:
        """Add at once."""
        deadline = self._deadline()
        if self._version(deadline) >= _COUNTS:
            return Reply(amount, sequence=self._count(key, amount, deadline)[1])
        name, stem = self._bucket(key, deadline)
        subject = f"{stem}c.{names.token(key)}"
        value, seq = self._value(name, stem, subject, deadline)
        return Reply(amount, sequence=self._set_if(stem, subject, (value or 0) + amount, seq, deadline))

    def counter_read(self, key: Any) -> Reply:
        """What has been added in all; an increment by nothing, which goes through the log."""
        deadline = self._deadline()
        if self._version(deadline) >= _COUNTS:
            try:
                value, seq = self._count(key, 0, deadline)
            except Indeterminate as e:
                raise Definite(e.text) from None
            return Reply(value, sequence=seq)
        name, stem = self._bucket(key, deadline)
        value, seq = self._value(name, stem, f"{stem}c.{names.token(key)}", deadline)
        return Reply(value or 0, sequence=seq)

    def _count(self, key: Any, amount: int, deadline: float) -> tuple[int, int]:
        """The counter after `amount` was added, and the sequence.

        Raises: Definite, Indeterminate.
        """
        stream = f"{self._prefix}_counter_{names.spread(key, self._streams)}"
        config = names.config(
            stream,
            [f"{stream}.*"],
            self._replicas,
            max_msgs_per_subject=1,
            allow_msg_counter=True,
        )
        self._ensure(config, deadline)
        said = self._publish(f"{stream}.{names.token(key)}", b"", deadline, {"Nats_Incr": f"{amount:+d}"})
        try:
            return int(said.val or ""), said.seq
        except ValueError:
            self._garbage()

    def noop(self, key: Any = None) -> None:
        """Nothing, without a request: what the harness itself costs."""
