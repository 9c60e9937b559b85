"""Reading the file of a system of the user's own: all that is wrong is reported at once, with line and field.

Two halves. `read` needs the text alone, so that a copy in a run directory can be read at any time, anywhere.
`missing` looks at what the file refers to on this machine.
"""

from __future__ import annotations

import re
import tomllib
import types
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, Union, get_args, get_origin

import msgspec

from clusters.systems import _own_file as schema
from clusters.systems._own_sense import BAD, Problem, Where, run_names, sense
from clusters.systems._own_template import problems as template_problems
from harness.core.errors import UsageError, unknown_name

_header: Final = re.compile(r"^\s*(\[\[?)\s*([^\]]+?)\s*\]\]?")
_key: Final = re.compile(
    r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"))*)\s*="""
)


_S = TypeVar("_S", bound=msgspec.Struct)


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
    made = _struct(schema.OwnFile, table, (), found)
    found += sense(made, families)
    if found:
        raise refusal(path, text, found, single=single)
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


# Types, one field after the other, so that one problem does not hide the next.


def _struct(kind: type[_S], given: Mapping[str, Any], where: Where, found: list[Problem]) -> _S:
    """The struct. Once there is a problem, some of its fields may be their defaults, or `BAD`."""
    fields = {f.encode_name: f for f in msgspec.structs.fields(kind) if f.type is not Path}
    found += [((*where, key), str(unknown_name("field", key, fields))) for key in given if key not in fields]
    parts: dict[str, Any] = {}
    for key, field in fields.items():
        if key in given:
            value = _value(field.type, given[key], (*where, key), found)
            if field.required or value is not BAD:
                parts[field.name] = value
        elif field.required:
            found.append(((*where, key), "missing"))
            parts[field.name] = BAD
    return kind(**parts)


def _value(kind: Any, given: Any, where: Where, found: list[Problem]) -> Any:
    """A value of this type, or `BAD`."""
    origin, args = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if isinstance(given, dict):
            return _struct(kind, given, where, found)
        found.append((where, f"{given!r}; expected a table"))
        return BAD
    if origin in (Union, types.UnionType):
        structs = [a for a in args if isinstance(a, type) and issubclass(a, msgspec.Struct)]
        if structs and isinstance(given, dict):
            return _value(structs[0], given, where, found)
    elif origin is dict and isinstance(given, dict):
        return {k: _value(args[1], v, (*where, k), found) for k, v in given.items()}
    elif origin is list and isinstance(given, list):
        return [_value(args[0], v, (*where, i), found) for i, v in enumerate(given)]
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as e:
        told = str(e).partition(" - at ")[0]
        found.append((where, f"{given!r}; {told[0].lower()}{told[1:]}"))
        return BAD


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
