"""What is done to the clocks of a real cluster, and what was seen: the same in namespaces, as root and
without, and in containers.

    python -m tests.clusters.clocking RUN_DIR PROGRAM

does it in namespaces of an enclosed process and prints what was seen.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from harness.core.cluster import PROGRAM_DIR, Cluster, Course, Process

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
TICK = f"{PROGRAM_DIR}/tick"
# A static program: its first act is to read the clock, then it does so fifty times a second.
GO = """package main

import (
	"fmt"
	"time"
)

func main() {
	fmt.Println("begin", time.Now().UnixNano())
	go func() { select {} }()
	for {
		fmt.Println("tick", time.Now().UnixNano())
		time.Sleep(20 * time.Millisecond)
	}
}
"""
PYTHON = """
import ctypes, time
tv = (ctypes.c_long * 2)()
libc = ctypes.CDLL(None)
print("begin", time.time_ns(), flush=True)
while True:
    libc.gettimeofday(ctypes.byref(tv), None)
    print("tick", tv[0] * 10**9 + tv[1] * 1000, flush=True)
    time.sleep(0.02)
"""


def build(folder: Path, go: Path) -> Path:
    """The static program."""
    (folder / "tick.go").write_text(GO)
    command = [str(go), "build", "-o", str(folder / "tick"), str(folder / "tick.go")]
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOOS": "linux", "GOTOOLCHAIN": "local"}
    subprocess.run(command, check=True, env=env, cwd=folder, timeout=120)
    return folder / "tick"


def ticker() -> Process:
    return Process(name="tick", argv=(TICK,))


def python() -> Process:
    return Process(name="python", argv=(str(Path(sys.executable).resolve()), "-c", PYTHON))


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


def exercise(cluster: Cluster) -> dict[str, Any]:
    """Everything, on n1; n2 is the clean twin."""
    clock, process = cluster.clock, cluster.process
    seen: dict[str, Any] = {"capability": cluster.capabilities["clock"]}

    def lines(node: str, name: str) -> list[str]:
        return (cluster.log_dir(node) / f"{name}.log").read_text().splitlines()

    def logged(node: str = "n1", name: str = "tick") -> int:
        """What the program writes now, less the true time."""
        count = len(lines(node, name))
        until(lambda: len(lines(node, name)) > count + 1)
        return int(lines(node, name)[-1].split()[1]) - time.time_ns()

    def offsets(node: str = "n1") -> list[list[Any]]:
        return [[r.name, r.offset_ns, r.shifted, r.how] for r in clock.clocks(node)]

    def note(word: str) -> None:
        seen[word] = {
            "read": offsets(),
            "logged": {name: logged(name=name) for name in ("tick", "python")},
            "twin": [offsets("n2"), logged("n2")],
        }

    host = time.time_ns() - time.monotonic_ns()
    cluster.launch({"n1": [ticker(), python()], "n2": [ticker()]})
    for node, name in (("n1", "tick"), ("n1", "python"), ("n2", "tick")):
        until(lambda node=node, name=name: len(lines(node, name)) > 2)  # type: ignore[misc]
    note("before")
    seen["facts"] = clock.shift("f1", "n1", Course(offset_ns=HOUR))
    note("jumped")
    process.signal("n1", "KILL")
    process.start("n1")
    until(lambda: sum(x.startswith("begin") for x in lines("n1", "tick")) == 2)
    until(lambda: sum(x.startswith("begin") for x in lines("n1", "python")) == 2)
    begins = [
        int(x.split()[1]) - time.time_ns() for n in ("tick", "python") for x in lines("n1", n) if x[0] == "b"
    ]
    seen["begins"] = begins
    note("restarted")
    clock.shift("f1", "n1", Course(rate=0.0))
    first = [int(lines("n1", "tick")[-1].split()[1]) for _ in range(2) if logged()]
    seen["frozen"] = first[1] - first[0]
    clock.shift("f1", "n1", Course(rate=3.0))
    one = clock.clocks("n1")[0]
    time.sleep(0.1)
    two = clock.clocks("n1")[0]
    seen["drift"] = [two.offset_ns - one.offset_ns, two.true_ns - one.true_ns]
    clock.shift(
        "f2", "n1", Course(offset_ns=-SECOND // 10, monotonic=True)
    )  # more, and its timers would wait for it
    seen["monotonic"] = [r.monotonic_ns for r in clock.clocks("n1")]
    clock.shift("f2", "n1", Course(offset_ns=-2 * HOUR))
    note("behind")
    process.signal("n1", "STOP")
    clock.unshift("f2", "n1")
    clock.shift("f1", "n1", Course(offset_ns=SECOND))
    seen["paused"] = [offsets(), [s.state for s in process.state("n1")]]
    process.signal("n1", "CONT")
    note("resumed")
    clock.unshift("f1", "n1")
    seen["again"] = msgspec.to_builtins(clock.unshift("f1", "n1"))["processes"]
    note("after")
    process.signal("n1", "KILL")
    clock.shift("f3", "n1", Course(offset_ns=HOUR))
    clock.unshift("f3", "n1")
    seen["dead"] = offsets()
    process.start("n1")
    note("healed")
    seen["host"] = time.time_ns() - time.monotonic_ns() - host
    return seen


def main() -> None:
    from clusters.providers.netns import Netns

    where, program = map(Path, sys.argv[1:])
    provider = Netns()
    provider.enclose()
    cluster = provider.create(run="tclock", run_dir=where, nodes=2, mounts={str(program): TICK})
    try:
        seen = exercise(cluster)
    finally:
        cluster.close()
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
