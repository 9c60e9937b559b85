"""Finding systems, workloads, faults, checkers and providers by name.

Everything is found through entry points, so that a third party's are found exactly as ours are. The one
exception is a system that a file of the user's describes: `adopt` makes it known by its name. An
entry point names a light `Descriptor`; nothing heavy is imported before `create`. An entry point
that cannot be loaded is left out of every listing and reported in one sentence (`broken`).

In a checkout the entry points of splitbrain itself are read from its `pyproject.toml`: those noted
when the checkout was installed may be older than the code.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Container, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from harness.core.descriptor import Descriptor, load
from harness.core.errors import InfrastructureError, UsageError, unknown_name
from harness.core.options import Option
from harness.core.spec import Spec
from nemesis.plans import SCHEDULE
from splitbrain import root

Group = Literal["systems", "workloads", "faults", "checkers", "providers"]
GROUPS: Final[tuple[Group, ...]] = ("systems", "workloads", "faults", "checkers", "providers")
_distribution: Final = "splitbrain"
_adopted: dict[str, Descriptor] = {}  # systems that files describe
COPY: Final = "system.toml"  # in a run directory, of the file that describes the run's system
FILE: Final = "file"  # their option that has the file's path
_HOME: Final = "home"  # and the one with the folder that its paths start at, where that is another
OF_FILES: Final = frozenset({FILE, _HOME})


def kind(group: Group) -> str:
    """What one thing of a group is called: `system`, `checker`."""
    return group.removesuffix("s")


@functools.cache
def version() -> str:
    """The version of splitbrain itself."""
    project = _checkout()
    if project is not None:
        return str(project["version"])
    try:
        return metadata.version(_distribution)
    except metadata.PackageNotFoundError:
        return "unknown"


def names(group: Group) -> list[str]:
    """The names registered in a group, sorted; those that cannot be loaded are left out."""
    return [d.name for d in descriptors(group)]


def descriptors(group: Group) -> list[Descriptor]:
    """The descriptors of a group, by name."""
    found = _known(group)
    return [found[name] for name in sorted(found)]


def broken(group: Group) -> list[str]:
    """One sentence for each entry point of the group that cannot be used."""
    return list(_found(group)[1].values())


def describe(group: Group, name: str) -> Descriptor:
    """The descriptor registered under `name`.

    Raises: UsageError with the nearest known name; InfrastructureError when it is there and broken.
    """
    found, problems = _known(group), _found(group)[1]
    if name in found:
        return found[name]
    if name in problems:
        raise InfrastructureError(problems[name])
    raise unknown_name(kind(group), name, found)


def create(group: Group, name: str, options: Mapping[str, Any]) -> Any:
    """The thing itself, made with its options (resolved: every value filled in).

    Raises: as `describe`; InfrastructureError when its module, or a library that it imports as it is made,
    cannot be imported.
    """
    descriptor = describe(group, name)
    again = "install again what provides it"
    try:
        factory = descriptor.load()
    except (ImportError, AttributeError) as e:
        raise InfrastructureError(
            f"{kind(group)} {name!r} cannot be loaded from {descriptor.target}: {e}; {again}"
        ) from e
    if group == "systems" and name in _adopted:
        options = {**options, **{o.name: o.default for o in descriptor.options if o.name in OF_FILES}}
    try:
        return factory(dict(options))
    except ImportError as e:
        raise InfrastructureError(f"{kind(group)} {name!r} cannot be made: {e}; {again}") from e


def other_versions(spec: Spec) -> tuple[str, ...]:
    """The versions of the system that the faults of a run need beside the one that is run."""
    made = [create("faults", name, spec.of(name)) for name in spec.families]
    return tuple(dict.fromkeys(version for fault in made for version in getattr(fault, "versions", ())))


def restores(spec: Spec) -> bool:
    """Whether a fault of the run restores snapshots, for which the system has to be equipped."""
    return any("restore" in describe("faults", name).needs for name in spec.families)


def is_file(system: str) -> bool:
    """Whether a system is named by the path of a file that describes it."""
    return system.endswith(".toml") or "/" in system


def adopt(path: Path, *, home: Path | None = None) -> str:
    """Make the system that a file describes known by its name, which is returned. `home` is the folder that the
    paths in it start at, where that is not the file's own.

    Raises: UsageError with all that is wrong with the file, or for a name that is taken.
    """
    from clusters.systems._own_read import read
    from clusters.systems.own import describe as described

    path = path.absolute()
    file = read(path, home=home, families=names("faults"))
    if file.name in _found("systems")[0]:
        raise UsageError(
            f"{path}: name: there is a system {file.name!r} already, from {describe('systems', file.name).target};"
            " choose another name"
        )
    made = described(file)
    if home is not None:
        option = Option(name=_HOME, default=str(home), summary="the folder that its paths start at")
        made = msgspec.structs.replace(made, options=(*made.options, option))
    _adopted[file.name] = made
    return file.name


def adopt_again(spec: Spec, run_dir: Path) -> None:
    """Make the system of a run known in this process too, if a file describes it, by the copy of the file that
    stands in the run's directory.

    Raises: as `adopt`.
    """
    file, copy = file_of(spec), run_dir / COPY
    if file is not None:
        adopt(copy if copy.exists() else file, home=file.parent)


def file_of(spec: Spec) -> Path | None:
    """The file that describes the system of a spec, where one does."""
    given = spec.of(spec.system).get(FILE) if spec.system not in _found("systems")[0] else None
    return None if given is None else Path(given)


def operations_of(system: str) -> tuple[str, ...]:
    """What the client of a system that a file describes can do, in the order of the file."""
    return tuple(create("systems", system, {}).operations) if system in _adopted else ()


def image_of(system: str) -> str | None:
    """The image that the file of a system names, if it has one and does."""
    return create("systems", system, {}).file.image if system in _adopted else None


def adopted() -> list[str]:
    """The names of the systems that files describe."""
    return sorted(_adopted)


def _known(group: Group) -> dict[str, Descriptor]:
    """What can be used, by name."""
    found = _found(group)[0]
    return {**found, **_adopted} if group == "systems" else found


def _checkout() -> Mapping[str, Any] | None:
    """The `[project]` table of the checkout that this package is part of, if it is in one."""
    path = root() / "pyproject.toml"
    try:
        project = tomllib.loads(path.read_text())["project"]
    except (OSError, tomllib.TOMLDecodeError, KeyError):
        return None
    return project if project.get("name") == _distribution else None


def _references(group: Group) -> Iterator[tuple[str, str, str]]:
    """(name, `module:attr`, who provides it) of each entry point of a group; ours first."""
    title = f"splitbrain.{group}"
    project = _checkout()
    if project is not None:
        for name, target in project.get("entry-points", {}).get(title, {}).items():
            yield name, target, _distribution
    own: list[tuple[str, str, str]] = []
    others: list[tuple[str, str, str]] = []
    for point in metadata.entry_points(group=title):
        provider = point.dist.name if point.dist is not None else "an unnamed distribution"
        (own if provider == _distribution else others).append((point.name, point.value, provider))
    if project is None:
        yield from own
    yield from others


@functools.cache
def _found(group: Group) -> tuple[dict[str, Descriptor], dict[str, str]]:
    """What loads, by name, and for what does not a sentence, by name."""
    found: dict[str, Descriptor] = {}
    problems: dict[str, str] = {}
    providers: dict[str, str] = {}
    for name, target, provider in _references(group):
        what = f"{kind(group)} {name!r} of {provider} ({target})"
        if name in providers:
            problems[f"{name} of {provider}"] = (
                f"{what} is left out: {providers[name]} provides a {kind(group)} of that name already"
            )
            continue
        try:
            value = load(target)
        except Exception as e:  # noqa: BLE001 - a third party's module may raise anything at import
            problems[name] = f"{what} cannot be loaded: {type(e).__name__}: {e}; update or remove {provider}"
            continue
        if not isinstance(value, Descriptor):
            problems[name] = (
                f"{what} is a {type(value).__name__}; expected a harness.core.descriptor.Descriptor"
            )
        elif value.name != name:
            problems[name] = f"{what} calls itself {value.name!r}; expected the name of its entry point"
        else:
            found[name] = value
            providers[name] = provider
    return found, problems


def checker_options(name: str, given: Mapping[str, Any], spec: Spec) -> dict[str, Any]:
    """The options of a checker in a run: its own, the spec's, and what the workload asks for."""
    own: dict[str, Any] = {option.name: option.default for option in describe("checkers", name).options}
    return own | spec.of(checker_owner(name, spec.owners)) | dict(given)


