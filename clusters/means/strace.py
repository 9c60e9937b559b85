"""Tampering with the system calls of an unmodified program: strace, attached to processes that run.

strace holds what it traces by ptrace(2), of which a process can have one tracer only; whoever traces asks the
agent, and a process that has a tracer already is refused. When strace ends, however it does, the kernel lets
its processes run on as if nothing had been. See strace(1), "Tampering".
"""

from __future__ import annotations

import contextlib
import platform
import shutil
import subprocess
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

_numbers: Final = {
    "x86_64": {"write": 1, "pwrite64": 18, "writev": 20, "fsync": 74, "fdatasync": 75, "pwritev": 296},
    "aarch64": {"write": 64, "writev": 66, "pwrite64": 68, "pwritev": 70, "fsync": 82, "fdatasync": 83},
}
_rehearsal_s: Final = 10


def refusal() -> str | None:
    """Why no process can be tampered with here as far as one sees without trying, or None."""
    if shutil.which("strace") is None:
        return "the command strace is missing; install strace, or use pause, which stops a process altogether"
    if platform.machine() not in _numbers:
        return f"the system calls of {platform.machine()} are not known here; use pause"
    return None


def probe() -> str | None:
    """Why no process can be tampered with here, or None; tries it on one that does nothing."""
    if (reason := refusal()) is not None:
        return reason
    try:
        done = subprocess.run(
            ["strace", "-qq", "-f", "-o", "/dev/null", *tamper(("fsync",), "delay_enter=1"), "true"],
            capture_output=True,
            text=True,
            timeout=_rehearsal_s,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as e:
        return f"strace cannot be run here ({e}); use pause"
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        return (
            f"strace is not allowed to trace here ({said}); a container needs --cap-add SYS_PTRACE; use pause"
        )
    return None


def tamper(calls: Sequence[str], what: str) -> list[str]:
    """The arguments that do `what` (`delay_enter=50ms`, `signal=KILL:when=3`) to these calls."""
    names = ",".join(calls)
    return ["-e", f"trace={names}", "-e", f"inject={names}:{what}", "-e", "signal=none"]


def command(
    pids: Iterable[int], calls: Sequence[str], what: str, log: Path, paths: Iterable[str] = ()
) -> list[str]:
    """The command line that tampers with running processes; with `paths`, with calls on those files alone."""
    attach = [word for pid in sorted(pids) for word in ("-p", str(pid))]
    narrowed = [word for path in paths for word in ("-P", path)]
    return ["strace", "-qq", "-f", "-ttt", "-A", "-o", str(log), *tamper(calls, what), *narrowed, *attach]


def tracer_of(pid: int) -> int:
    """Who traces a process and each of its threads, by pid; 0 where somebody is traced by nobody."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            status = (thread / "status").read_text(errors="replace")
            found += [int(x.split()[1]) for x in status.splitlines() if x.startswith("TracerPid:")]
    return min(found, default=0)


def stays(pid: int, calls: Iterable[str], paths: Collection[str] = ()) -> set[tuple[int, int, str]]:
    """Which threads of a process are in one of these calls now, as the kernel has it: thread, call, and a
    count that changes when the thread has run since. With `paths`, in a call on one of those files."""
    wanted = {_numbers[platform.machine()][name] for name in calls}
    found = set()
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                number, *given = (thread / "syscall").read_text().split()
                if number.isdecimal() and int(number) in wanted and (not paths or _file(pid, given) in paths):
                    status = (thread / "status").read_text(errors="replace").splitlines()
                    ran = next(x.split()[1] for x in status if x.startswith("voluntary_ctxt_switches"))
                    found.add((int(thread.name), int(number), ran))
    return found


def _file(pid: int, arguments: Sequence[str]) -> str:
    """The file that a call's first argument is open for, by its path as the process has it."""
    return str(Path(f"/proc/{pid}/fd/{int(arguments[0], 16)}").readlink())
