"""Property `set`: what was acknowledged is never lost, and every read shows a set that there was.

Each key is a set that only grows: `add` of an element, `read` of all. The timeline of an element is
that of Jepsen's `set-full` (jepsen/src/jepsen/checker.clj, jepsen-io/jepsen): it is *known* from the
first moment on at which an add of it or a read that shows it has completed, and a read that begins
after that must show it. Where such a read does not, the element is

* `lost` when no later read shows it, or when the last answered final read through some node does not:
  a loss that one node alone shows is a loss;
* `flicker` when it had been read before, is missing, and is read again;
* `stale` when it had been acknowledged, is missing, and is read later.

Beyond `set-full`, a read that shows b began, in effect, no earlier than the add of b, so everything
known by then must be in it; and of any two reads one holds all of the other (`fork`). With that the
check decides linearizability. `duplicated`: twice in one read. `phantom`: nobody had begun to add it
by the time the read was answered. `failed-add`: only an add that certainly failed ever tried. An add of
unknown outcome that turns out to be there is `recovered`, no violation.

With `stale=allowed` (reads that promise nothing but some past state) only final reads can show a loss.
O(n log n) in operations plus elements read, memory linear.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from checkers._windows import judged, last_fault, settle, summary
from checkers.explain import count
from harness.core.checker import CheckContext, Result
from harness.core.descriptor import Descriptor
from harness.core.options import Option

if TYPE_CHECKING:
    from checkers._set_seen import Seen
    from harness.core.history import History

_options: Final = (
    Option(
        name="stale",
        default="violation",
        choices=("violation", "allowed"),
        summary="whether a read may miss what was there when it began; final reads never may",
    ),
)
SET: Final = Descriptor(
    name="set",
    summary="what was acknowledged is never lost, and nothing appears that nobody added",
    target="checkers.sets:Sets",
    options=_options,
)


class Sets:
    """The checker; see the options of `SET`."""

    name = "set"

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        """Raises: UsageError for an option that does not exist or a value out of range."""
        self.stale_allowed = settle(options, "set", _options)["stale"] == "allowed"

    def check(self, ctx: CheckContext) -> Result:
        """Decide every set.

        Raises: HistoryError for a read whose result is no list.
        """
        from checkers._set_judge import Judge  # here, since the descriptor above is read by every `--help`
        from checkers._set_seen import Seen

        history = ctx.history()
        began = time.monotonic()
        seen = Seen(ctx, history)
        judge = Judge(history, seen, stale_allowed=self.stale_allowed)
        anomalies = judge.anomalies()
        trouble = self._trouble(history, seen)
        detail = judge.detail()
        reason = summary(anomalies) if anomalies else trouble or _success(detail)
        return Result(
            verdict=judged(anomalies, trouble),
            reason=reason,
            seconds=time.monotonic() - began,
            anomalies=anomalies,
            detail=detail,
        )

    def _trouble(self, history: History, seen: Seen) -> str | None:
        """What was not seen without which nothing is known."""
        if not len(seen.adds_at):
            return "the history holds no add, so there is nothing that could be lost"
        if not len(seen.acked_at):
            return "no add was acknowledged, so there is nothing that could be lost"
        if not len(seen.reads_at):
            return "no read was answered, so nothing is known of what was added; run it again"
        asked = history.pair[seen.reads_at]
        if not (asked > last_fault(history)).any():
            return "no read after the last fault was answered, so what faults did to the sets was not seen"
        if self.stale_allowed and not history.final[seen.reads_at].any():
            return "reads may be stale and no final read was answered, so a loss could not be told from staleness"
        return None


def _success(detail: Mapping[str, Any]) -> str:
    unread = detail["unread"]
    left = f"; {count(unread, 'acknowledged element')} no later read was there to show" if unread else ""
    return (
        f"each of {count(detail['acknowledged'] - unread, 'acknowledged element')} of"
        f" {count(detail['keys'], 'set')} was in every read that had to show it{left}"
    )
