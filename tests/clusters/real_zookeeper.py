"""A real ZooKeeper server on loopback, for tests. Obtained once into the cache; without a network and a cache, and
without Java, tests skip, in CI they fail.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clusters.artifacts import Artifacts
from clusters.systems._zookeeper_client import ZooKeeperClient
from clusters.systems.zookeeper import ZooKeeper
from harness.core.cluster import Node, View
from harness.core.errors import ArtifactError, OperationError


class Server:
    """One process, alone, which tests may stop, continue and kill by its pid."""

    def __init__(self, system: ZooKeeper, program: dict[str, str], version: str, folder: Path) -> None:
        self.system, self.node = system, Node("n1", "127.0.0.1")
        self.log = folder / "zookeeper.log"
        view = View(
            nodes=(self.node,),
            run="test",
            version=version,
            options=system.options,
            program=program,
            data_dir=str(folder / "data"),
        )
        (self._how,) = system.launch(self.node, view)
        for path in self._how.dirs:
            Path(path).mkdir(exist_ok=True)
        for path, text in self._how.files.items():
            Path(path).write_text(text)
        self.start()

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self._how.argv, stdout=log, stderr=log)

    def await_ready(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                return self.system.ready(self.node, 1.0)
            except (OSError, OperationError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> None:
        self.process.kill()  # also ends a stopped one
        self.process.wait(10)

    def client(self, timeout_s: float = 5.0, **options: Any) -> ZooKeeperClient:
        client = self.system.client.open(self.node, None, options, timeout_s)
        assert isinstance(client, ZooKeeperClient)
        return client


@contextmanager
def running(folder: Path, version: str | None = None) -> Iterator[Server]:
    """A server that serves writes; it ends with the block."""
    with (
        socket.create_server(("127.0.0.1", 0)) as a,
        socket.create_server(("127.0.0.1", 0)) as b,
        socket.create_server(("127.0.0.1", 0)) as c,
    ):
        names = {"client": a, "peer": b, "election": c}
        ports = {name: s.getsockname()[1] for name, s in names.items()}
    system = ZooKeeper({}, ports=ports)
    try:
        install = system.install(version, Artifacts())
    except ArtifactError as e:
        if os.environ.get("SPLITBRAIN_REQUIRE"):  # CI: not to be had is a failure there
            raise
        pytest.skip(f"no ZooKeeper to be had: {e}")
    server = Server(system, install.program, install.version, folder)
    try:
        server.await_ready()
        yield server
    finally:
        server.end()
