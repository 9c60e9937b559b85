"""What works on this machine: each room is asked, and its answer printed. No checks of its own.

A provider's `probe` says for each capability why it does not work here, or nothing; the rest are the
functions that a run itself would call (the Go toolchain, the engine, the cache).
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.core.errors import InfrastructureError, SplitbrainError, UsageError
from harness.core.spec import Spec
from splitbrain import registry

_least_go: Final = (1, 21)


def examine(runs: Path, nodes: str | None = None, options: Sequence[str] = ()) -> dict[str, Any]:
    """The findings as plain data; `error` says why the default provider cannot work, or is None. With `nodes`, hosts as
    `--provider ssh` takes them with its `options`, it is what those have, or why they cannot be asked.

    `leftovers` is what runs that were killed left behind, those below `runs` and on this machine.
    """
    from splitbrain.heal import left_behind

    if nodes is not None:
        return _hosts(nodes, options)
    providers = {name: _probe(name) for name in registry.names("providers")}
    default = Spec().provider
    error = None
    if default not in providers:
        error = f"the default provider {default!r} is not registered; install splitbrain again"
    elif (reason := _refusal(default, providers[default])) is not None:
        error = f"the default provider {default!r} cannot work here: {reason}"
    return {
        "format": 1,
        "splitbrain": registry.version(),
        "python": platform.python_version(),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "providers": providers,
        "engine": _engine(),
        "go": _go(),
        "cache": _cache(),
        "leftovers": left_behind(runs),
        "broken": [sentence for group in registry.GROUPS for sentence in registry.broken(group)],
        "error": error,
    }


def examine_system(given: str) -> dict[str, Any]:
    """What the file of a system of the user's own describes, as plain data.

    Raises: UsageError with all that is wrong with it.
    """
    from splitbrain import listing
    from splitbrain.spec import system_named

    if not registry.is_file(given):
        raise UsageError(
            f"doctor {given!r}: expected the file of a system of your own, such as ./{given}.toml"
        )
    name = system_named(given)
    made = registry.create("systems", name, {})
    workloads = {}
    for workload in registry.names("workloads"):
        gap = listing.missing(name, workload)
        optional = {o.name for o in registry.describe("workloads", workload).options if o.default is True}
        if optional.issuperset(gap):  # an option that is called like an operation does without it
            workloads[workload] = [f"--opt {workload}.{f}=false" for f in gap]
    return {
        "format": 1,
        "system": name,
        "summary": registry.describe("systems", name).summary,
        "operations": list(registry.operations_of(name)),
        "workloads": workloads,
        "roles": made.roles,
        "promises": [
            {"property": p.prop, "faults": sorted(p.families), "most": p.most} for p in made.promises
        ],
        "options": {o.name: o.default for o in registry.describe("systems", name).options},
    }


def print_system(console: Console, told: dict[str, Any]) -> None:
    """The same as a table."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column()
    table.add_row("system", Text(f"{told['system']}: {told['summary']}"))
    table.add_row("operations", ", ".join(told["operations"]))
    runs = [
        f"{workload} ({' '.join(how)})" if how else workload for workload, how in told["workloads"].items()
    ]
    table.add_row("workloads", ", ".join(runs) or "none has only these operations")
    table.add_row("roles", "as its [status] says" if told["roles"] else "unknown: it has no [status]")
    for promise in told["promises"]:
        table.add_row(promise["property"], f"{', '.join(promise['faults'])} ({promise['most']} at once)")
    if not told["promises"]:
        table.add_row("promises", "none: it is judged under partition, kill and pause")
    for name, default in told["options"].items():
        table.add_row("option", f"{name}={default}")
    console.print(table)


