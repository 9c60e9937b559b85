"""Nodes, places, and what faults may do to them, whatever the provider.

A *node* runs processes of the system under test. A *place* is where the clients of one node stand:
an address of their own beside it, so that a partition can cut a leader off together with its
clients, or from them. An *endpoint* is a node or a place, and a port or any; blocks act on directed
pairs of endpoints. Every call that changes something is idempotent and returns facts that were
measured, not assumed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec


class Node(msgspec.Struct, frozen=True):
    """One machine of the cluster: its name (`n1`), IPv4 and IPv6 address as its peers see it, and where
    clients reach it if that is not the system's own port."""

    name: str
    address: str
    address6: str | None = None
    port: int | None = None


class Place(msgspec.Struct, frozen=True):
    """Where the clients of `node` connect from; named `c1` beside `n1`."""

    name: str
    node: str
    address: str
    address6: str | None = None


class Endpoint(msgspec.Struct, frozen=True, order=True):
    """A node or a place by name, and a TCP/UDP port, or None for all traffic."""

    name: str
    port: int | None = None


DATA_DIR: Final = "/run/splitbrain/data"  # a node's own data, as the node sees it
PROGRAM_DIR: Final = "/run/splitbrain/program"  # what was installed, read-only, as the node sees it

# What a cluster may be able to do, see `Cluster.capabilities`; a provider may have more of its own.
CAPABILITIES: Final = (
    "block",
    "shape",
    "client-places",
    "signal",
    "restart",
    "clock",
    "keep",
    "cpu-limit",
    "memory-limit",
    "descriptor-limit",
    "loop-disk",
    "at-rest",
    "trace",
)

Pair = tuple[Endpoint, Endpoint]  # directed: packets from the first to the second


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """How to run one process of a system on a node: pure data, the provider does the rest.

    `files` maps a path, as the node sees it, to its text; `dirs` are made before. `ports` are those
    that must be free and will be listened on. `stop_signal` is what an operator would send.
    `start_after_ms` is how long after the cluster's first process it is started at the launch, for
    systems that are slow to meet when all begin at the same instant; a restart does not wait.
    """

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = {}
    files: dict[str, str] = {}
    dirs: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    user: str | None = None
    stop_signal: str = "TERM"
    start_after_ms: int = 0


class ProcessState(msgspec.Struct, frozen=True, kw_only=True):
    """A process of the system as the kernel sees it now.

    `pid` is in the controller's PID namespace, `start` its start time in clock ticks after boot
    (together they name a process for ever), `state` the letter of /proc/PID/stat (`T` stopped), or
    None once it ended; then `exit` is its exit code, negative for a signal. `cpu_ticks` is user
    plus system time. `stop_signal` is what an operator would send to end it.
    """

    name: str
    pid: int
    start: int
    state: str | None
    cpu_ticks: int = 0
    exit: int | None = None
    stop_signal: str = "TERM"

    @property
    def alive(self) -> bool:
        return self.state is not None and self.state not in "ZX"


