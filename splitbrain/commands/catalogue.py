"""What there is, and what this machine can do: list, systems, workloads, faults, fetch, new, doctor."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from splitbrain.commands.app import RUNS, Json, Offline, app
from splitbrain.talk import console, print_json, say


@app.command(name="list")
def list_all(
    *,
    system: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE.toml", help="A system of your own, to be listed too; repeatable."),
    ] = None,
    json: Json = False,
) -> int:
    """What there is, what goes together, the latest runs."""
    from splitbrain import listing
    from splitbrain import spec as specs

    for file in system or ():
        specs.system_named(file)
    if json:
        print_json(listing.everything(RUNS))
    else:
        listing.print_everything(console(), RUNS)
    return 0


@app.command()
def systems(*, json: Json = False) -> int:
    """Systems that can be tested: versions, where they are had from, promises and options."""
    from splitbrain import listing
    from splitbrain import systems as about

    rows = about.examine()
    if json:
        print_json({"systems": rows})
    else:
        about.print_rows(console(), rows)
    for sentence in listing.broken(["systems"]):
        say(sentence)
    return 0


@app.command()
def workloads(*, json: Json = False) -> int:
    """What clients can do, with options."""
    return _details("workloads", json=json)


@app.command()
def faults(*, json: Json = False) -> int:
    """What can go wrong, with targets and options."""
    return _details("faults", json=json)


def _details(group: Any, *, json: bool) -> int:
    from splitbrain import listing

    if json:
        print_json({group: listing.details(group)})
    else:
        listing.print_details(console(), group)
    for sentence in listing.broken([group]):
        say(sentence)
    return 0


@app.command()
def fetch(
    target: Annotated[str, typer.Argument(metavar="SYSTEM[@VERSION]", help="etcd, etcd@3.6, etcd@3.5.1")],
    *,
    offline: Offline = False,
    json: Json = False,
) -> int:
    """Obtain a version of a system ahead of time."""
    from harness.core.errors import UsageError
    from splitbrain import registry, running
    from splitbrain import spec as specs

    system, at, version = target.partition("@")
    system = specs.system_named(system)
    if at and not version:
        raise UsageError(f"fetch {target!r}: the version is empty; expected SYSTEM or SYSTEM@VERSION")
    defaults = {option.name: option.default for option in registry.describe("systems", system).options}
    install = running.install(system, version or None, defaults, offline=offline)
    if json:
        import msgspec

        print_json(msgspec.to_builtins(install))
        return 0
    sys.stdout.write(f"{system} {install.version}\n")
    for name, path in install.program.items():
        sys.stdout.write(f"  {name}  {path}  sha256 {install.sha256.get(name, 'not known')}\n")
    for caveat in install.caveats:
        say(f"note: {caveat}")
    return 0


@app.command()
def new(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="system, workload or checker.")],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case words, joined by hyphens.")],
    *,
    json: Json = False,
) -> int:
    """Write a system, workload or checker of your own to begin with, and its test, into the current folder."""
    from splitbrain import new as skeletons

    made = skeletons.write(kind, name, Path())
    if json:
        import msgspec

        print_json(msgspec.to_builtins(made))
        return 0
    sys.stdout.write("".join(f"{file}\n" for file in made.files))
    say("next:\n" + "\n".join(f"  {step}" for step in made.next))
    return 0


@app.command()
def doctor(
    system: Annotated[
        str | None,
        typer.Argument(metavar="[SYSTEM.toml]", help="Look at the file of a system of your own instead."),
    ] = None,
    *,
    nodes: Annotated[
        str | None, typer.Option(metavar="USER@HOST:PORT,...", help="What works on these hosts instead.")
    ] = None,
    opt: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Options of provider ssh.")
    ] = None,
    json: Json = False,
) -> int:
    """What works on this machine, and what is missing; or what is wrong with a system's file."""
    from splitbrain import doctor as rooms

    if system is not None:
        told = rooms.examine_system(system)
        if json:
            print_json(told)
        else:
            rooms.print_system(console(), told)
        return 0
    found = rooms.examine(RUNS, nodes, opt or [])
    if json:
        print_json(found)
    else:
        rooms.print_findings(console(), found)
    return 0 if found["error"] is None else 4
