"""A run's own PID and mount namespace, so that the end of one small init ends everything below it.

Three processes. The *launcher* is the process that called `enclose`: it waits, forwards signals,
and ends as the run ended. The *init* is process 1 of the new namespace: it reaps, forwards, and
dies with the launcher. The *controller* is its child, in which `enclose` returns.

What lies below the launcher is in a session of its own, so that a terminal's Ctrl-C reaches the
launcher alone and arrives at the controller once. See pid_namespaces(7).

An ordinary user gets a user namespace as well, and all three are in it. It cannot be left again, so
what may be refused is rehearsed by a child first.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

from clusters.means import kernel, userns

_forwarded: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_grace_s: Final = 5.0  # for what is left when the controller has ended: the agent removes what has a name


def enclose() -> None:
    """Go on in a child, in namespaces of its own; returns in that child only.

    Raises: OSError when this cannot be; then everything is as it was before.
    """
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise OSError("the run's process has threads already; it must be enclosed before any is started")
    sys.stdout.flush()
    sys.stderr.flush()
    ordinary = not userns.privileged()
    if ordinary and (refused := rehearse()) is not None:
        raise refused
    # a signal that is ignored (nohup, a shell's background job) stays ignored
    watched = {n for n in _forwarded if signal.getsignal(n) is not signal.SIG_IGN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched | {signal.SIGCHLD})
    here = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    launcher = os.pidfd_open(os.getpid())
    told, tells = os.pipe()
    init, error = -1, b""
    try:
        if ordinary:
            userns.enter(kernel.CLONE_NEWPID)
        else:
            kernel.unshare(kernel.CLONE_NEWPID)
        init = os.fork()
    except OSError as e:
        error = str(e).encode()
    if init == 0:
        os.close(told)
        os.close(here)
        _init(launcher, tells, watched, before)
        return  # the controller
    os.close(tells)
    os.close(launcher)
    with os.fdopen(told, "rb") as pipe:
        error = error or pipe.read()
    if not error:
        os.close(here)
        _launcher(init, watched)
    with contextlib.suppress(OSError):  # refused to an ordinary user, who has rehearsed
        kernel.setns(here, kernel.CLONE_NEWPID)
    os.close(here)
    if init > 0:
        os.waitpid(init, 0)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    raise OSError(error.decode())


def _launcher(init: int, watched: set[signal.Signals]) -> NoReturn:
    while True:
        number = signal.sigwait(watched | {signal.SIGCHLD})
        if number != signal.SIGCHLD:
            _forward(init, number)
            continue
        pid, status = os.waitpid(init, os.WNOHANG)
        if pid == init:
            os._exit(_exit_status(status))


def _init(launcher: int, tells: int, watched: set[signal.Signals], mask: set[int | signal.Signals]) -> None:
    """Be process 1. Returns in its child, the controller, and nowhere else."""
    try:
        kernel.die_with_parent()
        if select.select([launcher], [], [], 0)[0]:  # a pidfd is readable once its process is dead
            os._exit(1)
        os.close(launcher)
        os.setsid()
        own_mounts()
        controller = os.fork()
    except OSError as e:
        os.write(tells, str(e).encode())
        os._exit(1)
    os.close(tells)
    if controller == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return
    while True:
        number = signal.sigwait(watched | {signal.SIGCHLD})
        if number != signal.SIGCHLD:
            _forward(controller, number)
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == controller:
                _let_end()
                os._exit(_exit_status(status))


def own_mounts() -> None:
    """Have a mount namespace, with the caller's own PID namespace at /proc."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


def rehearse() -> OSError | None:
    """Have a child do what `enclose` does for an ordinary user; what was refused, or None."""
    told, tells = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            userns.enter(kernel.CLONE_NEWPID)
            inner = os.fork()
            if inner:
                os.waitpid(inner, 0)
            else:
                own_mounts()
        except OSError as e:
            text = f"{e.filename}: {e.strerror}" if e.filename else e.strerror
            os.write(tells, json.dumps([e.errno, text]).encode())
        finally:
            os._exit(0)
    os.close(tells)
    with os.fdopen(told, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return OSError(*json.loads(said)) if said else None


def _let_end() -> None:
    """Ask what is left to end, and wait for it: the agent, if the controller did not close it."""
    try:
        os.kill(-1, signal.SIGTERM)
    except ProcessLookupError:
        return
    deadline = time.monotonic() + _grace_s
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.002)
        except ChildProcessError:
            return


def _forward(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended; its SIGCHLD is under way
        os.kill(pid, number)


def _exit_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code
