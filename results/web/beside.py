"""What a served report may ask for: the values that stand beside it, a part at a time, and nothing else.

A report runs in a sandbox without an origin, so that no cookie goes with what it asks for. With the page it is handed
an address that is signed with a key of this server's: whoever got the page may have its values, and whoever has not, a
page of somebody else's without an origin included, cannot make up the signature. The answer allows itself to be read
without an origin; it is data, in no form that a browser would run.
"""

from __future__ import annotations

import hmac
import json
import secrets
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from results.report.values import MOST_BYTES, NAME

READABLE: Final = {"Access-Control-Allow-Origin": "null"}  # as a page without an origin names itself


class Beside:
    """The signatures of one server."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def tail(self, parts: Sequence[str]) -> bytes:
        """What is sent behind the report at `parts`, for its script: where the values beside it are."""
        beside = [*parts[:-1], NAME]
        address = "/values/" + "/".join(quote(part, safe="", errors="surrogateescape") for part in beside)
        told = json.dumps({"values": f"{address}?sign={self._sign(beside)}"})
        return b'<script type="application/json" id="served">%s</script>\n' % told.encode()

    def right(self, sign: str, parts: Sequence[str]) -> bool:
        """Whether this server has signed the address of these values."""
        return hmac.compare_digest(sign.encode("utf-8", "replace"), self._sign(parts).encode())

    def _sign(self, parts: Sequence[str]) -> str:
        text = "\0".join(parts).encode("utf-8", "surrogateescape")
        return hmac.new(self._key, text, "sha256").hexdigest()


def stretch(start: str, past: str, size: int) -> tuple[int, int] | None:
    """First byte and number of bytes; None: no stretch of a file of `size` bytes, or too long a one."""
    if not all(text.isascii() and text.isdigit() and len(text) < 20 for text in (start, past)):
        return None
    first, end = int(start), int(past)
    return (first, end - first) if first < end <= size and end - first <= MOST_BYTES else None
