"""Names that a run uses in NATS: streams, subjects, and the configurations of the streams. Pure.

Every object of a run belongs to a stream whose name begins with the run's prefix:

    KV_P         registers: a key-value bucket as clients of NATS lay it out (ADR-8); `$KV.P.KEY`
    P_set        sets: a subject for each element; `P.set.KEY.ELEMENT`
    P_counter    counters (2.12 and later): a subject each; before, registers of their own
    P_log_KEY    a log: a stream each; `P.log.KEY`
    P_queue_KEY  a queue: a work-queue stream each; `P.queue.KEY.ELEMENT`
    P_watch      prefixes that are watched: `P.watch.KEY.SUB`

Beside the objects of a stream stand *marks*: messages that only say how far a reader must have come.
"""

from __future__ import annotations

import re
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


def bucket(prefix: str, replicas: int) -> dict[str, Any]:
    """The key-value bucket of the registers, as ADR-8 has it: one value a key, deletions leave a mark."""
    return config(
        f"KV_{prefix}",
        [f"$KV.{prefix}.>"],
        replicas,
        discard="new",
        max_msgs_per_subject=1,
        allow_rollup_hdrs=True,
        deny_delete=True,
    )


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
