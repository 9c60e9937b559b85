"""From a TOML file and flags to one resolved `Spec`, and back to a command line that repeats it.

Pure but for reading the file and drawing a seed when none is given. Everything that can be known to
be wrong before a machine is touched is refused here, in one sentence: unknown names with the
nearest known one, values out of range, a system whose client cannot do what the workload needs, a
time too short for the faults.

The keys of the file are those of the flags (`system = "etcd"`, `time = "30s"`), with a table `opt`
for options; flags win. Only a file has `ready` (how long a first start may take), `overlap` (how
many operations must succeed during each family of faults for the run to mean something) and
`[[schedule]]`, what happens when (`nemesis.script`), which becomes an option so that one command line
repeats the run.
"""

from __future__ import annotations

import contextlib
import math
import re
import secrets
import shlex
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from harness.core.admin import OF_SYSTEMS
from harness.core.client import supported
from harness.core.descriptor import Descriptor
from harness.core.errors import UsageError, unknown_name
from harness.core.options import resolve as resolve_options
from harness.core.spec import FORMAT, Spec, families_of
from nemesis.plans import WALK
from nemesis.script import words as script_words
from nemesis.targets import BY_ROLE
from splitbrain import asked, expecting, registry

if TYPE_CHECKING:
    from nemesis.families import Family
    from nemesis.schedule import Step

DEFAULT_FAULTS: Final = ("partition", "kill", "pause")
KEYS: Final = (
    "system",
    "version",
    "workload",
    "faults",
    "nodes",
    "provider",
    "time",
    "rate",
    "concurrency",
    "seed",
    "expect",
    "ready",
    "overlap",
    "admission",
    "keep",
    "fail-fast",
    "schedule",
    "opt",
)
_seconds_of: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_duration: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_longest_s: Final = 7 * 86400.0
_most_seed: Final = 2**63 - 1


def resolve(path: Path | None, flags: Mapping[str, Any]) -> Spec:
    """The spec that a file and flags describe; flags win, and a flag of None was not given.

    `flags` has keys of `KEYS`; `opt` is a sequence of NAME=VALUE or a mapping.

    Raises: UsageError for whatever is wrong with either.
    """
    given = _read(path) if path is not None else {}
    flags = {key: value for key, value in flags.items() if value is not None}
    options = {**_options(given.pop("opt", {})), **_options(flags.get("opt", {}))}
    given.update({key: value for key, value in flags.items() if key != "opt"})

    default = Spec()
    system = system_named(_text(given, "system", default.system), path if "system" not in flags else None)
    workload = _text(given, "workload", default.workload)
    provider = _text(given, "provider", default.provider)
    exists, on_hosts = (d := registry.describe("providers", provider)).exists, d.hosts
    script = asked.script(given.pop("schedule", None), options, seconds)
    scripted = ["none"] if script is None else script_words(script, lambda f: registry.describe("faults", f))
    usual = scripted if script is not None else () if exists else DEFAULT_FAULTS
    faults = asked.faults(given.get("faults", usual), system)
    if script is not None and set(faults) != set(scripted):
        raise UsageError(
            f"faults {','.join(faults) or 'none'!r}: the schedule names {','.join(scripted)}, and nothing else"
            " can happen; leave out faults, or [[schedule]]"
        )
    families = tuple(dict.fromkeys(family for word in faults for family in families_of(word)))
    owners = registry.owner_options(families, system, workload, provider)
    _refuse_options_of_others(options, owners)
    _choose_image(system, provider, options)
    keep = _truth(given, "keep", default=default.keep)
    if keep and exists:
        raise UsageError(
            f"provider {provider!r} has no cluster of its own to keep: what it meets goes on anyway"
        )
    seed = given.get("seed")
    addresses = _addresses(given, provider, system) if exists else ()
    hosts = _hosts(given, provider) if on_hosts else ()
    if exists or on_hosts:
        given = {**given, "nodes": len(addresses or hosts)}
    spec = Spec(
        system=system,
        version=_version(given.get("version")),
        workload=workload,
        faults=faults,
        nodes=_whole(given, "nodes", default.nodes, 1, 9, "nodes"),
        provider=provider,
        time_s=_within("time", seconds(given.get("time", default.time_s)), 1.0, _longest_s),
        rate=_number(
            given, "rate", default.rate, 0, 1_000_000, "operations per second, 0 for as fast as possible"
        ),
        concurrency=_whole(given, "concurrency", default.concurrency, 1, 1000, "clients working at once"),
        seed=secrets.randbelow(2**32) if seed is None else _whole(given, "seed", 0, 0, _most_seed, ""),
        options=resolve_options(
            options,
            {owner: d.options for owner, d in owners.items()},
            last=owners.keys() - {system, workload, provider, *families},  # checkers
        ),
        expect=(expected := expecting.read(given.get("expect")))[0],
        expect_found=expected[1],
        ready_s=_within("ready", seconds(given.get("ready", default.ready_s)), 1.0, 3600.0),
        overlap=_whole(
            given, "overlap", default.overlap, 0, 1_000_000, "successful operations during each family"
        ),
        addresses=addresses,
        hosts=hosts,
        keep=keep,
        fail_fast=_truth(given, "fail-fast", default=default.fail_fast),
        admission=_truth(given, "admission", default=default.admission),
    )
    _refuse_what_the_client_cannot(spec)
    _refuse_zones(spec)
    _refuse_roles_nobody_tells(spec)
    _refuse_what_nobody_administers(spec)
    if spec.fail_fast:
        _refuse_what_is_only_judged_at_the_end(spec)
    schedule(spec)
    limit(spec)
    return spec


