"""Which operations have to succeed for a run to mean something."""

from harness.core.generator import op
from harness.core.generators import ops
from harness.core.workload import Workload


def made(**more: object) -> Workload:
    return Workload(name="x", generator=ops(op("add")), checkers={}, **more)  # type: ignore[arg-type]  # handed through


def test_key_operations_are_words_of_the_history() -> None:
    methods, calls = frozenset({"set_add", "noop"}), {"add": "set_add"}
    assert made(needs=methods, calls=calls).must_succeed == {"add", "noop"}
    assert made(needs=methods, calls=calls, key_ops=frozenset({"add"})).must_succeed == {"add"}
