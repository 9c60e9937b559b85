"""Whether the night happened: asked by cron some time after it should have, by something that the night's
failure does not end.

The time that counts is when a night's ledger was last written to. One that lies in the future says that the
clock was set: then nothing can be said, and that is late as well, since unknown is never success.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec

from splitbrain.campaign import home, ledger, summary
from splitbrain.spec import duration


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to say of the latest night."""

    late: bool
    sentence: str
    night: str | None = None


def look(folder: Path, limit_s: float, now: datetime) -> Found:
    """Whether a night has come to its end in the last `limit_s`."""
    nights = home.nights(folder)
    limit = duration(limit_s)
    if not nights:
        return Found(late=True, sentence=f"no night has ever happened in {folder}")
    whole = [n for n in nights if not summary.unfinished(n)]
    latest = nights[-1]
    if not whole or whole[-1] != latest:
        age_s = _age_s(latest, now)
        cut = f"night {home.number(latest)} has not come to its end"
        if whole and (done_s := _age_s(whole[-1], now)) is not None and 0 <= done_s <= limit_s:
            return Found(late=False, sentence=f"{cut}, but the one before did in time", night=latest.name)
        quiet = "" if age_s is None else f"; its last sign is {_told(age_s)} old"
        return Found(late=True, sentence=f"{cut}, and none did in the last {limit}{quiet}", night=latest.name)
    age_s = _age_s(latest, now)
    if age_s is None:
        return Found(
            late=True, sentence=f"it is not known when night {home.number(latest)} ended", night=latest.name
        )
    if age_s < 0:
        told = f"night {home.number(latest)} ended {_told(-age_s)} from now: a clock was set, and nothing can be said"
        return Found(late=True, sentence=told, night=latest.name)
    late = age_s > limit_s
    told = f"night {home.number(latest)} ended {_told(age_s)} ago"
    if late:
        told = f"a night did not happen: {told}, and one is due every {limit}"
    return Found(late=late, sentence=told, night=latest.name)


def _age_s(night: Path, now: datetime) -> float | None:
    at = ledger.read(night / ledger.NAME).last_at
    if not at:
        return None
    return (now.astimezone(UTC) - datetime.fromisoformat(at)).total_seconds()


def _told(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.0f} min"
