"""Operations as HTTP requests, described by a file: what is sent, and what the answers mean.

One operation is one request, on a connection that `clusters.http1` neither retries nor shares. A request of
which no byte left us is definite, and so is an answer that the file calls `fail` or `mismatch`; whatever no rule
of the file names, and every broken connection, is indeterminate.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Self
from urllib.parse import quote

import msgspec

from clusters.http1 import Connection
from clusters.systems import _own_file as schema
from clusters.systems._own_template import Place, Template, parse
from clusters.wire import Lost, NotSent
from harness.core.cluster import Node
from harness.core.cluster import Place as Where
from harness.core.errors import Definite, Indeterminate, Mismatch
from harness.core.op import Reply

_decode: Final = msgspec.json.Decoder().decode
_whole: Final = "."
_shown: Final = 60  # bytes of an answer that nobody expected

Rule = tuple[int | None, re.Pattern[bytes] | None]


class Operation:
    """One operation of the file, made ready: its templates cut, its patterns compiled."""

    def __init__(self, f: str, given: schema.Request) -> None:
        self.f, self.method = f, given.method
        self._path, self._body = parse(given.path), parse(given.body)
        self._rules = {
            kind: [_rule(rule) for rule in getattr(given, kind)]
            for kind in ("mismatch", "null", "fail", "ok")
        }
        self._value, self._as, self._ext = given.value, given.value_as, given.ext

    def request(self, words: Mapping[str, Any], fixed: Mapping[str, str]) -> tuple[str, bytes]:
        """Path and body for these values of `key`, `value`, `old` and `new`."""
        path = _filled(self._path, words, fixed, "url")
        return path, _filled(self._body, words, fixed, "json").encode()

    def answer(self, status: int, body: bytes) -> Reply | None:
        """What an answer means.

        Raises: Mismatch, Definite, Indeterminate.
        """
        kind = self.kind(status, body)
        if kind == "mismatch":
            raise Mismatch
        if kind == "fail":
            raise Definite(f"status {status}")
        if kind is None:
            raise Indeterminate(f"status {status}")
        if kind == "null" or (self._value is None and not self._ext):
            return None
        said = body if (self._value, self._as) == (_whole, "text") and not self._ext else _parsed(body)
        value = None if self._value is None else _as(self._as, _at(said, self._value))
        ext = {}
        for name, path in self._ext.items():
            try:
                ext[name] = _at(said, path)
            except Indeterminate:  # what stands beside the value may be missing
                continue
        return Reply(value, **ext)

    def kind(self, status: int, body: bytes) -> str | None:
        """The first kind of rule that an answer meets."""
        for kind, rules in self._rules.items():
            if any(_meets(rule, status, body) for rule in rules):
                return kind
        return None


class HttpClient:
    """A connection of one process to one node. `made` gives it a method for each operation."""

    operations: Mapping[str, Operation] = {}
    headers: Mapping[str, str] = {}
    fixed: Mapping[str, str] = {}  # what other placeholders stand for

    def __init__(self, port: int, connection: Connection | None = None, timeout_s: float = 1.0) -> None:
        self._port, self._connection, self._timeout_s = port, connection, timeout_s

    def open(
        self, node: Node, place: Where | None, options: Mapping[str, Any], timeout_s: float = 1.0
    ) -> Self:
        connection = Connection(node.address, node.port or self._port, self.headers)
        return type(self)(self._port, connection, timeout_s)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def ask(self, f: str, *args: Any) -> Reply | None:
        """Do operation `f`: one request."""
        assert self._connection is not None, "a prototype is not open"
        operation = self.operations[f]
        path, body = operation.request(named(f, args), self.fixed)
        try:
            status, said = self._connection.request(operation.method, path, body, self._timeout_s)
        except NotSent as e:
            raise Definite(e.text) from None
        except Lost as e:
            raise Indeterminate(e.text) from None
        return operation.answer(status, said)


def prototype(file: schema.OwnFile, fixed: Mapping[str, str]) -> HttpClient:
    """A client for the file's operations, still to be opened."""
    from clusters.systems._own_template import fill

    held: dict[str, Any] = {
        "operations": {f: Operation(f, given) for f, given in file.client.http.items()},
        "headers": {name: fill(text, fixed) for name, text in file.client.headers.items()},
        "fixed": fixed,
    }
    made: type[HttpClient] = type("OwnHttpClient", (HttpClient,), held | methods(file.client.http))
    return made(file.ports[file.client.port])


