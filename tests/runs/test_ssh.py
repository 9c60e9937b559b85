"""Whole runs on hosts over SSH: the demo, its positive control, every fault, and what is left when somebody dies."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.core.ledger import read_faults, read_resources
from tests.clusters.sshd import Host, Lab
from tests.runs.commands import ENV, Done, lines, splitbrain

pytestmark = pytest.mark.ssh

DAMAGE = ("bit-flip", "truncate", "wipe", "rollback")
QUIET = ("--faults", "none", "--time", "3s", "--seed", "1")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("hosts"), 3) as made:
        yield made


@pytest.fixture(autouse=True)
def inside(lab: Lab) -> Iterator[None]:
    """Commands that are started here stand where the hosts can be reached."""
    with lab.entered():
        yield
    for host in lab.hosts:
        deadline = time.monotonic() + 3  # a switch that nobody ended looks once a second
        while (left := left_on(host)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == []


def left_on(host: Host, user: str = "root") -> list[str]:
    """What is there of any run of who logged in as `user`."""
    found = host.run(f"ls /var/tmp/splitbrain-{user}/runs; nft list tables | grep splitbrain").split("\n")
    found += [
        line for line in host.run("ps axo args").splitlines() if "remote.py" in line or "switch.sh" in line
    ]
    return [line for line in found if line and "No such file" not in line]


def run(lab: Lab, out: Path, *args: object, timeout_s: float = 120) -> Done:
    return splitbrain("run", *lab.options, *args, "--out", out, "--json", timeout_s=timeout_s)


def execute(run_dir: Path, node: str, *argv: str, **more: object) -> Done:
    command = [sys.executable, "-P", "-m", "splitbrain", "exec", str(run_dir), node, "--", *argv]
    done = subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=60, check=False, **more)  # type: ignore[call-overload]
    return Done(done.returncode, done.stdout, done.stderr)


def test_the_demo_is_valid_every_fault_shows_and_no_key_is_told(lab: Lab, out: Path) -> None:
    done = run(lab, out, "--faults", "partition,kill,pause", "--time", "12s", "--seed", "11", "--keep")
    results = done.results
    assert results["verdict"] == "valid", results["reason"]
    assert (done.code, results["kept"]) == (0, None), "what has not failed is not kept"
    assert set(results["faults"]) == {"partition", "kill", "pause"}
    for family in results["faults"].values():
        assert family["effective"] >= 1
        assert family["overlapping_ops"] >= 20
    run_dir = Path(results["run"])
    made = [line for line in lines(run_dir / "faults.jsonl") if line.get("event") == "resource"]
    assert [line["name"] for line in made] == [
        f"n{i} {host}".removesuffix(":22") for i, host in enumerate(lab.hosts, 1)
    ]
    assert read_resources(run_dir / "faults.jsonl") == []
    assert (run_dir / "logs/n1/etcd.log").stat().st_size > 0
    assert any(e["kind"] == "election" for e in lines(run_dir / "events.jsonl"))
    for path in (p for p in run_dir.rglob("*") if p.is_file()):
        assert str(lab.key).encode() not in path.read_bytes(), path
    assert "ssh.key=[redacted]" in results["command"]


def test_stale_reads_behind_a_partition_are_found_and_the_cluster_can_be_kept(lab: Lab, out: Path) -> None:
    control = ("--opt", "reads=serializable", "--faults", "partition", "--time", "6s", "--seed", "3")
    done = run(lab, out, *control, "--keep")
    assert (done.code, done.results["verdict"]) == (1, "invalid")
    assert done.results["checks"]["linearizable"]["anomalies"]
    run_dir = Path(done.results["run"])
    assert done.results["kept"] == json.loads((run_dir / "kept.json").read_text())["until"]
    script = (
        "hostname; tr '\\0' ' ' </proc/2/cmdline; echo; ls /run/splitbrain/data; cat; echo no >&2; exit 7"
    )
    there = execute(run_dir, "n2", "sh", "-c", script, input="typed\n")
    assert (there.code, there.err) == (7, "no\n")
    name, process, data, typed = there.out.splitlines()
    assert (name, data, typed) == ("n2", "member", "typed")
    assert process.startswith("/run/splitbrain/program/etcd --name=n2 "), "it sees what runs there"
    healed = splitbrain("heal", run_dir)
    assert (healed.code, "left standing" in healed.out) == (0, True)
    again = execute(run_dir, "n1", "true")
    assert (again.code, "has nothing that stands on its hosts" in again.err) == (2, True)


@pytest.mark.slow
def test_every_fault_that_hosts_can_do_shows_there(lab: Lab, out: Path) -> None:
    from splitbrain import registry

    families = [
        d.name for d in registry.descriptors("faults") if d.name not in DAMAGE and "restore" not in d.needs
    ]
    asked = ("--version", "3.5.35", "--opt", "upgrade.to=3.6.16", "--opt", "membership.spares=0")
    done = run(
        lab, out, "--faults", ",".join(families), *asked, "--time", "200s", "--seed", "7", timeout_s=500
    )
    assert done.results["verdict"] == "valid", done.results["reason"]
    assert {name for name, one in done.results["faults"].items() if one["effective"]} == {*families}


@pytest.mark.slow
def test_a_snapshot_is_restored_on_hosts(lab: Lab, out: Path) -> None:
    """Clients of hosts cannot be shut out, so that something acknowledged is lost."""
    done = run(lab, out, "--faults", "restore-old", "--time", "12s", "--seed", "5")
    assert done.results["verdict"] == "valid", done.results["reason"]
    assert done.results["faults"]["restore-old"]["effective"] >= 1
    assert any("restore-old" in text for text in done.results["observations"])
    refused = run(lab, out, "--faults", "restore", "--time", "12s")
    assert (refused.code, "restore needs client-places" in refused.results["error"]) == (4, True)


@pytest.mark.slow
@pytest.mark.parametrize("family", DAMAGE)
def test_damage_at_rest_shows_on_a_host(lab: Lab, out: Path, family: str) -> None:
    done = run(lab, out, "--faults", f"{family}:one", "--time", "15s", "--seed", "5")
    assert done.results["error"] is None
    assert done.results["faults"][family]["effective"] >= 1


def start(lab: Lab, out: Path, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "splitbrain", "run", *lab.options, *args, "--out", out, "--json"]
    return subprocess.Popen(
        [*map(str, command)], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def until(what: Callable[[], Any], timeout_s: float = 60) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def in_force(out: Path) -> Callable[[], Path | None]:
    """The run below `out` in which a partition is in force and a node is paused, once it is so."""

    def look() -> Path | None:
        for ledger in out.glob("*/*/faults.jsonl"):
            applied = [f for f in read_faults(ledger) if f.applied is not None and f.outstanding]
            if len(applied) == 2:
                return ledger.parent
        return None

    return look


def both(folder: Path) -> tuple[object, ...]:
    """A spec with a partition and a pause at once, soon and for long."""
    spec = folder / "both.toml"
    steps = "".join(
        f'[[schedule]]\nat = "2s"\nhold = "50s"\nfault = "{fault}"\n'
        for fault in ("partition:n2", "pause:n3")
    )
    spec.write_text(f'time = "60s"\nseed = 1\n{steps}[opt]\n"schedule.down" = 3\n"ssh.silence_s" = 5\n')
    return (spec,)


@pytest.mark.slow
def test_a_killed_harness_is_undone_by_the_hosts_and_healed_later(
    lab: Lab, out: Path, tmp_path: Path
) -> None:
    process = start(lab, tmp_path, *both(tmp_path))
    try:
        run_dir = until(in_force(tmp_path))
        tag = run_dir.name.rpartition("-")[2]
        tables = [
            host.run(f"nft list chain inet splitbrain_{tag}n{i} cut") for i, host in enumerate(lab.hosts, 1)
        ]
        assert any("drop" in table for table in tables)
        (paused,) = (f for f in read_faults(run_dir / "faults.jsonl") if f.family == "pause")
        stopped = paused.undo[0].args["pid"]
        state = f"grep State /proc/{stopped}/status"
        assert "T (stopped)" in lab.hosts[2].run(state)
        killed = runners(tag)
        process.kill()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        process.wait()
        for i, host in enumerate(lab.hosts, 1):
            until(
                lambda h=host, n=i: "drop" not in h.run(f"nft list chain inet splitbrain_{tag}n{n} cut"), 15
            )
        until(lambda: "T (stopped)" not in lab.hosts[2].run(state), 15)
        assert "State" in lab.hosts[2].run(state), "the node's processes go on"
        healed = splitbrain("heal", run_dir, "--json")
        assert healed.code == 0, healed.err
        deeds = json.loads(healed.out)["deeds"]
        assert {deed["what"].split()[0] for deed in deeds} == {"host", "fault"}
        assert not any(fault.outstanding for fault in read_faults(run_dir / "faults.jsonl"))
        assert json.loads(splitbrain("heal", run_dir, "--json").out)["deeds"] == []
    finally:
        process.kill()
        process.communicate()


def runners(tag: str) -> list[int]:
    """The processes on this machine of a run, none of the hosts'."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                argv = (path / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if "splitbrain.runner" in argv and any(word.endswith(f"-{tag}") for word in argv):
                found.append(int(path.name))
    return found


