"""What locks and elections have in common: each client is granted a lease, tries to hold something by
it, and whoever does works for a while and lets go.

    grant -> take -> inside, one after the other -> hold -> let go -> rest -> grant ...

A refused client (somebody else holds it) waits a little and tries again with a fresh lease, and so does one of
whose operations an outcome is unknown: the server may hold its lease until that ends by itself. When an
operation inside fails, what is held is let go at once.

The course of the n-th attempt of a client (what it tries to hold, its value, whether it pauses, how
long it waits) is a function of the seed; how far an attempt comes is the system's to say.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from harness.core.generator import Answer, Context, Generator, Pending
from harness.core.generators import NS
from harness.core.op import Op
from harness.core.seeds import draw

_GRANT: Final = 0
_TAKE: Final = 1
_REFUSED: Final = -1  # a step beside the course: what a refused client asks before it waits


class Course(Struct, frozen=True, kw_only=True):
    """The words of a workload and its times in seconds. `inside` is what a holder does; `refused` what a client
    asks that was refused, or None. `pause_share` of the holders wait `pause_s` before the last of `inside`."""

    prefix: str  # of the keys
    objects: int  # how many there are to hold
    take: str
    inside: tuple[str, ...]
    let_go: str
    refused: str | None = None
    ttl_s: float
    hold_s: float
    retry_s: float
    pause_share: float = 0.0
    pause_s: float = 0.0


class Holder(Struct, frozen=True, gc=False):
    """One client's plan: its `attempt`, the `step` of the course that comes next, and not before `until` (ns).
    `lease` and `token` are what it was given."""

    course: Course
    seed: int
    attempt: int = 0
    step: int = _GRANT
    until: int = 0
    lease: Any = None
    token: Any = None

    def next(self, ctx: Context) -> Answer:
        if ctx.time < self.until:
            return Pending(self.until, event=False), self
        course = self.course
        f = self._words()[self.step] if self.step != _REFUSED else course.refused
        assert f is not None, "only who has something to ask is sent there"
        value: Any = None
        if self.step == _GRANT:
            value = course.ttl_s
        elif f in (course.take, course.let_go):
            value = self.lease
        elif f == "write":
            value = [self.attempt * ctx.threads + ctx.thread + 1, self.token]
        key = f"{course.prefix}{self._number(ctx) % course.objects}"
        return Op(-1, -1, -1, "invoke", f, value, key), self

    def update(self, ctx: Context, event: Op) -> Generator:
        """Only completions move it: a client has one operation at a time."""
        if event.type == "invoke":
            return self
        last = len(self._words()) - 1
        if event.type == "info" or self.step == _REFUSED or (event.type == "fail" and self.step == _GRANT):
            return self._anew(ctx)
        if event.type == "fail" and self.step == _TAKE:
            return self._anew(ctx) if self.course.refused is None else replace(self, step=_REFUSED)
        if self.step == last:
            return self._anew(ctx)
        if event.type == "fail":
            return replace(self, step=last)
        lease = event.value if self.step == _GRANT else self.lease
        token = event.value if self.step == _TAKE else self.token
        step = self.step + 1
        return replace(self, step=step, lease=lease, token=token, until=event.time + self._wait(ctx, step))

    def _words(self) -> tuple[str, ...]:
        return ("grant", self.course.take, *self.course.inside, self.course.let_go)

    def _wait(self, ctx: Context, step: int) -> int:
        """How long to wait before a step that follows a success, in ns."""
        course, last = self.course, len(self._words()) - 1
        if step == last:
            return round(course.hold_s * NS)
        pauses = (self._number(ctx) >> 16) % 1000 < course.pause_share * 1000
        return round(course.pause_s * NS) if pauses and step == last - 1 else 0

    def _anew(self, ctx: Context) -> Holder:
        """The next attempt, after 0 to twice `retry_s`."""
        most = max(1, round(2 * self.course.retry_s * NS))
        rest = (self._number(ctx) >> 32) * most >> 32
        return Holder(self.course, self.seed, self.attempt + 1, _GRANT, ctx.time + rest)

    def _number(self, ctx: Context) -> int:
        """What decides the attempt."""
        return draw(self.seed, self.attempt * ctx.threads + ctx.thread)
