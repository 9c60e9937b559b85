"""From a Maven repository: a folder of jars, with all that they depend on at run time.

The user's `mvn` fetches, with the settings and the local repository that are configured for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from clusters.artifacts.java import require_mvn
from clusters.artifacts.store import Artifact, Store, VersionRefused
from clusters.artifacts.tools import FETCH_TIMEOUT_S, ToolFailed, run
from harness.core.errors import ArtifactError

# Not by its short name, which is looked up in the repository before anything else is.
_GOAL: Final = "org.apache.maven.plugins:maven-dependency-plugin:copy-dependencies"
_forbidden: Final = re.compile(r"\b40[134]\b|[Ff]orbidden|[Aa]uthorization failed")
_POM: Final = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>splitbrain.invalid</groupId>
  <artifactId>jars</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
{dependencies}
  </dependencies>
</project>
"""


def jars(store: Store, name: str, version: str, *, roots: Sequence[str], exclude: Sequence[str]) -> Artifact:
    """The jars of `roots` ("group:artifact:version") and what they need, but for `exclude` ("group:artifact",
    "group:*").
    """

    def make(work: Path, folder: Path) -> str:
        mvn = require_mvn(f"{name} {version}")
        store.say(f"fetching {name} {version} with Maven ({', '.join(roots)})")
        (work / "pom.xml").write_text(pom(roots, exclude))
        argv = [mvn.path, "--batch-mode", "--quiet", "--update-snapshots", "--strict-checksums", _GOAL]
        argv += ["-Dstyle.color=never", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
        try:
            run(argv, cwd=work, timeout_s=FETCH_TIMEOUT_S)
        except ToolFailed as e:
            raise _failure(e, roots) from e
        if not any(folder.glob("*.jar")):
            raise ArtifactError(f"Maven fetched no jar for {', '.join(roots)}")
        return f"Maven {', '.join(roots)}"

    return store.obtain(name, version, ("maven", *roots, *(f"-{e}" for e in exclude)), make, tree=True)


def _failure(failed: ToolFailed, roots: Sequence[str]) -> Exception:
    """What Maven's failure means: a repository that lacks something, or may not hand it out, or all the rest."""
    lines = re.sub(
        r"\x1b\[[\d;]*m", "", failed.output
    ).splitlines()  # mvn itself ends with a change of colour
    said = [line.removeprefix("[ERROR]").partition(" -> [Help")[0].strip() for line in lines]
    problem = next((line for line in said if line), "")  # the others tell how to get stack traces
    gone = re.search(r"Could not (find|transfer) artifact (\S+?):(\S+?):\w+(?::\w+)?:([\w.-]+) ", problem)
    if gone and not problem.startswith("Plugin ") and (gone[1] == "find" or _forbidden.search(problem)):
        lacks = f"{gone[2]}:{gone[3]}:{gone[4]}"
        why = "" if lacks in roots else f", which {roots[0]} needs"
        return VersionRefused(f"the Maven repository does not serve {lacks}{why}")
    return ToolFailed("mvn", "failed", problem or failed.output)


def pom(roots: Sequence[str], exclude: Sequence[str]) -> str:
    """A project that depends on `roots` and is nothing itself."""
    left_out = "".join(
        f"<exclusion><groupId>{escape(group)}</groupId><artifactId>{escape(artifact)}</artifactId></exclusion>"
        for group, artifact in (e.split(":") for e in exclude)
    )
    lines = []
    for group, artifact, version in (root.split(":") for root in roots):
        inside = f"<groupId>{escape(group)}</groupId><artifactId>{escape(artifact)}</artifactId>"
        inside += f"<version>{escape(version)}</version><exclusions>{left_out}</exclusions>"
        lines.append(f"    <dependency>{inside}</dependency>")
    return _POM.format(dependencies="\n".join(lines))
