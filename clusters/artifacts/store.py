"""The cache of what was obtained: whole or not there, locked while it is made, compared at each use."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from clusters.artifacts.tools import BUILD_TIMEOUT_S, FETCH_TIMEOUT_S, ToolFailed, sentence
from harness.core.cache import cache_dir
from harness.core.errors import ArtifactError

_lock_timeout_s: Final = BUILD_TIMEOUT_S + FETCH_TIMEOUT_S


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A program, or a folder of files, on the host, and the sha256 of its bytes (`digest`)."""

    path: str
    sha256: str
    origin: str
    version: str = ""  # empty for a file of the user's own


class VersionRefused(ArtifactError):
    """The registry answered, and it does not have this version (or does not serve it).

    `served` are the versions that it named instead, as far as it did.
    """

    def __init__(self, message: str, served: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.served = tuple(served)


class Store:
    """Keeps what was obtained. `say` hears one line before anything that takes a while."""

    def __init__(
        self, cache: Path | None = None, *, offline: bool = False, say: Callable[[str], None] | None = None
    ) -> None:
        self.cache = (cache or cache_dir()).absolute()
        self.offline = offline
        self.say = say or (lambda _line: None)

    def obtain(
        self,
        name: str,
        version: str,
        recipe: Sequence[str],
        make: Callable[[Path, Path], str],
        *,
        tree: bool = False,
    ) -> Artifact:
        """What is cached, or what `make(work, target)` leaves at `target`: a program, or with `tree` the files
        in that folder, which exists.

        `make` returns where it came from, in words. Another `recipe` is another thing, of the same version too.

        Raises: ArtifactError, and whatever of it `make` raises.
        """
        folder = self.folder(name, version, recipe)
        if found := self._cached(folder, name, version):
            return found
        if self.offline:
            state = "damaged in" if folder.exists() else "not in"
            raise ArtifactError(
                f"{name} {version} is {state} the cache {self.cache}, and offline nothing is fetched; "
                f"`splitbrain fetch {name}@{version}` while there is a network"
            )
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with self._locked(folder, name, version):
                if found := self._cached(folder, name, version):  # another run obtained it meanwhile
                    return found
                return self._make(folder, name, version, make, tree=tree)
        except ToolFailed as e:
            raise ArtifactError(sentence(f"{name} {version} could not be obtained", e)) from None
        except OSError as e:
            raise _unwritable(self.cache, name, version, e) from e

    def folder(self, name: str, version: str, recipe: Sequence[str]) -> Path:
        """Where a thing is kept; it need not be there."""
        mark = hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:8]
        return self.cache / "programs" / f"{name}-{version}-{platform.machine()}-{mark}"

    def _make(
        self, folder: Path, name: str, version: str, make: Callable[[Path, Path], str], *, tree: bool
    ) -> Artifact:
        prefix = f"partial-{folder.name}-"
        for left in folder.parent.glob(f"{prefix}*"):  # a killed run's; we hold the lock
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as temporary:
            work, out = Path(temporary) / "work", Path(temporary) / "out"
            work.mkdir()
            out.mkdir()
            target = out / name
            if tree:
                target.mkdir()
            origin = make(work, target)
            if not tree:
                target.chmod(0o755)
            _sync(target)
            sha256 = digest(target)
            (out / "origin.json").write_text(
                json.dumps({"sha256": sha256, "origin": origin}, indent=1) + "\n"
            )
            if folder.exists():  # damaged, else it would have been found
                shutil.rmtree(folder)
            out.rename(folder)
        return Artifact(path=str(folder / name), sha256=sha256, origin=origin, version=version)

    def _cached(self, folder: Path, name: str, version: str) -> Artifact | None:
        target = folder / name
        try:
            said = json.loads((folder / "origin.json").read_text())
            sha256 = digest(target)
            if said["sha256"] == sha256 and os.access(target, os.X_OK):
                return Artifact(path=str(target), sha256=sha256, origin=str(said["origin"]), version=version)
        except FileNotFoundError:
            if not folder.exists():
                return None
        except (OSError, ValueError, KeyError, TypeError):
            pass  # unreadable is as bad as changed
        self.say(f"the cached {name} {version} is damaged (its sha256 is not the recorded one): not used")
        return None

    @contextlib.contextmanager
    def _locked(self, folder: Path, name: str, version: str) -> Iterator[None]:
        """One run at a time. The lock is the kernel's, so a killed run's is gone with it."""
        path = folder.parent / f"{folder.name}.lock"
        deadline = time.monotonic() + _lock_timeout_s
        told = False
        while True:
            with path.open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if not told:
                        self.say(f"another run is obtaining {name} {version}: waiting for it")
                        told = True
                else:
                    if _is(file.fileno(), path):
                        yield
                        return
                    continue  # somebody emptied the cache meanwhile: the next run would lock another file
            if time.monotonic() > deadline:
                raise ArtifactError(
                    f"another run has held {path} for {_lock_timeout_s:.0f} s while obtaining "
                    f"{name} {version}; end it, or use another SPLITBRAIN_CACHE"
                )
            time.sleep(0.1)


def _is(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def digest(path: Path) -> str:
    """The sha256 of a file; of a folder that of its sorted list of names and their digests.

    `__pycache__` is left out: a server that is run from a folder writes it there, and Python itself compares
    it with the source.
    """
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    for name, full in sorted(_files(path)):
        if full.is_symlink():
            said = f"-> {full.readlink()}"
        else:
            said = digest(full) + (" x" if full.stat().st_mode & stat.S_IXUSR else "")
        total.update(f"{name}\0{said}\n".encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name inside the folder, path) of all that is no folder itself.

    Raises: OSError: what cannot be read must not pass for what is not there.
    """

    def fail(e: OSError) -> None:
        raise e

    for at, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [f for f in folders if f != "__pycache__"]
        for name in files + [f for f in folders if (Path(at) / f).is_symlink()]:
            full = Path(at) / name
            if full.is_symlink() or full.is_file():
                yield str(full.relative_to(folder)), full


def _sync(path: Path) -> None:
    """Bytes on disk before the name is: a folder's are compared at each use anyway, and it has many."""
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _unwritable(cache: Path, name: str, version: str, e: OSError) -> ArtifactError:
    where = e.filename or cache
    if e.errno in (errno.ENOSPC, errno.EDQUOT):
        return ArtifactError(
            f"the disk is full: {name} {version} could not be written to {where}; "
            "make room, or set SPLITBRAIN_CACHE"
        )
    return ArtifactError(
        f"{name} {version} could not be put into the cache: {where}: {e.strerror or e}; "
        "SPLITBRAIN_CACHE names another folder"
    )
