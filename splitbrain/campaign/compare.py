"""Tonight's findings beside those of earlier nights: new, known, gone, not seen, and how often.

A finding is known by its signature. How often it comes is a share of *eligible* runs: those of cells (by label, which
is the same every night) in which it has ever been seen. The run that discovered it is not counted, nor is any before
it: they were looked at because something was found, and would make every finding look frequent. So a finding
has come again in k of n runs since, with Wilson's 95% interval, and is called flaky where 0 < k < n.

It is called gone only where its absence would be improbable: after m eligible runs without it, at a rate no
higher than the lower end p of the interval, with a probability (1 - p)^m below 5%. Until then it is `not
seen`, which says how improbable that is by now. One that never came again after its discovery has p = 0, and
is never called gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from splitbrain.series import interval, percent

Status = Literal["new", "known", "gone", "not seen"]
IMPROBABLE: Final = 0.05


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A run that came to a verdict: its cell's label, and the findings it has, by signature, with what is told
    of each."""

    run: str
    label: str
    report: str | None
    version: str | None = None
    findings: dict[str, str] = {}  # signature -> the first anomaly's sentence


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """A finding over all nights so far. `k` of `n`: since its discovery, up to the night in which it was last seen;
    `since`: eligible runs after that. `labels` are those it has been seen in, `versions` likewise."""

    signature: str
    first_night: int
    last_night: int
    k: int = 0
    n: int = 0
    since: int = 0
    labels: tuple[str, ...] = ()
    versions: tuple[str, ...] = ()
    explanation: str = ""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """A finding tonight. `hits` of `eligible` are tonight's, all counted; `chance` is the probability of its
    absence, for one that is gone or not seen; `reports` are those of the runs that have it."""

    status: Status
    known: Known
    hits: int
    eligible: int
    runs: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()
    chance: float | None = None
    returned: bool = False

    @property
    def flaky(self) -> bool:
        """Whether it has come in some of the runs since its discovery, and not in others."""
        return 0 < self.known.k < self.known.n + self.known.since

    @property
    def rate(self) -> str:
        """How often it has come since its discovery, in words."""
        k, n = self.known.k, self.known.n + self.known.since
        if n == 0:
            return "no run since the one that found it"
        return f"{k} of {n} since the one that found it ({percent(k, n)})"

    @property
    def absence(self) -> str:
        """What its absence says, in words."""
        m = self.known.since
        if self.chance is None or m == 0:
            return "no run tonight could have shown it"
        low = absence(self.known)[1]
        rate = f"{low * 100:.1f}% of runs or more"
        share = f"if it still came in {rate}, that would happen with probability {_chance(self.chance)}"
        if self.status == "gone":
            return f"absent from {m} runs: {share} or less"
        if low == 0:
            return (
                f"absent from {m} runs, which says nothing: it never came again after the run that found it"
            )
        return f"absent from {m} runs, which is too few to say: {share}"


def _chance(p: float) -> str:
    return f"{p:.2g}" if p >= 0.0001 else "below 0.0001"


def absence(known: Known) -> tuple[float, float]:
    """(probability of the runs since it was last seen, lower end of its rate).

    >>> round(absence(Known(signature="", first_night=1, last_night=1, k=10, n=20, since=10))[0], 3)
    0.036
    """
    bounds = interval(known.k, known.n)
    low = bounds[0] if bounds and known.k else 0.0
    return (1 - low) ** known.since, low


def compare(night: int, before: Iterable[Known], judged: Sequence[Judged]) -> list[Compared]:
    """Every finding that is or was, those of tonight first. `judged` in the order in which the runs ended."""
    earlier = {known.signature: known for known in before}
    seen = {signature for run in judged for signature in run.findings}
    found = [
        _tonight(night, s, earlier.get(s), judged)
        for s in dict.fromkeys(s for r in judged for s in r.findings)
    ]
    absent = [_absent(known, judged) for s, known in earlier.items() if s not in seen]
    order = ("new", "known", "gone", "not seen")
    return sorted([*found, *absent], key=lambda c: order.index(c.status))


def _tonight(night: int, signature: str, known: Known | None, judged: Sequence[Judged]) -> Compared:
    having = [run for run in judged if signature in run.findings]
    labels = tuple(dict.fromkeys([*(known.labels if known else ()), *(run.label for run in having)]))
    eligible = [run for run in judged if run.label in labels]
    counted = eligible if known else eligible[eligible.index(having[0]) + 1 :]
    k = sum(signature in run.findings for run in counted)
    versions = dict.fromkeys([*(known.versions if known else ()), *(r.version for r in having if r.version)])
    now = Known(
        signature=signature,
        first_night=known.first_night if known else night,
        last_night=night,
        k=(known.k if known else 0) + k,
        n=(known.n + known.since if known else 0) + len(counted),
        labels=labels,
        versions=tuple(versions),
        explanation=having[0].findings[signature],
    )
    return Compared(
        status="known" if known else "new",
        known=now,
        hits=len(having),
        eligible=len(eligible),
        runs=tuple(run.run for run in having),
        reports=tuple(run.report for run in having if run.report),
        returned=known is not None and known.since > 0 and absence(known)[0] < IMPROBABLE,
    )


def _absent(known: Known, judged: Sequence[Judged]) -> Compared:
    eligible = sum(run.label in known.labels for run in judged)
    now = msgspec.structs.replace(known, since=known.since + eligible)
    chance = absence(now)[0] if now.since else None
    gone = chance is not None and chance < IMPROBABLE
    return Compared(
        status="gone" if gone else "not seen", known=now, hits=0, eligible=eligible, chance=chance
    )


def known_of(summary: Mapping[str, Any] | None) -> list[Known]:
    """The findings that a night's summary carries on. Nothing is forgotten: one that is gone may return."""
    return msgspec.convert((summary or {}).get("findings_so_far", []), list[Known])
