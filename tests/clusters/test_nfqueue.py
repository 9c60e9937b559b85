"""The packet queue's rule in networks of its own: how it is made, refused and taken away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clusters.means import kernel, nfqueue
from clusters.means.nft import Nft

pytestmark = pytest.mark.netns


def apart(work: Callable[[], Any]) -> Any:
    """What `work` returns in a network namespace of its own."""
    found: list[Any] = []

    def enter() -> None:
        kernel.unshare(kernel.CLONE_NEWNET)
        found.append(work())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return found[0]


def test_asking_leaves_nothing() -> None:
    assert apart(lambda: (nfqueue.why_not(), Nft().run("list tables"))) == (None, "")


def test_a_rule_lets_pass_when_nobody_listens_and_is_removed_twice() -> None:
    def work() -> list[str]:
        nft = Nft()
        feed = nfqueue.Feed(nft, "splitbrain_test_q", 9)
        feed.set({("10.0.0.1", "10.0.0.2")}, {("fd00::1", "fd00::2")})
        found = [nft.run("list ruleset")]
        feed.set(set(), set())
        feed.remove()
        feed.remove()
        return [*found, nft.run("list ruleset")]

    made, left = apart(work)
    assert "bypass" in made
    assert "10.0.0.1 . 10.0.0.2" in made
    assert "fd00::1 . fd00::2" in made
    assert left == ""


def test_a_number_that_somebody_listens_to_is_left_alone() -> None:
    def work() -> tuple[int, int, int | None]:
        queues = [nfqueue.Queue(), nfqueue.Queue()]
        numbers = [queue.number for queue in queues]
        dropped = nfqueue.dropped(numbers[0])
        for queue in queues:
            queue.sock.close()
        return numbers[0], numbers[1], dropped

    first, second, dropped = apart(work)
    assert second == first + 1
    assert dropped == 0


def test_a_host_that_hides_bridged_packets_is_refused_by_the_name_of_its_switch() -> None:
    def work() -> str | None:
        Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text("0")
        return nfqueue.why_not()

    if apart(_has_queue_statement):
        pytest.skip("this kernel needs no br_netfilter")
    reason = apart(work)
    assert "net.bridge.bridge-nf-call-iptables is 0; set it to 1 with sysctl" in reason
    assert "partition is what can be done" in reason


def _has_queue_statement() -> bool:
    try:
        Nft().run("table bridge t { chain c { queue num 1; }; }")
    except OSError:
        return False
    return True
