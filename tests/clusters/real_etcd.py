"""Real etcd members on loopback, for tests: one, or several that form a cluster, each with an address.

Built once into the cache (about 50 s); without a network and a cache tests skip, in CI they fail.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from clusters.artifacts import Artifacts
from clusters.systems._etcd_client import EtcdClient
from clusters.systems.etcd import Etcd
from harness.core.cluster import Node, View
from harness.core.errors import ArtifactError, OperationError
from harness.core.system import Install


class Member:
    """One etcd process, which tests may stop, continue and kill by its pid."""

    def __init__(
        self, system: Etcd, install: Install, folder: Path, nodes: tuple[Node, ...], node: Node
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
        self.start()

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self._how.argv, stdout=log, stderr=log, env=self._how.env)

    def await_ready(self) -> None:
        deadline = time.monotonic() + 20
        while True:
            try:
                return self.system.ready(self.node, 1.0)
            except (OSError, OperationError):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def end(self) -> None:
        self.process.kill()  # also ends a stopped one
        self.process.wait(10)

    def client(self, timeout_s: float = 2.0, reads: str = "linearizable") -> EtcdClient:
        client = self.system.client.open(self.node, None, {"reads": reads}, timeout_s)
        assert isinstance(client, EtcdClient)
        return client


@contextmanager
def running(folder: Path, size: int = 1) -> Iterator[list[Member]]:
    """`size` members that serve writes; they end with the block."""
    nodes = tuple(Node(f"n{i}", f"127.0.0.{i}") for i in range(1, size + 1))
    with socket.create_server(("127.0.0.1", 0)) as a, socket.create_server(("127.0.0.1", 0)) as b:
        ports = {"client": a.getsockname()[1], "peer": b.getsockname()[1]}
    system = Etcd({}, ports=ports)
    try:
        install = system.install(None, Artifacts())
    except ArtifactError as e:
        if os.environ.get("SPLITBRAIN_REQUIRE"):  # CI: not to be had is a failure there
            raise
        pytest.skip(f"no etcd to be had: {e}")
    with ExitStack() as ends:
        members = []
        for node in nodes:
            members.append(Member(system, install, folder, nodes, node))
            ends.callback(members[-1].end)
        for member in members:
            member.await_ready()
        yield members
