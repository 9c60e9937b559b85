"""Property `watch`: what etcd publishes of its watches, held against the puts that clients made.

Each key is a prefix; `put` writes some `[sub, value]` below it in one revision, `watch` from a revision
on returns `{"from", "events": [[revision, sub, value], ...], "next", "bookmark"}`: all that it delivered,
the revision to resume from, and the one up to which everything was delivered (null: not known). The
guarantees are those of etcd's "Watch APIs" (etcd.io/docs/v3.6/learning/api_guarantees), and each is the
name of an anomaly:

* `ordered`: an event is delivered after one with a greater revision;
* `unique`: an event is delivered twice by one watch;
* `past`: an event is older than the revision that was asked for, as after a resume;
* `reliable`: an event between others that were delivered is missing;
* `atomic`: of one put some events were delivered, others not;
* `bookmarkable`: an event is missing up to which the bookmark says that everything was delivered;
* `resumable`: who goes on from `next` misses an event, or gets one again.

Beside these, for what all watches say together: `lost`: missing from what a final watch delivered;
`disagree`: two revisions for one put, or two values for one key at one revision; `phantom`: an event
that no put made which had begun by then and did not certainly fail.

A put happened at the revision with which it was acknowledged; one of unknown outcome at that at which
a watch showed it. Values are told apart by sub and value, which therefore should not repeat: what
repeats is only checked for being there at all, and so are deletions (value null). A watch may be
arbitrarily late, so nothing is asked for beyond the revision that it reached; a final watch that did not
reach what was acknowledged makes the verdict unknown. O(n log n) in puts and events, memory linear.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from checkers._windows import judged, last_fault, settle, summary
from checkers.explain import count
from harness.core.checker import CheckContext, Result
from harness.core.descriptor import Descriptor

if TYPE_CHECKING:
    from checkers._watch_seen import Seen
    from harness.core.history import History

WATCH: Final = Descriptor(
    name="watch",
    summary="watches are ordered, unique, atomic, reliable, resumable and bookmarkable, and agree",
    target="checkers.watch:Watch",
)


class Watch:
    """The checker."""

    name = "watch"

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        """Raises: UsageError, since it has no options."""
        settle(options, "watch", ())

    def check(self, ctx: CheckContext) -> Result:
        """Decide every prefix.

        Raises: HistoryError for a put or an answer of a watch that is not of the form above.
        """
        from checkers._watch_judge import Judge  # here, since the descriptor above is read by every `--help`
        from checkers._watch_seen import Seen

        history = ctx.history()
        began = time.monotonic()
        seen = Seen(ctx, history)
        judge = Judge(history, seen)
        anomalies = judge.anomalies()
        trouble = self._trouble(history, seen) or judge.short()
        watches = "1 watch" if len(seen.watch_at) == 1 else f"{len(seen.watch_at)} watches"
        good = f"{watches} delivered {count(len(seen.event_revision), 'event')}, none missing, torn or twice"
        return Result(
            verdict=judged(anomalies, trouble),
            reason=summary(anomalies) if anomalies else trouble or good,
            seconds=time.monotonic() - began,
            anomalies=anomalies,
            detail=judge.detail(),
        )

    def _trouble(self, history: History, seen: Seen) -> str | None:
        """What was not seen without which nothing is known."""
        if not seen.acknowledged:
            return "no put was acknowledged, so there is nothing that a watch had to deliver"
        if not len(seen.watch_at):
            return "no watch was answered, so nothing is known of what watches deliver; run it again"
        if not (history.pair[seen.watch_at] > last_fault(history)).any():
            return "no watch after the last fault was answered, so what faults did to the events was not seen"
        return None
