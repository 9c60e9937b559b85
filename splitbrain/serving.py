"""The server of `results.web`, started and ended: for `splitbrain serve`, and for a report that `open` shows."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from harness.core.errors import UsageError
from results.web.guard import LEAST_TOKEN, is_loopback, new_token
from results.web.server import Server, Site
from splitbrain.alive import goes_on
from splitbrain.commands.app import Stopped
from splitbrain.talk import say

_everywhere = ("0.0.0.0", "::")


def serve_forever(root: Path, campaigns: Path, bind: str, port: int, token: str | None) -> int:
    """Serve until a signal; print the address on stdout. Returns the exit code of an interrupted command.

    Raises: UsageError for a root that is no folder or a token that is too short, InfrastructureError when it
    cannot listen there.
    """
    for folder, what in ((root, "runs, as --out of `splitbrain run` makes it"), (campaigns, "campaigns")):
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is no folder; expected one that holds {what}")
    if token is not None and (
        len(token) < LEAST_TOKEN
        or not token.isascii()
        or not token.replace("-", "").replace("_", "").isalnum()
    ):
        raise UsageError(
            f"a token of {len(token)} characters; expected {LEAST_TOKEN} or more letters, digits, - and _,"
            " or none: one is drawn where it is needed"
        )
    here = is_loopback(bind)
    if token is None and not here:
        token = new_token()
    server = Server(Site(root.absolute(), goes_on, campaigns.absolute()), bind, port, token)
    try:
        name = socket.gethostname() if bind in _everywhere else bind
        name = f"[{name}]" if ":" in name else name
        asked = "" if token is None else f"?token={token}"
        sys.stdout.write(f"http://{name}:{server.server_address[1]}/{asked}\n")
        sys.stdout.flush()
        if not root.is_dir():
            say(f"{root} does not exist yet; runs show as soon as there are any")
        if not here:
            say("what is served goes over the network as it is; through `ssh -L` it would be encrypted")
        say("Ctrl-C ends it")
        server.serve_forever(poll_interval=0.5)
    except Stopped:
        pass  # the way to end it
    finally:
        server.server_close()
    return 130


def serve_report(report: Path, show: Callable[[str], bool]) -> bool:
    """Serve one run's report, whose values stand beside it, on loopback; `show` is given its address and says whether a
    browser took it. If so it is served until a signal, else not at all. Returns what `show` said.

    Raises: InfrastructureError when it cannot listen.
    """
    run_dir = report.resolve().parent
    only = (run_dir.parent.name, run_dir.name)
    server = Server(Site(run_dir.parent.parent, goes_on, only=only), "127.0.0.1", 0, None)
    # In a thread: a browser of the terminal's stays in the foreground, and is answered meanwhile.
    answers = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True)
    answers.start()
    try:
        path = "/".join(quote(part, safe="") for part in ("file", *only, report.name))
        address = f"http://127.0.0.1:{server.server_address[1]}/{path}"
        with contextlib.suppress(Stopped):
            if not show(address):
                return False
            say(f"values of its operations stand beside this report: it is served at {address} until Ctrl-C")
            answers.join()
        return True
    finally:
        server.shutdown()
        server.server_close()
