"""A real server on loopback over a root of runs, and requests that no library tidies up."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from results.report.page import write_report
from results.web.server import Server, Site
from tests.results.synth import make_run

SECRET = "the-secret-outside"
HOSTILE = '"><script>document.documentElement.dataset.owned=1</script><img src=x onerror=alert(1)>'


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Served:
    """A server, its root, and the runs that are alive as far as it is told."""

    def __init__(self, root: Path, token: str | None = None, bind: str = "127.0.0.1") -> None:
        self.root = root
        self.alive: set[Path] = set()
        self.site = Site(root, lambda path: path in self.alive)
        self.server = Server(self.site, bind, 0, token)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.putrequest(method, path, skip_host="host" in headers, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            with connection.getresponse() as answer:
                return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


@contextlib.contextmanager
def serving(root: Path, token: str | None = None) -> Iterator[Served]:
    served = Served(root, token)
    try:
        yield served
    finally:
        served.close()


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A root with a run of each outcome, with what a system under test could leave in one, and a secret beside it."""
    base = tmp_path_factory.mktemp("web")
    (base / "secret.txt").write_text(SECRET)
    root = base / "runs"
    for seed, outcome in enumerate(("valid", "invalid", "killed")):
        run = make_run(root, outcome, ops=300, seed=seed, run=f"run{seed:03}")
        if outcome != "killed":
            write_report(run)
    run = find(root, "run001")
    (run / "logs" / "n1" / "odd.log").write_bytes(HOSTILE.encode() + b"\x1b[31m\x00\xff")
    (run / "data").mkdir()
    (run / "data" / "page.html").write_text("<script>parent.owned = 1</script>")
    (run / "data" / "member.db").write_bytes(bytes(range(256)))
    (run / "data" / "secret.log").symlink_to(base / "secret.txt")
    (run / "data" / "up").symlink_to(base, target_is_directory=True)
    os.mkfifo(run / "data" / "pipe.log")
    yield root
    shutil.rmtree(base)


def find(root: Path, run: str) -> Path:
    (path,) = root.glob(f"*/*-{run}")
    return path


@pytest.fixture(scope="session")
def served(runs: Path) -> Iterator[Served]:
    """The server over these runs, for tests that change nothing."""
    with serving(runs) as found:
        yield found


@pytest.fixture
def path_of(runs: Path):
    """The address of a run of the root, without what stands before it."""
    return lambda run: find(runs, run).relative_to(runs).as_posix()
