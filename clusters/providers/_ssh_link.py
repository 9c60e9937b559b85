"""One host over SSH: one connection, on which everything goes; and what is said when it does not.

Host keys are checked against known_hosts, always: a host that is not in there is refused with its fingerprint, one
whose key has changed with both. Commands have a time limit each. paramiko is imported when the first
connection is made. Whatever goes wrong is an InfrastructureError that names the host, and never the key's path: it
would stand in the run's directory.
"""

from __future__ import annotations

import base64
import contextlib
import getpass
import hashlib
import logging
import os
import re
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from harness.core.errors import InfrastructureError, MissingCapability, UsageError
from harness.core.secrets import HIDDEN

if TYPE_CHECKING:
    import paramiko

PORT: Final = 22
_target: Final = re.compile(
    r"(?:(?P<user>[^\s@:\[\],/]+)@)?(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s\[\]:,/@]+))(?::(?P<port>\d{1,5}))?"
)
_connect_s: Final = 10.0
_command_s: Final = 30.0
_alive_s: Final = 5  # between two questions of the connection itself, where nothing else is said
_chunk: Final = 1 << 18
_at_once: Final = 16
_most_output: Final = 64 << 20
_T = TypeVar("_T")


class Target(NamedTuple):
    """Whom to log in as, where."""

    user: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" + (f":{self.port}" if self.port != PORT else "")


class Done(NamedTuple):
    """A command that has ended."""

    code: int
    out: bytes
    err: str


def parse(text: str) -> Target:
    """`USER@HOST:PORT`; without USER it is who runs this, without PORT it is 22.

    >>> parse("root@db1.example:2222")
    Target(user='root', host='db1.example', port=2222)
    >>> str(parse("root@[2001:db8::7]"))
    'root@[2001:db8::7]'

    Raises: UsageError for anything else.
    """
    match = _target.fullmatch(text)
    port = int(match["port"] or PORT) if match else 0
    if match is None or not 0 < port < 65536:
        raise UsageError(
            f"host {text!r}: expected USER@HOST or USER@HOST:PORT, such as root@192.0.2.7 or admin@db1.example:2222"
        )
    return Target(match["user"] or getpass.getuser(), match["six"] or match["host"], port)


class Access(NamedTuple):
    """How to log in: a key, or None for an agent and the usual keys; the file of known hosts, or None for the
    usual ones; the hosts to jump over, in order."""

    key: str | None = None
    known_hosts: str | None = None
    jump: tuple[Target, ...] = ()


