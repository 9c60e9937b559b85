"""The command line as a script meets it, and a distribution of a third party's."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]


def command(
    *arguments: str, cwd: Path, path: tuple[Path, ...] = (), env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """`splitbrain ARGUMENTS`, started in `cwd`, with `path` behind splitbrain on the Python path."""
    own = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, *path))), "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, "-P", "-m", "splitbrain", *arguments],
        cwd=cwd,
        env={**os.environ, **own, **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def third_party(folder: Path) -> Path:
    """An installed distribution `acme` with a sound fault, one that cannot be imported, one that is
    no descriptor, and one whose name is taken."""
    info = folder / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        dedent(
            """\
            [splitbrain.faults]
            gremlin = acme_faults:GREMLIN
            ruined = acme_missing:RUINED
            text = acme_faults:TEXT
            kill = acme_faults:GREMLIN
            """
        )
    )
    (folder / "acme_faults.py").write_text(
        dedent(
            """\
            from splitbrain import Descriptor, Option

            GREMLIN = Descriptor(
                name="gremlin", summary="bites cables", target="acme_faults:Gremlin", targets=("one",),
                options=(Option(name="teeth", default=2, summary="how many"),),
            )
            TEXT = "not a descriptor"


            class Gremlin:
                name = "gremlin"
                default_targets = ("one",)

                def __init__(self, options):
                    self.options = options
            """
        )
    )
    return folder
