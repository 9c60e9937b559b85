"""Clusters on hosts over SSH that are left standing or looked into: entered, read, ended, and nothing is left."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from splitbrain import kept
from tests.clusters.sshd import PLAIN, USER, Lab
from tests.runs.commands import ENV, splitbrain
from tests.runs.test_ssh import both, execute, in_force, left_on, run, runners, start, until

pytestmark = [pytest.mark.ssh, pytest.mark.slow]
FAILS = ("--faults", "none", "--time", "1s", "--seed", "1", "--expect", "invalid")  # a valid run is none
HEALTH = "exec 3<>/dev/tcp/{}/2379; printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("hosts"), 3) as made:
        yield made


@pytest.fixture(autouse=True)
def inside(lab: Lab, out: Path, tmp_path: Path) -> Iterator[None]:
    with lab.entered():
        yield
        for run_dir in (*out.glob("*/*-*"), *tmp_path.glob("*/*-*")):
            kept.release(run_dir)  # where the test has failed


def nothing_left(lab: Lab, user: str = "root") -> bool:
    """Whether no host has anything of a run; a switch that nobody ended looks once a second."""
    deadline = time.monotonic() + 5
    while (some := any(left_on(host, user) for host in lab.hosts)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not some


def on_a_terminal(
    run_dir: Path, *argv: str, typed: Sequence[bytes] = (), to: dict[int, Path] | None = None
) -> tuple[int, str]:
    """The exit code, and all that a terminal showed, where what was `typed` is typed whenever a prompt is shown.
    `to`: descriptors that are files."""
    pid, fd = pty.fork()
    if pid == 0:
        for stream, path in (to or {}).items():
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), stream)
        command = [sys.executable, "-P", "-m", "splitbrain", "exec", str(run_dir), "n1", "--", *argv]
        os.execve(sys.executable, command, {**ENV, "TERM": "vt100"})
    shown = b""
    left = [*typed]
    while True:
        if not select.select([fd], [], [], 60)[0]:
            os.kill(pid, signal.SIGKILL)
        try:
            data = os.read(fd, 4096)
        except OSError:  # the terminal is closed
            break
        if not data:
            break
        shown += data
        if left and shown.rstrip(b"\r\n").endswith(b"# "):
            os.write(fd, left.pop(0))
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def test_streams_codes_and_endings_are_those_of_the_command(lab: Lab, out: Path) -> None:
    done = run(lab, out, *FAILS, "--keep")
    run_dir = Path(done.results["run"])
    wrong = execute(run_dir, "n7", "true")
    assert (wrong.code, "Known: n1, n2, n3" in wrong.err) == (2, True)
    missing = execute(run_dir, "n1", "no-such-thing")
    assert (missing.code, "cannot run 'no-such-thing' in the node" in missing.err) == (127, True)
    assert execute(run_dir, "n1", "sh", "-c", "kill -TERM $$").code == 143
    assert execute(run_dir, "n1", "/run").code == 126
    large = "x" * 3_000_000
    assert execute(run_dir, "n1", "cat", input=large).out == large
    left = execute(run_dir, "n1", "sh", "-c", "sleep 300 & echo gone", stdin=subprocess.DEVNULL)
    assert (left.code, left.out) == (0, "gone\n"), "what a command leaves behind holds up nobody"
    argv = [sys.executable, "-P", "-m", "splitbrain", "exec", str(run_dir), "n1", "--"]
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        process = subprocess.Popen(
            [*argv, "sh", "-c", "echo here; exec sleep 301"], env=ENV, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(number)
        assert process.wait(10) == code
        process.stdout.close()
        until(lambda: "sleep 301" not in lab.hosts[0].run("ps axo args"), 10)
    what = (
        "import os, signal, sys, time; signal.signal(2, lambda *_: sys.exit(5));"
        "print(os.ttyname(0), os.environ['TERM'], '# ', flush=True); time.sleep(302)"
    )
    code, shown = on_a_terminal(run_dir, "python3", "-c", what, typed=(b"\x03",))
    assert (code, "/dev/pts/" in shown, "vt100" in shown) == (5, True, True), shown
    file = out / "stdout"
    what = (
        "[ -t 0 ] && [ -t 2 ] && [ ! -t 1 ] && seq 3 && stty size >&2 && read -p '# ' x </dev/tty && exit $x"
    )
    code, shown = on_a_terminal(run_dir, "bash", "-c", what, typed=(b"6\n",), to={1: file})
    assert (code, file.read_bytes(), shown) == (6, b"1\n2\n3\n", "0 0\r\n# 6\r\n")
    assert on_a_terminal(run_dir, "sh", "-c", "echo no >&2; tty", to={2: file})[1].startswith("/dev/pts/")
    assert file.read_bytes().startswith(b"no\n")
    assert "agent-n1" in {path.stem for path in (run_dir / "logs").glob("*.log")}
    assert "n3" in splitbrain("logs", run_dir, "n3").out
    assert splitbrain("heal", run_dir).code == 0
    assert nothing_left(lab)


@pytest.mark.parametrize("user", [USER, PLAIN])
def test_who_is_not_root_gets_in_as_the_run_did(lab: Lab, out: Path, user: str) -> None:
    provider, ssh, nodes, hosts, *options = lab.options
    hosts = hosts.replace("root@", f"{user}@")
    more = () if user == USER else ("--opt", "ssh.sudo=false")
    done = splitbrain(
        "run", provider, ssh, nodes, hosts, *options, *more, *FAILS, "--keep", "--out", out, "--json"
    )
    assert (done.code, done.results["error"]) == (1, None)
    run_dir = Path(done.results["run"])
    there = execute(
        run_dir, "n3", "sh", "-c", "hostname; id -u; pgrep -x etcd; touch /run/splitbrain/data/mine"
    )
    assert (there.code, there.out.split()[:2]) == (0, ["n3", "0"])
    assert on_a_terminal(run_dir, "sh", "-c", "tty && exit 3")[0] == 3
    assert splitbrain("heal", run_dir).code == 0
    assert nothing_left(lab, user)


def test_faults_are_healed_and_nobody_is_needed_for_its_end(lab: Lab, out: Path) -> None:
    first, *rest = lab.hosts
    jump = ("--opt", f"ssh.jump={first}")
    done = run(lab, out, "--faults", "kill,pause", "--time", "8s", "--expect", "invalid", "--keep", *jump)
    assert (done.code, done.results["verdict"]) == (1, "valid"), done.results["reason"]
    run_dir = Path(done.results["run"])
    for node in ("n1", "n2", "n3"):
        healthy = execute(run_dir, "n1", "bash", "-c", HEALTH.format(node))
        assert '"health":"true"' in healthy.out, healthy
    before = rest[0].run("ss -Htn state established '( sport = :22 )'")
    assert first.address in before, "the way of the run is taken"
    for pid in runners(run_dir.name.rpartition("-")[2]):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not rest[0].run("ss -Htn state established '( sport = :22 )'").strip())
    assert execute(run_dir, "n2", "hostname").out == "n2\n", "it stands on the hosts, whoever is gone here"
    assert splitbrain("heal", run_dir).code == 0
    assert nothing_left(lab)
    assert execute(run_dir, "n2", "hostname").code == 2


def test_a_run_is_entered_while_it_goes_on(lab: Lab, tmp_path: Path) -> None:
    process = start(lab, tmp_path, "--faults", "none", "--time", "30s", "--seed", "1")
    try:
        journal = until(lambda: next(tmp_path.glob("*/*/journal.jsonl"), None))
        until(lambda: '"phase":"load"' in journal.read_text())
        there = execute(journal.parent, "n2", "sh", "-c", "hostname; exit 9")
        assert (there.code, there.out) == (9, "n2\n"), there.err
        follower = splitbrain("logs", journal.parent, "n2")
        assert "n2" in follower.out
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 130
    finally:
        process.kill()
        process.wait()
    over = execute(journal.parent, "n2", "true")
    assert (over.code, "nothing that stands" in over.err) == (2, True)
    assert nothing_left(lab)


def test_a_host_that_is_away_is_said_and_the_others_stand(lab: Lab, tmp_path: Path) -> None:
    process = start(lab, tmp_path, *both(tmp_path), "--keep")
    gone = lab.hosts[1]
    try:
        run_dir = until(in_force(tmp_path))
        argv = [sys.executable, "-P", "-m", "splitbrain", "exec", str(run_dir), "n2", "--"]
        inside = subprocess.Popen(
            [*argv, "sh", "-c", "echo here; exec sleep 303"],
            env=ENV,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert inside.stdout is not None
        assert inside.stdout.readline() == "here\n"
        gone.unplug()
        out, _err = process.communicate(timeout=90)
        assert process.returncode == 4
        results = json.loads(out)
        assert "n2 (root@10.44.0.2)" in results["error"]
        assert results["kept"]
        _, said = inside.communicate(timeout=60)
        assert (inside.returncode, "n2 (root@10.44.0.2): nothing was heard of the host" in said) == (
            4,
            True,
        ), said
        away = execute(run_dir, "n2", "true")
        assert (away.code, "n2 (root@10.44.0.2) cannot be reached" in away.err) == (4, True)
        states = execute(run_dir, "n3", "sh", "-c", "cut -d' ' -f3 /proc/2/stat")
        assert states.out.strip() in ("R", "S"), "it was paused"
        tag = run_dir.name.rpartition("-")[2]
        assert "drop" not in lab.hosts[0].run(f"nft list chain inet splitbrain_{tag}n1 cut")
        healed = splitbrain("heal", run_dir, "--json")
        assert healed.code == 4
        assert "n2 (root@10.44.0.2) cannot be reached" in json.loads(healed.out)["error"]
        assert left_on(lab.hosts[0]) == left_on(lab.hosts[2]) == []
        gone.unplug(back=True)
        assert splitbrain("heal", run_dir).code == 0
        assert nothing_left(lab)
    finally:
        gone.unplug(back=True)
        process.kill()
        process.wait()
