"""Finding Java and Maven, and saying in one sentence what is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import msgspec

from harness.core.errors import ArtifactError


class Tool(msgspec.Struct, frozen=True):
    """A Java or a Maven: `version` as it says it, `major` as a number (8 for Java 1.8)."""

    path: str
    version: str
    major: int


def find_java() -> Tool | None:
    """The `java` of JAVA_HOME, else the one on PATH, or None where none runs."""
    for path in (_in_home("JAVA_HOME"), shutil.which("java")):
        if path and (found := _ask(path, "-version", r'version "?([\d][^"\s]*)')):
            return found
    return None


def require_java(what: str, least: int = 8) -> Tool:
    """As `find_java`; `what` needs it, such as "ZooKeeper".

    Raises: ArtifactError.
    """
    found = find_java()
    if found is None:
        raise ArtifactError(
            f"no Java found (neither in JAVA_HOME nor on PATH), and {what} needs Java {least} or newer; "
            "install default-jre-headless"
        )
    if found.major < least:
        raise ArtifactError(
            f"{what} needs Java {least} or newer, but {found.path} is Java {found.version}; "
            "install a newer one, or name it in JAVA_HOME"
        )
    return found


def find_mvn() -> Tool | None:
    """The `mvn` on PATH, or None where none runs (it needs Java itself)."""
    path = shutil.which("mvn")
    return _ask(path, "-v", r"Apache Maven (\d\S*)") if path else None


def require_mvn(what: str) -> Tool:
    """As `find_mvn`; `what` is fetched with it, such as "ZooKeeper 3.9.5".

    Raises: ArtifactError that tells a missing Maven from a missing Java.
    """
    java = require_java(what)
    if shutil.which("mvn") is None:
        raise ArtifactError(
            f"Java is there ({java.version}), but no mvn to fetch the jars of {what} with; install maven"
        )
    found = find_mvn()
    if found is None:
        raise ArtifactError(
            f"{shutil.which('mvn')} does not run, and {what} is fetched with it; try `mvn -v`"
        )
    return found


def _in_home(variable: str) -> str | None:
    home = os.environ.get(variable)
    path = Path(home) / "bin" / "java" if home else None
    return str(path) if path and path.is_file() else None


@cache
def _ask(path: str, flag: str, pattern: str) -> Tool | None:
    try:
        done = subprocess.run([path, flag], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    said = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)  # Maven prints in bold
    match = re.search(pattern, said)
    if match is None:
        return None
    numbers = [int(part) for part in re.findall(r"\d+", match[1])]
    major = numbers[1] if numbers[0] == 1 and len(numbers) > 1 else numbers[0]
    return Tool(path, match[1], major)
