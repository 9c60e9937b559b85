"""Operations by a command that speaks JSON lines (docs/own-system.md has the protocol).

Each client is a process of its own, started in its worker's thread and so in its place, and told once which node
is its. A client that breaks the protocol makes its operation one of unknown outcome and is ended; another
process is started for the next one. One that cannot even say a first word is no finding about the system:
`ClientBroken` ends the run.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import threading
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, Self

import msgspec

from clusters.systems import _own_file as schema
from clusters.systems._own_http import methods, named
from clusters.systems._own_process import Broken, Child
from harness.core.cluster import Node, Place
from harness.core.errors import Definite, Indeterminate, InfrastructureError, Mismatch
from harness.core.op import Reply

_GRACE_S: Final = 0.25  # beyond an operation's time, for a client that says itself that it ran out
_SHOWN: Final = 80  # bytes of what is no answer
_TOLD: Final = 10  # ends of clients that are told with their last lines


class ClientBroken(InfrastructureError):
    """The command does not do what a client must; the message ends with its last words."""


class _Answer(msgspec.Struct):
    id: int
    type: Literal["ok", "fail", "info"]
    value: Any = None
    error: str | None = None
    ext: dict[str, Any] | None = None


_decode: Final = msgspec.json.Decoder(_Answer).decode
_encode: Final = msgspec.json.Encoder().encode
_told = 0
_telling: Final = threading.Lock()


class LinesClient:
    """A process that is one client, pinned to one node. `made` gives it a method for each operation."""

    command: Callable[[], tuple[tuple[str, ...], Mapping[str, str]]]  # what to run, with which environment
    home = Path()
    ports: Mapping[str, int] = {}
    start_s = 10.0

    def __init__(self) -> None:
        self._child: Child | None = None
        self._node = ""
        self._timeout_s = 1.0
        self._last = 0

    def open(
        self, node: Node, place: Place | None, options: Mapping[str, Any], timeout_s: float = 1.0
    ) -> Self:
        """Raises: Indeterminate when the command cannot be started, or is not ready to be asked."""
        try:
            return self.begin(node, options, timeout_s)
        except ClientBroken as e:
            _tell(str(e))
            raise Indeterminate(str(e).partition(":")[0]) from None

    def begin(self, node: Node, options: Mapping[str, Any], timeout_s: float) -> Self:
        """The same.

        Raises: ClientBroken when it cannot be started, or does not keep to the protocol; Indeterminate when it
        says that it cannot be asked yet.
        """
        new = type(self)()
        new.start(node, options, timeout_s)
        return new

    def start(self, node: Node, options: Mapping[str, Any], timeout_s: float) -> None:
        """Become the client of `node`. Raises: as `begin`."""
        self._timeout_s, self._node = timeout_s, node.name
        argv, env = self.command()
        try:
            self._child = Child(argv, self.home, env)
        except OSError as e:
            raise self._broken(f"cannot be started: {e.strerror}") from None
        about = {
            "node": {"name": node.name, "address": node.address},
            "ports": {**self.ports, **({"client": node.port} if node.port else {})},
            "options": {k: v for k, v in options.items() if k != "file"},
        }
        try:
            self._asked("open", None, about, self.start_s)
        except (Definite, Indeterminate) as e:
            self.close()
            raise Indeterminate(e.text) from None
        except Broken as e:
            what = f"said nothing within {self.start_s:g} s" if e.text == "timeout" else e.text
            raise self._broken(what) from None

    def close(self) -> None:
        if self._child is not None:
            self._child.end()

    def ask(self, f: str, *args: Any) -> Reply:
        """Do operation `f`: one line out, one line in."""
        given = named(f, args)
        value = [given["old"], given["new"]] if "old" in given else given["value"]
        try:
            return self._asked(f, given["key"], value, self._timeout_s + _GRACE_S)
        except Broken as e:
            if e.text != "timeout" and self._child is not None:
                _tell(f"{self._node}: {e.text}{_last_lines(self._child)}")
            raise Indeterminate(e.text.partition(":")[0]) from None

    def _asked(self, f: str, key: Any, value: Any, wait_s: float) -> Reply:
        child = self._child
        assert child is not None, "a prototype is not open"
        number, self._last = self._last, self._last + 1
        question = {"id": number, "f": f, "key": key, "value": value, "timeout_s": self._timeout_s}
        line = child.ask(_encode(question) + b"\n", wait_s)
        try:
            answer = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            child.end()
            raise Broken(f"client's answer is none: {line[:_SHOWN]!r} ({e})") from None
        if answer.id != number:
            child.end()
            raise Broken(f"client answers another question: its id is {answer.id}, asked was {number}")
        if answer.type == "ok":
            reply = Reply(answer.value)
            reply.ext = answer.ext or {}
            return reply
        if answer.type == "info":
            raise Indeterminate(answer.error or "info")
        if f == "cas" and answer.error == "mismatch":
            raise Mismatch
        raise Definite(answer.error or "fail")

    def _broken(self, what: str) -> ClientBroken:
        return ClientBroken(
            f"the client of {self._node}, `{shlex.join(self.command()[0])}`, {what}; expected a line of JSON that"
            f' answers the first one, such as {{"id":0,"type":"ok"}} (docs/own-system.md){_last_lines(self._child)}'
        )


def prototype(file: schema.OwnFile, names: Callable[[], Mapping[str, str]]) -> LinesClient:
    """A client for the file's command, still to be opened. `names` says what its placeholders stand for, and is
    asked when the first one is."""
    from clusters.systems._own_template import fill

    client = file.client

    @cache
    def command() -> tuple[tuple[str, ...], Mapping[str, str]]:
        known = names()
        argv = tuple(fill(text, known) for text in client.command or ())
        return argv, {name: fill(text, known) for name, text in client.env.items()}

    held: dict[str, Any] = {
        "command": staticmethod(command),
        "home": file.home,
        "ports": dict(file.ports),
        "start_s": client.start_s,
    }
    made: type[LinesClient] = type("OwnLinesClient", (LinesClient,), held | methods(client.operations))
    return made()


def _last_lines(child: Child | None) -> str:
    if child is None:
        return ""
    said = child.complaints()
    if not said:
        return "\n  it said nothing on stderr"
    return "\nlast lines of its stderr:\n" + "\n".join(f"  {line[:300]}" for line in said.splitlines())


def _tell(text: str) -> None:
    """To the controller's log, the first times."""
    global _told
    with _telling:
        _told += 1
        if _told > _TOLD:
            return
    with contextlib.suppress(OSError):
        print(f"client of {text}", file=sys.stderr, flush=True)
