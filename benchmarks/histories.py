"""Seeded histories of registers and maps under saturated clients, for the benchmarks of checking.

Every client always has an operation open: it is called, takes effect, and completes, and which client
moves next is drawn. So the history is valid, unless something is planted. Written as lines in place,
since a million operations are asked for.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What a history is like.

    `domain` 0 writes a fresh value each time, else values are drawn from 0 to `domain` - 1. `info` is the
    share of operations whose outcome is unknown; half of them took effect. `cas` and `read` are shares
    of operations; a failed cas leaves a `mismatch`, or is left out where `mismatch` is false. About
    `missing` of the cas expect a value that is not there any more.
    """

    ops: int
    clients: int
    domain: int = 0
    info: float = 0.0
    read: float = 1 / 3
    cas: float = 1 / 3
    mismatch: bool = True
    missing: float = 1.0
    keys: int = 1
    plant: str = ""  # "stale": a read near the end; "flip": two overlapping writes are read as a, b, a
    seed: int = 1


_value: Final = 0


def write(shape: Shape, path: Path) -> float:
    """Write the history, and return the mean number of operations open when one is called."""
    total = 0
    calls = 0
    open_now = 0
    with path.open("w") as out:
        for index, line in enumerate(lines(shape)):
            out.write(f'{{"index":{index},"time":{index * 1000},{line}}}\n')
            if '"type":"invoke"' in line:
                total += open_now
                calls += 1
                open_now += 1
            elif '"type":"info"' not in line:
                open_now -= 1
            else:
                open_now -= 1
    return total / max(1, calls)


def lines(shape: Shape) -> Iterator[str]:
    """The events without index and time."""
    rng = random.Random(shape.seed)
    draw = rng.random
    values: list[int | None] = [None] * shape.keys
    ever: list[list[int]] = [[] for _ in range(shape.keys)]
    fresh = 0
    # A client's operation: [process, stage, f, value, expected, answer, key]; stage 0 called, 1 in effect.
    clients: list[list] = [[p, 2, "", None, None, None, 0] for p in range(shape.clients)]
    processes = shape.clients
    started = 0
    flip_at = shape.ops - 200 if shape.plant == "flip" else -1
    busy = 0
    again: list | None = None  # who has just completed calls at once
    while started < shape.ops or busy:
        client, again = again or clients[int(draw() * shape.clients)], None
        stage = client[1]
        key = client[6]
        of = f'"key":"k{key}"'
        if stage == 2:
            if started >= shape.ops:
                continue
            if started == flip_at:
                yield from _flip(processes, fresh + 10**6, of)
                processes += 3
                fresh += 2
                values[key] = None
                flip_at = -1
                value = fresh + 10**6 - 2
                values[key] = value
                continue
            key = client[6] = int(draw() * shape.keys) if shape.keys > 1 else 0
            started += 1
            busy += 1
            kind = draw()
            client[1] = 0
            if kind < shape.read:
                client[2], client[3] = "read", None
                asked = "null"
            else:
                if shape.domain:
                    fresh = int(draw() * shape.domain)
                else:
                    fresh += 1
                client[3] = fresh
                if kind < shape.read + shape.cas:
                    client[2] = "cas"
                    client[4] = values[key]
                    if shape.domain:
                        client[4] = int(draw() * shape.domain)
                    elif ever[key] and draw() < shape.missing:
                        client[4] = ever[key][-1 - int(draw() * min(len(ever[key]), 2 * shape.clients))]
                    asked = f"[{_json(client[4])},{fresh}]"
                else:
                    client[2] = "write"
                    asked = str(fresh)
            yield f'"process":{client[0]},"type":"invoke","f":"{client[2]}","value":{asked},"key":"k{key}"'
            continue
        f = client[2]
        if stage == 0:
            unknown = draw() < shape.info
            if not unknown or draw() < 0.5:
                if f == "read":
                    client[5] = values[key]
                elif f == "write":
                    values[key] = client[3]
                    ever[key].append(client[3])
                else:
                    client[5] = values[key] == client[4]
                    if client[5]:
                        values[key] = client[3]
                        ever[key].append(client[3])
                if len(ever[key]) > 10_000:
                    del ever[key][:9_000]
            client[1] = 3 if unknown else 1
            continue
        client[1] = 2
        busy -= 1
        again = client if started < shape.ops else None
        asked = _json(client[3]) if f != "cas" else f"[{_json(client[4])},{client[3]}]"
        if stage == 3:
            yield f'"process":{client[0]},"type":"info","f":"{f}","value":{asked},{of},"error":"timeout"'
            client[0] = processes
            processes += 1
        elif f == "read":
            yield f'"process":{client[0]},"type":"ok","f":"read","value":{_json(client[5])},{of}'
        elif f == "cas" and not client[5]:
            error = ',"error":"mismatch"' if shape.mismatch else ""
            yield f'"process":{client[0]},"type":"fail","f":"cas","value":{asked},{of}{error}'
        else:
            yield f'"process":{client[0]},"type":"ok","f":"{f}","value":{asked},{of}'
    if shape.plant == "stale":
        of = '"key":"k0"'
        yield f'"process":{processes},"type":"invoke","f":"read","value":null,{of}'
        yield f'"process":{processes},"type":"ok","f":"read","value":{ever[0][-2 * shape.clients]},{of}'


