"""Provider `ssh`: nodes on hosts that exist, reached over SSH, one node a host.

On each host an agent does the work (`clusters.agent.host`), started over the one connection to it and talked to
over a channel of that: the node's processes have namespaces of their own but the host's network. Clients connect
from here, so that they have no places that could be cut off. What is dropped is matched by the peers' addresses and
the ports of the system, and SSH is never among them.

What a cluster is there is in `_ssh_cluster`, what a host needs in `_ssh_host`, the connection in `_ssh_link`.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from clusters.providers import _disks, _ssh_inside
from clusters.providers._ssh_cluster import CANNOT, SshCluster
from clusters.providers._ssh_host import Host
from clusters.providers._ssh_link import Link, Target, access_of, everywhere, parse
from harness.core.descriptor import Descriptor
from harness.core.errors import InfrastructureError, UsageError, unknown_name
from harness.core.options import Option

SSH: Final = Descriptor(
    name="ssh",
    summary="nodes on hosts that exist, at --nodes USER@HOST:PORT,...",
    target="clusters.providers.ssh:Ssh",
    hosts=True,
    options=(
        Option(
            name="key", default=None, secret=True, summary="file of the private key (default: agent, ~/.ssh)"
        ),
        Option(
            name="known_hosts", default=None, summary="file of known host keys (default: ~/.ssh/known_hosts)"
        ),
        Option(
            name="jump",
            default=None,
            summary="hosts to go through, as USER@HOST:PORT,...",
        ),
        Option(name="sudo", default=True, summary="become root with sudo where the login is not root"),
        Option(
            name="addresses",
            default=None,
            summary="the nodes' addresses for peers and clients (default: the hosts')",
        ),
        Option(name="python", default="python3", summary="Python on the hosts, 3.11 or newer"),
        Option(name="dir", default=None, summary="folder on the hosts (default: /var/tmp/splitbrain-USER)"),
        Option(
            name="silence_s",
            default=15,
            least=5,
            most=600,
            summary="how long a host may hear nothing of the harness before it undoes all faults by itself",
        ),
        Option(
            name="set_clock",
            default=False,
            summary="fault clock:jump sets the clocks of the hosts themselves, and sets them right again",
        ),
        _disks.SIZE,
    ),
)
_survey: Final = "survey"  # in place of a run's id
_survey_s: Final = 60.0


class Ssh:
    """The provider; implements `harness.core.cluster.Provider`. Option `hosts`: USER@HOST:PORT each."""

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        self._options = {o.name: o.default for o in SSH.options} | dict(options or {})
        self._targets = [parse(text) for text in self._options.get("hosts") or ()]
        self._access = access_of(self._options)
        self._hosts: list[Host] = []
        self.unmade = False

    def probe(self) -> Mapping[str, str | None]:
        try:
            import paramiko  # noqa: F401 - whether it is there
        except ImportError as e:
            return {"ssh": f"paramiko cannot be imported: {e}; install splitbrain again"}
        return {"ssh": None, **CANNOT}

    def enclose(self) -> None:
        """Nothing: what a run makes is on hosts, and has its own ways to end."""

    def resources(
        self, *, run: str, nodes: int, needs: frozenset[str] = frozenset()
    ) -> tuple[tuple[str, str], ...]:
        """The hosts. Logs in to all of them and looks what they have: where that fails, nothing was made."""
        self.reach()
        return tuple(("host", f"{host.name} {host.link.target}") for host in self._hosts)

    def reach(self) -> list[Host]:
        """Log in to every host, and look what it has. Raises: InfrastructureError."""
        if not self._hosts:
            addresses = _addresses(self._targets, self._options.get("addresses"))
            links = [Link(f"n{i}", target, self._access) for i, target in enumerate(self._targets, 1)]
            self._hosts = [Host(link, at, self._options) for link, at in zip(links, addresses, strict=True)]
            try:
                _all(self._hosts, _arrive)
            except BaseException:
                for link in links:
                    link.close()
                self._hosts = []
                raise
        return self._hosts

    def survey(self) -> dict[str, dict[str, str | None]]:
        """Node and host -> capability -> None or the reason why that host cannot, tried there.

        Raises: InfrastructureError.
        """
        hosts = self.reach()

        def ask(host: Host) -> dict[str, str | None]:
            host.begin(_survey)
            found: dict[str, str | None] = host.ask("survey", run=host.tag(_survey), timeout_s=_survey_s)
            host.end(_survey_s)
            return {**found, **CANNOT}

        try:
            with ThreadPoolExecutor(len(hosts)) as pool:
                found = list(pool.map(ask, hosts))
        finally:
            for host in hosts:
                with contextlib.suppress(InfrastructureError):  # the first error says more
                    host.heal(_survey)
                host.link.close()
            self._hosts = []
        return {host.link.says: one for host, one in zip(hosts, found, strict=True)}

    def create(
        self,
        *,
        run: str,
        run_dir: Path,
        nodes: int,
        mounts: Mapping[str, str],
        needs: frozenset[str] = frozenset(),
    ) -> SshCluster:
        assert nodes == len(self._targets), "a spec has as many nodes as hosts"
        for source in mounts:
            if not Path(source).exists():
                raise InfrastructureError(f"{source} is to be sent to the hosts, but is not there")
        cluster = SshCluster(
            run,
            run_dir.resolve(),
            self.reach(),
            int(self._options["silence_s"]),
            set_clock=bool(self._options["set_clock"]),
        )
        try:
            cluster.make(mounts)
            disks, tracer = cluster.disk.make(needs, self._options["disk_mb"]), cluster.tracer.make(needs)
            cluster.capabilities = {**cluster.capabilities, **disks, **tracer}
        except BaseException:
            self.unmade = cluster.abandon()
            raise
        return cluster

    def execute(self, *, run: str, node: str, argv: Sequence[str]) -> int:
        """See `harness.core.cluster.Provider`; over a connection of its own."""
        targets = {f"n{i}": target for i, target in enumerate(self._targets, 1)}
        if node not in targets:
            raise unknown_name("node", node, targets)
        with contextlib.closing(Link(node, targets[node], self._access)) as link:
            link.connect()
            return _ssh_inside.execute(Host(link, "", self._options), run, argv)


def _arrive(host: Host) -> None:
    host.link.connect()
    host.look()


def _all(hosts: Sequence[Host], work: Callable[[Host], None]) -> None:
    by_link = {id(host.link): host for host in hosts}
    everywhere([host.link for host in hosts], lambda link: work(by_link[id(link)]))


def _addresses(targets: Sequence[Target], given: str | None) -> list[str]:
    """Where peers and clients find each host. Raises: UsageError, InfrastructureError."""
    words = [word.strip() for word in given.split(",")] if given else [target.host for target in targets]
    if len(words) != len(targets):
        raise UsageError(f"option addresses={given}: expected one for each of the {len(targets)} hosts")
    found = []
    for word in words:
        try:
            every = socket.getaddrinfo(word, None, type=socket.SOCK_STREAM)
        except OSError as e:
            raise InfrastructureError(
                f"host {word!r} is not to be found ({e.strerror or e}); name another, or its address"
            ) from None
        every.sort(key=lambda one: one[0] != socket.AF_INET)
        found.append(str(every[0][4][0]))
    if len(set(found)) < len(found):
        twice = next(address for address in found if found.count(address) > 1)
        raise UsageError(
            f"two nodes have the address {twice}, where one cannot be cut off from the other; name hosts with addresses"
            " of their own, or these with --opt ssh.addresses=ADDRESS,..."
        )
    return found
