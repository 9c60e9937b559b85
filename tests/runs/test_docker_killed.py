"""Runs in containers, killed at any instant: what `test_killed` asks of runs in namespaces, of the daemon, too.

Two cases belong to every change, one in set-up and one with a fault in force; the rest to `make test-all`.
"""

import shutil
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from tests.runs.commands import beside
from tests.runs.test_killed import Found, assess, go_through

pytestmark = pytest.mark.docker

PROVIDER = ("--provider", "docker")
QUICK, ALL = (4, 7), 28
CASES = [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in range(ALL)]


@pytest.fixture(scope="module")
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[int, Future[Found]]]:
    folder = tmp_path_factory.mktemp("killed")
    with beside(request, "n", lambda n: go_through(folder / str(n), n, *PROVIDER), workers=2) as found:
        yield found
    shutil.rmtree(folder)


@pytest.mark.parametrize("n", CASES)
def test_killed(found: dict[int, "Future[Found]"], n: int) -> None:
    assess(found[n].result())
