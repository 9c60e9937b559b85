"""Provider `docker`: every node a container on a network of the run's own, made through docker-py.

The daemon makes the network (fixed addresses, no way out) and the containers (image, mounts, limits
of memory and processors) and removes them; what happens in between is the agent's, as with netns,
see `clusters.agent.containers`. Everything that is made has the run's id in its name and in a label.

The agent works by namespaces and process ids, so the daemon has to be this machine's, and root's. Of
any other, `probe` says what cannot be had and why, and a run is refused.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clusters.means.dockerd import LABEL, Daemon, DaemonError, clear
from clusters.means.loader import standalone
from clusters.means.nft import BRIDGE_PREFIX, discard, find_program, table_of
from clusters.providers import _disks, _zones
from clusters.providers._ranges import MOST_NODES, addresses, claimed, in_use, prefix6_of
from clusters.providers.netns import Netns, NetnsCluster
from harness.core.cluster import CAPABILITIES, DATA_DIR, Node, Place, Process
from harness.core.descriptor import Descriptor
from harness.core.errors import InfrastructureError, MissingCapability, SplitbrainError, UsageError
from harness.core.options import Option

if TYPE_CHECKING:
    from docker import DockerClient

    from clusters.providers._docker_images import Image

DOCKER = Descriptor(
    name="docker",
    summary="nodes in Docker containers on this machine (needs root and a daemon)",
    target="clusters.providers.docker:Docker",
    options=(
        Option(
            name="subnet",
            default=None,
            summary="IPv4 range of the nodes, such as 10.73.0.0/24 (default: the first one that is free)",
        ),
        Option(
            name="image",
            default=None,
            summary="image of the nodes (default: a skeleton over the host's /usr)",
        ),
        Option(
            name="dockerfile", default=None, summary="a Dockerfile, or its folder, to build the image from"
        ),
        Option(
            name="rootfs", default=None, summary="a tar, such as mmdebstrap makes, to import the image from"
        ),
        Option(
            name="pcap",
            default=False,
            summary="capture the packets between nodes and clients, the latest 256 MB",
        ),
        *_zones.OPTIONS,
        _disks.SIZE,
        Option(name="memory_mb", default=0, least=0, summary="memory of each node in MB, 0: no limit"),
        Option(
            name="cpus", default=0.0, least=0, summary="processors of each node, such as 0.5, 0: no limit"
        ),
    ),
)

_names: Final = ("docker", *CAPABILITIES)
_usual: Final = "unix:///var/run/docker.sock"
_unix: Final = "unix://"
_init_dir: Final = "/run/splitbrain/init"
_answer_s: Final = 60  # for the slowest thing asked of a daemon but building: a container's start
_join_s: Final = 30.0
_nobodys_port: Final = 1  # refused is an answer, too
_pass_s: Final = 2.5  # time for a second try, should the first packet be lost
_at_once: Final = 4  # containers that are made at the same time
_smallest_mb: Final = 6  # what Docker takes at the least


class _RangeTaken(Exception):
    """Docker has given the address range to a network that shows on no interface."""


class Docker:
    """The provider; implements `harness.core.cluster.Provider`."""

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        from clusters.providers._docker_images import refuse

        self._options = dict(options or {})
        refuse(self._options)
        memory_mb = self._options.get("memory_mb") or _smallest_mb
        if memory_mb < _smallest_mb:
            raise UsageError(
                f"option memory_mb={memory_mb}: expected at least {_smallest_mb}, or 0 for no limit"
            )

    def probe(self) -> Mapping[str, str | None]:
        try:
            with contextlib.closing(_connect()) as client:
                info = client.info()
        except InfrastructureError as e:
            return dict.fromkeys(_names, str(e))
        found: dict[str, str | None] = dict.fromkeys(_names, _distance(info))
        found["docker"] = None
        for name, reason in Netns().probe().items():
            if name in found and found[name] is None:
                found[name] = reason
        for name, known in (("memory-limit", "MemoryLimit"), ("cpu-limit", "CpuCfsQuota")):
            found[name] = found[name] or (
                None if info.get(known) else "the daemon's control groups cannot do it"
            )
        return found

    def enclose(self) -> None:
        """Nothing: containers' processes are children of the daemon's, and known by the host's process
        ids, which a PID namespace of the run's own would hide. The agent ends what the run has made."""

    def resources(
        self, *, run: str, nodes: int, needs: frozenset[str] = frozenset()
    ) -> tuple[tuple[str, str], ...]:
        title = f"splitbrain-{run}"
        containers = (("container", f"{title}-n{i + 1}") for i in range(nodes))
        made = (*containers, ("network", title), ("table", f"bridge {table_of(run)}"))
        return (*made, *_disks.resources(needs), ("work", "work"))

    def create(
        self,
        *,
        run: str,
        run_dir: Path,
        nodes: int,
        mounts: Mapping[str, str],
        needs: frozenset[str] = frozenset(),
    ) -> DockerCluster:
        if not 1 <= nodes <= MOST_NODES:
            raise UsageError(f"{nodes} nodes: provider docker takes 1 to {MOST_NODES}")
        for source in mounts:
            if not Path(source).exists():
                raise InfrastructureError(f"{source} is to be mounted in the nodes, but is not there")
        with contextlib.closing(_connect()) as client:
            from clusters.providers._docker_images import obtain

            info = client.info()
            if (reason := _distance(info)) is not None:
                raise MissingCapability(f"provider docker cannot work here: {reason}")
            limits = self._limits(info)
            image = obtain(client, self._options)
            used = in_use()
            while True:
                network, claim = claimed(self._options.get("subnet"), used, "docker")
                gateway = network.broadcast_address - 1
                plan = addresses(network, nodes, six=prefix6_of(network))
                highest = max(ipaddress.IPv4Address(place.address) for place in plan[1])
                if highest >= gateway:
                    raise UsageError(
                        f"option subnet={network}: too small for {nodes} nodes and their clients; use a /24"
                    )
                zones, trips = _zones.parse(self._options, [node.name for node in plan[0]])
                cluster = DockerCluster(run, run_dir.resolve(), *plan, claim=claim)
                cluster.zones = zones
                try:
                    cluster.make_containers(client, image, network, mounts, limits)
                    disks = cluster.disk.make(needs, self._options.get("disk_mb", _disks.SIZE_MB))
                    cluster.capabilities = {**cluster.capabilities, **disks, **cluster.tracer.make(needs)}
                    _zones.stand(cluster, zones, trips)
                    if self._options.get("pcap"):
                        cluster.capture(BRIDGE_PREFIX + run)
                except _RangeTaken:
                    cluster.close()
                    used[network] = "another Docker network"
                except BaseException as e:
                    with contextlib.suppress(SplitbrainError):  # the first error says more
                        cluster.close()
                    if isinstance(e, OSError):
                        raise InfrastructureError(f"the cluster cannot be made in {run_dir}: {e}") from e
                    raise
                else:
                    return cluster

    def _limits(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """The limits of each container, in the words of docker-py."""
        limits: dict[str, Any] = {}
        memory, cpus = self._options.get("memory_mb") or 0, self._options.get("cpus") or 0.0
        if memory:
            if not info.get("MemoryLimit"):
                raise MissingCapability(
                    f"option memory_mb={memory}: the daemon's control groups cannot do it"
                )
            limits |= {"mem_limit": f"{memory}m", "memswap_limit": f"{memory}m"}
        if cpus:
            if cpus > info["NCPU"]:
                raise MissingCapability(f"option cpus={cpus:g}: this machine has {info['NCPU']}")
            if not info.get("CpuCfsQuota"):
                raise MissingCapability(f"option cpus={cpus:g}: the daemon's control groups cannot do it")
            limits["nano_cpus"] = int(cpus * 1e9)
        return limits


class DockerCluster(NetnsCluster):
    """A cluster of containers: as one of namespaces, but for how it is made and what it leaves."""

    def __init__(
        self,
        run: str,
        run_dir: Path,
        nodes: tuple[Node, ...],
        places: tuple[Place, ...],
        *,
        claim: socket.socket | None = None,
    ) -> None:
        super().__init__(run, run_dir, nodes, places, claim=claim)
        self._title = f"splitbrain-{run}"
        self._env: dict[str, str] = {}
        self._six: str | None = None  # the prefix of its IPv6 addresses
        self._socket = _host().removeprefix(_unix)

    # life

    def make_containers(
        self,
        client: DockerClient,
        image: Image,
        network: ipaddress.IPv4Network,
        mounts: Mapping[str, str],
        limits: Mapping[str, Any],
    ) -> None:
        """Have the daemon make network and containers, and the agent move in.

        Raises: _RangeTaken when another network of the daemon's has the range.
        """
        self._env = image.env
        self._start_agent("containers")
        self._ask("prepare", run=self.run, run_dir=str(self._run_dir), daemon=self._socket)
        bridge = BRIDGE_PREFIX + self.run
        self._six = prefix6_of(network) if self.nodes[0].address6 else None
        self._make_network(client, network, bridge)
        files, idle = standalone(_program("cat"), _init_dir)
        mounts = {str(Path(source).resolve()): target for source, target in mounts.items()}
        mounts = {**image.mounts, **mounts, **files, "/dev/null": "/etc/resolv.conf"}  # no server to wait for
        with _asking("make the containers"), ThreadPoolExecutor(_at_once) as pool:
            work = partial(self._make_node, client, image.name, idle, mounts, limits)
            nodes = dict(zip((n.name for n in self.nodes), pool.map(work, self.nodes), strict=True))
        made, fds = self._exchange(
            "join",
            nodes=nodes,
            ports={end.name: [end.address, end.address6] for end in self._ends},
            bridge=bridge,
            prefix=network.prefixlen,
            timeout_s=_join_s,
        )
        self._know(made, fds)
        works = dict.fromkeys(("docker", "client-places", "signal", "restart", "keep", "descriptor-limit"))
        limited = {f"{c}-limit": self.limits.refusal(self.nodes[0].name, c) for c in ("cpu", "memory")}
        self.capabilities = {**works, **limited, **made["cannot"]}
        place, node = self.places[0].name, self.nodes[-1].name
        if not self.reaches(place, node, _nobodys_port, _pass_s):
            raise MissingCapability(
                f"provider docker cannot work here: packets from {place} to {node} do not arrive; a firewall here"
                f" drops what crosses bridges (is the daemon run with --iptables=false?); let interfaces sb-+ pass in"
                " iptables' FORWARD chain, or set net.bridge.bridge-nf-call-iptables to 0"
            )

    def check(self) -> None:
        super().check()
        if not self._shaped:
            self._ask("check")

    def _make_network(self, client: DockerClient, network: ipaddress.IPv4Network, bridge: str) -> None:
        from docker.types import IPAMConfig, IPAMPool

        pools = [IPAMPool(subnet=str(network), gateway=str(network.broadcast_address - 1))]
        if self._six:
            pools.append(IPAMPool(subnet=f"{self._six}/64", gateway=f"{self._six}ffff"))
        try:
            with _asking("make a network"):
                client.networks.create(
                    self._title,
                    driver="bridge",
                    internal=True,  # nobody has a way out: what a node sends reaches nodes and places, or nobody
                    options={"com.docker.network.bridge.name": bridge},
                    ipam=IPAMConfig(pool_configs=pools),
                    enable_ipv6=self._six is not None,
                    labels={LABEL: self.run},
                )
        except InfrastructureError as e:
            if "overlaps" in str(e):
                raise _RangeTaken from e
            raise

    def _make_node(
        self,
        client: DockerClient,
        image: str,
        idle: list[str],
        mounts: Mapping[str, str],
        limits: Mapping[str, Any],
        node: Node,
    ) -> list[Any]:
        """Make and start one container; its name, id, and the pid of its first process, which does
        nothing but read until its input ends."""
        from docker.types import LogConfig, Mount

        data = self._run_dir / "work" / node.name / "data"
        data.mkdir(parents=True, exist_ok=True)
        self.log_dir(node.name).mkdir(parents=True, exist_ok=True)
        api, name = client.api, f"{self._title}-{node.name}"
        binds = [Mount(to, source, type="bind", read_only=True) for source, to in mounts.items()]
        made = api.create_container(
            image,
            name=name,
            entrypoint=idle,
            command=[],
            hostname=node.name,
            user="0",
            working_dir="/",
            stdin_open=True,
            stop_signal="SIGKILL",
            healthcheck={"test": ["NONE"]},
            labels={LABEL: self.run},
            networking_config=api.create_networking_config(
                {
                    self._title: api.create_endpoint_config(
                        ipv4_address=node.address, ipv6_address=node.address6
                    )
                }  # type: ignore[arg-type]  # the stub errs
            ),
            host_config=api.create_host_config(
                network_mode=self._title,
                mounts=[*binds, Mount(DATA_DIR, str(data), type="bind")],
                extra_hosts={end.name: end.address for end in self._ends},
                auto_remove=True,
                log_config=LogConfig(type="none"),
                userns_mode="host",  # who is root in it is root of the data directory, too
                security_opt=["label=disable"],  # SELinux would keep it from what is mounted
                **limits,
            ),
        )
        api.start(made["Id"])
        state = api.inspect_container(made["Id"])["State"]
        if not state["Running"]:
            raise InfrastructureError(
                f"container {name} ended at once with exit code {state['ExitCode']}: image {image} cannot hold a node"
            )
        return [name, made["Id"], state["Pid"]]

    def _sweep(self) -> list[str]:
        problems = clear(self.run, self._socket)
        with contextlib.suppress(OSError):  # no nftables, no rules
            discard(self.run)
        return problems + super()._sweep()

    def _spec(self, process: Process) -> dict[str, Any]:
        return {**super()._spec(process), "env": {**self._env, **process.env}}


def _host() -> str:
    return os.environ.get("DOCKER_HOST") or _usual


def _connect() -> DockerClient:
    """A client of the daemon that DOCKER_HOST names, or the usual one.

    Raises: MissingCapability when it does not answer.
    """
    import docker
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    from clusters.providers._docker_images import explain

    advice = "start it (systemctl start docker, or dockerd), or name another with DOCKER_HOST"
    try:
        if _host().startswith(_unix):
            Daemon(_host().removeprefix(_unix)).greet()
        return docker.from_env(timeout=_answer_s)
    except DaemonError as e:
        raise MissingCapability(f"{e}; {advice}") from None
    except (DockerException, RequestException) as e:
        said = explain(e)
        raise MissingCapability(
            f"the Docker daemon at {_host()} does not answer ({said}); {advice}"
        ) from None


def _distance(info: Mapping[str, Any]) -> str | None:
    """Why the daemon is not one whose containers can be entered from here, or None."""
    here = "clients cannot stand inside its network, and processes cannot be reached"
    if not _host().startswith(_unix):
        return f"the Docker daemon at {_host()} is reached over a network: {here}; run splitbrain on its host, as root"
    if (info["Name"], info["KernelVersion"]) != (os.uname().nodename, os.uname().release):
        return (
            f"the Docker daemon at {_host()} runs on {info['Name']} with Linux {info['KernelVersion']}, not here:"
            f" {here}; run splitbrain there, as root and outside of any container"
        )
    if "name=rootless" in info["SecurityOptions"]:
        return (
            f"the Docker daemon at {_host()} is rootless, its network inside a user namespace: {here}; use root's"
            " daemon, or --provider netns, which needs no root either"
        )
    if os.geteuid() != 0:
        return (
            "entering containers needs root; run as root (sudo), or use --provider netns, which does without"
        )
    return None


@contextlib.contextmanager
def _asking(what: str) -> Iterator[None]:
    """Say in one sentence what the daemon refused."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    from clusters.providers._docker_images import explain

    try:
        yield
    except (DockerException, RequestException) as e:
        raise InfrastructureError(f"the Docker daemon at {_host()} cannot {what}: {explain(e)}") from None


def _program(name: str) -> str:
    path = find_program(name)
    if path is None:
        raise MissingCapability(f"provider docker cannot work here: the command {name} is missing")
    return path
