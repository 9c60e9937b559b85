"""Partitions between hosts: a table of ours in each host's own packet filter.

On hosts there is no bridge between the nodes where everything could be cut at once, so each host drops what
reaches it from others. What is dropped is matched by where it comes from *and* by the ports of the system under
test, so that nobody's way into a host is cut; what belongs to SSH is let through before anything is looked at.
Dropped is what comes in, never what goes out: a sender is not told.

nftables does it where it is there (one transaction), iptables where it is not (one `iptables-restore`). Both
leave alone whatever else the host filters. Sources: nft(8), iptables-restore(8).
"""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from clusters.means.nft import Nft, find_program, table_of

_schema: Final = """
table inet %(table)s {
  counter dropped { }
  chain cut { }
  chain input {
    type filter hook input priority -10; policy accept;
    %(guard)s
    jump cut
  }
}
"""
_longest_chain: Final = 28  # what iptables takes at the most


class Cut(NamedTuple):
    """What one host drops: packets from `address` whose source or destination port is among `ports`."""

    address: str
    ports: tuple[int, ...]


class Rules(Protocol):
    """One host's table. `undo` are the lines of the dead man's switch that take it away, see `switch.sh`."""

    undo: tuple[str, ...]

    def set(self, cuts: Iterable[Cut]) -> None:
        """Drop this and nothing else from now on."""

    def dropped(self) -> int:
        """Packets dropped since the table was made."""

    def remove(self) -> None:
        """Take the table away. Idempotent."""


class NftRules:
    """By nftables. Raises: OSError where the kernel does not let us."""

    def __init__(self, run: str, spared: Sequence[int]) -> None:
        self._nft = Nft()
        self._table = f"inet {table_of(run)}"
        ports = ", ".join(map(str, sorted(set(spared))))
        guard = f"tcp dport {{ {ports} }} accept\n    tcp sport {{ {ports} }} accept" if ports else ""
        self._nft.run(_schema % {"table": table_of(run), "guard": guard})
        self.undo: tuple[str, ...] = (f"nft {table_of(run)}",)

    def set(self, cuts: Iterable[Cut]) -> None:
        lines = [f"flush chain {self._table} cut"]
        for cut in sorted(set(cuts)):
            family = "ip6" if ":" in cut.address else "ip"
            ports = ", ".join(map(str, cut.ports))
            for which in ("sport", "dport"):
                match = f"{family} saddr {cut.address} meta l4proto {{ tcp, udp }} th {which} {{ {ports} }}"
                lines.append(f"add rule {self._table} cut {match} counter name dropped drop")
        self._nft.run("\n".join(lines) + "\n")

    def dropped(self) -> int:
        found = re.search(r"packets (\d+)", self._nft.run(f"list counter {self._table} dropped"))
        if found is None:
            raise OSError("nftables printed no counter")
        return int(found.group(1))

    def remove(self) -> None:
        self._nft.run(f"add table {self._table}\ndelete table {self._table}\n")


class IptablesRules:
    """By iptables, and ip6tables where that is there. Raises: OSError."""

    def __init__(self, run: str, spared: Sequence[int]) -> None:
        self._chain = chain_of(run)
        self._spared = ",".join(map(str, sorted(set(spared))))
        self._programs = {"ip": "iptables"}
        if find_program("ip6tables") is not None:
            self._programs["ip6"] = "ip6tables"
        self._before = 0  # what was counted by rules that have been replaced since
        self.set(())
        for program in self._programs.values():
            _run([program, "-w", "-I", "INPUT", "1", "-j", self._chain])
        self.undo: tuple[str, ...] = tuple(
            f"iptables {program} {self._chain}" for program in self._programs.values()
        )

    def set(self, cuts: Iterable[Cut]) -> None:
        self._before = self.dropped()
        every = sorted(set(cuts))
        for family, program in self._programs.items():
            lines = ["*filter", f":{self._chain} - [0:0]"]
            lines += [
                f"-A {self._chain} -p tcp -m multiport --{which} {self._spared} -j RETURN"
                for which in (("sports", "dports") if self._spared else ())
            ]
            for cut in every:
                if (":" in cut.address) != (family == "ip6"):
                    continue
                ports = ",".join(map(str, cut.ports))
                lines += [
                    f"-A {self._chain} -s {cut.address} -p {proto} -m multiport --{which} {ports} -j DROP"
                    for proto in ("tcp", "udp")
                    for which in ("sports", "dports")
                ]
            _run([f"{program}-restore", "-w", "--noflush"], "\n".join([*lines, "COMMIT", ""]))

    def dropped(self) -> int:
        total = self._before
        for program in self._programs.values():
            with contextlib.suppress(OSError):  # the chain is not there yet
                listed = _run([program, "-w", "-nvx", "-L", self._chain])
                total += sum(int(line.split()[0]) for line in listed.splitlines() if " DROP " in line)
        return total

    def remove(self) -> None:
        for program in self._programs.values():
            for words in (("-D", "INPUT", "-j"), ("-F",), ("-X",)):
                with contextlib.suppress(OSError):  # it is not there
                    _run([program, "-w", *words, self._chain])


def chain_of(run: str) -> str:
    """The chain of a run.

    >>> chain_of("a1b2c3")
    'splitbrain-a1b2c3'
    """
    return f"splitbrain-{run}"[:_longest_chain]


def make(run: str, spared: Sequence[int]) -> Rules:
    """The table of a run on this host; `spared` are the ports of SSH.

    Raises: OSError that says what would be needed.
    """
    with contextlib.suppress(OSError):
        return NftRules(run, spared)
    if find_program("iptables-restore") is None:
        raise OSError("neither nftables nor iptables can be used here; install nftables")
    return IptablesRules(run, spared)


def discard(run: str) -> None:
    """Take away whatever tables of a run there are, by whichever means they were made. Raises: OSError."""
    with contextlib.suppress(OSError):  # no nftables, no such table
        nft = Nft()
        for line in nft.run("list tables").splitlines():
            if line.split()[2] in (table_of(run), f"{table_of(run)}_q"):
                nft.run(f"delete {line}")
    for program in ("iptables", "ip6tables"):
        if find_program(program) is None:
            continue
        with contextlib.suppress(OSError):
            _run([program, "-w", "-n", "-L", chain_of(run)])
            for words in (("-D", "INPUT", "-j"), ("-F",), ("-X",)):
                _run([program, "-w", *words, chain_of(run)])


def _run(argv: Sequence[str], text: str = "") -> str:
    program = find_program(argv[0])
    if program is None:
        raise OSError(f"the command {argv[0]} is not there")
    done = subprocess.run(
        [program, *argv[1:]], input=text, capture_output=True, text=True, timeout=10, check=False
    )
    if done.returncode:
        raise OSError(f"{argv[0]} refused: {' '.join(done.stderr.split())}")
    return done.stdout
