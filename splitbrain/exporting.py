"""What `splitbrain export` does: a run or a history made ready, a form that writes it, a file that is whole.

A run whose controller was killed has a journal and no history; an export makes one of it, as `splitbrain check` would,
in a folder of its own, and leaves the run as it was. Jepsen's EDN is converted in the same way.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from harness.core.errors import HistoryError, InfrastructureError, UsageError
from results.export import FORMS, Form, Source
from results.writing import whole
from splitbrain.foreign import line_in

_histories: Final = ("history.jsonl", "history.jsonl.zst", "history.jsonl.gz")


@contextmanager
def source(path: Path, *, keyed: bool | None = None) -> Iterator[Source]:
    """What a path names, as exports take it; `keyed` says of an EDN history whether its values are [key value].

    Raises: UsageError for what is neither a run nor a history; HistoryError for a file that breaks the format.
    """
    with tempfile.TemporaryDirectory(prefix="splitbrain-") as made:
        if path.is_dir():
            yield _of_run(path, Path(made))
            return
        given, origin = _of_history(path, Path(made), keyed=keyed)
        try:
            yield given
        except HistoryError as e:
            raise HistoryError(path, line_in(origin, e.line), e.problem) from None


def _of_run(path: Path, made: Path) -> Source:
    from harness.journal import begun, merge

    found = next((p for p in map(path.joinpath, _histories) if p.is_file()), None)
    if found is not None or not begun(path / "journal.jsonl"):
        return Source(path, folder=path, history=found)
    for entry in path.iterdir():
        if not entry.name.startswith("history."):
            (made / entry.name).symlink_to(entry.resolve(), target_is_directory=entry.is_dir())
    merge(path / "journal.jsonl", made / _histories[0])
    return Source(path, folder=made, history=made / _histories[0])


def _of_history(path: Path, made: Path, *, keyed: bool | None) -> tuple[Source, array[int]]:
    """The history, and the lines of the file that its own come from, where they are others."""
    from harness.core import jepsen

    if not path.is_file():
        raise UsageError(f"cannot read {path}: no such file; expected a run or a history.jsonl")
    if jepsen.is_edn(path):
        history = made / _histories[0]
        origin = jepsen.convert(path, history, keyed=keyed)
    else:
        ending = next((end for end in (".gz", ".zst") if path.name.endswith(end)), "")
        history = made / f"{_histories[0]}{ending}"
        history.symlink_to(path.resolve())
        origin = array("q")
    return Source(path, folder=made, history=history), origin


def export(path: Path, form: Form, out: Path | None, *, keyed: bool | None = None) -> Path | None:
    """Write a run or a history in a form, to a file or, where its form allows, to stdout; returns the file.

    Raises: UsageError for what cannot be had; InfrastructureError when it cannot be written.
    """
    if path.name.endswith(form.same):
        raise UsageError(f"{path} has this form already; expected a run or a history.jsonl")
    if form.run_only and path.is_file():
        raise UsageError(f"export --{form.name} tells of a run, and {path} is a bare history; name a run")
    write = form.writer()
    with source(path, keyed=keyed) as given:
        if out is None and not form.binary:
            with tempfile.NamedTemporaryFile(prefix="splitbrain-", suffix=f".{form.suffix}") as made:
                try:
                    write(given, Path(made.name))
                except OSError as e:
                    raise InfrastructureError(
                        f"cannot write {made.name}: {e.strerror}; say where to with --out FILE"
                    ) from None
                _print(Path(made.name))
            return None
        target = out or Path(f"{given.name}.{form.suffix}")
        if target.is_dir():
            raise UsageError(
                f"{target} is a folder; expected a file, such as {target / given.name}.{form.suffix}"
            )
        with whole(target, "choose another file with --out") as part:
            write(given, part)
    return target


def _print(path: Path) -> None:
    """A file's text on stdout; whoever reads the first lines of it and goes (`| head`) has what they wanted."""
    try:
        with path.open(encoding="utf-8", newline="") as text:
            shutil.copyfileobj(text, sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def form_of(asked: dict[str, bool]) -> Form:
    """The one form that was asked for. Raises: UsageError when it is not exactly one."""
    wanted = [form for form in FORMS if asked.get(form.name)]
    if len(wanted) != 1:
        how = " and ".join(f"--{form.name}" for form in wanted) or "none"
        every = ", ".join(f"--{form.name}" for form in FORMS)
        raise UsageError(f"export takes one form, and was given {how}; expected one of {every}")
    return wanted[0]
