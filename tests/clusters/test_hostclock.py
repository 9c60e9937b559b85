"""A host's own clock, on a clock of the test's: no real one is ever set here."""

from clusters.agent.hostclock import HostClock, refusal_of

SECOND = 1_000_000_000


class Fake:
    def __init__(self) -> None:
        self.true, self.up = 1_700_000_000 * SECOND, 5_000 * SECOND
        self.shown = self.true

    def pass_(self, ns: int) -> None:
        self.up += ns
        self.shown += ns
        self.true += ns

    def settle(self, ns: int) -> None:
        self.shown = ns


def test_the_clock_jumps_and_is_right_again_however_long_that_took() -> None:
    fake = Fake()
    clock = HostClock(lambda: fake.shown, lambda: fake.up, fake.settle)
    armed: list[tuple[str, ...]] = []
    clock.shift("f1", 600 * SECOND, lambda: armed.append((*clock.undo, str(fake.shown == fake.true))))
    assert armed == [("clock 1699995000.000000", "True")], "the switch knows before anything is done"
    assert clock.moved() == 600 * SECOND
    assert fake.shown == fake.true + 600 * SECOND
    fake.pass_(37 * SECOND)
    clock.shift("f2", -2 * SECOND, lambda: None)
    assert fake.shown == fake.true - 2 * SECOND
    assert clock.unshift("f2")
    assert fake.shown == fake.true + 600 * SECOND
    assert clock.unshift("f1")
    assert fake.shown == fake.true
    assert (clock.moved(), clock.undo, clock.unshift("f1")) == (0, (), False)


def test_what_the_time_service_did_before_is_kept() -> None:
    fake = Fake()
    clock = HostClock(lambda: fake.shown, lambda: fake.up, fake.settle)
    fake.true += 3
    fake.shown += 3
    clock.shift("f1", SECOND, lambda: None)
    clock.unshift("f1")
    assert fake.shown == fake.true


def test_a_host_can_only_jump() -> None:
    jump = {"offset_ns": 1, "rate": 1.0, "half_ns": 0, "swing_ns": 0, "monotonic": False}
    assert refusal_of(jump) is None
    for more in ({"rate": 0.5}, {"half_ns": 5, "swing_ns": 1}, {"monotonic": True}):
        assert "can only jump" in str(refusal_of({**jump, **more}))
