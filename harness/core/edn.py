"""EDN, as far as histories are written in it: text in, plain values out, one form at a time, with its line.

Jepsen and Knossos write histories in EDN (https://github.com/edn-format/edn). What comes out are
Python's own values, and `Keyword`, `Symbol`, `Map`, `Set` and `Tagged` for what Python has no word
for; what any of it *means* is the business of `harness.core.jepsen`. Vectors and lists are both
lists, as they are equal in Clojure. Nothing is evaluated.

Why not `edn_format` from PyPI (0.8.0, Apache 2.0, maintained): it takes 450 us for an event of a
history where this takes 8, so a million operations would be a quarter of an hour; it wants a text as
a whole, so that neither the line of a mistake can be named, which a refusal owes to its reader, nor a
history be larger than memory; and it makes dicts of maps, in which 1 and true are one key.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

DEEPEST: Final = 64  # brackets within brackets
LONGEST: Final = 1 << 16  # characters of a text that goes on over several lines
_long_line: Final = 1 << 20  # a line this long is not cut into pieces all at once

_end: Final = r"""\s,"\[\](){};\\"""  # what ends a keyword, a number or a symbol
_token: Final = re.compile(
    rf"""[\s,]*(?:
        ;[^\n]*
      | ( [^{_end}\#][^{_end}]*            # a keyword, a number, a symbol, nil, true, false
        | [\[\](){{}}] | \#\{{ | \#_
        | "[^"\\]*(?:\\[\s\S][^"\\]*)*(?:"|\Z)  # a text; without its end where the line ends first
        | \\.[^{_end}]*                     # a character
        | \#[^{_end}\#]+ | \#\#[^{_end}]+   # a tag, ##Inf
        | [^\s,]                            # anything else, to be refused
        )
    )""",
    re.VERBOSE,
)
_integer: Final = re.compile(r"[+-]?(?:0|[1-9][0-9]*)N?")
_float: Final = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")
_named: Final = {"nil": None, "true": True, "false": False}
_characters: Final = {"newline": "\n", "space": " ", "tab": "\t", "return": "\r"}
_closers: Final = {"[": "]", "(": ")", "{": "}", "#{": "}"}
_closing: Final = frozenset("])}")


class Keyword(str):
    """`:name` or `:space/name`, without the colon."""

    __slots__ = ()


class Symbol(str):
    """A bare word, or a number of a kind that we have no exact value for: a ratio, a BigDecimal."""

    __slots__ = ()


class Map(list[Any]):
    """Keys and values by turns, as they are written; keys may be anything, also twice."""

    __slots__ = ()


class Set(list[Any]):
    """The members in the order in which they are written."""

    __slots__ = ()


class Tagged(NamedTuple):
    """`#tag value`; a record, `#its.Name{...}`, is one too."""

    tag: str
    value: Any


class EdnError(ValueError):
    """What is wrong, and in which line, counted from 1."""

    def __init__(self, line: int, problem: str) -> None:
        self.line = line
        self.problem = problem
        super().__init__(f"line {line}: {problem}")


class _Open:
    """A bracket not yet closed, or a prefix (`#tag`, `#_`) that waits for its form."""

    __slots__ = ("closer", "items", "line", "opener")

    def __init__(self, opener: str, closer: str, line: int) -> None:
        self.opener, self.closer, self.line = opener, closer, line
        self.items: list[Any] = []


