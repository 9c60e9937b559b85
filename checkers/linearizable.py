"""Is there, for each object, one order of its operations that fits both their answers and real time?

Linearizability (Herlihy and Wing 1990) is local, so every key is decided by itself. The deciding is
done by the engine, a program of ours that reads the history file by itself; here its limits are
held from outside, its lines are turned into a verdict, and violations into sentences. What was
decided before the engine ended, in whatever way, stays decided; every other key is unknown.

A `valid` is not taken from the engine on trust: its orders are verified once more by `checkers.witness`, up to
`VERIFIED_OPS` operations and whenever they are asked for. A model written in Python is compiled to a table for
the engine, or searched in Python where its states are too many.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from checkers.engine_answers import Answers
from checkers.engine_binary import engine_path
from checkers.engine_process import Ending, run_engine
from checkers.models import MODELS, Model
from checkers.models.compile import compile_table, operations, write_table
from checkers.models.in_python import decide
from checkers.witness import check_witnesses, sentence
from harness.core.checker import CheckContext, Result
from harness.core.descriptor import Descriptor, load
from harness.core.errors import HistoryError, UsageError, unknown_name
from harness.core.history import History, read_history
from harness.core.op import Op
from harness.core.options import Option

VERIFIED_OPS: Final = 100_000
_options: Final = (
    Option(
        name="model",
        default="cas-register",
        summary=f"what an object is: {', '.join(MODELS)}, or module:attr of a model of your own",
    ),
    Option(name="time_s", default=60.0, summary="time limit of the check, in seconds", least=0.1, most=1e6),
    Option(
        name="key_time_s", default=20.0, summary="time limit for each key, in seconds", least=0.1, most=1e6
    ),
    Option(
        name="memory_mb", default=4096, summary="memory limit of the check, in MiB", least=32, most=1 << 20
    ),
    Option(
        name="key_memory_mb",
        default=0,
        summary="memory limit for each key, in MiB; 0: only that of the check",
        least=0,
        most=1 << 20,
    ),
    Option(name="witness", default=None, summary="write the orders found to this file, and verify them"),
)
LINEARIZABLE: Final = Descriptor(
    name="linearizable",
    summary="each object behaves as if every operation took effect at one moment while it ran",
    target="checkers.linearizable:Linearizable",
    options=_options,
)


def find_model(name: str) -> Model:
    """A model of ours by name, or one of the user's as `module:attr` (a class or an instance).

    Raises: UsageError for one that there is not, or that is none.
    """
    if ":" not in name:
        if name not in MODELS:
            raise unknown_name("model", name, MODELS)
        return MODELS[name]
    try:
        found = load(name)
    except (ImportError, AttributeError) as e:
        raise UsageError(f"model {name!r} cannot be loaded: {e}; expected module:attr") from None
    model = found() if isinstance(found, type) else found
    if not isinstance(model, Model):
        raise UsageError(
            f"model {name!r} is a {type(model).__name__}; expected name, summary, fs, initial and"
            " step(state, call), as in checkers/models/model.py"
        )
    return model


class Linearizable:
    """The checker; see the options of `LINEARIZABLE`. A limit that is not given is the context's."""

    name = "linearizable"

    def __init__(self, options: Mapping[str, Any] | None = None, *, model: Model | None = None) -> None:
        """`model` takes the place of the option.

        Raises: UsageError for an option that does not exist, a value out of range, a model that is none.
        """
        known = {o.name: o for o in _options}
        self.options: dict[str, Any] = {}
        for name, value in (options or {}).items():
            if name not in known:
                raise unknown_name("option", name, known)
            self.options[name] = known[name].parse(value)
        self.model = model or find_model(self.options.get("model", "cas-register"))

    def check(self, ctx: CheckContext) -> Result:
        """Decide every key of `ctx.history_path`.

        Raises: HistoryError for a line that breaks the format or that the model cannot take;
        UsageError for a file that cannot be read; ArtifactError where there is no engine.
        """
        began = time.monotonic()
        time_s = float(self.options.get("time_s", ctx.time_s))
        key_time_s = float(self.options.get("key_time_s", min(20.0, time_s)))
        memory_mb = int(self.options.get("memory_mb", ctx.memory_mb))
        key_memory_mb = int(self.options.get("key_memory_mb", 0))
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="splitbrain-")))
            argv = [str(engine_path()), "linearizable"]
            if self.model is MODELS.get(self.model.name):
                argv += ["--model", self.model.name]
            else:
                table = scratch / "table.json"
                if not self._tabulate(ctx.history(), table):
                    return decide(ctx, self.model, time_s=time_s, key_time_s=key_time_s)
                argv += ["--table", str(table)]
            argv += ["--time-s", f"{time_s:g}", "--key-time-s", f"{key_time_s:g}"]
            argv += ["--memory-mb", str(memory_mb), "--key-memory-mb", str(key_memory_mb)]
            given = self.options.get("witness")
            witness = Path(given) if given else scratch / "witness.jsonl"
            argv += ["--witness", str(witness), "--witness-most", "0" if given else str(VERIFIED_OPS)]
            argv += ["--", str(ctx.history_path)]
            answers = Answers(ctx)
            try:
                ending = run_engine(argv, answers.take, time_s=time_s, memory_mb=memory_mb)
            except OSError as e:
                ending = Ending(
                    cause="exit", status=-1, talk=f"{argv[0]} cannot be started: {e.strerror or e}"
                )
            if answers.error is not None and ending.cause == "exit":
                _refuse(ctx.history_path, answers.error)
            limits = {
                "time": ("time_s", time_s),
                "key-time": ("key_time_s", key_time_s),
                "memory": ("memory_mb", memory_mb),
                "key-memory": ("key_memory_mb", key_memory_mb),
            }
            result = answers.result(self.model, ending, limits, time.monotonic() - began)
            if witness.is_file() and ending.cause == "exit" and ending.status == 0:
                result = self._verified(ctx, result, answers.ordered(), witness, asked=bool(given))
        return result

    def _tabulate(self, history: History, path: Path) -> bool:
        """Write the model as a table; False where it has none."""
        for at in history.invocations().tolist():
            if (f := history.ops[at].f) not in self.model.fs:
                wanted = ", ".join(sorted(self.model.fs))
                raise HistoryError(
                    history.source,
                    at + 1,
                    f"f is {f!r}; expected one of {wanted}, which are the operations of the model {self.model.name}",
                )
        table = None
        if not getattr(self.model, "by_process", False):
            steps = max(map(len, history.by_key().values()), default=0)
            table = compile_table(self.model, operations(history), steps)
        if table is not None:
            write_table(table, path)
        return table is not None

    def _verified(
        self, ctx: CheckContext, result: Result, keys: list[Any], witness: Path, *, asked: bool
    ) -> Result:
        """The result once its orders were looked at: unknown where one of them is no witness."""
        began = time.monotonic()
        problems = check_witnesses(ctx.history(), witness, self.model, keys=keys)
        seconds = time.monotonic() - began
        told = {
            "keys": len(keys),
            "seconds": round(seconds, 3),
            "file": str(witness) if asked else None,
            "problems": problems[:100],
        }
        changes: dict[str, Any] = {"detail": {**result.detail, "witness": told}}
        changes["seconds"] = result.seconds + seconds
        if problems and result.verdict == "valid":
            changes["verdict"] = "unknown"
            changes["reason"] = (
                f"the engine's order is no witness: {sentence(problems)}; please report it with this history"
            )
        return msgspec.structs.replace(result, **changes)