class Link:
    """The connection to one host. Any thread may use it; each command has a channel of its own."""

    def __init__(self, name: str, target: Target, access: Access) -> None:
        self.name = name
        self.target = target
        self.says = f"{name} ({target})" if name else str(target)
        self._access = access
        self._client: paramiko.SSHClient | None = None
        self._way: list[paramiko.SSHClient] = []

    def connect(self) -> None:
        """Log in, over the jump hosts if there are any.

        Raises: InfrastructureError, MissingCapability.
        """
        sock: Any = None
        for target in self._access.jump:
            says = f"the jump host {target} of {self.says}"
            hop = _log_in(target, self._access, says, sock)
            self._way.append(hop)
            after = [*self._access.jump, self.target][self._access.jump.index(target) + 1]
            sock = self._through(hop, after, says)
        self._client = _log_in(self.target, self._access, self.says, sock)
        transport = self._client.get_transport()
        if transport is not None:
            transport.set_keepalive(_alive_s)

    def run(
        self, command: str, *, timeout_s: float = _command_s, feed: bytes | Iterable[bytes] = b""
    ) -> Done:
        """Run a line of shell to its end; `feed` goes to its input.

        Raises: InfrastructureError when it takes longer than `timeout_s`, or the connection is gone.
        """
        deadline = time.monotonic() + timeout_s
        out: list[bytes] = []
        err: list[bytes] = []
        with self._saying(f"cannot run {_brief(command)!r}"):
            channel = self._session(timeout_s)
            try:
                channel.exec_command(command)
                # What the other end says is taken while it is fed: it may wait for that.
                pumping = threading.Thread(target=_pump, args=(channel, feed), daemon=True)
                pumping.start()
                size = 0
                while True:
                    some = False
                    while channel.recv_ready():
                        out.append(channel.recv(_chunk))
                        size += len(out[-1])
                        some = True
                    while channel.recv_stderr_ready():
                        err.append(channel.recv_stderr(_chunk))
                        some = True
                    if size > _most_output:
                        raise InfrastructureError(
                            f"{self.says}: {_brief(command)!r} says more than {_most_output >> 20} MB"
                        )
                    if some:
                        continue
                    if channel.exit_status_ready() and not channel.recv_ready():
                        break
                    if channel.closed:
                        raise EOFError
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise InfrastructureError(
                            f"{self.says}: the command {_brief(command)!r} did not end within {timeout_s:g} s and was"
                            " given up; see what holds it up on the host"
                        )
                    _await(channel, min(left, 1.0))
                while chunk := channel.recv(_chunk):
                    out.append(chunk)
                while chunk := channel.recv_stderr(_chunk):
                    err.append(chunk)
                code = channel.recv_exit_status()
            finally:
                channel.close()
        return Done(code, b"".join(out), b"".join(err).decode(errors="replace").strip())

    def check(self, command: str, what: str, **more: Any) -> bytes:
        """The same for a command that has to succeed; its output. `what` it was for, as in `cannot WHAT`.

        Raises: InfrastructureError with what it said.
        """
        done = self.run(command, **more)
        if done.code:
            raise self.failure(
                what, done.err or done.out.decode(errors="replace") or f"exit code {done.code}"
            )
        return done.out

    def failure(self, what: str, said: str) -> InfrastructureError:
        """An error about something that this host could not do."""
        last = [line for line in said.splitlines() if line.strip()][-1:]
        text = f"{self.says}: cannot {what}: {last[0].strip() if last else 'it said nothing'}"
        if "No space left" in said:
            text = f"{self.says}: the disk is full, so that it cannot {what}; make room on that host"
        return InfrastructureError(text)

    def put(self, data: bytes | Iterable[bytes], path: str, *, timeout_s: float = 300.0) -> None:
        """Write a file on the host: it is whole, or not there."""
        there, part = shlex.quote(path), shlex.quote(f"{path}.part")
        self.check(f"cat > {part} && mv {part} {there}", f"write {path}", feed=data, timeout_s=timeout_s)

    def get(self, path: str, *, timeout_s: float = 60.0) -> bytes:
        """A file of the host's."""
        return self.check(f"cat {shlex.quote(path)}", f"read {path}", timeout_s=timeout_s)

    def start(
        self, command: str, *, terminal: tuple[str, os.terminal_size] | None = None
    ) -> paramiko.Channel:
        """Start a command that is talked to, on a terminal of that kind and size, or on none."""
        with self._saying(f"cannot start {_brief(command)!r}"):
            channel = self._session(_command_s)
            if terminal is not None:
                channel.get_pty(terminal[0], *terminal[1])
            channel.exec_command(os.fsencode(command))
            return channel

    def knock(self) -> None:
        """Return once the other end has answered; with a connection that is gone, at once."""
        transport = self._client.get_transport() if self._client is not None else None
        if transport is not None:
            transport.global_request("keepalive@openssh.com", wait=True)

    @property
    def alive(self) -> bool:
        """Whether the connection stands, for all that is known."""
        transport = self._client.get_transport() if self._client is not None else None
        return transport is not None and transport.is_active()

    def close(self) -> None:
        """Let go. Idempotent."""
        for client in (self._client, *reversed(self._way)):
            if client is not None:
                client.close()
        self._client, self._way = None, []

    def _session(self, timeout_s: float) -> paramiko.Channel:
        transport = self._client.get_transport() if self._client is not None else None
        if transport is None or not transport.is_active():
            raise EOFError
        return transport.open_session(timeout=timeout_s)

    def _through(self, hop: paramiko.SSHClient, target: Target, says: str) -> Any:
        import paramiko

        transport = hop.get_transport()
        assert transport is not None
        try:
            return transport.open_channel(
                "direct-tcpip", (target.host, target.port), ("127.0.0.1", 0), timeout=_connect_s
            )
        except paramiko.SSHException as e:
            raise InfrastructureError(f"{says} does not get through to {target}: {e}") from None

    @contextlib.contextmanager
    def _saying(self, what: str) -> Iterator[None]:
        import paramiko

        try:
            yield
        except (EOFError, paramiko.SSHException, OSError) as e:
            said = str(e) or "the connection is closed"
            raise InfrastructureError(
                f"{self.says}: {what}: the host cannot be reached any more ({said}); is it up, and its network?"
            ) from None