@pytest.mark.slow
def test_a_host_that_vanishes_is_reported_and_healed_when_it_is_back(lab: Lab, tmp_path: Path) -> None:
    process = start(lab, tmp_path, *both(tmp_path))
    gone = lab.hosts[1]
    try:
        run_dir = until(in_force(tmp_path))
        gone.unplug()
        begun = time.monotonic()
        out, _err = process.communicate(timeout=90)
        assert time.monotonic() < begun + 60
        assert process.returncode == 4
        error = json.loads(out)["error"]
        assert "n2 (root@10.44.0.2)" in error
        assert "`splitbrain heal" in error
        ledger = run_dir / "faults.jsonl"
        still = [fault.family for fault in read_faults(ledger) if fault.outstanding]
        assert "partition" in still
        assert ("host", "n2 root@10.44.0.2") in read_resources(ledger)
        healed = splitbrain("heal", run_dir, "--json")
        assert healed.code == 4
        assert "n2 (root@10.44.0.2) cannot be reached" in json.loads(healed.out)["error"]
        assert [fault.family for fault in read_faults(ledger) if fault.outstanding] == still
        gone.unplug(back=True)
        healed = splitbrain("heal", run_dir, "--json")
        assert healed.code == 0, healed.out
        assert not any(fault.outstanding for fault in read_faults(ledger))
        assert read_resources(ledger) == []
    finally:
        gone.unplug(back=True)
        process.kill()
        process.wait()