def methods(operations: Iterable[str]) -> dict[str, Callable[..., Any]]:
    """A method for each operation, all of which come down to `ask`."""

    def method(f: str) -> Callable[..., Any]:
        def call(self: Any, *args: Any) -> Any:
            return self.ask(f, *args)

        return call

    return {f: method(f) for f in operations}


def named(f: str, args: tuple[Any, ...]) -> dict[str, Any]:
    """The arguments of an operation by name: a key, if there is one, and a value; of a cas, old and new."""
    if f == "cas" and len(args) == 3:
        return {"key": args[0], "old": args[1], "new": args[2]}
    if f == "cas" and len(args) == 2:
        return {"key": None, "old": args[0], "new": args[1]}
    key, value = (*args, None, None)[:2]
    return {"key": key, "value": value}


def status_of(node: Node, saying: schema.Saying, port: int, timeout_s: float) -> dict[str, Any]:
    """What a node says of itself, as the fields of a `Status`.

    Raises: OSError, Indeterminate.
    """
    connection = Connection(node.address, port)
    try:
        status, body = connection.request("GET", saying.http, b"", timeout_s)
    finally:
        connection.close()
    if status != 200:
        raise Indeterminate(f"status {status}")
    said = _parsed(body)
    word = _at(said, saying.role)
    roles = ("leader", "follower", "candidate", "learner")
    out: dict[str, Any] = {"role": next((r for r in roles if word in getattr(saying, r)), "unknown")}
    for field in ("term", "commit", "applied", "revision"):
        if path := getattr(saying, field):
            number = _at(said, path)
            if isinstance(number, int) and not isinstance(number, bool):
                out[field] = number
    if saying.leader_name and isinstance(name := _at(said, saying.leader_name), str) and name:
        out["leader"] = name
    return out


def _filled(template: Template, words: Mapping[str, Any], fixed: Mapping[str, str], usual: str) -> str:
    return "".join(
        part if isinstance(part, str) else _written(part, words, fixed, usual) for part in template.parts
    )


def _written(place: Place, words: Mapping[str, Any], fixed: Mapping[str, str], usual: str) -> str:
    if place.name not in words:
        return fixed[place.name]
    value = words[place.name]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    match place.way or usual:
        case "url":
            return quote(text, safe="")
        case "text":
            return text
        case "base64":
            return base64.b64encode(json.dumps(value, ensure_ascii=False).encode()).decode()
        case _:
            return json.dumps(value, ensure_ascii=False)


def _rule(given: int | schema.Matching) -> Rule:
    if isinstance(given, int):
        return given, None
    return given.status, None if given.body is None else re.compile(given.body.encode())


def _meets(rule: Rule, status: int, body: bytes) -> bool:
    return rule[0] in (None, status) and (rule[1] is None or rule[1].search(body) is not None)


def _parsed(body: bytes) -> Any:
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise Indeterminate(f"garbage: {body[:_shown]!r} is no JSON") from None


def _at(said: Any, path: str) -> Any:
    """What stands in an answer under `path`: names and positions joined by dots."""
    if path == _whole:
        return said
    for word in path.split("."):
        try:
            said = said[int(word)] if isinstance(said, list) else said[word]
        except (KeyError, IndexError, ValueError, TypeError):
            raise Indeterminate(f"garbage: no {path} in the answer") from None
    return said


def _as(way: str, value: Any) -> Any:
    """A value as it was written: itself, JSON in a string, a string, or JSON in base64."""
    if way == "value" or value is None:
        return value
    try:
        if way == "text":
            return value.decode() if isinstance(value, bytes) else str(value)
        return _decode(base64.b64decode(value, validate=True) if way == "base64" else value)
    except (ValueError, TypeError, msgspec.DecodeError):
        raise Indeterminate(f"garbage: {str(value)[:_shown]!r} is no {way}") from None
