"""Provider `attach`: a cluster that exists already, reached at the addresses of its nodes.

There is no life cycle: nothing is installed, started, stopped or removed, and no fault can be made
from here, each for a reason that `capabilities` gives. Clients and sampler connect from this machine
as any client would. What a run writes stands below a prefix of its own and is removed at its end.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from clusters.providers._beside import Helpers
from clusters.providers._disks import Disks
from clusters.providers._tracer import Tracer
from harness.core.cluster import (
    CAPABILITIES,
    ClockReading,
    Course,
    Echoes,
    Node,
    Pair,
    Place,
    Process,
    ProcessState,
    Shaping,
)
from harness.core.descriptor import Descriptor
from harness.core.errors import InfrastructureError, MissingCapability, UsageError

ATTACH: Final = Descriptor(
    name="attach",
    summary="a cluster that exists already, at --nodes HOST:PORT,...",
    target="clusters.providers.attach:Attach",
    exists=True,
)

_address: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s\[\]:,/@]+)):(?P<port>\d{1,5})")
_not_ours: Final = "the cluster is not ours: attach has no hand on its machines"
_refused: Final[dict[str, str]] = {
    **dict.fromkeys(CAPABILITIES, f"{_not_ours}, and limits nothing"),
    "block": f"{_not_ours}, and cuts no network",
    "shape": f"{_not_ours}, and shapes no network",
    "client-places": "clients of an attached cluster all connect from this machine",
    "signal": f"{_not_ours}, and signals no process",
    "restart": f"{_not_ours}, and starts no process",
    "clock": f"{_not_ours}, and changes no clock",
    "at-rest": f"{_not_ours}, and touches no data",
    "loop-disk": f"{_not_ours}, and reaches no disk",
    "trace": f"{_not_ours}, and traces no process",
    "keep": "an attached cluster stands anyway",
}


def parse(address: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT` or `[IPv6]:PORT`.

    >>> parse("db1.example:2379"), parse("[::1]:2379")
    (('db1.example', 2379), ('::1', 2379))

    Raises: UsageError for anything else.
    """
    match = _address.fullmatch(address)
    if match is None or not 0 < int(match["port"]) < 65536:
        raise UsageError(
            f"node {address!r}: expected HOST:PORT, such as 192.0.2.7:2379 or [2001:db8::7]:2379"
        )
    return match["six"] or match["host"], int(match["port"])


class Attach:
    """The provider; implements `harness.core.cluster.Provider`. Option `addresses`: HOST:PORT each."""

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        self._addresses: Sequence[str] = (options or {}).get("addresses", ())

    def probe(self) -> Mapping[str, str | None]:
        return {"attach": None, **_refused}

    def enclose(self) -> None:
        """Nothing is made that could be left."""

    def resources(
        self, *, run: str, nodes: int, needs: frozenset[str] = frozenset()
    ) -> tuple[tuple[str, str], ...]:
        return ()

    def create(
        self,
        *,
        run: str,
        run_dir: Path,
        nodes: int,
        mounts: Mapping[str, str],
        needs: frozenset[str] = frozenset(),
    ) -> AttachedCluster:
        assert nodes == len(self._addresses), "a spec has as many nodes as addresses"
        named = ((f"n{i}", address) for i, address in enumerate(self._addresses, 1))
        return AttachedCluster(run_dir, tuple(_node(name, address) for name, address in named))


class AttachedCluster:
    """The cluster; implements `harness.core.cluster.Cluster`, `Network` and `Processes`."""

    def __init__(self, run_dir: Path, nodes: tuple[Node, ...]) -> None:
        self.nodes = nodes
        self.places: tuple[Place, ...] = ()
        self.zones: Mapping[str, tuple[str, ...]] = {}
        self.capabilities: Mapping[str, str | None] = _refused
        self.inits: Mapping[str, tuple[int, int]] = {}
        self.network = self
        self.process = self
        self.limits = self.clock = self
        self.disk = Disks(lambda *_, **__: _refuse("loop-disk"))
        self.tracer = Tracer(lambda *_, **__: _refuse("trace"))
        self._logs = run_dir.resolve() / "logs"
        self._helpers = Helpers(self._logs)

    def launch(self, processes: Mapping[str, Sequence[Process]]) -> None:
        _refuse("restart")

    def enter(self, endpoint: str) -> None:
        """Every node is reached from where we are."""

    def log_dir(self, node: str) -> Path:
        return self._logs / node

    def spawn_helper(self, argv: Sequence[str], name: str) -> int:
        return self._helpers.spawn(argv, name)

    def check(self) -> None:
        """Nothing of the cluster's is ours to look after."""

    def close(self) -> None:
        self._helpers.close()

    # what faults would do

    def block(self, fault: str, pairs: Sequence[Pair], *, flap_s: float | None = None) -> Mapping[str, Any]:
        _refuse("block")

    def unblock(self, fault: str) -> Mapping[str, Any]:
        return {"pairs": 0, "took_ms": 0.0}

    def dropped(self) -> int:
        return 0

    def shape(self, fault: str, pairs: Sequence[Pair], shaping: Shaping) -> Mapping[str, Any]:
        _refuse("shape")

    def unshape(self, fault: str) -> Mapping[str, Any]:
        return {"pairs": 0, "took_ms": 0.0}

    def shaped(self) -> Mapping[str, Any]:
        return {}

    def echo(
        self,
        source: str,
        target: str,
        *,
        count: int = 20,
        interval_s: float = 0.005,
        size: int = 64,
        wait_s: float = 0.3,
    ) -> Echoes:
        _refuse("client-places")

    def reaches(self, source: str, target: str, port: int, timeout_s: float = 0.3) -> bool:
        _refuse("client-places")

    def start(self, node: str) -> tuple[ProcessState, ...]:
        _refuse("restart")

    def signal(
        self, node: str, signal: str, *, pid: int | None = None, start: int | None = None
    ) -> tuple[ProcessState, ...]:
        _refuse("signal")

    def state(self, node: str) -> tuple[ProcessState, ...]:
        return ()

    def loop(self, fault: str, node: str, *, up_s: float, down_s: float) -> None:
        _refuse("restart")

    def unloop(self, fault: str) -> None:
        pass

    def limit(self, fault: str, node: str, kind: str, amount: float) -> None:
        _refuse("cpu-limit")

    def unlimit(self, fault: str) -> None:
        pass

    def usage(self, node: str, kind: str) -> Mapping[str, Any]:
        _refuse("cpu-limit")

    def shift(self, fault: str, node: str, course: Course) -> Mapping[str, Any]:
        _refuse("clock")

    def unshift(self, fault: str, node: str) -> Mapping[str, Any]:
        return {"processes": [], "took_ms": 0.0}

    def clocks(self, node: str) -> tuple[ClockReading, ...]:
        return ()


def _refuse(capability: str) -> NoReturn:
    raise MissingCapability(f"provider attach cannot do that: {_refused[capability]}")


def _node(name: str, text: str) -> Node:
    """A node by its address. A host's name is looked up once: clients must not wait for that."""
    host, port = parse(text)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as e:
        raise InfrastructureError(
            f"node {text!r}: the host is not to be found ({e.strerror or e}); name another, or its address"
        ) from None
    found.sort(key=lambda one: one[0] != socket.AF_INET)
    return Node(name, str(found[0][4][0]), port=port)
