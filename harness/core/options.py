"""Named options with a type, bounds and a default, as systems, workloads, faults and providers declare them.

`--opt NAME=VALUE` goes to the one owner that declares NAME, to a checker only if nobody else does;
`OWNER.NAME=VALUE` says whose.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Any

import msgspec

from harness.core.errors import UsageError, unknown_name


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """One option. The default's type is the option's: str, bool, int or float (None: str)."""

    name: str
    default: str | bool | int | float | None
    summary: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    secret: bool = False  # its value stands in no run directory, see `harness.core.secrets`

    def parse(self, given: Any) -> str | bool | int | float | None:
        """The value of `given` (text from a flag, or a typed value from TOML).

        Raises: UsageError naming the option, the value, and what was expected.
        """
        value = self._typed(given)
        if self.choices and value not in self.choices:
            raise UsageError(f"option {self.name}={given}: expected one of {', '.join(self.choices)}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            if self.least is not None and value < self.least:
                raise UsageError(f"option {self.name}={given}: expected at least {self.least:g}")
            if self.most is not None and value > self.most:
                raise UsageError(f"option {self.name}={given}: expected at most {self.most:g}")
        return value

    def _typed(self, given: Any) -> str | bool | int | float | None:
        kind = type(self.default)
        if given is None or kind is type(None):
            return None if given is None else str(given)
        if kind is bool:
            words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
            word = str(given).lower()
            if word not in words:
                raise UsageError(f"option {self.name}={given}: expected true or false")
            return words[word]
        if kind is str:
            return str(given)
        number = int if kind is int else float
        try:
            return number(given)
        except (TypeError, ValueError):
            wanted = "a whole number" if kind is int else "a number"
            raise UsageError(f"option {self.name}={given}: expected {wanted}") from None


def resolve(
    given: Mapping[str, Any], owners: Mapping[str, Iterable[Option]], *, last: Container[str] = ()
) -> dict[str, dict[str, Any]]:
    """Each owner's options with every value filled in.

    `given`: NAME or OWNER.NAME -> value. `owners`: owner's name -> the options it declares. To those in
    `last` a bare NAME goes only if none of the others declares it.

    Raises: UsageError for a name that nobody, or more than one owner, declares.
    """
    declared = {owner: {o.name: o for o in options} for owner, options in owners.items()}
    out = {owner: {o.name: o.default for o in options.values()} for owner, options in declared.items()}
    for name, value in given.items():
        owner, dot, short = name.partition(".")
        if dot and owner in declared and short in declared[owner]:
            holders = [owner]
        else:
            short = name
            holders = [o for o, options in declared.items() if name in options]
            holders = [o for o in holders if o not in last] or holders
        if not holders:
            known = [n for options in declared.values() for n in options]
            raise unknown_name("option", name, known)
        if len(holders) > 1:
            both = " and ".join(sorted(holders))
            raise UsageError(f"option {name!r} belongs to {both}; say which: {holders[0]}.{name}={value}")
        out[holders[0]][short] = declared[holders[0]][short].parse(value)
    return out
