"""Long work shown on a terminal: one line on stderr, with what is being done and for how long.

A single large key gives no count to show, so the seconds go on by themselves. Nothing is drawn in the
first moments, and nothing is left behind.
"""

from __future__ import annotations

import itertools
import threading
import time
from types import TracebackType
from typing import Final, Self, TextIO

_wheel: Final = "|/-\\"


class Progress:
    """Draws from a thread of its own while it is entered. Without a stream, nothing."""

    def __init__(self, stream: TextIO | None, *, after_s: float = 1.0, every_s: float = 0.25) -> None:
        self._stream = stream
        self._after_s, self._every_s = after_s, every_s
        self._done = threading.Event()
        self._counts: dict[str, tuple[int, int]] = {}
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._draw, daemon=True, name="progress")

    def note(self, name: str, done: int, of: int) -> None:
        """A check has come so far; `of` is how many keys there are."""
        self._counts[name] = (done, of)

    def __enter__(self) -> Self:
        if self._stream is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._stream is not None:
            self._thread.join()

    def words(self) -> str:
        """What is going on: reading as long as no check has said how many keys there are."""
        counts = [(n, done, of) for n, (done, of) in list(self._counts.items()) if done < of]
        if not self._counts:
            return "reading"
        return ", ".join(f"{n}: checking, {done} of {of} keys" for n, done, of in counts) or "concluding"

    def _draw(self) -> None:
        assert self._stream is not None
        if self._done.wait(self._after_s):
            return
        for spoke in itertools.cycle(_wheel):
            self._stream.write(f"\r{spoke} {self.words()}, {time.monotonic() - self._began:.0f} s\x1b[K")
            self._stream.flush()
            if self._done.wait(self._every_s):
                break
        self._stream.write("\r\x1b[K")
        self._stream.flush()
