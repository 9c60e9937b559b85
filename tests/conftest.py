"""What tests may need of a machine, and the seconds per folder.

A test marked `netns` (namespaces as root) or `rootless` (as an ordinary user) is skipped, with the
reason, where these cannot be had, one marked `docker` where no daemon is, one marked `ssh` where no
OpenSSH server is installed; SPLITBRAIN_REQUIRE=netns,docker,rootless,ssh turns that skip into a failure,
so that CI cannot go green by skipping. Whoever runs the tests is root or not: what is
marked for the other one only is skipped, what is marked for both runs.
"""

import functools
import os
import signal
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import settings

# No test asserts on time; hypothesis would, 200 ms an example.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

required = frozenset(filter(None, os.environ.get("SPLITBRAIN_REQUIRE", "").split(",")))
floor, other = ("netns", "rootless") if os.geteuid() == 0 else ("rootless", "netns")
seconds: dict[str, float] = defaultdict(float)

# Under nohup, or as a shell's background job, signals are ignored, and children inherit that; the
# tests of signals mean those of an ordinary foreground command.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)


@functools.cache
def why_not(need: str) -> str | None:
    """Why this machine cannot offer `need`, or None."""
    if need == "docker":
        from clusters.providers.docker import Docker

        return next((reason for reason in Docker().probe().values() if reason), None)
    if need == "ssh":
        from tests.clusters.sshd import why_not as no_server

        return no_server()
    from clusters.providers.netns import Netns

    found = Netns().probe()
    return found["netns"] or found["block"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    needs = {need for need in ("netns", "rootless", "docker", "ssh") if item.get_closest_marker(need)}
    if other in needs and floor not in needs:
        pytest.skip(
            "that is for root" if floor == "rootless" else "that is for an ordinary user, see .ci/rootless"
        )
    for need in sorted(needs - {other}):
        reason = why_not(need)
        if reason and need in required:
            pytest.fail(f"SPLITBRAIN_REQUIRE asks for {need}, which is not to be had here: {reason}")
        if reason:
            pytest.skip(f"{need} is not to be had here: {reason}")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    folder = Path(report.location[0]).parent
    seconds[str(folder)] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("seconds per folder")
    for folder, spent in sorted(seconds.items()):
        terminalreporter.write_line(f"{spent:8.1f}  {folder}")
