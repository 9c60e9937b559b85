"""Partitions: one bridge-family table in the bridge's namespace, changed in single transactions.

A set of (source, destination) pairs for each IP version holds all that is blocked; pairs with a
port get rules in a chain of their own. Every change empties both and fills them with the union of
what is in force, in one batch, so that no packet ever meets half of a partition. Packets that are
dropped are counted by a named counter, which survives the changes.

libnftables is called in this process (a change takes 0.1 to 0.6 ms); without the library the
`nft` command does the same in about 10 ms. The library talks to the network namespace in which the
context is made. Sources: libnftables(3), nft(8).
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Iterable
from typing import Final, NamedTuple

TABLE: Final = "splitbrain"
SWITCH: Final = "splitbrain0"  # the bridge between nodes and places
BRIDGE_PREFIX: Final = "sb-"  # before the run's id, where the bridge is in the host's own namespace
_schema: Final = """
table bridge %s {
  %s
  counter dropped { }
  set v4 { type ipv4_addr . ipv4_addr; }
  set v6 { type ipv6_addr . ipv6_addr; }
  chain ports { }
  chain forward {
    type filter hook forward priority 0; policy accept;
    ip saddr . ip daddr @v4 counter name dropped drop
    ip6 saddr . ip6 daddr @v6 counter name dropped drop
    jump ports
  }
}
"""
_sbin: Final = "/usr/local/sbin:/usr/sbin:/sbin"


class Side(NamedTuple):
    """One end of a blocked pair: its addresses, and a port or None for all traffic."""

    v4: str
    v6: str | None
    port: int | None


class Nft:
    """nftables in the network namespace in which this object was made.

    Raises: OSError when neither the library nor the command is there, or a command is refused.
    """

    def __init__(self) -> None:
        self._context: int | None = None
        self._lib = _load()
        self._command = None if self._lib else find_program("nft")
        if self._lib is not None:
            context = self._lib.nft_ctx_new(0)
            self._lib.nft_ctx_buffer_output(context)
            self._lib.nft_ctx_buffer_error(context)
            self._context = context
        elif self._command is None:
            raise OSError("neither libnftables.so.1 nor the command nft is there; install nftables")

    @property
    def lasting(self) -> bool:
        """Whether one connection to the kernel lasts as long as this process."""
        return self._lib is not None

    def run(self, commands: str) -> str:
        """Run `commands` as one transaction and return what they print."""
        if self._lib is not None:
            status = self._lib.nft_run_cmd_from_buffer(self._context, commands.encode())
            if status:
                error = self._lib.nft_ctx_get_error_buffer(self._context).decode(errors="replace")
                raise OSError(f"nftables refused: {' '.join(error.split())}")
            return str(self._lib.nft_ctx_get_output_buffer(self._context).decode(errors="replace"))
        done = subprocess.run(
            [str(self._command), "-f", "-"],
            input=commands,
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
        if done.returncode:
            raise OSError(f"nftables refused: {' '.join(done.stderr.split())}")
        return done.stdout


class Blocks:
    """What is blocked between the nodes and places of one cluster, added up over faults.

    `table` is made anew. With `owned`, the kernel keeps all others from it and removes it when this
    process ends, by whatever death (Linux 5.12, and only where the library is there); for tables in
    namespaces that do not end with their run.
    """

    def __init__(self, nft: Nft, table: str = TABLE, *, owned: bool = False) -> None:
        self._nft = nft
        self._table = table
        try:
            self._make(owned=owned and nft.lasting)
        except OSError as e:
            raise OSError(f"{e}; the kernel needs nf_tables with bridge support") from None
        self._faults: dict[str, frozenset[tuple[Side, Side]]] = {}

    def block(self, fault: str, pairs: Iterable[tuple[Side, Side]]) -> int:
        """Put `pairs` in force under the name `fault`; returns how many pairs are in force in all."""
        return self._change({**self._faults, fault: frozenset(pairs)})

    def unblock(self, fault: str) -> int:
        """Lift what `fault` blocked; returns how many pairs are still in force."""
        if fault not in self._faults:
            return len(union(self._faults))
        return self._change({name: pairs for name, pairs in self._faults.items() if name != fault})

    def dropped(self) -> int:
        """Packets dropped since the table was made."""
        text = self._nft.run(f"list counter bridge {self._table} dropped")
        found = re.search(r"packets (\d+)", text)
        if found is None:
            raise OSError(f"nftables printed no counter: {text!r}")
        return int(found.group(1))

    def remove(self) -> None:
        """Remove the table, and with it every block."""
        self._nft.run(f"delete table bridge {self._table}")

    def _make(self, *, owned: bool) -> None:
        try:
            self._nft.run(_schema % (self._table, "flags owner;" if owned else ""))
        except OSError:
            if not owned:
                raise
            self._make(owned=False)

    def _change(self, faults: dict[str, frozenset[tuple[Side, Side]]]) -> int:
        pairs = union(faults)
        self._nft.run(transaction(pairs, self._table))
        self._faults = faults  # only now: a refused transaction has changed nothing
        return len(pairs)


def table_of(run: str) -> str:
    """The table of a run whose bridge is in the host's own namespace."""
    return f"{TABLE}_{run}"


