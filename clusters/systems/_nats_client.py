"""NATS' client: registers, sets and counters here; logs, queues and watches beside.

Reads, by the option `reads`:

* `checked`: the value is read, and then proven to be current by a message that goes through the stream's
  log: for a register a publish that is only taken if the value's sequence is still the last of its key (a
  header of 2.11; before, a register is read as with `leader`); for whatever is read as one state of a
  stream, a mark published *before*, which the state must hold. Linearizable, whoever answered.
* `leader`: the leader's word. A leader that was deposed and has not noticed answers as well.
* `direct`: the word of any replica, the node's own if it has one, as clients of NATS read a bucket by default.

A compare-and-set compares sequences: the client remembers with which sequence it (or another client of
the run) last met the value that it expects, and publishes on condition that this is the last one. A
refusal shows that the sequence moved on, which is no evidence about the value.
"""

from __future__ import annotations

from base64 import b64decode
from collections import OrderedDict
from typing import Any, Final

import msgspec

from clusters.systems import _nats_names as names
from clusters.systems._nats_errors import NO_MESSAGE
from clusters.systems._nats_jetstream import Moved, garbled
from clusters.systems._nats_messages import Messages
from clusters.systems._nats_queues import Queues
from harness.core.errors import Definite, Indeterminate
from harness.core.op import Reply

_CHECKS: Final = (2, 11, 0)  # from here on a publish can be made to depend on another subject's sequence
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
        seq = self._keys.get(key, {}).get(names.encode(value))
        return 0 if seq is None and value is None else seq