class Shaping(msgspec.Struct, frozen=True, kw_only=True):
    """What happens to the packets of a directed pair of endpoints. All of it may be combined.

    `delay_ms` is one way, with a jitter of mean 0 around it: `uniform` within +-`jitter_ms`, `normal` or
    `pareto` (a long tail of late packets) with that standard deviation. `loss`, `duplicate` and
    `corrupt` (one bit, which the receiver's checksum shows) are probabilities of each packet; `reorder`
    is that of being held for `reorder_ms` more than the others. `rate_kbit` in 1000 bit/s, 0 for any.
    `seed` is that of the draws.
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    distribution: Literal["uniform", "normal", "pareto"] = "uniform"
    loss: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    reorder: float = 0.0
    reorder_ms: float = 0.0
    rate_kbit: float = 0.0
    seed: int = 0


class Echoes(msgspec.Struct, frozen=True, kw_only=True):
    """What became of some ICMP echo requests, as one who stands in the network sees it.

    `received` are requests that were answered, `duplicates` answers beyond the first, `overtaken`
    answers that came after one to a later request. `rtt_ms` has the round trips in order of sending,
    by the kernel's clock. `bad_checksums` counts what both ends' kernels discarded for that meanwhile;
    `kbit` is the rate at which answers came (1000 bit/s), None when there were not two.
    """

    sent: int
    received: int
    duplicates: int
    overtaken: int
    rtt_ms: tuple[float, ...]
    bad_checksums: int
    kbit: float | None


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """How clocks go from the moment this is set, compared with the true ones: what they show is true
    time + `offset_ns` + (`rate` - 1) x the time since then (a rate of 0 stands still) + `swing_ns` in
    every other `half_ns` (0: in none). The monotonic clock keeps true time unless `monotonic`."""

    offset_ns: int = 0
    rate: float = 1.0
    half_ns: int = 0
    swing_ns: int = 0
    monotonic: bool = False


class ClockReading(msgspec.Struct, frozen=True, kw_only=True):
    """What one process's clocks showed, less the true ones: CLOCK_REALTIME `offset_ns` when it truly was
    `true_ns`, CLOCK_MONOTONIC `monotonic_ns` at `true_monotonic_ns`; all exact to `doubt_ns`.

    `how` is `call` when the process itself made the reading, through the function that it calls;
    `memory` where it could not be asked to (it is paused, or traced by another) and what that function
    would return was worked out from its memory. `shifted`: whether the function is not the kernel's own.
    """

    name: str
    pid: int
    start: int
    offset_ns: int
    true_ns: int
    monotonic_ns: int
    true_monotonic_ns: int
    doubt_ns: int
    shifted: bool
    how: str


class Network(Protocol):
    """What the network between nodes and places can be made to do."""

    def block(self, fault: str, pairs: Sequence[Pair], *, flap_s: float | None = None) -> Mapping[str, Any]:
        """Drop everything from the first to the second endpoint of each pair, at once for all; with
        `flap_s` for so long, then not for so long, and so on until `unblock`.

        `fault` names the block; blocks of several faults add up, and blocking again under the same
        name replaces. Returns facts: `pairs` in force, `took_ms`.
        """

    def unblock(self, fault: str) -> Mapping[str, Any]:
        """Lift what `fault` blocked; nothing happens if it blocked nothing."""

    def dropped(self) -> int:
        """Packets dropped by blocks since the cluster was made."""

    def shape(self, fault: str, pairs: Sequence[Pair], shaping: Shaping) -> Mapping[str, Any]:
        """Have `shaping` happen to all packets from the first to the second endpoint of each pair.

        `fault` names the shape; shapes of several faults add up, and shaping again under the same name
        replaces. Returns facts: `pairs` shaped in all, `took_ms`.
        """

    def unshape(self, fault: str) -> Mapping[str, Any]:
        """Take away what `shape` did under this name; nothing happens if it did nothing."""

    def shaped(self) -> Mapping[str, Any]:
        """What the means that shapes has counted so far: `seen`, `lost`, `delayed`, `duplicated`,
        `corrupted`, and `kernel_dropped`, packets that were lost because it was overrun. Empty if nothing was
        shaped yet."""

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
        """Send ICMP echo requests of `size` bytes (with the IP header) from `source` to `target`, node or
        place, and wait up to `wait_s` for late answers."""

    def reaches(self, source: str, target: str, port: int, timeout_s: float = 0.3) -> bool:
        """Whether a TCP connection from `source` (node or place) to `target` is accepted in time.

        A refused connection counts as reached: the packets went both ways.
        """


class Processes(Protocol):
    """What can be done to the system's processes on a node. Never touches the node's init."""

    def start(self, node: str) -> tuple[ProcessState, ...]:
        """Start those processes of the node that do not run."""

    def signal(
        self, node: str, signal: str, *, pid: int | None = None, start: int | None = None
    ) -> tuple[ProcessState, ...]:
        """Send `signal` (`KILL`, `STOP`, `CONT`, `TERM`) to the node's processes, or to the one
        with this `pid` and `start` if it still is that one. Returns the state before."""

    def state(self, node: str) -> tuple[ProcessState, ...]:
        """Each process that was started on the node, with its latest incarnation's state."""

    def loop(self, fault: str, node: str, *, up_s: float, down_s: float) -> None:
        """From now on kill the node's processes `up_s` after they were started, and start them again
        `down_s` later, over and over, until `unloop`. Returns when they have been killed once."""

    def unloop(self, fault: str) -> None:
        """Let be what `fault` keeps killing. It may be down then; idempotent."""


class Limits(Protocol):
    """How much a node's processes may use, and how much they do. The node's alone, never the machine's.

    `kind` is `cpu` (processors, such as 0.1), `memory` (bytes beyond what the node needs now, its cache not
    counted; that room is kept taken) or `descriptors` (of each process, so many more than it has open now).
    """

    def limit(self, fault: str, node: str, kind: str, amount: float) -> None:
        """Allow no more than `amount`. `fault` names the limit; of several the tightest counts, and of processors also
        of several of one fault. A second one of memory or descriptors by the same fault changes nothing."""

    def unlimit(self, fault: str) -> None:
        """Lift what `fault` limits; where nobody else limits it, all is as before. Idempotent."""

    def usage(self, node: str, kind: str) -> Mapping[str, Any]:
        """What the kernel says now. Every kind has `limit`, None where there is none.

        `cpu`: `throttled` (periods in which the limit was met), `throttled_ms`, both since the node was
        made. `memory`: `used`, `cache` (bytes that can be taken back), `pressed` (times that the limit
        was met), `killed` (processes that the kernel ended for want of memory). `descriptors`: `limit` of the
        process that has least room, `room` (how many more it can open), and `processes`, a list of facts.
        """


