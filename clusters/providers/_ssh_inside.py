"""A command inside a node on a host, for `splitbrain exec`: what is typed goes there, what it says comes here.

The connection is one of its own, and the run's harness has no part in it: it may work, wait, or be gone. What is
done on the host is in `clusters.agent.inside`.
"""

from __future__ import annotations

import contextlib
import os
import select
import termios
import threading
import time
import tty
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from clusters.providers._ssh_host import Host
from clusters.providers._ssh_link import Link
from harness.core.errors import InfrastructureError, UsageError

if TYPE_CHECKING:
    import paramiko

_piece: Final = 1 << 15
_look_s: Final = 0.25  # whether the terminal has another size now
_knock_s: Final = 5.0
_lost_s: Final = 30.0  # without a sign of the host
_rest_s: Final = 5.0  # for output, from what a command has left behind that has ended


def execute(host: Host, run: str, argv: Sequence[str]) -> int:
    """Run `argv` inside the node of `host`, which is connected to; its exit code.

    It has our standard streams, and where stdin is a terminal, it has one: for each of them that is one.

    Raises: UsageError where nothing of the run can be entered; InfrastructureError, MissingCapability.
    """
    host.look(room=False)
    stands = host.stands(run)
    if stands != "node":
        raise UsageError(f"run {run} {_nothing[stands]} on {host.link.says}; {_next[stands].format(run=run)}")
    streams = "".join(str(fd) for fd in range(3) if os.isatty(fd))
    kind = (os.environ.get("TERM") or "dumb") if "0" in streams else ""
    size = os.get_terminal_size(0) if kind else os.terminal_size((0, 0))
    whole = streams == "012"  # then all of them go through the connection's own; else some have to stay apart
    own = "" if whole or not kind else streams
    command = host.command(run, "enter", kind, own, f"{size.lines}x{size.columns}", *argv)
    channel = host.link.start(command, terminal=(kind, size) if whole else None)
    try:
        with _raw() if kind else contextlib.nullcontext():
            _carry(channel, host.link, size if whole else None)
        code = channel.recv_exit_status() if channel.exit_status_ready() else -1
    finally:
        channel.close()
    if code < 0:
        why = "it has been cut off there" if host.link.alive else "the connection is gone"
        raise InfrastructureError(f"{host.link.says}: what became of the command is not known: {why}")
    return code


_nothing: Final = {
    "nothing": "has nothing",
    "agent": "has made no node yet",
    "rest": "has no node that works any more",
}
_next: Final = {
    "nothing": "it is over there",
    "agent": "wait until it has begun",
    "rest": "its time was over, or that host was started anew; `splitbrain heal {run}` takes away what is left",
}


@contextlib.contextmanager
def _raw() -> Iterator[None]:
    """Have our terminal hand over every key as it is: what they mean is up to the one over there."""
    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _carry(channel: paramiko.Channel, link: Link, size: os.terminal_size | None) -> None:
    """Pass on until the command has ended and all that it said is here, or the channel is gone.

    Raises: InfrastructureError when nothing at all is heard of the host any more.
    """
    heard = [time.monotonic()]
    threading.Thread(target=_feed, args=(channel,), name="splitbrain-input", daemon=True).start()
    threading.Thread(target=_knock, args=(link, heard), name="splitbrain-knock", daemon=True).start()
    said = time.monotonic()
    while not channel.eof_received and not channel.closed:
        select.select([channel], [], [], _look_s)
        now = time.monotonic()
        if _pass_on(channel):
            said = heard[0] = now
        elif channel.exit_status_ready() and now > said + _rest_s:
            return
        if size is not None and (now_is := os.get_terminal_size(0)) != size:
            size = now_is
            channel.resize_pty(*size)
        _or_lost(link, heard[0])
    _pass_on(channel)
    while not channel.status_event.wait(_look_s):  # it has closed its output and goes on
        _or_lost(link, heard[0])


def _pass_on(channel: paramiko.Channel) -> bool:
    """Write out what has come; whether anything has."""
    some = False
    for fd, ready, take in (
        (1, channel.recv_ready, channel.recv),
        (2, channel.recv_stderr_ready, channel.recv_stderr),
    ):
        while ready() and (data := take(_piece)):
            some = True
            while data:
                data = data[os.write(fd, data) :]
    return some


def _feed(channel: paramiko.Channel) -> None:
    """Pass on what comes in; its end, too."""
    import paramiko

    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):  # nobody takes it any more
        with contextlib.suppress(OSError):  # an input that is closed, or cannot be read, has ended
            while data := os.read(0, _piece):
                channel.sendall(data)
        channel.shutdown_write()


def _knock(link: Link, heard: list[float]) -> None:
    """Ask for a sign of the host again and again, also behind hosts that are jumped over, and note when it came."""
    while link.alive:
        link.knock()
        heard[0] = time.monotonic()
        time.sleep(_knock_s)


def _or_lost(link: Link, heard: float) -> None:
    if time.monotonic() > heard + _lost_s:
        raise InfrastructureError(
            f"{link.says}: nothing was heard of the host for {_lost_s:g} s; is it up, and its network?"
        )
