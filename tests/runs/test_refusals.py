"""What this machine cannot do is refused before the cluster is started: exit 4, and a sentence that names what
is missing and what can be had instead. For every need of every fault family that is registered.

What a family needs is taken away for real where that can be done: the command runs where a tool is masked, where
control groups are read-only, or where the kernel refuses namespaces. Where it cannot (no test unloads a module
of the kernel's), the agent is told what a kernel without it answers. What no machine with namespaces can lack is
missing on a cluster that is not ours.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

import pytest

from clusters.means.leftovers import leftovers
from harness.core.admin import OF_SYSTEMS
from splitbrain import registry
from tests.runs.commands import ENV, Done, beside, lines, run_altered, splitbrain

BRIEF = ("--seed", "1", "--time", "300s", "--no-admission", "--json")
# What the system has to have, and not the machine, is refused when the spec is read.
NEEDS = {d.name: d.needs for d in registry.descriptors("faults") if not d.needs & OF_SYSTEMS}

# Shell lines for a mount namespace of the command's own, before it is executed.
NO_STRACE = "mount --bind /dev/null $(command -v strace)"
NO_MKFS = "mount --bind /dev/null $(readlink -f $(PATH=$PATH:/usr/sbin:/sbin command -v mkfs.ext4))"
NO_NFTABLES = (
    "for f in $(PATH=$PATH:/usr/sbin:/sbin command -v nft) $(ldconfig -p | sed -n 's/.*libnftables.so.1 .*=> //p');"
    " do mount --bind /dev/null $(readlink -f $f); done"
)
NO_GROUPS = "for d in $(awk '$3 ~ /^cgroup/ {print $2}' /proc/mounts); do mount -o remount,bind,ro $d; done"

# What the agent's kernel answers instead of what it would.
AGENT = """
import pathlib, tempfile
from clusters.providers import netns
folder = pathlib.Path(tempfile.mkdtemp(prefix="splitbrain-agent-", dir={folder!r}))
(folder / "main.py").write_text('''
import runpy, sys
sys.path.append({root!r})
import errno, os
{code}
runpy.run_path({agent!r}, run_name="__main__")
''')
netns._agent_dir = folder
"""
NO_QUEUE = """
from clusters.means import nfqueue
class Queue:
    def __init__(self):
        raise OSError(errno.EPROTONOSUPPORT, "this kernel has no packet queue (nfnetlink_queue)")
nfqueue.Queue = Queue
"""
NO_CLOCK = """
from clusters.agent import clocks
def apply(*_):
    raise OSError(errno.EIO, os.strerror(errno.EIO))
