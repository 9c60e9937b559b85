"""CPU admission: runs on one machine go on side by side only as far as its cores reach.

A starved run is a bad witness: late stamps widen intervals and hide violations, and a node that gets
no processor looks as if a fault had struck it. So every run, whoever starts it, has a slot in one
registry of the machine, and waits there until those before it leave room. First come, first served.

The registry is a directory of files, one a run, each locked (`flock`) by its run. The kernel lets go
of a lock when its last holder dies, however it dies, so that nothing has to be cleaned up: a file
that can be locked belongs to nobody, and whoever finds it removes it. Whoever reads or changes the
registry holds the lock of the directory itself.

What a run needs is an estimate with headroom: measured on two cores, three etcd nodes under 200
operations/s take a tenth of a core, a start or a check a whole one for a second.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from harness.core.errors import InfrastructureError
from harness.core.spec import Spec

VARIABLE: Final = "SPLITBRAIN_SLOTS"
NOT_WANTED: Final = "--no-admission"
RECORD: Final = "admission.json"
_BASE, _PER_NODE, _PER_OPERATION = 0.5, 0.1, 0.0005  # cores
_LOOK_S: Final = 0.2
_DOOR_S: Final = 5.0  # to get hold of the registry, which everybody leaves within milliseconds


class Admission(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What a run says about its admission, in `admission.json`: `waiting` for so many runs now,
    the `cores` that it needs of those that there are, how long it `waited_s`, how many other runs
    (`beside`) were at work when its load ended, and why there was no admission, if so."""

    cores: float
    of: int
    waiting: int = 0
    waited_s: float = 0.0
    beside: int = 0
    skipped: str | None = None

    def write(self, run_dir: Path) -> None:
        """Replace the record in one step: the display reads it meanwhile."""
        part = run_dir / f"{RECORD}.part"
        part.write_bytes(msgspec.json.encode(self) + b"\n")
        part.replace(run_dir / RECORD)


def read_record(run_dir: Path) -> Admission | None:
    """The record of a run; None where there is none, as in runs of older versions."""
    try:
        return msgspec.json.decode((run_dir / RECORD).read_bytes(), type=Admission)
    except (OSError, msgspec.DecodeError):
        return None


def need(spec: Spec) -> float:
    """How many cores a run needs, of those that there are: one that asks for more gets all.

    >>> need(Spec()), need(Spec(nodes=5, rate=1000.0))
    (0.9, 1.5)
    """
    nodes = 0 if spec.addresses or spec.hosts else spec.nodes  # those elsewhere are not ours to feed
    wanted = _BASE + _PER_NODE * nodes + _PER_OPERATION * spec.rate
    return round(min(wanted, cores()) if spec.rate else float(cores()), 3)


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))


class Ticket(msgspec.Struct):
    """One run's file. `since` is CLOCK_MONOTONIC in ns."""

    run: str
    cores: float
    since: int
    working: bool


class Slot:
    """A run's place in the registry, from its making until `close` or the end of the process and of
    every child that was forked meanwhile without executing a program.

    Raises: OSError where there can be no registry; InfrastructureError where a live run bears the
    same id.
    """

    def __init__(self, run: str, record: Admission, *, folder: Path | None = None) -> None:
        self.record = record
        self._folder = folder or _folder()
        self._ticket = Ticket(run, record.cores, time.monotonic_ns(), working=False)
        with _door(self._folder) as door:
            if any(t.run == run for t in _alive(self._folder, door)):
                raise InfrastructureError(
                    f"a run {run} is under way on this machine already, and names made of its id would collide;"
                    " start this one again"
                )
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(self._folder / run, flags, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            self._note()

    def ahead(self) -> list[Ticket]:
        """The runs that must leave room first; none: this one is at work from now on."""
        with _door(self._folder) as door:
            mine = self._ticket
            others = [t for t in _alive(self._folder, door) if t.run != mine.run]
            before = [t for t in others if t.working or (t.since, t.run) < (mine.since, mine.run)]
            if before and sum(t.cores for t in before) + mine.cores > self.record.of:
                return before
            mine.working = True
            self._note()
            return []

    def start(self) -> None:
        """Be at work without waiting; others take note of it."""
        self._ticket.working = True
        self._note()

    def look(self, run_dir: Path) -> None:
        """Note how many other runs are at work now."""
        with suppress(OSError):  # it is for a warning's words only
            with _door(self._folder) as door:
                others = [t for t in _alive(self._folder, door) if t.run != self._ticket.run]
            self.record.beside = sum(t.working for t in others)
            self.record.write(run_dir)

    def close(self) -> None:
        """Leave, for forked children as well. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                (self._folder / self._ticket.run).unlink()
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def _note(self) -> None:
        data = msgspec.json.encode(self._ticket)
        os.pwrite(self._fd, data, 0)
        os.ftruncate(self._fd, len(data))


def enter(run: str, run_dir: Path, spec: Spec) -> Slot | None:
    """Take a slot, and wait until there is room, unless the spec says not to.

    No slot where the registry cannot be had: that is said in the record, and ends no run.

    Raises: InfrastructureError as `Slot`.
    """
    record = Admission(cores=need(spec), of=cores())
    slot: Slot | None = None
    try:
        slot = Slot(run, record)
        if spec.admission:
            _wait(slot, record, run_dir)
        else:
            slot.start()
            record.skipped = NOT_WANTED
    except OSError as e:
        record.waiting, record.skipped = 0, f"the registry of runs cannot be used: {e}"
    except BaseException:
        if slot is not None:
            slot.close()
        raise
    record.write(run_dir)
    return slot


def _wait(slot: Slot, record: Admission, run_dir: Path) -> None:
    began = time.monotonic()
    while before := slot.ahead():
        if len(before) != record.waiting:
            record.waiting = len(before)
            record.write(run_dir)
        time.sleep(_LOOK_S)
    if record.waiting:
        record.waiting, record.waited_s = 0, round(time.monotonic() - began, 1)


def _folder() -> Path:
    """The machine's registry: one for all users, so that they see each other's runs."""
    if given := os.environ.get(VARIABLE):
        folder = Path(given).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    bases = (Path("/run/lock"), Path(tempfile.gettempdir()))
    base = next((b for b in bases if os.access(b, os.W_OK | os.X_OK)), bases[-1])
    folder = base / "splitbrain"
    try:
        folder.mkdir()
    except FileExistsError:
        pass
    else:
        folder.chmod(0o1777)  # what the umask took away
    return folder


@contextmanager
def _door(folder: Path) -> Iterator[int]:
    """Hold the registry; its descriptor."""
    door = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _DOOR_S
        while not _locked(door):
            if time.monotonic() > deadline:
                raise OSError(f"somebody holds {folder} for more than {_DOOR_S:g} s")
            time.sleep(0.002)
        yield door
    finally:
        os.close(door)


def _alive(folder: Path, door: int) -> list[Ticket]:
    """The tickets whose runs live; those of the dead are removed on the way."""
    found = []
    for name in os.listdir(door):
        try:
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=door)
        except OSError:  # a stranger's thing that is no ticket
            continue
        try:
            if _locked(fd):
                with suppress(OSError):  # another user's: it means nothing, and is theirs to remove
                    (folder / name).unlink()
            else:
                found.append(msgspec.json.decode(os.read(fd, 4096), type=Ticket))
        except msgspec.DecodeError:
            continue
        finally:
            os.close(fd)
    return found


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
