"""A system of the user's own, described by one TOML file (docs/own-system.md).

Here is its life cycle. Private to it are `_own_file` (what may stand in the file), `_own_read` (reading it, with
all that is wrong), `_own_template` (its templates), `_own_build` (making it), and two of its three kinds of client:
`_own_http` (requests) and `_own_lines` (a command, on `_own_process`). The third is a Python class.
"""

from __future__ import annotations

import hashlib
import re
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from time import monotonic
from typing import Any, Final

import msgspec

from clusters.systems import _own_file as schema
from clusters.systems._own_read import check, read
from clusters.systems._own_template import fill
from harness.core.client import Client
from harness.core.cluster import Node, Place, Process, View
from harness.core.descriptor import Descriptor, load
from harness.core.errors import ArtifactError, Indeterminate, UsageError
from harness.core.options import Option
from harness.core.system import Dump, Install, LogEvent, Promise, Status, majority

FILE: Final = "file"  # the option that has the file's path
# What ends a program whatever it is: Go's and the JVM's last words, and the C library's.
_crashes: Final = (
    r"^(panic: |fatal error: |unexpected fault address)",
    r"^# A fatal error has been detected by the Java Runtime Environment",
    r"^(\*\*\* stack smashing detected|malloc\(\): |double free or corruption)|: Assertion .* failed\.$",
)
_shown: Final = 200  # characters of a log line
_patience_s: Final = 2.0  # for another question to the same node


def describe(file: schema.OwnFile) -> Descriptor:
    """What listing, help and options need to know of a file."""
    options = [
        Option(
            name=name,
            default=given.default,
            summary=given.summary,
            choices=tuple(given.choices),
            least=given.least,
            most=given.most,
        )
        for name, given in file.option.items()
    ]
    options.append(Option(name=FILE, default=str(file.path), summary="the file that describes the system"))
    return Descriptor(
        name=file.name,
        summary=file.summary or f"described by {file.path.name}",
        target="clusters.systems.own:Own",
        options=tuple(options),
    )


