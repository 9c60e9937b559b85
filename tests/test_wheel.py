"""The wheel, in a clean environment with no Go on PATH, judges a history."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
EVENTS = [
    (0, "invoke", "write", 5),
    (0, "ok", "write", 5),
    (1, "invoke", "read", None),
    (1, "ok", "read", None),
]


def run(*argv: object, cwd: Path, **more: object) -> subprocess.CompletedProcess[str]:
    command = [str(a) for a in argv]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload, no-any-return]  # keyword arguments handed through


def test_the_wheel_works_where_there_is_no_go(tmp_path: Path) -> None:
    built = run(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", cwd=ROOT
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").iterdir()
    assert wheel.name.startswith("splitbrain-")
    assert "-py3-none-" in wheel.name
    assert run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path).returncode == 0
    installed = run(tmp_path / "venv/bin/pip", "install", "-q", wheel, cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr

    lines = [
        json.dumps({"index": i, "time": i, "process": p, "type": t, "f": f, "value": v})
        for i, (p, t, f, v) in enumerate(EVENTS)
    ]
    (tmp_path / "history.jsonl").write_text("\n".join(lines) + "\n")
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = run(tmp_path / "venv/bin/splitbrain", "check", "history.jsonl", "--json", cwd=tmp_path, env=env)
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    (tmp_path / "mine").mkdir()
    made = run(tmp_path / "venv/bin/splitbrain", "new", "workload", "bank", cwd=tmp_path / "mine", env=env)
    assert made.returncode == 0, made.stderr
    assert found["verdict"] == "invalid"
    assert "returned null" in found["checks"]["linearizable"]["anomalies"][0]["explanation"]
