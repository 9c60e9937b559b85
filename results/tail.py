"""Files of lines that grow, followed by whoever reads a run directory while the run goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final

import msgspec

from results.rundir import open_plain

_block: Final = 1 << 20


class Tail:
    """Whole lines as they are appended to a file that need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._rest = b""

    def blocks(self) -> Iterator[bytes]:
        """What was appended since the last call, in blocks of whole lines."""
        if self._file is None:
            try:
                self._file = open_plain(self.path)
            except OSError:
                return
        while data := self._file.read(_block):
            cut = data.rfind(b"\n") + 1
            if not cut:
                self._rest += data
                continue
            yield self._rest + data[:cut]
            self._rest = data[cut:]

    def objects(self) -> Iterator[dict[str, Any]]:
        """The same, parsed; what is no JSON object is left to the readers that judge it."""
        for block in self.blocks():
            for line in block.splitlines():
                value = json_object(line)
                if value is not None:
                    yield value

    @property
    def rest(self) -> bytes:
        """What follows the last whole line."""
        return self._rest

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def json_object(line: bytes) -> dict[str, Any] | None:
    """The object on a line, or None for what is none."""
    try:
        value = msgspec.json.decode(line)
    except msgspec.DecodeError:
        return None
    return value if isinstance(value, dict) else None