class Own:
    """The system that a file describes; the option `file` is its path."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        path = Path(options[FILE])
        self.file = file = read(path, home=Path(options["home"]) if options.get("home") else None)
        self.name = file.name
        self.options = {o.name: options.get(o.name, o.default) for o in describe(file).options}
        self.ports: Mapping[str, int] = file.ports
        self.roles = file.status is not None
        self.promises = tuple(
            Promise(
                prop=given.property,
                families=frozenset(given.faults),
                most=given.most,
                unless={name: _text(value) for name, value in given.unless.items()},
                source=given.source,
                link=given.link,
            )
            for given in file.promise
        )
        self._patterns = [(log.kind, re.compile(log.pattern)) for log in file.log]
        if not any(kind == "crash" for kind, _ in self._patterns):
            self._patterns += [("crash", re.compile(pattern)) for pattern in _crashes]
        self._asking: dict[str, threading.Lock] = {}
        self._served: dict[str, float] = {}  # when a node was last ready
        self._broken: BaseException | None = None

    # How it is obtained and run.

    def install(self, version: str | None, artifacts: Any) -> Install:
        if version is not None:
            raise UsageError(
                f"--version {version}: system {self.name!r} is what {self.file.path} says; leave --version out"
            )
        check(self.file)
        program = self._programs(artifacts.say)
        sha256 = {name: _digest(Path(path)) for name, path in program.items()}
        whole = hashlib.sha256("".join(f"{n}{d}" for n, d in sorted(sha256.items())).encode()).hexdigest()
        return Install(
            version=self.file.version or (whole[:12] if program else "unnamed"),
            program=program,
            sha256=sha256,
            caveats=tuple(
                f"{name}={_text(self.options[name])}: {given.caveat}"
                for name, given in self.file.option.items()
                if given.caveat and self.options[name] != given.default
            ),
        )

    def _programs(self, say: Any = None) -> dict[str, str]:
        """Where the file's `files` are on this host; they are built if need be."""
        from clusters.systems._own_build import build

        built = str(build(self.file, say or (lambda _line: None))) if self.file.build else ""
        found = {}
        for name, given in self.file.files.items():
            path = self.file.home / fill(given, {"build": built})
            if not path.exists():
                why = "its build did not make it" if "${build}" in given else "there is no such file"
                raise ArtifactError(f"{self.file.path}: files.{name}: {path}: {why}")
            found[name] = str(path.absolute())
        return found

    @cached_property
    def _fixed(self) -> dict[str, str]:
        """The names that mean the same everywhere."""
        names = {f"ports.{name}": str(port) for name, port in self.file.ports.items()}
        return names | {f"option.{name}": _text(self.options[name]) for name in self.file.option}

    def launch(self, node: Node, view: View) -> list[Process]:
        values = self._values(node, view)
        return [self._process(run, values, view) for run in self.file.run]

    def _process(self, run: schema.Run, values: Mapping[str, str], view: View) -> Process:
        def text(config: schema.Config) -> str:
            if config.text is not None:
                return config.text
            return (self.file.home / str(config.template)).read_text(encoding="utf-8")

        only = len(self.file.run) == 1
        return Process(
            name=run.name or self.name,
            argv=tuple(fill(word, values) for word in run.argv),
            env={name: fill(word, values) for name, word in run.env.items()},
            files={fill(c.path, values): fill(text(c), values) for c in run.config},
            dirs=(view.data_dir, *(fill(word, values) for word in run.dirs)),
            ports=tuple(self.file.ports.values()) if only or run is self.file.run[0] else (),
            user=run.user,
            stop_signal=run.stop_signal,
            start_after_ms=run.start_after_ms,
        )

    def _values(self, node: Node, view: View) -> dict[str, str]:
        """What every name stands for in what is run on `node`."""
        values = {
            **self._fixed,
            "node.name": node.name,
            "node.address": node.address,
            "node.index": str(view.nodes.index(node) + 1),
            "nodes.count": str(len(view.nodes)),
            "nodes.majority": str(majority(view.nodes)),
            "data": view.data_dir,
            "run": view.run,
            "version": view.version,
            **{f"files.{name}": path for name, path in view.program.items()},
        }
        for name, several in self.file.lists.items():
            items = [
                fill(
                    several.item,
                    {
                        **values,
                        "item.name": other.name,
                        "item.address": other.address,
                        "item.index": str(i),
                    },
                )
                for i, other in enumerate(view.nodes, 1)
                if several.of == "nodes" or other != node
            ]
            values[f"list.{name}"] = several.join.join(items)
        return values

    # Its client.

    @cached_property
    def client(self) -> Client:
        """A prototype with a method for each operation.

        Raises: UsageError for a class that cannot be had; ArtifactError.
        """
        if self.file.client.http:
            from clusters.systems._own_http import prototype as requests

            return requests(self.file, self._fixed)
        if self.file.client.command is not None:
            from clusters.systems._own_lines import prototype as command

            return command(self.file, self._beside)
        return _python(self.file)

    def _beside(self) -> dict[str, str]:
        """The names in what runs beside the nodes: files are where they are on this host.

        Raises: ArtifactError.
        """
        files = {f"files.{name}": path for name, path in self._programs().items()}
        return {**self._fixed, **files, "home": str(self.file.home)}

    @property
    def operations(self) -> tuple[str, ...]:
        """What the client can do."""
        if told := self.file.operations():
            return told
        names = [
            name for name in dir(self.client) if not name.startswith("_") and name not in ("open", "close")
        ]
        return tuple(name for name in names if callable(getattr(self.client, name)))

    # How it is.

    def ready(self, node: Node, timeout_s: float) -> None:
        """An operation through `node`, or the GET that the file asks for.

        Whoever asks does not wait as long as a client may take to start: a node that was found ready since is
        ready, and a client that is broken ends the run when it is asked for again.

        Raises: ClientBroken for a command that does not do what a client must.
        """
        begin = monotonic()
        lock = self._asking.setdefault(node.name, threading.Lock())
        if not lock.acquire(timeout=_patience_s):
            raise Indeterminate("its client has not said a word yet")
        try:
            if self._broken is not None:
                raise self._broken
            if self._served.get(node.name, 0.0) < begin:
                self._serve(node, timeout_s)
                self._served[node.name] = monotonic()
        finally:
            lock.release()

    def _serve(self, node: Node, timeout_s: float) -> None:
        from clusters.systems._own_lines import ClientBroken, LinesClient

        ready = self.file.ready
        prototype = self.client
        if ready.listening:
            self._listens(node, timeout_s)
        if isinstance(prototype, LinesClient):
            try:
                client: Any = prototype.begin(node, self.options, timeout_s)
            except ClientBroken as e:
                self._broken = e
                raise
        else:
            client = prototype.open(node, None, self.options, timeout_s)
        try:
            if ready.http is not None:
                self._answers(node, ready, timeout_s)
            else:
                getattr(client, ready.f)(*self._question(node, ready))
        finally:
            client.close()

    def _question(self, node: Node, ready: schema.Ready) -> tuple[Any, ...]:
        key = f"{ready.key}-{node.name}"
        return (key,) if ready.f.endswith(("read", "generate")) else (key, ready.value)

    def _answers(self, node: Node, ready: schema.Ready, timeout_s: float) -> None:
        from clusters.http1 import Connection

        connection = Connection(node.address, self.ports[ready.port])
        try:
            status, _ = connection.request("GET", str(ready.http), b"", timeout_s)
        finally:
            connection.close()
        if status not in ready.status:
            raise Indeterminate(f"status {status}")

    def _listens(self, node: Node, timeout_s: float) -> None:
        """Raises: OSError while nobody listens on the client's port."""
        port = node.port or self.ports[self.file.client.port]
        socket.create_connection((node.address, port), timeout_s).close()

    def status(self, node: Node, timeout_s: float) -> Status:
        if self.file.status is None:
            self._listens(node, timeout_s)
            return Status(role="unknown")
        from clusters.systems._own_http import status_of

        saying = self.file.status
        return Status(**status_of(node, saying, self.ports[saying.port], timeout_s))

    def barrier(self, node: Node, timeout_s: float) -> int | None:
        return None

    def dump(self, node: Node, revision: int, timeout_s: float) -> Dump | None:
        return None

    def events(self, node: str, log: Iterable[tuple[int, str]]) -> Iterator[LogEvent]:
        for time, line in log:
            for kind, pattern in self._patterns:
                if match := pattern.search(line):
                    term = match.groupdict().get("term")
                    number = int(term) if term is not None and term.isdigit() else None
                    yield LogEvent(time=time, node=node, kind=kind, text=line.strip()[:_shown], term=number)


