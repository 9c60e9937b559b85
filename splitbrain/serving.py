"""`splitbrain serve`: the server of `results.web`, started and ended."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

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
