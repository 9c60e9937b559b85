"""Who is told by a webhook, and what becomes of a night whose webhook does not answer: a real server on loopback."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from splitbrain.campaign import home, ledger, notify, summary
from splitbrain.campaign.spec import Notify
from splitbrain.commands import campaign as commands
from tests.splitbrain.campaign.made import SMALL, STALE, campaign, kill_is_stale, spend

pytestmark = pytest.mark.usefixtures("in_no_time", "no_proxy")
SECRET = "/services/T0/sEcReT"


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


class Hook(ThreadingHTTPServer):
    """A server that remembers what it was sent, and answers with a status and headers."""

    daemon_threads = True

    def __init__(self, status: int = 204, **headers: str) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.status, self.headers = status, headers
        self.got: list[tuple[str, str, dict[str, str], bytes]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}{SECRET}"

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, _, body in self.got]


class _Answers(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.command, self.path, dict(self.headers), body))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args: Any) -> None:
        """Nothing is shown."""


@contextmanager
def hook(status: int = 204, **headers: str) -> Iterator[Hook]:
    with Hook(status, **headers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def rude(says: bytes) -> Iterator[str]:
    """The address of a server that says a few bytes to whoever comes. After a line it hangs up; otherwise it never
    does, and after a space it goes on byte by byte."""
    over = threading.Event()

    def serve(server: socket.socket) -> None:
        client, _ = server.accept()
        with client, contextlib.suppress(OSError):
            client.sendall(says)
            client.recv(65536)
            while not says.endswith(b"\n") and not over.wait(0.02):
                client.sendall(b"x" if says.endswith(b" ") else b"")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}{SECRET}"
        over.set()
        thread.join()


def told_by(address: str, text: str = "a night did not happen") -> list[str]:
    return notify.tell(Notify(webhook=address), "overdue", text, {"campaign": "nightly"})


def test_a_new_finding_is_sent_once_as_json_with_a_text_for_chats(tmp_path: Path) -> None:
    with hook() as server:
        text = SMALL + f'\n    [notify]\n    webhook = "{server.address}"\n'
        for _ in range(2):
            told = spend(campaign(tmp_path, text), tmp_path / "c", kill_is_stale)
    ((method, path, headers, _),) = server.got
    assert (method, path) == ("POST", SECRET)
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("splitbrain/")
    (event,) = server.events()
    assert {k: event[k] for k in ("format", "event", "campaign", "signature")} == {
        "format": 1, "event": "new-finding", "campaign": "nightly", "signature": STALE,
    }  # fmt: skip
    assert event["text"].startswith(f"new finding in campaign nightly: {STALE}; report ")
    assert Path(event["report"]).exists()
    assert event["run"] in event["report"]
    assert told["notes"] == []


def test_shards_tell_nobody_and_who_merges_them_tells_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with hook() as server:
        asked = campaign(tmp_path, SMALL + f'\n    [notify]\n    webhook = "{server.address}"\n')
        shards = [tmp_path / f"shard{i}" for i in (1, 2)]
        for i, folder in enumerate(shards, 1):
            spend(asked, folder, kill_is_stale, shard=(i, 2))
        assert server.got == [], "a shard sees no nights before: all that it finds would be new, every night"
        for missing in (0, 1):
            file, given = tmp_path / "nightly.toml", shards[missing:]
            assert commands.merge(file, given, tmp_path / "c") == 1
            assert [e["event"] for e in server.events()] == ["new-finding", "canary"][: 1 + missing]
        server.status = 500
        assert commands.merge(tmp_path / "nightly.toml", shards[1:], tmp_path / "c", json=True) == 1
    event = server.events()[0]
    assert (event["signature"], Path(event["report"]).exists()) == (STALE, True)
    assert "shard 1 of 2 did not come" in str(json.loads(capsys.readouterr().out.splitlines()[-1])["notes"])
    written = home.read_summary(home.nights(tmp_path / "c" / "nightly")[-1])
    assert written is not None
    assert (
        "the webhook of [notify] was not told of canary: it answered 500 Internal Server Error"
        in written["notes"]
    )


def test_a_canary_that_was_not_found_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(summary, "_hit", lambda _cell, _attempt: False)
    with hook() as server:
        asked = campaign(tmp_path, SMALL + f'\n    [notify]\n    webhook = "{server.address}"\n')
        assert spend(asked, tmp_path / "c")["exit"] == 4
    (event,) = server.events()
    assert (event["event"], event["campaign"]) == ("canary", "nightly")
    assert event["text"].startswith("the canary was not found: etcd-serializable is a known bug")


@pytest.mark.parametrize("status", [204, 500])
def test_a_night_that_did_not_happen_is_sent_and_ends_with_4_whoever_hears_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hook(status) as server:
        monkeypatch.setenv("NIGHTLY_HOOK", server.address)
        campaign(tmp_path, SMALL + '\n    [notify]\n    webhook-env = "NIGHTLY_HOOK"\n')
        assert commands.overdue(tmp_path / "nightly.toml", tmp_path / "c", json=True) == 4
    out, err = capsys.readouterr()
    assert json.loads(out)["late"] is True
    (event,) = server.events()
    assert (event["event"], event["campaign"], event["night"]) == ("overdue", "nightly", None)
    assert event["text"].startswith("campaign nightly: no night has ever happened in ")
    told = "the webhook of [notify] was not told of overdue: it answered 500 Internal Server Error\n"
    wanted = "" if status == 204 else told
    assert err == wanted


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (500, "it answered 500 Internal Server Error"),
        (404, "it answered 404 Not Found"),
        (302, "it answered 302 Found; give the address that this one leads to"),
        (799, "it answered 799"),
    ],
)
def test_an_answer_that_is_no_success_is_said_with_its_status(status: int, said: str) -> None:
    with hook() as elsewhere, hook(status, Location=elsewhere.address) as server:
        assert told_by(server.address) == [f"the webhook of [notify] was not told of overdue: {said}"]
        assert len(server.got) == 1, "nothing is tried again"
        assert elsewhere.got == [], "a POST that is led elsewhere arrives as a GET that says nothing"


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 200 OK\r\nX-Endless: "])
def test_a_server_that_hangs_or_drips_is_given_up(monkeypatch: pytest.MonkeyPatch, says: bytes) -> None:
    monkeypatch.setattr(notify, "LIMIT_S", 0.2)
    with rude(says) as address:
        (said,) = told_by(address)
    assert said.endswith("it did not answer within 0.2 s")


def test_a_server_that_refuses_and_what_is_no_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (said,) = told_by(f"http://127.0.0.1:{port}{SECRET}")
    assert said.endswith("it could not be reached: Connection refused")
    with rude(b"220 mail ESMTP\r\n") as address:
        (said,) = told_by(address)
    assert said.endswith("its answer is not HTTP (BadStatusLine)")
    for address in (
        f"http://127.0.0.1:port{SECRET}",
        f"http://ex ample{SECRET}",
        f"http://{SECRET}",
        "http://[::1",
    ):
        (said,) = told_by(address)
        assert said.startswith("the webhook of [notify] was not told of overdue: it")
        assert "sEcReT" not in said, "the address may hold a secret"
    assert told_by("ftp://x") == [
        "nobody was told of overdue: the webhook's address begins with neither http:// nor https://"
    ]


@pytest.mark.parametrize("says", [b"", b"220 mail ESMTP\r\n"])
def test_a_webhook_that_fails_changes_nothing_of_what_the_night_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: bytes
) -> None:
    monkeypatch.setattr(notify, "LIMIT_S", 0.2)
    bare = spend(campaign(tmp_path, SMALL), tmp_path / "bare", kill_is_stale)
    with rude(says) as address:
        asked = campaign(tmp_path, SMALL + f'\n    [notify]\n    webhook = "{address}"\n')
        told = spend(asked, tmp_path / "c", kill_is_stale)
    for name in ("verdict", "reason", "exit", "complete", "counts"):
        assert told[name] == bare[name]
    (note,) = told["notes"]
    assert note.startswith("the webhook of [notify] was not told of new-finding: it")
    (night,) = home.nights(tmp_path / "c")
    assert ledger.read(night / ledger.NAME).notes == [note]
    assert note in (night / "index.html").read_text()
    written = home.read_summary(night)
    assert written is not None
    assert written["notes"] == [note], "the summary was there before, and says so now"


def test_cells_do_not_wait_for_a_server_that_hangs(tmp_path: Path) -> None:
    """The hook answers once the last cell has been started: if cells waited for it, none would ever be."""
    started = threading.Event()

    class Slow(_Answers):
        def do_POST(self) -> None:
            assert started.wait(60)
            super().do_POST()

    with hook() as server:
        server.RequestHandlerClass = Slow
        asked = campaign(tmp_path, SMALL + f'\n    [notify]\n    webhook = "{server.address}"\n')

        def watch(_night: Any, places: Any) -> None:
            start = places.start

            def start_and_tell(cell: Any, order: Any) -> None:
                start(cell, order)
                if len(places.started) == 9:
                    started.set()

            places.start = start_and_tell

        told = spend(asked, tmp_path / "c", kill_is_stale, change=watch)
    assert len(server.got) == 1
    assert told["notes"] == []


def test_what_nobody_was_told_of_before_the_end_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "FINISH_S", 0.1)
    held = threading.Event()
    monkeypatch.setattr(notify, "tell", lambda *_: [""][held.wait(60) :])
    teller = notify.Teller(Notify())
    teller.tell("new-finding", "the first", {})
    while not teller._waiting.empty():
        pass
    teller.tell("new-finding", "the second", {})
    assert teller.finish() == ["nobody was told of new-finding, the night was over before: the second"]
    held.set()
