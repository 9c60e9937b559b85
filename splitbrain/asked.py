"""Which faults a spec asks for: words, `[[schedule]]`, and what stands for several.

family, family:target, walk:family+family     each known and named once
survivable, walk, walk:survivable             all that the system promises to survive
none                                          none
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from harness.core.errors import UsageError, unknown_name
from nemesis.plans import WALK
from nemesis.script import normalized
from nemesis.targets import ZONE, by_name
from splitbrain import registry

SURVIVABLE: Final = "survivable"


def script(
    given: Any, options: dict[str, Any], seconds: Callable[[Any], float]
) -> list[dict[str, Any]] | None:
    """The entries of `[[schedule]]`, or of the option that it becomes, which is filled in; None without."""
    held = options.get("schedule.script", options.get("script"))
    if given is None and held is None:
        return None
    if given is None:
        try:
            given = msgspec.json.decode(str(held))
        except msgspec.DecodeError as e:
            raise UsageError(f"option script={held}: expected JSON as --dry-run prints it: {e}") from None
    entries = normalized(given, seconds)
    if not entries:
        raise UsageError("schedule = []: expected [[schedule]] entries; for no faults say faults = []")
    options.pop("script", None)
    options["schedule.script"] = msgspec.json.encode(entries).decode()
    return entries


def _survivable(system: str) -> list[str]:
    """The registered families that a system promises to survive, in the order of their names."""
    promises = registry.create("systems", system, {}).promises
    told = [p for p in promises if p.prop in ("linearizable", "availability")] or promises
    safe = frozenset.intersection(*(p.families for p in told)) if told else frozenset()
    # What needs a second version, or another program, has to be asked for.
    found = [
        name
        for name in registry.names("faults")
        if name in safe and not {"versions", "restore"} & registry.describe("faults", name).needs
    ]
    if not found:
        raise UsageError(f"system {system!r} promises to survive no fault that is registered; name faults")
    return found


def _takes_names(family: str) -> bool:
    """Whether a fault of the family can hit a node by its name."""
    fault = registry.create(
        "faults", family, {o.name: o.default for o in registry.describe("faults", family).options}
    )
    try:
        return getattr(fault, "refusal", lambda _target, _nodes: "")("n1", 3) is None
    except UsageError:
        return False


def _walk(word: str, target: str, system: str) -> str:
    """`walk:FAMILIES`, each known and named once; `walk` alone and `walk:survivable` are those promised."""
    if target in ("", SURVIVABLE):
        states = [family for family in _survivable(system) if _takes_names(family)]
    else:
        states = target.split("+")
    for state in states:
        registry.describe("faults", state)
        if states.count(state) > 1:
            raise UsageError(f"fault {word!r} names {state} twice; name it once")
    return f"{WALK}:{'+'.join(states)}"


def faults(given: Any, system: str) -> tuple[str, ...]:
    """The faults asked for, each known and named once; `none` or nothing for none, `survivable` for all
    that the system promises to survive."""
    if isinstance(given, str):
        words = [word.strip() for word in given.split(",")] if given.strip() else []
    elif isinstance(given, list | tuple) and all(isinstance(word, str) for word in given):
        words = [word.strip() for word in given]
    else:
        raise UsageError(f"faults = {given!r}: expected names such as partition,kill or a list of them")
    if words in ([], ["none"]):
        return ()
    words = [w for word in words for w in (_survivable(system) if word == SURVIVABLE else [word])]
    seen: dict[str, None] = {}
    for word in words:
        family, colon, target = word.partition(":")
        if not family:
            raise UsageError(
                f"faults {','.join(words)!r}: an empty name; expected family or family:target, or none"
            )
        if family == "none":
            raise UsageError(f"faults {','.join(words)!r}: 'none' stands alone; leave it out or name it only")
        if family == WALK:
            seen[_walk(word, target, system)] = None
            continue
        descriptor = registry.describe("faults", family)
        if colon and not target:
            known = ", ".join(descriptor.targets)
            raise UsageError(f"fault {word!r} has an empty target; expected {family} alone or one of {known}")
        if colon and target not in (*descriptor.targets, ZONE) and by_name(target) is None:
            raise unknown_name(f"target of {family}", target, descriptor.targets)
        if word in seen:
            raise UsageError(f"fault {word!r} is named twice; name it once")
        seen[word] = None
    return tuple(seen)
