"""A file system of a node's own: ext4 in a file behind a loop device, which can lose its power.

What a program wrote and did not sync stands in memory until the kernel gets round to it. On a real
machine a power loss takes that away; a killed process keeps it, so no kill shows a missing fsync. Here
the file system is shut down with its journal unflushed (EXT4_IOC_SHUTDOWN, as xfstests does it), unmounted
and mounted again: what was not on disk is gone, what was synced is there.

Loop devices are set to clear themselves (LO_FLAGS_AUTOCLEAR): when the last descriptor and the last mount
of a device are gone, so is the device, whatever ended whoever made it. Mounts are made detached
(fsmount(2), Linux 5.2) and moved to where they belong by a process in that mount namespace, so that it need
not see the device.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from clusters.means import kernel, userns

PREFIX: Final = "splitbrain-"  # of an image's name, RUN.img after it
ROOT: Final = "/run/splitbrain/disk"  # where a node sees all of its disk; its data is a directory of it
_DATA: Final = "data"
_SYNCED: Final = "synced"
_FILLER: Final = "filler"
_TRIED: Final = "tried"
_TRIED_BYTES: Final = 1 << 16
_BLOCK: Final = 1024  # the smallest that mkfs.ext4 chooses

_LOOP_CTL_GET_FREE: Final = 0x4C82
_LOOP_CONFIGURE: Final = 0x4C0A
_LOOP_CLR_FD: Final = 0x4C01
_LO_FLAGS_AUTOCLEAR: Final = 4
_LOOP_CONFIG: Final = struct.Struct("=II5Q4I64s64s32s2Q64x")  # struct loop_config, with its loop_info64
_EXT4_IOC_SHUTDOWN: Final = 0x8004587D
_GOING_DOWN: Final = 0  # all is written out before
_NOLOGFLUSH: Final = 2
_SYS_MOVE_MOUNT: Final = 429
_SYS_FSOPEN: Final = 430
_SYS_FSCONFIG: Final = 431
_SYS_FSMOUNT: Final = 432
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_CMD_CREATE: Final = 6
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_AT_FDCWD: Final = -100
_CLOEXEC: Final = 1
_UMOUNT_NOFOLLOW: Final = 8
_smallest_mb: Final = 8
_tries: Final = 20  # for a loop device that somebody else takes between asking and taking
_patience_s: Final = 3.0
_mkfs_s: Final = 60

_libc = ctypes.CDLL(None, use_errno=True)


class Disk:
    """One image behind one loop device, which this process holds open for as long as it is wanted."""

    def __init__(self, image: Path, megabytes: int) -> None:
        self.image = image
        _format(image, megabytes)
        self.device, self._fd = _attach(image)

    def mounted(self) -> bool:
        """Whether anything, anywhere, has the device mounted."""
        try:
            os.close(os.open(self.device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
        except OSError as e:
            if e.errno == errno.EBUSY:
                return True
            raise
        return False

    def mount(self) -> int:
        """A descriptor of its file system, mounted nowhere yet; see `place`. Replays the journal."""
        return _fsmount(self.device)

    def close(self) -> None:
        """Let the device go.

        Raises: OSError when it is still mounted somewhere.
        """
        if self._fd < 0:
            return
        deadline = time.monotonic() + _patience_s
        try:
            while self.mounted():
                if time.monotonic() > deadline:
                    raise OSError(f"{self.device} ({self.image}) is still mounted somewhere")
                time.sleep(0.005)
        finally:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._fd, _LOOP_CLR_FD, 0)
            os.close(self._fd)
            self._fd = -1


# What a process in a node's mount namespace does.


def place(mount: int, data_dir: str) -> None:
    """Put a detached mount at `ROOT`, and the data directory on it at `data_dir`. Closes `mount`."""
    Path(ROOT).mkdir(parents=True, exist_ok=True)
    flags = ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH)
    _call(_SYS_MOVE_MOUNT, mount, b"", _AT_FDCWD, ROOT.encode(), flags, what=f"move_mount to {ROOT}")
    os.close(mount)
    data = Path(ROOT) / _DATA
    if not data.exists():
        data.mkdir()
        (Path(ROOT) / _SYNCED).write_text(_SYNCED)
        flush()
    kernel.mount(str(data), data_dir, None, kernel.MS_BIND)


def displace(data_dir: str) -> None:
    """Take both mounts away again; what is not mounted stays so.

    Raises: OSError when something holds a file on it open.
    """
    root = Path(ROOT)  # by device numbers: /proc shows nothing of us in a PID namespace that is not ours
    if not root.exists() or root.stat().st_dev == root.parent.stat().st_dev:
        return
    if Path(data_dir).stat().st_dev == root.stat().st_dev:
        _unmount(data_dir)
    _unmount(ROOT)


def cut_power() -> None:
    """Shut the file system at `ROOT` down: nothing that is not on disk by now ever will be."""
    _shut_down(_NOLOGFLUSH)


def _shut_down(how: int) -> None:
    fd = os.open(ROOT, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _EXT4_IOC_SHUTDOWN, struct.pack("I", how))
    finally:
        os.close(fd)


def spoil(error: str) -> None:
    """Have writes fail with `error` (ENOSPC, EROFS or EIO) from now on."""
    if error == "ENOSPC":
        _fill(Path(ROOT) / _FILLER)
    elif error == "EROFS":
        kernel.mount("none", ROOT, None, kernel.MS_REMOUNT, "abort")
    else:
        _shut_down(_GOING_DOWN)


def make_room() -> None:
    """Give back what `spoil` filled."""
    with contextlib.suppress(OSError):
        (Path(ROOT) / _FILLER).unlink(missing_ok=True)


def try_write() -> str | None:
    """The name of the error that a synced write of a new file meets, or None."""
    path = Path(ROOT) / _TRIED
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, b"x" * _TRIED_BYTES)
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as e:
        return errno.errorcode.get(e.errno or 0, str(e))
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    return None


def _fill(path: Path) -> None:
    """Take all the room there is; flushed first, since what waits to be written has room reserved."""
    flush()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        chunk, size = 1 << 30, 0
        while chunk >= _BLOCK:
            try:
                os.posix_fallocate(fd, size, chunk)
                size += chunk
            except OSError as e:
                if e.errno != errno.ENOSPC:
                    raise
                size = os.fstat(fd).st_size  # it may have got some of it
                chunk //= 2
    finally:
        os.close(fd)


def flush() -> None:
    """Have all that was written on the disk."""
    fd = os.open(ROOT, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"syncfs {ROOT}: {os.strerror(number)}")
    finally:
        os.close(fd)


def plant(name: str) -> dict[str, bool]:
    """Write a file that is not synced; returns what `planted` finds.

    The one that is synced was written when the disk was made: a sync now would commit the journal, and with
    it what the system under test forgot to sync.
    """
    (Path(ROOT) / name).write_text(name)
    return planted(name)


def planted(name: str) -> dict[str, bool]:
    """Which of the two hold what was written to them."""
    found = {}
    for kind, file in (("synced", _SYNCED), ("unsynced", name)):
        try:
            found[kind] = (Path(ROOT) / file).read_text(errors="replace") == file
        except OSError:
            found[kind] = False
    return found


# What the host has, and what is left on it.


def refusal() -> str | None:
    """Why there can be no such disk here as far as one sees without making one, or None."""
    if userns.lonely() is not None:
        return (
            "loop devices belong to the host's root alone; run as root (sudo), or use kill, which loses what"
            " was in memory but not what was written and never synced"
        )
    if shutil.which("mkfs.ext4", path=_path()) is None:
        return "the command mkfs.ext4 is missing; install e2fsprogs, or use kill"
    try:
        os.close(os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC))
    except OSError as e:
        return f"there are no loop devices here (/dev/loop-control: {e.strerror}); modprobe loop, or use kill"
    return None


def probe() -> str | None:
    """Why there can be no such disk here, or None; makes a small one, mounts it and removes it."""
    if (reason := refusal()) is not None:
        return reason
    try:
        with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
            disk = Disk(Path(folder) / f"{PREFIX}probe.img", _smallest_mb)
            try:
                os.close(disk.mount())
            finally:
                disk.close()
    except (OSError, subprocess.SubprocessError) as e:
        return f"an ext4 file system behind a loop device cannot be had here ({e}); use kill"
    return None


def devices(image: str) -> list[str]:
    """The loop devices behind which a file of this name stands, also one that was removed since."""
    found = []
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # it has just gone
            backing = path.read_text().strip().removesuffix(" (deleted)")
            if Path(backing).name == image or (image == "" and Path(backing).name.startswith(PREFIX)):
                found.append(f"/dev/{path.parent.parent.name}")
    return sorted(found)


def image_of(run: str) -> str:
    """The name of the image of each node of a run."""
    return f"{PREFIX}{run}.img"


def detach(run: str) -> None:
    """Let go of the devices of a run of which nobody is left.

    Raises: OSError for one that is still there.
    """
    deadline = time.monotonic() + _patience_s
    while found := devices(image_of(run)):
        for device in found:
            with contextlib.suppress(OSError):
                fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    fcntl.ioctl(fd, _LOOP_CLR_FD, 0)
                finally:
                    os.close(fd)
        if time.monotonic() > deadline:
            raise OSError(f"{', '.join(found)} of run {run} cannot be detached: still mounted somewhere")
        time.sleep(0.01)


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"  # an ordinary path leaves them out


def _format(image: Path, megabytes: int) -> None:
    program = shutil.which("mkfs.ext4", path=_path())
    if program is None:
        raise OSError("the command mkfs.ext4 is missing; install e2fsprogs")
    with image.open("xb") as file:
        file.truncate(megabytes << 20)
    done = subprocess.run(
        [program, "-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=1", str(image)],
        capture_output=True,
        text=True,
        timeout=_mkfs_s,
        check=False,
    )
    if done.returncode:
        raise OSError(f"mkfs.ext4 refused: {' '.join(done.stderr.split())}")


def _attach(image: Path) -> tuple[str, int]:
    """A loop device for `image`, and a descriptor that keeps it."""
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    backing = os.open(image, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_tries):
            device = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            fd = os.open(device, os.O_RDWR | os.O_CLOEXEC)
            name = str(image).encode()[-63:]
            config = _LOOP_CONFIG.pack(
                backing, 0, 0, 0, 0, 0, 0, 0, 0, 0, _LO_FLAGS_AUTOCLEAR, name, b"", b"", 0, 0
            )
            try:
                fcntl.ioctl(fd, _LOOP_CONFIGURE, config)
            except OSError as e:
                os.close(fd)
                if e.errno != errno.EBUSY:
                    raise
            else:
                return device, fd
    finally:
        os.close(backing)
        os.close(control)
    raise OSError(f"no loop device was free in {_tries} tries")


def _fsmount(device: str) -> int:
    fs = _call(_SYS_FSOPEN, b"ext4", _CLOEXEC, what="fsopen ext4")
    try:
        _call(_SYS_FSCONFIG, fs, _FSCONFIG_SET_STRING, b"source", device.encode(), 0, what=f"source {device}")
        _call(_SYS_FSCONFIG, fs, _FSCONFIG_CMD_CREATE, None, None, 0, what=f"mount ext4 of {device}")
        return _call(_SYS_FSMOUNT, fs, _CLOEXEC, 0, what=f"fsmount {device}")
    finally:
        os.close(fs)


def _unmount(path: str) -> None:
    """A process that has just been killed may hold its files a moment longer than its pid."""
    deadline = time.monotonic() + _patience_s
    while _libc.umount2(path.encode(), ctypes.c_int(_UMOUNT_NOFOLLOW)) < 0:
        number = ctypes.get_errno()
        if number != errno.EBUSY or time.monotonic() > deadline:
            raise OSError(number, f"umount {path}: {os.strerror(number)}")
        time.sleep(0.001)


def _call(number: int, *arguments: object, what: str) -> int:
    ready = [ctypes.c_int(a) if isinstance(a, int) else a for a in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *ready))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result
