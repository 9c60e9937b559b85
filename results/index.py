"""The index of a root of runs: `index.db`, one row a run, so that listing reads no directories.

It holds nothing of its own: `rebuild` makes it again from the directories at any time, and a file
that is damaged or of another format is thrown away and rebuilt. Writers are several processes at
once (a campaign's runs), so each change is one short transaction under SQLite's own lock.

`refresh` brings it up to date with the directories: it looks at the size and time of the two files
that a row is made of and reads those that changed, so that runs in progress, runs that were killed
and runs that were moved away show as what they are. What asks questions of it is `results.browse`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.core.errors import InfrastructureError, UsageError, unknown_name
from harness.core.exits import exit_code
from results.rundir import is_run, read_object, run_dirs, run_id

FORMAT: Final = 2
NAME: Final = "index.db"
_busy_s: Final = 30.0
_verdicts: Final = ("valid", "invalid", "unknown")
STATES: Final = ("valid", "invalid", "unknown", "error", "unfinished")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the index knows it. `path` is relative to the root; None: not known.

    `verdict` is None for a run without results: it goes on, or it was cut off. `exit` is the code
    that its command ended with. `state` is the verdict, or `error` for a run that ended in one, or
    `unfinished`. `faults` names families, with commas. `p50_ms` and `p99_ms` are latencies of
    operations that succeeded, `rate` is what clients achieved, per second.
    """

    path: str
    run: str
    system: str | None = None
    version: str | None = None
    workload: str | None = None
    faults: str = ""
    seed: int | None = None
    verdict: str | None = None
    reason: str = ""
    ops: int | None = None
    seconds: float | None = None
    started: str | None = None
    exit: int | None = None
    state: str = "unfinished"
    provider: str | None = None
    nodes: int | None = None
    elections: int | None = None
    rate: float | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None


COLUMNS: Final = Row.__struct_fields__  # in the order of `as_row`
_filters: Final = ("run", "system", "version", "workload", "seed", "verdict", "exit", "state", "provider")
_schema: Final = """
create table if not exists meta (name text primary key, value text not null) without rowid;
create table if not exists runs (
  path text primary key, run text not null, system text, version text, workload text,
  faults text not null, seed text, verdict text, reason text not null, ops integer,
  seconds real, started text, exit integer, state text not null, provider text, nodes integer,
  elections integer, rate real, p50_ms real, p99_ms real, stamp text not null
) without rowid;
create index if not exists runs_started on runs (started);
"""


def add(run_dir: Path) -> None:
    """Put a run into the index of its root (two levels up), or replace what stood there for it.

    Raises: InfrastructureError when the index cannot be written.
    """
    run_dir = run_dir.resolve()
    root = run_dir.parent.parent
    row = read_row(root, run_dir)
    if row is not None:
        with transaction(root) as db:
            _insert(db, row, _stamp(run_dir))


def refresh(root: Path) -> int:
    """Bring the index of `root` up to date with its directories; returns how many rows it changed.

    Raises: InfrastructureError when the index cannot be written.
    """
    if not root.is_dir():
        return 0
    with transaction(root) as db:
        known = dict(db.execute("select path, stamp from runs").fetchall())
    found: dict[str, tuple[Path, str]] = {}
    for path in _named_dirs(root):
        name = path.relative_to(root).as_posix()
        stamp = _stamp(path)
        if stamp != _nothing or is_run(path):
            found[name] = (path, stamp)
    changed = []
    for name, (path, stamp) in found.items():  # outside of any transaction: reading may take a while
        if known.get(name) != stamp and (row := read_row(root, path)) is not None:
            changed.append((row, stamp))
    gone = [name for name in known if name not in found]
    if changed or gone:
        with transaction(root) as db:
            for row, stamp in changed:
                _insert(db, row, stamp)
            db.executemany("delete from runs where path = ?", [(name,) for name in gone])
    return len(changed) + len(gone)