def _flip(process: int, value: int, of: str) -> Iterator[str]:
    """Two writes open at once, read as the first, the second and the first again."""
    a, b = value, value + 1
    for p, v in ((process, a), (process + 1, b)):
        yield f'"process":{p},"type":"invoke","f":"write","value":{v},{of}'
    for v in (a, b, a):
        yield f'"process":{process + 2},"type":"invoke","f":"read","value":null,{of}'
        yield f'"process":{process + 2},"type":"ok","f":"read","value":{v},{of}'
    for p, v in ((process, a), (process + 1, b)):
        yield f'"process":{p},"type":"ok","f":"write","value":{v},{of}'


def _json(value: int | None) -> str:
    return "null" if value is None else str(value)


def write_maps(
    path: Path, *, ops: int, clients: int, info: float = 0.0, maps: int = 1, seed: int = 1
) -> None:
    """A history of maps (model `kv`) with transactions of one to three entries and reads of the whole; valid."""
    rng = random.Random(seed)
    states: list[dict[str, int]] = [{} for _ in range(maps)]
    # A client's operation: [process, map, f, asked, outcome once in effect, (type, answer)]; f "" for none.
    working: list[list] = [[p, 0, "", None, None] for p in range(clients)]
    fresh, started, index = clients, 0, 0
    encode = msgspec.json.Encoder().encode
    with path.open("wb") as out:

        def event(client: list, kind: str, value: object, **more: str) -> None:
            nonlocal index
            line = {"index": index, "time": index * 1000, "process": client[0], "type": kind, "f": client[2]}
            out.write(encode({**line, "key": f"m{client[1]}", "value": value, **more}) + b"\n")
            index += 1

        while started < ops or any(client[2] for client in working):
            client = working[int(rng.random() * clients)]
            if not client[2]:
                if started < ops:
                    client[1] = int(rng.random() * maps)
                    client[2], client[3] = _ask(rng, states[client[1]], started)
                    event(client, "invoke", client[3])
                    started += 1
                continue
            if client[4] is None:
                unknown = rng.random() < info
                if not unknown or rng.random() < 0.5:
                    client[4] = _act(states[client[1]], client[3])
                if unknown:
                    client[4] = ("info", client[3])
                continue
            kind, answer = client[4]
            event(client, kind, answer, **({"error": "mismatch"} if kind == "fail" else {}))
            client[2], client[4] = "", None
            if kind == "info":
                client[0], fresh = fresh, fresh + 1


def _ask(rng: random.Random, state: dict[str, int], number: int) -> tuple[str, list | None]:
    if rng.random() < 0.2:
        return "read", None
    steps: list[list] = []
    for place, entry in enumerate(rng.sample("abc", 1 + int(rng.random() * 3))):
        kind, new = rng.random(), 3 * number + place
        if kind < 0.5:
            steps.append(["r", entry, None])
        elif kind < 0.8:
            steps.append(["w", entry, new])
        else:
            steps.append(["cas", entry, state.get(entry), new])
    return "txn", steps


def _act(state: dict[str, int], asked: list | None) -> tuple[str, object]:
    if asked is None:
        return "ok", dict(state)
    if any(step[0] == "cas" and state.get(step[1]) != step[2] for step in asked):
        return "fail", asked
    answer = [["r", step[1], state.get(step[1])] if step[0] == "r" else step for step in asked]
    state.update({step[1]: step[-1] for step in asked if step[0] != "r"})
    return "ok", answer
