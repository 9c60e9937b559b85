"""Every error a user can meet, in one tree.

    SplitbrainError                exit code
      UsageError                     2   asked for something that does not exist or cannot be
        HistoryError                 2   a history file that breaks the format; carries the line
      InfrastructureError            4   the machine, the cluster or the harness failed
        MissingCapability            4   this host or provider cannot do it; names what is missing
        NodeFailed                   4   a node never got ready or died on its own; carries its log
        ArtifactError                4   a version could not be obtained
      Interrupted                  130   Ctrl-C or SIGTERM

    OperationError                 what a client raises about one operation; never leaves the scheduler
      Definite                       it did not happen           -> fail
        Mismatch                     a compare-and-set found another value, atomically
      Indeterminate                  it may or may not happen    -> info

A message says what happened, which value, what was expected, and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SplitbrainError(Exception):
    """Base of all errors that end a command; `exit_code` is part of the command-line contract."""

    exit_code = 4


class UsageError(SplitbrainError):
    """The request itself is wrong: an unknown name, a value out of range, an unreadable spec."""

    exit_code = 2


class HistoryError(UsageError):
    """A history file breaks the format. `line` counts from 1."""

    def __init__(self, path: object, line: int, problem: str) -> None:
        self.line = line
        self.problem = problem
        super().__init__(f"{path}, line {line}: {problem}")


class InfrastructureError(SplitbrainError):
    """The machine, the cluster or the harness failed; the system under test is not accused."""


class MissingCapability(InfrastructureError):
    """The host or the provider cannot do what was asked; the message names what is missing."""


class NodeFailed(InfrastructureError):
    """A node never got ready or died with no fault to explain it; the message ends with its log."""


class ArtifactError(InfrastructureError):
    """A version of a system could not be obtained."""


class Interrupted(SplitbrainError):
    """The person or the machine asked the run to stop."""

    exit_code = 130


class OperationError(Exception):
    """What a client says about one operation that did not simply succeed.

    `text` is recorded as the event's `error`; keep it short and stable, since reports count by it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Definite(OperationError):
    """The operation certainly did not take effect: recorded as `fail`."""


class Mismatch(Definite):
    """A compare-and-set found another value than expected, in one atomic step: `fail`, and evidence."""

    def __init__(self, text: str = "mismatch") -> None:
        super().__init__(text)


class Indeterminate(OperationError):
    """The operation may have happened, may happen later, or never: recorded as `info`."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """An error for a name nobody registered, with the nearest one that somebody did.

    >>> str(unknown_name("system", "etdc", ["etcd", "zookeeper"]))
    "unknown system 'etdc'; did you mean 'etcd'? Known: etcd, zookeeper"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" did you mean {near[0]!r}?" if near else ""
    return UsageError(f"unknown {kind} {name!r};{hint} Known: {', '.join(names) or 'none'}")
