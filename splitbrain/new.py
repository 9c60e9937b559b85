"""`splitbrain new system|workload|checker NAME`: a running skeleton with its test, in the current folder.

A system is the file that describes it, a small server and a test. A workload or checker is the module, its
test, and a `pyproject.toml` whose entry point makes splitbrain find it once it is installed; a folder that has
a `pyproject.toml` keeps it, and then the lines to add are among the next steps. Nothing is ever overwritten:
either all files are written or none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

import msgspec

from harness.core.errors import UsageError, unknown_name
from splitbrain import registry

_groups: Final[Mapping[str, registry.Group]] = {
    "system": "systems",
    "workload": "workloads",
    "checker": "checkers",
}
KINDS: Final = tuple(_groups)
_name: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_longest: Final = 40  # characters of a name


class Skeleton(msgspec.Struct, frozen=True, kw_only=True):
    """What was written, in the order to read it, and what to do next (commands, or lines to add)."""

    files: tuple[str, ...]
    next: tuple[str, ...]


def write(kind: str, name: str, folder: Path) -> Skeleton:
    """Write the skeleton of a `kind` called `name` into `folder`.

    Raises: UsageError for another kind, a name that cannot be one or is taken, a file that exists or
    cannot be written.
    """
    if kind not in _groups:
        raise unknown_name("kind of skeleton", kind, KINDS)
    if not _name.fullmatch(name) or len(name) > _longest:
        raise UsageError(
            f"name {name!r}: expected lower-case words of letters and digits joined by hyphens, such as bank"
            f" or two-queues, of {_longest} characters at most"
        )
    if name in registry.names(_groups[kind]):
        raise UsageError(
            f"a {kind} {name!r} is there already, from {registry.describe(_groups[kind], name).target};"
            " choose another name"
        )
    words = _words(kind, name)
    has_project = (folder / "pyproject.toml").exists()
    files = _files(kind, words)
    if has_project:
        files.pop("pyproject.toml", None)
    for file in files:
        if (folder / file).exists():
            raise UsageError(
                f"{folder / file} exists; move it away, or choose another name: nothing was written"
            )
    for file, template in files.items():
        try:
            with (folder / file).open("x", encoding="utf-8") as out:
                out.write(_filled(template, words))
        except OSError as e:
            raise UsageError(f"cannot write {folder / file}: {e.strerror}") from None
    return Skeleton(files=tuple(files), next=_next(kind, words, has_project=has_project))


def _files(kind: str, words: Mapping[str, str]) -> dict[str, str]:
    """What is written, and from which template."""
    if kind == "system":
        return {
            f"{words['name']}.toml": "system.toml",
            f"{words['function']}_server.py": "system_server.py",
            f"test_{words['function']}.py": "test_system.py",
        }
    return {
        f"{words['module']}.py": f"{kind}.py",
        f"test_{words['module']}.py": f"test_{kind}.py",
        "pyproject.toml": "pyproject.toml",
    }


def _words(kind: str, name: str) -> dict[str, str]:
    """What the templates' places are filled with. The module's name says whose it is: a bare `set` or `lock`
    would meet others of that name."""
    function = name.replace("-", "_")
    return {
        "kind": kind,
        "name": name,
        "module": f"splitbrain_{function}",
        "project": f"splitbrain-{name}",
        "constant": f"{function.upper()}_{kind.upper()}",
        "function": function if kind == "system" else f"{function}_workload",
        "class_name": "".join(word.capitalize() for word in name.split("-")) + "Checker",
    }


def _filled(template: str, words: Mapping[str, str]) -> str:
    text = (resources.files("splitbrain") / "templates" / f"{template}.template").read_text(encoding="utf-8")
    return Template(text).substitute(words)


def _next(kind: str, words: Mapping[str, str], *, has_project: bool) -> tuple[str, ...]:
    if kind == "system":
        return (
            f"splitbrain doctor {words['name']}.toml",
            f"python -m pytest test_{words['function']}.py",
            f"splitbrain run --system {words['name']}.toml --faults kill:follower,pause:follower --time 20s",
        )
    steps = []
    if has_project:
        steps += [
            f'add to pyproject.toml, below [project.entry-points."splitbrain.{kind}s"] (make it if need be):',
            f'    {words["name"]} = "{words["module"]}:{words["constant"]}"',
        ]
    steps += ["pip install -e .", f"python -m pytest test_{words['module']}.py", "splitbrain list"]
    if kind == "workload":
        steps.append(f"splitbrain run --workload {words['name']} --faults none --time 5s")
    else:
        steps.append(f'name it in the `checkers` of a workload: "{words["name"]}": ("{words["name"]}", {{}})')
    return tuple(steps)