class NatsClient(Messages, Queues):
    """What workloads can do to NATS."""

    def __init__(self, port: int = 4222, replicas: int = 3) -> None:
        super().__init__(port, replicas)
        self.memory = Memory()

    def _shared(self) -> dict[str, Any]:
        return {**super()._shared(), "memory": self.memory}

    # Registers: a key-value bucket.

    def _register(self, key: Any, kind: str = "") -> str:
        return f"$KV.{self._prefix}.{kind}{names.token(key)}"

    def _bucket(self, deadline: float) -> str:
        config = names.bucket(self._prefix, self._replicas)
        self._ensure(config, deadline)
        return str(config["name"])

    def read(self, key: Any) -> Reply:
        """The value, None for a key that was never set or was deleted."""
        deadline = self._deadline()
        name = self._bucket(deadline)
        subject = self._register(key)
        value, seq = self._value(name, subject, deadline)
        if self._reads == "checked" and self._version(deadline) >= _CHECKS:
            self._check(f"$KV.{self._prefix}.", subject, seq, deadline)
        self.memory.met(subject, value, seq)
        return Reply(value, sequence=seq)

    def _value(self, name: str, subject: str, deadline: float) -> tuple[Any, int]:
        """What the subject's last message holds, and its sequence.

        Raises: Definite.
        """
        if self._reads == "direct":
            answer = self._asked(f"$JS.API.DIRECT.GET.{name}.{subject}", b"", deadline)
            if answer.status == 404:
                return None, 0
            if answer.status:
                raise Definite(f"status {answer.status}")
            if "kv-operation" in answer.fields:
                return None, self._number(answer.fields.get("nats-sequence"))
            try:
                return names.decode(answer.body), self._number(answer.fields.get("nats-sequence"))
            except garbled:
                self._nonsense()
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

    def _number(self, text: str | None) -> int:
        if text is None or not text.isdigit():
            self._nonsense()
        return int(text)

    def _check(self, stem: str, subject: str, seq: int, deadline: float) -> None:
        """`seq` is still the subject's last sequence, by a mark that is taken only then.

        Raises: Definite.
        """
        fields = {
            "Nats_Expected_Last_Subject_Sequence": seq,
            "Nats_Expected_Last_Subject_Sequence_Subject": subject,
        }
        try:
            self._publish(f"{stem}~mark.{self._mark}", b"", deadline, fields)
        except Moved:
            raise Definite("changed while it was read") from None
        except Indeterminate as e:
            raise Definite(e.text) from None

    def write(self, key: Any, value: Any) -> Reply:
        """Set the key, whatever it held; None deletes it."""
        deadline = self._deadline()
        self._bucket(deadline)
        return self._set(self._register(key), value, deadline)

    def cas(self, key: Any, old: Any, new: Any) -> Reply:
        """Set the key to `new` if it holds `old`, by the sequence with which that was last met.

        Raises: Definite where no sequence is known, or another is the last.
        """
        deadline = self._deadline()
        self._bucket(deadline)
        subject = self._register(key)
        seq = self.memory.of(subject, old)
        if seq is None:
            raise Definite("sequence not known")
        reply = self._set(subject, new, deadline, seq)
        return Reply([old, new], **reply.ext)

    def _set(self, subject: str, value: Any, deadline: float, expected: int | None = None) -> Reply:
        fields: dict[str, Any] = {} if value is not None else {"KV_Operation": "DEL"}
        if expected is not None:
            fields["Nats_Expected_Last_Subject_Sequence"] = expected
        body = b"" if value is None else names.encode(value)
        seq = self._publish(subject, body, deadline, fields).seq
        self.memory.met(subject, value, seq)
        return Reply(value, sequence=seq)

    # Sets: a subject for each element.

    def _sets(self, deadline: float) -> str:
        name = f"{self._prefix}_set"
        self._ensure(
            names.config(name, [f"{self._prefix}.set.>"], self._replicas, max_msgs_per_subject=1), deadline
        )
        return name

    def set_add(self, key: Any, element: Any) -> Reply:
        """Put the element into the set."""
        deadline = self._deadline()
        self._sets(deadline)
        subject = f"{self._prefix}.set.{names.token(key)}.{names.token(element)}"
        return Reply(element, sequence=self._publish(subject, b"", deadline).seq)

    def set_read(self, key: Any) -> Reply:
        """All elements."""
        deadline = self._deadline()
        name = self._sets(deadline)
        return Reply(
            self._elements(
                name, f"{self._prefix}.set.{names.token(key)}.", f"{self._prefix}.set.~mark.", deadline
            )
        )

    # Counters.

    def counter_add(self, key: Any, amount: int) -> Reply:
        """Add at once."""
        deadline = self._deadline()
        if self._version(deadline) >= _COUNTS:
            said = self._count(key, amount, deadline)
            return Reply(amount, sequence=said[1])
        name = self._bucket(deadline)
        subject = self._register(key, "~counter.")
        value, seq = self._value(name, subject, deadline)
        return Reply(amount, **self._set(subject, (value or 0) + amount, deadline, seq).ext)

    def counter_read(self, key: Any) -> Reply:
        """What has been added in all; an increment by nothing, which goes through the log."""
        deadline = self._deadline()
        if self._version(deadline) >= _COUNTS:
            try:
                value, seq = self._count(key, 0, deadline)
            except Indeterminate as e:
                raise Definite(e.text) from None
            return Reply(value, sequence=seq)
        name = self._bucket(deadline)
        subject = self._register(key, "~counter.")
        value, seq = self._value(name, subject, deadline)
        if self._reads == "checked" and self._version(deadline) >= _CHECKS:
            self._check(f"$KV.{self._prefix}.", subject, seq, deadline)
        return Reply(value or 0, sequence=seq)

    def _count(self, key: Any, amount: int, deadline: float) -> tuple[int, int]:
        """The counter after `amount` was added, and the sequence."""
        name = f"{self._prefix}_counter"
        config = names.config(
            name,
            [f"{self._prefix}.counter.*"],
            self._replicas,
            max_msgs_per_subject=1,
            allow_msg_counter=True,
        )
        self._ensure(config, deadline)
        subject = f"{self._prefix}.counter.{names.token(key)}"
        said = self._publish(subject, b"", deadline, {"Nats_Incr": f"{amount:+d}"})
        try:
            return int(said.val or ""), said.seq
        except ValueError:
            self._garbage()

    def noop(self, key: Any = None) -> None:
        """Nothing, without a request: what the harness itself costs."""