def rebuild(root: Path) -> int:
    """Make the index of `root` anew from its directories; returns how many runs it has.

    Raises: InfrastructureError when the index cannot be written.
    """
    with transaction(root) as db:
        return _fill(db, root)


def rows(root: Path, limit: int = 50, filters: Mapping[str, Any] | None = None) -> list[Row]:
    """The newest runs that have exactly the given values; a value of None means "not known".

    Raises: UsageError for a filter that the index does not have, InfrastructureError when the index
    cannot be read.
    """
    where, values = [], []
    for name, value in (filters or {}).items():
        if name not in _filters:
            raise unknown_name("filter", name, _filters)
        where.append(f"{name} is ?")
        values.append(str(value) if name == "seed" and value is not None else value)
    if limit < 0:
        raise UsageError(f"limit {limit}: expected a number of rows, 0 or more")
    if not root.is_dir():
        return []
    condition = f" where {' and '.join(where)}" if where else ""
    query = (
        f"select {', '.join(COLUMNS)} from runs{condition}"  # noqa: S608 - names are ours, values are bound
        " order by started is null, started desc, path desc limit ?"
    )
    with transaction(root) as db:
        return [as_row(found) for found in db.execute(query, [*values, limit])]


def read_row(root: Path, run_dir: Path) -> Row | None:
    """What a run's directory says about it, however little; None when it is no run's directory."""
    spec = read_object(run_dir / "spec.json")
    results = read_object(run_dir / "results.json")
    if spec is None and results is None and not is_run(run_dir):
        return None
    spec, found = spec or {}, results or {}
    if results is not None:
        reason = _text(found.get("reason")) or ""
    elif (run_dir / "results.json").exists():
        reason = "unfinished: results.json cannot be read"
    else:
        reason = "unfinished: no results yet"
    verdict = found.get("verdict")
    verdict = verdict if verdict in _verdicts else None if results is None else "unknown"
    state = verdict or "unfinished"
    detail = part(part(found, "checks"), "operations").get("detail")
    latency = part(detail if isinstance(detail, dict) else {}, "latency_ms")
    return Row(
        path=run_dir.relative_to(root).as_posix(),
        run=run_id(run_dir),
        system=_text(found.get("system") or spec.get("system")),
        version=_text(found.get("version") or spec.get("version")),
        workload=_text(found.get("workload") or spec.get("workload")),
        faults=",".join(_families(found.get("faults") or spec.get("faults"))),
        seed=_integer(found.get("seed", spec.get("seed"))),
        verdict=verdict,
        reason=reason,
        ops=_count(found.get("ops")),
        seconds=_number(found.get("seconds")),
        started=_text(found.get("started")) or _started(run_dir),
        exit=None if results is None else exit_code(found),
        state="error" if state == "unknown" and found.get("error") else state,
        provider=_text(found.get("provider") or spec.get("provider")),
        nodes=_count(found.get("nodes") or spec.get("nodes")),
        elections=_count(part(found, "leadership").get("elections", found.get("leader_changes"))),
        rate=_number(part(found, "rate").get("achieved")),
        p50_ms=_number(latency.get("p50")),
        p99_ms=_number(latency.get("p99")),
    )


def _named_dirs(root: Path) -> Iterator[Path]:
    """The directories where a run's would be, without names that are no text: no run of ours has one."""
    for path in run_dirs(root):
        try:
            path.relative_to(root).as_posix().encode()
        except UnicodeEncodeError:
            continue
        yield path


_nothing: Final = "- -"  # the stamp of a directory that has neither file


def _stamp(run_dir: Path) -> str:
    """Size and time of the files that a row is made of: another stamp, another row."""
    parts = []
    for name in ("spec.json", "results.json"):
        try:
            found = (run_dir / name).stat()
        except OSError:
            parts.append("-")
        else:
            parts.append(f"{found.st_size}:{found.st_mtime_ns}")
    return " ".join(parts)


