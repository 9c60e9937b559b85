"""What a snapshot of etcd is made into: the data of members of a new cluster, by etcd's own tool.

`snapshot restore` (of etcdutl, in 3.4 of etcdctl) asks no server; it writes a member's data from a snapshot, with
new ids of members and cluster (etcd documentation, "Disaster recovery"). Revisions go on from the snapshot's.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from clusters.systems._etcd_versions import DEBIAN
from harness.core.errors import InfrastructureError

_MODULE: Final = "go.etcd.io/etcd/etcdutl/v3"
# As for the server: `go install` of the tool's own main refuses because of replace directives.
_MAIN: Final = """\
package main

import (
	"fmt"
	"os"

	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
)

func main() {
	command := etcdutl.NewSnapshotCommand()
	command.SetArgs(os.Args[2:])
	if err := command.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
"""
_patience_s: Final = 60.0


def obtain(version: str, artifacts: Any) -> str:
    """The path of the program that restores snapshots of an exact version.

    Raises: ArtifactError.
    """
    if version == DEBIAN:
        artifact = artifacts.debian_file("etcdctl", version, package="etcd-client", member="/usr/bin/etcdctl")
    else:
        artifact = artifacts.go_main("etcdutl", version, module=_MODULE, source=_MAIN)
    path: str = artifact.path
    return path


def restored(
    program: str, snapshot: bytes, urls: Mapping[str, str], cluster: str, folder: Path
) -> dict[str, Path]:
    """The data of each of the members `urls` (name -> where its peers find it), below `folder`.

    Raises: InfrastructureError with what the program said.
    """
    made = {name: folder / name for name in urls}
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".db") as file:
        file.write(snapshot)
        file.flush()
        for name, url in urls.items():
            _run(
                program,
                *("snapshot", "restore", file.name, "--name", name, "--data-dir", str(made[name])),
                *("--initial-cluster", ",".join(f"{n}={u}" for n, u in urls.items())),
                *("--initial-cluster-token", cluster, "--initial-advertise-peer-urls", url),
            )
    return made


def _run(program: str, *args: str) -> None:
    try:
        done = subprocess.run(
            [program, *args],
            env={**os.environ, "ETCDCTL_API": "3"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_patience_s,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as e:
        raise InfrastructureError(f"a snapshot could not be restored: {e}") from None
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines()
        raise InfrastructureError(
            f"a snapshot could not be restored: {said[-1][:300] if said else 'no reason given'}"
        )