def check_linearizable(
    history: Path | str | History | Iterable[Op],
    model: str | Model = "cas-register",
    *,
    time_s: float = 60.0,
    key_time_s: float = 20.0,
    memory_mb: int = 4096,
    witness: Path | None = None,
) -> Result:
    """Decide a history: a file's path, a `History`, or events in order. `model` is a name or a model.

    Limits are in seconds and MiB; a limit that is reached makes the verdict unknown. The orders found
    go to `witness`, one line a key.

    Raises: HistoryError for what breaks the format or the model; UsageError for what cannot be read.

    >>> check_linearizable("runs/latest/history.jsonl").verdict    # doctest: +SKIP
    'valid'
    """
    options: dict[str, Any] = {"time_s": time_s, "key_time_s": key_time_s, "memory_mb": memory_mb}
    if witness is not None:
        options["witness"] = str(witness)
    if isinstance(model, str):
        options["model"] = model
    checker = Linearizable(options, model=None if isinstance(model, str) else model)
    if isinstance(history, str | Path):
        path = Path(history)
        return checker.check(CheckContext(history_path=path, history=lambda: read_history(path)))
    events = history.ops if isinstance(history, History) else list(history)
    with tempfile.TemporaryDirectory(prefix="splitbrain-") as scratch:
        path = Path(scratch) / "history.jsonl"
        with path.open("wb") as out:
            for index, event in enumerate(events):
                numbered = event if event.index >= 0 else msgspec.structs.replace(event, index=index)
                out.write(msgspec.json.encode(numbered) + b"\n")
        return checker.check(CheckContext(history_path=path, history=lambda: read_history(path)))


def _refuse(path: Path, error: Mapping[str, Any]) -> None:
    problem = str(error["error"])
    if isinstance(error.get("line"), int):
        raise HistoryError(path, error["line"], problem)
    raise UsageError(f"cannot check {path}: {problem}")
