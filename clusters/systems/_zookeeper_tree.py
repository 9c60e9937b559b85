"""All that a run wrote: its root made ready, marked, read as one server has it, and removed.

A session of its own, for the harness. It is closed at the end, so that none is left to run out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final, Self

from kazoo.protocol.serialization import (  # type: ignore[import-untyped]
    Close,
    Delete,
    GetChildren2,
    GetData,
    SetData,
)

from clusters.systems._zookeeper_errors import NO_NODE, NODE_EXISTS, classify
from clusters.systems._zookeeper_gateway import (
    ELECTION,
    ID,
    KINDS,
    LEASE,
    LOCK,
    NODE,
    NOTHING,
    QUEUE,
    SET,
    create,
    root_of,
)
from clusters.systems._zookeeper_session import Refused, Session
from harness.core.cluster import Node
from harness.core.errors import Indeterminate

_AT_ONCE: Final = 200  # requests that are on their way together
_LEFT_OUT: Final = (NODE, LEASE, LOCK, ELECTION)  # marks, and what goes when a session does, at any time
_LISTED: Final = (
    SET,
    ID,
    QUEUE,
)  # kinds whose znodes below an object hold nothing: their names are all there is


class Tree:
    """What stands below the prefix, through one server. `timeout_s` bounds each request."""

    def __init__(self, node: Node, port: int, options: Mapping[str, Any], timeout_s: float) -> None:
        self._session = Session(node.address, node.port or port, timeout_s=4.0)
        self._timeout_s = timeout_s
        self._root = root_of(str(options["prefix"]))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, Indeterminate, Refused):
            if self._session.alive():
                self._session.ask(Close(), monotonic() + self._timeout_s)
        self._session.close()

    def prepare(self) -> None:
        """Have all znodes there that objects stand below."""
        parts = self._root.strip("/").split("/") if self._root else []
        above = ["/" + "/".join(parts[: n + 1]) for n in range(len(parts))]
        last = f"{self._root}/{KINDS[-1]}"
        with suppress(_Gone):
            self._ask(GetData(last, None))
            return
        for path in (*above, *(f"{self._root}/{kind}" for kind in KINDS)):
            self._make(path)

    def mark(self, name: str) -> int:
        """Write something, and the zxid of that."""
        path = f"{self._root}/{NODE}/{name}"
        try:
            stat = self._ask(SetData(path, b"", -1))
        except _Gone:
            self._make(path)
            stat = self._ask(SetData(path, b"", -1))
        return int(stat.mzxid)

    def content(self, revision: int) -> dict[str, str]:
        """Path below the prefix -> data, as the server asked has it, without what hangs on a session.

        Raises: Indeterminate where something is newer than `revision`, so that it cannot be told what was then.
        """
        found: dict[str, str] = {}
        for kind in KINDS:
            if kind in _LEFT_OUT:
                continue
            level = [f"{self._root}/{kind}"]
            while level:
                below: list[str] = []
                listed = self._each([GetChildren2(path, None) for path in level])
                for path, answer in zip(level, listed, strict=True):
                    if answer is None:
                        continue
                    names, stat = answer
                    _not_after(revision, stat.pzxid)
                    below += [f"{path}/{name}" for name in sorted(names)]
                leaves = kind in _LISTED and level[0].count("/") > self._root.count("/") + 1
                if leaves:
                    found |= {self._name(path): "" for path in below}
                    break
                data = self._each([GetData(path, None) for path in below])
                level = []
                for path, answer in zip(below, data, strict=True):
                    if answer is None or answer[1].ephemeralOwner:
                        continue
                    text, stat = answer
                    _not_after(revision, stat.mzxid)
                    version = f" (version {stat.version})"
                    found[self._name(path)] = (text or b"").decode(errors="backslashreplace") + version
                    level.append(path)
        return found

    def remove(self) -> None:
        """Delete the prefix and everything below it."""
        if not self._root:
            return
        order = [self._root]
        for path in order:  # grows as it is walked
            with suppress(_Gone):
                names, _ = self._ask(GetChildren2(path, None))
                order += [f"{path}/{name}" for name in names]
        for path in reversed(order):
            with suppress(_Gone):
                self._ask(Delete(path, -1))

    def _name(self, path: str) -> str:
        return path.removeprefix(f"{self._root}/")

    def _make(self, path: str) -> None:
        with suppress(_There):
            self._ask(create(path, NOTHING))

    def _ask(self, request: Any) -> Any:
        """Raises: OSError, Indeterminate, and _Gone and _There."""
        try:
            return self._session.ask(request, monotonic() + self._timeout_s)[0]
        except Refused as e:
            if e.code in _known:
                raise _known[e.code] from None
            raise Indeterminate(classify(e.code)[0]) from None

    def _each(self, requests: Sequence[Any]) -> Iterator[Any]:
        """The answers in order, None for a znode that is not there."""
        for first in range(0, len(requests), _AT_ONCE):
            some = requests[first : first + _AT_ONCE]
            deadline = monotonic() + self._timeout_s
            if not self._session.alive():
                self._session.open(deadline)
            sent = [(request, self._session.send(request, deadline)) for request in some]
            for request, xid in sent:
                try:
                    yield self._session.answer(request, xid, monotonic() + self._timeout_s)[0]
                except Refused as e:
                    if e.code != NO_NODE:
                        raise Indeterminate(classify(e.code)[0]) from None
                    yield None


class _Gone(Exception):
    """There is no such znode."""


class _There(Exception):
    """There is one already."""


_known: Final[dict[int, type[Exception]]] = {NO_NODE: _Gone, NODE_EXISTS: _There}


def _not_after(revision: int, zxid: int) -> None:
    if zxid > revision:
        raise Indeterminate("changed since")
