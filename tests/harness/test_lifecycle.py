"""What the life of a run does that shows in no single phase."""

from types import SimpleNamespace
from typing import Any

from harness import lifecycle


def test_what_ended_by_itself_is_started_again_and_told() -> None:
    alive = {"n1": True, "n2": False, "n3": True}
    started: list[str] = []

    def state(node: str) -> tuple[Any, ...]:
        return (SimpleNamespace(name="server", alive=alive[node], exit=None if alive[node] else 1),)

    run: Any = lifecycle._Run.__new__(lifecycle._Run)
    run.outcome = SimpleNamespace(notes=[])
    run.cluster = SimpleNamespace(
        nodes=[SimpleNamespace(name=name) for name in alive],
        process=SimpleNamespace(state=state, start=started.append),
    )
    run._supervise()
    assert started == ["n2"]
    (note,) = run.outcome.notes
    assert note.startswith("server on n2 had ended by itself with exit code 1, and was started again")
