"""What the pytest plugin costs a project that does not use it: `python -m benchmarks.pytest_plugin`.

The import alone, in a process that has pytest, and a session over one empty test with and without the plugin, several
processes each. Seconds of the processor are what it costs; those of the clock are the least seen, since a machine that
is at work on something else adds to them.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from splitbrain import root

RUNS: Final = 7
BOUND_MS: Final = 50.0
_import: Final = (
    "import time, pytest; cpu, clock = time.process_time(), time.perf_counter(); import splitbrain.pytest_plugin;"
    "print((time.process_time() - cpu) * 1000, (time.perf_counter() - clock) * 1000)"
)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root()), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def imported_ms() -> tuple[float, float]:
    """The import in a new process: ms of the processor, and of the clock."""
    command = [sys.executable, "-P", "-c", _import]
    said = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True).stdout
    cpu, clock = map(float, said.split())
    return cpu, clock


def session_ms(folder: Path, *plugin: str) -> tuple[float, float]:
    """A whole pytest session: ms of the processor, and of the clock."""
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin]
    clock, cpu = time.perf_counter(), _of_children()
    subprocess.run(command, cwd=folder, env=environment(), capture_output=True, check=True)
    return (_of_children() - cpu) * 1000, (time.perf_counter() - clock) * 1000


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "test_one.py").write_text("def test_one(): pass\n")
        without, with_it = [], []
        for _ in range(RUNS):
            without.append(session_ms(folder))
            with_it.append(session_ms(folder, "-p", "splitbrain.pytest_plugin"))
    print(f"{'':24}{'processor':>12}{'clock, least':>14}")
    for what, seen in (
        ("import of the plugin", [imported_ms() for _ in range(RUNS)]),
        ("session without it", without),
        ("session with it", with_it),
    ):
        cpu, clock = statistics.median(c for c, _ in seen), min(c for _, c in seen)
        print(f"{what:24}{cpu:9.1f} ms{clock:11.1f} ms")
    print(f"the import may take {BOUND_MS:g} ms")


if __name__ == "__main__":
    main()
