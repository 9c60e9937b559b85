"""A campaign's file: what is crossed, what is drawn, and what bounds it.

    name, seed, budget, cores, memory, at-once, limit, max-failures, disk, free, baseline, every
    [defaults]     keys of a run's spec, for all cells
    [[matrix]]     keys of a run's spec with lists of values: every combination, `seeds` of each
    [[sample]]     the same, of which `count` are drawn; without `count` as many as the budget has room for
    [canary]       `bug`, one of `splitbrain bugs`, `runs` and `time`: the proof that the pipeline detects
    [keep]         how long bulky data is kept, by verdict
    [notify]       `command` and `webhook`, `webhook-env`

Of `faults` each value is what `--faults` takes, so "kill,pause" is one value and ["kill", "pause"] are two.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.core.errors import UsageError, unknown_name
from splitbrain import registry
from splitbrain import spec as specs

FORMAT: Final = 1
DEFAULT_CANARY: Final = "etcd-serializable"
_axes: Final = tuple(k for k in specs.KEYS if k not in ("seed", "schedule", "keep", "admission", "opt"))
_keys: Final = (
    *("name", "seed", "budget", "cores", "memory", "at-once", "limit", "max-failures", "disk", "free"),
    *("baseline", "every", "defaults", "matrix", "sample", "canary", "keep", "notify", "format"),
)
_size: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(MB|GB|TB)", re.IGNORECASE)
_mb_of: Final = {"mb": 1, "gb": 1000, "tb": 1_000_000}
_name: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """One `[[matrix]]` or `[[sample]]`: the values of each key, options as `opt.NAME`. `seeds`: how many of each
    combination, or which. `count`: how many are drawn, None: as many as there is time for."""

    where: str
    axes: dict[str, tuple[Any, ...]]
    seeds: int | tuple[int, ...] = 1
    count: int | None = None


class Canary(msgspec.Struct, frozen=True, kw_only=True):
    """The known bug that every campaign must find, in at least one of `runs` that are planned for it. `time_s` None: as
    long as the bug's own spec has it."""

    bug: str = DEFAULT_CANARY
    runs: int = 1
    time_s: float | None = None


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """How long bulky data is kept, in days. The nodes' data of valid runs goes at once; spec, results, and report stay
    for ever."""

    valid_days: float = 14.0
    others_days: float = 90.0


class Notify(msgspec.Struct, frozen=True, kw_only=True):
    """Who is told of a new finding, a canary that was not found, and a night that did not happen."""

    command: tuple[str, ...] = ()
    webhook: str | None = None
    webhook_env: str | None = None


class Campaign(msgspec.Struct, frozen=True, kw_only=True):
    """A campaign's file, checked. `seed` None: drawn anew each night. `cores`, `memory_mb` None: what the machine has.
    `limit_s` None: by each cell's own times. `disk_mb` bounds the home, `free_mb` is what must stay free."""

    name: str
    path: Path
    seed: int | None = None
    budget_s: float | None = None
    cores: float | None = None
    memory_mb: float | None = None
    at_once: int | None = None
    limit_s: float | None = None
    max_failures: int | None = None
    disk_mb: float | None = None
    free_mb: float = 1000.0
    every_s: float = 26 * 3600.0
    baseline: Path | None = None
    matrices: tuple[Block, ...] = ()
    samples: tuple[Block, ...] = ()
    canary: Canary = Canary()
    keep: Keep = Keep()
    notify: Notify = Notify()


