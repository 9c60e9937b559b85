"""Who runs campaigns by night is told: of a new finding, of a canary that was not found, of a night that did
not happen.

A command gets the event as one JSON object on stdin; a webhook gets it as the body of a POST, with a `text`
that chat services show. Each has `LIMIT_S` in all, name lookup and a server that answers byte by byte included. A
night is told by a `Teller`, on a thread of its own: who does not answer holds no cell up. Whatever goes
wrong is said in a sentence, and changes nothing of what was found.
"""

from __future__ import annotations

import contextlib
import http
import http.client
import json
import os
import queue
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from splitbrain import registry
from splitbrain.campaign.spec import Notify

LIMIT_S: Final = 20.0
FINISH_S: Final = 60.0  # at a night's end, for all that has not been told yet
_held: Final = 1000  # events that wait to be told


def new_finding(
    campaign: str, signature: str, report: str | None, run: str
) -> tuple[str, str, dict[str, Any]]:
    """The event of a new finding: its name, its text, and what else there is to tell."""
    text = f"new finding in campaign {campaign}: {signature}; report {report}"
    return "new-finding", text, {"signature": signature, "report": report, "run": run}


class Teller:
    """Tells one event after the other while the night goes on."""

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._waiting: queue.Queue[tuple[str, str, Mapping[str, Any]]] = queue.Queue(_held)
        self._problems: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def tell(self, event: str, text: str, more: Mapping[str, Any]) -> None:
        """Have everyone told, later; returns at once."""
        try:
            self._waiting.put_nowait((event, text, more))
        except queue.Full:
            self._problems.put(f"nobody was told of {event}: {_held} events wait to be told already")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="notify", daemon=True)
            self._thread.start()

    def problems(self) -> list[str]:
        """One sentence for each that could not be told since this was asked last."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._problems.get_nowait())
        return found

    def finish(self) -> list[str]:
        """Wait until everyone has been told, `FINISH_S` at most; the problems, and what nobody was told of."""
        deadline = time.monotonic() + FINISH_S
        while self._waiting.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.01)
        found = self.problems()
        with contextlib.suppress(queue.Empty):
            while True:
                event, text, _ = self._waiting.get_nowait()
                self._waiting.task_done()
                found.append(f"nobody was told of {event}, the night was over before: {text}")
        return found

    def _work(self) -> None:
        while True:
            event, text, more = self._waiting.get()
            try:
                for problem in tell(self._notify, event, text, more):
                    self._problems.put(problem)
            except Exception as e:  # noqa: BLE001 - said, and never the night's end
                self._problems.put(f"nobody was told of {event}: {type(e).__name__}: {e}")
            finally:
                self._waiting.task_done()


def tell(notify: Notify, event: str, text: str, more: Mapping[str, Any]) -> list[str]:
    """Tell everyone; one sentence for each that could not be told."""
    body = json.dumps({"format": 1, "event": event, "text": text, **more}, ensure_ascii=False).encode(
        "utf-8", "replace"
    )
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
    except ValueError as e:
        return f"the command of [notify] cannot be started: {e}"
    if done.returncode == 0:
        return ""
    last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
    return f"the command of [notify] ended with {done.returncode}: {last[0][:200]}"


def _webhook(address: str, event: str, body: bytes) -> str:
    """POST on a thread, which alone has an end whatever the server does. The address may hold a secret: it is not
    said, nor is what the server says, but for its status."""
    if not address.startswith(("http://", "https://")):
        return f"nobody was told of {event}: the webhook's address begins with neither http:// nor https://"
    came: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=lambda: came.put(_post(address, body)), name="webhook", daemon=True).start()
    try:
        problem = came.get(timeout=LIMIT_S)
    except queue.Empty:
        problem = _late()
    return f"the webhook of [notify] was not told of {event}: {problem}" if problem else ""


def _late() -> str:
    return f"it did not answer within {LIMIT_S:g} s"


class _Stay(urllib.request.HTTPRedirectHandler):
    """A POST that is led elsewhere would arrive there as a GET, without what it was to say."""

    def redirect_request(self, *_args: Any) -> None:
        """Go nowhere: the answer is the error that it is."""


def _post(address: str, body: bytes) -> str:
    """What went wrong; nothing of what an answer of 2xx took."""
    try:
        request = urllib.request.Request(  # noqa: S310 - checked above
            address,
            data=body,
            headers={"Content-Type": "application/json", "User-Agent": f"splitbrain/{registry.version()}"},
            method="POST",
        )
        with urllib.request.build_opener(_Stay).open(request, timeout=LIMIT_S):
            return ""
    except urllib.error.HTTPError as e:
        with contextlib.suppress(ValueError):
            phrase = f" {http.HTTPStatus(e.code).phrase}"
            more = "; give the address that this one leads to" if 300 <= e.code < 400 else ""
            return f"it answered {e.code}{phrase}{more}"
        return f"it answered {e.code}"
    except http.client.InvalidURL:
        return "its address is none that can be asked"
    except http.client.HTTPException as e:
        return f"its answer is not HTTP ({type(e).__name__})"
    except Exception as e:  # noqa: BLE001 - whatever it is, it is said, and nothing else depends on it
        cause = getattr(e, "reason", e)
        if isinstance(cause, TimeoutError):
            return _late()
        told = getattr(cause, "strerror", None) or (cause if isinstance(cause, str) else type(cause).__name__)
        return f"it could not be reached: {told}"
