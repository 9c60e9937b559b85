"""Hosts over SSH: how long a command takes over an open connection, and many hosts compared with one.

    python -m benchmarks.ssh [--hosts 5] [--rounds 15]

Starts as many OpenSSH servers in namespaces of their own (as root; openssh-server must be installed) and prints the
time of a command that does nothing, of a question to an agent, and of `sleep 0.2` on one host and on all of them
at once. What is aimed at: under 15 ms for a command, and at most 1.5 times as long on five hosts as on one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from clusters.providers._ssh_host import Host
from clusters.providers._ssh_link import Access, Link, everywhere, parse
from tests.clusters.sshd import Lab, why_not


def times_ms(work: Callable[[], object], rounds: int) -> list[float]:
    """How long each of so many rounds took, the quickest first."""
    found = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        found.append((time.perf_counter() - begun) * 1e3)
    return sorted(found)


def row(what: str, found: list[float]) -> float:
    """Print one; its median."""
    median = statistics.median(found)
    print(f"{what:42} {found[0]:9.2f} {median:9.2f} {found[-1]:9.2f}")
    return median


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--hosts", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    if (reason := why_not()) is not None:
        print(f"hosts cannot be measured here: {reason}")
        return
    with (
        tempfile.TemporaryDirectory(prefix="splitbrain-bench-") as folder,
        Lab(Path(folder), args.hosts) as lab,
    ):
        access = Access(str(lab.key), str(lab.known_hosts))
        links = [Link(f"n{i}", parse(str(host)), access) for i, host in enumerate(lab.hosts, 1)]
        with lab.entered():
            everywhere(links, Link.connect)
            for link in links:
                link.run("true")
            print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}\n")
            print(f"{'ms':42} {'least':>9} {'median':>9} {'most':>9}")
            row("a command, over an open connection", times_ms(lambda: links[0].run("true"), 4 * args.rounds))
            host = Host(links[0], lab.hosts[0].address, {})
            host.look()
            host.begin("bench")
            row("a question to an agent", times_ms(lambda: host.ask("dropped"), 4 * args.rounds))
            host.end(10.0)
            one = row(
                "sleep 0.2 on one host",
                times_ms(lambda: everywhere(links[:1], lambda x: x.run("sleep 0.2")), args.rounds),
            )
            all_ = row(
                f"sleep 0.2 on {args.hosts} hosts",
                times_ms(lambda: everywhere(links, lambda x: x.run("sleep 0.2")), args.rounds),
            )
            print(f"\n{args.hosts} hosts take {all_ / one:.2f} times as long as one")
            for link in links:
                link.close()


if __name__ == "__main__":
    main()
