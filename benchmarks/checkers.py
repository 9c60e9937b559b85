"""Seconds and memory of the checkers in Python, at a million operations and at a quarter of them.

    python -m benchmarks.checkers [--ops 1000000] [CHECKER ...]

Each history is valid: ten clients with one operation open each, reads and watches answered as a correct
store would, nothing planted; 2% of the mutations of unknown outcome, half of those having happened. Each
is judged in a process of its own: `read` is reading and validating the file, which all checks of a run
share, `check` what the checker takes after that (on a busy machine its CPU time says more), both with
their growth of the peak. The last column
compares the check's growth with that at a quarter of the operations: 4 is linear.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

Done = tuple[str, str, str, str, str]  # f, key, value asked, value answered, ext; all but f and key as JSON
CLIENTS = 10


def sets(ops: int, rng: random.Random) -> Iterator[Done | None]:
    """79 adds to one read, a new set every 1000 operations: a million operations read 6 million elements."""
    yield from _grow(ops, rng, "s", lambda added: "[" + ",".join(map(str, added)) + "]", every=80)


def counter(ops: int, rng: random.Random) -> Iterator[Done | None]:
    """Two adds to one read, a new counter every 1000 operations."""
    yield from _grow(ops, rng, "c", lambda added: str(len(added)), every=3)


def _grow(
    ops: int, rng: random.Random, name: str, answer: Callable[[list[int]], str], *, every: int
) -> Iterator[Done | None]:
    added: list[int] = []
    for n in range(ops):
        key = f'"{name}{n // 1000}"'
        if n % 1000 == 0:
            added = []
        if n % every == every - 1:
            yield "read", key, "null", answer(added), "{}"
            continue
        value = str(n) if name == "s" else "1"
        unknown = rng.random() < 0.02
        if not unknown or rng.random() < 0.5:
            added.append(n)
        yield ("?add" if unknown else "add"), key, value, value, "{}"


def unique_ids(ops: int, _rng: random.Random) -> Iterator[Done | None]:
    """Ids of 16 digits."""
    for n in range(ops):
        yield "generate", "null", "null", f'"{n:016x}"', "{}"


def revisions(ops: int, _rng: random.Random) -> Iterator[Done | None]:
    """Writes and reads in turn, all with a revision."""
    for n in range(ops):
        ext = f'{{"revision":{n // 2 + 2}}}'
        key = f'"k{n % 100}"'
        yield ("write", key, str(n), str(n), ext) if n % 2 == 0 else ("read", key, "null", str(n), ext)


def watch(ops: int, rng: random.Random) -> Iterator[Done | None]:
    """Nine puts of one to three subs to one watch that goes on where the one before it ended: each event
    is delivered once, 1.8 million of them at a million operations."""
    log: list[str] = []
    revision, start = 1, 1
    for n in range(ops):
        key = f'"w{n // 1000}"'
        if n % 1000 == 0:
            log, start = [], revision + 1
        if n % 10 == 9:
            answer = (
                f'{{"from":{start},"events":[{",".join(log)}],"next":{revision + 1},"bookmark":{revision}}}'
            )
            yield "watch", key, str(start), answer, "{}"
            log, start = [], revision + 1
            continue
        pairs = ",".join(f'["{sub}",{3 * n + i}]' for i, sub in enumerate("abc"[: n % 3 + 1]))
        unknown = rng.random() < 0.02
        if not unknown or rng.random() < 0.5:
            revision += 1
            log += [f'[{revision},"{sub}",{3 * n + i}]' for i, sub in enumerate("abc"[: n % 3 + 1])]
        yield ("?put" if unknown else "put"), key, f"[{pairs}]", f"[{pairs}]", f'{{"revision":{revision}}}'


HISTORIES: dict[str, Callable[[int, random.Random], Iterator[Done | None]]] = {
    "set": sets,
    "counter": counter,
    "unique-ids": unique_ids,
    "revisions": revisions,
    "watch": watch,
}


def write(name: str, ops: int, path: Path) -> None:
    """The history as a file. An operation takes effect when it is drawn; it was invoked when its client
    was free, nine operations earlier, so that ten are open at any time."""
    index = 0
    with path.open("w") as out:

        def line(process: int, kind: str, f: str, key: str, value: str, ext: str = "{}") -> None:
            nonlocal index
            more = "" if ext == "{}" else f',"ext":{ext}'
            error = ',"error":"timeout"' if kind == "info" else ""
            out.write(
                f'{{"index":{index},"time":{index * 1000},"process":{process},"type":"{kind}","f":"{f}",'
                f'"value":{value},"key":{key},"node":"n{process % 3 + 1}"{error}{more}}}\n'
            )
            index += 1

        process = list(range(CLIENTS))
        open_now: list[Done | None] = [None] * CLIENTS
        fresh = CLIENTS
        for n, done in enumerate(HISTORIES[name](ops, random.Random(1))):
            client = n % CLIENTS
            before = open_now[client]
            if before is not None:
                fresh = _complete(line, before, process, client, fresh)
            assert done is not None
            line(process[client], "invoke", done[0].removeprefix("?"), done[1], done[2])
            open_now[client] = done
        for client, last in enumerate(open_now):
            if last is not None:
                fresh = _complete(line, last, process, client, fresh)


def _complete(line: Callable[..., None], done: Done, process: list[int], client: int, fresh: int) -> int:
    f, key, asked, answered, ext = done
    if f.startswith("?"):
        line(process[client], "info", f[1:], key, asked)
        process[client] = fresh
        return fresh + 1
    line(process[client], "ok", f, key, answered, ext)
    return fresh


def judge(name: str, path: Path) -> dict[str, float | str]:
    """Read and check in this process."""
    from harness.core.checker import CheckContext
    from harness.core.history import read_history
    from splitbrain import registry

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    checker = registry.create("checkers", name, {o.name: o.default for o in _options(name)})
    empty, begin = peak(), time.perf_counter()
    history = read_history(path)
    read, read_s = peak(), time.perf_counter() - begin
    begin, busy = time.perf_counter(), time.process_time()
    result = checker.check(CheckContext(history_path=path, history=lambda: history))
    return {
        "verdict": result.verdict,
        "reason": result.reason,
        "read_s": read_s,
        "read_mb": read - empty,
        "check_s": time.perf_counter() - begin,
        "check_cpu_s": time.process_time() - busy,
        "check_mb": peak() - read,
    }


def _options(name: str) -> tuple:
    from splitbrain import registry

    return registry.describe("checkers", name).options


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("checkers", nargs="*", default=list(HISTORIES), metavar="CHECKER")
    parser.add_argument("--ops", type=int, default=1_000_000)
    parser.add_argument("--judge", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.judge:
        print(json.dumps(judge(args.checkers[0], args.judge)))
        return
    columns = "checker|operations|history|read|check|of it CPU|MB to read|MB to check|growth|verdict"
    table = Table(*columns.split("|"))
    for name in args.checkers:
        smaller = 0.0
        for ops in (args.ops // 4, args.ops):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "history.jsonl"
                write(name, ops, path)
                command = [sys.executable, "-m", "benchmarks.checkers", name, "--judge", str(path)]
                found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
                size = path.stat().st_size / 1e6
            table.add_row(
                name,
                f"{ops:,}",
                f"{size:.0f} MB",
                f"{found['read_s']:.1f} s",
                f"{found['check_s']:.2f} s",
                f"{found['check_cpu_s']:.2f} s",
                f"{found['read_mb']:.0f}",
                f"{found['check_mb']:.0f}",
                f"{found['check_mb'] / smaller:.1f}" if smaller else "",
                found["verdict"],
            )
            smaller = max(1.0, found["check_mb"])
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
