"""Names that a run uses in NATS: streams, subjects, and the configurations of the streams. Pure.

Every object of a run belongs to a stream whose name begins with the run's prefix P:

    KV_P_N        registers `r.KEY` and sets `s.KEY.ELEMENT`: key-value buckets as clients of NATS lay them out
                  (ADR-8), N from 0 on, over which the keys are spread
    P_counter_N   counters (2.12 and later; before, registers of their own): a subject each
    P_log_KEY     a log: a stream each
    P_queue_KEY   a queue: a work-queue stream each, a subject for each element

Beside the objects of a stream stand *marks*: messages that only say how far a reader must have come.
"""

from __future__ import annotations

import re
import zlib
from typing import Any, Final

import msgspec

PREFIX: Final = "splitbrain"
CONSUMER: Final = "worker"

_plain: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_number: Final = re.compile(r"-?[0-9]+")
encode: Final = msgspec.json.encode
decode: Final = msgspec.json.decode


def token(value: Any) -> str:
    """A JSON value as one token of a subject; values of different JSON types differ.

    >>> token("k1"), token(7), token("7")
    ('k1', '7', '~223722')
    """
    if type(value) is int:
        return str(value)
    if type(value) is str and _plain.fullmatch(value):
        return value
    return f"~{encode(value).hex()}"


def value_of(text: str) -> Any:
    """The value whose token this is.

    Raises: ValueError (msgspec's errors among it) for what is none.
    """
    if text.startswith("~"):
        return decode(bytes.fromhex(text[1:]))
    return int(text) if _number.fullmatch(text) else text


def base(prefix: str) -> str:
    """What the names of a run's streams begin with: the prefix without what names may not hold."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", prefix).strip("_") or PREFIX


def config(name: str, subjects: list[str], replicas: int, **more: Any) -> dict[str, Any]:
    """The configuration of a stream: in files, without limits, its replicas may answer by themselves."""
    return {
        "name": name,
        "subjects": subjects,
        "retention": "limits",
        "storage": "file",
        "discard": "old",
        "num_replicas": replicas,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msgs_per_subject": -1,
        "allow_direct": True,
        **more,
    }


def spread(key: Any, streams: int) -> int:
    """The number of the stream that has the key."""
    return zlib.crc32(token(key).encode()) % streams


def bucket(prefix: str, number: int, replicas: int) -> dict[str, Any]:
    """A key-value bucket as ADR-8 has it: one value a key, deletions leave a mark."""
    name = f"{prefix}_{number}"
    return config(
        f"KV_{name}",
        [f"$KV.{name}.>"],
        replicas,
        discard="new",
        max_msgs_per_subject=1,
        allow_rollup_hdrs=True,
        deny_delete=True,
    )


def is_of(prefix: str, stream: str) -> bool:
    """Whether a stream is of the run with this prefix."""
    return stream.startswith((f"KV_{prefix}_", f"{prefix}_"))


def queue_consumer(name: str, subject: str, replicas: int, ack_wait_s: float) -> dict[str, Any]:
    """The consumer of a queue, which all workers share: each message is given out until it is acknowledged."""
    return {
        "stream_name": name,
        "config": {
            "durable_name": CONSUMER,
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": round(ack_wait_s * 1e9),
            "filter_subject": subject,
            "replay_policy": "instant",
            "max_ack_pending": -1,
            "num_replicas": replicas,
        },
    }
