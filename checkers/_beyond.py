"""What a system promises to survive, which faults of a run went beyond it, and what is made of it.

What a system is judged under is what it promises, property by property and for the faults in sum: their
families, and how many nodes were out at once by all of them together. Once a run has gone beyond, what is
found after it is an observation; what was found before stays a violation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.core.checker import Anomaly, CheckContext, Result, Verdict
from harness.core.ledger import FaultRecord, read_faults
from harness.core.outages import out_at
from harness.core.system import majority

_usual: Final = frozenset({"partition", "kill", "pause"})
# These know better what their findings hang on, and tell observations apart by themselves.
_by_themselves: Final = frozenset({"availability", "terms", "divergence", "lease", "logs"})
_listed: Final = 50
_never: Final = 2**63 - 1


def promised(spec: Mapping[str, Any], prop: str | None = None) -> frozenset[str]:
    """The families that the system promises to survive as to `prop`, or, where it says nothing of that, as
    to anything at all; where its promises are not told, partition, kill and pause. `promises` are as in
    `core.system`."""
    told = _told(spec, prop)
    return _usual if told is None else frozenset(f for p in told for f in p["families"])


def most_out(spec: Mapping[str, Any], prop: str | None = None) -> int | None:
    """How many nodes may be out at once as to `prop`; None for any number, and where nothing is said."""
    told, nodes = _told(spec, prop), spec.get("nodes")
    if not told or not nodes or any(p.get("most", "all") == "all" for p in told):
        return None
    return int(nodes) - majority(int(nodes))


def applied(run_dir: Path | None) -> list[FaultRecord]:
    """The faults of a run that were applied, in the order they were planned."""
    faults = [] if run_dir is None else read_faults(run_dir / "faults.jsonl")
    return [f for f in faults if f.applied is not None]


def out_at_once(faults: Iterable[FaultRecord], until: int = _never) -> frozenset[str]:
    """The most nodes that several faults together had out at one moment, at `until` ns or before."""
    hit = [f for f in faults if f.applied is not None and f.applied <= until]
    return max((out_at(hit, f.applied or 0) for f in hit), key=len, default=frozenset())


def beyond(
    faults: Iterable[FaultRecord], spec: Mapping[str, Any], until: int, prop: str | None = None
) -> list[str]:
    """What went beyond the promise at `until` ns or before, in words: the families of faults that it does not
    speak of, and more nodes out at once than it allows."""
    faults = list(faults)
    # From its plan on: one that takes seconds to be applied takes effect before it is.
    families = {f.family for f in faults if f.applied is not None and f.planned <= until}
    found = sorted(families - promised(spec, prop))
    most = most_out(spec, prop)
    if most is not None and len(out := out_at_once(faults, until)) > most:
        found.append(f"{len(out)} of {spec['nodes']} nodes out at once")
    return found


def labelled(result: Result, ctx: CheckContext, name: str) -> Result:
    """A checker's answer with its findings told apart: those whose window ends after the run went beyond
    what the system promises are observations. `name` is the checker's.

    Findings that it has counted and not shown are taken for what those shown are.
    """
    if result.verdict != "invalid" or name in _by_themselves or ctx.spec.get("promises") is None:
        return result
    faults = applied(ctx.run_dir)
    kept: list[Anomaly] = []
    noted: list[Anomaly] = []
    past: dict[str, None] = {}
    for anomaly in result.anomalies:
        end = _end(anomaly)
        why = [] if end is None else beyond(faults, ctx.spec, end, "linearizable")
        (noted if why else kept).append(anomaly)
        past |= dict.fromkeys(why)
    if not noted:
        return result
    because = f"after what the system does not promise to survive: {', '.join(past)}"
    told = [f"{a.kind}: {a.explanation}, {because}" for a in noted[:_listed]]
    detail = {
        **result.detail,
        "observations": [*result.detail.get("observations", []), *told],
        "observed_anomalies": msgspec.to_builtins(noted),
    }
    if kept:
        more = f" (and {len(kept) - 1} more)" if len(kept) > 1 else ""
        reason = f"{kept[0].explanation}{more}; {len(noted)} more findings are observations, {because}"
        return msgspec.structs.replace(result, reason=reason, anomalies=kept, detail=detail)
    undecided = result.detail.get("trouble") or result.detail.get("unknown_keys")
    reason = f"observation: {result.reason}, {because}"
    if undecided:
        reason = f"not everything could be decided; {reason}"
    verdict: Verdict = "unknown" if undecided else "valid"
    return msgspec.structs.replace(result, verdict=verdict, reason=reason, anomalies=[], detail=detail)


def not_made(spec: Mapping[str, Any], options: Mapping[str, Any], system: str) -> list[str]:
    """A sentence for each promise that the system does not make with the `options` it has. Findings are
    judged all the same: a positive control wants them."""
    out = []
    for promise in spec.get("promises") or ():
        unless: Mapping[str, str] = promise.get("unless", {})
        met = [f"{k}={v}" for k, v in unless.items() if str(options.get(k)).lower() == str(v).lower()]
        if met:
            what = f"{system} does not promise to be {promise['prop']} with {' and '.join(met)}"
            out.append(f"{what}; it is judged as if it did")
    return out


def _told(spec: Mapping[str, Any], prop: str | None) -> Sequence[Mapping[str, Any]] | None:
    """The promises that are made of `prop`, or all; None where they are not told."""
    given: Sequence[Mapping[str, Any]] | None = spec.get("promises")
    if given is None:
        return None
    return [p for p in given if p["prop"] == prop] or given


def _end(anomaly: Anomaly) -> int | None:
    """When the last operation of a window returned, or began where it never did."""
    ends = [o.get("end_ns") or o.get("start_ns") for o in anomaly.window]
    return max((e for e in ends if isinstance(e, int)), default=None)
