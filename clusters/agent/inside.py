"""Going into a host's node: a command beside its processes, for `splitbrain exec`.

Whoever comes has an SSH connection of his own, and the run's agent has no part in it. The command is in the node's
namespaces, so it sees the processes, mounts, and host name that they see; it has the standard streams of that
connection, and a terminal where those are one. It ends with the node, or when nobody is at the other end any more.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
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


def enter(home: Path, term: str, argv: Sequence[str]) -> int:
    """Run a command inside the node, to its end; `term` is the kind of terminal it has, empty for none.

    Returns its exit code; as a shell would, 128 + N for signal N, 127 for a command that is not there, and 126 for
    one that cannot be executed.
    """
    pid = leaving.node_of(home)
    if pid is None:
        sys.exit("splitbrain: the node has just ended")
    fds = {kind: os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in _kinds}
    for kind, fd in fds.items():
        if os.fstat(fd).st_ino != Path(f"/proc/self/ns/{kind}").stat().st_ino:
            kernel.setns(fd, _kinds[kind])
    for number in _ignored:  # a terminal sends them to the command as well, which they are for
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    child = os.fork()
    if child == 0:
        _become(argv, {**ENV, **({"TERM": term} if term else {})}, alone=not term)
    return _await(child, -child if not term else child)


def _become(argv: Sequence[str], env: dict[str, str], *, alone: bool) -> NoReturn:
    code = 126
    try:
        kernel.die_with_parent(signal.SIGHUP)
        if alone:
            os.setsid()
        for number in (*_ignored, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        os.execvpe(argv[0], [*argv], env)  # noqa: S606 - a shell is what we do without
    except FileNotFoundError as e:
        code = 127
        os.write(2, f"splitbrain: cannot run {argv[0]!r} in the node: {e.strerror}\n".encode())
    except OSError as e:
        os.write(2, f"splitbrain: cannot run {argv[0]!r} in the node: {e.strerror or e}\n".encode())
    finally:
        os._exit(code)


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
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return 128 - code if code < 0 else code