def everywhere(links: Sequence[Link], work: Callable[[Link], _T]) -> list[_T]:
    """What `work` returns for each host, all at the same time.

    Raises: the first error; one that more hosts have met says how many.
    """
    if not links:
        return []
    with ThreadPoolExecutor(min(_at_once, len(links)), thread_name_prefix="splitbrain-host") as pool:
        futures = [pool.submit(work, link) for link in links]
    errors = [e for f in futures if (e := f.exception()) is not None]
    if errors:
        raise errors[0]
    return [f.result() for f in futures]


def _pump(channel: paramiko.Channel, feed: bytes | Iterable[bytes]) -> None:
    import paramiko

    # The other end has had enough, or is gone; whoever reads from it says why.
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        for piece in (feed,) if isinstance(feed, bytes) else feed:
            channel.sendall(piece)
        channel.shutdown_write()


def _await(channel: paramiko.Channel, timeout_s: float) -> None:
    """Wait until something has happened on the channel, or the time is over."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.0002
    while time.monotonic() < deadline:
        if (
            channel.recv_ready()
            or channel.recv_stderr_ready()
            or channel.exit_status_ready()
            or channel.closed
        ):
            return
        channel.status_event.wait(pause_s)
        pause_s = min(2 * pause_s, 0.005)


def _brief(command: str) -> str:
    text = " ".join(command.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _log_in(target: Target, access: Access, says: str, sock: Any) -> paramiko.SSHClient:
    import paramiko

    logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # what it logs is said by us, in a sentence
    client = paramiko.SSHClient()
    _know(client, access.known_hosts)
    client.set_missing_host_key_policy(_refusing(says, target, access.known_hosts))
    try:
        client.connect(
            target.host,
            port=target.port,
            username=target.user,
            sock=sock,
            timeout=_connect_s,
            banner_timeout=_connect_s,
            auth_timeout=_connect_s,
            **_proof(access.key, says),
        )
    except InfrastructureError:
        client.close()
        raise
    except paramiko.BadHostKeyException as e:
        client.close()
        file = access.known_hosts or "~/.ssh/known_hosts"
        raise InfrastructureError(
            f"{says}: its host key has changed: {fingerprint(e.expected_key)} is known, it shows {fingerprint(e.key)};"
            f" somebody else may answer there. If the host was installed anew, `ssh-keygen -f {file} -R"
            f" '{_entry(target)}'` forgets the old one"
        ) from None
    except paramiko.PasswordRequiredException:
        client.close()
        raise InfrastructureError(
            f"{says}: the key of --opt ssh.key has a passphrase; load it into an agent (ssh-add) and leave it out"
        ) from None
    except (paramiko.AuthenticationException, paramiko.SSHException) as e:
        client.close()
        raise InfrastructureError(_denied(e, access.key, target, says)) from None
    except (OSError, EOFError) as e:
        client.close()
        said = getattr(e, "strerror", None) or str(e) or "the connection was closed"
        raise InfrastructureError(
            f"{says} cannot be reached: {said}; expected an SSH server at {target.host} port {target.port}"
        ) from None
    transport = client.get_transport()
    if transport is not None and isinstance(transport.sock, socket.socket):
        # Small packets follow each other on it; each would wait 40 ms for the other side to acknowledge the last.
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def _denied(error: Exception, key: str | None, target: Target, says: str) -> str:
    import paramiko

    if not isinstance(error, paramiko.AuthenticationException):
        return f"{says}: no SSH connection can be made: {error}"
    which = (
        "the key of --opt ssh.key is"
        if key and key != HIDDEN
        else "none of the keys at hand (agent, ~/.ssh) is"
    )
    return (
        f"{says}: {which} not accepted for user {target.user}; add its public half to that user's"
        " ~/.ssh/authorized_keys on the host, or name another with --opt ssh.key=FILE"
    )


def _proof(key: str | None, says: str) -> dict[str, Any]:
    """The arguments of `connect` that say who we are. A key that is hidden is not known here: what is at hand may do.
    Raises: InfrastructureError where we have nothing to show."""
    if key is not None and key != HIDDEN:
        if not Path(key).expanduser().is_file():
            raise InfrastructureError(f"{says}: --opt ssh.key names no file; expected a private key")
        return {"key_filename": str(Path(key).expanduser()), "allow_agent": False, "look_for_keys": False}
    usual = any(Path("~/.ssh", f"id_{kind}").expanduser().is_file() for kind in ("ed25519", "ecdsa", "rsa"))
    agent = os.environ.get("SSH_AUTH_SOCK")
    if not usual and (agent is None or not _listens(agent)):
        what = "SSH_AUTH_SOCK is not set" if agent is None else "nobody answers at SSH_AUTH_SOCK"
        if key == HIDDEN:
            raise InfrastructureError(
                f"{says}: which key the run used is not known on this machine, since its directory does not say it, and"
                f" there is no other to log in with: ~/.ssh has none, and no authentication agent runs ({what}); load"
                " it into an agent (ssh-agent, ssh-add)"
            )
        raise InfrastructureError(
            f"{says}: there is no key to log in with: none was given, ~/.ssh has none, and no authentication agent runs"
            f" ({what}); name one with --opt ssh.key=FILE, or start an agent (ssh-agent, ssh-add)"
        )
    return {"allow_agent": agent is not None, "look_for_keys": usual}


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(1.0)
        try:
            sock.connect(path)
        except OSError:
            return False
    return True


def _know(client: paramiko.SSHClient, file: str | None) -> None:
    usual = ("/etc/ssh/ssh_known_hosts", "~/.ssh/known_hosts")
    for path in usual if file is None else (file,):
        try:
            client.load_host_keys(str(Path(path).expanduser()))
        except FileNotFoundError:
            if file is not None:
                raise UsageError(
                    f"option known_hosts={file}: no such file; expected one such as `ssh-keyscan -p PORT HOST` prints"
                ) from None
        except OSError as e:
            raise UsageError(f"option known_hosts={path}: {e.strerror or e}") from None


def _refusing(says: str, target: Target, file: str | None) -> Any:
    """A policy for host keys that are not known: refuse, and say what it takes."""
    import paramiko

    class Refuse(paramiko.MissingHostKeyPolicy):
        """Raises, always."""

        def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
            raise MissingCapability(
                f"{says}: its host key is not known: {key.get_name()} {fingerprint(key)}; if that is the host's"
                f" (`ssh-keygen -lf` there says it), accept it with `ssh-keyscan -p {target.port} {target.host} >>"
                f" {file or '~/.ssh/known_hosts'}`"
            )

    return Refuse()


def fingerprint(key: paramiko.PKey) -> str:
    """A key's fingerprint, as ssh-keygen prints it."""
    digest = hashlib.sha256(key.asbytes()).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _entry(target: Target) -> str:
    return target.host if target.port == PORT else f"[{target.host}]:{target.port}"


def access_of(options: Mapping[str, Any]) -> Access:
    """What the provider's options say about logging in. Raises: UsageError."""
    jump = tuple(parse(word.strip()) for word in (options.get("jump") or "").split(",") if word.strip())
    return Access(options.get("key"), options.get("known_hosts"), jump)
