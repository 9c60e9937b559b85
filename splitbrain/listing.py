"""What is registered, what goes with what, and which runs there are, as tables and as plain data.

The matrix *system x workload x checker* is not kept anywhere: a workload says which operations it needs
and which checkers judge it, a system's client has a method for each operation that it supports.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from harness.core.client import supported
from harness.core.descriptor import Descriptor
from harness.core.errors import SplitbrainError
from harness.core.options import Option
from harness.core.spec import Spec
from nemesis.schedule import Step
from splitbrain import registry
from splitbrain.runner import RUN_WIDE
from splitbrain.spec import command_line, duration, limit
from splitbrain.timeline import condition, timeline

LATEST = 10


def missing(system: str, workload: str) -> list[str]:
    """The operations of a workload that a system's client has no method for.

    Raises: InfrastructureError when the system cannot be loaded.
    """
    options = {option.name: option.default for option in registry.describe("systems", system).options}
    client = registry.create("systems", system, options).client
    needs = registry.describe("workloads", workload).needs
    return sorted(needs - supported(type(client), needs))


def matrix() -> dict[str, dict[str, list[str] | None]]:
    """System -> workload -> what its client lacks for it (nothing: they go together), or None where
    the system cannot be loaded."""
    out: dict[str, dict[str, list[str] | None]] = {}
    for system in registry.names("systems"):
        row: dict[str, list[str] | None] = {}
        for workload in registry.names("workloads"):
            try:
                row[workload] = missing(system, workload)
            except SplitbrainError:
                row[workload] = None
        out[system] = row
    return out


def checks() -> dict[str, dict[str, str | None]]:
    """Workload -> checker -> None where it judges runs of the workload with its default options, else why it
    does not; all registered checkers, and those that a workload names though nobody registered them."""
    registered = registry.names("checkers")
    named = {workload: _named(workload) for workload in registry.names("workloads")}
    out: dict[str, dict[str, str | None]] = {}
    for workload, found in named.items():
        if isinstance(found, str):
            out[workload] = dict.fromkeys(registered, found)
            continue
        row: dict[str, str | None] = {}
        for checker in registered:
            others = [w for w, of in named.items() if not isinstance(of, str) and checker in of]
            if checker in found or checker in RUN_WIDE:
                row[checker] = None
            elif others:
                row[checker] = f"judges the operations of {', '.join(others)}"
            else:
                row[checker] = "no workload names it"
        row |= {c: "not registered" for c in found if c not in registered}
        out[workload] = row
    return out


def _named(workload: str) -> list[str] | str:
    """The checkers that a workload names, or why it cannot say."""
    options = {option.name: option.default for option in registry.describe("workloads", workload).options}
    try:
        made = registry.create("workloads", workload, options)(Spec().concurrency, 0)
        return sorted({which for which, _ in made.checkers.values()})
    except Exception as e:  # noqa: BLE001 - a third party's workload may raise anything
        return f"workload {workload!r} cannot be made: {type(e).__name__}: {e}"


def broken(groups: Sequence[registry.Group] = registry.GROUPS) -> list[str]:
    """One sentence for each entry point that cannot be used."""
    return [sentence for group in groups for sentence in registry.broken(group)]


def details(group: registry.Group) -> list[dict[str, Any]]:
    """The descriptors of a group as plain data."""
    out: list[dict[str, Any]] = msgspec.to_builtins(registry.descriptors(group))
    for row in out:
        row["needs"] = sorted(row["needs"])
    return out


def everything(runs: Path) -> dict[str, Any]:
    """What `splitbrain list --json` prints."""
    from results.index import rows

    return {
        **{group: details(group) for group in registry.GROUPS},
        "operations": {name: list(registry.operations_of(name)) for name in registry.adopted()},
        "matrix": matrix(),
        "checks": checks(),
        "broken": broken(),
        "runs": [msgspec.to_builtins(row) for row in rows(runs, LATEST)],
    }


def print_everything(console: Console, runs: Path) -> None:
    """What `splitbrain list` prints."""
    from results.index import rows

    for group in registry.GROUPS:
        table = _table(group, "")
        for d in registry.descriptors(group):
            table.add_row(d.name, Text(d.summary))
        console.print(table)
        console.print()
    _print_matrix(console)
    for name in registry.adopted():
        console.print(Text(f"{name} can {', '.join(registry.operations_of(name))}"), soft_wrap=True)
    console.print()
    latest = rows(runs, LATEST)
    if not latest:
        console.print(Text(f"no runs in {runs} yet", style="dim"))
    else:
        table = _table("latest runs", "verdict", "system", "workload", "seed", "started", "reason")
        for column in table.columns[:-1]:
            column.no_wrap = True  # the last one gives way, and its texts are cut rather than wrapped
        for run in latest:
            system = " ".join(filter(None, (run.system, run.version)))
            cells = (run.run, run.verdict or "none", system, run.workload, run.seed, run.started)
            reason = Text(run.reason, no_wrap=True, overflow="ellipsis")
            table.add_row(*(Text("" if cell is None else str(cell)) for cell in cells), reason)
        console.print(table)
    for sentence in broken():
        console.print(Text(f"! {sentence}", style="yellow"), soft_wrap=True)


def _print_matrix(console: Console) -> None:
    """A row a workload: which systems run it, and which checkers judge it. Then what systems lack for the others,
    and a line for each checker that judges no workload in particular."""
    systems, by_workload = matrix(), checks()
    table = _table("system x workload x checker", *systems, "judged by")
    for workload, row in by_workload.items():
        cells = [_cell(systems[system][workload]) for system in systems]
        table.add_row(workload, *cells, _judges(row))
    console.print(table)
    for system, gaps in systems.items():
        lacking = [f"{workload} ({', '.join(gap)})" for workload, gap in gaps.items() if gap]
        if lacking:
            console.print(Text(f"✕ {system} has no operations for {', '.join(lacking)}", style="dim"))
    console.print(Text(f"every run is judged by {', '.join(RUN_WIDE)} as well", style="dim"))
    for checker in registry.names("checkers"):
        if "no workload names it" in [row.get(checker) for row in by_workload.values()]:
            console.print(Text(f"checker {checker} judges nothing: no workload names it", style="yellow"))


def _judges(row: dict[str, str | None]) -> Text:
    """The checkers that judge a workload, and those that cannot though it names them."""
    good = [checker for checker, gap in row.items() if gap is None and checker not in RUN_WIDE]
    absent = {c: gap for c, gap in row.items() if gap is not None and c not in registry.names("checkers")}
    if not good and not absent:
        return Text("nothing of its own", style="dim")
    parts = [Text.assemble(("✔ ", "green"), ", ".join(good))] if good else []
    parts += [Text(f"✕ {checker}: {gap}", style="yellow") for checker, gap in absent.items()]
    return Text(", ").join(parts)


def _cell(lacking: list[str] | None) -> Text:
    if lacking is None:
        return Text("! cannot be loaded", style="yellow")
    return Text("✕", style="dim") if lacking else Text("✔", style="green")


def print_details(console: Console, group: registry.Group) -> None:
    """Each thing of a group with its targets, needs and options."""
    for d in registry.descriptors(group):
        console.print(Text.assemble((d.name, "bold"), f"  {d.summary}"))
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column()
        if d.targets:
            table.add_row(Text("targets", style="dim"), Text(", ".join(d.targets)))
        if d.needs:
            table.add_row(Text("needs", style="dim"), Text(", ".join(sorted(d.needs))))
        add_options(table, d)
        if table.row_count:
            console.print(Padding(table, (0, 0, 0, 2)))
        console.print()


def add_options(table: Table, descriptor: Descriptor) -> None:
    """A row for each option: its name with its default, and what it is."""
    for option in descriptor.options:
        table.add_row(Text(f"{option.name}={_value(option.default)}"), Text(_range(option)))


def _value(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _range(option: Option) -> str:
    """The option's summary and what it accepts."""
    if option.choices:
        return f"{option.summary} ({', '.join(option.choices)})"
    bounds = [
        f"{word} {bound:,.0f}" if bound == int(bound) else f"{word} {bound:g}"
        for word, bound in (("at least", option.least), ("at most", option.most))
        if bound is not None
    ]
    return f"{option.summary} ({', '.join(bounds)})" if bounds else option.summary


