"""The pytest plugin: `@pytest.mark.consensus(...)` and the fixtures `run_test` and `cluster`; docs/pytest.md.

Importing it costs a project that does not use it next to nothing: all of splitbrain is imported by the first test that
asks for a run. A run is a process tree of its own, which this process starts and watches.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pytest

if TYPE_CHECKING:
    from splitbrain.asking import RunResult
    from splitbrain.live import LiveCluster

_T = TypeVar("_T")
_MARK = "consensus"
_PREFIX = "splitbrain."  # of properties of a test
_SEED = "splitbrain_seed"


class _Made(NamedTuple):
    """The run of a test, and what the test is given of it."""

    results: dict[str, Any]
    code: int
    given: RunResult


_made = pytest.StashKey[_Made]()
_session_seed = pytest.StashKey[int]()
_LINES = 15  # of a failure
_WIDTH = 400  # characters of a sentence in it


def pytest_addoption(parser: pytest.Parser) -> None:
    """What the command line may say."""
    group = parser.getgroup("splitbrain", "consensus tests")
    group.addoption(
        "--splitbrain-seed",
        type=int,
        metavar="N",
        help="The session's seed, from which each test has its own (default: drawn, shown).",
    )
    group.addoption("--splitbrain-out", metavar="DIR", help="Where run directories go (default runs).")
    group.addoption(
        "--splitbrain-unknown",
        choices=("fail", "skip"),
        default="fail",
        help="What becomes of a test whose run decides nothing (default fail).",
    )
    group.addoption("--splitbrain-provider", metavar="NAME", help="Where nodes run, whatever the tests say.")
    group.addoption("--splitbrain-baseline", metavar="FILE", help="Known findings, which fail no test.")


def pytest_configure(config: pytest.Config) -> None:
    """The marker, and the session's seed."""
    config.addinivalue_line(
        "markers",
        "consensus(spec=, system=, version=, workload=, faults=, nodes=, provider=, time_s=, rate=, concurrency=,"
        " seed=, options={}, expect=, baseline=, fail_fast=, limit_s=): judge a run of a real cluster under faults.",
    )
    given = config.getoption("--splitbrain-seed")
    handed = getattr(config, "workerinput", {}).get(_SEED)  # by the controller of pytest-xdist
    drawn = int.from_bytes(os.urandom(4), "big") >> 1
    config.stash[_session_seed] = given if given is not None else drawn if handed is None else handed


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Every worker of pytest-xdist has the seed of the session."""
    node.workerinput[_SEED] = node.config.stash[_session_seed]


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """The header of a session in which a test asks for a run."""
    return [_header(config)] if any(_concerned(item) for item in items) else []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What a baseline says of the runs; and the header where pytest-xdist ran the tests, since then nobody knows before
    whether one of them asks for a run."""
    reports = [r for several in terminalreporter.stats.values() for r in several]
    told = [(r, name, text) for r in reports for name, text in getattr(r, "user_properties", ())]
    if getattr(config.option, "dist", "no") != "no" and any(name.startswith(_PREFIX) for _, name, _ in told):
        terminalreporter.write_line(_header(config))
    for line in dict.fromkeys(
        f"{r.nodeid}: {text}" for r, name, text in told if name == f"{_PREFIX}baseline"
    ):
        terminalreporter.write_line(line)


def _concerned(item: pytest.Item) -> bool:
    return item.get_closest_marker(_MARK) is not None or "cluster" in getattr(item, "fixturenames", ())


def _header(config: pytest.Config) -> str:
    from checkers.engine_binary import engine_path
    from splitbrain.registry import version

    try:
        engine = engine_path().name
    except Exception as e:  # noqa: BLE001 - what is missing is said by the test that needs it
        engine = f"none ({e})"
    provider = config.getoption("--splitbrain-provider") or "as each test says (default netns)"
    seed = config.stash[_session_seed]
    return f"splitbrain {version()}: provider {provider}, seed {seed} (--splitbrain-seed), engine {engine}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """A marker that cannot be understood, and a run that breaks down, are errors of the test, no failures. The run of a
    test that does not take `run_test` is made once all its fixtures are there."""
    if _concerned(item):
        _told(lambda: _arguments(item))
    result = yield
    if _judged_here(item) and "run_test" not in getattr(item, "fixturenames", ()):
        _run(item)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test that has the marker is judged by its run's verdict, unless it looks at that itself."""
    made = item.stash.get(_made, None) if _judged_here(item) else None
    if made is not None and "run_test" not in getattr(item, "fixturenames", ()):
        _enforce(item, made)
    result = yield
    made = item.stash.get(_made, None) if _judged_here(item) else None
    if made is not None and not made.given.judged:
        _enforce(item, made)
    return result


def _judged_here(item: pytest.Item) -> bool:
    """Whether the test is about a run, and not about a cluster that it has to itself."""
    names = getattr(item, "fixturenames", ())
    return item.get_closest_marker(_MARK) is not None and "cluster" not in names


