"""The agent's door on a host: started over SSH as `python3 -I -S remote.py splitbrain-RUN HOME [HOW]`.

Requests come on standard input and answers go to standard output, a line of JSON each; HOME is the run's folder
on this host. When the input ends, so has the harness, or the way to it: see `clusters.agent.host`. Without root
(`rootless`) it goes on in a user namespace of its own.

Other doors lead to a run that has an agent already: `heal` takes away what it has left and says what stayed,
`stands` says what is there, and `enter TERM STREAMS SIZE CMD...` runs a command inside the node
(`clusters.agent.inside`).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[2]))  # last: the standard library comes first

from clusters.agent import host, inside, leaving
from clusters.agent.house import Refusal
from clusters.means import enclosure, kernel, userns

_read: int = 1 << 16


class Ended(OSError):
    """Nobody is at the other end any more."""


class Lines:
    """One end of a way on which lines of JSON go."""

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self._sink = sink
        self._buffer = b""

    def requests(self) -> list[dict[str, Any]]:
        """What can be read now. Raises: Ended."""
        data = os.read(self.source, _read)
        if not data:
            raise Ended
        *whole, self._buffer = (self._buffer + data).split(b"\n")
        return [json.loads(line) for line in whole]

    def send(self, message: dict[str, Any]) -> None:
        """Raises: Ended."""
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._sink, data) :]
        except OSError as e:
            raise Ended from e


def main(home: Path) -> None:
    """Serve until told to close, or ended by `heal`."""
    lines = Lines(0, os.dup(1))
    os.chdir("/")
    home.mkdir(parents=True, exist_ok=True)
    log = os.open(home / "agent.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    waker, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    estate = host.HostEstate()
    selector = selectors.DefaultSelector()
    selector.register(lines.source, selectors.EVENT_READ)
    selector.register(waker, selectors.EVENT_READ)
    lines.send({"hello": os.getpid()})
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        while estate.open and not asked:
            for key, _events in selector.select(estate.tick()):
                if key.fd == waker:
                    with contextlib.suppress(BlockingIOError):
                        os.read(waker, 4096)
                    estate.reap()
                    continue
                try:
                    for request in lines.requests():
                        answer(lines, estate, request)
                except Ended:
                    selector.unregister(lines.source)
                    estate.hang_up()
    finally:
        estate.close()


def rootless(home: Path) -> None:
    """The same as an ordinary user: in a user namespace, and a PID namespace that is its own, since none other can
    be gone back to. This process stays outside, and ends as the other does."""
    if (refused := enclosure.rehearse()) is not None:
        sys.exit(userns.refusal(refused, userns.settings()))
    userns.enter(kernel.CLONE_NEWPID)
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        try:
            kernel.die_with_parent()
            enclosure.own_mounts()
            main(home)
        except BaseException:  # noqa: BLE001 - whatever it is, it must not run on as the process outside
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)
    leaving.note_pid(home, child)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.waitpid(child, 0)


def answer(lines: Lines, estate: host.HostEstate, request: dict[str, Any]) -> None:
    """Answer one request, as `main.serve` does."""
    number = request.pop("id")
    try:
        result, _fds = estate.do(request)
    except Refusal as e:
        lines.send({"id": number, "error": str(e), "kind": e.kind})
    except OSError as e:
        where = f": {e.filename}" if e.filename else ""
        lines.send({"id": number, "error": f"{e.strerror or e}{where}", "kind": "agent"})
    except Exception as e:  # noqa: BLE001 - the controller says it to the user, the log has the place
        traceback.print_exc()
        lines.send({"id": number, "error": f"{type(e).__name__}: {e}", "kind": "agent"})
    else:
        lines.send({"id": number, "result": result})


if __name__ == "__main__":
    run, home, *how = sys.argv[1].removeprefix("splitbrain-"), Path(sys.argv[2]), *sys.argv[3:]
    if how[:1] == ["heal"]:
        print(json.dumps(leaving.heal(run, home)))
    elif how[:1] == ["stands"]:
        print(inside.stands(home))
    elif how[:1] == ["enter"]:
        term, streams, size, *argv = how[1:]
        sys.exit(inside.enter(home, term, streams, size, argv))
    elif how == ["rootless"]:
        rootless(home)
    else:
        leaving.note_pid(home, os.getpid())
        main(home)
