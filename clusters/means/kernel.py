"""The system calls that Python 3.11 has no name for: namespaces, mounts and parent-death signals.

Each raises `OSError` with the call and its main argument in the message. Numbers are those of the
kernel's uapi headers, the same on every 64-bit architecture that we run on.
"""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_REMOUNT: Final = 0x20
MS_BIND: Final = 0x1000
MS_REC: Final = 0x4000
MS_PRIVATE: Final = 0x40000

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_TIMERSLACK: Final = 29
_PR_CAPBSET_READ: Final = 23
_PR_CAPBSET_DROP: Final = 24
_PR_SET_CHILD_SUBREAPER: Final = 36
_SYS_MOUNT_SETATTR: Final = 442
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000
_MOUNT_ATTR_RDONLY: Final = 0x1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_char_p,
)


class _MountAttr(ctypes.Structure):
    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Give the calling thread namespaces of its own; `CLONE_NEWPID` acts on children born later."""
    _check(_libc.unshare(ctypes.c_int(flags)), f"unshare({flags:#x})")


def setns(fd: int, kind: int) -> None:
    """Move the calling *thread* into the namespace behind `fd`."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), f"setns({fd}, {kind:#x})")


def mount(source: str, target: str, kind: str | None, flags: int = 0, options: str | None = None) -> None:
    """Mount a file system of type `kind`; with None for it, bind, or change flags."""
    result = _libc.mount(
        source.encode(),
        os.fsencode(target),
        kind.encode() if kind else None,
        flags,
        options.encode() if options else None,
    )
    _check(result, f"mount {kind or 'bind'} on {target}")


def seal(path: str = "/") -> None:
    """Make every mount below `path` read-only, in this mount namespace alone.

    A kernel before 5.12 cannot do so for a tree; there only the mount of `path` itself is sealed.
    """
    attr = _MountAttr(attr_set=_MOUNT_ATTR_RDONLY)
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(path)),
        ctypes.c_uint(_AT_RECURSIVE),
        ctypes.byref(attr),
        ctypes.c_size_t(ctypes.sizeof(attr)),
    )
    if result < 0:
        mount("none", path, None, MS_REMOUNT | MS_BIND | MS_RDONLY)


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send `number` to this process when the *thread* that forked it ends.

    Nothing is sent if the parent is gone already: whoever calls this checks for that afterwards.
    """
    _check(_prctl(_PR_SET_PDEATHSIG, int(number)), "prctl(PR_SET_PDEATHSIG)")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _check(_prctl(_PR_SET_CHILD_SUBREAPER, 1), "prctl(PR_SET_CHILD_SUBREAPER)")


def sharp_timers() -> None:
    """Have the calling thread woken when its waits are over, not up to 50 us later."""
    _check(_prctl(_PR_SET_TIMERSLACK, 1), "prctl(PR_SET_TIMERSLACK)")


def limit_capabilities(kept: int) -> None:
    """Keep programs that are executed from now on, as root too, from every capability but those in
    the bit mask `kept`; the caller's own stay. See capabilities(7), "bounding set"."""
    number = 0
    while (there := _prctl(_PR_CAPBSET_READ, number)) >= 0:
        if there and not kept >> number & 1:
            _check(_prctl(_PR_CAPBSET_DROP, number), f"prctl(PR_CAPBSET_DROP, {number})")
        number += 1


def _prctl(what: int, value: int) -> int:
    zero = ctypes.c_ulong(0)
    return int(_libc.prctl(ctypes.c_int(what), ctypes.c_ulong(value), zero, zero, zero))