def limit(spec: Spec) -> int | None:
    """How many nodes may be out at once, over all faults of a run; None for any number."""
    from nemesis.plans import limit as of

    return of(spec.faults, spec.of("schedule"), spec.nodes) if spec.faults else None


def schedule(spec: Spec) -> tuple[Step, ...]:
    """The fault schedule of a spec: a function of its faults, nodes, time and seed.

    A fault may have a `refusal(target, nodes)`, which says why a target does not exist among so few
    nodes; of the targets that a bare family draws from, those that do not exist are left out.

    Raises: UsageError for a target asked for that does not exist, for what contradicts itself, and when
    the time is too short for everything to occur.
    """
    from nemesis.plans import plan

    roles = _tells_roles(spec)
    families = {name: _family(name, spec, roles=roles) for name in spec.families}
    for word in spec.faults:
        head, colon, target = word.partition(":")
        for family in families_of(word):
            kind = "n1" if head == WALK else target
            if colon and (reason := families[family].refusal(kind)) is not None:
                raise UsageError(f"fault {word!r}: {reason}")
    return plan(
        spec.faults,
        families,
        spec.nodes,
        spec.time_s,
        spec.seed,
        spec.of("schedule"),
        seconds,
        registry.describe("systems", spec.system).start_s,
    )


def _family(name: str, spec: Spec, *, roles: bool) -> Family:
    """What a schedule must know of a fault family in a run. Without `roles` nobody knows who leads."""
    from harness.core.fault import claims
    from nemesis.families import Family

    fault = registry.create("faults", name, spec.of(name))
    refusal: Callable[[str, int], str | None] = getattr(fault, "refusal", lambda _target, _nodes: None)
    reach: Callable[[str, int], int] = getattr(fault, "reach", lambda _target, nodes: nodes)
    defaults = tuple(t for t in fault.default_targets if refusal(t, spec.nodes) is None)
    return Family(
        name=name,
        defaults=defaults if roles else tuple(t for t in defaults if t not in BY_ROLE) or defaults,
        reach=lambda target: reach(target, spec.nodes),
        claims=claims(fault),
        refusal=lambda target: refusal(target, spec.nodes),
    )


def command_line(spec: Spec) -> str:
    """A shell line that repeats the run: everything that the seed does not decide, and the seed."""
    file = registry.file_of(spec)
    words = ["splitbrain", "run", "--system", spec.system if file is None else str(file)]
    if spec.version is not None:
        words += ["--version", spec.version]
    words += ["--workload", spec.workload, "--faults", ",".join(spec.faults) or "none"]
    words += [
        "--nodes",
        ",".join(spec.addresses or spec.hosts) or str(spec.nodes),
        "--provider",
        spec.provider,
    ]
    words += ["--time", duration(spec.time_s)]
    words += [
        "--rate",
        _shortest(spec.rate),
        "--concurrency",
        str(spec.concurrency),
        "--seed",
        str(spec.seed),
    ]
    for owner, descriptor in registry.owner_options(
        spec.families, spec.system, spec.workload, spec.provider
    ).items():
        for option in descriptor.options:
            value = spec.of(owner).get(option.name, option.default)
            if owner == spec.system and file is not None and option.name in registry.OF_FILES:
                continue
            if value != option.default:
                text = str(value).lower() if isinstance(value, bool) else str(value)
                words += ["--opt", f"{owner}.{option.name}={text}"]
    if spec.expect is not None:
        words += ["--expect", expecting.flag(spec)]
    if spec.fail_fast:
        words.append("--fail-fast")
    return shlex.join(words)


