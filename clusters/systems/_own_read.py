"""Reading the file of a system of the user's own: all that is wrong is reported at once, with line and field.

Two halves. `read` needs the text alone, so that a copy in a run directory can be read at any time, anywhere.
`missing` looks at what the file refers to on this machine.
"""

from __future__ import annotations

import re
import tomllib
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Union, get_args, get_origin

import msgspec

from clusters.systems import _own_file as schema
from clusters.systems._own_template import problems as template_problems
from harness.core.errors import UsageError, unknown_name

KEY_NAMES: Final = ("key", "value", "old", "new")
WAYS: Final = ("json", "text", "url", "base64")
LONGEST: Final = 40  # characters of a name
_name: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_word: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_method: Final = re.compile(r"[a-z][a-z0-9_]*")
_taken: Final = frozenset({"open", "close"})
_header: Final = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?")
_key: Final = re.compile(
    r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"))*)\s*="""
)

Where = tuple[str | int, ...]
Problem = tuple[Where, str]


class _Bad:
    """What could not be read; its problem has been noted."""


_bad: Final = _Bad()


def read(path: Path, *, home: Path | None = None, families: Collection[str] | None = None) -> schema.OwnFile:
    """The system that `path` describes; `home` is the folder that its paths start at, if not the file's own.

    `families` are the fault families that promises may name, None for any.

    Raises: UsageError with every problem of the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except OSError as e:
        raise UsageError(f"cannot read system {path}: {e.strerror}; expected a TOML file") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise UsageError(f"cannot read system {path}: {e}; expected TOML in UTF-8") from None
    found: list[Problem] = []
    form = table.pop("format", 1)
    if isinstance(form, bool) or form != 1:
        found.append((("format",), f"{form!r}; this splitbrain reads format 1"))
    if isinstance(table.get("run"), dict):
        table["run"] = [table["run"]]
        single = True
    else:
        single = False
    made, parts = _struct(schema.OwnFile, table, (), found)
    found += _sense(parts, families)
    if found or isinstance(made, _Bad):
        raise refusal(path, text, found, single=single)
    assert isinstance(made, schema.OwnFile)
    made.path, made.home = path, (home or path.parent).absolute()
    return made


def refusal(path: Path, text: str, found: Iterable[Problem], *, single: bool = False) -> UsageError:
    """One error for all problems, in the order of the file."""
    lines = _lines(text)
    told = []
    for at, what in found:
        where = ("run", *at[2:]) if single and at[:2] == ("run", 0) else at
        line = next((lines[where[:n]] for n in range(len(where), 0, -1) if where[:n] in lines), 1)
        told.append((line, f"line {line}: {_dotted(where)}: {what}"))
    told.sort(key=lambda t: t[0])
    if len(told) == 1:
        return UsageError(f"{path}, {told[0][1]}")
    return UsageError("\n".join([f"{path} has {len(told)} problems:", *(f"  {line}" for _, line in told)]))


def missing(file: schema.OwnFile) -> list[Problem]:
    """What the file refers to and is not there, and what is wrong with the templates that are."""
    out: list[Problem] = []
    for name, given in file.files.items():
        if "${build}" not in given and not (file.home / given).exists():
            out.append((("files", name), f"there is no {file.home / given}"))
    known = run_names(file)
    for i, run in enumerate(file.run):
        for j, config in enumerate(run.config):
            if config.template is None:
                continue
            where: Where = ("run", i, "config", j, "template")
            try:
                text = (file.home / config.template).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as e:
                why = e.strerror if isinstance(e, OSError) else str(e)
                out.append((where, f"cannot read {file.home / config.template}: {why}"))
                continue
            for number, line in enumerate(text.splitlines(), 1):
                out += [
                    (where, f"{config.template}, line {number}: {what}")
                    for what in template_problems(line, known)
                ]
    return out


def check(file: schema.OwnFile) -> None:
    """Raises: UsageError with everything that `missing` finds."""
    if found := missing(file):
        single = isinstance(tomllib.loads(file.path.read_text(encoding="utf-8"))["run"], dict)
        raise refusal(file.path, file.path.read_text(encoding="utf-8"), found, single=single)


# Names that may stand in templates.


def _common(parts: Mapping[str, Any]) -> set[str]:
    """Those that may stand in every template."""
    ports, options = parts.get("ports"), parts.get("option")
    names = {f"ports.{n}" for n in ports} if isinstance(ports, dict) else set()
    return names | ({f"option.{n}" for n in options} if isinstance(options, dict) else set())


def _of_run(parts: Mapping[str, Any]) -> set[str]:
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
    for table, prefix in (("files", "files"), ("lists", "list")):
        held = parts.get(table)
        names |= {f"{prefix}.{n}" for n in held} if isinstance(held, dict) else set()
    return names | _common(parts)


def _parts_of(file: schema.OwnFile) -> dict[str, Any]:
    return {name: getattr(file, name) for name in ("ports", "option", "files", "lists")}


def run_names(file: schema.OwnFile) -> set[str]:
    """The names that may stand in what is run on a node."""
    return _of_run(_parts_of(file))


# What msgspec cannot see.


def _sense(parts: Mapping[str, Any], families: Collection[str] | None) -> Iterator[Problem]:
    """What is wrong between and inside fields that have the right type."""
    name = parts.get("name")
    if isinstance(name, str) and (not _name.fullmatch(name) or len(name) > LONGEST):
        yield (
            ("name",),
            f"{name!r}; expected lower-case words joined by hyphens, of {LONGEST} characters at most",
        )
    for table in ("ports", "files", "lists", "option"):
        held = parts.get(table)
        for key in held if isinstance(held, dict) else ():
            if not _word.fullmatch(key):
                where = "list" if table == "lists" else table
                yield (where, key), "expected a name of letters, digits, - and _"
    ports = parts.get("ports")
    if isinstance(ports, dict):
        yield from _sense_of_ports(ports)
    run = parts.get("run")
    if isinstance(run, list):
        yield from _sense_of_run(run, parts)
    yield from _sense_of_files(parts)
    client = parts.get("client")
    if isinstance(client, schema.Client):
        yield from _sense_of_client(client, parts)
        yield from _sense_of_ready(client, parts)
    status = parts.get("status")
    if isinstance(status, schema.Saying):
        yield from _port(("status", "port"), status.port, parts)
    yield from _sense_of_patterns(parts)
    yield from _sense_of_options(parts, families)


def _sense_of_ports(ports: Mapping[str, Any]) -> Iterator[Problem]:
    if "client" not in ports:
        yield ("ports",), "there is no client; expected the port that clients connect to"
    seen: dict[int, str] = {}
    for name, port in ports.items():
        if isinstance(port, int) and port in seen:
            yield ("ports", name), f"{port} is the port {seen[port]} as well; expected another"
        seen[port] = name


def _sense_of_run(run: list[Any], parts: Mapping[str, Any]) -> Iterator[Problem]:
    known = _of_run(parts)
    if not run:
        yield ("run",), "expected at least one process"
    names: set[str] = set()
    for i, process in enumerate(run):
        if not isinstance(process, schema.Run):
            continue
        name = process.name or str(parts.get("name"))
        if name in names or not _word.fullmatch(name):
            yield ("run", i, "name"), f"{name!r}: expected a name of its own for each process"
        names.add(name)
        texts: list[tuple[Where, str]] = [(("argv", k), text) for k, text in enumerate(process.argv)]
        texts += [(("env", k), text) for k, text in process.env.items()]
        texts += [(("dirs", k), text) for k, text in enumerate(process.dirs)]
        for j, config in enumerate(process.config):
            if (config.template is None) == (config.text is None):
                yield ("run", i, "config", j), "expected either template or text"
            texts.append((("config", j, "path"), config.path))
            texts.append((("config", j, "text"), config.text or ""))
        for where, text in texts:
            for what in template_problems(text, known):
                yield ("run", i, *where), what
    lists = parts.get("lists")
    item = {"item.name", "item.address", "item.index"}
    for key, several in lists.items() if isinstance(lists, dict) else ():
        if isinstance(several, schema.Several):
            known_here = {n for n in known if not n.startswith("list.")} | item
            for what in template_problems(several.item, known_here):
                yield ("list", key, "item"), what


def _sense_of_files(parts: Mapping[str, Any]) -> Iterator[Problem]:
    files, build = parts.get("files"), parts.get("build")
    for name, text in files.items() if isinstance(files, dict) else ():
        known = {"build"} if build is not None else set()
        for what in template_problems(str(text), known):
            yield ("files", name), what
    if isinstance(build, schema.Build):
        for k, text in enumerate(build.argv):
            for what in template_problems(text, {"build", "go"}):
                yield ("build", "argv", k), what


def _sense_of_client(client: schema.Client, parts: Mapping[str, Any]) -> Iterator[Problem]:
    ways = [
        word
        for word in ("class", "command", "http")
        if getattr(client, "python" if word == "class" else word)
    ]
    if len(ways) != 1:
        got = " and ".join(ways) or "none of them"
        yield ("client",), f"expected one of class, command and http; there is {got}"
    if client.python is not None and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", client.python):
        yield ("client", "class"), f"{client.python!r}; expected module:Class"
    if client.command is not None and not client.operations:
        yield (
            ("client", "operations"),
            "expected the operations that the command knows, such as read and write",
        )
    if client.command is None and client.operations:
        yield ("client", "operations"), "only a command needs them; leave them out"
    for f in (*client.operations, *client.http):
        if not _method.fullmatch(f) or f in _taken:
            at: Where = ("client", "http", f) if f in client.http else ("client", "operations")
            yield (
                at,
                f"{f!r} cannot name an operation; expected the name of a workload's, such as read or cas",
            )
    known = _common(parts)
    beside = known | {"home"} | {f"files.{n}" for n in parts.get("files") or ()}
    for k, text in enumerate(client.command or ()):
        for what in template_problems(text, beside):
            yield ("client", "command", k), what
    for key, text in client.env.items():
        for what in template_problems(text, beside):
            yield ("client", "env", key), what
    for key, text in client.headers.items():
        for what in template_problems(text, known):
            yield ("client", "headers", key), what
        if not re.fullmatch(r"[A-Za-z0-9-]+", key) or "\n" in text or "\r" in text:
            yield ("client", "headers", key), "expected a header's name, and a value of one line"
    yield from _port(("client", "port"), client.port, parts)
    for f, request in client.http.items():
        yield from _sense_of_request(f, request, known)


def _sense_of_request(f: str, request: schema.Request, known: set[str]) -> Iterator[Problem]:
    where: Where = ("client", "http", f)
    names = known | ({"key", "old", "new"} if f == "cas" else {"key", "value"})
    for part in ("path", "body"):
        for what in template_problems(getattr(request, part), names, WAYS):
            yield (*where, part), what
    if not request.path.startswith("/"):
        yield (*where, "path"), f"{request.path!r}; expected a path that begins with /"
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


def _sense_of_ready(client: schema.Client, parts: Mapping[str, Any]) -> Iterator[Problem]:
    ready = parts.get("ready", schema.Ready())
    if not isinstance(ready, schema.Ready):
        return
    yield from _port(("ready", "port"), ready.port, parts)
    told = client.http or client.operations
    if ready.http is None and told and ready.f not in told:
        yield (
            ("ready", "f"),
            f"the client has no {ready.f}; expected one of {', '.join(sorted(told))}, or http = a path to ask for",
        )


def _sense_of_patterns(parts: Mapping[str, Any]) -> Iterator[Problem]:
    logs = parts.get("log")
    for i, log in enumerate(logs if isinstance(logs, list) else ()):
        if isinstance(log, schema.Log):
            yield from _pattern(("log", i, "pattern"), log.pattern)


def _sense_of_options(parts: Mapping[str, Any], families: Collection[str] | None) -> Iterator[Problem]:
    options = parts.get("option")
    known = set(options) if isinstance(options, dict) else set()
    if "file" in known:
        yield ("option", "file"), "that name is splitbrain's own; choose another"
    for name, option in options.items() if isinstance(options, dict) else ():
        if isinstance(option, schema.OwnOption) and option.choices and option.default not in option.choices:
            yield ("option", name, "default"), f"{option.default!r} is none of its choices"
    promises = parts.get("promise")
    for i, promise in enumerate(promises if isinstance(promises, list) else ()):
        if not isinstance(promise, schema.Promised):
            continue
        for name in promise.unless:
            if name not in known:
                yield ("promise", i, "unless", name), str(unknown_name("option", name, known))
        for family in promise.faults if families is not None else ():
            if family not in (families or ()):
                yield ("promise", i, "faults"), str(unknown_name("fault", family, families or ()))


def _port(where: Where, name: str, parts: Mapping[str, Any]) -> Iterator[Problem]:
    ports = parts.get("ports")
    if isinstance(ports, dict) and name not in ports:
        yield where, str(unknown_name("port", name, ports))


def _pattern(where: Where, text: str) -> Iterator[Problem]:
    try:
        re.compile(text)
    except re.error as e:
        yield where, f"{text!r} is no regular expression: {e}"


# Types, one field after the other, so that one problem does not hide the next.


def _struct(
    kind: Any, given: Mapping[str, Any], where: Where, found: list[Problem]
) -> tuple[Any, dict[str, Any]]:
    """The struct, or `_bad`; and those of its fields that could be read."""
    fields = {f.encode_name: f for f in msgspec.structs.fields(kind) if f.type is not Path}
    parts: dict[str, Any] = {}
    good = True
    for key in given:
        if key not in fields:
            found.append(((*where, key), str(unknown_name("field", key, fields))))
            good = False
    for key, field in fields.items():
        if key in given:
            value = _value(field.type, given[key], (*where, key), found)
            parts[field.name] = value
            good = good and not isinstance(value, _Bad)
        elif field.required:
            found.append(((*where, key), "missing"))
            good = False
    if not good:
        return _bad, parts
    return kind(**parts), parts


def _value(kind: Any, given: Any, where: Where, found: list[Problem]) -> Any:
    """A value of this type, or `_bad`."""
    origin, args = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if not isinstance(given, dict):
            found.append((where, f"{given!r}; expected a table"))
            return _bad
        return _struct(kind, given, where, found)[0]
    if origin in (Union, types.UnionType):
        structs = [a for a in args if isinstance(a, type) and issubclass(a, msgspec.Struct)]
        if structs and isinstance(given, dict):
            return _value(structs[0], given, where, found)
    elif origin is dict and isinstance(given, dict):
        return _held({k: _value(args[1], v, (*where, k), found) for k, v in given.items()})
    elif origin is list and isinstance(given, list):
        made = [_value(args[0], v, (*where, i), found) for i, v in enumerate(given)]
        return _bad if any(isinstance(v, _Bad) for v in made) else made
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as e:
        told = str(e).partition(" - at ")[0]
        found.append((where, f"{given!r}; {told[0].lower()}{told[1:]}"))
        return _bad


def _held(made: dict[str, Any]) -> Any:
    return _bad if any(isinstance(v, _Bad) for v in made.values()) else made


# Where in the text a field stands.


def _lines(text: str) -> dict[Where, int]:
    """The line of each table and key, as well as it can be told without reading TOML once more."""
    out: dict[Where, int] = {}
    counts: dict[Where, int] = {}
    table: Where = ()
    fence = ""
    for number, line in enumerate(text.splitlines(), 1):
        if fence:
            fence = "" if fence in line else fence
            continue
        if match := _header.match(line):
            words = _split(match[2])
            table = ()
            for n, word in enumerate(words):
                table = (*table, word)
                last = n == len(words) - 1
                if match[1] == "[[" and last:
                    counts[table] = counts.get(table, -1) + 1
                if table in counts:
                    table = (*table, counts[table])
            out.setdefault(table, number)
            out.setdefault(tuple(words), number)
        elif match := _key.match(line):
            place: Where = table
            for word in _split(match[1]):
                place = (*place, word)
                out.setdefault(place, number)
            rest = line[match.end() :]
            fence = next((q for q in ('"""', "'''") if rest.count(q) == 1), "")
    return out


def _split(dotted: str) -> list[str]:
    return [word.strip().strip("\"'") for word in re.findall(r'"[^"]*"|\'[^\']*\'|[^.\s]+', dotted)]


def _dotted(where: Where) -> str:
    out = ""
    for word in where:
        out += f"[{word}]" if isinstance(word, int) else f"{'.' if out else ''}{word}"
    return out or "the file"