def _families(faults: Any) -> list[str]:
    """Families of faults, from results (by family) or a spec (`partition:one-way`, `walk:kill+pause`)."""
    if isinstance(faults, dict):
        return [str(family) for family in faults]
    names: dict[str, None] = {}
    for text in faults if isinstance(faults, list) else []:
        family, _, targets = str(text).partition(":")
        names |= dict.fromkeys(targets.split("+") if family == "walk" and targets else [family])
    return list(names)


def part(value: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object `name` in an object of a run's files; empty where there is none."""
    found = value.get(name)
    return found if isinstance(found, dict) else {}


def _started(run_dir: Path) -> str | None:
    """The start as the directory's name has it, spelled as `results.json` would."""
    t = run_dir.name.partition("-")[0]
    if len(t) != len("20260131T120000Z") or t[8] != "T" or not (t[:8] + t[9:15]).isdigit():
        return None
    return f"{t[:4]}-{t[4:6]}-{t[6:8]}T{t[9:11]}:{t[11:13]}:{t[13:15]}Z"


@contextmanager
def transaction(root: Path) -> Iterator[sqlite3.Connection]:
    """The index, open for one transaction; made, or made again, where it has to be.

    Raises: InfrastructureError when the index cannot be used.
    """
    path = root / NAME
    try:
        root.mkdir(parents=True, exist_ok=True)
        db = _open(path)
        with closing(db):
            fresh = _prepare(db)
            if fresh:
                _fill(db, root)
            yield db
            db.execute("commit")
    except (OSError, sqlite3.Error) as e:
        raise InfrastructureError(
            f"cannot use the index {path}: {e}; it holds nothing of its own, remove it and it is made again"
        ) from None


def _open(path: Path) -> sqlite3.Connection:
    """Connect and take the write lock; what is no database is thrown away first."""
    for attempt in (1, 2):
        db = sqlite3.connect(path, timeout=_busy_s, isolation_level=None)
        try:
            db.execute("begin immediate")
            db.execute("select count(*) from sqlite_master").fetchone()
        except sqlite3.DatabaseError as e:
            db.close()
            if attempt == 2 or isinstance(e, sqlite3.OperationalError):  # busy, read-only, full
                raise
            path.unlink(missing_ok=True)
        else:
            return db
    raise AssertionError("unreachable")  # the loop returns or raises


def _prepare(db: sqlite3.Connection) -> bool:
    """Make the tables where they are missing or of another format; whether they are new."""
    try:
        found = db.execute("select value from meta where name = 'format'").fetchone()
        if found == (str(FORMAT),):
            return False
    except sqlite3.OperationalError:  # no such table
        pass
    for kind, name in db.execute(
        "select type, name from sqlite_master where name in ('meta', 'runs')"
    ).fetchall():
        db.execute(f"drop {kind} {name}")
    for statement in _schema.split(";"):
        if statement.strip():
            db.execute(statement)
    db.execute("insert into meta values ('format', ?)", (str(FORMAT),))
    return True


def _fill(db: sqlite3.Connection, root: Path) -> int:
    db.execute("delete from runs")
    count = 0
    for path in _named_dirs(root):
        stamp = _stamp(path)
        row = read_row(root, path)
        if row is not None:
            _insert(db, row, stamp)
            count += 1
    return count


def _insert(db: sqlite3.Connection, row: Row, stamp: str) -> None:
    values = msgspec.structs.asdict(row) | {"stamp": stamp}
    if row.seed is not None:
        values["seed"] = str(row.seed)  # SQLite's integers end at 2^63
    names = ", ".join(values)
    slots = ", ".join(f":{name}" for name in values)
    db.execute(f"insert or replace into runs ({names}) values ({slots})", values)  # noqa: S608 - names are ours


def as_row(found: tuple[Any, ...]) -> Row:
    """A row of the index, from its `COLUMNS` in order."""
    values = dict(zip(COLUMNS, found, strict=True))
    if values["seed"] is not None:
        values["seed"] = int(values["seed"])
    return Row(**values)


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _count(value: Any) -> int | None:
    whole = _integer(value)
    return whole if whole is not None and 0 <= whole < 2**63 else None  # what SQLite can hold


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
