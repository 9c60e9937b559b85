"""The cache and what it does with tools that fail; no registry is asked here.

The tools are real processes: small programs on PATH under the names of the real ones.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
from pathlib import Path
from typing import IO

import pytest

from clusters.artifacts import Artifact, Artifacts, ToolFailed, VersionRefused
from clusters.artifacts.tools import run
from harness.core.cache import cache_dir
from harness.core.errors import ArtifactError


def obtain(cache: Artifacts, content: str = "#!/bin/sh\n", name: str = "thing") -> Artifact:
    def make(_work: Path, program: Path) -> str:
        program.write_text(content)
        return "made here"

    return cache.obtain(name, "1.2", ("test",), make)


def tool(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_what_was_obtained_is_kept_with_its_digest(tmp_path: Path) -> None:
    first = obtain(Artifacts(tmp_path))
    again = obtain(Artifacts(tmp_path), content="never made")
    assert again == first
    assert os.access(first.path, os.X_OK)
    assert json.loads((Path(first.path).parent / "origin.json").read_text())["sha256"] == first.sha256


def test_a_damaged_program_is_noticed_and_obtained_again(tmp_path: Path) -> None:
    said: list[str] = []
    first = obtain(Artifacts(tmp_path))
    Path(first.path).write_text("something else")
    again = obtain(Artifacts(tmp_path, say=said.append))
    assert again.sha256 == first.sha256
    assert any("damaged" in line for line in said)


@pytest.mark.parametrize("damage", ["", "[]", '{"sha256": 1}', "{"])
def test_a_damaged_origin_is_noticed(tmp_path: Path, damage: str) -> None:
    first = obtain(Artifacts(tmp_path))
    origin = Path(first.path).parent / "origin.json"
    origin.write_text(damage)
    assert obtain(Artifacts(tmp_path)) == first
    assert json.loads(origin.read_text())["sha256"] == first.sha256


def test_offline_names_what_is_missing_and_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"etcd 3\.6\.16 is not in the cache.*splitbrain fetch etcd@3\.6\.16"
    ):
        Artifacts(tmp_path, offline=True).go_main("etcd", "3.6.16", module="m", source="")
    first = obtain(Artifacts(tmp_path))
    assert obtain(Artifacts(tmp_path, offline=True)) == first


def test_a_failure_leaves_nothing_and_the_next_try_works(tmp_path: Path) -> None:
    def fail(work: Path, program: Path) -> str:
        (work / "half").write_text("x")
        program.write_text("half")
        raise ToolFailed("go build", "ended with 1", "\n".join(f"line {n}" for n in range(40)))

    with pytest.raises(ArtifactError) as caught:
        Artifacts(tmp_path).obtain("thing", "1.2", ("test",), fail)
    assert "line 39" in str(caught.value)
    assert "line 5\n" not in str(caught.value)  # the last lines, not all
    assert [p.suffix for p in (tmp_path / "programs").iterdir()] == [".lock"]
    assert Path(obtain(Artifacts(tmp_path)).path).exists()


def test_leftovers_of_a_killed_run_are_cleared(tmp_path: Path) -> None:
    first = Path(obtain(Artifacts(tmp_path)).path).parent
    left = first.parent / f"partial-{first.name}-abc"
    left.mkdir()
    for file in first.iterdir():
        file.unlink()
    first.rmdir()
    obtain(Artifacts(tmp_path))
    assert not left.exists()


def test_of_two_runs_at_once_one_obtains_and_the_other_waits(tmp_path: Path) -> None:
    made: list[int] = []
    begun = threading.Event()
    go_on = threading.Event()
    said: list[str] = []

    def make(_work: Path, program: Path) -> str:
        made.append(1)
        begun.set()
        assert go_on.wait(10)
        program.write_text("x")
        return "made here"

    def say(line: str) -> None:
        said.append(line)
        go_on.set()  # only once the second run is seen to wait

    results: list[Artifact] = []
    threads = [
        threading.Thread(target=lambda a=a: results.append(a.obtain("thing", "1", ("t",), make)))
        for a in (Artifacts(tmp_path), Artifacts(tmp_path, say=say))
    ]
    threads[0].start()
    assert begun.wait(10)
    threads[1].start()
    for thread in threads:
        thread.join(10)
    assert len(made) == 1
    assert results[0] == results[1]
    assert "waiting" in said[0]


def test_a_lock_of_a_cache_that_was_emptied_meanwhile_is_none(tmp_path: Path) -> None:
    real = fcntl.flock
    emptied: list[Path] = []

    def flock(file: IO[str], how: int) -> None:
        real(file, how)
        if not emptied:
            emptied.append(Path(file.name))
            Path(file.name).unlink()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", flock)
        obtain(Artifacts(tmp_path))
    assert emptied
    assert emptied[0].exists(), "it was locked again, under its name"


def test_a_full_disk_and_a_cache_that_is_a_file_are_told_apart(tmp_path: Path) -> None:
    def full(_work: Path, _program: Path) -> str:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    with pytest.raises(ArtifactError, match="disk is full"):
        Artifacts(tmp_path).obtain("thing", "1", ("t",), full)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="SPLITBRAIN_CACHE"):
        obtain(Artifacts(tmp_path / "file"))


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SPLITBRAIN_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_dir() == tmp_path / ".cache" / "splitbrain"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_dir() == tmp_path / ".cache" / "splitbrain"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "splitbrain"
    monkeypatch.setenv("SPLITBRAIN_CACHE", str(tmp_path / "own"))
    assert cache_dir() == tmp_path / "own"


def test_a_refused_version_is_told_from_a_network_that_is_away(tmp_path: Path, tools: Path) -> None:
    version = '[ "$1" = version ] && { echo go version go1.99.0 linux/amd64; exit; }\n'
    tool(tools, "go", version + "echo 'reading somewhere: 404 Not Found' >&2; exit 1")
    with pytest.raises(VersionRefused, match=r"does not serve m@v9\.9\.9"):
        Artifacts(tmp_path / "c").go_main("etcd", "9.9.9", module="m", source="")
    tool(tools, "go", version + "echo 'dial tcp: lookup somewhere: no such host' >&2; exit 1")
    with pytest.raises(ArtifactError, match=r"no such host[\s\S]*cannot be reached") as caught:
        Artifacts(tmp_path / "c").go_main("etcd", "9.9.9", module="m", source="")
    assert not isinstance(caught.value, VersionRefused)


def test_a_module_that_needs_a_newer_go_says_so(tmp_path: Path, tools: Path) -> None:
    (tmp_path / "go.mod").write_text("module m\n\ngo 1.98.0\n")
    answer = json.dumps({"GoMod": str(tmp_path / "go.mod")})
    version = '[ "$1" = version ] && { echo go version go1.97.0 linux/amd64; exit; }\n'
    tool(tools, "go", f"{version}echo '{answer}'")
    with pytest.raises(ArtifactError, match=r"needs Go 1\.98 or newer"):
        Artifacts(tmp_path / "c").go_main("etcd", "9.9.9", module="m", source="")


def test_debian_refuses_another_version_than_asked_for(tmp_path: Path, tools: Path) -> None:
    tool(tools, "apt-get", "touch etcd-server_3.5.16-4.deb")
    tool(tools, "dpkg-deb", "echo etcd-server 3.5.16-4")
    with pytest.raises(VersionRefused, match=r"etcd-server 3\.5\.16-4, not 3\.4\.23"):
        Artifacts(tmp_path / "c").debian_file("etcd", "3.4.23", package="etcd-server", member="/usr/bin/etcd")
    tool(tools, "apt-get", "echo 'E: Unable to locate package etcd-server' >&2; exit 100")
    with pytest.raises(ArtifactError, match="apt-get update"):
        Artifacts(tmp_path / "c").debian_file("etcd", "3.4.23", package="etcd-server", member="/usr/bin/etcd")


def test_a_tool_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    script = "echo working; sleep 300 & echo $! > child; wait"
    with pytest.raises(ToolFailed, match="did not end within") as caught:
        run(["sh", "-c", script], cwd=tmp_path, timeout_s=0.5)
    assert "working" in caught.value.output
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(child)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_program_of_the_users_own(tmp_path: Path) -> None:
    program = tmp_path / "etcd"
    with pytest.raises(ArtifactError, match="there is no file"):
        Artifacts(tmp_path).local(program)
    program.write_text("x")
    with pytest.raises(ArtifactError, match="not executable"):
        Artifacts(tmp_path).local(program)
    program.chmod(0o755)
    assert Artifacts(tmp_path).local(program).path == str(program)
