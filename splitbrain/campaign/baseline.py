"""The baseline of a campaign: findings that are known, with a reason and a date, and turn no night red."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from results.findings import matches

if TYPE_CHECKING:
    from splitbrain.baseline import Known


class Baseline:
    """The entries of a baseline file as a campaign asks them; without a file there are none."""

    def __init__(self, known: Sequence[Known] = (), today: dt.date | None = None) -> None:
        self._known = tuple(known)
        self._today = today or dt.datetime.now(dt.UTC).date()

    @classmethod
    def read(cls, path: Path | None) -> Baseline:
        """Raises: UsageError for a file that cannot be read, or that holds what is no entry."""
        if path is None:
            return cls()
        from splitbrain.baseline import read

        return cls(read(path).known)

    def entry(self, signature: str) -> Known | None:
        """The entry that excuses a finding today; one that has expired excuses nothing."""
        return next(
            (k for k in self._known if matches(k.signature, signature) and not k.expired(self._today)), None
        )

    def expired(self) -> list[str]:
        """A sentence for each entry whose date is past."""
        return [
            f"the baseline's entry {k.signature} expired on {k.expires.isoformat()}: {k.reason}"
            for k in self._known
            if k.expired(self._today)
        ]
