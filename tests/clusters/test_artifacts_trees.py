"""Folders in the cache, files of the user's own, and what tools of a source say when it has something else.

The tools are small programs on PATH under the names of the real ones; `test_artifacts_real` asks real registries.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from clusters.artifacts import (
    Artifact,
    Artifacts,
    VersionRefused,
    find_java,
    find_mvn,
    require_java,
)
from clusters.artifacts import debian as debian_source
from clusters.artifacts.sources import kept, lacking, missing
from clusters.artifacts.store import digest
from harness.core.errors import ArtifactError
from harness.core.versions import Source
from tests.clusters.test_artifacts import tool, tools

__all__ = ["tools"]


def obtain(cache: Artifacts, version: str = "1.2") -> Artifact:
    def make(_work: Path, folder: Path) -> str:
        (folder / "lib").mkdir()
        (folder / "lib" / "a.jar").write_text("a")
        (folder / "lib" / "b.jar").symlink_to("a.jar")
        (folder / "run").write_text("#!/bin/sh\n")
        (folder / "run").chmod(0o755)
        return "made here"

    return cache.obtain("thing", version, ("tree",), make, tree=True)


Damage = Callable[[Path], object]


@pytest.mark.parametrize(
    "damage",
    [
        lambda at: (at / "lib" / "a.jar").write_text("b"),
        lambda at: (at / "lib" / "a.jar").rename(at / "lib" / "c.jar"),
        lambda at: (at / "lib" / "a.jar").unlink(),
        lambda at: (at / "lib" / "new.jar").write_text(""),
        lambda at: (at / "lib" / "b.jar").unlink() or (at / "lib" / "b.jar").symlink_to("c.jar"),
        lambda at: (at / "run").chmod(0o644),
        shutil.rmtree,
    ],
    ids=["changed", "renamed", "gone", "added", "pointed elsewhere", "not executable", "all gone"],
)
def test_a_folder_that_is_not_what_was_obtained_is_not_used(tmp_path: Path, damage: Damage) -> None:
    said: list[str] = []
    first = obtain(Artifacts(tmp_path, say=said.append))
    assert obtain(Artifacts(tmp_path, say=said.append)) == first
    assert said == []
    damage(Path(first.path))
    with pytest.raises(ArtifactError, match=r"is damaged in the cache .* offline nothing is fetched"):
        obtain(Artifacts(tmp_path, offline=True))
    assert obtain(Artifacts(tmp_path, say=said.append)) == first
    assert "damaged" in said[0]


def test_bytecode_that_a_server_leaves_in_its_folder_is_no_damage(tmp_path: Path) -> None:
    first = obtain(Artifacts(tmp_path))
    (Path(first.path) / "lib" / "__pycache__").mkdir()
    (Path(first.path) / "lib" / "__pycache__" / "a.pyc").write_text("")
    assert obtain(Artifacts(tmp_path, offline=True)) == first


def test_half_a_folder_is_never_seen(tmp_path: Path) -> None:
    seen: list[str] = []

    def fail(_work: Path, folder: Path) -> str:
        (folder / "half").write_text("")
        seen.extend(path.name for path in (tmp_path / "programs").iterdir() if path.suffix != ".lock")
        raise ArtifactError("no more")

    with pytest.raises(ArtifactError, match="no more"):
        Artifacts(tmp_path).obtain("thing", "1.2", ("tree",), fail, tree=True)
    assert all(name.startswith("partial-") for name in seen)
    assert [path.suffix for path in (tmp_path / "programs").iterdir()] == [".lock"]
    assert kept("thing", tmp_path) == []


def test_what_is_kept_is_listed_by_version(tmp_path: Path) -> None:
    for version in ("1.10", "1.9", "1.9-rc.1"):
        obtain(Artifacts(tmp_path), version)
    assert [k.version for k in kept("thing", tmp_path)] == ["1.9-rc.1", "1.9", "1.10"]
    assert kept("thin", tmp_path) == []


def test_a_jar_or_a_folder_of_the_users_own(tmp_path: Path) -> None:
    jar = tmp_path / "own.jar"
    jar.write_text("x")
    own = Artifacts(tmp_path / "cache")
    found = own.local(jar)
    assert found.path == str(jar)
    assert own.local(jar, sha256=found.sha256.upper()) == found
    assert own.local(tmp_path).sha256 == digest(tmp_path)
    with pytest.raises(
        ArtifactError, match=f"{jar} has the sha256 {found.sha256}, expected 00: it is not used"
    ):
        own.local(jar, sha256="00")
    (tmp_path / "script.py").write_text("")
    assert own.local(tmp_path / "script.py", executable=False)
    assert not (tmp_path / "cache").exists()


GO = '[ "$1" = version ] && { echo go version go1.99.0 linux/amd64; exit; }\n'


@pytest.mark.parametrize(
    "says",
    [
        "verifying m@v1.0.0: checksum mismatch\\nSECURITY ERROR",
        "verifying module: m@v1.0.0: SECURITY ERROR go.sum database server misbehavior: checksum mismatch",
    ],
)
def test_what_is_not_what_its_source_announces_is_not_used(tmp_path: Path, tools: Path, says: str) -> None:
    tool(tools, "go", f"{GO}echo '{says}' >&2; exit 1")
    with pytest.raises(ArtifactError, match="it is not used; try another mirror") as caught:
        Artifacts(tmp_path / "c").go_copy("thing", "1.0.0", module="m")
    assert not isinstance(caught.value, VersionRefused)
    assert kept("thing", tmp_path / "c") == []


def test_a_debian_package_with_another_sum_is_not_used(tmp_path: Path, tools: Path) -> None:
    tool(tools, "apt-get", "echo 'E: Failed to fetch x.deb  Hash Sum mismatch' >&2; exit 100")
    tool(tools, "dpkg-deb", "exit 1")
    with pytest.raises(ArtifactError, match="it is not used; try another mirror"):
        Artifacts(tmp_path / "c").debian_tree("thing", "1.0", packages=("thing-server",))


MVN = '[ "$1" = -v ] && { echo "Apache Maven 3.8.7"; exit; }\n'
TRANSFER = "Could not transfer artifact g:a:jar:1.0 from/to central (u): "


@pytest.mark.parametrize(
    ("says", "means"),
    [
        ("Could not find artifact g:a:jar:1.0 in central (u) -> [Help 1]", r"does not serve g:a:1\.0$"),
        (
            "no: Could not find artifact g:b:pom:2 in central (u)",
            r"does not serve g:b:2, which g:a:1\.0 needs$",
        ),
        (TRANSFER + "authentication failed, status: 403 Forbidden", r"does not serve g:a:1\.0$"),
    ],
)
def test_a_version_that_maven_cannot_have(tmp_path: Path, tools: Path, says: str, means: str) -> None:
    fake_java(tools)
    tool(tools, "mvn", f"{MVN}echo '[ERROR] Failed: {says}'; echo '[ERROR] [Help 1] ...'; exit 1")
    with pytest.raises(VersionRefused, match=means):
        Artifacts(tmp_path / "c").maven("thing", "1.0", roots=("g:a:1.0",))


@pytest.mark.parametrize(
    ("says", "means"),
    [
        (TRANSFER + "Connect to u:443 failed: Connection refused", "the registry cannot be reached"),
        (
            TRANSFER + "Checksum validation failed, expected 00 but is 11",
            "it is not used; try another mirror",
        ),
        ("Could not resolve dependencies: whatever", "whatever$"),
    ],
)
def test_other_failures_of_maven_are_no_word_on_the_version(
    tmp_path: Path, tools: Path, says: str, means: str
) -> None:
    fake_java(tools)
    tool(tools, "mvn", f"{MVN}echo '[ERROR] Failed: {says} -> [Help 1]'; echo '[ERROR] [Help 1] ...'; exit 1")
    with pytest.raises(ArtifactError, match=means) as caught:
        Artifacts(tmp_path / "c").maven("thing", "1.0", roots=("g:a:1.0",))
    assert not isinstance(caught.value, VersionRefused)
    assert "Help" not in str(caught.value)


def test_a_debian_without_a_version_asked_for_takes_what_there_is(tmp_path: Path, tools: Path) -> None:
    tool(tools, "apt-cache", "echo '  Candidate: 5:7.0.15-1~deb12u10'")
    tool(tools, "apt-get", "touch thing.deb; touch lib.deb")
    tool(
        tools,
        "dpkg-deb",
        'case "$*" in --show*thing.deb) echo thing 5:7.0.15-1;; --show*) echo lib 2;;'
        ' *) mkdir -p "$3/usr/bin"; echo "$2" > "$3/usr/bin/$(basename "$2" .deb)";; esac',
    )
    cache = Artifacts(tmp_path / "c")
    found = cache.debian_tree("thing", None, packages=("thing", "lib"))
    assert found.version == "7.0.15"
    assert found.origin == "Debian thing 5:7.0.15-1, lib 2"
    assert sorted(path.name for path in Path(found.path).rglob("*")) == ["bin", "lib", "thing", "usr"]
    for gone in ("apt-cache", "apt-get", "dpkg-deb"):
        tool(tools, gone, "exit 1")
    offline = Artifacts(tmp_path / "c", offline=True)
    assert offline.debian_tree("thing", None, packages=("thing", "lib")) == found
    assert offline.debian_tree("thing", "7.0.15", packages=("thing", "lib")) == found
    with pytest.raises(ArtifactError, match="apt knows no package other"):
        offline.debian_tree("thing", None, packages=("other",))


@pytest.mark.parametrize(
    ("full", "short"), [("5:7.0.15-1~deb12u10", "7.0.15"), ("3.8.0-11+deb12u2", "3.8.0"), ("2:1.2", "1.2")]
)
def test_a_debian_version_without_what_is_debians(full: str, short: str) -> None:
    assert debian_source.upstream(full) == short


def fake_java(folder: Path, version: str = "17.0.15") -> None:
    tool(folder, "java", f"echo 'openjdk version \"{version}\" 2025-04-15' >&2")


@pytest.mark.parametrize(
    ("version", "major"), [("17.0.15", 17), ("1.8.0_392", 8), ("9", 9), ("25-ea", 25), ("11.0.2", 11)]
)
def test_which_java_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, major: int
) -> None:
    folder = tmp_path / "jdk" / "bin"
    folder.mkdir(parents=True)
    fake_java(folder, version)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
    found = find_java()
    assert found is not None
    assert (found.path, found.version, found.major) == (str(folder / "java"), version, major)
    assert require_java("Thing", major) == found
    with pytest.raises(
        ArtifactError, match=rf"Thing needs Java {major + 1} or newer, but .* is Java {version}"
    ):
        require_java("Thing", major + 1)


def test_no_java_no_maven_and_a_maven_that_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    monkeypatch.setenv("PATH", str(bare))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    source = Source(via="maven", what="g:a")
    assert find_java() is None
    assert find_mvn() is None
    said = missing(source, "thing", tmp_path)
    assert said is not None
    assert said.startswith("no Java found")
    assert lacking("java", "thing") == said
    fake_java(bare)
    assert lacking("java", "thing") is None
    assert (
        missing(source, "thing", tmp_path)
        == "Java is there (17.0.15), but no mvn to fetch the jars of thing with; install maven"
    )
    tool(bare, "mvn", MVN)
    assert missing(source, "thing", tmp_path) is None


def test_what_of_debian_is_missing_here(tmp_path: Path, tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(via="debian", what="thing", versions=("1.2",))
    tool(tools, "apt-get", "exit 1")
    tool(tools, "dpkg-deb", "exit 1")
    tool(tools, "apt-cache", "echo '  Candidate: 1.2-3'")
    assert missing(source, "thing", tmp_path) is None
    tool(tools, "apt-cache", "echo '  Candidate: 1.3-1'")
    assert missing(source, "thing", tmp_path) == "this Debian has thing 1.3, not 1.2"
    tool(tools, "apt-cache", "echo '  Candidate: (none)'")
    assert "apt knows no package thing" in str(missing(source, "thing", tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no apt-get here" in str(missing(source, "thing", tmp_path))


def test_a_copy_that_is_no_main_package_is_refused(tmp_path: Path, tools: Path) -> None:
    module = tmp_path / "module"
    module.mkdir()
    (module / "go.mod").write_text("module m\n")
    told = json.dumps({"Dir": str(module), "GoMod": str(module / "go.mod")})
    tool(tools, "go", f"{GO}[ \"$1\" = mod ] && echo '{told}'; exit 0")
    with pytest.raises(ArtifactError, match=r"go build of \./lib made no program"):
        Artifacts(tmp_path / "c").go_copy("thing", "1.0.0", module="m", package="./lib")
