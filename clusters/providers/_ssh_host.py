"""What a host needs before a node can be made on it, and the agent that makes it.

Brought to the host, below a folder of the login user's own: the agent's code (standard library and
`clusters.means` only) and the program under test, each under the hash of its content, so that the next run finds
them there; and the run's folder, which goes with the run. Everything is sent through commands, so that a
host needs a POSIX shell, Python and no more of an SSH server than that it runs commands.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import shlex
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from clusters.providers._ssh_link import Link
from harness.core.errors import InfrastructureError, MissingCapability, NodeFailed

if TYPE_CHECKING:
    import paramiko

LEAST_PYTHON: Final = (3, 11)
_least_mb: Final = 64
_answer_s: Final = 20.0
_send_s: Final = 600.0
_piece: Final = 1 << 18
_root: Final = Path(__file__).resolve().parents[2]
_sent: Final = (
    "clusters/__init__.py",
    "clusters/agent/*.py",
    "clusters/means/*.py",
    "clusters/means/*.sh",
    "harness/__init__.py",
    "harness/core/__init__.py",
    "harness/core/errors.py",
)
_look: Final = """
umask 077
dir=%(dir)s
case $dir in '~/'*) dir=$HOME/${dir#'~/'} ;; '') dir=/var/tmp/splitbrain-$(id -un) ;; esac
mkdir -p "$dir/programs" "$dir/runs" || exit 1
[ -O "$dir" ] || { echo "$dir is not a folder of $(id -un)'s own" >&2; exit 1; }
echo "dir $dir"
echo "uid $(id -u)"
echo "free $(df -Pk "$dir" | awk 'NR == 2 { print int($4 / 1024) }')"
echo "python $(%(python)s -I -S -c 'import sys; print(*sys.version_info[:2])' 2>&1 | tail -n 1)"
if [ "$(id -u)" != 0 ] && %(sudo)s; then
  if said=$(sudo -n -- true 2>&1); then echo "sudo yes"; else echo "sudo no $(echo "$said" | tail -n 1)"; fi
fi
"""
_unpack: Final = (
    "import os,sys,tarfile;part=sys.argv[1]+'.part%d'%os.getpid();"
    "tarfile.open(fileobj=sys.stdin.buffer,mode='r|').extractall(part);"
    "os.path.isdir(sys.argv[1]) or os.rename(part,sys.argv[1])"
)
_errors: Final[dict[str, type[InfrastructureError]]] = {"exec": NodeFailed, "capability": MissingCapability}


class Host:
    """One host that a node is made on."""

    def __init__(self, link: Link, address: str, options: Mapping[str, Any]) -> None:
        self.link = link
        self.name = link.name
        self.address = address
        self._options = options
        self._python = str(options.get("python") or "python3")
        self._sudo = bool(options.get("sudo", True))
        self._dir = ""
        self._code_at: str | None = None
        self._how: tuple[str, ...] = ()  # what goes before the agent's command line
        self.rootless = False
        self._lock = threading.Lock()
        self._channel: paramiko.Channel | None = None
        self._buffer = b""
        self._asked = 0
        self._gone: str | None = None  # why nothing can be asked of the agent any more

    # before

    def look(self, *, room: bool = True) -> None:
        """See what the host has; nothing of a run is made yet. `room`: for a node, which a full disk leaves none.

        Raises: MissingCapability, InfrastructureError, each naming the host and what to do.
        """
        says = self.link.says
        script = _look % {
            "dir": shlex.quote(str(self._options.get("dir") or "")),
            "python": shlex.quote(self._python),
            "sudo": "true" if self._sudo else "false",
        }
        done = self.link.run(f"sh -c {shlex.quote(script)}")
        if done.code:
            raise self.link.failure("make a folder for what is sent there", done.err)
        found = dict(
            line.split(" ", 1) for line in done.out.decode(errors="replace").splitlines() if " " in line
        )
        self._dir = found["dir"]
        if room and (megabytes := int(found.get("free") or 0)) < _least_mb:
            raise InfrastructureError(
                f"{says}: the disk that holds {self._dir} is full ({megabytes} MB left, {_least_mb} are needed); make"
                " room on that host, or name another folder with --opt ssh.dir=DIR"
            )
        version = tuple(int(word) for word in found.get("python", "").split() if word.isdecimal())
        if len(version) != 2 or version < LEAST_PYTHON:
            has = f"Python {version[0]}.{version[1]}" if len(version) == 2 else "no Python"
            least = ".".join(map(str, LEAST_PYTHON))
            raise MissingCapability(
                f"{says}: the host has {has} as {self._python}; Python {least} or newer is needed there, its standard"
                " library only (apt-get install python3), or name it with --opt ssh.python=PATH"
            )
        self.rootless = found["uid"] != "0"
        if self.rootless and self._sudo:
            if found.get("sudo") != "yes":
                user = self.link.target.user
                said = found.get("sudo", "no").removeprefix("no").strip() or "sudo is not there"
                raise MissingCapability(
                    f"{says}: {user} cannot become root there ({said.splitlines()[-1]}); allow it without a password"
                    f" ({user} ALL=(root) NOPASSWD: ALL in /etc/sudoers.d/splitbrain), log in as root, or do without:"
                    " --opt ssh.sudo=false leaves the faults that need no root"
                )
            self._how, self.rootless = ("sudo", "-n", "--"), False

    def tag(self, run: str) -> str:
        """What is in the name of everything that a run makes here: hosts may be containers of one machine."""
        return run + self.name

    def home(self, run: str) -> str:
        """A run's folder."""
        return f"{self._dir}/runs/{self.tag(run)}"

    def send(self, path: Path) -> str:
        """Bring a file or folder to the host, unless it is there; where it is there."""
        there = f"{self._dir}/programs/{digest_of(path)}"
        self._bring(there, packed(path), f"send {path.name}")
        return f"{there}/{path.name}"

    def send_code(self) -> str:
        """Bring the agent's code to the host, unless it is there; where it is there."""
        if self._code_at is None:
            digest, data = _code()
            there = f"{self._dir}/code-{digest}"
            self._bring(there, iter([data]), "send the agent")
            self._code_at = there
        return self._code_at

    def _bring(self, there: str, data: Iterator[bytes], what: str) -> None:
        quoted = shlex.quote(there)
        if self.link.run(f"test -d {quoted}").code == 0:
            return
        command = f"umask 022; {shlex.quote(self._python)} -I -S -c {shlex.quote(_unpack)} {quoted}"
        self.link.check(command, what, feed=data, timeout_s=_send_s)

    # the agent

    def command(self, run: str, *words: str) -> str:
        """The command line of the agent, as the host's shell takes it."""
        code = self.send_code()
        argv = [*self._how, self._python, "-I", "-S", f"{code}/clusters/agent/remote.py"]
        argv += [f"splitbrain-{self.tag(run)}", self.home(run), *words]
        return shlex.join(argv)

    @property
    def begun(self) -> bool:
        """Whether an agent was started."""
        return self._channel is not None

    def begin(self, run: str) -> None:
        """Start the agent."""
        self._channel = self.link.start(self.command(run, *(["rootless"] if self.rootless else [])))
        try:
            self._receive(time.monotonic() + _answer_s)
        except (TimeoutError, EOFError, OSError):
            said = self._channel.recv_stderr(1 << 16).decode(errors="replace")
            raise self.link.failure("start the agent", said) from None

    def ask(self, operation: str, *, timeout_s: float = _answer_s, **arguments: Any) -> Any:
        """Ask the agent; requests take turns.

        Raises: InfrastructureError, or what the agent's refusal means.
        """
        with self._lock:
            if self._gone is not None or self._channel is None:
                raise InfrastructureError(
                    f"{self.link.says}: cannot {operation}: {self._gone or 'no agent runs'}"
                )
            self._asked += 1
            deadline = time.monotonic() + timeout_s
            try:
                self._channel.settimeout(timeout_s)
                message = json.dumps({"id": self._asked, "op": operation, **arguments}, separators=(",", ":"))
                self._channel.sendall(message.encode() + b"\n")
                answer = self._receive(deadline)
                while answer.get("id") != self._asked:  # to a question whose asker gave up
                    answer = self._receive(deadline)
            except TimeoutError:
                raise InfrastructureError(
                    f"{self.link.says}: cannot {operation}: the host did not answer within {timeout_s:g} s; is it up,"
                    " and its network?"
                ) from None
            except (OSError, EOFError, ValueError):
                why = "its agent has ended" if self.link.alive else "the connection is gone"
                self._gone = f"{why}; is the host up, and its network?"
                raise InfrastructureError(f"{self.link.says}: cannot {operation}: {self._gone}") from None
        if "error" in answer:
            error = answer["error"]
            if "No space left" in error:
                raise InfrastructureError(
                    f"{self.link.says}: the disk is full, so that it cannot {operation} ({error}); make room there"
                )
            raise _errors.get(answer["kind"], InfrastructureError)(f"{self.link.target}: {error}")
        return answer["result"]

    def give_up(self, why: str) -> None:
        """Ask nothing any more of a host that does not answer; whoever waits for it is told at once."""
        self._gone = self._gone or why
        self.link.close()

    def end(self, timeout_s: float) -> list[str]:
        """Have the agent end, and the node with it; sentences about what stayed."""
        if self._channel is None:
            return []
        try:
            problems: list[str] = self.ask("close", timeout_s=timeout_s)
        finally:
            self._gone = self._gone or "it was closed"
            self._channel.close()
        return [f"{self.link.says}: {problem}" for problem in problems]

    def stands(self, run: str) -> str:
        """What there is of a run here, in a word: see `clusters.agent.inside.stands`."""
        return self.link.check(self.command(run, "stands"), "see what runs there").decode().strip()

    def heal(self, run: str) -> list[str]:
        """Take away what a run has left here; sentences about what stayed."""
        out = self.link.check(self.command(run, "heal"), "heal it", timeout_s=60.0)
        problems: list[str] = json.loads(out or b"[]")
        return [f"{self.link.says}: {problem}" for problem in problems]

    def _receive(self, deadline: float) -> dict[str, Any]:
        assert self._channel is not None
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._channel.settimeout(left)
            data = self._channel.recv(1 << 18)
            if not data:
                raise EOFError
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


@functools.cache
def _code() -> tuple[str, bytes]:
    """The hash of what the agent is made of, and a tar of it."""
    paths = sorted(path for pattern in _sent for path in _root.glob(pattern))
    digest = hashlib.sha256()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in paths:
            data = path.read_bytes()
            digest.update(f"{path.relative_to(_root)}\0{len(data)}\0".encode() + data)
            one = tarfile.TarInfo(str(path.relative_to(_root)))
            one.size, one.mode = len(data), 0o644
            tar.addfile(one, io.BytesIO(data))
    return digest.hexdigest()[:16], buffer.getvalue()


@functools.lru_cache(maxsize=64)
def digest_of(path: Path) -> str:
    """The hash of a file or folder, by names and contents. Asked for once before several hosts are sent it."""
    digest = hashlib.sha256()
    for one in [path] if path.is_file() else sorted(path.rglob("*")):
        digest.update(str(one.relative_to(path.parent)).encode() + b"\0")
        if one.is_symlink():
            digest.update(str(one.readlink()).encode())
        elif one.is_file():
            with one.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:24]


def packed(path: Path) -> Iterator[bytes]:
    """A tar of a file or folder, in pieces: nobody's, and readable by everybody."""
    with tarfile.open(fileobj=io.BytesIO(), mode="w") as tar:
        for one in [path] if path.is_file() else [path, *sorted(path.rglob("*"))]:
            info = tar.gettarinfo(one, str(one.relative_to(path.parent)))
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mode |= 0o444 | (0o111 if info.isdir() else 0)
            yield info.tobuf(tarfile.GNU_FORMAT)
            if info.isreg():
                with one.open("rb") as file:
                    while piece := file.read(_piece):
                        yield piece
                yield bytes(-info.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)