def forms(lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    """The forms of a text, each with the line in which it begins. Where all is one vector or list, its elements.

    Raises: EdnError for what is no EDN.
    """
    stack: list[_Open] = []
    streamed: _Open | None = None  # the one vector or list that everything is in
    over = False  # it has been closed
    rest, rest_line, number = "", 0, 0
    for number, line in enumerate(lines, 1):
        if rest:
            if len(rest) + len(line) > LONGEST:
                raise EdnError(rest_line, f"a text that does not end within {LONGEST} characters")
            ends = '"' in line
            line = rest = rest + line  # noqa: PLW2901 - it goes on with the text
            if not ends:
                continue
        for token in _tokens(line):
            rest = ""
            closer = _closers.get(token)
            if closer is not None:
                if not stack and streamed is None and closer != "}":
                    streamed = _Open(token, closer, number)
                    continue
                if len(stack) >= DEEPEST:
                    raise EdnError(number, f"brackets nested more than {DEEPEST} deep; expected a history")
                stack.append(_Open(token, closer, number))
                continue
            begin = number
            if token in _closing:
                if not stack and streamed is not None and not over and token == streamed.closer:
                    over = True
                    continue
                top = stack.pop() if stack else None
                if top is None or top.closer != token:
                    raise EdnError(number, _unmatched(token, top or streamed))
                begin, value = top.line, _built(top, number)
            elif token[0] == '"':
                if len(token) == 1 or token[-1] != '"':
                    rest_line = rest_line or number
                    rest = token
                    continue
                rest_line, value = 0, _text(token, number)
            elif token[0] == "#":
                if len(token) == 1 or (token[1] == "#" and len(token) < 3):
                    raise EdnError(number, "a # that stands alone; expected a tag, a set or #_")
                if token[1] != "#":
                    stack.append(_Open(token, "", number))
                    continue
                value = Symbol(token)
            else:
                value = _atom_at(token, number)
            dropped = False
            while stack and not stack[-1].closer:
                prefix = stack.pop()
                begin = prefix.line
                if prefix.opener == "#_":
                    dropped = True
                    break
                value = Tagged(prefix.opener[1:], value)
            if dropped:
                continue
            if stack:
                stack[-1].items.append(value)
            elif over:
                raise EdnError(begin, f"{_short(value)} after the end of the one {_kind(streamed)}")
            else:
                yield begin, value
    if rest:
        raise EdnError(rest_line, "a text without an end; expected a closing quote")
    if stack:
        raise EdnError(
            stack[-1].line, f"{stack[-1].opener} is not closed before the end of the file (line {number})"
        )
    if streamed is not None and not over:
        raise EdnError(
            streamed.line, f"{streamed.opener} is not closed before the end of the file (line {number})"
        )


def _tokens(line: str) -> Iterable[str]:
    if len(line) < _long_line:
        return filter(None, _token.findall(line))
    return filter(None, (match.group(1) for match in _token.finditer(line)))


def _kind(frame: _Open | None) -> str:
    return "list" if frame is not None and frame.opener == "(" else "vector"


def _unmatched(token: str, open_: _Open | None) -> str:
    if open_ is None:
        return f"{token} closes nothing"
    if not open_.closer:
        return f"{token} where {open_.opener} still waits for its value"
    return f"{token} where {open_.closer} was expected, for the {open_.opener} of line {open_.line}"


def _built(frame: _Open, line: int) -> Any:
    if frame.opener == "{":
        if len(frame.items) % 2:
            raise EdnError(frame.line, f"a map with a key that has no value (it ends in line {line})")
        return Map(frame.items)
    return Set(frame.items) if frame.opener == "#{" else frame.items


def _text(token: str, line: int) -> str:
    if "\\" not in token:
        return token[1:-1]
    try:
        return str(json.loads(token, strict=False))  # the escapes of both are the same, but for octal ones
    except ValueError:
        raise EdnError(line, f"a text with an escape that EDN does not have: {_short(token)}") from None


def _atom_at(token: str, line: int) -> Any:
    try:
        return _atom(token)
    except ValueError as e:
        raise EdnError(line, str(e)) from None


@lru_cache(maxsize=1 << 14)
def _atom(token: str) -> Any:
    first = token[0]
    if first == ":":
        if len(token) == 1 or token[1] == ":":
            raise ValueError(f"{token} is no keyword; expected a colon and a name")
        return Keyword(token[1:])
    if first in "+-0123456789":
        if _integer.fullmatch(token):
            return int(token.rstrip("N"))
        if _float.fullmatch(token) and math.isfinite(float(token)) and not _octal(token):
            return float(token)
        return Symbol(token)
    if first == "\\":
        name = token[1:]
        if len(name) == 5 and name[0] == "u":
            return chr(int(name[1:], 16))
        if len(name) != 1 and name not in _characters:
            raise ValueError(f"{token} is no character; expected one, or one of {', '.join(_characters)}")
        return _characters.get(name, name)
    return _named[token] if token in _named else Symbol(token)


def _octal(token: str) -> bool:
    """Whether Clojure would read a number in base 8, or none at all."""
    return len(token) > 1 and token.lstrip("+-").isdigit()


def _short(value: Any) -> str:
    text = written(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def written(value: Any) -> str:
    """A value as EDN, on one line. Values are those of `forms`, and dicts (maps with texts as keys).

    >>> written([Keyword("read"), None, {"a": 1.5}])
    '[:read nil {"a" 1.5}]'
    """
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Keyword):
        return f":{value}"
    if isinstance(value, Symbol):
        return str(value)
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{written(k)} {written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Map):
        pairs = zip(value[::2], value[1::2], strict=True)
        return "{" + ", ".join(f"{written(k)} {written(v)}" for k, v in pairs) + "}"
    if isinstance(value, Tagged):
        return f"#{value.tag} {written(value.value)}"
    if isinstance(value, list | tuple):
        opener, closer = ("#{", "}") if isinstance(value, Set) else ("[", "]")
        return opener + " ".join(map(written, value)) + closer
    return repr(value)
