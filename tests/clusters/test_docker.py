"""Provider docker without a daemon: what is refused, in which words, and what needs none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from clusters.means import dockerd
from clusters.means.loader import standalone
from clusters.providers.docker import Docker
from harness.core.cluster import CAPABILITIES
from harness.core.errors import MissingCapability, UsageError
from tests.clusters.fake_dockerd import folder, saying


@pytest.mark.parametrize("address", ["unix:///no/such/docker.sock", "tcp://127.0.0.1:1"])
def test_a_daemon_that_is_not_there(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", address)
    found = Docker().probe()
    assert set(found) == {"docker", *CAPABILITIES}
    for reason in found.values():
        assert reason is not None
        assert f"the Docker daemon at {address} does not answer (" in reason
    with pytest.raises(MissingCapability, match=r"No such file|Connection refused"):
        Docker().create(run="tnone1", run_dir=tmp_path, nodes=1, mounts={})
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "carrier-pigeon://loft")
    assert "carrier-pigeon" in str(Docker().probe()["docker"])


@pytest.mark.parametrize(
    ("info", "tcp", "says"),
    [
        ({}, True, "is reached over a network"),
        ({"Name": "elsewhere"}, False, "runs on elsewhere"),
        ({"KernelVersion": "1.2.3"}, False, "with Linux 1.2.3, not here"),
        ({"SecurityOptions": ["name=seccomp", "name=rootless"]}, False, "is rootless"),
    ],
)
def test_a_daemon_whose_containers_cannot_be_entered(
    info: dict[str, Any], tcp: bool, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with saying(info, tcp=tcp) as address:
        monkeypatch.setenv("DOCKER_HOST", address)
        found = Docker().probe()
        assert found["docker"] is None, "it answers"
        for name in CAPABILITIES:
            assert says in str(found[name])
            assert "clients cannot stand inside its network" in str(found[name])
        with pytest.raises(MissingCapability, match=says):
            Docker().create(run="tfar01", run_dir=tmp_path, nodes=1, mounts={})


@pytest.mark.parametrize(
    ("options", "info", "error", "says"),
    [
        ({"memory_mb": 64}, {"MemoryLimit": False}, MissingCapability, "memory_mb=64.*control groups"),
        ({"cpus": 0.5}, {"CpuCfsQuota": False}, MissingCapability, "cpus=0.5.*control groups"),
        ({"cpus": 64.0}, {}, MissingCapability, "cpus=64: this machine has 2"),
    ],
)
def test_limits_that_cannot_be_had(
    options: dict[str, Any], info: dict[str, Any], error: type[Exception], says: str
) -> None:
    full = {"MemoryLimit": True, "CpuCfsQuota": True, "NCPU": 2, **info}
    with pytest.raises(error, match=says):
        Docker(options)._limits(full)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"image": "a", "rootfs": "b"}, "image=a and rootfs=b: expected one of them"),
        ({"dockerfile": "/no/such"}, "dockerfile=/no/such: no such file"),
        ({"rootfs": "/no/such"}, "rootfs=/no/such: no such file"),
        ({"memory_mb": 3}, "memory_mb=3: expected at least 6"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Docker(options)


def test_a_program_runs_with_its_own_loader(tmp_path: Path) -> None:
    program = shutil.which("cat")
    assert program is not None
    files, argv = standalone(program, str(tmp_path))
    for source, target in files.items():
        shutil.copy(source, target)
    done = subprocess.run([*argv, "-"], input=b"said", capture_output=True, check=True)
    assert done.stdout == b"said"
    assert argv[-1].startswith(str(tmp_path)), "the copy, not the program of the host"


def test_what_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "script").write_text("#!/bin/sh\n" + "#" * 100)
    with pytest.raises(OSError, match="no 64-bit ELF program"):
        standalone(str(tmp_path / "script"), "/x")


def test_clearing_up_with_no_daemon_or_one_that_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/docker.sock")
    assert dockerd.clear("tnone2") == []
    (sentence,) = dockerd.clear("tnone2", "/no/such/docker.sock")
    assert "does not answer (No such file or directory)" in sentence
    assert "network splitbrain-tnone2 can be removed once it is back" in sentence


def test_a_daemon_that_refuses() -> None:
    with saying({}) as address:
        daemon = dockerd.Daemon(address.removeprefix("unix://"))
        with pytest.raises(dockerd.DaemonError, match="refuses /containers/json: not today"):
            daemon.owned()
        with pytest.raises(dockerd.DaemonError, match="does not attach to x"):
            daemon.hold("x")


def test_a_daemon_that_hangs_up() -> None:
    import socket
    import threading

    with folder() as path, socket.create_server(str(path / "d"), family=socket.AF_UNIX) as server:

        def hang_up() -> None:
            server.accept()[0].close()

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(dockerd.DaemonError, match="does not answer"):
            dockerd.Daemon(str(path / "d")).owned()
