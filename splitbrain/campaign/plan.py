"""Which cells a night has: a pure function of the campaign's file and a seed.

A cell is a run's spec with its seed. The first seed of every combination comes before the second of any, so that a
budget which ends early has seen something of each. A combination that cannot be (a system whose client lacks what
the workload needs) is left out with its reason; a value that occurs in no cell at all is a mistake, and refused.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from harness.admission import need
from harness.core.errors import UsageError
from harness.core.seeds import stream, subseed
from harness.core.spec import Spec
from splitbrain import registry
from splitbrain import spec as specs
from splitbrain.bugs import data
from splitbrain.campaign.spec import Block, Campaign

FORMAT: Final = 1
Kind = Literal["matrix", "sample", "canary"]
# What a run takes of memory, an estimate with headroom: controller, agent and checkers, and each node.
_base_mb, _node_mb, _java_mb = 400.0, 150.0, 500.0
# What a run may take beside its load and its start: recovery, final reads, checks, each under a limit of its own.
_beside_s: Final = 240.0
_tries: Final = 50
_looked_through: Final = 1000  # combinations of a sample's value, until it is left to the draw


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One run to be made. `label` is the same every night, whatever the seed: what is compared. `cores` and `memory_mb`
    are what it takes while it goes on, `limit_s` what it may last. `found` are the checks and kinds that a canary
    must come to."""

    id: str
    kind: Kind
    label: str
    spec: dict[str, Any]
    cores: float
    memory_mb: float
    limit_s: float
    found: dict[str, tuple[str, ...]] = {}

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.spec["seed"])


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """A combination that cannot be run, and why."""

    label: str
    reason: str


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A night's cells in their order. `shard` is (index, of), None: all. `endless`: samples go on while there is
    time. `source` is the sha256 of the campaign's file."""

    name: str
    seed: int
    cells: tuple[Cell, ...]
    left_out: tuple[LeftOut, ...] = ()
    shard: tuple[int, int] | None = None
    endless: bool = False
    source: str | None = None
    format: int = FORMAT


def plan(campaign: Campaign, seed: int, shard: tuple[int, int] | None = None) -> Plan:
    """The cells of a night; of a shard, its own canary and every so-many-th of the others.

    Raises: UsageError for a value that occurs in no cell, with the reason of the first that it was refused for.
    """
    left_out: list[LeftOut] = []
    cells = [
        c
        for n, block in enumerate(campaign.matrices, 1)
        for c in _crossed(campaign, block, n, seed, left_out)
    ]
    for n, block in enumerate(campaign.samples, 1):
        _refuse_what_is_never_drawn(campaign, block)
        cells += [drawn(campaign, n, i, seed) for i in range(block.count or 0)]
    cells = _in_turn(cells)
    if shard is not None:
        index, of = shard
        cells = [cell for i, cell in enumerate(cells) if i % of == index - 1]
    return Plan(
        name=campaign.name,
        seed=seed,
        cells=(*_canaries(campaign, seed, shard), *cells),
        left_out=tuple(dict.fromkeys(left_out)),
        shard=shard,
        endless=any(b.count is None for b in campaign.samples),
    )


