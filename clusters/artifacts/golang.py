"""From the Go module proxy: built here, static and without cgo."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from clusters.artifacts.store import Artifact, Store, VersionRefused
from clusters.artifacts.tools import BUILD_TIMEOUT_S, FETCH_TIMEOUT_S, ToolFailed, run
from harness.core.errors import ArtifactError
from harness.core.golang import build_env, require_go


def wrapped(
    store: Store, name: str, version: str, *, module: str, source: str, least_go: tuple[int, int]
) -> Artifact:
    """The main package `source`, built against `module` at `v<version>`."""

    def make(work: Path, program: Path) -> str:
        go = str(require_go(least_go))
        store.say(f"fetching {name} {version} from the Go module proxy")
        (work / "main.go").write_text(source)
        at = f"{module}@v{version}"
        told = _download(go, at, work)
        needs = _go_directive(Path(str(told.get("GoMod", ""))))
        if needs is not None:
            go = str(require_go(max(needs, least_go)))
        major, minor = needs or least_go
        (work / "go.mod").write_text(
            f"module splitbrain.invalid/{name}\n\ngo {major}.{minor}\n\nrequire {module} v{version}\n"
        )
        store.say(f"building {name} {version} (first time about 50 s)")
        _build(go, ".", program, "-s -w", work)
        return f"{at} {told.get('Sum', '')}, {_version(go, work)}"

    return store.obtain(name, version, ("go", module, source), make)


def copied(
    store: Store,
    name: str,
    version: str,
    *,
    module: str,
    package: str,
    ldflags: str,
    least_go: tuple[int, int],
) -> Artifact:
    """`package` of `module`, built in a copy of the module, so that its own replace lines count."""

    def make(work: Path, program: Path) -> str:
        go = str(require_go(least_go))
        store.say(f"fetching {name} {version} from the Go module proxy")
        at = f"{module}@v{version}"
        told = _download(go, at, work)
        needs = _go_directive(Path(str(told.get("GoMod", ""))))
        if needs is not None:
            go = str(require_go(max(needs, least_go)))
        copy = work / "copy"
        # The module cache is read-only; the copy is ours to write in.
        shutil.copytree(str(told["Dir"]), copy, copy_function=shutil.copyfile)
        for folder, _, _ in os.walk(copy):
            Path(folder).chmod(0o755)
        if not (copy / "go.mod").exists():  # from before modules: the proxy made one up
            shutil.copyfile(str(told["GoMod"]), copy / "go.mod")
        store.say(f"building {name} {version} (10 to 60 s)")
        _build(go, package, program, ldflags, copy)
        return f"{at} {told.get('Sum', '')}: {package}, {_version(go, work)}"

    return store.obtain(name, version, ("go-copy", module, package, ldflags), make)


def _download(go: str, at: str, work: Path) -> dict[str, Any]:
    """What `go mod download -json` says of a module version that it now has."""
    try:
        said = run([go, "mod", "download", "-json", at], cwd=work, env=build_env(), timeout_s=FETCH_TIMEOUT_S)
    except ToolFailed as e:
        # 404 and 410 are the protocol's "not here"; mirrors with a policy say 403.
        if re.search(r"\b(403|404|410)\b|unknown revision|invalid version|no matching versions", e.output):
            raise VersionRefused(f"the Go module proxy does not serve {at}") from e
        raise
    told = json.loads(said)
    assert isinstance(told, dict)
    return told


def _build(go: str, package: str, program: Path, ldflags: str, cwd: Path) -> None:
    argv = [go, "build", "-mod=mod", "-ldflags", ldflags, "-o", str(program), package]
    run(argv, cwd=cwd, env=build_env(), timeout_s=BUILD_TIMEOUT_S)
    if not program.is_file():  # `go build` of a package that is no main says nothing and writes an archive
        raise ArtifactError(f"go build of {package} made no program; expected the path of a main package")


def _version(go: str, work: Path) -> str:
    said = run([go, "version"], cwd=work, env=build_env(), timeout_s=30).split()
    return said[2] if len(said) > 2 else "go"


def _go_directive(go_mod: Path) -> tuple[int, int] | None:
    """The least Go that a module asks for."""
    try:
        match = re.search(r"^go (\d+)\.(\d+)", go_mod.read_text(), re.MULTILINE)
    except OSError:
        return None
    return (int(match[1]), int(match[2])) if match else None
