"""The nights of several machines made one: `campaign plan --shards` before a CI's matrix, `campaign merge` after it.

Shards are of one plan: the same campaign, seed and number; no run may be in two, otherwise nothing is made. A
shard that did not come is no reason to lose the others: its cells stand there as not started, its canary as
not found. Run directories are copied, the ledgers told one after the other.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from harness.core.errors import InfrastructureError, UsageError
from results.tail import json_object
from splitbrain.campaign import home, ledger, notify
from splitbrain.campaign.plan import Plan, plan
from splitbrain.campaign.spec import Campaign


def shards(plan_of: Plan, campaign_file: Path, of: int) -> dict[str, Any]:
    """What `campaign plan --shards N --json` prints for a CI's matrix: `include` has what each job is told."""
    ordinary = [c for c in plan_of.cells if c.kind != "canary"]
    include = [
        {
            "shard": f"{i + 1}/{of}",
            "seed": plan_of.seed,
            "cells": len(ordinary[i::of]),
            "command": f"splitbrain campaign run {campaign_file} --shard {i + 1}/{of} --seed {plan_of.seed}",
        }
        for i in range(of)
    ]
    return {"format": 1, "campaign": plan_of.name, "seed": plan_of.seed, "include": include}


def nights_below(given: Sequence[Path]) -> list[Path]:
    """The nights that these folders are or hold, at any depth.

    Raises: UsageError for a folder without any.
    """
    found: list[Path] = []
    for folder in given:
        here = sorted(p.parent for p in folder.rglob("plan.json") if (p.parent / "runs").is_dir())
        if not here:
            raise UsageError(
                f"{folder} holds no night of a campaign; expected what `campaign run --shard` wrote"
            )
        found += here
    return list(dict.fromkeys(found))


def merge(campaign: Campaign, nights: Sequence[Path], folder: Path) -> Path:
    """Make one night of the shards, in the home `folder`; its directory, with no summary yet.

    Raises: UsageError for what are not the shards of one plan; InfrastructureError when it cannot be written.
    """
    plans = {night: home.read_plan(night) for night in nights}
    whole, missing = _whole(campaign, plans)
    states = {night: ledger.read(night / ledger.NAME) for night in nights}
    runs = [run for state in states.values() for run in state.attempts]
    if len(set(runs)) < len(runs):
        twice = next(run for run in runs if runs.count(run) > 1)
        raise UsageError(f"run {twice} is in two of the nights; a shard was given twice")
    merged = home.new_night(folder, whole, datetime.now(UTC))
    try:
        with (merged / ledger.NAME).open("ab") as file:
            for night in nights:
                for raw in (night / ledger.NAME).read_bytes().splitlines():
                    if json_object(raw) is not None:
                        file.write(raw + b"\n")
                for part in ("attempts", "runs"):
                    shutil.copytree(
                        night / part,
                        merged / part,
                        symlinks=True,
                        dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("index.db*", "latest"),
                    )
            for i in missing:
                told = f"shard {i} of {first_of(plans)} did not come; what it was to run has not been shown to work"
                file.write(msgspec.json.encode({"event": "note", "text": told}) + b"\n")
            if missing:
                file.write(msgspec.json.encode({"event": "stop", "why": "a shard did not come"}) + b"\n")
    except OSError as e:
        with contextlib.suppress(OSError):
            shutil.rmtree(merged)
        raise InfrastructureError(f"cannot write {merged}: {e.strerror or e}; nothing was merged") from None
    return merged


def tell(campaign: Campaign, night: Path, told: dict[str, Any]) -> list[str]:
    """Tell of what is new in a merged night, and of a canary that was not found, since its shards told nobody.

    One sentence for each that could not be told, which stand in the night's ledger as well.
    """
    teller = notify.Teller(campaign.notify)
    about = {"campaign": campaign.name}
    for f in told["findings"]:
        if f["status"] == "new" and f["fails"]:
            report = str(night / f["reports"][0]) if f["reports"] else None
            event, text, more = notify.new_finding(campaign.name, f["signature"], report, f["runs"][0])
            teller.tell(event, text, {**about, **more})
    if told["canary"]["verdict"] == "not found":
        teller.tell("canary", told["canary"]["sentence"], about)
    problems = teller.finish()
    if problems:
        lines = b"".join(msgspec.json.encode({"event": "note", "text": p}) + b"\n" for p in problems)
        try:
            with (night / ledger.NAME).open("ab") as file:
                file.write(lines)
        except OSError as e:
            problems.append(f"cannot write {night / ledger.NAME}: {e.strerror}")
    return problems


def first_of(plans: dict[Path, Plan]) -> int:
    """How many shards there were to be."""
    shard = next(iter(plans.values())).shard
    return shard[1] if shard else 1


def _whole(campaign: Campaign, plans: dict[Path, Plan]) -> tuple[Plan, list[int]]:
    """The plan that the shards are of, and the numbers of those that did not come."""
    first_night, first = next(iter(plans.items()))
    if first.shard is None:
        raise UsageError(f"{first_night} is no shard: it was run without --shard")
    by_shard: dict[int, Plan] = {}
    for night, found in plans.items():
        same = (found.name, found.seed) == (campaign.name, first.seed)
        if found.shard is None or not same or found.shard[1] != first.shard[1]:
            raise UsageError(
                f"{night} and {first_night} are not shards of one night of {campaign.name}: campaign, seed and"
                " number of shards have to be the same"
            )
        if found.shard[0] in by_shard:
            raise UsageError(f"shard {found.shard[0]} is there twice, once as {night}; give each once")
        by_shard[found.shard[0]] = found
    of = first.shard[1]
    missing = [i for i in range(1, of + 1) if i not in by_shard]
    by_shard |= {i: plan(campaign, first.seed, (i, of)) for i in missing}
    cells = tuple(cell for i in sorted(by_shard) for cell in by_shard[i].cells)
    return msgspec.structs.replace(first, cells=cells, shard=None), missing
