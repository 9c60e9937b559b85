"""Templates of a system's file: text with placeholders, and nothing else.

`${name}` is replaced by what `name` stands for, `$$` is a dollar sign, and any other `$` is itself. In the
requests of an HTTP mapping a placeholder may say how its value is written, `${key|base64}`. There are no
conditions and no loops: what is made of several nodes is a list that the file declares (`[list.peers]`) and
templates name (`${list.peers}`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from harness.core.errors import UsageError, unknown_name

_places: Final = re.compile(r"\$\$|\$\{([^}]*)(\}?)")


class Place(msgspec.Struct, frozen=True):
    """A placeholder: the name in it, and how its value is to be written (None: as usual there)."""

    name: str
    way: str | None = None


class Template(msgspec.Struct, frozen=True):
    """A text cut at its placeholders."""

    parts: tuple[str | Place, ...]

    @property
    def places(self) -> list[Place]:
        """All placeholders, in order."""
        return [part for part in self.parts if isinstance(part, Place)]

    def fill(self, values: Mapping[str, str]) -> str:
        """The text, with every placeholder replaced; all of them must be in `values`."""
        return "".join(part if isinstance(part, str) else values[part.name] for part in self.parts)


def parse(text: str) -> Template:
    """Cut a text at its placeholders.

    >>> parse("a=${b}$$").parts
    ('a=', Place(name='b', way=None), '$')

    Raises: UsageError for a placeholder that does not end.
    """
    parts: list[str | Place] = []
    at = 0
    for match in _places.finditer(text):
        if match.start() > at:
            parts.append(text[at : match.start()])
        at = match.end()
        if match[0] == "$$":
            parts.append("$")
            continue
        if not match[2]:
            raise UsageError(f"the placeholder {match[0][:40]!r} does not end; expected }} behind its name")
        name, bar, way = match[1].partition("|")
        parts.append(Place(name.strip(), way.strip() if bar else None))
    if at < len(text):
        parts.append(text[at:])
    return Template(tuple(parts))


def problems(text: str, known: Iterable[str], ways: Iterable[str] = ()) -> list[str]:
    """What is wrong with a template in which the names `known` may stand, written in one of `ways`."""
    try:
        template = parse(text)
    except UsageError as e:
        return [str(e)]
    names, allowed, out = set(known), set(ways), []
    for place in template.places:
        if place.name not in names:
            out.append(str(unknown_name("placeholder", place.name, names)))
        if place.way is not None and place.way not in allowed:
            if not allowed:
                out.append(f"${{{place.name}|{place.way}}}: only requests say how a value is written")
            else:
                out.append(str(unknown_name("way to write a value", place.way, allowed)))
    return out


def fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with its placeholders replaced; the file has been checked."""
    return parse(text).fill(values)
