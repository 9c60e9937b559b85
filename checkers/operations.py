"""How quick the operations were, how many there were, and what went wrong with them. Never a violation.

Latencies are of the operations under load that ended `ok`, from the stamp before the call to the one
after it; those that failed or timed out say more about limits than about speed and are counted by
their error. Final reads, which come after everything was healed, are counted apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from harness.core.checker import CheckContext, Result
from harness.core.descriptor import Descriptor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OPERATIONS: Final = Descriptor(
    name="operations",
    summary="latencies, rate and errors by kind; never a violation",
    target="checkers.operations:Operations",
)
_quantiles: Final = {"p50": 50, "p95": 95, "p99": 99}
_errors: Final = 50  # kinds of error in the results


class Operations:
    """The checker. It has no options."""

    name = "operations"

    def __init__(self, options: Mapping[str, Any] | None = None) -> None:
        del options

    def check(self, ctx: CheckContext) -> Result:
        import numpy as np  # here, since the descriptor above is read by every `--help`

        from harness.core.history import FAIL, INFO, OK

        history = ctx.history()
        at = history.invocations()
        outcome, final = history.outcome(), history.final[at]
        load = ~final
        if not load.any():
            reason = "the history holds no operation under load"
            return Result(verdict="valid", reason=reason, detail={"operations": 0, "final_reads": len(at)})
        pair = history.pair[at]
        took = np.where(pair >= 0, history.time[pair] - history.time[at], 0)
        good = load & (outcome == OK)
        by_f: dict[str, Any] = {}
        for code in np.unique(history.f[at[load]]).tolist():
            mine = load & (history.f[at] == code)
            counts = {
                n: int((mine & (outcome == c)).sum()) for n, c in (("ok", OK), ("fail", FAIL), ("info", INFO))
            }
            by_f[history.f_names[code]] = {**counts, "latency_ms": _latency(took[mine & good])}
        begin = int(history.time[at[load]][0])
        ends = history.time[np.where(pair >= 0, pair, at)][load]
        span_s = max(1e-9, (int(ends.max()) - begin) / 1e9)
        errors: Counter[tuple[str, str, str]] = Counter()
        wrong = load & (outcome != OK)
        for position, partner in zip(at[wrong].tolist(), pair[wrong].tolist(), strict=True):
            op = history.ops[partner if partner >= 0 else position]
            kind = "no answer" if partner < 0 else op.error or "no reason given"
            errors[kind, op.f, "info" if partner < 0 else op.type] += 1
        overall = _latency(took[good])
        detail: dict[str, Any] = {
            "operations": int(load.sum()),
            "final_reads": int(final.sum()),
            "seconds": round(span_s, 3),
            "rate": round(int(load.sum()) / span_s, 1),
            "ok_rate": round(int(good.sum()) / span_s, 1),
            "latency_ms": overall,
            "by_f": by_f,
            "errors": [
                {"error": e, "f": f, "type": t, "count": n} for (e, f, t), n in errors.most_common(_errors)
            ],
        }
        reason = f"{detail['operations']} operations in {span_s:.1f} s, {int(good.sum())} of them ok"
        if overall is not None:
            reason += (
                f"; half of those within {overall['p50']:.3g} ms, 99 in 100 within {overall['p99']:.3g} ms"
            )
        return Result(verdict="valid", reason=reason, detail=detail)


def _latency(took: NDArray[np.int64]) -> dict[str, float] | None:
    """Quantiles in ms; None for no operation."""
    import numpy as np

    if not len(took):
        return None
    values = np.percentile(took, list(_quantiles.values())) / 1e6
    named = {name: round(float(v), 3) for name, v in zip(_quantiles, values, strict=True)}
    return {**named, "max": round(int(took.max()) / 1e6, 3)}