def seconds(given: Any) -> float:
    """Seconds of `30s`, `2m`, `1m30s`, or a plain number.

    >>> seconds("1m30s"), seconds(45), seconds("0.5h")
    (90.0, 45.0, 1800.0)

    Raises: UsageError for anything else.
    """
    wrong = UsageError(f"time {given!r}: expected seconds or a duration such as 30s, 2m or 1h30m")
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        raise wrong
    text = str(given).strip().lower()
    try:
        value = float(text)
    except ValueError:
        parts = _duration.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise wrong from None
        value = sum(float(number) * _seconds_of[unit] for number, unit in parts)
    if not math.isfinite(value):
        raise wrong
    return value


def duration(time_s: float) -> str:
    """A time as `--time` takes it, in the largest unit that divides it.

    >>> duration(90), duration(120), duration(1.5)
    ('90s', '2m', '1.5s')
    """
    for unit in ("d", "h", "m"):
        if time_s >= _seconds_of[unit] and time_s % _seconds_of[unit] == 0:
            return f"{time_s / _seconds_of[unit]:.0f}{unit}"
    return f"{_shortest(time_s)}s"


def _shortest(value: float) -> str:
    """The shortest text that is read back as the same number."""
    return str(int(value)) if value == int(value) else repr(value)


def _read(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(f"cannot read spec {path}: {e.strerror}; expected a TOML file") from None
    except UnicodeDecodeError as e:
        raise UsageError(f"cannot read spec {path}: {e}; expected a TOML file in UTF-8") from None
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"cannot read spec {path}: {e}; expected TOML") from None
    form = table.pop("format", FORMAT)
    if isinstance(form, bool) or form != FORMAT:
        raise UsageError(f"spec {path}: format = {form!r}; this splitbrain reads format {FORMAT}")
    for key in table:
        if key not in KEYS:
            raise UsageError(f"spec {path}: {unknown_name('key', key, (*KEYS, 'format'))}")
    return table


def _options(given: Any) -> dict[str, Any]:
    """NAME or OWNER.NAME -> value, from NAME=VALUE texts or a (nested) table."""
    if isinstance(given, Mapping):
        flat: dict[str, Any] = {}
        for name, value in given.items():
            if isinstance(value, Mapping):
                flat.update({f"{name}.{inner}": v for inner, v in value.items()})
            else:
                flat[str(name)] = value
        for name, value in flat.items():
            if not isinstance(value, str | bool | int | float):
                raise UsageError(f"option {name} = {value!r}: expected text, a number, true or false")
        return flat
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise UsageError(f"opt = {given!r}: expected a table of names and values")
    out: dict[str, Any] = {}
    for text in given:
        name, equals, value = str(text).partition("=")
        if not equals or not name:
            raise UsageError(f"--opt {text}: expected NAME=VALUE or OWNER.NAME=VALUE")
        if name in out:
            raise UsageError(f"--opt {name} is given twice, as {out[name]!r} and {value!r}; give it once")
        out[name] = value
    return out


def _text(given: Mapping[str, Any], key: str, default: str) -> str:
    value = given.get(key, default)
    if not isinstance(value, str) or not value:
        raise UsageError(f"{key} = {value!r}: expected a name")
    return value


def _addresses(given: Mapping[str, Any], provider: str, system: str) -> tuple[str, ...]:
    """The nodes of a cluster that exists already.

    Raises: UsageError where they are missing or wrong, and for what cannot be asked of such a cluster.
    """
    from clusters.providers.attach import parse

    nodes = _named(given, f"provider {provider!r} needs the addresses of the cluster's nodes", "HOST:PORT")
    for node in nodes:
        parse(node)
    if given.get("version") is not None:
        raise UsageError(
            f"version {given['version']!r}: provider {provider!r} installs nothing, it meets the version that is"
            " there; leave it out"
        )
    if not any(option.name == "prefix" for option in registry.describe("systems", system).options):
        raise UsageError(
            f"system {system!r} cannot be attached to: it has no option prefix, which would keep the run's data"
            " apart from yours"
        )
    return tuple(nodes)


