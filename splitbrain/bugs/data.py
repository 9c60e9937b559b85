"""A known bug as data: which pair is run, how, and what counts as having found it.

A file `known/ID.toml` says

    summary, link       what goes wrong, and where that was told first
    system, [spec]      a spec file's keys (docs/faults.md, `splitbrain.spec`), but for system, version and seed
    [broken], [clean]   what differs: `version` and `opt`; without [clean] there is no version that is free of it
    [found]             check -> kinds of anomalies; one of them in an invalid verdict is the finding
    by_design           true for what its makers do not call a bug: a positive control

Specs are general: families of faults or a walk, and a seed. No script that replays the bug's own story.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any, Final, Literal

import msgspec

from harness.core.errors import unknown_name
from harness.core.spec import Spec

Side = Literal["broken", "clean"]
SIDES: Final[tuple[Side, ...]] = ("broken", "clean")


class Variant(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one side of a pair has of its own; a version of None is the system's default."""

    version: str | None = None
    opt: dict[str, str | bool | int | float] = {}

    def says(self, system: str) -> str:
        """The variant in a few words.

        >>> Variant(version="3.5.1").says("etcd"), Variant(opt={"fencing": False}).says("etcd")
        ('3.5.1', 'fencing=false')
        """
        words = [self.version] if self.version else []
        words += [f"{name}={str(v).lower() if isinstance(v, bool) else v}" for name, v in self.opt.items()]
        return " ".join(words) or f"the default {system}"


class Bug(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the track record."""

    id: str
    summary: str
    link: str
    system: str
    spec: dict[str, Any]
    broken: Variant
    found: dict[str, tuple[str, ...]]
    clean: Variant | None = None
    why_no_clean: str | None = None
    by_design: bool = False

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides that there are."""
        return SIDES if self.clean else SIDES[:1]

    def variant(self, side: Side) -> Variant:
        """What a side has of its own."""
        chosen = self.broken if side == "broken" else self.clean
        assert chosen is not None, f"{self.id} has no clean twin"
        return chosen

    def resolve(self, side: Side, seed: int | str) -> Spec:
        """The spec of a side: the same for both but for what the variant says, and what is expected of it.

        Raises: UsageError for what is no spec.
        """
        from splitbrain import spec as specs

        variant = self.variant(side)
        opt = {**self.spec.get("opt", {}), **variant.opt}
        return specs.resolve(
            None,
            {
                **self.spec,
                "system": self.system,
                "version": variant.version,
                "opt": opt,
                "seed": seed,
                "expect": "invalid" if side == "broken" else None,
            },
        )


def known() -> dict[str, Bug]:
    """Every bug by its id, those by design last."""
    folder = resources.files("splitbrain.bugs") / "known"
    bugs = [
        _read(file.name.removesuffix(".toml"), file.read_text(encoding="utf-8"))
        for file in folder.iterdir()
        if file.name.endswith(".toml")
    ]
    return {bug.id: bug for bug in sorted(bugs, key=lambda bug: (bug.by_design, bug.id))}


def bug(name: str) -> Bug:
    """Raises: UsageError with the nearest id for one that nobody knows."""
    bugs = known()
    if name not in bugs:
        raise unknown_name("bug", name, bugs)
    return bugs[name]


def _read(name: str, text: str) -> Bug:
    found = msgspec.convert({**tomllib.loads(text), "id": name}, Bug)
    if (found.clean is None) is (found.why_no_clean is None):
        raise ValueError(f"bug {name}: expected either [clean], or why_no_clean with the reason")
    return found