def read(path: Path) -> Campaign:
    """The campaign that a file describes.

    Raises: UsageError for whatever is wrong with it, with the nearest word for one that is not known.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(f"cannot read campaign {path}: {e.strerror}; expected a TOML file") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise UsageError(f"cannot read campaign {path}: {e}; expected TOML in UTF-8") from None
    try:
        return _campaign(path, table)
    except UsageError as e:
        raise UsageError(f"campaign {path}: {e}") from None


def _campaign(path: Path, table: dict[str, Any]) -> Campaign:
    _known("key", table, _keys)
    if table.get("format", FORMAT) != FORMAT or isinstance(table.get("format"), bool):
        raise UsageError(f"format = {table['format']!r}; this splitbrain reads format {FORMAT}")
    name = table.get("name", path.stem)
    if not isinstance(name, str) or not _name.fullmatch(name):
        raise UsageError(f"name = {name!r}: expected letters, digits, dots and hyphens; it names a folder")
    defaults = _axes_of("[defaults]", _table(table, "defaults"), path, ())
    blocks = {
        kind: tuple(_block(kind, n, given, defaults, path) for n, given in enumerate(_tables(table, kind), 1))
        for kind in ("matrix", "sample")
    }
    if not (blocks["matrix"] or blocks["sample"]):
        raise UsageError("it has no cells; expected [[matrix]] or [[sample]]")
    budget = _time(table, "budget")
    if budget is None and any(b.count is None for b in blocks["sample"]):
        raise UsageError("a [[sample]] without count goes on until the budget is over; set budget, or count")
    baseline = table.get("baseline")
    if baseline is not None and not isinstance(baseline, str):
        raise UsageError(f"baseline = {baseline!r}: expected the name of a file")
    return Campaign(
        name=name,
        path=path,
        seed=_number(table, "seed", whole=True),
        budget_s=budget,
        cores=_number(table, "cores"),
        memory_mb=_megabytes(table, "memory"),
        at_once=_count(table, "at-once"),
        limit_s=_time(table, "limit"),
        max_failures=_count(table, "max-failures"),
        disk_mb=_megabytes(table, "disk"),
        free_mb=1000.0 if (free := _megabytes(table, "free")) is None else free,
        every_s=_time(table, "every") or 26 * 3600.0,
        baseline=None if baseline is None else path.parent / baseline,
        matrices=blocks["matrix"],
        samples=blocks["sample"],
        canary=_canary(_table(table, "canary")),
        keep=_keep(_table(table, "keep")),
        notify=_notify(_table(table, "notify")),
    )


def _known(kind: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise unknown_name(kind, key, known)


def _table(table: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = table.get(key, {})
    if not isinstance(found, dict):
        raise UsageError(f"{key} = {found!r}: expected a table [{key}]")
    return found


def _tables(table: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = table.get(key, [])
    if not isinstance(found, list) or not all(isinstance(f, dict) for f in found):
        raise UsageError(f"{key}: expected tables [[{key}]]")
    return found


def _block(
    kind: str, number: int, given: dict[str, Any], defaults: Mapping[str, tuple[Any, ...]], path: Path
) -> Block:
    where = f"[[{kind}]] {number}"
    own = ("seeds",) if kind == "matrix" else ("count",)
    axes = {**defaults, **_axes_of(where, given, path, own)}
    seeds, count = given.get("seeds", 1), given.get("count")
    if isinstance(seeds, list) and seeds and all(_is_whole(s) and s >= 0 for s in seeds):
        return Block(where=where, axes=axes, seeds=tuple(seeds))
    if not _is_whole(seeds) or not 1 <= seeds <= 100_000:
        raise UsageError(f"{where}: seeds = {seeds!r}: expected how many, 1 or more, or a list of seeds")
    if count is not None and (not _is_whole(count) or not 1 <= count <= 1_000_000):
        raise UsageError(f"{where}: count = {count!r}: expected how many cells are drawn, 1 or more")
    return Block(where=where, axes=axes, seeds=seeds, count=count)


def _axes_of(
    where: str, given: Mapping[str, Any], path: Path, own: tuple[str, ...]
) -> dict[str, tuple[Any, ...]]:
    try:
        _known("key", given, (*_axes, "opt", *own))
    except UsageError as e:
        raise UsageError(f"{where}: {e}") from None
    axes: dict[str, tuple[Any, ...]] = {}
    for key, value in given.items():
        if key == "opt":
            if not isinstance(value, dict):
                raise UsageError(f"{where}: opt = {value!r}: expected a table of options")
            for name, option in value.items():
                nested = option.items() if isinstance(option, dict) else [(None, option)]
                for inner, values in nested:
                    axes[f"opt.{name}" if inner is None else f"opt.{name}.{inner}"] = _values(
                        where, name, values
                    )
        elif key not in own:
            axes[key] = _values(where, key, value)
    if "system" in axes:  # a file's path starts at the campaign's folder
        axes["system"] = tuple(
            str((path.parent / s).resolve()) if isinstance(s, str) and registry.is_file(s) else s
            for s in axes["system"]
        )
    return axes


def _values(where: str, key: str, value: Any) -> tuple[Any, ...]:
    values = tuple(value) if isinstance(value, list) else (value,)
    for v in values:
        if not isinstance(v, str | int | float):
            raise UsageError(
                f"{where}: {key} = {v!r}: expected text, a number, true or false, or a list of them"
            )
    if not values:
        raise UsageError(f"{where}: {key} = []: expected at least one value")
    if len(set(map(repr, values))) < len(values):
        raise UsageError(f"{where}: {key} = {list(values)!r} has a value twice; `seeds` repeats a cell")
    return values


def _canary(table: Mapping[str, Any]) -> Canary:
    from splitbrain.bugs import data

    _known("key of [canary]", table, ("bug", "runs", "time"))
    bug = table.get("bug", DEFAULT_CANARY)
    if not isinstance(bug, str):
        raise UsageError(f"[canary]: bug = {bug!r}: expected one that `splitbrain bugs` lists")
    data.bug(bug)
    return Canary(bug=bug, runs=_count(table, "runs") or 1, time_s=_time(table, "time"))


def _keep(table: Mapping[str, Any]) -> Keep:
    _known("key of [keep]", table, ("valid", "others"))
    days = {f"{key}_days": s / 86400 for key in ("valid", "others") if (s := _time(table, key)) is not None}
    return Keep(**days)


def _notify(table: Mapping[str, Any]) -> Notify:
    import shlex

    _known("key of [notify]", table, ("command", "webhook", "webhook-env"))
    command = table.get("command", [])
    words = shlex.split(command) if isinstance(command, str) else command
    if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
        raise UsageError(f"[notify]: command = {command!r}: expected a command line, or a list of its words")
    for key in ("webhook", "webhook-env"):
        if not isinstance(table.get(key, ""), str):
            raise UsageError(f"[notify]: {key} = {table[key]!r}: expected text")
    webhook = table.get("webhook")
    if webhook is not None and not webhook.startswith(("http://", "https://")):
        raise UsageError(
            f"[notify]: webhook = {webhook!r}: expected an address that begins with http:// or https://"
        )
    return Notify(command=tuple(words), webhook=webhook, webhook_env=table.get("webhook-env"))


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(table: Mapping[str, Any], key: str, *, whole: bool = False) -> Any:
    return _bounded(
        table,
        key,
        "a number above 0" if not whole else "a whole number, 0 or more",
        lambda v: (
            _is_whole(v) and v >= 0
            if whole
            else isinstance(v, int | float) and not isinstance(v, bool) and v > 0
        ),
    )


def _count(table: Mapping[str, Any], key: str) -> int | None:
    found: int | None = _bounded(table, key, "a whole number, 1 or more", lambda v: _is_whole(v) and v >= 1)
    return found


def _bounded(table: Mapping[str, Any], key: str, expected: str, good: Callable[[Any], bool]) -> Any:
    value = table.get(key)
    if value is not None and not good(value):
        raise UsageError(f"{key} = {value!r}: expected {expected}")
    return value


def _time(table: Mapping[str, Any], key: str) -> float | None:
    if key not in table:
        return None
    try:
        found = specs.seconds(table[key])
    except UsageError as e:
        raise UsageError(f"{key}: {e}") from None
    if found < 0:
        raise UsageError(f"{key} = {table[key]!r}: expected 0 or more")
    return found


def _megabytes(table: Mapping[str, Any], key: str) -> float | None:
    value = table.get(key)
    if value is None:
        return None
    found = _size.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise UsageError(f"{key} = {value!r}: expected a size such as 500MB, 20GB or 1TB")
    return float(found[1]) * _mb_of[found[2].lower()]
