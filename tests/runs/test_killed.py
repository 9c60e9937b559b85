"""A run may be killed at any instant, in any of its processes: `heal` leaves the machine as it was, and
`check` judges whatever the journal holds.

Four cases, each at another moment of a run and each with another victim, belong to every change (`test_docker_killed`
has two more); fifty to `make test-all`. Some at a time, since most of their time is waiting.
"""

import shutil
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import pytest

from checkers.plant import plant_stale_read
from harness.core.errors import UsageError
from harness.journal import begun
from tests.runs.commands import Done, beside, splitbrain
from tests.runs.killing import Case, Killed, case, kill_one, still_there, wall_minus_monotonic_s

pytestmark = [pytest.mark.netns, pytest.mark.rootless]

QUICK, ALL = (1, 3, 4, 6), 50
CASES = [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in range(ALL)]


class Found(NamedTuple):
    """What a case left, and what the commands said of it."""

    what: Case
    killed: Killed
    healed: Done
    left: list[str]
    again: Done
    judged: Done | None
    planted: Done | None
    clock_s: float


def heal(run_dir: Path) -> Done:
    """Heal a run as soon as it is dead: one that lost its command or its agent ends in order, by itself."""
    deadline = time.monotonic() + 60
    done = splitbrain("heal", run_dir, "--json")
    while done.code == 2 and "is alive" in done.err and time.monotonic() < deadline:
        done = splitbrain("heal", run_dir, "--json")
    return done


def go_through(folder: Path, n: int, *given: str) -> Found:
    what, clock = case(n), wall_minus_monotonic_s()
    folder.mkdir()
    killed = kill_one(folder, what, *given)
    run_dir = killed.run_dir
    healed = heal(run_dir)
    left, again = still_there(killed), splitbrain("heal", run_dir, "--json")
    moved = abs(wall_minus_monotonic_s() - clock)
    judged, planted = None, None
    if begun(run_dir / "journal.jsonl"):
        judged = splitbrain("check", run_dir, "--json")
        try:
            plant_stale_read(run_dir / "history.jsonl", folder / "planted.jsonl", seed=n)
        except UsageError:
            planted = None  # too little had been written and read
        else:
            planted = splitbrain("check", folder / "planted.jsonl", "--json")
    return Found(what, killed, healed, left, again, judged, planted, moved)


@pytest.fixture(scope="module")
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[int, Future[Found]]]:
    folder = tmp_path_factory.mktemp("killed")
    with beside(request, "n", lambda n: go_through(folder / str(n), n)) as found:
        yield found
    shutil.rmtree(folder)


@pytest.mark.parametrize("n", CASES)
def test_killed(found: "dict[int, Future[Found]]", n: int) -> None:
    assess(found[n].result())


def assess(one: Found) -> None:
    """What has to be true of a run that was killed."""
    said = f"{one.what}: {one.killed.run_dir}\n{one.healed.out}"
    assert (one.healed.code, one.healed.results["error"]) == (0, None), said + one.healed.err
    assert one.left == [], said
    assert (one.again.code, one.again.results["deeds"]) == (0, []), said
    assert one.clock_s < 0.05, said
    assert one.judged is not None, said
    results, journal = one.judged.results, (one.killed.run_dir / "journal.jsonl").read_text()
    if '\n{"end":' not in journal:
        assert results["verdict"] == "unknown", said
        assert results["reason"].startswith("interrupted"), said
    if '"type":"ok"' in journal:
        assert results["checks"]["linearizable"]["verdict"] == "valid", said
    if one.planted is not None:
        assert one.planted.results["checks"]["linearizable"]["verdict"] == "invalid", said
    if one.what.moment in ("healing", "checking"):
        assert one.planted is not None, said
