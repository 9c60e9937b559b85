"""The archive for a system's maintainers: complete, the same each time, and with no secret anywhere in it."""

import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from harness.core import secrets
from results.export import FORMS
from results.redaction import Redactor, secret_values
from results.report import payload as report_payload
from splitbrain.exporting import export
from splitbrain.runner import check, judge

KEPT = Path(__file__).resolve().parents[1] / "data" / "format-1"
(BUNDLE,) = (form for form in FORMS if form.name == "bundle")
PASSWORD, TOKEN, KEY = "hunter2-correct-horse", 'tok"en/with+signs', "/home/me/.ssh/id_ed25519"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "etcd-register" / "20261124T030625Z-3-fjegfk"
    shutil.copytree(KEPT, path)
    return path


def unpacked(run: Path, tmp_path: Path, name: str = "bundle") -> Path:
    out = tmp_path / f"{name}.tar.gz"
    assert export(run, BUNDLE, out) == out
    with tarfile.open(out) as tar:
        tar.extractall(tmp_path / name, filter="data")
    (inside,) = (tmp_path / name).iterdir()
    return inside


def violate(run: Path) -> dict[str, Any]:
    results = judge(run)
    shown = {"f": "read", "node": "n1", "process": 0, "start_ns": 5_000, "end_ns": 7_000}
    key = json.loads((run / "history.jsonl").read_text().splitlines()[0])["key"]
    anomaly = {"key": key, "kind": "stale-read", "explanation": "5 | <b> is gone", "nodes": ["n1"],
               "window": [{"invoke": 0, "complete": 1, **shown}], "assumed": [{"invoke": 2, **shown}]}  # fmt: skip
    results["checks"]["linearizable"] |= {"verdict": "invalid", "anomalies": [anomaly]}
    results |= {"verdict": "invalid", "reason": "linearizable: 5 is gone"}
    (run / "results.json").write_text(json.dumps(results))
    return results


def test_it_is_a_run_directory_and_explains_the_finding(run: Path, tmp_path: Path) -> None:
    results = violate(run)
    inside = unpacked(run, tmp_path)
    assert inside.name == "splitbrain-etcd-register-fjegfk"
    for line in (inside / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ", 1)
        assert hashlib.sha256((inside / name).read_bytes()).hexdigest() == digest
    text = (inside / "README.md").read_text()
    assert text.startswith("# etcd 3.6.16 · register: invalid\n\nlinearizable: 5 is gone\n")
    assert "5 \\| \\<b\\> is gone" in text
    assert results["command"] in text
    for digest in json.loads((run / "env.json").read_text())["install"]["sha256"].values():
        assert digest in text
    assert "assumed to have happened" in text
    history = (inside / "history.jsonl").read_text().splitlines()
    rows = [
        [int(n) for n in row.split(",")] for row in re.findall(r"^\| (\d+(?:, \d+)?) \|", text, re.MULTILINE)
    ]
    named = [json.loads(history[n - 1])["index"] for row in rows for n in row]
    window = [
        json.loads(line)["index"]
        for line in (inside / "windows/01-linearizable.jsonl").read_text().splitlines()
    ]
    assert set(window) == {0, 1, *named}
    of_key = [
        json.loads(line) for line in (inside / "windows/01-linearizable-key.jsonl").read_text().splitlines()
    ]
    assert len({event["key"] for event in of_key}) == 1
    assert len(of_key) > len(window)
    again = check(inside)
    assert (again["ops"], again["seed"]) == (results["ops"], 3)


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    violate(run)
    first, second = tmp_path / "1.tar.gz", tmp_path / "2.tar.gz"
    export(run, BUNDLE, first)
    for path in run.rglob("*"):
        os.utime(path, (1, 1))
    export(run, BUNDLE, second)
    assert first.read_bytes() == second.read_bytes()


def everything(path: Path) -> bytes:
    """All bytes of an archive's files, and what the report has packed in columns."""
    found = b""
    for file in path.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            found += content + str(file).encode()
            if file.name == "report.values":
                found += gzip.decompress(content)  # all its members
            for blob in re.findall(rb"[A-Za-z0-9+/=]{200,}", content):
                try:
                    raw = base64.b64decode(blob)
                    found += gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
                except ValueError:
                    continue
    return found


@pytest.mark.parametrize("values", ["in the page", "beside it"])
def test_no_secret_is_anywhere_in_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: str
) -> None:
    if values == "beside it":
        monkeypatch.setattr(report_payload, "LIMIT_BYTES", 0)
    monkeypatch.setenv("SPLITBRAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DEPLOY_TOKEN", TOKEN)
    spec = json.loads((run / "spec.json").read_text())
    spec["options"]["ssh"] = {"key": secrets.HIDDEN, "db_password": PASSWORD}
    (run / "spec.json").write_text(json.dumps(spec))
    secrets.keep("fjegfk", {"ssh": {"key": KEY}})
    evil = f"auth with {PASSWORD} failed at https://me:pw12345@host, Authorization: Bearer abcdefghijkl, {TOKEN}, {KEY}"
    journal = (run / "journal.jsonl").read_text().splitlines()
    for n, line in enumerate(journal):
        event = json.loads(line)
        if event.get("type") in ("fail", "info") and event.get("process") != "nemesis":
            journal[n] = json.dumps(event | {"error": evil, "value": PASSWORD})
        elif event.get("f") == "write":
            journal[n] = json.dumps(event | {"ext": {"token": 33, "cookie": TOKEN}})
    (run / "journal.jsonl").write_text("".join(f"{line}\n" for line in journal))
    violate(run)
    (run / "logs" / "n1").mkdir(parents=True, exist_ok=True)
    pem = (
        "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0LWtleS1tYXRlcmlhbA\n-----END OPENSSH PRIVATE KEY-----\n"
    )
    (run / "logs" / "n1" / "etcd.log").write_text(
        f"{evil}\n{pem}--root-password unseen9 done\nxyz \xff\n", "latin-1"
    )
    (run / "data").mkdir()
    (run / "data" / "db").write_bytes(b"\0" + PASSWORD.encode())
    inside = unpacked(run, tmp_path)
    assert (inside / "report.values").exists() == (values == "beside it")
    found = everything(inside)
    for secret in (PASSWORD, TOKEN, KEY, "pw12345", "abcdefghijkl", "c2VjcmV0LWtleS1tYXRlcmlhbA", "unseen9"):
        spellings = (secret, json.dumps(secret)[1:-1], base64.b64encode(secret.encode()).decode())
        assert not [s for s in spellings if s.encode() in found], secret
    log = (inside / "logs" / "n1" / "etcd.log").read_bytes()
    assert log.endswith(b"--root-password [redacted] done\nxyz \xff\n")
    assert b'"token": 33' in (inside / "history.jsonl").read_bytes()
    text = (inside / "README.md").read_text()
    assert "Secrets were taken out of" in text
    assert "data/: it is no text" in text
    assert check(inside)["ops"] == check(run)["ops"]