def _python(file: schema.OwnFile) -> Client:
    """A prototype of the user's class, whose module may stand beside the file.

    Raises: UsageError.
    """
    target = str(file.client.python)
    if str(file.home) not in sys.path:
        sys.path.append(str(file.home))  # behind everything: it must not shadow our generic names
    try:
        given = load(target)
        port = file.ports[file.client.port]

        def opened(
            self: Any, node: Node, place: Place | None, options: Mapping[str, Any], timeout_s: float = 1.0
        ) -> Any:
            at = msgspec.structs.replace(node, port=node.port or port)
            return given.open(self, at, place, options, timeout_s)

        # The user's class; its node's port is the one that the file names.
        made: Client = type(given.__name__, (given,), {"open": opened})()
    except Exception as e:
        raise UsageError(
            f"{file.path}: client.class: {target} cannot be used: {type(e).__name__}: {e}; expected a class that is"
            f" made without arguments, in a module in {file.home} or installed"
        ) from e
    if missing := [name for name in ("open", "close") if not callable(getattr(given, name, None))]:
        raise UsageError(f"{file.path}: client.class: {target} has no {' and no '.join(missing)}")
    return made


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _digest(path: Path) -> str:
    """The sha256 of a file, or of a folder's files and their names."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for inner in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{inner.relative_to(path)}\0{_digest(inner)}\0".encode())
    return digest.hexdigest()
