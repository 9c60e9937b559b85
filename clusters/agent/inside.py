"""Going into a host's node: a command beside its processes, for `splitbrain exec`.

Whoever comes has an SSH connection of his own, and the run's agent has no part in it. The command is in the node's
namespaces, so it sees the processes, mounts, and host name that they see; it has the standard streams of that
connection, which are a terminal, or none. Where only some of them are one at the other end, those are a terminal that
is made here, and what goes past it stays apart. The command ends with the node, or when nobody is at the other end
any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import sys
import termios
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from clusters.agent import leaving
from clusters.agent.node import ENV
from clusters.means import kernel, procfs

_kinds: Final = {  # in the order in which they are entered
    "user": kernel.CLONE_NEWUSER,
    "net": kernel.CLONE_NEWNET,
    "uts": kernel.CLONE_NEWUTS,
    "pid": kernel.CLONE_NEWPID,
    "mnt": kernel.CLONE_NEWNS,
}
_piece: Final = 1 << 15
_rest_s: Final = 1.0  # for what is still to be shown, from whoever a command leaves behind
_ignored: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


def stands(home: Path) -> str:
    """What there is of a run whose folder is `home`: `node`, one that can be entered; `agent`, which has made no node
    (yet); `rest`, of which nobody lives any more; `nothing`."""
    if not home.is_dir():
        return "nothing"
    agent = leaving.agent_of(home)
    found = procfs.same(*agent) if agent is not None else None
    if found is None or found.state in "ZX":
        return "rest"
    return "agent" if leaving.node_of(home) is None else "node"


def enter(home: Path, term: str, streams: str, size: str, argv: Sequence[str]) -> int:
    """Run a command inside the node, to its end; `term` is the kind of terminal it has, empty for none. Of its
    `streams`, such as `02`, one of ROWSxCOLUMNS is made here; with none it is that of the connection.

    Returns its exit code; as a shell would, 128 + N for signal N, 127 for a command that is not there, and 126 for
    one that cannot be executed.
    """
    pid = leaving.node_of(home)
    if pid is None:
        sys.exit("splitbrain: the node has just ended")
    env = {**ENV, **({"TERM": term} if term else {})}
    if not streams:
        return _beside(pid, argv, env, alone=not term)
    ours, theirs = pty.openpty()
    rows, _, columns = size.partition("x")
    termios.tcsetwinsize(ours, (int(rows), int(columns)))
    inner = os.fork()  # who is to have children in another PID namespace can have no threads
    if inner == 0:
        os.close(ours)
        os._exit(_beside(pid, argv, env, alone=True, terminal=theirs, streams=streams))
    os.close(theirs)
    threading.Thread(target=_type, args=(ours,), daemon=True).start()
    shows = threading.Thread(target=_show, args=(ours, int(streams[-1])), daemon=True)
    shows.start()
    code = _exit_code(inner)
    shows.join(_rest_s)
    return code


def _beside(
    pid: int, argv: Sequence[str], env: dict[str, str], *, alone: bool, terminal: int = -1, streams: str = ""
) -> int:
    """Run a command in the namespaces of `pid`; `alone`, it has a session of its own."""
    _go(pid)
    for number in _ignored:  # a terminal sends them to the command as well, which they are for
        signal.signal(number, signal.SIG_IGN)
    child = os.fork()
    if child == 0:
        _become(argv, env, alone=alone, terminal=terminal, streams=streams)
    if streams:
        os.close(terminal)
    return _await(child, -child if alone else child)


def _go(pid: int) -> None:
    """Enter those namespaces of a process that are not ours."""
    fds = {kind: os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in _kinds}
    for kind, fd in fds.items():
        if os.fstat(fd).st_ino != Path(f"/proc/self/ns/{kind}").stat().st_ino:
            kernel.setns(fd, _kinds[kind])
    os.chdir("/")


def _become(
    argv: Sequence[str], env: dict[str, str], *, alone: bool, terminal: int, streams: str
) -> NoReturn:
    code = 126
    try:
        kernel.die_with_parent(signal.SIGHUP)
        if alone:
            os.setsid()
        if streams:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        for stream in streams:
            os.dup2(terminal, int(stream))
        for number in (*_ignored, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(argv[0], [*argv], env)  # noqa: S606 - a shell is what we do without
    except OSError as e:
        code = 127 if isinstance(e, FileNotFoundError) else 126
        os.write(2, f"splitbrain: cannot run {argv[0]!r} in the node: {e.strerror or e}\n".encode())
    finally:
        os._exit(code)


def _type(terminal: int) -> None:
    """Pass on what is typed; its end, as it is typed."""
    with contextlib.suppress(OSError):
        while data := os.read(0, _piece):
            _write(terminal, data)
        _write(terminal, b"\4")


def _show(terminal: int, where: int) -> None:
    """Pass on what a terminal shows, until nobody has it open any more. Where stdin alone is one, nobody sees it."""
    with contextlib.suppress(OSError):
        while data := os.read(terminal, _piece):
            if where:
                _write(where, data)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _await(child: int, whom: int) -> int:
    """The exit code of `child`. When nobody reads what it writes any more, `whom` (a group, if negative) is told as
    by a terminal that is hung up."""
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(1, 0)  # for errors alone
    while ended not in (which := [fd for fd, _events in poll.poll()]):
        poll.unregister(which[0])
        for number in (signal.SIGHUP, signal.SIGCONT):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(-whom, number) if whom < 0 else os.kill(whom, number)
    return _exit_code(child)


def _exit_code(child: int) -> int:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return 128 - code if code < 0 else code
