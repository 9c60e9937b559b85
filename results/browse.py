"""Questions to the index: search, filter, sort, pages of rows, and trends over days.

All of it is one table of a few thousand rows, so the answers are SQL where that is shorter and
Python where it is (medians). Names of columns come from the tables below, never from a request.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any, Final

import msgspec

from harness.core.errors import UsageError, unknown_name
from results.index import COLUMNS, STATES, Row, as_row, transaction

FILTERS: Final = ("state", "system", "version", "workload", "fault", "provider")
SORTS: Final = {
    "started": "started",
    "state": "state",
    "system": "system",
    "workload": "workload",
    "version": "version",
    "faults": "faults",
    "provider": "provider",
    "ops": "ops",
    "seconds": "seconds",
    "elections": "elections",
    "p99_ms": "p99_ms",
}
_searched: Final = ("path", "system", "version", "workload", "faults", "seed", "reason", "provider", "state")
_longest: Final = 200  # of a search, in characters
_most_words: Final = 8


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is asked for; empty: anything. Every word of `q` has to occur somewhere in a row.

    `fault` is a family that is among a run's; `page` counts from 1.
    """

    q: str = ""
    state: str = ""
    system: str = ""
    version: str = ""
    workload: str = ""
    fault: str = ""
    provider: str = ""
    sort: str = "started"
    order: str = "desc"
    page: int = 1

    def __post_init__(self) -> None:
        """Raises: UsageError for a sort, an order or a page that there is not."""
        if self.sort not in SORTS:
            raise unknown_name("sort", self.sort, SORTS)
        if self.order not in ("asc", "desc"):
            raise unknown_name("order", self.order, ("asc", "desc"))
        if not 1 <= self.page < 2**31:
            raise UsageError(f"page {self.page}: expected 1 or more")
        if self.state and self.state not in STATES:
            raise unknown_name("state", self.state, STATES)


class Found(msgspec.Struct, kw_only=True):
    """One page of the rows that match. `facets`: for each filter its values in the whole index, the
    most frequent first, as (value, runs)."""

    rows: list[Row]
    total: int
    page: int
    pages: int
    all: int
    facets: dict[str, list[tuple[str, int]]]


class Day(msgspec.Struct, kw_only=True):
    """The runs of a day (UTC) or of a group. Medians over its runs; None: no run says."""

    name: str
    states: dict[str, int]
    p50_ms: float | None = None
    p99_ms: float | None = None
    elections: float | None = None
    rate: float | None = None

    @property
    def runs(self) -> int:
        return sum(self.states.values())


class Trend(msgspec.Struct, kw_only=True):
    """`days` in order; `groups`: by system and workload, the most runs first."""

    days: list[Day]
    groups: list[Day]


def search(root: Path, query: Query, per_page: int = 50) -> Found:
    """A page of the runs that match; a page beyond the last one is the last one.

    Raises: InfrastructureError when the index cannot be read.
    """
    if not root.is_dir():
        return Found(rows=[], total=0, page=1, pages=1, all=0, facets={name: [] for name in FILTERS})
    where, values = _condition(query)
    column, direction = SORTS[query.sort], query.order
    with transaction(root) as db:
        every = db.execute("select count(*) from runs").fetchone()[0]
        total = db.execute(f"select count(*) from runs{where}", values).fetchone()[0]  # noqa: S608 - names are ours
        pages = max(1, -(-total // per_page))
        page = min(query.page, pages)
        found = db.execute(
            f"select {', '.join(COLUMNS)} from runs{where}"  # noqa: S608 - names are ours, values are bound
            f" order by {column} is null, {column} {direction}, started desc, path desc limit ? offset ?",
            [*values, per_page, (page - 1) * per_page],
        ).fetchall()
        facets = {
            name: [
                (value, count)
                for value, count in db.execute(
                    f"select {name}, count(*) from runs where {name} is not null"  # noqa: S608 - names are ours
                    f" group by {name} order by count(*) desc, {name}"
                )
            ]
            for name in FILTERS
            if name != "fault"
        }
        families = Counter(
            family
            for (text,) in db.execute("select faults from runs")
            for family in text.split(",")
            if family
        )
    facets["fault"] = sorted(families.items(), key=lambda item: (-item[1], item[0]))
    return Found(
        rows=[as_row(row) for row in found], total=total, page=page, pages=pages, all=every, facets=facets
    )


def trend(root: Path, query: Query) -> Trend:
    """The runs that match, by day and by system and workload.

    Raises: InfrastructureError when the index cannot be read.
    """
    if not root.is_dir():
        return Trend(days=[], groups=[])
    where, values = _condition(query)
    with transaction(root) as db:
        rows = [
            as_row(row)
            for row in db.execute(f"select {', '.join(COLUMNS)} from runs{where}", values)  # noqa: S608 - names are ours
        ]
    days = _grouped(rows, lambda row: (row.started or "")[:10])
    groups = _grouped(rows, lambda row: " · ".join(filter(None, (row.system, row.workload))))
    return Trend(
        days=sorted(days, key=lambda day: day.name),
        groups=sorted(groups, key=lambda group: (-group.runs, group.name)),
    )


def find(root: Path, path: str) -> Row | None:
    """The row of one run by its path below the root."""
    with transaction(root) as db:
        row = db.execute(f"select {', '.join(COLUMNS)} from runs where path = ?", [path]).fetchone()  # noqa: S608 - names are ours
    return None if row is None else as_row(row)


def before(root: Path, row: Row) -> Row | None:
    """The latest earlier run of the same system and workload that has results."""
    with transaction(root) as db:
        found = db.execute(
            f"select {', '.join(COLUMNS)} from runs where system is ? and workload is ? and started < ?"  # noqa: S608 - names are ours
            " and path != ? and verdict is not null order by started desc, path desc limit 1",
            [row.system, row.workload, row.started, row.path],
        ).fetchone()
    return None if found is None else as_row(found)


def _condition(query: Query) -> tuple[str, list[Any]]:
    parts: list[str] = []
    values: list[Any] = []
    for name in FILTERS:
        wanted = getattr(query, name)
        if wanted and name == "fault":
            parts.append("instr(',' || faults || ',', ?) > 0")
            values.append(f",{wanted},")
        elif wanted:
            parts.append(f"{name} = ?")
            values.append(wanted)
    hay = " || ' ' || ".join(f"coalesce({name}, '')" for name in _searched)
    for word in query.q[:_longest].lower().split()[:_most_words]:
        parts.append(f"instr(lower({hay}), ?) > 0")
        values.append(word)
    return (f" where {' and '.join(parts)}" if parts else ""), values


def _grouped(rows: Iterable[Row], name_of: Callable[[Row], str]) -> list[Day]:
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[name_of(row) or "unknown"].append(row)
    return [
        Day(
            name=name,
            states={state: n for state in STATES if (n := sum(r.state == state for r in members))},
            p50_ms=_median(r.p50_ms for r in members),
            p99_ms=_median(r.p99_ms for r in members),
            elections=_median(r.elections for r in members),
            rate=_median(r.rate for r in members),
        )
        for name, members in groups.items()
    ]


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(median(known)) if known else None
