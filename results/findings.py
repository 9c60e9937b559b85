"""What a run found, each finding under a signature that the same bug has again, whatever the seed.

    nats/log/lost/publish+read/kill
    system / checker / shape / operations / fault families

A signature groups findings over the runs of a campaign, says whether a replay came upon the same one, and is
what expectations and baselines name. So it is made of what a bug keeps and nothing of what a run draws: not of
version, seed, keys, times, nodes or processes, nor of how many anomalies there were. All anomalies of one check
that have one shape are one finding. Measured on many seeds each of known bugs, this is how the parts keep still:

* shape: the anomaly's kind. What the same cause shows now as one and now as the other is one shape (`_same`), and
  `no-order`, which is said where no short sentence fits, is counted to a shape of the same check that has a name. A
  crash is told from others by the words that were logged.
* operations: the kinds that are answered in a quarter of the windows or more, where those are evidence and not
  surroundings; `write` and `cas` are one, since the draw decides which of them a smallest window holds.
* fault families: those of the run. Those in force in the windows vary over seeds as much as between bugs.

Pure but for `of_run`, which reads a results object.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.core.errors import UsageError

NOTHING: Final = "none"  # stands in a signature for no operation, no fault
PARTS: Final = ("system", "checker", "shape", "operations", "faults")

_same: Final = {("set", "flicker"): "stale"}
_unnamed: Final = "no-order"
_kinds: Final = {"cas": "write", "put": "write"}
# Their windows show what else went on at the time, not what broke the promise.
_surroundings: Final = frozenset({"availability", "logs", "terms", "divergence", "members", "operations"})
_logged: Final = re.compile(r'logged "(.*)" by ')
_plain: Final = re.compile(r"[A-Za-z][A-Za-z'-]*[.,;:]?")
_words: Final = 6
_rare: Final = 4


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """All anomalies of one check of a run that have one shape.

    `explanation` is the first one's sentence, `anomalies` how many the results hold; `version` and `workload` are
    attributes and no part of the signature.
    """

    signature: str
    system: str
    checker: str
    shape: str
    operations: tuple[str, ...]
    faults: tuple[str, ...]
    explanation: str
    anomalies: int
    version: str | None = None
    workload: str | None = None


def findings(results: Mapping[str, Any], faults: Iterable[str] | None = None) -> list[Finding]:
    """The findings of a results object in the order of its checks, one for each signature.

    `faults` are the families that were in force, by default all that the run was asked for.
    """
    families = tuple(sorted(results.get("faults") or ()) if faults is None else sorted(set(faults)))
    system = str(results.get("system") or NOTHING)
    found: list[Finding] = []
    for name, check in (results.get("checks") or {}).items():
        if check.get("verdict") != "invalid":
            continue
        for shape, anomalies in _by_shape(name, check).items():
            operations = _operations(name, anomalies)
            found.append(
                Finding(
                    signature=signature(system, name, shape, operations, families),
                    system=system,
                    checker=name,
                    shape=shape,
                    operations=operations,
                    faults=families,
                    explanation=str(anomalies[0].get("explanation") or check.get("reason") or ""),
                    anomalies=len(anomalies),
                    version=results.get("version"),
                    workload=results.get("workload"),
                )
            )
    return found


def of_run(run_dir: Path) -> list[Finding]:
    """The findings of a run directory.

    Raises: UsageError where it has no `results.json` that can be read.
    """
    path = run_dir / "results.json"
    try:
        results = json.loads(path.read_bytes())
    except (OSError, ValueError) as e:
        raise UsageError(f"cannot read {path}: {e}; `splitbrain check {run_dir}` writes it again") from None
    if not isinstance(results, dict):
        raise UsageError(f"{path} is no JSON object; `splitbrain check {run_dir}` writes it again")
    return findings(results)


def signature(system: str, checker: str, shape: str, operations: Iterable[str], faults: Iterable[str]) -> str:
    """The text that stands for a finding.

    >>> signature("etcd", "linearizable", "stale-read", ["write", "read"], ["partition"])
    'etcd/linearizable/stale-read/read+write/partition'
    >>> signature("raft", "terms", "two-leaders", [], [])
    'raft/terms/two-leaders/none/none'
    """
    told = ("+".join(sorted(set(part))) or NOTHING for part in (operations, faults))
    return "/".join((system.replace("/", "-"), checker, shape, *told))


def matches(pattern: str, found: str) -> bool:
    """Whether a signature is the one that a pattern names; `*` stands for anything.

    >>> matches("etcd/linearizable/*", "etcd/linearizable/stale-read/read+write/partition")
    True
    """
    return fnmatchcase(found, pattern)


def _by_shape(checker: str, check: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """The anomalies of a check by their shape. A check that is invalid and shows none has one all the same."""
    shapes: dict[str, list[Mapping[str, Any]]] = {}
    for anomaly in check.get("anomalies") or [{}]:
        shapes.setdefault(_shape(checker, anomaly), []).append(anomaly)
    named = [shape for shape in shapes if shape != _unnamed]
    if named and _unnamed in shapes:
        rest = shapes.pop(_unnamed)
        shapes[named[0]] = [*shapes[named[0]], *rest]
    return shapes


def _shape(checker: str, anomaly: Mapping[str, Any]) -> str:
    kind = str(anomaly.get("kind") or NOTHING)
    kind = _same.get((checker, kind), kind)
    logged = _logged.search(str(anomaly.get("explanation") or "")) if checker == "logs" else None
    return f"{kind}:{_slug(logged[1])}" if logged else kind


def _slug(text: str) -> str:
    """The first plain words of a line of a log: numbers, addresses and names of things vary.

    >>> _slug("panic: tocommit(12) is out of range [lastIndex(9)]. Was the raft log corrupted?")
    'panic-is-out-of-range-was'
    """
    words = [w.rstrip(".,;:").lower() for w in text.split() if _plain.fullmatch(w)]
    return "-".join(words[:_words]) or NOTHING


def _operations(checker: str, anomalies: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    if checker in _surroundings:
        return ()
    windows = [
        {
            _kinds.get(f, f)
            for f in (str(op.get("f")) for op in anomaly.get("window") or () if op.get("type") != "info")
        }
        for anomaly in anomalies
    ]
    counts = Counter(name for names in windows for name in names)
    return tuple(sorted(name for name, n in counts.items() if n * _rare >= len(windows)))
