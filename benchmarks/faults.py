"""Which fault works where: the table of docs/faults.md, which `make docs` keeps.

    python -m benchmarks.faults [--write docs/faults.md]

A fault works with a provider that has every capability it needs (what the system has to have is left out);
the providers say themselves what they have on this machine, or why not. As root both columns of netns are
measured, the second by a child that becomes an ordinary user, docker's if a daemon answers, and ssh's on a host
with a server of its own if one is installed; a column that could not be measured stays as it was. Faults and
their needs come from the registry, so whoever registers one is in the table.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from harness.core.admin import OF_SYSTEMS
from splitbrain import registry

WHERE: Final = ("netns", "netns, rootless", "docker", "ssh")
BEGIN: Final = "<!-- written by `make docs`; what stands here is overwritten -->"
END: Final = "<!-- end of what `make docs` writes -->"
_nobody: Final = 65534
_PR_SET_DUMPABLE: Final = 4

Capabilities = Mapping[str, str | None]
Rows = dict[str, dict[str, str]]  # fault -> column -> yes, or the reason why not


def capabilities() -> dict[str, Capabilities]:
    """Column -> what the provider has, for those that can be measured by this user on this machine."""
    found: dict[str, Capabilities] = {}
    own = dict(registry.create("providers", "netns", {}).probe())
    if os.geteuid() == 0:
        found["netns"], found["netns, rootless"] = own, _as_nobody()
        found["docker"] = dict(registry.create("providers", "docker", {}).probe())
        found["ssh"] = _over_ssh()
    else:
        found["netns, rootless"] = own
    return {where: have for where, have in found.items() if have.get(where.partition(",")[0]) is None}


def rows(have: Mapping[str, Capabilities]) -> Rows:
    """The cells that can be said."""
    return {
        d.name: {
            where: cell(sorted(d.needs - OF_SYSTEMS), capabilities) for where, capabilities in have.items()
        }
        for d in registry.descriptors("faults")
    }


def cell(needs: list[str], have: Capabilities) -> str:
    """Yes, or why not, once each.

    >>> cell(["signal"], {"signal": None}), cell(["block", "clock"], {"block": "no nft"})
    ('yes', 'no: no nft; this provider has no such thing as clock')
    """
    missing = {n: have.get(n, f"this provider has no such thing as {n}") for n in needs}
    reasons = dict.fromkeys(reason for reason in missing.values() if reason is not None)
    return f"no: {'; '.join(reasons)}".replace("|", "\\|") if reasons else "yes"


def kept(text: str) -> Rows:
    """The rows of the table as it was written before."""
    found: Rows = {}
    _, begin, rest = text.partition(BEGIN)
    for line in rest.partition(END)[0].splitlines() if begin else ():
        cells = [one.strip() for one in line.strip().removeprefix("|").removesuffix("|").split(" | ")]
        if len(cells) == len(WHERE) + 1 and cells[0].startswith("`"):
            found[cells[0].strip("`")] = dict(zip(WHERE, cells[1:], strict=True))
    return found


def written(text: str, new: Rows) -> str:
    """The text with its table written anew; what `new` does not say is kept, faults that are no more are not.

    Raises: ValueError where the text has no place for the table.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected the lines {BEGIN} and {END}")
    old = kept(text)
    lines = [["fault", *WHERE], ["---"] * (len(WHERE) + 1)]
    for fault, said in new.items():
        lines.append(
            [f"`{fault}`", *(said.get(w, old.get(fault, {}).get(w, "not measured yet")) for w in WHERE)]
        )
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"


def _over_ssh() -> Capabilities:
    """What a host has that is this machine, seen through an OpenSSH server in namespaces."""
    from clusters.providers.ssh import Ssh
    from tests.clusters.sshd import Lab, why_not

    if (reason := why_not()) is not None:
        return {"ssh": reason}
    with tempfile.TemporaryDirectory(prefix="splitbrain-host-") as folder, Lab(Path(folder), 1) as lab:
        options = {"hosts": [str(lab.hosts[0])], "key": str(lab.key), "known_hosts": str(lab.known_hosts)}
        with lab.entered():
            (found,) = Ssh(options).survey().values()
    return found


def _as_nobody() -> Capabilities:
    """What netns has for an ordinary user: asked by a child that becomes one. Whatever needs importing
    has been imported before, since root's folders may be closed to others."""
    from clusters.agent.probe import probe

    told, tells = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(_nobody, _nobody, _nobody)
            os.setresuid(_nobody, _nobody, _nobody)
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # or its own /proc is root's
            os.write(tells, json.dumps(probe()).encode())
        finally:
            os._exit(0)
    os.close(tells)
    with os.fdopen(told, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return dict(json.loads(said)) if said else {"netns": "the child said nothing"}


def main() -> None:
    """Print the table, and write it where that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    text = args.write.read_text() if args.write else f"{BEGIN}\n{END}"
    have = capabilities()
    for where in WHERE:
        if where not in have:
            print(f"{where} cannot be measured here, by this user", file=sys.stderr)
    text = written(text, rows(have))
    if args.write:
        args.write.write_text(text)
    print(text.partition(BEGIN)[2].partition(END)[0].strip())


if __name__ == "__main__":
    main()
