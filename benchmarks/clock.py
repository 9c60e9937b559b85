"""How long a process's clock takes to be changed, and what reading it costs from then on.

    python -m benchmarks.clock [ROUNDS]

From the caller's side, the way to the agent and back included. `put on` is the first change of a process,
which stops it; `changed` another course after that, with an aim of 1 ms, and of that the part which is not
the way there and back; `taken off` its own functions again, with a stop; `read` a look at both clocks by
the process itself. Then the cost of one reading of CLOCK_REALTIME in a loop of the process's own, before
and under the change. After every tenth change it is read back.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from clusters.providers.netns import Netns, NetnsCluster
from harness.core.cluster import Course, Process

AIM_MS = 1.0
CLOSE_NS = 5_000_000
LOOP = """
import time
clock, mono, n = time.time_ns, time.process_time_ns, 200000
while True:
    began = mono()
    for _ in range(n): clock()
    clocks = mono() - began
    began = mono()
    for _ in range(n): int()
    print((clocks - (mono() - began)) / n, flush=True)
    time.sleep(0.02)
"""


def cost_ns(cluster: NetnsCluster) -> float:
    """The least of what the process says next that a reading costs it."""
    log = cluster.log_dir("n1") / "loop.log"
    have = len(log.read_text().splitlines()) + 1  # one round began before
    while len(lines := log.read_text().splitlines()) < have + 5:
        time.sleep(0.02)
    return min(map(float, lines[have:]))


def main(rounds: int) -> int:
    provider = Netns()
    provider.enclose()
    names = ("put on", "changed", "of which in the process", "read", "taken off")
    times: dict[str, list[float]] = {name: [] for name in names}
    wrong = 0

    def timed(name: str, act: Callable[[], object]) -> None:
        began = time.perf_counter_ns()
        act()
        times[name].append((time.perf_counter_ns() - began) / 1e6)

    with tempfile.TemporaryDirectory() as run_dir:
        cluster = provider.create(run="bench2", run_dir=Path(run_dir), nodes=1, mounts={})
        try:
            python = str(Path(sys.executable).resolve())
            cluster.launch({"n1": [Process(name="sleep", argv=("/bin/sleep", "1000"))]})
            for i in range(rounds):
                timed("put on", lambda: cluster.clock.shift("f1", "n1", Course(offset_ns=10**12)))
                for j in range(10):
                    course = Course(offset_ns=-(10**9) * j - i)
                    facts = cluster.clock.shift("f1", "n1", course)
                    times["changed"].append(facts["took_ms"])
                    times["of which in the process"].append(facts["processes"][0]["took_ms"])
                timed("read", lambda: cluster.clock.clocks("n1"))
                (one,) = cluster.clock.clocks("n1")
                wrong += abs(one.offset_ns - course.offset_ns) > CLOSE_NS or one.how != "call"
                timed("taken off", lambda: cluster.clock.unshift("f1", "n1"))
            cluster.signal("n1", "KILL")
            cluster.launch({"n1": [Process(name="loop", argv=(python, "-c", LOOP))]})
            costs = [cost_ns(cluster)]
            cluster.clock.shift("f1", "n1", Course(offset_ns=10**12))
            costs.append(cost_ns(cluster))
            cluster.clock.shift("f1", "n1", Course(rate=2.0))
            costs.append(cost_ns(cluster))
        finally:
            cluster.close()
    table = Table(title=f"the clock of a process, {rounds} rounds")
    for heading in ("", "p50 ms", "p99 ms", "max ms", f"p50 within {AIM_MS:g} ms"):
        table.add_column(heading, justify="right")
    for name, some in times.items():
        some.sort()
        p50 = statistics.median(some)
        aim = ("yes" if p50 <= AIM_MS else "NO") if name == "changed" else ""
        table.add_row(name, f"{p50:.2f}", f"{some[int(0.99 * (len(some) - 1))]:.2f}", f"{some[-1]:.2f}", aim)
    Console().print(table)
    print(
        f"one reading of CLOCK_REALTIME: {costs[0]:.0f} ns by the kernel's own function,"
        f" {costs[1]:.0f} ns with an offset, {costs[2]:.0f} ns at another rate (calling from Python included)"
    )
    if wrong:
        print(f"{wrong} of {rounds} readings were not what was set", file=sys.stderr)
        return 1
    return 0 if statistics.median(times["changed"]) <= AIM_MS else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 50))
