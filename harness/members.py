"""Having the members of a cluster be those that are wanted, through the system's own interface.

Principles, which are those of Jepsen's `nemesis.membership`:

*   What a node says about the members is its own view, and may be old. Decisions are made by what the cluster
    has agreed on, where a node can tell; while none can, nothing is decided.
*   A change whose answer did not come may still take effect. It stays *pending*: no other is begun until it has
    been observed, or had `PATIENCE_S` to show and did not. One that shows later all the same is met as
    part of what is there, and repeating it is harmless: an id is removed once, an address added once.
*   A node's data is removed only when the agreement says that another member than the one whose data it is
    belongs on it. What was removed keeps its data and its process until then.
*   Nobody is removed whose absence leaves no majority of answering voters, unless that is asked for.

`next_task` is the decision, pure; `Keeper` carries it out in a thread of its own, so that a fault need not wait
for a change which another fault is in the way of.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from harness.asking import ask_all
from harness.core.admin import Admin, Member
from harness.core.cluster import Cluster, Node, Process
from harness.core.errors import Definite, InfrastructureError, OperationError, SplitbrainError
from harness.core.lines import LineFile
from harness.core.system import majority

PATIENCE_S: Final = 6.0  # etcd gives up on a request after 5 s and two election time-outs
_ASK_S: Final = 1.0
_CHANGE_S: Final = 6.0
_PAUSE_S: Final = 0.25
_CALM_S: Final = 1.0  # between two looks when all is as it shall be
_AGAIN_S: Final = 1.5  # before a member that ended by itself before it ever took part is started once more
_KILLED: Final = -9


class Known(NamedTuple):
    """A member of the agreement, and the node that it is on."""

    node: str
    id: str
    started: bool
    learner: bool


class Task(NamedTuple):
    """One thing to do next; `wait`: nothing, for the reason that `why` says."""

    do: Literal["add", "launch", "promote", "remove", "wait"]
    node: str = ""
    id: str = ""
    why: str = ""


def next_task(
    wanted: Sequence[str],
    members: Sequence[Known],
    launched: Mapping[str, str],
    *,
    answering: Collection[str],
    below_quorum: bool = False,
) -> Task | None:
    """What to do next so that there are members on the nodes `wanted` and on no others; None when it is so.

    `launched` is the id of the member for which each node was last launched, `answering` the nodes that
    answer just now. Who is to come comes before who is to go leaves.

    >>> a, b = Known("n1", "a", True, False), Known("n2", "b", True, False)
    >>> next_task(["n1", "n2"], [a, b], {"n1": "a", "n2": "b"}, answering=["n1"]) is None
    True
    >>> next_task(["n1", "n3"], [a, b], {"n1": "a", "n2": "b"}, answering=["n1", "n2"]).do
    'add'
    """
    here = {m.node: m for m in members}
    waiting = Task("wait")
    for m in members:
        if m.node in wanted and launched.get(m.node) != m.id:
            return Task("launch", m.node, m.id)
        if m.node in wanted and m.learner:
            if m.started:
                return Task("promote", m.node, m.id)
            waiting = Task("wait", m.node, m.id, f"the new member on {m.node} has not started yet")
        elif m.node in wanted and not m.started:
            waiting = Task("wait", m.node, m.id, f"the new member on {m.node} has not started yet")
    idle = [m for m in members if m.node not in wanted and (m.learner or not m.started)]
    if idle:  # they have no say, or never had one
        return Task("remove", idle[0].node, idle[0].id)
    if waiting.why:
        return waiting
    missing = [node for node in wanted if node not in here]
    if missing:
        return Task("add", missing[0])
    for m in members:
        if m.node in wanted:
            continue
        rest = [o.node for o in members if not o.learner and o is not m]
        if below_quorum or sum(node in answering for node in rest) >= majority(rest):
            return Task("remove", m.node, m.id)
        waiting = Task("wait", m.node, m.id, f"without {m.node} too few of {', '.join(rest)} would answer")
    return waiting if waiting.why else None


class _Pending(msgspec.Struct):
    """A change that was asked for and has not been observed yet."""

    task: Task
    since: float
    acknowledged: bool


class Keeper:
    """Implements `harness.core.admin.Members`.

    `hosts` are all nodes, of which `first` are the members to begin with. `processes(node, members)` says what
    runs on a node that joins these members. `record` gets a line for each thing that was done or seen.
    """

    def __init__(
        self,
        *,
        cluster: Cluster,
        admin: Admin,
        hosts: Sequence[Node],
        first: Sequence[str],
        processes: Callable[[Node, tuple[Node, ...]], Sequence[Process]],
        record: Path,
        now: Callable[[], int],
    ) -> None:
        self._cluster, self._admin, self._processes, self._now = cluster, admin, processes, now
        self._hosts = {node.name: node for node in hosts}
        self.first = tuple(first)
        self.spares = tuple(name for name in self._hosts if name not in first)
        self._wanted: tuple[str, ...] = self.first
        self._below = False
        self._members: tuple[Known, ...] = ()
        self._launched: dict[str, str] = {}
        self._tried: dict[str, float] = {}  # node -> when its member was last launched
        self._pending: _Pending | None = None
        self._refused = ""
        self._said: dict[str, Any] = {}
        self._settled = True
        self._changed = threading.Condition()
        self._stopping = False
        self._asked = 0  # how often somebody has said what is wanted
        self._file = LineFile(record)
        self._thread = threading.Thread(target=self._run, name="members", daemon=True)

    # What others see of it.

    @property
    def voters(self) -> tuple[str, ...]:
        return tuple(m.node for m in self._members if not m.learner)

    @property
    def serving(self) -> tuple[str, ...]:
        """The nodes that have a member which was started, by the last agreement known; in order."""
        if not self._members:
            return self.first
        here = {m.node for m in self._members if self._launched.get(m.node) == m.id}
        return tuple(name for name in self._hosts if name in here)

    @property
    def settled(self) -> bool:
        return self._settled

    @property
    def pending(self) -> str:
        if self._settled:
            return ""
        waits = self._pending
        doing = f"{waits.task.do} {waits.task.node} pending" if waits else ""
        return "; ".join(filter(None, (doing, self._refused))) or "under way"

    def want(
        self, nodes: Sequence[str], wait_s: float, *, whole: bool = False, below_quorum: bool = False
    ) -> None:
        with self._changed:
            before = self._members
            self._wanted = tuple(name for name in self._hosts if name in nodes)
            self._below, self._settled = below_quorum, False
            self._asked += 1
            self._note(event="wanted", nodes=list(self._wanted))
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._settled or (not whole and _ids(self._members) != _ids(before)), wait_s
            )

    def settle(self, wait_s: float) -> bool:
        """Wait until the members are those that the cluster began with; whether they are."""
        with self._changed:
            self._wanted, self._below, self._settled = self.first, False, False
            self._asked += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._settled, wait_s)
            return self._settled

    def views(self) -> dict[str, tuple[str, ...] | None]:
        found = self._views(name for name in self._hosts if name in self._launched)
        return {
            name: None if view is None else tuple(f"{m.node} {m.id}" for m in view)
            for name, view in found.items()
        }

    def _views(self, names: Iterable[str]) -> dict[str, list[Known] | None]:
        """Each node's own view, in order."""
        asked = list(names)
        answers = self._ask(asked, agreed=False)
        return {n: sorted(map(self._known, answers[n])) if n in answers else None for n in asked}

    # Its life.

    def begin(self) -> None:
        """Learn which member is where, and start to look after them.

        Raises: InfrastructureError when no node says who the members are.
        """
        agreed = self._agreement()
        if agreed is None:
            raise InfrastructureError("no node said who the cluster's members are")
        self._members = agreed[0]
        self._launched = {m.node: m.id for m in self._members}
        self._see()
        self._thread.start()

    def close(self) -> None:
        """Stop looking after them; what is under way is waited for."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(2 * _CHANGE_S)

    def end(self) -> None:
        """Write down how it ended: what was wanted, what was agreed on, and each node's view."""
        agreed = self._agreement()
        views = {
            name: None if view is None else [m._asdict() for m in view]
            for name, view in self._views(self.serving).items()
        }
        self._note(
            event="end",
            wanted=list(self.first),
            settled=self._settled,
            pending=self.pending,
            agreed=None if agreed is None else [m._asdict() for m in agreed[0]],
            views=views,
        )

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                asked = self._asked
            try:
                pause = self._step()
            except SplitbrainError as e:  # of the provider, such as a process that another fault started
                self._refused, pause = str(e).splitlines()[0], _PAUSE_S
            with self._changed:
                self._changed.notify_all()
                until = time.monotonic() + pause
                while self._waits(asked) and (left := until - time.monotonic()) > 0:
                    self._changed.wait(left)

    def _waits(self, asked: int) -> bool:
        """Whether nobody has wanted anything since."""
        return self._asked == asked and not self._stopping

    def _step(self) -> float:
        """Look, and do at most one thing; returns for how long there is nothing to do."""
        agreed = self._agreement()
        if agreed is None:
            self._refused = "no node knew what the cluster agrees on"
            return _PAUSE_S
        members, answering = agreed
        with self._changed:
            self._members = members
            self._see()
            wanted, below = self._wanted, self._below
        if not self._resolved(members):
            return _PAUSE_S
        task = next_task(wanted, members, self._launched, answering=answering, below_quorum=below)
        if task is None:
            with self._changed:
                self._settled = self._wanted == wanted
                self._refused = ""
            return _CALM_S
        self._settled = False
        if task.do == "wait":
            self._refused = task.why
            self._start_again(task, members)
            return _PAUSE_S
        if task.do == "launch":
            self._launch(task, members)
            return 0.0
        return self._change(task, members, answering)

    def _resolved(self, members: Sequence[Known]) -> bool:
        """Whether no change is pending, or the one that is has been observed or given up."""
        pending = self._pending
        if pending is None:
            return True
        if _shows(pending.task, members):
            self._note(event="observed", do=pending.task.do, node=pending.task.node, id=pending.task.id)
        elif pending.acknowledged:
            self._note(event="contradicted", do=pending.task.do, node=pending.task.node, id=pending.task.id)
        elif time.monotonic() < pending.since + PATIENCE_S:
            return False
        else:
            self._note(event="unseen", do=pending.task.do, node=pending.task.node, id=pending.task.id)
        self._pending = None
        return True

    def _change(self, task: Task, members: Sequence[Known], answering: Sequence[str]) -> float:
        """Ask for one change of the members."""
        through = next((n for n in answering if n != task.node), answering[0])
        node = self._hosts[through]

        def ask(_name: str) -> None:
            if task.do == "add":
                self._admin.add(node, self._hosts[task.node], _CHANGE_S, learner=True)
            elif task.do == "promote":
                self._admin.promote(node, task.id, _CHANGE_S)
            else:
                self._admin.remove(node, task.id, _CHANGE_S)

        if task.do == "add" and any(s.alive for s in self._cluster.process.state(task.node)):
            self._cluster.process.signal(task.node, "KILL")  # of a member that was removed
        said = {"do": task.do, "node": task.node, "id": task.id, "through": through}
        self._note_once(event="asked", **said)
        answer = ask_all(self._cluster, [through], ask, wait_s=_CHANGE_S + 1.0)[through]
        if isinstance(answer, Definite):
            self._refused = f"{task.do} {task.node}: {answer}"
            self._note_once(event="refused", **said, error=str(answer))
            return _PAUSE_S
        if isinstance(answer, Exception) and not isinstance(answer, (OSError, OperationError)):
            raise answer
        self._pending = _Pending(task, time.monotonic(), acknowledged=not isinstance(answer, Exception))
        self._refused = ""
        if isinstance(answer, Exception):
            self._note(event="pending", **said, error=str(answer) or type(answer).__name__)
        else:
            self._note(event="acknowledged", **said)
        return 0.0

    def _launch(self, task: Task, members: Sequence[Known], *, anew: bool = True) -> None:
        """Have the node run its new member: the data of another one goes, and it learns who is there."""
        node = task.node
        if any(s.alive for s in self._cluster.process.state(node)):
            self._cluster.process.signal(node, "KILL")
        if anew:
            self._cluster.disk.tamper(node, "wipe", {})
        peers = tuple(self._hosts[m.node] for m in members if m.node in self._hosts)
        self._cluster.launch({node: self._processes(self._hosts[node], peers)})
        self._launched[node], self._tried[node] = task.id, time.monotonic()
        self._note(event="launched", node=node, id=task.id, wiped=anew)

    def _start_again(self, task: Task, members: Sequence[Known]) -> None:
        """A member that ended by itself before it ever took part met others than it was told of."""
        ended = [s for s in self._cluster.process.state(task.node) if not s.alive]
        by_itself = bool(ended) and all(s.exit != _KILLED for s in ended)
        if by_itself and time.monotonic() > self._tried.get(task.node, 0.0) + _AGAIN_S:
            self._launch(task, members, anew=False)

    # Asking.

    def _agreement(self) -> tuple[tuple[Known, ...], list[str]] | None:
        """What the cluster agrees on, and the nodes that say so; None where none can."""
        asked = self.serving
        answers = self._ask(asked, agreed=True)
        if not answers:
            return None
        found = tuple(self._known(m) for m in next(iter(answers.values())))
        return tuple(sorted(found)), [name for name in asked if name in answers]

    def _ask(self, names: Sequence[str], *, agreed: bool) -> dict[str, tuple[Member, ...]]:
        answers = ask_all(
            self._cluster,
            names,
            lambda name: self._admin.members(self._hosts[name], _ASK_S, agreed=agreed),
            wait_s=_ASK_S * 1.4,
        )
        return {name: a for name, a in answers.items() if not isinstance(a, Exception)}

    def _known(self, m: Member) -> Known:
        at = next((n.name for n in self._hosts.values() if m.address in (n.address, n.address6)), m.address)
        return Known(at, m.id, bool(m.name), m.learner)

    # Telling.

    @staticmethod
    def _plain(m: Known) -> str:
        return f"{m.node} {m.id}{' learner' if m.learner else ''}{'' if m.started else ' not started'}"

    def _see(self) -> None:
        """Write the agreement down where it has changed."""
        now = [self._plain(m) for m in self._members]
        if self._said.get("agreed") != now:
            self._said["agreed"] = now
            self._note(event="agreed", members=now)

    def _note_once(self, **line: Any) -> None:
        """Write a line unless it repeats the last one of its kind."""
        kind = str(line["event"])
        if self._said.get(kind) != line:
            self._said[kind] = line
            self._note(**line)

    def _note(self, **line: Any) -> None:
        self._file.append(msgspec.json.encode({"time": self._now(), **line}) + b"\n")


def _ids(members: Iterable[Known]) -> set[str]:
    return {m.id for m in members}


def _shows(task: Task, members: Sequence[Known]) -> bool:
    """Whether a change can be seen in what was agreed on."""
    if task.do == "add":
        return any(m.node == task.node for m in members)
    if task.do == "promote":
        return not any(m.id == task.id and m.learner for m in members)
    return not any(m.id == task.id for m in members)
