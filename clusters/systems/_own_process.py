"""A client in another process, asked by lines on its stdin, that answers by lines on its stdout.

One question, one line; one answer, one line; each within a deadline. What it says on stderr is read along, so
that it can never block on it, and the last of it is kept. Whoever breaks these rules is `Broken`, and ended.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Final

_kept: Final = 4096  # bytes of stderr
_longest: Final = 16 * 1024 * 1024  # bytes of an answer
_end_s: Final = 1.0  # from having been killed until it is gone
_last_s: Final = 0.2  # from the end of its stdout until it has ended
_shown_lines: Final = 12


class Broken(Exception):
    """The process cannot be asked any more; `text` says why in few words."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def _environment() -> dict[str, str]:
    """Ours, without what puts splitbrain's own modules, some of them with general names, before those of the
    command."""
    out = dict(os.environ)
    home = str(Path(__file__).resolve().parents[2])
    if "PYTHONPATH" in out:
        out["PYTHONPATH"] = os.pathsep.join(p for p in out["PYTHONPATH"].split(os.pathsep) if p != home)
    return out


class Child:
    """One process. For one thread."""

    def __init__(self, argv: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        """Start it. Raises: OSError when it cannot be started."""
        program = argv[0] if "/" not in argv[0] else str(cwd / argv[0])
        if shutil.which(program) is None:
            what = "is not executable" if Path(program).is_file() else "is not there"
            raise FileNotFoundError(2, f"{argv[0]} {what}")
        # Where there is the tool, it ends with the thread that started it, whatever ends us; else it sees the
        # end of its stdin.
        guard = [tool, "--pdeathsig", "KILL", "--"] if (tool := shutil.which("setpriv")) else []
        self._process = subprocess.Popen(
            [*guard, *argv],
            cwd=cwd,
            env={**_environment(), **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            process_group=0,
        )
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._stdin, self._stdout, self._stderr = (pipe.fileno() for pipe in pipes if pipe is not None)
        for fd in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(fd, False)
        self._poll = select.poll()
        self._poll.register(self._stdout, select.POLLIN)
        self._poll.register(self._stderr, select.POLLIN)
        self._said = bytearray()
        self._complaints = b""
        self._open = True

    def ask(self, line: bytes, timeout_s: float) -> bytes:
        """Send a line, and wait for the one that answers it.

        Raises: Broken. The process has been ended then.
        """
        if not self._open:  # its descriptors may be somebody else's by now
            raise Broken("client has been ended")
        deadline = monotonic() + timeout_s
        try:
            self._drain(0)
            if self._said:
                raise Broken("client talks out of turn")
            self._send(line, deadline)
            answer = self._receive(deadline)
            if self._said:
                raise Broken("client answers with more than one line")
        except Broken:
            self.end()
            raise
        return answer

    def end(self) -> None:
        """Kill it and all that it started, and let go of it."""
        if not self._open:
            return
        self._open = False
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_end_s)
        with contextlib.suppress(OSError):
            self._complain()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def complaints(self) -> str:
        """The last lines of its stderr."""
        lines = [line for line in self._complaints.decode(errors="replace").splitlines() if line.strip()]
        return "\n".join(lines[-_shown_lines:])

    def _send(self, line: bytes, deadline: float) -> None:
        left = memoryview(line)
        self._poll.register(self._stdin, select.POLLOUT)
        try:
            while left:
                try:
                    left = left[os.write(self._stdin, left) :]
                except BlockingIOError:
                    self._wait(deadline)
                except OSError:
                    raise self._ended() from None
        finally:
            self._poll.unregister(self._stdin)

    def _receive(self, deadline: float) -> bytes:
        while (end := self._said.find(b"\n")) < 0:
            if len(self._said) > _longest:
                raise Broken(f"client answers with more than {_longest >> 20} MB")
            self._wait(deadline)
        line = bytes(self._said[:end])
        del self._said[: end + 1]
        return line

    def _wait(self, deadline: float) -> None:
        left = deadline - monotonic()
        if left <= 0:
            raise Broken("timeout")
        self._drain(left)

    def _drain(self, wait_s: float) -> None:
        """Take in what it says, waiting so long for something."""
        for fd, _event in self._poll.poll(wait_s * 1000):
            if fd == self._stderr:
                if not self._complain():
                    self._poll.unregister(self._stderr)
            elif fd == self._stdout:
                data = os.read(self._stdout, 65536)
                if not data:
                    raise self._ended()
                self._said += data

    def _complain(self) -> bool:
        """Read some of its stderr; whether there may be more."""
        while True:
            try:
                data = os.read(self._stderr, 65536)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._complaints = (self._complaints + data)[-_kept:]

    def _ended(self) -> Broken:
        try:
            code = self._process.wait(_last_s)
        except subprocess.TimeoutExpired:
            return Broken("client closed its stdout")
        if code < 0:
            return Broken(f"client was ended by signal {-code}")
        return Broken(f"client ended with exit code {code}")
