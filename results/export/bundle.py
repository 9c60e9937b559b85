"""`export --bundle`: one archive for those who maintain the system that was tested.

    splitbrain-<system>-<workload>-<id>/
      README.md         the finding, for somebody who doubts it
      reproduce.sh      the run again, with nothing but the splitbrain command
      spec.json env.json results.json report.html history.jsonl journal.jsonl faults.jsonl ... logs/ dump/
      windows/          the events of each violation, and all of its key's
      SHA256SUMS        of every other file

It is a run directory: `splitbrain check`, `show` and `replay` take it. Everything is staged without secrets
(`results.redaction`), and the report is made of that, since it holds values in columns that no search would find
them in. The same run gives the same bytes: names in order, one time, nobody's user, gzip without a clock.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.core import secrets
from harness.core.history import open_text
from harness.core.spec import Spec
from results.export import Source
from results.export._readme import readme, reproduce
from results.redaction import Redactor, secret_values
from results.report.case import Case, cases
from results.report.data import read_run
from results.report.ops import canonical
from results.report.page import write_report
from results.rundir import run_id

LARGEST: Final = 512 * 1024 * 1024  # of one file, bytes
_text: Final = ("spec.json", "env.json", "results.json", "journal.jsonl", "faults.jsonl", "monitor.jsonl",
                "members.jsonl", "events.jsonl", "incremental.jsonl", "admission.json", "system.toml")  # fmt: skip
_folders: Final = ("logs", "dump")
_look: Final = 8192


class _Event(msgspec.Struct, gc=False):
    index: int = -1
    key: msgspec.Raw = msgspec.Raw(b"null")


def write(source: Source, path: Path) -> None:
    """Write the archive. Raises: OSError when there is no room for it."""
    assert source.run_dir is not None
    name = f"splitbrain-{source.name}"
    with tempfile.TemporaryDirectory(prefix="splitbrain-") as made:
        staged = Path(made) / name
        staged.mkdir()
        redactor = Redactor(_secrets(source))
        left_out = _stage(source, staged, redactor)
        run = read_run(staged)
        if run.results:
            results = {**run.results, "run": "."}
            (staged / "results.json").write_bytes(
                msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n"
            )
            run = read_run(staged)
        found = cases(run)
        windows = _windows(staged, found)
        write_report(staged)
        version = str(run.env.get("splitbrain") or "")
        (staged / "README.md").write_text(
            readme(run, found, windows, left_out=left_out, redacted=redactor.count),
            encoding="utf-8",
            errors="replace",
        )
        script = staged / "reproduce.sh"
        script.write_text(reproduce(version), encoding="utf-8")
        script.chmod(0o755)
        files = sorted(p for p in staged.rglob("*") if p.is_file())
        sums = "".join(f"{_sha256(p)}  {p.relative_to(staged).as_posix()}\n" for p in files)
        (staged / "SHA256SUMS").write_text(sums, encoding="utf-8")
        _pack(staged, path, when=(run.epoch_real_ns or 0) // 10**9)


def _secrets(source: Source) -> set[str]:
    """Values that must not be in the archive, as far as they are known here."""
    assert source.run_dir is not None
    options: dict[str, dict[str, Any]] = {}
    held: set[str] = set()
    try:
        spec = msgspec.json.decode((source.run_dir / "spec.json").read_bytes(), type=Spec)
    except (OSError, msgspec.DecodeError):
        return secret_values({}, os.environ)
    revealed = secrets.reveal(spec, run_id(source.run_dir))
    options = spec.options
    for owner, values in options.items():
        held |= {
            str(revealed.of(owner).get(name)) for name, value in values.items() if value == secrets.HIDDEN
        }
    return held | secret_values(options, os.environ)


def _stage(source: Source, staged: Path, redactor: Redactor) -> list[str]:
    """Copy what is text, without secrets; returns what was left out, each with why."""
    assert source.run_dir is not None
    left_out: list[str] = []
    wanted = [source.run_dir / name for name in _text]
    for folder in _folders:
        wanted += sorted((source.run_dir / folder).rglob("*"))
    for file in wanted:
        if not file.is_file() or file.is_symlink():
            continue
        name = file.relative_to(source.run_dir)
        if file.stat().st_size > LARGEST:
            left_out.append(f"{name}: {file.stat().st_size:,} bytes, more than {LARGEST:,}")
        elif _binary(file):
            left_out.append(f"{name}: it is no text, and could not be searched for secrets")
        else:
            target = staged / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as lines:
                _copy(lines, target, redactor)
    if source.history is not None:
        with open_text(source.history) as lines:
            _copy(lines, staged / "history.jsonl", redactor)
    others = sorted({p.name for p in source.run_dir.iterdir()} & {"data", "pcap", "work"})
    left_out += [f"{name}/: it is no text, and could not be searched for secrets" for name in others]
    return left_out


def _copy(lines: Any, target: Path, redactor: Redactor) -> None:
    with target.open("w", encoding="utf-8", errors="surrogateescape", newline="") as out:
        out.writelines(redactor.lines(line.decode("utf-8", "surrogateescape") for line in lines))


def _binary(path: Path) -> bool:
    with path.open("rb") as file:
        return (
            b"\0" in file.read(_look) and path.suffix != ".log"
        )  # what a process prints is a log, whatever it holds


def _windows(staged: Path, found: list[Case]) -> list[tuple[str, str] | None]:
    """Of each violation the file with its events, and the one with all events of its key; None of one that names no
    operations."""
    history = staged / "history.jsonl"
    if not found or not history.is_file():
        return [None] * len(found)
    (staged / "windows").mkdir()
    files: list[tuple[str, str] | None] = []
    events: list[set[int]] = []
    for number, case in enumerate(found, 1):
        indices = {i for op in case.ops for i in (op.invoke, op.complete) if i is not None}
        stem = f"windows/{number:02}-{''.join(c if c.isalnum() else '-' for c in case.check)}"
        files.append((f"{stem}.jsonl", f"{stem}-key.jsonl") if indices else None)
        events.append(indices)
    keys = [canonical(case.key) for case in found]
    outs = [None if f is None else tuple((staged / name).open("wb") for name in f) for f in files]
    try:
        for line, event, key in _events(history):
            for number, out in enumerate(outs):
                if out is not None and event.index in events[number]:
                    out[0].write(line)
                if out is not None and key == keys[number]:
                    out[1].write(line)
    finally:
        for out in outs:
            for file in out or ():
                file.close()
    return files


def _events(history: Path) -> Iterator[tuple[bytes, _Event, bytes]]:
    decode = msgspec.json.Decoder(_Event).decode
    seen: dict[bytes, bytes] = {}
    with history.open("rb") as lines:
        for line in lines:
            if b'"process":"nemesis"' in line:
                continue
            try:
                event = decode(line)
                raw = bytes(event.key)
                key = seen.get(raw) or seen.setdefault(raw, canonical(msgspec.json.decode(raw)))
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            yield line, event, key


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pack(staged: Path, path: Path, when: int) -> None:
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for file in [staged, *sorted(staged.rglob("*"))]:
            entry = tar.gettarinfo(file, file.relative_to(staged.parent).as_posix())
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = when
            entry.mode = 0o755 if file.is_dir() or file.suffix == ".sh" else 0o644
            if file.is_dir():
                tar.addfile(entry)
            else:
                with file.open("rb") as content:
                    tar.addfile(entry, content)
