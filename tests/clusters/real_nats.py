"""Real NATS servers on loopback, for tests: one, or several that form a cluster, each with an address.

Built once into the cache (about 60 s); without a network and a cache tests skip, in CI they fail.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from clusters.artifacts import Artifacts
from clusters.systems._nats_client import NatsClient
from clusters.systems.nats import Nats
from harness.core.cluster import Node, View
from harness.core.errors import ArtifactError, OperationError
from harness.core.system import Install


class Server:
    """One nats-server, which tests may stop, continue and kill by its pid."""

    def __init__(
        self, system: Nats, install: Install, folder: Path, nodes: tuple[Node, ...], node: Node
    ) -> None:
        self.system, self.node = system, node
        self.log = folder / f"{node.name}.log"
        view = View(
            nodes=nodes,
            run="test",
            version=install.version,
            options=system.options,
            program=install.program,
            data_dir=str(folder / node.name),
        )
        (self._how,) = system.launch(node, view)
        for made in self._how.dirs:
            Path(made).mkdir(parents=True, exist_ok=True)
        for path, text in self._how.files.items():
            Path(path).write_text(text)
        self.start()

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self._how.argv, stdout=log, stderr=log)

    def await_ready(self) -> None:
        deadline = time.monotonic() + 40
        while True:
            try:
                return self.system.ready(self.node, 1.0)
            except (OSError, OperationError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def client(self, timeout_s: float = 2.0, **options: Any) -> NatsClient:
        client = self.system.client.open(self.node, None, self.system.options | options, timeout_s)
        assert isinstance(client, NatsClient)
        return client


@contextmanager
def running(folder: Path, size: int = 1, version: str | None = None) -> Iterator[list[Server]]:
    """`size` servers that serve writes; they end with the block."""
    nodes = tuple(Node(f"n{i}", f"127.0.0.{i}") for i in range(1, size + 1))
    with ExitStack() as held:
        found = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        names = ("client", "peer", "monitor")
        ports = {name: s.getsockname()[1] for name, s in zip(names, found, strict=True)}
    system = Nats({"replicas": min(3, size), "streams": 2}, ports=ports)
    try:
        install = system.install(version, Artifacts())
    except ArtifactError as e:
        if os.environ.get("SPLITBRAIN_REQUIRE"):  # CI: not to be had is a failure there
            raise
        pytest.skip(f"no NATS server to be had: {e}")
    with ExitStack() as ends:
        servers = []
        for node in nodes:
            servers.append(Server(system, install, folder, nodes, node))
            ends.callback(servers[-1].end)
        for server in servers:
            server.await_ready()
        yield servers