def print_plan(console: Console, spec: Spec, steps: Sequence[Step]) -> None:
    """The resolved spec and its fault schedule, as `--dry-run` shows them."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    most = limit(spec)
    rows = {
        "system": " ".join(filter(None, (spec.system, spec.version))),
        "workload": spec.workload,
        "faults": ",".join(spec.faults) or "none",
        "nodes": f"{spec.nodes} on {spec.provider}"
        + ("" if most is None else f", at most {most} of them out"),
        "time": duration(spec.time_s),
        "rate": f"{spec.rate:g}/s" if spec.rate else "as fast as possible",
        "concurrency": spec.concurrency,
        "seed": spec.seed,
        "expect": spec.expect,
    }
    for name, value in rows.items():
        if value is not None:
            table.add_row(Text(name, style="dim"), Text(str(value)))
    for owner, options in spec.options.items():
        for name, value in options.items():
            if value is None:
                continue
            table.add_row(Text("opt", style="dim"), Text(f"{owner}.{name}={_value(value)}"))
    console.print(table)
    console.print()
    if steps:
        made = {f: registry.create("faults", f, spec.of(f)) for f in spec.families}
        looks = {f: (getattr(m, "glyph", "") or "#", getattr(m, "colour", "other")) for f, m in made.items()}
        for line in timeline(steps, looks, spec.time_s, console.width):
            console.print(line, no_wrap=True, overflow="crop")
        console.print()
        table = _table("at", "for", "fault", "target", "")
        for step in steps:
            begin = f"{step.at_s:.1f} s" if step.when is None else f"+{step.at_s:.1f} s"
            table.add_row(begin, f"{step.hold_s:.1f} s", step.family, step.target, condition(step))
        console.print(table)
    else:
        console.print(Text("no faults", style="dim"))
    console.print()
    console.print(Text.assemble(("repeat  ", "dim"), command_line(spec)), soft_wrap=True)


def _table(first: str, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column)
    return table