clocks.apply = apply
"""


class Lack(NamedTuple):
    """Something that is missing: for which needs, and what the sentence has to name beside the alternative."""

    needs: frozenset[str]
    names: str
    instead: str
    shell: str = ""
    agent: str = ""


LACKS = {
    "strace": Lack(frozenset({"trace"}), "the command strace is missing", "use pause", shell=NO_STRACE),
    "mkfs": Lack(frozenset({"loop-disk"}), "the command mkfs.ext4 is missing", "use kill", shell=NO_MKFS),
    "nftables": Lack(
        frozenset({"block", "shape"}),
        "neither libnftables.so.1 nor the command nft is there",
        "install nftables",
        shell=NO_NFTABLES,
    ),
    "groups": Lack(
        frozenset({"cpu-limit", "memory-limit"}), "is read-only here", "fault pause", shell=NO_GROUPS
    ),
    "queue": Lack(
        frozenset({"shape"}), "this kernel has no packet queue", "partition is what can be", agent=NO_QUEUE
    ),
    "clock": Lack(
        frozenset({"clock"}), "does not let a process's vDSO be changed", "use `pause`", agent=NO_CLOCK
    ),
}
QUICK = {"queue", "mkfs", "groups"}  # what is missing in the same way belongs to `make test-all`
# These come with the namespaces themselves; a cluster that is not ours has none of them.
ALWAYS = frozenset({"signal", "restart", "client-places", "descriptor-limit", "at-rest"})


def families(needs: frozenset[str]) -> list[str]:
    """The families that need one of them."""
    return sorted(name for name, wants in NEEDS.items() if wants & needs)


def refused(done: Done) -> str:
    """What a run said that was refused before its cluster was started, and left nothing."""
    assert done.code == 4, done.err
    assert done.results["verdict"] == "unknown"
    run_dir = Path(done.results["run"])
    journal = run_dir / "journal.jsonl"
    phases = [x["phase"] for x in lines(journal) if "phase" in x] if journal.exists() else []
    assert phases in ([], ["setup"]), "no cluster was started"
    assert not list(run_dir.glob("logs/*/etcd.log"))
    assert not list(run_dir.glob("faults/*"))
    assert leftovers(run_dir.name.rpartition("-")[2]) == []
    assert not (run_dir / "work").exists()
    error = str(done.results["error"])
    assert "\n" not in error
    assert f"splitbrain: {error}\n" in done.err
    return error


def told(error: str) -> dict[str, list[str]]:
    """Need -> the families that it was refused to, by a sentence."""
    words = re.findall(r"((?:[a-z-]+, )*[a-z-]+) needs? ([a-z-]+)(?= and |, which cannot be had)", error)
    return {need: names.split(", ") for names, need in words}


def below(way: Sequence[str], shell: str, *args: object) -> Done:
    """`splitbrain ARGS`, executed in the namespaces of `way` by shell lines of which it is the end."""
    command = shlex.join([sys.executable, "-P", "-m", "splitbrain", *map(str, args)])
    argv = [*way, "sh", "-ec", f"{shell} {command}"]
    done = subprocess.run(argv, env=ENV, capture_output=True, text=True, timeout=120, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def test_every_need_of_every_family_has_its_lack() -> None:
    covered = ALWAYS.union(*(lack.needs for lack in LACKS.values()))
    assert {name: needs - covered for name, needs in NEEDS.items() if needs - covered} == {}


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Done]]]:
    top = tmp_path_factory.mktemp("lacking")

    def one(what: str) -> Done:
        folder = top / what
        folder.mkdir()
        return lacking(LACKS[what], folder)

    with beside(request, "what", one) as runs:
        yield runs


def lacking(lack: Lack, tmp_path: Path) -> Done:
    """A run with all families that need what is missing."""
    given = ("--faults", ",".join(families(lack.needs)), *BRIEF)
    if lack.shell:
        private = ("unshare", "-m", "--propagation", "private")
        return below(private, f"{lack.shell}\nexec", "run", *given, "--out", tmp_path)
    agent = Path(registry.__file__).parents[1] / "clusters" / "agent" / "main.py"
    code = AGENT.format(folder=str(tmp_path), root=str(agent.parents[2]), agent=str(agent), code=lack.agent)
    return run_altered(code, tmp_path, *given)


@pytest.mark.netns
@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=() if what in QUICK else pytest.mark.slow) for what in LACKS]
)
def test_what_is_missing_is_named(runs: dict[str, Future[Done]], what: str) -> None:
    lack = LACKS[what]
    asked = families(lack.needs)
    error = refused(runs[what].result())
    assert told(error) == {need: [n for n in asked if need in NEEDS[n]] for need in lack.needs}
    assert lack.names in error
    assert lack.instead in error


@pytest.mark.parametrize("family", NEEDS)
def test_a_cluster_that_is_not_ours_refuses_every_family(
    everything: dict[str, list[str]], family: str
) -> None:
    assert all(family in everything[need] for need in NEEDS[family])


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What is said where every family is asked for and nothing can be had."""
    where = ("--provider", "attach", "--nodes", "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3")
    out = tmp_path_factory.mktemp("attached")
    return told(refused(splitbrain("run", *where, "--faults", ",".join(NEEDS), *BRIEF, "--out", out)))


# Users who may make no namespaces: a root that has lost its rights, and where the kernel's limit is reached.
BARE = "setpriv --bounding-set=-all --inh-caps=-all"


@pytest.mark.netns
def test_a_user_without_namespaces_is_refused(tmp_path: Path) -> None:
    shell = f"echo 0 > /proc/sys/user/max_user_namespaces; exec {BARE}"
    error = refused(below(("unshare", "-Ur"), shell, "run", "--faults", "kill", *BRIEF, "--out", tmp_path))
    assert error.startswith("provider netns cannot work here: ")
    assert "user namespaces" in error
