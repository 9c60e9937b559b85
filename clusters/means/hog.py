"""A process that keeps a control group at its limit of memory, as `hog.py GROUP BYTES`.

It joins the group, and touches and lets go of memory without end: what it has let go of (MADV_FREE) is the
kernel's to take back at any time, so whoever else in the group needs a page gets one, but has to
wait until it was taken back. Should that not be enough, the kernel ends this process before any other.

Source: madvise(2), MADV_FREE; proc_pid_oom_score_adj(5).
"""

from __future__ import annotations

import mmap
import sys
import time
from pathlib import Path
from typing import Final, NoReturn

_CHUNK: Final = 256 << 10
_PAUSE_S: Final = 0.004  # about 60 MB/s, a few percent of a processor
_BEYOND: Final = 8 << 20  # more than there is room for


def main(group: Path, room: int) -> NoReturn:
    """Keep `room` bytes of the group taken. Ends only by a signal."""
    Path("/proc/self/oom_score_adj").write_text("1000")
    size = (room + _BEYOND) // _CHUNK * _CHUNK
    (group / "cgroup.procs").write_text("0")
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    while True:
        for start in range(0, size, _CHUNK):
            for page in range(start, start + _CHUNK, mmap.PAGESIZE):
                memory[page] = 1
            memory.madvise(mmap.MADV_FREE, start, _CHUNK)
            time.sleep(_PAUSE_S)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
