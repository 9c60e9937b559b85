"""Hosts to log in to: real OpenSSH servers, each in network, mount, PID and UTS namespaces of its own.

All stand on one bridge that nobody else is on, together with a place for whoever drives them. A host sees this
machine's files and cannot change them; what it writes goes to a folder of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from clusters.agent import network
from clusters.means import kernel, namespaces
from clusters.means.nft import find_program

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
RANGE = "10.44.0"
USER = "operator"  # an ordinary user of the hosts, who may become root
PLAIN = "visitor"  # one who may not
_config = """
Port {port}
HostKey /etc/ssh/host_key
PidFile none
AuthorizedKeysFile /etc/ssh/keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
Subsystem sftp internal-sftp
MaxSessions 20
MaxStartups 100
"""
_start = """
set -e
own() {{ mount --bind "$1" "$2"; mount -o remount,bind,rw "$2"; }}
mount --make-rprivate /
PYTHONPATH={root} python3 -B -c 'from clusters.means import kernel; kernel.seal()'
mount -t proc proc /proc
own {folder}/etc /etc
own {folder}/tmp /var/tmp
own {folder}/home /home
own {folder}/root /root
for group in $(findmnt -rno TARGET | grep ^/sys/fs/cgroup/); do mount -o remount,bind,rw $group; done
mount -o remount,bind,rw /dev/pts
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mkdir -m 755 /run/sshd
hostname {name}
exec {sshd} -D -e -f /etc/ssh/sshd_config
"""
_script_s = 10.0


def why_not() -> str | None:
    """Why there can be no such hosts here, or None."""
    if os.geteuid() != 0:
        return "namespaces for SSH servers are made as root"
    if find_program("sshd") is None:
        return "there is no sshd; install openssh-server"
    if not Path("/usr/bin/python3").exists():
        return "hosts have no /usr/bin/python3 here"
    return None


class Host:
    """One host: where it is, and the process that it ends with."""

    def __init__(self, lab: Lab, name: str, address: str, port: int, fd: int) -> None:
        self.lab, self.name, self.address, self.port, self.fd = lab, name, address, port, fd
        self.folder = lab.folder / name
        self.process: subprocess.Popen[bytes] | None = None

    def __str__(self) -> str:
        return f"root@{self.address}:{self.port}"

    def furnish(self) -> None:
        """Make what the host is to have of its own."""
        for part in ("tmp", "home", "root"):
            (self.folder / part).mkdir(parents=True)
            (self.folder / part).chmod(0o1777 if part == "tmp" else 0o755)
        shutil.copytree("/etc", self.folder / "etc", symlinks=True, ignore_dangling_symlinks=True)
        etc = self.folder / "etc"
        for number, user in ((4711, USER), (4712, PLAIN)):
            with (etc / "passwd").open("a") as passwd, (etc / "group").open("a") as group:
                passwd.write(f"{user}:x:{number}:{number}::/home/{user}:/bin/sh\n")
                group.write(f"{user}:x:{number}:\n")
            with (etc / "shadow").open("a") as shadow:
                shadow.write(f"{user}:*:19000:0:99999:7:::\n")
            home = self.folder / "home" / user
            home.mkdir()
            os.chown(home, number, number)
        (etc / "sudoers.d").mkdir(exist_ok=True)
        (etc / "sudoers.d" / "splitbrain").write_text(f"{USER} ALL=(root) NOPASSWD: ALL\n")
        (etc / "sudoers.d" / "splitbrain").chmod(0o440)
        keygen(etc / "ssh" / "host_key")
        shutil.copy(self.lab.key.with_suffix(".pub"), etc / "ssh" / "keys")
        (etc / "ssh" / "sshd_config").write_text(_config.format(port=self.port))

    def up(self) -> None:
        """Start the host, and wait until its server listens."""
        script = _start.format(root=ROOT, folder=self.folder, name=self.name, sshd=find_program("sshd"))
        argv = ["nsenter", f"--net=/proc/self/fd/{self.fd}", "unshare", "--mount", "--pid", "--uts", "--fork"]
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*argv, "--kill-child", "sh", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self.fd],
                env={
                    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                    "LANG": "C.UTF-8",
                },
            )
        deadline = time.monotonic() + _script_s
        while not self.lab.inside(lambda: listens(self.address, self.port)):
            assert self.process.poll() is None, (self.folder / "sshd.log").read_text()
            assert time.monotonic() < deadline, (self.folder / "sshd.log").read_text()
            time.sleep(0.02)

    def down(self) -> None:
        """Pull the plug: everything on the host ends at once, and nobody is told."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def unplug(self, *, back: bool = False) -> None:
        """Take the host off the network, or put it back."""
        self.lab.at_the_switch(lambda: network.batch([f"link set {self.name} {'up' if back else 'down'}"]))

    def command(self, argv: Sequence[str]) -> list[str]:
        """A command line that runs on the host."""
        assert self.process is not None
        pid = next(child for child in _children(self.process.pid))
        return ["nsenter", f"--target={pid}", "--mount", "--net", "--pid", "--uts", *argv]

    def run(self, script: str) -> str:
        """What a shell on the host says."""
        argv = self.command(["sh", "-c", script])
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_script_s, check=False)
        return done.stdout + done.stderr


