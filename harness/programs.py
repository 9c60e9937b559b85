"""Having nodes run another version of the system, one after the other, as an operator does.

A node is asked to end and started with the other program on the data that it has. An older version is given a
node only when the node says that it can take over; the cluster is asked to make ready for it first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from harness.asking import ask_all
from harness.core.admin import Admin
from harness.core.cluster import Cluster, Node, Process
from harness.core.errors import OperationError
from harness.core.system import Install, System

_ASK_S: Final = 1.5
_CHANGE_S: Final = 6.0
_READY_S: Final = 30.0  # for the cluster to make ready for an older version: etcd looks every few seconds
_END_S: Final = 10.0
_LOOK_S: Final = 0.1
_AGAIN_S: Final = 3.0  # before the cluster is asked once more

_T = TypeVar("_T")


class Programs:
    """Implements `harness.core.admin.Programs`.

    `installs` are the versions by their exact number, `first` the one that runs now. `processes(node,
    install)` says what to run.
    """

    def __init__(
        self,
        *,
        cluster: Cluster,
        system: System,
        admin: Admin,
        installs: Mapping[str, Install],
        first: str,
        processes: Callable[[Node, Install], Sequence[Process]],
    ) -> None:
        self._cluster, self._system, self._admin = cluster, system, admin
        self._installs, self._processes = installs, processes
        self.first = first
        self.others = tuple(version for version in installs if version != first)
        self._of: dict[str, str] = {}
        self._refused = ""
        self._asked = 0.0  # when the cluster was last asked to make ready

    def of(self, node: str) -> Install:
        """What runs on a node, or would if it were started."""
        return self._installs[self._of.get(node, self.first)]

    def refused(self) -> str:
        return self._refused

    def versions(self) -> dict[str, str | None]:
        nodes = {node.name: node for node in self._cluster.nodes}
        answers = ask_all(
            self._cluster, nodes, lambda name: self._admin.version(nodes[name], _ASK_S), wait_s=_ASK_S * 1.4
        )
        return {name: a if isinstance(a, str) else None for name, a in answers.items()}

    def run(self, nodes: Sequence[str], version: str, *, pause_s: float = 0.0, serve_s: float = 10.0) -> None:
        self._refused = ""
        for node in self._cluster.nodes:
            if node.name not in nodes or self.of(node.name).version == version:
                continue
            self._refused = self._change(node, version, serve_s)
            if self._refused:
                return
            time.sleep(pause_s)

    def _change(self, node: Node, version: str, serve_s: float) -> str:
        """Have one node run `version`; why that cannot be, or nothing."""
        if not self._waited(lambda: self._ready_for(node, version), _READY_S):
            return f"{node.name} was not ready for {version} within {_READY_S:g} s"
        self._end(node.name)
        self._of[node.name] = version
        self._cluster.launch({node.name: self._processes(node, self.of(node.name))})
        if not self._waited(lambda: self._inside(node, lambda: self._serves(node)) is True, serve_s):
            return f"{node.name} took no write within {serve_s:g} s of its start with {version}"
        return ""

    def _ready_for(self, node: Node, version: str) -> bool:
        """Whether a node can be given the version; asks the cluster to make ready where it cannot."""
        ready = self._inside(node, lambda: self._admin.ready_for(node, version, _ASK_S))
        if ready is False and time.monotonic() > self._asked + _AGAIN_S:
            self._inside(node, lambda: self._admin.lower(node, version, _CHANGE_S))
            self._asked = time.monotonic()
        return ready is True

    def _serves(self, node: Node) -> bool:
        self._system.ready(node, _ASK_S)
        return True

    def _end(self, node: str) -> None:
        """Ask what runs on a node to end, and see to it that it does."""
        for one in self._cluster.process.state(node):
            if one.alive:
                self._cluster.process.signal(node, one.stop_signal, pid=one.pid, start=one.start)
        gone = self._waited(lambda: not any(s.alive for s in self._cluster.process.state(node)), _END_S)
        if not gone:
            self._cluster.process.signal(node, "KILL")

    def _inside(self, node: Node, question: Callable[[], _T]) -> _T | None:
        """The answer to a question put in the node's network; None where there was none."""
        answer = inside(self._cluster, node.name, question)
        if isinstance(answer, Exception):
            if not isinstance(answer, (OSError, OperationError)):
                raise answer
            return None
        return answer

    @staticmethod
    def _waited(done: Callable[[], bool], wait_s: float) -> bool:
        deadline = time.monotonic() + wait_s
        while not done():
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_S)
        return True


def inside(cluster: Cluster, node: str, question: Callable[[], _T]) -> _T | Exception:
    """The answer to a question put in a node's network, or what it met."""
    return ask_all(cluster, [node], lambda _name: question(), wait_s=_CHANGE_S + _ASK_S)[node]


def inside_or_raise(cluster: Cluster, node: str, question: Callable[[], Any]) -> Any:
    """The same, raising what it met."""
    answer = inside(cluster, node, question)
    if isinstance(answer, Exception):
        raise answer
    return answer
