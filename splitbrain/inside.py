"""`splitbrain exec`: a command inside a node, with our standard streams, and its exit code as ours.

A node on this machine is entered through its namespaces. Where nobody could enter it from here, the provider has a
way (`harness.core.cluster.Provider`), with the options that the run had.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from harness.core import secrets
from harness.core.errors import UsageError
from harness.core.ledger import read_resources
from harness.core.spec import read_spec
from results.rundir import run_id
from splitbrain import kept, registry


def execute(run_dir: Path, node: str, argv: Sequence[str]) -> int:
    """Run `argv` inside a node; returns its exit code, or does not return.

    Raises: UsageError for a run that has nothing standing or no such node; MissingCapability, InfrastructureError.
    """
    spec, run = read_spec(run_dir), run_id(run_dir)
    if not registry.describe("providers", spec.provider).hosts:
        command = kept.command(run_dir, node, argv)
        os.execv(command[0], command)  # noqa: S606 - its exit code is ours
    options = secrets.reveal(spec, run).of(spec.provider)
    provider = registry.create("providers", spec.provider, options | {"hosts": spec.hosts})
    if not hasattr(provider, "execute"):
        raise UsageError(f"provider {spec.provider} has no way to enter a node; log in to the host")
    if not read_resources(run_dir / "faults.jsonl"):
        raise UsageError(
            f"run {run} has nothing that stands on its hosts; a run can be entered while it goes on, and one with"
            f" --keep, when it has failed, for {kept.KEEP_S / 3600:g} h at most"
        )
    code: int = provider.execute(run=run, node=node, argv=argv)
    return code
