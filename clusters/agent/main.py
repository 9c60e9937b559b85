"""The agent's door: started as `python -I -S main.py splitbrain-RUN FD CONTROLLER_PID [containers]`.

FD is one end of a socket pair whose other end the controller has; see `channel`. The process serves
requests one after the other, and ends, taking everything along that it made, when the other end
closes or its parent dies. With `containers` the nodes are those that a Docker daemon made.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import traceback
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))  # last: the standard library comes first

from clusters.agent.atrest import AtRest
from clusters.agent.channel import Channel, Closed
from clusters.agent.estate import Estate
from clusters.agent.house import Refusal
from clusters.means import kernel


def main(fd: int, controller: int, *, containers: bool) -> None:
    """Serve until the controller is gone or says `close`."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    waker, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    kernel.die_with_parent(signal.SIGTERM)
    channel = Channel(socket.socket(fileno=fd))
    if containers:
        from clusters.agent.containers import Containers

        estate: Estate = Containers()
    else:
        estate = AtRest()
    selector = selectors.DefaultSelector()
    selector.register(channel.sock, selectors.EVENT_READ)
    selector.register(waker, selectors.EVENT_READ)
    try:
        # a parent-death signal follows the thread that forked; only the process counts
        while os.getppid() == controller and estate.open:
            for key, _events in selector.select(estate.tick()):
                if key.fd == waker:
                    with contextlib.suppress(BlockingIOError):
                        os.read(waker, 4096)
                    estate.reap()
                else:
                    serve(channel, estate)
                    while channel.waiting and estate.open:
                        serve(channel, estate)
    except Closed:
        pass
    finally:
        estate.close()


def serve(channel: Channel, estate: Estate) -> None:
    """Answer one request: `{"id", "op", ...}` with `{"id", "result"}`, or `{"id", "error", "kind"}`."""
    request, _fds = channel.receive(timeout_s=10.0)
    number = request.pop("id")
    try:
        result, fds = estate.do(request)
    except Refusal as e:
        channel.send({"id": number, "error": str(e), "kind": e.kind})
    except Exception as e:  # noqa: BLE001 - the controller says it to the user, the log has the place
        traceback.print_exc()
        channel.send({"id": number, "error": f"{type(e).__name__}: {e}", "kind": "agent"})
    else:
        channel.send({"id": number, "result": result}, fds)


if __name__ == "__main__":
    main(int(sys.argv[2]), int(sys.argv[3]), containers="containers" in sys.argv[4:])