class Lab:
    """Some hosts, and whoever drives them."""

    def __init__(self, folder: Path, count: int, *, port: int = 22) -> None:
        self.folder = folder
        self.key = folder / "key"
        keygen(self.key)
        self._switch, self.fd = self._made()
        self.hosts = tuple(
            Host(self, f"h{i}", f"{RANGE}.{i}", port, namespaces.make()) for i in range(1, count + 1)
        )
        ports = [network.Port(h.name, h.fd, h.address, None) for h in self.hosts]
        ports.append(network.Port("lab", self.fd, f"{RANGE}.200", None))
        self.at_the_switch(lambda: network.build(ports, self._switch, 24))
        self.known_hosts = folder / "known_hosts"
        for host in self.hosts:
            host.furnish()
        self.known_hosts.write_text("".join(map(known, self.hosts)))

    def __enter__(self) -> Lab:
        try:
            for host in self.hosts:
                host.up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.down()
            os.close(host.fd)
        os.close(self.fd)
        os.close(self._switch)

    @property
    def options(self) -> list[str]:
        """What a command needs in order to run on these hosts."""
        return [
            *("--provider", "ssh", "--nodes", ",".join(map(str, self.hosts))),
            *("--opt", f"ssh.key={self.key}", "--opt", f"ssh.known_hosts={self.known_hosts}"),
        ]

    def inside(self, work: Callable[[], T]) -> T:
        """What `work` returns where the driver stands."""
        return _at(self.fd, work)

    def at_the_switch(self, work: Callable[[], T]) -> T:
        return _at(self._switch, work)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread, and the threads and processes that it starts, stand where the driver does."""
        here = namespaces.current()
        namespaces.enter(self.fd)
        try:
            yield
        finally:
            kernel.setns(here, kernel.CLONE_NEWNET)
            os.close(here)

    def command(self, argv: Sequence[object]) -> list[str]:
        """A command line that runs where the driver stands; pass it `fds`."""
        return ["nsenter", f"--net=/proc/self/fd/{self.fd}", *map(str, argv)]

    @staticmethod
    def _made() -> tuple[int, int]:
        return namespaces.make(), namespaces.make()


def keygen(path: Path) -> None:
    """A key pair without a passphrase."""
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(argv, check=True, timeout=_script_s)


def known(host: Host) -> str:
    """A host's line of known_hosts."""
    kind, key, *_ = (host.folder / "etc" / "ssh" / "host_key.pub").read_text().split()
    name = host.address if host.port == 22 else f"[{host.address}]:{host.port}"
    return f"{name} {kind} {key}\n"


def listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=0.5):
            return True
    except OSError:
        return False


def _at(fd: int, work: Callable[[], T]) -> T:
    found: list[T] = []
    failed: list[BaseException] = []

    def inside() -> None:
        try:
            namespaces.enter(fd)
            found.append(work())
        except BaseException as e:  # noqa: BLE001 - it goes to whoever asked
            failed.append(e)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return found[0]


def _children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


if __name__ == "__main__":  # for a look round: python -m tests.clusters.sshd FOLDER [COUNT] -- COMMAND
    where, rest = sys.argv[1], sys.argv[2:]
    number = int(rest.pop(0)) if rest and rest[0].isdecimal() else 3
    with Lab(Path(where), number) as made:
        code = subprocess.run(
            made.command([*rest[1:], *made.options]), pass_fds=[made.fd], check=False
        ).returncode
    sys.exit(code)