@pytest.fixture
def run_test(request: pytest.FixtureRequest) -> RunResult:
    """The run that the test's marker asks for, made and judged: `.verdict`, `.reason`, `.checks`, `.run` ..."""
    if request.node.get_closest_marker(_MARK) is None:
        pytest.fail("splitbrain: run_test needs @pytest.mark.consensus(...) on the test", pytrace=False)
    return _run(request.node).given


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[LiveCluster]:
    """A started cluster for a test written by hand, as its marker asks for it: `.client()`, `.fault()`, `.check()` ...

    At the end everything is undone and judged: a violation fails the test, unless it was expected."""
    from splitbrain.live import LiveCluster

    item = request.node
    base, out = item.path.parent, _out(item.config)
    again = f"again   {_again(item)}"

    def start() -> LiveCluster:
        from splitbrain.asking import flags, spec_file

        asked = _asked(item)
        return LiveCluster.start(spec_file(asked, base), out=out, **flags(asked, base))

    made = _told(start, again)
    try:
        yield made
    finally:
        given = _told(made.close, again)
    ended = _Made(given.peek(), given.code, given)
    _describe(item, ended)
    if ended.code == 1 and not given.judged:
        pytest.fail(_failure(item, ended), pytrace=False)


def _run(item: pytest.Item) -> _Made:
    """The run of a test, made once."""
    if _made in item.stash:
        return item.stash[_made]
    from splitbrain import asking

    asked = _asked(item)
    limit_s = float(asked.get("limit_s") or asking.LIMIT_S + float(asked.get("time_s") or 0))
    results, code = _told(
        lambda: asking.run(_arguments(item), item.config.rootpath, limit_s), f"again   {_again(item)}"
    )
    made = item.stash[_made] = _Made(results, code, asking.RunResult(results, code))
    _describe(item, made)
    return made


def _describe(item: pytest.Item, made: _Made) -> None:
    """Properties of the test, which JUnit files have."""
    from splitbrain.baseline import lines

    fields = ("verdict", "system", "version", "workload", "seed", "run", "command")
    about = [(name, made.results[name]) for name in fields] + [("report", made.given.report)]
    about += [("finding", finding.signature) for finding in made.given.findings]
    about += [("baseline", line) for line in lines(made.results) if made.results.get("baseline")]
    item.user_properties += [(f"{_PREFIX}{name}", str(value)) for name, value in about]


def _asked(item: pytest.Item) -> dict[str, Any]:
    """What the marker says; of several the nearest wins, argument by argument; the command line wins over all."""
    from harness.core.errors import UsageError

    asked: dict[str, Any] = {}
    for mark in reversed(list(item.iter_markers(_MARK))):
        if len(mark.args) > 1:
            raise UsageError(f"consensus{mark.args!r}: expected one spec file, and arguments by their names")
        options = {**(asked.get("options") or {}), **(mark.kwargs.get("options") or {})}
        asked |= {**({"spec": mark.args[0]} if mark.args else {}), **mark.kwargs, "options": options}
    config = item.config
    if provider := config.getoption("--splitbrain-provider"):
        asked["provider"] = provider
    if baseline := config.getoption("--splitbrain-baseline"):
        asked["baseline"] = Path(baseline).absolute()
    if asked.get("seed") is None:
        import hashlib

        text = f"{config.stash[_session_seed]} {item.nodeid}"
        asked["seed"] = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") >> 1
    return asked


def _arguments(item: pytest.Item) -> list[str]:
    from splitbrain.asking import arguments

    return arguments(_asked(item), _out(item.config), item.path.parent)


def _out(config: pytest.Config) -> Path:
    return Path(config.getoption("--splitbrain-out") or config.rootpath / "runs").absolute()


def _told(call: Callable[[], _T], *more: str) -> _T:
    """What `call` returns; errors that a user can meet fail the test with their sentence, and no traceback."""
    from harness.core.errors import SplitbrainError

    try:
        return call()
    except SplitbrainError as e:
        text = "\n".join([f"splitbrain: {_cut(str(e))}", *more])
    pytest.fail(text, pytrace=False)  # outside, or pytest would tell of the first error as well


def _enforce(item: pytest.Item, made: _Made) -> None:
    """Fail, or skip, a test whose run is not as expected."""
    if made.code == 0:
        return
    if made.code == 3 and item.config.getoption("--splitbrain-unknown") == "skip":
        pytest.skip(f"splitbrain: unknown: {_cut(made.given.reason)}")
    pytest.fail(_failure(item, made), pytrace=False)


def _failure(item: pytest.Item, made: _Made) -> str:
    """Verdict, sentence, report, and the command to run it again."""
    from splitbrain.baseline import lines

    results = made.results
    system = f"{results['system']} {results['version'] or ''}".strip()
    expected = f" (expected: {results['expect']})" if results["expect"] else ""
    title = f"{system} · {results['workload']} · seed {results['seed']}"
    told = [f"splitbrain: {results['verdict'].upper()}{expected}: {title}", _cut(results["reason"])]
    told += [_cut(line) for line in lines(results)] or [f"finding {f.signature}" for f in made.given.findings]
    last = [f"run     {results['run']}", f"report  {made.given.report}", f"again   {results['command']}"]
    last.append(f"        {_again(item)}")
    room = _LINES - len(last)
    if len(told) > room:
        told = [*told[: room - 1], f"and {len(told) - room + 1} more lines, in the report"]
    return "\n".join([*told, *last])


def _again(item: pytest.Item) -> str:
    return f"pytest '{item.nodeid}' --splitbrain-seed={item.config.stash[_session_seed]}"


def _cut(text: str) -> str:
    """A sentence that fits; of an error with a log, its last lines too."""
    lines = text.splitlines() or [""]
    if len(lines) > _LINES - 5:
        lines = [lines[0], *lines[-(_LINES - 6) :]]
    return "\n".join(line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..." for line in lines)
