"""What operations asked and answered: in the page, or beside it where it would make the page too large.

`report.values`, written only then, is a row of gzip members, one for each `CHUNK_OPS` operations in the order of
their invocations. Unpacked, a member is

    8 bytes        the mark: the same in all members and in the page that belongs to them
    2 x n bytes    lengths of what each of its n operations asked, then of what each was answered
    the rest       the text of what they asked, then of the answers

and the page knows where each member begins, so that it asks for those few that somebody looks at. Values of failing
keys stand in the page in either case.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import numpy as np

from results.report.html import plain
from results.report.ops import Operations

NAME: Final = "report.values"
CHUNK_OPS: Final = 4096  # of which no value is longer than 255 bytes: a member is at most 2 MiB, unpacked
MOST_BYTES: Final = 4 * 1024 * 1024  # that a page may ask for at once
_mark_bytes: Final = 8
_step: Final = 65_536
_gzip: Final = 31  # zlib's word for gzip's frame, with no clock in it
_kept_chars: Final = 300


def within(ops: Operations, most: int) -> bytes | None:
    """All values, packed: lengths, what was asked, what was answered; None as soon as that exceeds `most` bytes."""
    packer, out, size = zlib.compressobj(6, wbits=_gzip), list[bytes](), 0
    for part in (*_lengths(ops, 0, len(ops)), *_texts(ops)):
        out.append(packer.compress(part))
        size += len(out[-1])
        if size > most:
            return None
    out.append(packer.flush())
    return b"".join(out) if size + len(out[-1]) <= most else None


def _texts(ops: Operations) -> Iterator[bytes]:
    for values in (ops.asked, ops.answered):
        for at in range(0, len(values), _step):
            yield b"".join(values[at : at + _step])


def _lengths(ops: Operations, start: int, past: int) -> list[bytes]:
    return [
        np.fromiter(map(len, values[start:past]), dtype=np.uint8, count=past - start).tobytes()
        for values in (ops.asked, ops.answered)
    ]


def write_beside(ops: Operations, file: BinaryIO) -> dict[str, Any]:
    """Write the members; what the page has to know of them: `name`, `mark`, `chunk` (operations of a member), `at`
    (where each begins, and where the last one ends).

    Raises: OSError.
    """
    digest = hashlib.sha256()
    for part in (*_lengths(ops, 0, len(ops)), *_texts(ops)):
        digest.update(part)
    mark = digest.digest()[:_mark_bytes]
    at = [0]
    for start in range(0, len(ops), CHUNK_OPS):
        past = min(start + CHUNK_OPS, len(ops))
        packer = zlib.compressobj(3, wbits=_gzip)
        member = b"".join(
            (mark, *_lengths(ops, start, past), *ops.asked[start:past], *ops.answered[start:past])
        )
        packed = packer.compress(member) + packer.flush()
        file.write(packed)
        at.append(at[-1] + len(packed))
    return {"name": NAME, "mark": mark.hex(), "chunk": CHUNK_OPS, "at": at}


def kept(ops: Operations) -> dict[str, list[Any]]:
    """The values that stand in a page which has the others beside it: of failing keys. `rows`, `asked`, `answered`."""
    rows = [op.row for op in ops.full]

    def texts(values: list[bytes]) -> list[str]:
        return [plain(values[row].decode("utf-8", "replace"), _kept_chars) for row in rows]

    return {"rows": rows, "asked": texts(ops.asked), "answered": texts(ops.answered)}
