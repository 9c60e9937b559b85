"""Shell completion: what may stand where the cursor is, and the scripts that ask for it.

    eval "$(splitbrain completion bash)"           in ~/.bashrc
    eval "$(splitbrain completion zsh)"            in ~/.zshrc
    splitbrain completion fish | source            in ~/.config/fish/config.fish

Commands and flags are those of the command line itself; systems, workloads, faults with their targets, options,
providers, bugs and runs are looked up when they are asked for, so a third party's are among them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import click

_bash: Final = """_splitbrain() {
  local line="${COMP_LINE:0:$COMP_POINT}"
  mapfile -t COMPREPLY < <(splitbrain complete --breaks "$COMP_WORDBREAKS" -- "$line" 2>/dev/null)
  if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=:,] ]]; then compopt -o nospace; fi
}
complete -o default -F _splitbrain splitbrain
"""
_zsh: Final = """#compdef splitbrain
_splitbrain() {
  local -a found
  found=("${(@f)$(splitbrain complete -- "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)}")
  if [[ -z "$found" ]]; then _files; return; fi
  compadd -S '' -- "${(@M)found:#*[=:,]}"
  compadd -- "${(@)found:#*[=:,]}"
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _splitbrain splitbrain
"""
_fish: Final = """function __splitbrain_words
    set -l found (splitbrain complete -- (commandline -cp) 2>/dev/null)
    if test -n "$found"
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c splitbrain -f -a '(__splitbrain_words)'
"""
SCRIPTS: Final[Mapping[str, str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
_name: Final = "splitbrain"
_most: Final = 50  # runs


def candidates(root: click.Group, line: str, runs: Path) -> list[str]:
    """What the last word of a command line may become; nothing where a file may stand, or nobody knows.

    The line ends where the cursor is; before splitbrain's name may stand what starts it (sudo, variables). `runs` is
    the folder with the run directories.
    """
    try:
        words = shlex.split(line)
    except ValueError:  # an open quotation mark
        return []
    named = (n for n, word in enumerate(words) if word.rpartition("/")[2] == _name)
    words = words[next(named, 0) + 1 :]
    if not line or line[-1].isspace() or not words:
        words.append("")
    *before, last = words
    command: click.Command = root
    while (commands := _commands(command)) is not None:
        chosen = next((word for word in before if not word.startswith("-")), None)
        if chosen is None:
            found: Iterable[str] = _flags(command) if last.startswith("-") else commands
            break
        if chosen not in commands:
            return []
        command, before = commands[chosen], before[before.index(chosen) + 1 :]
    else:
        found = _after(command, before, last, runs)
    return sorted({word for word in found if word.startswith(last)})


def shortened(found: Sequence[str], line: str, breaks: str) -> list[str]:
    """The candidates as a shell takes them that ends words also at `breaks`: without what stands before the last of
    them.

    >>> shortened(["kill:leader"], "splitbrain run --faults kill:le", "=:")
    ['leader']
    """
    last = "" if not line or line[-1].isspace() else line.rsplit(maxsplit=1)[-1]
    cut = max((last.rfind(c) for c in breaks if not c.isspace()), default=-1) + 1
    return [word[cut:] for word in found]


def _commands(command: click.Command) -> dict[str, click.Command] | None:
    """The commands below one that has some and nothing else, such as `campaign`."""
    below: Mapping[str, click.Command] | None = getattr(command, "commands", None)
    return None if below is None else {name: c for name, c in below.items() if not c.hidden}


def _flags(command: click.Command) -> list[str]:
    return [
        word for p in command.params if p.param_type_name == "option" for word in p.opts if word[:2] == "--"
    ]


def _after(command: click.Command, before: Sequence[str], last: str, runs: Path) -> Iterable[str]:
    """What may stand behind a command and the words that follow it."""
    by_flag: dict[str, Any] = {
        word: p for p in command.params if p.param_type_name == "option" for word in p.opts
    }
    previous = by_flag.get(before[-1]) if before else None
    if previous is not None and not previous.is_flag:
        return _values(before[-1], before, last)
    if last.startswith("-"):
        return ["--help", *by_flag.keys() - {w for w in by_flag if not w.startswith("--")}]
    metavar = next((p.metavar for p in command.params if p.param_type_name == "argument"), None) or ""
    of_places: dict[str, Callable[[], Iterable[str]]] = {
        "RUN": lambda: _runs(runs),
        "SYSTEM": lambda: _names("systems"),
        "SHELL": lambda: SCRIPTS,
        "KIND": _kinds,
        "ID": _bugs,
    }
    return next((f() for name, f in of_places.items() if name in re.split(r"\W+", metavar)), ())


def _values(flag: str, before: Sequence[str], last: str) -> Iterable[str]:
    if flag == "--faults":
        return _faults(last)
    if flag == "--opt":
        return _options(before)
    if flag == "--expect":
        return ("valid", "invalid")
    groups = {"--system": "systems", "--workload": "workloads", "--provider": "providers"}
    return _names(groups[flag]) if flag in groups else ()


def _names(group: Any) -> list[str]:
    from splitbrain import registry

    return registry.names(group)


def _faults(last: str) -> list[str]:
    """Families, by commas, and behind a colon their targets."""
    from splitbrain import registry

    done, comma, word = last.rpartition(",")
    family, colon, _ = word.partition(":")
    if colon and family in registry.names("faults"):
        words = [f"{family}:{target}" for target in registry.describe("faults", family).targets]
    else:
        words = ["none", "survivable", *registry.names("faults")]
    return [f"{done}{comma}{word}" for word in words]


def _options(before: Sequence[str]) -> list[str]:
    """The options of the system, the workload and the provider that are asked for."""
    from harness.core.spec import Spec
    from splitbrain import registry

    usual = Spec()
    given = dict(pairwise(before))
    groups: list[tuple[registry.Group, str, str]] = [
        ("systems", "--system", usual.system),
        ("workloads", "--workload", usual.workload),
        ("providers", "--provider", usual.provider),
    ]
    found: list[str] = []
    for group, flag, default in groups:
        name = given.get(flag, default)
        if name in registry.names(group):
            found += [f"{option.name}=" for option in registry.describe(group, name).options]
    return found


def _kinds() -> Iterable[str]:
    from splitbrain.new import KINDS

    return KINDS


def _bugs() -> Iterable[str]:
    from splitbrain.bugs.data import known

    return known()


def _runs(folder: Path) -> list[str]:
    """`latest`, and the ids of the latest runs."""
    made = sorted((p for p in folder.glob("*-*/*-*-*") if p.is_dir()), key=lambda p: p.name)
    ids = [p.name.rpartition("-")[2] for p in made[-_most:]]
    return [*(["latest"] if made else []), *ids]
