"""Healing a host: what a run left on it is taken away over a connection of its own, once the host is back."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from clusters.means.removal import Kind
from clusters.providers._ssh_host import Host
from clusters.providers._ssh_link import Link, access_of, parse
from harness.core import secrets
from harness.core.spec import Spec


def remove(run: str, run_dir: Path, name: str) -> None:
    """`name`: the node, and its host as USER@HOST:PORT.

    Raises: InfrastructureError where the host cannot be reached, OSError where something stayed.
    """
    node, _, target = name.partition(" ")
    spec = msgspec.json.decode((run_dir / "spec.json").read_bytes(), type=Spec)
    options = secrets.reveal(spec, run).of(spec.provider)
    link = Link(node, parse(target), access_of(options))
    host = Host(link, "", options)
    try:
        link.connect()
        host.look(room=False)
        problems = host.heal(run)
    finally:
        link.close()
    if problems:
        raise OSError("; ".join(problems))


HOST: Final = Kind(there=lambda _run, _run_dir, _name: True, remove=remove)  # until the ledger says otherwise
