"""What `splitbrain systems` tells: which versions are known, cached and to be had here, and what is promised."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.core.cache import cache_dir
from harness.core.errors import SplitbrainError
from harness.core.system import Promise
from harness.core.versions import NAMES, Source, Versions
from splitbrain import listing, registry

_meaning: Final = {
    "linearizable": "operations take effect one after another, in an order that agrees with real time",
    "availability": "it serves again once the faults are over",
    "durable": "what was acknowledged is there afterwards",
    "lease": "a lease lasts as long as was granted, and no key outlives it",
}


def examine() -> list[dict[str, Any]]:
    """One row a system, as plain data: its descriptor, and `cached`, `runs_with`, `promises`.

    `versions` has `known` beside what the descriptor says, and of each source what is `missing` here to ask it;
    it is None where the descriptor says nothing of versions. `runs_with` is program -> why it is not here, or
    None where it is. `promises` is None where the system cannot be
    loaded, and `problem` says why.
    """
    from clusters.artifacts.sources import kept, lacking

    cache = cache_dir()
    rows = []
    for row, d in zip(listing.details("systems"), registry.descriptors("systems"), strict=True):
        promises, problem = _promises(d.name)
        needs = () if d.versions is None else d.versions.needs
        row["versions"] = None if d.versions is None else _versions(d.name, d.versions)
        row["cached"] = [msgspec.to_builtins(k) for k in kept(d.name, cache)]
        row["runs_with"] = {program: lacking(program, d.name) for program in needs}
        row["promises"], row["problem"] = promises, problem
        rows.append(row)
    return rows


def _versions(system: str, versions: Versions) -> dict[str, Any]:
    from clusters.artifacts.sources import missing

    out: dict[str, Any] = msgspec.to_builtins(versions)
    out["known"] = list(versions.known)
    for plain, source in zip(out["sources"], versions.sources, strict=True):
        plain["missing"] = missing(source, system, cache_dir())
    return out


def _promises(system: str) -> tuple[list[dict[str, Any]] | None, str | None]:
    """A system's promises with its default options, each with its `text`; or why they are not known."""
    defaults = {option.name: option.default for option in registry.describe("systems", system).options}
    try:
        made = registry.create("systems", system, defaults).promises
        out = [msgspec.to_builtins(promise) | {"text": in_words(promise)} for promise in made]
    except SplitbrainError as e:
        return None, str(e)
    except Exception as e:  # noqa: BLE001 - a third party's system may raise anything
        return None, f"system {system!r} cannot be made: {type(e).__name__}: {e}"
    for plain in out:
        plain["families"] = sorted(plain["families"])
    return out, None


def in_words(promise: Promise) -> str:
    """One sentence.

    >>> in_words(Promise(prop="durable", families=frozenset({"kill"}), most="all"))
    'what was acknowledged is there afterwards, through kill of any number of nodes'
    """
    what = _meaning.get(promise.prop, promise.prop)
    if promise.families:
        many = "any number of nodes" if promise.most == "all" else "a minority of the nodes"
        what += f", through {', '.join(sorted(promise.families))} of {many}"
    else:
        what += ", without faults"
    if promise.unless:
        what += f"; not with {', '.join(f'{name}={value}' for name, value in promise.unless.items())}"
    return what


def print_rows(console: Console, rows: list[dict[str, Any]]) -> None:
    """What `splitbrain systems` prints."""
    for row, d in zip(rows, registry.descriptors("systems"), strict=True):
        console.print(Text.assemble((d.name, "bold"), f"  {d.summary}"))
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column()
        _print_versions(table, row, d.versions)
        for promise in row["promises"] or ():
            cell = Text(promise["text"])
            for where in filter(None, (promise["source"], promise["link"])):
                cell.append(f"\n{where}", style="dim")
            table.add_row(Text(f"promises {promise['prop']}", style="dim"), cell)
        if row["promises"] == []:
            table.add_row(Text("promises", style="dim"), Text("nothing"))
        if row["problem"]:
            table.add_row(Text("promises", style="dim"), Text(f"! {row['problem']}", style="yellow"))
        listing.add_options(table, d)
        console.print(Padding(table, (0, 0, 0, 2)))
        console.print()


def _print_versions(table: Table, row: dict[str, Any], versions: Versions | None) -> None:
    def add(title: str, text: Text | str) -> None:
        table.add_row(Text(title, style="dim"), Text(text) if isinstance(text, str) else text)

    if versions is not None:
        add("default", versions.default or "whichever its source has")
        add("known", ", ".join(versions.known) or "whichever its source has")
    cached = dict.fromkeys(kept["version"] for kept in row["cached"])
    add("cached", ", ".join(cached) or f"none; `splitbrain fetch {row['name']}` fetches the default")
    if versions is not None:
        for plain, source in zip(row["versions"]["sources"], versions.sources, strict=True):
            add("from", _source(source, plain["missing"]))
    for program, reason in row["runs_with"].items():
        works = reason is None
        add("runs with", Text(f"✔ {program}", "green") if works else Text(f"✕ {reason}", "yellow"))


def _source(source: Source, missing: str | None) -> Text:
    """A source: whether it can be asked here, and for what."""
    has = f"{len(source.versions)} known" if len(source.versions) > 3 else ", ".join(source.versions)
    if source.least is not None:
        has = f"{has}, and others from {source.least} on" if has else f"any from {source.least} on"
    text = Text("✔ " if missing is None else "✕ ", style="green" if missing is None else "yellow")
    text.append(f"{NAMES[source.via]}, {source.what}: {has or 'the one it has'}", style="not bold default")
    if missing is not None:
        text.append(f" ({missing})", style="yellow")
    return text