class Clocks(Protocol):
    """What can be done to the clocks of a node's processes; the machine's own is never touched.

    These are *process clocks*: what a program reads through the C library or its language's runtime.
    Raw system calls, the kernel's timers, absolute waits and the times of files keep true time.
    """

    def shift(self, fault: str, node: str, course: Course) -> Mapping[str, Any]:
        """Put the node's processes on `course`, those that are started later included.

        Of several faults' courses the one set last is in force. Returns facts: `processes`, `took_ms`.
        """

    def unshift(self, fault: str, node: str) -> Mapping[str, Any]:
        """End what `fault` set; nothing happens if it set nothing."""

    def clocks(self, node: str) -> tuple[ClockReading, ...]:
        """What the clocks of each process of the node show now, in well under 0.1 s."""


class Disks(Protocol):
    """What can be done to a node's data (capability `at-rest`), and to its disk, where it has one of its own
    (capability `loop-disk`)."""

    def sums(self, node: str) -> Mapping[str, str]:
        """`SIZE:CHECKSUM` of each file of the node's data, by its path in there. Needs no disk of its own."""

    def snapshot(self, node: str) -> None:
        """Copy the node's data while nothing moves, for a `rollback`. Needs no disk of its own."""

    def tamper(self, node: str, how: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Damage the node's data, on which nothing may run: `bit-flip` (`pattern`, `seed`, `count`), `truncate`
        (`pattern`, `seed`), `wipe`, `rollback`. Returns facts. Needs no disk of its own."""

    def replace(self, node: str, folder: Path) -> Mapping[str, str]:
        """Have a copy of `folder` as the node's data, on which nothing may run, and nothing else. Returns the `sums`
        that it should have then. Needs no disk of its own."""

    def flush(self, nodes: Sequence[str]) -> None:
        """Have all that was written by now on these nodes' disks, synced or not, as the kernel does now and then."""

    def plant(self, node: str, name: str) -> Mapping[str, bool]:
        """Write a file beside the node's data that is not synced; returns what `planted` finds then."""

    def planted(self, node: str, name: str) -> Mapping[str, bool]:
        """Whether that file (`unsynced`), and one that was synced when the disk was made (`synced`), hold what
        was written to them."""

    def power_loss(self, nodes: Sequence[str]) -> Mapping[str, Any]:
        """Stop everything on these nodes, take from their disks what was never synced, kill everything, and
        have the disks back as they are after a power loss. Nothing runs then. Returns facts: `took_ms`."""

    def spoil(self, node: str, error: str) -> None:
        """Have writes to the node's disk fail with `error`: `ENOSPC`, `EROFS` or `EIO`."""

    def try_write(self, node: str) -> str | None:
        """The name of the error that a synced write beside the node's data meets now, or None."""

    def mend(self, node: str) -> None:
        """Have writes to the node's disk succeed; where a new mount is needed, its processes are killed."""

    def mount(self, node: str) -> None:
        """Have the node's disk where it belongs; nothing happens if it is."""


class Tracer(Protocol):
    """Tampering with system calls of a node's processes (capability `trace`). A process has one tracer at most."""

    def trace(
        self,
        fault: str,
        node: str,
        calls: Sequence[str],
        what: str,
        *,
        files: str | None = None,
        follow: bool = False,
    ) -> None:
        """Do `what`, in strace's words (`delay_enter=50ms`), to these calls of all that runs on the node now.
        `files`: to calls on files of its data alone, by a pattern for the path below the data directory; `follow`:
        also of what is started there until `untrace`."""

    def untrace(self, fault: str, node: str) -> None:
        """Let go of what `fault` holds there; nothing happens if it holds nothing."""

    def longest_ms(
        self,
        node: str,
        calls: Sequence[str],
        watch_s: float,
        enough_ms: float,
        *,
        files: str | None = None,
    ) -> float:
        """For how long, at the longest, a thread of the node's processes was seen in one of these calls (`fsync`,
        `write`) without having run; looks for `watch_s`, or until it saw one of `enough_ms`. `files` as in `trace`."""


class Cluster(Protocol):
    """What the harness and the faults act on. Nodes may come and go during a run."""

    @property
    def nodes(self) -> tuple[Node, ...]: ...
    @property
    def places(self) -> tuple[Place, ...]: ...
    @property
    def zones(self) -> Mapping[str, tuple[str, ...]]:
        """Zone -> the nodes that stand in it; empty where nobody said so."""

    @property
    def network(self) -> Network: ...
    @property
    def process(self) -> Processes: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def clock(self) -> Clocks: ...
    @property
    def disk(self) -> Disks: ...
    @property
    def tracer(self) -> Tracer: ...
    @property
    def capabilities(self) -> Mapping[str, str | None]:
        """Capability name -> None where it works here, else the reason why not.

        Names: `block`, `shape`, `client-places`, `signal`, `restart`, `clock`, `keep` (the cluster can stand
        when its run is over), `cpu-limit`, `memory-limit`, `descriptor-limit`, `loop-disk` (nodes have disks of
        their own, which can lose their power), `at-rest` (data can be damaged), `trace` (system calls can be
        tampered with); more arrive with their faults.
        """

    @property
    def inits(self) -> Mapping[str, tuple[int, int]]:
        """Through which process, by pid here and start time, a node's namespaces can be entered."""

    def launch(self, processes: Mapping[str, Sequence[Process]]) -> None:
        """Say what runs on each node (by name), and start it everywhere.

        Raises: NodeFailed when a process cannot be executed.
        """

    def enter(self, endpoint: str) -> None:
        """Bind the calling *thread* to the network of this node or place, for the rest of its life."""

    def log_dir(self, node: str) -> Path:
        """Where the node's processes write their logs, on the controller's file system."""

    def spawn_helper(self, argv: Sequence[str], name: str) -> int:
        """Start a helper process of the harness (the sampler) beside the controller; returns its pid.

        Its environment says how its threads enter the network of a node or place: SPLITBRAIN_ENTER
        is `module:attr` of a function that takes the name. It ends with the cluster.
        """

    def check(self) -> None:
        """Look whether all that the cluster stands on is still there; called once a second, so cheap.

        Raises: InfrastructureError when something is gone that no fault has touched: the agent, a
        container, the daemon that runs it.
        """

    def close(self) -> None:
        """End every process, remove every namespace, rule, mount and cgroup. Idempotent.

        Where nodes do not end with the calling process, a cluster has `keep(limit_s)`, which has them end by
        themselves in so many seconds, whatever becomes of us, and with no fault left in force.
        """


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What a system may know when it says how to launch a node; paths are as the node sees them.

    `joining`: the node joins a cluster that exists, of which `nodes` are the members, itself included.
    """

    nodes: tuple[Node, ...]
    run: str
    version: str
    options: dict[str, Any]
    program: dict[str, str]  # artifact name -> path
    data_dir: str
    joining: bool = False


class Provider(Protocol):
    """Where nodes run. Created with its options. `enclose` is called once, in the run's own process,
    before it has any thread."""

    def probe(self) -> Mapping[str, str | None]:
        """Capability -> None or the reason why this host cannot; used by `doctor` and before a run."""

    def enclose(self) -> None:
        """Enter the namespaces that bound the run's life, where the provider has such."""

    def resources(
        self, *, run: str, nodes: int, needs: frozenset[str] = frozenset()
    ) -> tuple[tuple[str, str], ...]:
        """What `create` will make that does not end with the run's own processes, as (kind, name).

        It goes into the ledger before `create` is called, so that `heal` finds it whatever ends the
        run. What removes a kind, from its name alone, is found in `splitbrain.heal`. Where nobody could see from here
        whether it is there, a provider has `unmade`: whether all that `create` had made when it failed is gone.
        """

    def create(
        self,
        *,
        run: str,
        run_dir: Path,
        nodes: int,
        mounts: Mapping[str, str],
        needs: frozenset[str] = frozenset(),
    ) -> Cluster:
        """Make `nodes` nodes `n1`.. and their places `c1`...

        `needs` are the capabilities that the run's faults ask for: what takes a set-up of its own
        (`loop-disk`) is set up for those only. One that cannot be had is no error here, but stands in the
        cluster's `capabilities` with the reason.

        `mounts`: path on the host -> path in every node, read-only. Logs go to `run_dir/logs/NODE/`,
        data lives below `run_dir` and is seen by the node as `DATA_DIR`.

        Raises: MissingCapability, InfrastructureError.

        Where nobody could enter a node from here, a provider has `execute(run=, node=, argv=)`: it runs a command
        inside a node of a run that lives or was kept, with our standard streams, and returns its exit code. Raises
        UsageError where that run is over, or has no such node.
        """