def print_findings(console: Console, found: dict[str, Any]) -> None:
    """The findings as a table: a glyph, a word and, where it does not work, the reason."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    for host, capabilities in found.get("hosts", {}).items():
        for capability, reason in capabilities.items():
            table.add_row(host, _mark(works=reason is None), Text(f"{capability}{_because(reason)}"))
    if "hosts" in found:
        console.print(table)
        if found["error"]:
            console.print(Text(f"✘ {found['error']}", style="bold red"), soft_wrap=True)
        return
    for name in ("splitbrain", "python", "kernel", "cpus"):
        table.add_row(Text(name, style="dim"), Text(), Text(str(found[name])))
    for provider, capabilities in found["providers"].items():
        for capability, reason in capabilities.items():
            table.add_row(provider, _mark(works=reason is None), Text(f"{capability}{_because(reason)}"))
    engine, go, cache = found["engine"], found["go"], found["cache"]
    table.add_row("engine", _mark(works=engine["reason"] is None), Text(engine["path"] or engine["reason"]))
    text = go["reason"] or f"{go['path']}, Go {go['version']}"
    table.add_row("go", _mark(works=go["reason"] is None), Text(text))
    size = f"{cache['bytes'] / 1e6:,.0f} MB" if cache["bytes"] is not None else "not there yet"
    table.add_row(
        "cache", _mark(works=cache["reason"] is None), Text(cache["reason"] or f"{cache['path']}, {size}")
    )
    console.print(table)
    for sentence in found["leftovers"]:
        console.print(Text(f"! {sentence}; `splitbrain heal --all` clears it up", "yellow"), soft_wrap=True)
    for sentence in found["broken"]:
        console.print(Text(f"! {sentence}", style="yellow"), soft_wrap=True)
    if found["error"]:
        console.print(Text(f"✘ {found['error']}", style="bold red"), soft_wrap=True)


def _hosts(nodes: str, given: Sequence[str]) -> dict[str, Any]:
    """What hosts have. Raises: UsageError for what cannot be meant."""
    from splitbrain.spec import resolve

    (name,) = (d.name for d in registry.descriptors("providers") if d.hosts)
    spec = resolve(None, {"provider": name, "nodes": nodes, "opt": given, "faults": "none"})
    found: dict[str, Any] = {"format": 1, "hosts": {}, "error": None}
    try:
        found["hosts"] = registry.create("providers", name, spec.of(name) | {"hosts": spec.hosts}).survey()
    except InfrastructureError as e:
        found["error"] = str(e)
    return found


def _mark(*, works: bool) -> Text:
    return Text("✔ yes", style="green") if works else Text("✘ no", style="red")


def _because(reason: str | None) -> str:
    return "" if reason is None else f": {reason}"


def _probe(name: str) -> dict[str, str | None]:
    """A provider's capabilities; one that cannot even be asked has none, and says so under its name."""
    options = {option.name: option.default for option in registry.describe("providers", name).options}
    try:
        return dict(registry.create("providers", name, options).probe())
    except (SplitbrainError, OSError) as e:
        return {name: f"it could not be asked: {e}"}


def _refusal(name: str, capabilities: dict[str, str | None]) -> str | None:
    """Why a provider cannot work at all: what it says under its own name, else when nothing works."""
    if name in capabilities:
        return capabilities[name]
    reasons = list(capabilities.values())
    return reasons[0] if reasons and all(reason is not None for reason in reasons) else None


def _engine() -> dict[str, Any]:
    from checkers.engine_binary import engine_path

    try:
        return {"path": str(engine_path()), "reason": None}
    except SplitbrainError as e:
        return {"path": None, "reason": str(e)}


def _go() -> dict[str, Any]:
    from harness.core import golang

    try:
        path = golang.require_go(_least_go)
    except SplitbrainError as e:
        return {"path": None, "version": None, "reason": str(e)}
    found = golang.version(path)
    return {"path": str(path), "version": ".".join(map(str, found or ())), "reason": None}


def _cache() -> dict[str, Any]:
    """Where the cache is and how much it holds, in all and by what it is; a reason where nothing can be written to it.

    `key` changes when what a run of this splitbrain would build or fetch here does, and begins with `restore`, under
    which CI finds an older one to start from.
    """
    from harness.core.cache import cache_dir

    path = cache_dir()
    restore = f"splitbrain-{platform.system()}-{platform.machine()}-".lower()
    about = {"path": str(path), "key": f"{restore}{_fingerprint()}", "restore": restore}
    if not path.exists():
        return {**about, "bytes": None, "parts": {}, "reason": _unwritable(_nearest(path))}
    parts: dict[str, int] = {}
    for entry in sorted(path.iterdir()):
        if entry.name == "secrets":
            continue  # those of runs on this machine; no cache may carry them away
        if entry.name == "programs":
            parts |= {p.name: _size(p) for p in sorted(entry.iterdir()) if p.suffix != ".lock"}
        else:
            parts[entry.name] = _size(entry)
    return {**about, "bytes": sum(parts.values()), "parts": parts, "reason": _unwritable(path)}


def _fingerprint() -> str:
    """Of all that decides what is built: splitbrain's version, the engine's sources, each system's newest version."""
    from checkers.engine_binary import source_hash

    try:
        engine = source_hash()
    except OSError:  # an installed one brings it
        engine = ""
    words = [registry.version(), engine, *platform.python_version_tuple()[:2]]
    for name in sorted(registry.names("systems")):
        words += [name, repr(registry.describe("systems", name).versions)]
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.lstat().st_size
    return sum((Path(folder) / name).lstat().st_size for folder, _, files in os.walk(path) for name in files)


def _nearest(path: Path) -> Path:
    """The nearest folder above that exists."""
    return next(folder for folder in path.parents if folder.exists())


def _unwritable(folder: Path) -> str | None:
    if os.access(folder, os.W_OK | os.X_OK):
        return None
    return f"{folder} cannot be written to; set SPLITBRAIN_CACHE to a folder that can"
