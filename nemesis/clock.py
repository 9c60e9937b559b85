"""Fault `clock`: the clocks of the system's processes on some nodes go wrong, and later right again.

    jump      they are ahead or behind by some amount
    drift     they gain or lose at a rate
    strobe    they are off in every other fraction of a second, and right in between
    freeze    they stand still

A target names the motion (`clock:jump`) and the nodes are drawn from a leader, one or a minority, or it
names the nodes (`clock:leader`) and the motion is drawn; options fix what the word leaves open, and how
much. What is changed is a *process clock*: what programs read through the C library or their runtime.
Raw system calls, the kernel's timers, absolute waits and times of files stay true, and the machine's own
clock is never touched. By default CLOCK_REALTIME alone goes wrong, as clocks of real machines do.

Proof: each process reads its clock through the function that it always calls, with our own clock read
just before and after; the difference must have changed as the motion says, to 5 ms, while the machine's
CLOCK_REALTIME has kept step with its CLOCK_MONOTONIC. A process that was started again counts like the
one before it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from harness.core.cluster import ClockReading, Course
from harness.core.descriptor import Descriptor
from harness.core.errors import UsageError
from harness.core.fault import Evidence, FaultContext, Phase, Plan, Undo
from harness.core.options import Option
from nemesis import targets

MOTIONS: Final = ("jump", "drift", "strobe", "freeze")
_DRAWN: Final = "drawn"
_most_s: Final = 3e8  # about ten years: sums of it and of now stay in 64 bits

CLOCK: Final = Descriptor(
    name="clock",
    summary="put the clocks of the system's processes on some nodes wrong: jump, drift, strobe or freeze",
    target="nemesis.clock:Clock",
    options=(
        Option(
            name="motion",
            default=_DRAWN,
            choices=(_DRAWN, *MOTIONS),
            summary="how clocks move where the target does not say",
        ),
        Option(
            name="nodes",
            default=_DRAWN,
            choices=(_DRAWN, *targets.KINDS),
            summary="whose clocks, where the target does not say",
        ),
        Option(
            name="jump_s",
            default=0.0,
            least=-_most_s,
            most=_most_s,
            summary="seconds that a jump or strobe is ahead, with a minus behind (0: drawn, up to 3600; monotonic 2)",
        ),
        Option(
            name="rate",
            default=1.0,
            least=-10,
            most=100,
            summary="seconds that a drifting clock counts in one (1: drawn, from 0.5 to 3)",
        ),
        Option(
            name="strobe_ms",
            default=0,
            least=0,
            most=400,
            summary="how long a strobing clock is off, and then right (0: drawn, from 50 to 250)",
        ),
        Option(
            name="monotonic",
            default=False,
            summary="CLOCK_MONOTONIC goes wrong, too; set back it does what no real machine's does, and timers wait",
        ),
    ),
    needs=frozenset({"clock"}),
    targets=(*MOTIONS, *targets.KINDS),
)
TOLERANCE_NS: Final = 5_000_000
_JUMPS_S: Final = (0.25, 2.0, 30.0, 600.0, 3600.0)
_SMALL_S: Final = (0.05, 0.25, 1.0, 2.0)  # of a monotonic clock: timers wait as long when it comes back
_RATES: Final = (0.5, 0.9, 1.1, 1.5, 3.0)
_STROBES_MS: Final = (50, 100, 250)
_WATCH_S: Final = 0.25  # how long a drift or a standstill is watched
_LOOKS, _BUSY_S = 24, 2.0
_LOOK_S: Final = 0.01  # between two looks at a strobing clock
_second: Final = 1_000_000_000

_Key = tuple[str, str, int]  # node, process, which of that name on that node
_Readings = dict[_Key, ClockReading]


class Clock(targets.OnNodes):
    """Puts clocks wrong, and right again."""

    name = "clock"
    needs = CLOCK.needs
    label = "clock"
    glyph = "◷"
    colour = "clock"
    targets = CLOCK.targets
    default_targets = MOTIONS

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__({o.name: o.default for o in CLOCK.options} | dict(options))

    def refusal(self, target: str, nodes: int) -> str | None:
        """Why there is no such target among so many nodes; None where there is."""
        if target not in MOTIONS:
            return targets.refusal(target, nodes)
        fixed: str = self.options["nodes"]
        return targets.refusal("one" if fixed == _DRAWN else fixed, nodes)

    def plan(self, ctx: FaultContext, target: str) -> Plan:
        motion, kind = self._meant(ctx, target)
        chosen, whom, doubt = self.choose(ctx, kind)
        course, how = self._course(ctx, motion)
        clocks = "real-time and monotonic process clocks" if course.monotonic else "process clocks"
        whose = f"{clocks} on {whom} {how}{doubt}"
        if course.monotonic and _backwards(motion, course):
            whose += "; a monotonic clock that runs backwards, as this one will, is found on no real machine"
        return Plan(
            fault=ctx.fault,
            family=self.name,
            target=target,
            nodes=chosen,
            says=whose,
            args={"motion": motion, "course": msgspec.to_builtins(course)},
            undo=tuple(Undo("unshift", {"fault": ctx.fault, "node": node}) for node in chosen),
        )

    def apply(self, ctx: FaultContext, plan: Plan) -> None:
        course = msgspec.convert(plan.args["course"], Course)
        for node in plan.nodes:
            ctx.cluster.clock.shift(plan.fault, node, course)

    def observe(self, ctx: FaultContext, plan: Plan, phase: Phase) -> Evidence:
        host = _host_ns()
        now = _read(ctx, plan)
        facts: dict[str, Any] = {"clocks": _plain(now), "host_ns": host}
        if phase == "before":
            return Evidence(phase=phase, effect=None, says=f"process clocks: {_words(now)}", facts=facts)
        earlier = ctx.before.facts if ctx.before is not None else {}
        was: _Readings = {
            (c["node"], c["reading"]["name"], c["nth"]): msgspec.convert(c["reading"], ClockReading)
            for c in earlier.get("clocks", ())
        }
        if phase == "during" and was:
            shows, said = self._during(ctx, plan, was, now, facts)
        elif phase == "during":
            shows, said = False, "no process's clock was read before, so none can be seen to have changed"
        else:
            shows, said = _after(was, now)
        moved = facts["host_moved_ns"] = _host_ns() - earlier.get("host_ns", host)
        stands = abs(moved) <= TOLERANCE_NS
        machine = f"the machine's own has {'not moved' if stands else f'moved {moved / 1e6:+.1f} ms'}"
        return Evidence(
            phase=phase, effect=shows and (stands or phase == "after"), says=f"{said}; {machine}", facts=facts
        )

    def _meant(self, ctx: FaultContext, target: str) -> tuple[str, str]:
        """The motion, and the kind of nodes, that a target and the options mean now."""
        count = len(ctx.cluster.nodes)
        if (problem := self.refusal(target, count)) is not None:
            raise UsageError(problem)
        motions = [self.options["motion"]] if self.options["motion"] != _DRAWN else list(MOTIONS)
        kinds = [self.options["nodes"]] if self.options["nodes"] != _DRAWN else list(self._whose(count))
        if target in MOTIONS:
            return target, ctx.rng.choice(kinds)
        return ctx.rng.choice(motions), target

    def _whose(self, nodes: int) -> tuple[str, ...]:
        """The kinds of nodes that are drawn from."""
        kinds = targets.OnNodes.default_targets
        return tuple(kind for kind in kinds if targets.refusal(kind, nodes) is None)

    def _course(self, ctx: FaultContext, motion: str) -> tuple[Course, str]:
        """What a motion comes to, with what the options leave open drawn; and in words."""
        options, rng = self.options, ctx.rng
        drawn_s = rng.choice(_SMALL_S if options["monotonic"] else _JUMPS_S) * rng.choice((1, -1))
        by_s: float = options["jump_s"] or drawn_s
        rate: float = rng.choice(_RATES) if options["rate"] == 1.0 else options["rate"]
        half_ms: int = options["strobe_ms"] or rng.choice(_STROBES_MS)
        way = f"{_span(abs(by_s))} {'ahead' if by_s > 0 else 'behind'}"
        both: bool = options["monotonic"]
        if motion == "jump":
            return Course(offset_ns=round(by_s * _second), monotonic=both), f"jump to {way}"
        if motion == "drift":
            return Course(rate=rate, monotonic=both), f"count {rate:g} s in one"
        if motion == "strobe":
            course = Course(half_ns=half_ms * 1_000_000, swing_ns=round(by_s * _second), monotonic=both)
            return course, f"go {way} and back every {half_ms} ms"
        return Course(rate=0.0, monotonic=both), "stand still"

    def _during(
        self, ctx: FaultContext, plan: Plan, was: _Readings, now: _Readings, facts: dict[str, Any]
    ) -> tuple[bool, str]:
        """Whether each clock that could be read before goes as the course says, and what was seen."""
        course = msgspec.convert(plan.args["course"], Course)
        missing = [key for key in was if key not in now]
        if plan.args["motion"] == "strobe":
            good, said = _strobes(ctx, plan, course, was, now, facts)
        elif plan.args["motion"] == "jump":
            wrong = [k for k in was.keys() & now.keys() if not _jumped(was[k], now[k], course)]
            good, said = not wrong, f"process clocks: {_words(now)}"
        else:
            time.sleep(_WATCH_S)
            later = _read(ctx, plan)
            facts["later"] = _plain(later)
            wrong = [
                k for k in was.keys() & now.keys() if k not in later or not _gains(now[k], later[k], course)
            ]
            seen = ", ".join(_gain(k, now[k], later[k]) for k in now if k in later)
            good, said = not wrong, f"process clocks: {seen or 'none is left'}"
        if missing:
            said += f"; no longer there: {', '.join(f'{name} on {node}' for node, name, _ in missing)}"
        return good and not missing, said


def _jumped(before: ClockReading, now: ClockReading, course: Course) -> bool:
    real = _near(now.offset_ns - before.offset_ns, course.offset_ns, now.doubt_ns)
    mono = course.offset_ns if course.monotonic else 0
    return real and _near(now.monotonic_ns - before.monotonic_ns, mono, now.doubt_ns)


def _gains(now: ClockReading, later: ClockReading, course: Course) -> bool:
    """Whether between two readings a clock gained what a drift or a standstill makes it gain."""
    gain = round((course.rate - 1) * (later.true_ns - now.true_ns))
    mono = (
        round((course.rate - 1) * (later.true_monotonic_ns - now.true_monotonic_ns))
        if course.monotonic
        else 0
    )
    doubt = now.doubt_ns + later.doubt_ns
    real = _near(later.offset_ns - now.offset_ns, gain, doubt)
    return real and _near(later.monotonic_ns - now.monotonic_ns, mono, doubt)


def _strobes(
    ctx: FaultContext, plan: Plan, course: Course, was: _Readings, now: _Readings, facts: dict[str, Any]
) -> tuple[bool, str]:
    """Watch until every clock has been seen off by the swing and right, both; for two periods, and on a machine
    that is busy until there were looks enough, for two seconds more at the most."""
    deadline = time.monotonic() + 4 * course.half_ns / _second
    seen: dict[_Key, set[int]] = {key: set() for key in was}
    looks = 0
    while True:
        looks += 1
        for key in was.keys() & now.keys():
            gone = now[key].offset_ns - was[key].offset_ns
            seen[key] |= {n for n in (0, course.swing_ns) if _near(gone, n, now[key].doubt_ns)}
        good = all(len(states) == 2 for states in seen.values())
        if good or time.monotonic() > deadline + (0 if looks >= _LOOKS else _BUSY_S):
            break
        time.sleep(_LOOK_S)
        now = _read(ctx, plan)
    facts["looks"] = looks
    facts["seen"] = [[*key, sorted(states)] for key, states in seen.items()]
    names = ", ".join(
        f"{name} on {node} {' and '.join(f'{n / _second:+.3f} s' for n in sorted(states)) or 'neither right nor off'}"
        for (node, name, _), states in seen.items()
    )
    return good, f"process clocks in {looks} looks: {names}"


def _after(was: _Readings, now: _Readings) -> tuple[bool, str]:
    """Whether a clock is still not what it was before, and what was seen."""
    wrong = [key for key in was.keys() & now.keys() if not _restored(was[key], now[key])]
    said = f"process clocks: {_words(now)}"
    if wrong:
        said += f"; not as before: {', '.join(f'{name} on {node}' for node, name, _ in sorted(wrong))}"
    return bool(wrong), said


def _restored(before: ClockReading, now: ClockReading) -> bool:
    room = TOLERANCE_NS + before.doubt_ns + now.doubt_ns
    gone = now.offset_ns - before.offset_ns, now.monotonic_ns - before.monotonic_ns
    return now.shifted == before.shifted and all(abs(each) <= room for each in gone)


def _near(found: int, wanted: int, doubt: int) -> bool:
    """Whether two amounts are the same to 5 ms, or to a quarter of what is wanted if that is less, as far as
    the reading is exact."""
    room = TOLERANCE_NS if wanted == 0 else min(TOLERANCE_NS, abs(wanted) // 4)
    return abs(found - wanted) + doubt <= room


def _backwards(motion: str, course: Course) -> bool:
    """Whether a monotonic clock ever shows less than it has shown: on its course, or set right after it."""
    return motion in ("jump", "strobe") or not 0 <= course.rate <= 1


def _read(ctx: FaultContext, plan: Plan) -> _Readings:
    """The clocks of every process of the targets; those of one name on one node are told apart by order,
    since a process that was started again has another pid."""
    found: _Readings = {}
    for node in plan.nodes:
        counts: dict[str, int] = {}
        for reading in ctx.cluster.clock.clocks(node):
            nth = counts[reading.name] = counts.get(reading.name, -1) + 1
            found[node, reading.name, nth] = reading
    return found


def _plain(readings: _Readings) -> list[dict[str, Any]]:
    return [
        {"node": node, "nth": nth, "reading": msgspec.to_builtins(r)}
        for (node, _, nth), r in readings.items()
    ]


def _words(readings: _Readings) -> str:
    """What clocks show, less the true time."""
    some = [
        f"{name} ({r.pid}) on {node} {r.offset_ns / _second:+.3f} s{_worked_out(r)}"
        for (node, name, _), r in readings.items()
    ]
    return ", ".join(some) or "nothing runs"


def _gain(key: _Key, now: ClockReading, later: ClockReading) -> str:
    gained = (later.offset_ns - now.offset_ns) / 1e6
    passed = (later.true_ns - now.true_ns) / 1e6
    return f"{key[1]} ({now.pid}) on {key[0]} gained {gained:+.1f} ms in {passed:.1f} ms{_worked_out(now)}"


def _worked_out(reading: ClockReading) -> str:
    return "" if reading.how == "call" else " (worked out from its memory)"


def _span(seconds: float) -> str:
    """A length of time as people write it.

    >>> _span(3600), _span(90), _span(0.25)
    ('1 h', '90 s', '0.25 s')
    """
    return f"{seconds / 3600:g} h" if seconds >= 3600 and seconds % 3600 == 0 else f"{seconds:g} s"


def _host_ns() -> int:
    """The machine's own CLOCK_REALTIME, less its CLOCK_MONOTONIC."""
    readings = []
    for _ in range(3):
        before, real, after = time.monotonic_ns(), time.time_ns(), time.monotonic_ns()
        readings.append((after - before, real - (before + after) // 2))
    return min(readings)[1]
