"""Which schedule a run has, from its faults and the options of `schedule`: a function of the seed.

interval    one fault after the other (`schedule`), unless something else is asked for
phases      several at once, then none (`phases`)
walk        asked for by the fault `walk:kill+pause`: nodes change their states one by one (`walk`);
            faults beside it come one after the other meanwhile, as in an interval schedule
script      what `[[schedule]]` says (`script`)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from harness.core.descriptor import Descriptor
from harness.core.errors import UsageError
from harness.core.options import Option
from nemesis.families import Family, bound, refuse_contradictions
from nemesis.phases import phases
from nemesis.schedule import Step, schedule, varied
from nemesis.script import script
from nemesis.walk import walk

WALK: Final = "walk"
SCHEDULE: Final = Descriptor(
    name="schedule",
    summary="when which fault comes",
    target="nemesis.plans:plan",
    options=(
        Option(
            name="schedule",
            default="interval",
            choices=("interval", "phases"),
            summary="one fault after the other, or several in each phase and a quarter of the phases quiet",
        ),
        Option(
            name="down",
            default=None,
            summary="how many nodes may be out at once: minority (the default of phases and walks), all, or a number",
        ),
        Option(
            name="hold_s",
            default=4.0,
            summary="of an interval schedule: how long a fault lasts, in the mean",
            least=0.1,
            most=3600,
        ),
        Option(
            name="interval_s",
            default=2.0,
            summary="of an interval schedule: from healing to the next fault, in the mean",
            least=0.1,
            most=3600,
        ),
        Option(
            name="step_s",
            default=2.0,
            summary="of a walk: seconds between two steps, in the mean",
            least=0.5,
            most=3600,
        ),
        Option(
            name="rounds",
            default=1,
            summary="of a walk: how often each state occurs at least",
            least=1,
            most=1000,
        ),
        Option(
            name="settle_s",
            default=0.0,
            summary="of a walk: how long a node has to start before its next state; no less than its system needs",
            least=0,
            most=600,
        ),
        Option(name="script", default=None, summary="what [[schedule]] says, as JSON with times in seconds"),
    ),
)


def limit(faults: Sequence[str], options: Mapping[str, Any], nodes: int) -> int | None:
    """How many nodes may be out at once, over all faults; None where nothing bounds them: a fault that
    comes alone hits what it was asked to, and who writes a script knows what it does.

    Raises: UsageError for a bound that is none.
    """
    given = options.get("down")
    if given is not None:
        return bound(str(given), nodes)
    if _walks(faults) or (options.get("schedule") == "phases" and not options.get("script")):
        return max(1, bound("minority", nodes))
    return None


def plan(
    faults: Sequence[str],
    families: Mapping[str, Family],
    nodes: int,
    time_s: float,
    seed: int,
    options: Mapping[str, Any],
    seconds: Callable[[Any], float],
    start_s: float = 0.0,
) -> tuple[Step, ...]:
    """The steps of a run of a system whose processes take `start_s` until they serve.

    Raises: UsageError for what does not go together, and when the time is too short.
    """
    if not faults:
        return ()
    most = limit(faults, options, nodes)
    walks = _walks(faults)
    if options.get("script"):
        steps = script(msgspec.json.decode(options["script"]), families, time_s, seconds)
        refuse_contradictions(steps, families, nodes, nodes if most is None else most)
        return steps
    walked: tuple[Step, ...] = ()
    if walks:
        if len(walks) > 1:
            raise UsageError(f"faults {' and '.join(walks)}: name all states in one walk (walk:kill+pause)")
        names = [f"n{i}" for i in range(1, nodes + 1)]
        states = walks[0].partition(":")[2].split("+")
        step_s, least = float(options.get("step_s", 2.0)), int(options.get("rounds", 1))
        walked = walk(
            states,
            names,
            most or 1,
            time_s,
            seed,
            step_s=step_s,
            least=least,
            settle_s=max(start_s, float(options.get("settle_s", 0.0))),
            restarts=[name for name in states if "restart" in families[name].claims],
        )
        faults = [word for word in faults if word not in walks]
        twice = sorted({word.partition(":")[0] for word in faults}.intersection(states))
        if twice:
            raise UsageError(f"fault {twice[0]!r} is a state of {walks[0]!r} already; name it once")
    if options.get("schedule") == "phases" and faults and not walks:
        return phases(faults, families, nodes, most or 1, time_s, seed)
    heads = [word.partition(":")[0] for word in faults]
    steps = schedule(
        faults,
        {name: families[name].defaults for name in heads},
        time_s,
        seed,
        hold=varied(float(options.get("hold_s", 4.0))),
        interval=varied(float(options.get("interval_s", 2.0))),
    )
    if most is not None:
        for step in steps:
            if families[step.family].reach(step.target) > most:
                raise UsageError(
                    f"fault '{step.family}:{step.target}' takes out more nodes than"
                    f" schedule.down={options.get('down') or most} allows; name a smaller target, or allow more"
                )
    return _merged(walked, steps) if walked else steps


def _merged(walked: Sequence[Step], beside: Sequence[Step]) -> tuple[Step, ...]:
    """Two schedules at once. The walk's steps keep their numbers, and so their own random streams."""
    by = len(walked)
    moved = [
        msgspec.structs.replace(step, n=step.n + by, follows=tuple(n + by for n in step.follows))
        for step in beside
    ]
    return tuple(sorted((*walked, *moved), key=lambda step: step.at_s))


def _walks(faults: Sequence[str]) -> list[str]:
    return [word for word in faults if word.partition(":")[0] == WALK]