def test_what_cannot_be_had_ends_with_4_and_a_sentence_that_names_the_host(lab: Lab, out: Path) -> None:
    done = splitbrain(
        *(
            "run",
            "--provider",
            "ssh",
            "--nodes",
            "root@10.44.0.1,root@10.44.0.9",
            "--opt",
            f"ssh.key={lab.key}",
        ),
        *("--opt", f"ssh.known_hosts={lab.known_hosts}", *QUIET, "--out", out, "--json"),
    )
    assert done.code == 4
    assert done.results["error"].startswith("n2 (root@10.44.0.9) cannot be reached: ")
    apart = ("--faults", "partition", "--time", "6s", "--opt", "partition.clients=apart")
    done = run(lab, out, *apart)
    assert done.code == 4
    assert (
        "client-places, which cannot be had here: clients of hosts over SSH all connect from"
        in done.results["error"]
    )


def test_doctor_says_what_hosts_have(lab: Lab) -> None:
    _, _, _, hosts, *options = lab.options
    done = splitbrain("doctor", "--nodes", hosts, *options, "--json")
    found = done.results["hosts"]
    assert list(found) == [f"n{i} (root@10.44.0.{i})" for i in (1, 2, 3)]
    for capabilities in found.values():
        assert capabilities["block"] is None
        assert capabilities["client-places"] == "clients of hosts over SSH all connect from this machine"
