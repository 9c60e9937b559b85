"""Who runs campaigns by night is told: of a new finding, of a canary that was not found, of a night that did
not happen.

A command gets the event as one JSON object on stdin; a webhook gets it as the body of a POST, with a `text`
that chat services show. Neither may hold the campaign up for more than `LIMIT_S`, and one that fails is said,
never passed over.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from splitbrain.campaign.spec import Notify

LIMIT_S: Final = 20.0


def tell(notify: Notify, event: str, text: str, more: Mapping[str, Any]) -> list[str]:
    """Tell everyone; one sentence for each that could not be told."""
    body = json.dumps({"format": 1, "event": event, "text": text, **more}, ensure_ascii=False).encode()
    problems = []
    if notify.command:
        problems.append(_command(notify.command, event, body))
    address = notify.webhook
    if notify.webhook_env is not None:
        address = os.environ.get(notify.webhook_env)
        if not address:
            problems.append(
                f"nobody was told of {event}: {notify.webhook_env} is not set, and `webhook-env` names it"
            )
    if address:
        problems.append(_webhook(address, event, body))
    return [p for p in problems if p]


def _command(words: tuple[str, ...], event: str, body: bytes) -> str:
    try:
        done = subprocess.run(
            words,
            input=body,
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
            env={**os.environ, "SPLITBRAIN_EVENT": event},
        )
    except subprocess.TimeoutExpired:
        return f"the command of [notify] did not end within {LIMIT_S:g} s, and was killed: {words[0]}"
    except OSError as e:
        return f"the command of [notify] cannot be started: {words[0]}: {e.strerror}"
    if done.returncode == 0:
        return ""
    last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
    return f"the command of [notify] ended with {done.returncode}: {last[0][:200]}"


def _webhook(address: str, event: str, body: bytes) -> str:
    if not address.startswith(("http://", "https://")):
        return f"nobody was told of {event}: the webhook's address begins with neither http:// nor https://"
    request = urllib.request.Request(  # noqa: S310 - checked above
        address, data=body, headers={"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=LIMIT_S):  # noqa: S310 - checked above
            return ""
    except (OSError, ValueError) as e:  # the address may hold a secret: it is not said
        return (
            f"the webhook of [notify] could not be reached: {getattr(e, 'reason', None) or type(e).__name__}"
        )
