"""How long the browser of runs takes over 1,000 runs: index from nothing and brought up to date, and each page.

    python -m benchmarks.serve [RUNS]

The run directories are synthetic: spec, environment and results of the size that real ones have, no history.
"""

from __future__ import annotations

import http.client
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

from results import index
from results.web.server import Server, Site

VERDICTS = ("valid", "valid", "valid", "valid", "invalid", "unknown")
SYSTEMS = ("etcd", "zookeeper", "nats", "redis")
WORKLOADS = ("register", "queue", "lock")


def make(root: Path, count: int) -> None:
    for n in range(count):
        system, workload = SYSTEMS[n % 4], WORKLOADS[n % 3]
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1_767_225_600 + n * 2500))
        run = root / f"{system}-{workload}" / f"{started.replace('-', '').replace(':', '')}-{n}-r{n:05}"
        run.mkdir(parents=True)
        about = {
            "system": system,
            "workload": workload,
            "version": "1.2.3",
            "provider": "netns",
            "nodes": 3,
            "seed": n,
        }
        spec = {
            "format": 1,
            **about,
            "faults": ["partition", "kill"],
            "options": {f"o{k}": {"a": k} for k in range(40)},
        }
        detail = {"latency_ms": {"p50": 1.0 + n % 7, "p99": 20.0 + n % 31, "max": 400.0}}
        results = {
            "format": 1, **about, "verdict": VERDICTS[n % 6], "reason": f"what run {n} found", "started": started,
            "ops": 4000 + n, "seconds": 30.0, "faults": {"partition": {"applied": 3}, "kill": {"applied": 2}},
            "leadership": {"elections": n % 9}, "rate": {"achieved": 199.0},
            "checks": {"operations": {"verdict": "valid", "detail": detail}},
            "errors": [{"error": "timeout", "count": k, "f": "read"} for k in range(120)],
        }  # fmt: skip
        (run / "spec.json").write_text(json.dumps(spec))
        (run / "env.json").write_text("{}")
        (run / "results.json").write_text(json.dumps(results, indent=1))


def timed(name: str, what: object) -> None:
    began = time.perf_counter()
    note = what()  # type: ignore[operator]
    print(f"{name:44} {(time.perf_counter() - began) * 1000:8.1f} ms   {note or ''}")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, count)
        print(f"{count} runs")
        timed("index from the directories", lambda: f"{index.rebuild(root)} rows")
        timed("brought up to date, nothing changed", lambda: f"{index.refresh(root)} rows")
        changed = next(root.glob("etcd-*/*"))
        (changed / "results.json").write_text('{"verdict": "invalid"}')
        timed("brought up to date, one run changed", lambda: f"{index.refresh(root)} rows")
        server = Server(Site(root, lambda _: False), "127.0.0.1", 0, None)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1])

        def get(path: str) -> str:
            connection.request("GET", path)
            answer = connection.getresponse()
            return f"{answer.status}, {len(answer.read()) / 1000:.0f} kB"

        runs = ["/".join(path.parts[-2:]) for path in sorted(root.glob("redis-*/*"))[:2]]
        for path in (
            *("/", "/", "/?q=run+99+redis", "/?state=invalid&sort=p99_ms&page=2", "/trends"),
            *(f"/run/{runs[0]}", f"/compare?r={runs[0]}&r={runs[1]}"),
        ):
            timed(path[:44], lambda path=path: get(path))
        server.shutdown()


if __name__ == "__main__":
    main()