def _hosts(given: Mapping[str, Any], provider: str) -> tuple[str, ...]:
    """The hosts of the nodes. Raises: UsageError where they are missing or wrong."""
    from clusters.providers._ssh_link import parse

    if str(given.get("nodes", "")).strip().isdecimal():
        given = {**given, "nodes": int(given["nodes"])}  # a number names nobody
    nodes = _named(given, f"provider {provider!r} needs the hosts of the nodes", "USER@HOST:PORT")
    return tuple(str(parse(node)) for node in nodes)


def _named(given: Mapping[str, Any], what: str, form: str) -> tuple[str, ...]:
    """The nodes by name, each once."""
    nodes = given.get("nodes", ())
    if isinstance(nodes, str):
        nodes = [word.strip() for word in nodes.split(",")]
    if isinstance(nodes, int) or not nodes or not all(isinstance(node, str) for node in nodes):
        raise UsageError(f"nodes = {given.get('nodes')!r}: {what}; expected --nodes {form},{form},...")
    for node in nodes:
        if nodes.count(node) > 1:
            raise UsageError(f"node {node!r} is named twice; name it once")
    return tuple(nodes)


def system_named(given: str, spec_file: Path | None = None) -> str:
    """The name of the system asked for; one that a file describes is made known. A path in a spec starts at the
    spec's folder.

    Raises: UsageError with all that is wrong with the file, and with what it refers to.
    """
    if not registry.is_file(given):
        return given
    from clusters.systems._own_read import check, read

    path = Path(given).expanduser()
    path = path if spec_file is None else spec_file.parent / path
    name = registry.adopt(path)
    check(read(path.absolute()))
    return name


def _choose_image(system: str, provider: str, options: dict[str, Any]) -> None:
    """Have the nodes be made from the image that a system's file names, unless another one is asked for.

    Raises: UsageError where nodes are not made from images.
    """
    image = registry.image_of(system)
    if image is None:
        return
    if provider != "docker":
        raise UsageError(
            f"system {system!r} comes as the image {image}; expected --provider docker, not {provider!r}"
        )
    if not any(option.rpartition(".")[2] in ("image", "dockerfile", "rootfs") for option in options):
        options["docker.image"] = image


def _truth(given: Mapping[str, Any], key: str, *, default: bool) -> bool:
    value = given.get(key, default)
    if not isinstance(value, bool):
        raise UsageError(f"{key} = {value!r}: expected true or false")
    return value