def owner_options(
    faults: tuple[str, ...], system: str, workload: str, provider: str
) -> dict[str, Descriptor]:
    """Everybody who may own an option of a run: owner's name -> descriptor.

    The system, the workload, the provider, the fault families asked for and their schedule, and every
    checker, under its name as an owner (`checker_owner`).

    Raises: UsageError when two of them have the same name, or for a name nobody registered.
    """
    wanted: list[tuple[Group, str]] = [("systems", system), ("workloads", workload), ("providers", provider)]
    wanted += [("faults", family) for family in faults]
    owners: dict[str, Descriptor] = {}
    held: dict[str, Group] = {}
    for group, name in wanted:
        if name in owners:
            raise UsageError(
                f"{kind(held[name])} and {kind(group)} are both called {name!r};"
                " options could not tell them apart, so one of them must be renamed"
            )
        owners[name] = describe(group, name)
        held[name] = group
    if faults:
        owners[SCHEDULE.name] = SCHEDULE
    return owners | {checker_owner(d.name, held): d for d in descriptors("checkers")}


def checker_owner(name: str, others: Container[str]) -> str:
    """Under which name a checker owns its options: its own, or NAME-checker where one of the `others` in a
    run (its system, workload, provider and faults) has that: a workload and what judges it are often called alike.
    """
    return f"{name}-checker" if name in others else name
