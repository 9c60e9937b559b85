"""Run directories: making one, finding one, and keeping secrets out of what is written there.

`ROOT/<system>-<workload>/<UTC time>-<seed>-<id>/`; the id stands in every name that the run makes
on the machine, so it is unique below a root and short enough for an interface's 15 characters.
`ROOT/latest` is a relative symlink, so that a root can be moved or mounted elsewhere.
"""

from __future__ import annotations

import difflib
import os
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from harness.core.errors import InfrastructureError, UsageError

ID_LENGTH: Final = 6
LATEST: Final = "latest"
_alphabet: Final = "abcdefghijkmnpqrstuvwxyz23456789"  # without l, o, 0 and 1: people read ids aloud
_attempts: Final = 100
_marks: Final = ("spec.json", "results.json", "journal.jsonl", "history.jsonl")
_shown: Final = 5


def new_run_dir(
    root: Path, system: str, workload: str, seed: int, now: datetime, run: str | None = None
) -> Path:
    """Make the directory of a new run and point `latest` at it. A naive `now` is taken as UTC. The id is drawn, unless
    whoever starts the run has decided it.

    Raises: UsageError for a name that cannot be part of a path, or an id that is none or is taken;
    InfrastructureError when the directory cannot be made.
    """
    if run is not None and not (len(run) == ID_LENGTH and set(run) <= set(_alphabet)):
        raise UsageError(f"run id {run!r}: expected {ID_LENGTH} of the characters {_alphabet}")
    for kind, name in (("system", system), ("workload", workload)):
        if not name or name.startswith(".") or "/" in name or "\0" in name:
            raise UsageError(f"{kind} {name!r} cannot name a run's directory; expected a plain name")
    stamp = (now if now.tzinfo is None else now.astimezone(UTC)).strftime("%Y%m%dT%H%M%SZ")
    group = root / f"{system}-{workload}"
    try:
        group.mkdir(parents=True, exist_ok=True)
        for _ in range(_attempts):
            drawn = run or new_run_id()
            if any(run_id(other) == drawn for other in run_dirs(root)):
                if run is not None:
                    raise UsageError(f"there is a run {run} below {root} already; nothing is run twice")
                continue
            path = group / f"{stamp}-{seed}-{drawn}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            _point_latest(root, path)
            return path
    except OSError as e:
        raise InfrastructureError(
            f"cannot make a run's directory below {root}: {e.strerror}; choose another place with --out"
        ) from None
    raise InfrastructureError(f"no free run id below {root} after {_attempts} attempts; move old runs away")


def new_run_id() -> str:
    """An id that nobody has chosen."""
    return "".join(secrets.choice(_alphabet) for _ in range(ID_LENGTH))


def _point_latest(root: Path, run_dir: Path) -> None:
    """Replace the symlink in one step: whoever follows it meets the old run or the new, never neither."""
    link = root / LATEST
    if link.is_dir() and not link.is_symlink():
        return  # somebody's own directory; not ours to take away
    fresh = root / f".{LATEST}-{run_id(run_dir)}"
    fresh.symlink_to(run_dir.relative_to(root))
    fresh.replace(link)


def run_id(run_dir: Path) -> str:
    """The id at the end of a run directory's name."""
    return run_dir.name.rpartition("-")[2]


def is_run(path: Path) -> bool:
    """Whether a directory holds at least one of the files that make it a run's."""
    return any((path / mark).is_file() for mark in _marks)


def run_dirs(root: Path) -> list[Path]:
    """The directories below `root` that are where a run's would be, oldest name first."""
    found: list[Path] = []
    for group in _directories(root):
        found += _directories(group)
    return sorted(found, key=lambda p: p.name)


def _directories(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False) and e.name[0] != "."]
    except OSError:
        return []


def find_run(root: Path, text: str) -> Path:
    """The directory that `text` means: a path, a run's id, a unique beginning of one or of a
    directory's name, or `latest`.

    Raises: UsageError with the candidates, or the nearest name, when it is not exactly one.
    """
    if text == LATEST:
        target = (root / LATEST).resolve()
        if target.is_dir() and target != (root / LATEST).absolute():
            return target
        known = [p for p in run_dirs(root) if is_run(p)]
        if known:
            return known[-1]  # the symlink is a convenience, the directories are the truth
        raise UsageError(f"there is no latest run: {root} holds none; start one with `splitbrain run`")
    path = Path(text)
    if text and path.is_dir() and is_run(path):
        return path.resolve()
    runs = run_dirs(root)
    exact = [p for p in runs if text in (run_id(p), p.name, f"{p.parent.name}/{p.name}")]
    wanted = exact or [p for p in runs if text and (run_id(p).startswith(text) or p.name.startswith(text))]
    if len(wanted) == 1:
        return wanted[0].resolve()
    if wanted:
        some = ", ".join(run_id(p) for p in wanted[:_shown])
        more = f" and {len(wanted) - _shown} more" if len(wanted) > _shown else ""
        raise UsageError(
            f"{text!r} may mean any of {len(wanted)} runs below {root}: {some}{more}; say more of it"
        )
    if text and path.is_dir():
        raise UsageError(f"{text} is not a run: expected one of {', '.join(_marks)} in it")
    ids = [run_id(p) for p in runs]
    near = difflib.get_close_matches(text, ids, n=1, cutoff=0.4)
    hint = (
        f"did you mean {near[0]!r}?" if near else f"the newest is {ids[-1]!r}" if ids else "it holds no runs"
    )
    raise UsageError(f"no run {text!r} below {root}; {hint}. Expected a path, a run's id or `latest`")


def redact(text: str, hidden: Iterable[str]) -> str:
    """`text` with every secret replaced, also where it stands in JSON's own spelling.

    >>> redact('password=hunter2 of "hunter"', ["hunter", "hunter2"])
    'password=[redacted] of "[redacted]"'
    """
    spellings = {s for secret in hidden if secret for s in (secret, _json_spelling(secret))}
    for spelling in sorted(spellings, key=len, reverse=True):  # one may be part of another
        text = text.replace(spelling, "[redacted]")
    return text


def _json_spelling(text: str) -> str:
    return msgspec.json.encode(text).decode()[1:-1]


def open_plain(path: Path) -> BinaryIO:
    """Open a file of a run for reading, and nothing else of that name: a link that was put in its place is not
    followed, a pipe does not block. Raises: OSError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags), "rb")


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file, or None when there is no file or no whole object in it."""
    try:
        with open_plain(path) as file:
            value = msgspec.json.decode(file.read())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return value if isinstance(value, dict) else None
