"""Running the tools that fetch and build, and saying in words how they failed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.core.errors import ArtifactError

BUILD_TIMEOUT_S: Final = 900.0  # a first build on a slow machine; 50 s on two cores
FETCH_TIMEOUT_S: Final = 300.0
_shown_lines: Final = 12  # of a failed tool's output


class ToolFailed(Exception):
    """A tool ended with an error or ran out of time; `output` is what it said. Stays in this package."""

    def __init__(self, tool: str, problem: str, output: str) -> None:
        super().__init__(f"{tool} {problem}")
        self.output = output

    def explain(self) -> str:
        """The problem, and the last lines of the output."""
        lines = [line for line in self.output.splitlines() if line.strip()][-_shown_lines:]
        return "\n    ".join([f"{self}:" if lines else str(self), *lines])


def need(tool: str, what: str, package: str) -> str:
    """The path of a tool.

    Raises: ArtifactError that says what it is wanted for and which Debian package brings it.
    """
    found = shutil.which(tool)
    if found is None:
        raise ArtifactError(f"there is no {tool} here, and {what}; install {package}")
    return found


def run(argv: Sequence[str], *, cwd: Path, timeout_s: float, env: dict[str, str] | None = None) -> str:
    """Stdout of a tool that succeeds; its whole process group ends with it, or with us.

    Raises: ToolFailed.
    """
    tool = " ".join([Path(argv[0]).name, *argv[1:3]])
    try:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # compilers and downloads are its children: ended as one group
        )
    except OSError as e:
        raise ToolFailed(tool, f"could not be started: {e.strerror}", "") from e
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        output = "\n".join(_end_group(process))
        raise ToolFailed(tool, f"did not end within {timeout_s:.0f} s", output) from None
    except BaseException:
        _end_group(process)
        raise
    if process.returncode != 0:
        raise ToolFailed(tool, f"ended with {process.returncode}", f"{out}\n{err}")
    return out


def _end_group(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Kill the tool and its children; what it said until then."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()


_full: Final = r"no space left|disk quota|enough free space"
_changed: Final = r"checksum mismatch|checksum validation failed|do not match the hashes|hash sum mismatch"
_away: Final = (
    r"no such host|name resolution|could not resolve (?:host|')|unknown host|could not connect|connect to .* failed"
    r"|network is unreachable|connection refused|i/o timeout|timed out"
)
_hints: Final = {
    _full: "The disk is full; make room, or point SPLITBRAIN_CACHE (and GOCACHE, TMPDIR) elsewhere.",
    _changed: "What came is not what its source's checksum says, so it is not used; try another mirror, or later.",
    _away: "The network or the registry cannot be reached; what is in the cache works without.",
}


def sentence(what: str, failure: ToolFailed) -> str:
    """`what`, the tool's last lines, and a word on the commonest causes."""
    hint = next(
        (text for pattern, text in _hints.items() if re.search(pattern, failure.output, re.IGNORECASE)), None
    )
    return f"{what}: {failure.explain()}" + (f"\n    {hint}" if hint else "")