def endless(campaign: Campaign, seed: int, begin: int, shard: tuple[int, int] | None) -> Iterator[Cell]:
    """The cells of samples without a count, from the `begin`-th on; a shard draws every so-many-th."""
    blocks = [n for n, block in enumerate(campaign.samples, 1) if block.count is None]
    index, of = shard or (1, 1)
    for i in itertools.count(begin):
        at = i * of + index - 1
        yield drawn(campaign, blocks[at % len(blocks)], at // len(blocks), seed)


def drawn(campaign: Campaign, number: int, i: int, seed: int) -> Cell:
    """The i-th cell of a sample: a function of the seed.

    Raises: UsageError when nothing that was drawn can be run.
    """
    block = campaign.samples[number - 1]
    rng = stream(seed, "sample", number, i)
    error: UsageError | None = None
    for _ in range(_tries):
        spec = _nested({key: rng.choice(values) for key, values in block.axes.items()})
        spec["seed"] = rng.getrandbits(31)
        try:
            return _cell(campaign, "sample", f"s{number}-{i + 1:05d}", spec)
        except UsageError as e:
            error = e
    raise UsageError(f"{block.where}: of {_tries} combinations drawn none can be run; the last: {error}")


def _refuse_what_is_never_drawn(campaign: Campaign, block: Block) -> None:
    """A draw that cannot be run is drawn again; so a value that can never be would be passed over in silence.

    Raises: UsageError for the first such value, with the reason that one of its combinations was refused for.
    """
    for key, values in block.axes.items():
        others = {k: v for k, v in block.axes.items() if k != key}
        if math.prod(map(len, others.values())) > _looked_through:
            continue
        for value in values:
            reason = ""
            for chosen in itertools.product(*others.values()):
                spec = _nested({**dict(zip(others, chosen, strict=True)), key: value})
                try:
                    _cell(campaign, "sample", "", {**spec, "seed": 0})
                    break
                except UsageError as e:
                    reason = reason or str(e)
            else:
                raise UsageError(
                    f"{block.where}: {key} = {value!r} occurs in no cell that can be run: {reason}"
                )


def _crossed(campaign: Campaign, block: Block, number: int, seed: int, left_out: list[LeftOut]) -> list[Cell]:
    """Every combination of a matrix that can be run, with its seeds."""
    cells: list[Cell] = []
    fits: set[tuple[str, str]] = set()
    refused: dict[tuple[str, str], str] = {}
    count = block.seeds if isinstance(block.seeds, int) else len(block.seeds)
    for at, values in enumerate(itertools.product(*block.axes.values()), 1):
        chosen = dict(zip(block.axes, values, strict=True))
        pairs = {(key, repr(value)) for key, value in chosen.items()}
        label = label_of(_nested(chosen))
        spec = _nested(chosen)
        try:
            first = _cell(campaign, "matrix", "", {**spec, "seed": 0})
        except UsageError as e:
            left_out.append(LeftOut(label=label, reason=str(e)))
            for pair in pairs:
                refused.setdefault(pair, str(e))
            continue
        fits |= pairs
        for n in range(count):
            own = subseed(seed, label, n) >> 33 if isinstance(block.seeds, int) else block.seeds[n]
            ident = f"m{number}-{at:04d}-{n + 1:03d}"
            cells.append(msgspec.structs.replace(first, id=ident, spec={**spec, "seed": own}))
    for (key, value), reason in refused.items():
        if (key, value) not in fits:
            raise UsageError(f"{block.where}: {key} = {value} occurs in no cell that can be run: {reason}")
    if not cells:
        raise UsageError(f"{block.where}: it has no cell")
    return cells


def _in_turn(cells: Sequence[Cell]) -> list[Cell]:
    """The first seed of each combination before the second of any; samples stand where the matrices' first do."""
    turn: dict[str, int] = {}
    ranked = []
    for cell in cells:
        n = 0 if cell.kind == "sample" else turn.get(cell.id.rpartition("-")[0], 0)
        turn[cell.id.rpartition("-")[0]] = n + 1
        ranked.append((n, cell))
    return [cell for _, cell in sorted(ranked, key=lambda r: r[0])]


def _canaries(campaign: Campaign, seed: int, shard: tuple[int, int] | None) -> list[Cell]:
    bug = data.bug(campaign.canary.bug)
    variant = bug.variant("broken")
    spec: dict[str, Any] = {**bug.spec, "system": bug.system, "expect": "invalid"}
    spec["opt"] = {**bug.spec.get("opt", {}), **variant.opt}
    if variant.version is not None:
        spec["version"] = variant.version
    if campaign.canary.time_s is not None:
        spec["time"] = campaign.canary.time_s
    found = []
    for n in range(campaign.canary.runs):
        own = {**spec, "seed": subseed(seed, "canary", bug.id, shard[0] if shard else 0, n) >> 33}
        cell = _cell(campaign, "canary", f"canary-{n + 1}" + (f"-{shard[0]}" if shard else ""), own)
        found.append(msgspec.structs.replace(cell, label=f"canary {bug.id}", found=bug.found))
    return found


def _cell(campaign: Campaign, kind: Kind, ident: str, spec: Mapping[str, Any]) -> Cell:
    """Raises: UsageError for what is no spec."""
    resolved = specs.resolve(None, spec)
    limit_s = campaign.limit_s or resolved.time_s + resolved.ready_s + _beside_s
    if limit_s <= resolved.time_s:
        raise UsageError(f"limit {limit_s:g} s: a cell has {resolved.time_s:g} s of load alone; raise it")
    return Cell(
        id=ident,
        kind=kind,
        label=label_of(spec),
        spec=dict(spec),
        cores=need(resolved),
        memory_mb=_memory_mb(resolved),
        limit_s=limit_s,
    )


def _memory_mb(spec: Spec) -> float:
    nodes = 0 if spec.addresses or spec.hosts else spec.nodes
    versions = registry.describe("systems", spec.system).versions
    return _base_mb + nodes * (_java_mb if versions and "java" in versions.needs else _node_mb)


def label_of(spec: Mapping[str, Any]) -> str:
    """A combination in a few words, without its seed.

    >>> label_of({"system": "etcd", "nodes": 5, "faults": "kill", "opt": {"reads": "serializable"}, "seed": 3})
    'etcd, faults kill, nodes 5, reads=serializable'
    """
    told = dict(spec)
    system = str(told.pop("system", "etcd")).rpartition("/")[2].removesuffix(".toml")
    words = [
        " ".join(filter(None, (system, str(told.pop("version", "") or ""), str(told.pop("workload", "")))))
    ]
    options = told.pop("opt", {})
    told.pop("seed", None)
    for key, value in told.items():
        words.append(
            f"{key} {','.join(map(str, value)) if isinstance(value, list | tuple) else _plain(value)}"
        )
    return ", ".join([*words, *(f"{name}={_plain(value)}" for name, value in options.items())])


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _nested(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """`opt.NAME` back below `opt`."""
    spec = {key: value for key, value in chosen.items() if not key.startswith("opt.")}
    options = {key.removeprefix("opt."): value for key, value in chosen.items() if key.startswith("opt.")}
    return {**spec, "opt": options} if options else spec
