"""What a checker found: violations and mere observations, counted all, shown in part, made a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec

from checkers._windows import window
from checkers.explain import Clock
from harness.core.checker import Anomaly, Result, Verdict
from harness.core.history import identity

if TYPE_CHECKING:
    from harness.core.history import History

_P = ParamSpec("_P")
_shown: Final = 50  # anomalies of one kind in the results
_noted: Final = 20  # observations of one kind


class Findings:
    """Collects them for one check. Of each kind the first ones are kept, and one at least of each key; `counts`
    has them all."""

    def __init__(self, history: History | None = None) -> None:
        self._history = history
        self._keys: set[Any] = set()
        self.anomalies: list[Anomaly] = []
        self.counts: Counter[str] = Counter()
        self.observations: list[str] = []
        self.observed: Counter[str] = Counter()

    def violation(
        self,
        kind: str,
        key: Any,
        positions: Iterable[int],
        explain: Callable[Concatenate[Clock, _P], str],
        *args: _P.args,
        **more: _P.kwargs,
    ) -> None:
        """A violation by the operations invoked at `positions`; `explain` gets their clock, and `args`."""
        self.counts[kind] += 1
        if self.counts[kind] > _shown and identity(key) in self._keys:
            return
        self._keys.add(identity(key))
        ops = self._window(positions)
        nodes = dict.fromkeys(o["node"] for o in ops if o["node"] is not None)
        text = explain(Clock(ops), *args, **more)
        self.anomalies.append(Anomaly(kind=kind, key=key, window=ops, explanation=text, nodes=list(nodes)))

    def observation(
        self,
        kind: str,
        positions: Iterable[int],
        explain: Callable[Concatenate[Clock, _P], str],
        *args: _P.args,
        **more: _P.kwargs,
    ) -> None:
        """Something worth telling that nobody promised would not happen."""
        self.observed[kind] += 1
        if self.observed[kind] <= _noted:
            self.observations.append(f"{kind}: {explain(Clock(self._window(positions)), *args, **more)}")

    def _window(self, positions: Iterable[int]) -> list[dict[str, Any]]:
        return window(self._history, positions) if self._history is not None else []

    def result(self, otherwise: str, detail: Mapping[str, Any], verdict: Verdict = "valid") -> Result:
        """The answer: invalid where there is a violation, else `verdict` for the reason `otherwise`."""
        more = {
            **detail,
            "violations": dict(self.counts),
            "observed": dict(self.observed),
            "observations": self.observations,
        }
        if not self.anomalies:
            return Result(verdict=verdict, reason=otherwise, detail=more)
        reason = self.anomalies[0].explanation
        if rest := self.counts.total() - 1:
            reason += f" (and {rest} more {'violation' if rest == 1 else 'violations'})"
        return Result(verdict="invalid", reason=reason, anomalies=self.anomalies, detail=more)


def most(values: Sequence[int]) -> list[int]:
    """For each prefix, the place of its largest value; the first of equal ones.

    >>> most([3, 1, 4, 4])
    [0, 0, 2, 2]
    """
    out: list[int] = []
    for i, value in enumerate(values):
        out.append(i if not out or value > values[out[-1]] else out[-1])
    return out
