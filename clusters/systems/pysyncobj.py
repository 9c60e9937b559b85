"""PySyncObj: a Raft library in Python, tested through a small server of ours that is made of it.

Here stand life cycle and status. Beside it, private to it: `_pysyncobj_server` (what runs on the nodes),
`_pysyncobj_client` (what workloads do), `_pysyncobj_errors` (which errors are definite), `_pysyncobj_logs` and
`_pysyncobj_versions`.

Nodes run the Python that runs splitbrain: where that is not below /usr, which every node has, its folder is mounted
in the nodes.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from clusters.systems._pysyncobj_versions import VERSIONS, caveats
from harness.core.client import Client
from harness.core.cluster import Node, Process, View
from harness.core.descriptor import Descriptor
from harness.core.errors import Indeterminate
from harness.core.options import Option
from harness.core.system import Dump, Install, LogEvent, Promise, Role, Status

OPTIONS: Final = (
    Option(
        name="reads",
        default="log",
        summary="through the log, or local: answered by the node alone, and may be stale",
        choices=("log", "local"),
    ),
    Option(
        name="journal",
        default=True,
        summary="keep the log in a file; false is known bad: when all nodes are killed everything is forgotten",
    ),
    Option(
        name="compact_entries",
        default=0,
        summary="entries after which the log is replaced by a dump of the state; 0: never during a run",
        least=0,
        most=10_000_000,
    ),
    Option(
        name="batch_bytes",
        default=4 * 1024 * 1024,
        summary="of entries in one message; known bad: with the library's own 65536 a node may never catch up",
        least=1024,
        most=2**30,
    ),
    Option(
        name="lock_s",
        default=2.0,
        summary="after how many seconds, by the clocks of those who ask, a lock is free again",
        least=0.1,
        most=3600,
    ),
    Option(name="prefix", default="splitbrain/", summary="what the names of a run begin with"),
)

PYSYNCOBJ: Final = Descriptor(
    name="pysyncobj",
    summary="a Raft library in Python, in a small server of ours; writes and reads through the log",
    target="clusters.systems.pysyncobj:PySyncObj",
    options=OPTIONS,
    versions=VERSIONS,
)

_SERVER: Final = Path(__file__).with_name("_pysyncobj_server.py")
_deaths: Final = frozenset({"kill", "terminate", "crash-loop"})
_stalls: Final = frozenset({"pause", "cpu-pressure", "memory-pressure"})
_survived: Final = _deaths | _stalls | {"partition", "packet"}
_NEVER: Final = 10**9
# The library's own times, but for those that make it wait longer than faults last here (it tries to reach a lost
# peer every 5 s, and a leader without a majority believes in itself for 30 s) or that a client feels: it looks at
# its queue every 50 ms, sends entries every 100 ms, and waits 0.4 to 1.4 s for a leader.
_CONF: Final = {
    "autoTickPeriod": 0.01,
    "appendEntriesPeriod": 0.05,
    "raftMinTimeout": 0.3,
    "raftMaxTimeout": 1.0,
    "commandsWaitLeader": False,
    "connectionRetryTime": 0.3,
    "leaderFallbackTimeout": 3.0,
}

_T = TypeVar("_T")


class _Status(msgspec.Struct):
    role: Role
    term: int
    leader: str | None
    commit: int
    applied: int


class _Done(msgspec.Struct):
    revision: int


class _Dump(msgspec.Struct):
    content: dict[str, str]


# Made once, at import: msgspec crashes when several threads are the first to decode a type at once.
_status_decoder: Final = msgspec.json.Decoder(_Status)
_done_decoder: Final = msgspec.json.Decoder(_Done)
_dump_decoder: Final = msgspec.json.Decoder(_Dump)


class PySyncObj:
    """A cluster of servers that hold one replicated store. `ports` are for where the usual ones are taken."""

    name = "pysyncobj"
    promises: tuple[Promise, ...] = (
        Promise(
            prop="linearizable",
            families=_survived,
            most="all",
            unless={"reads": "local", "journal": "false"},
            source="PySyncObj's README: replication by Raft; its documentation: sync=True waits for the result",
            link="https://github.com/bakwc/PySyncObj#pysyncobj",
        ),
        Promise(
            prop="availability",
            families=_survived,
            most="all",
            unless={"journal": "false"},
            source="Raft (Ongaro and Ousterhout 2014): available again when a majority can communicate",
            link="https://raft.github.io/raft.pdf",
        ),
        Promise(
            prop="durable",
            families=_deaths,
            most="all",
            unless={"journal": "false"},
            source="PySyncObj's documentation: journalFile saves each record as soon as received",
            link="https://pysyncobj.readthedocs.io/en/latest/",
        ),
    )

    def __init__(
        self, options: Mapping[str, Any] | None = None, *, ports: Mapping[str, int] | None = None
    ) -> None:
        from clusters.systems._pysyncobj_client import PySyncObjClient

        given = options or {}
        self.options = {o.name: o.parse(given[o.name]) if o.name in given else o.default for o in OPTIONS}
        self.ports: Mapping[str, int] = dict(ports or {"client": 4320, "peer": 4321})
        self.client: Client = PySyncObjClient(self.ports["client"])

    # How it is obtained and run.

    def install(self, version: str | None, artifacts: Any) -> Install:
        from clusters.artifacts import VersionRefused

        exact = VERSIONS.resolve("pysyncobj", version)
        try:
            library = artifacts.pypi_tree("pysyncobj", exact, project="pysyncobj")
        except VersionRefused as e:
            raise VERSIONS.refused("pysyncobj", exact, str(e), e.served) from e
        program = {"library": library.path, "server.py": str(_SERVER)}
        if (home := _python_home()) is not None:
            program["python"] = home
        return Install(
            version=exact,
            program=program,
            sha256={
                "library": library.sha256,
                "server.py": hashlib.sha256(_SERVER.read_bytes()).hexdigest(),
            },
            caveats=(*caveats(exact), *self._caveats()),
        )

    def _caveats(self) -> tuple[str, ...]:
        """What this run's own options break."""
        if self.options["journal"]:
            return ()
        return (
            (
                "journal=false: nodes keep their log in memory alone; when a majority was killed, what it acknowledged"
                " must be lost (a positive control, no finding against PySyncObj)."
            ),
        )

    def launch(self, node: Node, view: View) -> list[Process]:
        def at(of: Node, port: str) -> str:
            return f"{of.address}:{self.ports[port]}"

        entries = self.options["compact_entries"]
        given = {
            "node": node.name,
            "nodes": {n.name: at(n, "peer") for n in view.nodes},
            "http": at(node, "client"),
            "journal": f"{view.data_dir}/journal" if self.options["journal"] else None,
            "lock_s": self.options["lock_s"],
            "conf": {
                **_CONF,
                "appendEntriesBatchSizeBytes": self.options["batch_bytes"],
                "logCompactionMinEntries": entries or _NEVER,
                "logCompactionMinTime": _NEVER,
            },
        }
        argv = (_python(view), "-P", "-S", view.program["server.py"], msgspec.json.encode(given).decode())
        env = {"PYTHONPATH": view.program["library"], "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
        ports = (self.ports["client"], self.ports["peer"])
        return [Process(name="pysyncobj", argv=argv, env=env, ports=ports, dirs=(view.data_dir,))]

    # How it is.

    def ready(self, node: Node, timeout_s: float) -> None:
        self.barrier(node, timeout_s)

    def barrier(self, node: Node, timeout_s: float) -> int | None:
        return self._do(node, "barrier", timeout_s)

    def tidy(self, node: Node, timeout_s: float) -> None:
        self._do(node, "tidy", timeout_s)

    def _do(self, node: Node, f: str, timeout_s: float) -> int:
        from clusters.systems._pysyncobj_client import body

        command = body(f, str(self.options["prefix"]), [])
        return self._ask(node, "/do", command, _done_decoder, timeout_s).revision

    def status(self, node: Node, timeout_s: float) -> Status:
        said = self._ask(node, "/status", b"{}", _status_decoder, timeout_s)
        return Status(
            role=said.role,
            term=said.term,
            leader=said.leader,
            commit=said.commit,
            applied=said.applied,
            revision=said.applied,
        )

    def dump(self, node: Node, revision: int, timeout_s: float) -> Dump:
        said = self._ask(node, "/dump", b'{"revision":%d}' % revision, _dump_decoder, timeout_s)
        return Dump(revision=revision, content=said.content)

    def _ask(
        self, node: Node, path: str, data: bytes, decoder: msgspec.json.Decoder[_T], timeout_s: float
    ) -> _T:
        """One question on a connection of its own.

        Raises: OSError, Indeterminate.
        """
        from clusters.http1 import Connection
        from clusters.systems._pysyncobj_errors import classify

        connection = Connection(node.address, node.port or self.ports["client"])
        try:
            status, answer = connection.post(path, data, timeout_s)
        finally:
            connection.close()
        if status != 200:
            raise Indeterminate(classify(status, answer)[0])
        try:
            return decoder.decode(answer)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Indeterminate("garbage: body") from None

    def events(self, node: str, log: Iterable[tuple[int, str]]) -> Iterator[LogEvent]:
        from clusters.systems._pysyncobj_logs import events

        return events(node, log)


def _interpreter() -> Path:
    """The real program behind this interpreter, whatever virtual environment it stands in."""
    return Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()


def _python_home() -> str | None:
    """The folder of an interpreter that nodes do not have anyway."""
    home = Path(sys.base_prefix).resolve()
    return None if home == Path("/usr") else str(home)


def _python(view: View) -> str:
    """The interpreter as a node sees it."""
    if "python" not in view.program:
        return str(_interpreter())
    return f"{view.program['python']}/bin/{_interpreter().name}"
