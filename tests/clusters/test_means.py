"""The means, as far as they need neither root nor namespaces."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusters.agent.channel import Channel, Closed
from clusters.means import cgroup, procfs
from clusters.means.leftovers import leftovers
from clusters.means.nft import Side, find_program, transaction, union

A = Side("10.0.0.1", "fd00::1", None)
B = Side("10.0.0.2", "fd00::2", None)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def test_stat_line_with_a_hostile_name() -> None:
    line = "77 (a) R (b) S 1 77 77 0 -1 4194560 1 2 3 4 50 7 0 0 20 0 1 0 4242 1 1 1"
    assert procfs.parse(line) == procfs.Stat("S", 4242, 57)


def test_own_start_is_what_others_read() -> None:
    assert procfs.stat(os.getpid()).start == procfs.own_start()  # type: ignore[union-attr]


def test_signal_reaches_only_the_same_incarnation(sleeper: subprocess.Popen[bytes]) -> None:
    start = procfs.stat(sleeper.pid).start  # type: ignore[union-attr]
    assert not procfs.send(sleeper.pid, start + 1, signal.SIGKILL)
    assert sleeper.poll() is None
    assert procfs.send(sleeper.pid, start, signal.SIGKILL)
    assert sleeper.wait(10) == -signal.SIGKILL
    assert not procfs.send(sleeper.pid, start, signal.SIGKILL)
    assert procfs.thread_states(sleeper.pid, start) == set()


VFORKS = """
import ctypes, platform, signal, time
call = {"x86_64": 56, "aarch64": 220}[platform.machine()]
CLONE_VFORK = 0x4000  # without CLONE_VM, so that the child has a stack of its own
if ctypes.CDLL(None).syscall(call, CLONE_VFORK | signal.SIGCHLD, 0, 0, 0, 0) == 0:
    time.sleep(60)
time.sleep(60)
"""


def test_who_waits_for_a_vforked_child_stands_still() -> None:
    with subprocess.Popen([sys.executable, "-c", VFORKS]) as parent:
        start = procfs.stat(parent.pid).start  # type: ignore[union-attr]
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        try:
            deadline = time.monotonic() + 10
            assert not procfs.stands_still(parent.pid, start), "it has just begun"
            while procfs.thread_states(parent.pid, start) != {"D"} and time.monotonic() < deadline:
                time.sleep(0.01)
            assert procfs.stands_still(parent.pid, start)
            assert not procfs.is_stopped(parent.pid, start), "nobody has stopped it"
            (child,) = map(int, children.read_text().split())
            born = procfs.stat(child).start  # type: ignore[union-attr]
            for pid, at in ((child, born), (parent.pid, start)):
                assert procfs.send(pid, at, signal.SIGSTOP)
            while not procfs.stands_still(child, born) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert procfs.stands_still(child, born)
            assert procfs.stands_still(parent.pid, start), "though no signal reaches it"
            assert procfs.is_stopped(parent.pid, start), "it has been told to"
            assert procfs.is_stopped(child, born)
            os.kill(child, signal.SIGKILL)
            while procfs.thread_states(parent.pid, start) != {"T"} and time.monotonic() < deadline:
                time.sleep(0.01)
            assert procfs.thread_states(parent.pid, start) == {"T"}, "it stops as soon as it is let go"
            assert procfs.send(parent.pid, start, signal.SIGCONT)
            assert procfs.stands_still(parent.pid, start + 1), "who is gone does, too"
        finally:
            parent.kill()


def test_a_transaction_empties_before_it_fills() -> None:
    lines = transaction([(A, B)]).splitlines()
    assert [line.split()[0] for line in lines] == ["flush"] * 3 + ["add"] * 2
    assert "10.0.0.1 . 10.0.0.2" in lines[3]
    assert "fd00::1 . fd00::2" in lines[4]
    assert "10.0.0.2 . 10.0.0.1" not in transaction([(A, B)]), "pairs are directed"


def test_nothing_blocked_adds_nothing() -> None:
    assert "add" not in transaction([])


def test_a_port_makes_a_rule_and_no_element() -> None:
    text = transaction([(A, B._replace(port=2380))])
    assert "add element" not in text
    assert text.count("th dport 2380 counter name dropped drop") == 2
    assert "sport" not in text


def test_without_ipv6_on_either_side_there_is_no_pair() -> None:
    assert "v6 {" not in transaction([(A, B._replace(v6=None))])


def test_faults_add_up() -> None:
    assert union({"f1": frozenset({(A, B)}), "f2": frozenset({(A, B), (B, A)})}) == {(A, B), (B, A)}
    assert union({}) == set()


def test_a_program_that_nobody_has() -> None:
    assert find_program("no-such-program-here") is None


def test_groups_of_an_unknown_run() -> None:
    assert cgroup.remove("norun0") == []
    assert leftovers("norun0") == []


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    left, right = socket.socketpair()
    with left, right:
        yield Channel(left), Channel(right)


def test_channel_carries_messages_and_descriptors(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    reader, writer = os.pipe()
    one.send({"text": "line\nbreak ü"}, [writer])
    one.send({"n": 2})
    message, fds = other.receive(timeout_s=5)
    assert message == {"text": "line\nbreak ü"}
    assert other.receive(timeout_s=5) == ({"n": 2}, [])
    os.close(writer)
    os.write(fds[0], b"x")
    assert os.read(reader, 1) == b"x"
    os.close(reader)
    os.close(fds[0])


def test_channel_bounds_its_waits_and_knows_the_end(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    with pytest.raises(TimeoutError):
        one.receive(timeout_s=0.01)
    other.sock.sendall(b'{"half":')
    other.sock.close()
    with pytest.raises(Closed):
        one.receive(timeout_s=5)
    with pytest.raises(Closed):
        one.send({})


def test_the_agent_and_the_means_import_nothing_but_the_standard_library() -> None:
    code = """
import sys; sys.path.append(sys.argv[1])
import clusters.agent.estate, clusters.means.leftovers, clusters.means.enclosure
print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names - {'__main__', 'clusters'})
"""
    root = Path(cgroup.__file__).resolve().parents[2]
    argv = [sys.executable, "-I", "-S", "-c", code, str(root)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == []
