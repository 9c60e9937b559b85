"""`export --csv`: one row an operation, which spreadsheets and data frames read.

A spreadsheet takes a cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return for a formula, and what a
system under test wrote must never act; so such a text has an apostrophe put before it, which a spreadsheet does not
show. Numbers are no texts: they stay as they are. Texts are always quoted, so that a program that separates cells by
other characters than commas does not find a formula inside one. Keys, values and results are JSON, whose texts begin
with a quotation mark. What does not apply is an empty cell.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

import msgspec

from results.export import Source
from results.export.operations import Operation, operations

COLUMNS: Final = Operation.__struct_fields__
_json: Final = frozenset(("key", "value", "result", "ext"))
_formula: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}",
                   "\N{FULLWIDTH HYPHEN-MINUS}", "\N{FULLWIDTH COMMERCIAL AT}")  # fmt: skip


def write(source: Source, path: Path) -> None:
    """Write the operations of a source. Raises: like `operations`."""
    with path.open("w", encoding="utf-8", newline="", errors="replace") as file:
        out = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        out.writerow(COLUMNS)
        for op in operations(source.needed()):
            out.writerow([cell(getattr(op, name), json=name in _json) for name in COLUMNS])


def cell(value: object, *, json: bool = False) -> object:
    """What stands in a cell.

    >>> cell("=1+1"), cell("timeout"), cell(-5), cell(b"-5", json=True), cell(b'"-5"', json=True), cell(None)
    ("'=1+1", 'timeout', -5, -5, '"-5"', '')
    """
    if json:
        assert isinstance(value, bytes)
        if value == b"null":
            return ""
        number = _integer(value)
        return value.decode("utf-8", "replace") if number is None else number
    if value is None:
        return ""
    if isinstance(value, str) and value.startswith(_formula):
        return f"'{value}"
    return value


def _integer(value: bytes) -> int | None:
    try:
        return msgspec.json.decode(value, type=int) if value.lstrip(b"-").isdigit() else None
    except msgspec.DecodeError:  # 00
        return None
