"""A node's init: process 1 of the node's own PID namespace, with mounts and a host name of its own.

It starts the system's processes when told to, reaps, reports how they ended, and outlives them, so
that killing a system never takes the node's namespaces along. When it ends, the kernel ends
everything on the node; it ends with the agent (parent-death signal, end of its socket).

What a node sees of the host is read-only; /run, /tmp and /dev/shm are empty and its own. It writes
to its data directory, and to its logs through descriptors that the agent opened.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

from clusters.means import kernel, procfs, tracing

LARGEST: Final = 4 << 20  # bytes of what says how to start a process, the text of its files included
_exec_s: Final = 10.0
ENV: Final = {  # of whatever runs on a node, before what it asks for itself
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
}
_own: Final = ("/run", "/tmp", "/dev/shm")
_hosts: Final = "/run/splitbrain/hosts"


def main(sock: socket.socket, settle: Callable[[], None]) -> NoReturn:
    """Be the init of a node. Never returns. `settle` makes the place ready, and may raise OSError."""
    try:
        kernel.die_with_parent()
        _only(sock)
        _spare()
        Init(sock).live(settle)
    except BaseException:  # noqa: BLE001 - whatever it is, it must not run on into the agent's code
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(1)


def _spare() -> None:
    """Have the kernel, should the node run out of memory, end whatever runs here but not its init."""
    with contextlib.suppress(OSError):  # that is root's to say
        Path("/proc/self/oom_score_adj").write_text("-1000")


def furnish(setup: dict[str, Any]) -> None:
    """Make the mounts of this node, in namespaces that have been unshared already.

    `setup`: `name`, `data` (a directory of the host) and `data_dir` (where the node sees it),
    `mounts` (host path -> node path, read-only), `hosts` (the text of /etc/hosts). Order matters:
    sources are opened before they are masked.

    Raises: OSError naming the path.
    """
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    sources = {target: os.open(path, os.O_PATH | os.O_CLOEXEC) for path, target in setup["mounts"].items()}
    data = os.open(setup["data"], os.O_PATH | os.O_CLOEXEC)
    kernel.seal()
    for path in _own:
        if Path(path).is_dir():
            kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")
    _bind(data, setup["data_dir"], writable=True)
    for target, source in sources.items():
        _bind(source, target, writable=False)
    Path(_hosts).write_text(setup["hosts"])
    if Path("/etc/hosts").is_file():
        kernel.mount(_hosts, "/etc/hosts", None, kernel.MS_BIND)
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    socket.sethostname(setup["name"])
    os.chdir("/")


def _bind(source: int, target: str, *, writable: bool) -> None:
    directory = Path(f"/proc/self/fd/{source}").is_dir()
    if not Path(target).exists():
        if not target.startswith(("/run/", "/tmp/")):
            raise OSError(
                f"cannot mount on {target}: it does not exist, and only /run and /tmp can be added to"
            )
        parent = Path(target) if directory else Path(target).parent
        parent.mkdir(parents=True, exist_ok=True)
        if not directory:
            Path(target).touch()
    kernel.mount(f"/proc/self/fd/{source}", target, None, kernel.MS_BIND)
    # a bind takes over the flags of its source, which has just been sealed
    kept = os.statvfs(target).f_flag & (kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    access = 0 if writable else kernel.MS_RDONLY
    kernel.mount("none", target, None, kernel.MS_REMOUNT | kernel.MS_BIND | kept | access)
    os.close(source)


def _only(sock: socket.socket) -> None:
    """Let go of every descriptor that was the agent's, so that their other ends see it end."""
    for name in list(Path("/proc/self/fd").iterdir()):
        fd = int(name.name)
        if fd > 2 and fd != sock.fileno():
            with contextlib.suppress(OSError):  # the listing's own descriptor is in the list
                os.close(fd)


class Init:
    """The loop: start on command, reap, report."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._running: set[int] = set()  # pids, as this namespace has them

    def live(self, settle: Callable[[], None]) -> NoReturn:
        """Settle in, then serve until the agent is gone."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        waker, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            settle()
        except OSError as e:
            self._say({"error": str(e)})
            os._exit(1)
        self._say({"ready": True})
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(waker, select.POLLIN)
        while True:
            for fd, _event in poll.poll():
                if fd == waker:
                    with contextlib.suppress(BlockingIOError):
                        os.read(waker, 4096)
                    self._reap()
                else:
                    self._obey()

    def _obey(self) -> None:
        message, fds, _flags, _address = socket.recv_fds(self._sock, 4096, 4)
        if not message:
            os._exit(0)  # the agent is gone; the kernel ends whatever runs here
        spec, log = fds
        with os.fdopen(spec, "rb") as text:
            text.seek(0)
            wanted = json.load(text)
        self._start(wanted, log)

    def _say(self, message: dict[str, Any]) -> None:
        self._sock.send(json.dumps(message).encode())

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._running:
                self._running.discard(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)  # what it left behind goes with it
                self._say({"exited": pid, "code": os.waitstatus_to_exitcode(status)})

    def _start(self, spec: dict[str, Any], log: int) -> None:
        """Start one process; an answer comes when it has been executed, or could not be."""
        try:
            user = _prepare(spec)
        except (OSError, LookupError) as e:
            os.close(log)
            self._say({"failed": str(e), "stage": "prepare"})
            return
        told, tells = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            self._execute(spec, user, log, tells)
        os.close(tells)
        os.close(log)
        in_time = bool(select.select([told], [], [], _exec_s)[0])
        error = os.read(told, 4096).decode() if in_time else f"not executed within {_exec_s:g} s"
        os.close(told)
        if error:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self._say({"failed": error, "stage": "exec"})
        else:
            self._running.add(pid)
            self._say({"started": pid})

    def _execute(self, spec: dict[str, Any], user: tuple[int, int] | None, log: int, tells: int) -> NoReturn:
        """The child: become the process. Its first act tells the agent its pid: the kernel puts the
        sender's, as the receiver's namespace has it, beside every message."""
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            with contextlib.suppress(OSError):  # nobody spared us
                Path("/proc/self/oom_score_adj").write_text("0")
            if spec["held"]:
                tracing.expect_tracer()
            self._say({"hello": os.getpid(), "start": procfs.own_start()})
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if user is not None:
                os.initgroups(spec["user"], user[1])
                os.setgid(user[1])
                os.setuid(user[0])
            env = {**ENV, **spec["env"]}
            if spec["held"]:
                tracing.await_tracer()
            os.execvpe(spec["argv"][0], spec["argv"], env)  # noqa: S606 - a shell is what we do without
        except OSError as e:
            os.write(tells, (e.strerror or str(e)).encode())
        except BaseException as e:  # noqa: BLE001 - a forked child must never return
            os.write(tells, repr(e).encode())
        os._exit(127)


def _prepare(spec: dict[str, Any]) -> tuple[int, int] | None:
    """Make a process's directories and files; returns its user and group, None for our own."""
    user = None
    if spec["user"] is not None:
        import pwd

        try:
            entry = pwd.getpwnam(spec["user"])
        except KeyError:
            raise LookupError(f"there is no user {spec['user']!r} on this host") from None
        user = (entry.pw_uid, entry.pw_gid)
        os.chown(spec["data_dir"], *user)
    for path in spec["dirs"]:
        Path(path).mkdir(parents=True, exist_ok=True)
        if user is not None:
            os.chown(path, *user)
    for path, text in spec["files"].items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            Path(path).write_text(text)
        except OSError as e:  # a full disk is met while writing, where the error names no file
            raise OSError(f"{path}: {e.strerror}") from None
        if user is not None:
            os.chown(path, *user)
    return user
