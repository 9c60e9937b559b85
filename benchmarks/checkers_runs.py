"""Checkers of locks, leases and whole runs on large histories: seconds and peak memory.

    python -m benchmarks.checkers_runs [--ops 1000000] [--clients 10]

A correct service under saturated clients, its history written to a file; each checker reads it in a
process of its own, at a quarter, half and all of the operations, so that growth shows. Reading alone
(`history`) is measured beside them. Every verdict must be valid.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

_checks: Final = {
    "history": "lock",  # what is measured, and on which history
    "lock": "lock",
    "operations": "lock",
    "lease": "lease",
}
_encode: Final = msgspec.json.Encoder().encode


class _Service:
    """Takes effect at completion, one after the other, so whatever it answers is right."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.count = 0
        self.holder: str | None = None
        self.token = 0
        self.value: Any = None
        self.attached: dict[str, str] = {}

    def do(self, f: str, key: str, value: Any) -> tuple[str, Any, dict[str, Any]]:
        match f:
            case "grant":
                self.count += 1
                return "ok", f"L{self.count}", {"ttl_s": value}
            case "acquire":
                if self.holder is not None:
                    return "fail", value, {}
                self.holder, self.token = value, self.token + 1
                return "ok", self.token, {"token": self.token}
            case "write":
                self.value = value[0]
                return "ok", value, {}
            case "release":
                self.holder = None if self.holder == value else self.holder
                return "ok", value, {}
            case "attach":
                self.attached[key] = value
                return "ok", value, {}
            case "revoke":
                self.attached.pop(key, None)
                return "ok", value, {}
            case "keepalive":
                return "ok", value, {"ttl_s": 10_000}
        return "ok", self.attached.get(key) if key[0] == "g" else self.value, {}


def _locker(service: _Service) -> Iterator[Any]:
    while True:
        lease = (yield "grant", "l0", 10_000)[1]
        how, token, _ = yield "acquire", "l0", lease
        while how != "ok":
            how, token, _ = yield "acquire", "l0", lease
        for _ in range(5):
            yield "read", "l0", None
            service.count += 1
            yield "write", "l0", [service.count, token]
        yield "release", "l0", lease


def _lessee(service: _Service) -> Iterator[Any]:
    while True:
        service.count += 1
        key = f"g{service.count}"
        lease = (yield "grant", key, 10_000)[1]
        yield "attach", key, lease
        for _ in range(3):
            yield "keepalive", key, lease
            yield "read", key if service.rng.random() < 0.5 else f"g{max(1, service.count - 5)}", None
        yield "revoke", key, lease


def _write(path: Path, workload: str, ops: int, clients: int) -> None:
    """A history of `ops` operations; whose turn it is to ask or be answered is drawn."""
    service = _Service(7)
    kind = _locker if workload == "lock" else _lessee
    scripts = [kind(service) for _ in range(clients)]
    asked: list[Any] = [next(s) for s in scripts]
    open_now = [False] * clients
    begun = index = 0
    with path.open("wb") as out:
        while begun < ops or any(open_now):
            c = int(service.rng.random() * clients)
            f, key, value = asked[c]
            event: dict[str, Any] = {
                "index": index,
                "time": index * 1000,
                "process": c,
                "type": "invoke",
                "f": f,
            }
            event |= {"value": value, "key": key, "node": f"n{c % 3 + 1}"}
            if not open_now[c]:
                if begun >= ops:
                    continue
                begun += 1
            else:
                how, result, ext = service.do(f, key, value)
                event |= {"type": how, "value": result} | ({"ext": ext} if ext else {})
                asked[c] = scripts[c].send((how, result, ext))  # type: ignore[attr-defined]
            open_now[c] = not open_now[c]
            out.write(_encode(event) + b"\n")
            index += 1


def _measure(name: str, path: Path) -> None:
    """In a process of its own: seconds of reading, of checking, peak MB, verdict."""
    from harness.core.checker import CheckContext
    from harness.core.history import read_history
    from splitbrain import registry

    begin = time.monotonic()
    history = read_history(path)
    read_s = time.monotonic() - begin
    begin = time.monotonic()
    verdict = "valid"
    if name != "history":
        checker = registry.create("checkers", name, {})
        verdict = checker.check(CheckContext(history_path=path, history=lambda: history)).verdict
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{read_s:.2f} {time.monotonic() - begin:.2f} {peak_mb:.0f} {verdict}")


def main() -> None:
    """Print a line each; exit 1 if a verdict is not valid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ops", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--one", nargs=2, metavar=("CHECKER", "FILE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        _measure(args.one[0], Path(args.one[1]))
        return
    good = True
    print(f"{'checker':12}{'operations':>12}{'read s':>8}{'check s':>9}{'peak MB':>9}  verdict")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "history.jsonl"
        for workload in ("lock", "lease"):
            for ops in (args.ops // 4, args.ops // 2, args.ops):
                _write(path, workload, ops, args.clients)
                for name in (n for n, w in _checks.items() if w == workload):
                    argv = [sys.executable, "-m", "benchmarks.checkers_runs", "--one", name, str(path)]
                    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
                    print(f"{name:12}{ops:>12}{said[0]:>8}{said[1]:>9}{said[2]:>9}  {said[3]}")
                    good &= said[3] == "valid"
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