def queue_table_of(run: str) -> str:
    """The table of a run that hands packets to its queue; see `clusters.means.nfqueue`."""
    return f"{TABLE}_{run}_q"


def discard(run: str) -> None:
    """Remove the tables of a run from the host, if they are there, with all that they block and shape.

    Raises: OSError, also where nftables cannot be used at all.
    """
    nft, ours = Nft(), (table_of(run), queue_table_of(run))
    for line in nft.run("list tables").splitlines():
        if line.split()[2] in ours:
            nft.run(f"delete {line}")


def union(faults: dict[str, frozenset[tuple[Side, Side]]]) -> set[tuple[Side, Side]]:
    """The pairs of all faults together."""
    return set().union(*faults.values())


def transaction(pairs: Iterable[tuple[Side, Side]], table: str = TABLE) -> str:
    """The commands that make exactly `pairs` blocked, whatever was before."""
    lines = [f"flush set bridge {table} {name}" for name in ("v4", "v6")]
    lines.append(f"flush chain bridge {table} ports")
    v4, v6 = [], []
    for source, target in sorted(pairs, key=str):
        both6 = (source.v6, target.v6) if source.v6 and target.v6 else None
        if source.port is None and target.port is None:
            v4.append(f"{source.v4} . {target.v4}")
            if both6:
                v6.append(" . ".join(both6))
            continue
        lines.append(_rule(table, "ip", source.v4, target.v4, source.port, target.port))
        if both6:
            lines.append(_rule(table, "ip6", *both6, source.port, target.port))
    for name, elements in (("v4", v4), ("v6", v6)):
        if elements:
            lines.append(f"add element bridge {table} {name} {{ {', '.join(elements)} }}")
    return "\n".join(lines) + "\n"


def find_program(name: str) -> str | None:
    """Where `name` is: on PATH, or in the sbin directories that a login shell may leave out."""
    return shutil.which(name) or shutil.which(name, path=_sbin)


def _rule(table: str, family: str, source: str, target: str, sport: int | None, dport: int | None) -> str:
    ports = "".join(
        f" th {which} {port}" for which, port in (("sport", sport), ("dport", dport)) if port is not None
    )
    match = f"{family} saddr {source} {family} daddr {target} meta l4proto {{ tcp, udp }}{ports}"
    return f"add rule bridge {table} ports {match} counter name dropped drop"


def _load() -> ctypes.CDLL | None:
    try:
        lib = ctypes.CDLL("libnftables.so.1")
    except OSError:
        return None
    lib.nft_ctx_new.restype = ctypes.c_void_p
    lib.nft_ctx_new.argtypes = (ctypes.c_uint32,)
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(lib, name).argtypes = (ctypes.c_void_p,)
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(lib, name).argtypes = (ctypes.c_void_p,)
        getattr(lib, name).restype = ctypes.c_char_p
    lib.nft_run_cmd_from_buffer.argtypes = (ctypes.c_void_p, ctypes.c_char_p)
    return lib
