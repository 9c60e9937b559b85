"""splitbrain: run a real cluster, break it, and prove whether it kept its promises.

Users import from here alone: `from splitbrain import Option, Descriptor, Definite`. Names resolve on
first use, so that importing this package costs next to nothing.

The other six packages have generic names (PyPI even has a `results`), and another package of the
same name earlier on the path would be loaded in their place. `check_packages` compares where they
come from and names the intruder; it runs before the first name is resolved.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from checkers.linearizable import check_linearizable
    from checkers.models.model import INCONSISTENT, Call, Model
    from harness.core.checker import Anomaly, CheckContext, Checker, Result, Verdict, worst
    from harness.core.client import Client
    from harness.core.cluster import Cluster, Echoes, Endpoint, Node, Place, Process, Provider, Shaping, View
    from harness.core.descriptor import Descriptor
    from harness.core.errors import (
        ArtifactError,
        Definite,
        HistoryError,
        Indeterminate,
        InfrastructureError,
        Interrupted,
        Mismatch,
        MissingCapability,
        NodeFailed,
        SplitbrainError,
        UsageError,
    )
    from harness.core.fault import Evidence, Fault, FaultContext, Plan, Undo
    from harness.core.generator import PENDING, Answer, Context, Generator, Pending, op
    from harness.core.generators import each_thread, keyed, limit, mix, stream
    from harness.core.history import History, identity, read_history
    from harness.core.op import Op, Reply
    from harness.core.options import Option
    from harness.core.seeds import draw, subseed
    from harness.core.simulator import simulate
    from harness.core.spec import Spec
    from harness.core.system import Install, LogEvent, Promise, Status, System
    from harness.core.versions import Source, Versions
    from harness.core.workload import Workload, WorkloadFactory
    from results.findings import Finding
    from splitbrain.asking import RunResult
    from splitbrain.live import Injected, LiveClient, LiveCluster, Outcome

PACKAGES: Final = ("harness", "clusters", "nemesis", "checkers", "workloads", "results")
PROJECT_VARIABLE: Final = "SPLITBRAIN_PROJECT"

_homes: Final = {
    "checkers.linearizable": "check_linearizable",
    "checkers.models.model": "Call INCONSISTENT Model",
    "harness.core.checker": "Anomaly CheckContext Checker Result Verdict worst",
    "harness.core.client": "Client",
    "harness.core.cluster": "Cluster Echoes Endpoint Node Place Process Provider Shaping View",
    "harness.core.descriptor": "Descriptor",
    "harness.core.errors": "ArtifactError Definite HistoryError Indeterminate InfrastructureError Interrupted Mismatch "
    "MissingCapability NodeFailed SplitbrainError UsageError",
    "harness.core.fault": "Evidence Fault FaultContext Plan Undo",
    "harness.core.generator": "Answer Context Generator PENDING Pending op",
    "harness.core.generators": "each_thread keyed limit mix stream",
    "harness.core.history": "History identity read_history",
    "harness.core.op": "Op Reply",
    "harness.core.options": "Option",
    "harness.core.seeds": "draw subseed",
    "harness.core.simulator": "simulate",
    "harness.core.spec": "Spec",
    "harness.core.system": "Install LogEvent Promise Status System",
    "harness.core.versions": "Source Versions",
    "harness.core.workload": "Workload WorkloadFactory",
    "results.findings": "Finding",
    "splitbrain.asking": "RunResult",
    "splitbrain.live": "Injected LiveClient LiveCluster Outcome",
}
_home_of: Final = {name: module for module, names in _homes.items() for name in names.split()}

__all__ = [
    "INCONSISTENT",
    "PENDING",
    "Anomaly",
    "Answer",
    "ArtifactError",
    "Call",
    "CheckContext",
    "Checker",
    "Client",
    "Cluster",
    "Context",
    "Definite",
    "Descriptor",
    "Echoes",
    "Endpoint",
    "Evidence",
    "Fault",
    "FaultContext",
    "Finding",
    "Generator",
    "History",
    "HistoryError",
    "Indeterminate",
    "InfrastructureError",
    "Injected",
    "Install",
    "Interrupted",
    "LiveClient",
    "LiveCluster",
    "LogEvent",
    "Mismatch",
    "MissingCapability",
    "Model",
    "Node",
    "NodeFailed",
    "Op",
    "Option",
    "Outcome",
    "Pending",
    "Place",
    "Plan",
    "Process",
    "Promise",
    "Provider",
    "Reply",
    "Result",
    "RunResult",
    "Shaping",
    "Source",
    "Spec",
    "SplitbrainError",
    "Status",
    "System",
    "Undo",
    "UsageError",
    "Verdict",
    "Versions",
    "View",
    "Workload",
    "WorkloadFactory",
    "check_linearizable",
    "draw",
    "each_thread",
    "identity",
    "keyed",
    "limit",
    "mix",
    "op",
    "read_history",
    "simulate",
    "stream",
    "subseed",
    "worst",
]


def root() -> Path:
    """The folder that holds all seven packages."""
    return Path(__file__).resolve().parent.parent


def check_packages() -> None:
    """Make sure that the six packages are those that stand beside this one.

    Raises: ImportError naming the first that is not, and where it was found instead.
    """
    home = root()
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is None:
            raise ImportError(
                f"splitbrain's package {name!r} is missing; expected it in {home}: install splitbrain again"
            )
        found = spec.origin or next(iter(spec.submodule_search_locations or ()), "nowhere")
        if not Path(found).resolve().is_relative_to(home / name):
            raise ImportError(
                f"package {name!r} would be loaded from {found}, which is not splitbrain's; expected"
                f" {home / name}: rename that one, or take its folder off the Python path (`python -P` leaves"
                " out the current folder)"
            )


def _append_project() -> None:
    """In a child process: make the user's project importable, behind everything else."""
    import os

    project = os.environ.get(PROJECT_VARIABLE)
    if project and project not in sys.path:
        sys.path.append(project)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from splitbrain.registry import version

        return version()
    if name not in _home_of:
        raise AttributeError(f"module 'splitbrain' has no attribute {name!r}")
    check_packages()
    value = getattr(importlib.import_module(_home_of[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})


_append_project()
