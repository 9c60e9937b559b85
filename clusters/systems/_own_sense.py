"""What types cannot say of the file of a system of the user's own: names, templates, patterns, and what must fit.

Nothing is said here of a value that is `BAD`: it could not be read, and that is a problem already.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from clusters.systems import _own_file as schema
from clusters.systems._own_template import problems as template_problems
from harness.core.errors import unknown_name

WAYS: Final = ("json", "text", "url", "base64")
# Options that say where the file is, and the one that means that a system can be attached to.
RESERVED: Final = frozenset({"file", "home", "prefix"})
LONGEST: Final = 40  # characters of a name
BAD: Final[Any] = object()  # stands for what could not be read
_name: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_word: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_class: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_method: Final = re.compile(r"[a-z][a-z0-9_]*")
_taken: Final = frozenset({"open", "close"})

Where = tuple[str | int, ...]
Problem = tuple[Where, str]


def _common(file: schema.OwnFile) -> set[str]:
    """Those that may stand in every template."""
    return {f"ports.{n}" for n in _table(file.ports)} | {f"option.{n}" for n in file.option}


def run_names(file: schema.OwnFile) -> set[str]:
    """Those that may stand in what is run on a node."""
    names = {
        "node.name",
        "node.address",
        "node.index",
        "nodes.count",
        "nodes.majority",
        "data",
        "run",
        "version",
    }
    return names | {f"files.{n}" for n in file.files} | {f"list.{n}" for n in file.lists} | _common(file)


def sense(file: schema.OwnFile, families: Collection[str] | None) -> Iterator[Problem]:
    """What is wrong between and inside fields that have the right type."""
    name: Any = file.name
    if isinstance(name, str) and (not _name.fullmatch(name) or len(name) > LONGEST):
        yield (
            ("name",),
            f"{name!r}; expected lower-case words joined by hyphens, of {LONGEST} characters at most",
        )
    for table, held in (
        ("ports", _table(file.ports)),
        ("files", file.files),
        ("list", file.lists),
        ("option", file.option),
    ):
        for key in held:
            if not _word.fullmatch(key):
                yield (table, key), "expected a name of letters, digits, - and _"
    yield from _sense_of_ports(_table(file.ports))
    yield from _sense_of_run(file)
    yield from _sense_of_files(file)
    client: Any = file.client
    if isinstance(client, schema.Client):
        yield from _sense_of_client(client, file)
        yield from _sense_of_ready(client, file)
    if file.status is not None:
        yield from _port(("status", "port"), file.status.port, file)
    for i, log in enumerate(_elements(file.log)):
        if isinstance(log, schema.Log):
            yield from _pattern(("log", i, "pattern"), log.pattern)
    yield from _sense_of_options(file)
    yield from _sense_of_promises(file, families)


def _table(given: Any) -> dict[str, Any]:
    return given if isinstance(given, dict) else {}


def _elements(given: Any) -> list[Any]:
    return given if isinstance(given, list) else []


def _templates(where: Where, text: Any, known: set[str], ways: Iterable[str] = ()) -> Iterator[Problem]:
    """What is wrong with a template, or with each of a list or table of them."""
    if isinstance(text, str):
        for what in template_problems(text, known, ways):
            yield where, what
    elif isinstance(text, dict | list):
        for key, inner in text.items() if isinstance(text, dict) else enumerate(text):
            yield from _templates((*where, key), inner, known, ways)


def _sense_of_ports(ports: Mapping[str, Any]) -> Iterator[Problem]:
    if "client" not in ports:
        yield ("ports",), "there is no client; expected the port that clients connect to"
    seen: dict[Any, str] = {}
    for name, port in ports.items():
        if port in seen and port is not BAD:
            yield ("ports", name), f"{port} is the port {seen[port]} as well; expected another"
        seen[port] = name


def _sense_of_run(file: schema.OwnFile) -> Iterator[Problem]:
    known = run_names(file)
    if file.run == []:
        yield ("run",), "expected at least one process"
    names: set[str] = set()
    for i, process in enumerate(_elements(file.run)):
        if not isinstance(process, schema.Run):
            continue
        name = process.name or str(file.name)
        if name in names or (process.name and not _word.fullmatch(name)):
            yield ("run", i, "name"), f"{name!r}: expected a name of its own for each process"
        names.add(name)
        for part in ("argv", "env", "dirs"):
            yield from _templates(("run", i, part), getattr(process, part), known)
        for j, config in enumerate(_elements(process.config)):
            if not isinstance(config, schema.Config):
                continue
            if (config.template is None) == (config.text is None):
                yield ("run", i, "config", j), "expected either template or text"
            for part in ("path", "text"):
                yield from _templates(("run", i, "config", j, part), getattr(config, part), known)
    of_items = {n for n in known if not n.startswith("list.")} | {"item.name", "item.address", "item.index"}
    for key, several in _table(file.lists).items():
        if isinstance(several, schema.Several):
            yield from _templates(("list", key, "item"), several.item, of_items)


def _sense_of_files(file: schema.OwnFile) -> Iterator[Problem]:
    yield from _templates(("files",), file.files, {"build"} if file.build is not None else set())
    if file.build is not None:
        yield from _templates(("build", "argv"), file.build.argv, {"build", "go"})


def _sense_of_client(client: schema.Client, file: schema.OwnFile) -> Iterator[Problem]:
    given = {"class": client.python, "command": client.command, "http": client.http}
    ways = [word for word, value in given.items() if value]
    if len(ways) != 1:
        got = " and ".join(ways) or "none of them"
        yield ("client",), f"expected one of class, command and http; there is {got}"
    if client.python is not None and not _class.fullmatch(client.python):
        yield ("client", "class"), f"{client.python!r}; expected module:Class"
    if client.command is not None and not client.operations:
        yield (
            ("client", "operations"),
            "expected the operations that the command knows, such as read and write",
        )
    if client.command is None and client.operations:
        yield ("client", "operations"), "only a command needs them; leave them out"
    for f in (*_elements(client.operations), *client.http):
        if isinstance(f, str) and (not _method.fullmatch(f) or f in _taken):
            at: Where = ("client", "http", f) if f in client.http else ("client", "operations")
            yield (
                at,
                f"{f!r} cannot name an operation; expected the name of a workload's, such as read or cas",
            )
    known = _common(file)
    beside = known | {"home"} | {f"files.{n}" for n in file.files}
    yield from _templates(("client", "command"), client.command, beside)
    yield from _templates(("client", "env"), client.env, beside)
    yield from _templates(("client", "headers"), client.headers, known)
    for key, text in _table(client.headers).items():
        if not re.fullmatch(r"[A-Za-z0-9-]+", key) or (isinstance(text, str) and re.search(r"[\r\n]", text)):
            yield ("client", "headers", key), "expected a header's name, and a value of one line"
    yield from _port(("client", "port"), client.port, file)
    for f, request in _table(client.http).items():
        if isinstance(request, schema.Request):
            yield from _sense_of_request(f, request, known)


def _sense_of_request(f: str, request: schema.Request, known: set[str]) -> Iterator[Problem]:
    where: Where = ("client", "http", f)
    names = known | ({"key", "old", "new"} if f == "cas" else {"key", "value"})
    for part in ("path", "body"):
        yield from _templates((*where, part), getattr(request, part), names, WAYS)
    path: Any = request.path
    if isinstance(path, str) and not path.startswith("/"):
        yield (*where, "path"), f"{path!r}; expected a path that begins with /"
    if f.endswith("read") and request.value is None:
        yield (
            (*where, "value"),
            "missing: expected where the answer has the value that was read (. is all of it)",
        )
    if request.mismatch and f != "cas":
        yield (*where, "mismatch"), "only a cas can find another value; expected fail"
    for kind in ("ok", "null", "mismatch", "fail"):
        for k, rule in enumerate(getattr(request, kind)):
            if isinstance(rule, schema.Matching):
                if rule.status is None and rule.body is None:
                    yield (*where, kind, k), "expected a status, a body or both"
                yield from _pattern((*where, kind, k, "body"), rule.body or "")


def _sense_of_ready(client: schema.Client, file: schema.OwnFile) -> Iterator[Problem]:
    ready = file.ready
    yield from _port(("ready", "port"), ready.port, file)
    told = [f for f in _elements(list(client.http or client.operations)) if isinstance(f, str)]
    if ready.http is None and told and ready.f not in told:
        known = ", ".join(sorted(told))
        yield (
            ("ready", "f"),
            f"the client has no {ready.f}; expected one of {known}, or http, a path to ask for",
        )


def _sense_of_options(file: schema.OwnFile) -> Iterator[Problem]:
    for name, option in _table(file.option).items():
        if name in RESERVED:
            yield ("option", name), "that name is splitbrain's own; choose another"
        if isinstance(option, schema.OwnOption) and option.choices and option.default not in option.choices:
            yield ("option", name, "default"), f"{option.default!r} is none of its choices"


def _sense_of_promises(file: schema.OwnFile, families: Collection[str] | None) -> Iterator[Problem]:
    for i, promise in enumerate(_elements(file.promise)):
        if not isinstance(promise, schema.Promised):
            continue
        for name in promise.unless:
            if name not in file.option:
                yield ("promise", i, "unless", name), str(unknown_name("option", name, file.option))
        for family in _elements(promise.faults) if families is not None else ():
            if isinstance(family, str) and family not in (families or ()):
                yield ("promise", i, "faults"), str(unknown_name("fault", family, families or ()))


def _port(where: Where, name: str, file: schema.OwnFile) -> Iterator[Problem]:
    ports = _table(file.ports)
    if name != "client" and name not in ports:  # that there has to be a client is said elsewhere
        yield where, str(unknown_name("port", name, ports))


def _pattern(where: Where, text: Any) -> Iterator[Problem]:
    try:
        re.compile(text if isinstance(text, str) else "")
    except re.error as e:
        yield where, f"{text!r} is no regular expression: {e}"