def _version(value: Any) -> str | None:
    """Any text: the system itself knows its versions. A TOML number is what was meant, 3.6."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise UsageError(f"version = {value!r}: expected a version such as 3.6.16, or the start of one")
    return str(value).strip()


def _whole(given: Mapping[str, Any], key: str, default: int, least: int, most: int, what: str) -> int:
    value = given.get(key, default)
    if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value.strip()):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{key} = {value!r}: expected a whole number from {least} to {most}")
    return int(_within(key, value, least, most, what))


def _number(
    given: Mapping[str, Any], key: str, default: float, least: float, most: float, what: str
) -> float:
    value = given.get(key, default)
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{key} = {value!r}: expected a number from {least:g} to {most:g}")
    return float(_within(key, value, least, most, what))


def _within(key: str, value: float, least: float, most: float, what: str = "") -> float:
    """`value`, if it lies between; NaN lies nowhere."""
    if least <= value <= most:
        return value
    if key == "time":
        raise UsageError(f"time {value:g}s is out of range; expected from {least:g}s to 7d")
    low, high = (f"{int(bound)}" if bound == int(bound) else f"{bound:g}" for bound in (least, most))
    raise UsageError(f"{key} {value} is out of range; expected {low} to {high}{' ' + what if what else ''}")


def _refuse_options_of_others(options: Mapping[str, Any], owners: Mapping[str, Descriptor]) -> None:
    """An option of something that this run does not use deserves a better word than unknown."""
    for given in options:
        if any(_declares(d, given) for d in owners.values()):
            continue
        for group in registry.GROUPS:
            for d in registry.descriptors(group):
                if _declares(d, given):
                    raise UsageError(
                        f"option {given!r} belongs to {registry.kind(group)} {d.name!r}, which this run does"
                        f" not use; leave the option out or ask for {d.name!r}"
                    )


def _declares(d: Descriptor, given: str) -> bool:
    """Whether `given`, NAME or OWNER.NAME, is an option of `d`."""
    return any(given in (option.name, f"{d.name}.{option.name}") for option in d.options)


def _refuse_what_the_client_cannot(spec: Spec) -> None:
    workload = registry.create("workloads", spec.workload, spec.of(spec.workload))
    needs = workload(spec.concurrency, spec.seed).needs  # of these options, not of the defaults
    client = registry.create("systems", spec.system, spec.of(spec.system)).client
    missing = needs - supported(type(client), needs)
    if missing:
        without = [f for f in sorted(missing) if spec.of(spec.workload).get(f) is True]
        raise UsageError(
            f"system {spec.system!r} cannot run workload {spec.workload!r}: its client has no"
            f" {', '.join(sorted(missing))}; "
            + (
                f"--opt {without[0]}=false does without"
                if without and len(missing) == 1
                else "`splitbrain list` shows what goes together"
            )
        )


def _refuse_zones(spec: Spec) -> None:
    """Raises: UsageError for zones that the nodes do not fill, and for faults that need some."""
    from clusters.providers._zones import parse

    zones, _trips = parse(spec.of(spec.provider), [f"n{i}" for i in range(1, spec.nodes + 1)])
    wanting = next((word for word in spec.faults if word.partition(":")[2] == "zone"), None)
    if wanting is not None and len(zones) < 2:
        raise UsageError(
            f"fault {wanting!r} needs a cluster in two zones or more; say which nodes stand together, as in"
            " --opt zones=eu:n1,n2;us:n3"
        )


def _tells_roles(spec: Spec) -> bool:
    """Whether the system says of a node whether it leads."""
    return bool(getattr(registry.create("systems", spec.system, spec.of(spec.system)), "roles", True))


def _refuse_roles_nobody_tells(spec: Spec) -> None:
    if _tells_roles(spec):
        return
    asked_for = [word for word in spec.faults if word.partition(":")[2] in BY_ROLE]
    script = msgspec.json.decode(spec.of("schedule").get("script") or "[]")
    if any("leader" in (entry.get("when") or {}) for entry in script):
        asked_for.append("when = { leader = ... }")
    if asked_for:
        raise UsageError(
            f"fault {asked_for[0]!r}: system {spec.system!r} does not say who leads; give {registry.file_of(spec)} a"
            " [status], or name other targets, such as one, minority or n1"
        )


def _refuse_what_nobody_administers(spec: Spec) -> None:
    """Raises: UsageError for faults that need an interface for administrators which the system does not have."""
    wanting = [f for f in spec.families if registry.describe("faults", f).needs & OF_SYSTEMS]
    if not wanting:
        return
    if getattr(registry.create("systems", spec.system, spec.of(spec.system)), "admin", None) is None:
        raise UsageError(
            f"fault {wanting[0]!r}: system {spec.system!r} has no interface for administrators that splitbrain knows;"
            " leave it out"
        )
    if spec.addresses:
        raise UsageError(f"fault {wanting[0]!r}: provider {spec.provider!r} starts nothing; leave it out")
    changing = {
        need: f for f in wanting for need in registry.describe("faults", f).needs & {"members", "restore"}
    }
    if len(changing) > 1:
        raise UsageError(
            f"faults {changing['members']!r} and {changing['restore']!r} do not go together: the members of a restored"
            " cluster are others; name one of them"
        )
    made: dict[str, Any] = {f: registry.create("faults", f, spec.of(f)) for f in wanting}
    short = [f for f in made if spec.hosts and vars(made[f]).get("spares")]
    if short:
        raise UsageError(
            f"fault {short[0]!r}: provider {spec.provider!r} has no hosts beside the cluster's; expected"
            f" --opt {short[0]}.spares=0"
        )
    if any(
        "versions" in registry.describe("faults", f).needs for f in wanting
    ) and not registry.other_versions(spec):
        raise UsageError(
            "fault 'upgrade' needs a second version: expected --opt upgrade.to=VERSION, such as 3.6"
        )


def _refuse_what_is_only_judged_at_the_end(spec: Spec) -> None:
    from splitbrain.incremental import wanted

    workload = registry.create("workloads", spec.workload, spec.of(spec.workload))
    if wanted(workload(spec.concurrency, spec.seed).checkers) is None:
        raise UsageError(
            f"workload {spec.workload!r} has no check that can be made while it runs, so there is nothing to"
            " fail fast by; leave --fail-fast out"
        )


def successors(spec: Spec, count: int) -> list[Spec]:
    """The specs of `--repeat`: the same with seeds n, n+1 ...

    Raises: UsageError when the last seed would be out of range.
    """
    _within("seed", spec.seed + count - 1, 0, _most_seed, "for the last of the repeated runs")
    return [msgspec.structs.replace(spec, seed=spec.seed + i) for i in range(count)]