@pytest.mark.parametrize("how", ["valid", "torn", "only-a-spec", "no-spec"])
def test_of_runs_that_ended_in_any_way(run: Path, tmp_path: Path, how: str) -> None:
    if how == "valid":
        (run / "results.json").write_text(json.dumps(judge(run) | {"verdict": "valid"}))
    else:
        (run / "results.json").unlink()
    if how == "torn":
        journal = run / "journal.jsonl"
        journal.write_bytes(journal.read_bytes()[:-300])
    if how == "only-a-spec":
        for path in run.iterdir():
            if path.name != "spec.json":
                path.unlink()
    if how == "no-spec":
        (run / "spec.json").write_text("{")
    inside = unpacked(run, tmp_path)
    assert "**No violation is claimed.**" in (inside / "README.md").read_text()
    assert (inside / "report.html").stat().st_size
    assert (inside / "history.jsonl").exists() == (how != "only-a-spec")


def test_the_script_says_how_to_install_what_it_needs(run: Path, tmp_path: Path) -> None:
    script = unpacked(run, tmp_path) / "reproduce.sh"
    done = subprocess.run(
        [script], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "pip install 'splitbrain==0.1.0'" in done.stderr
    said = tmp_path / "bin" / "splitbrain"
    said.parent.mkdir()
    said.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    said.chmod(0o755)
    env = {"PATH": f"{said.parent}:/usr/bin:/bin"}
    done = subprocess.run([script, "5", "--exact"], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["replay", str(script.parent), "--times", "5", "--exact"]


@pytest.mark.parametrize(
    ("line", "clean"),
    [
        ('{"password":"a","n":1}', '{"password":"[redacted]","n":1}'),
        (r'"{\"api_key\":\"abc\"}"', r'"{\"api_key\":\"[redacted]\"}"'),
        ("PGPASSWORD=abc psql", "PGPASSWORD=[redacted] psql"),
        ("requirepass: abc", "requirepass: [redacted]"),
        ("token=33, token: null, secret=true", "token=33, token: null, secret=true"),
        ("the token was lost", "the token was lost"),
        ("redis://:pw@host/0", "redis://[redacted]@host/0"),
        ("password=[redacted]", "password=[redacted]"),
    ],
)
def test_what_looks_like_a_secret(line: str, clean: str) -> None:
    assert Redactor().text(line) == clean


def test_values_of_what_is_called_like_a_secret() -> None:
    environment = {
        "GITHUB_TOKEN": "ghs_12345678",
        "PWD": "/a/long/folder",
        "API_KEY": "short",
        "HOME": "/root/home",
    }
    assert secret_values({"ssh": {"password": "p", "port": "22", "token": 5}}, environment) == {
        "p",
        "ghs_12345678",
    }
