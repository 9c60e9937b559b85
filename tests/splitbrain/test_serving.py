"""`splitbrain serve` as it is typed: a process, its address, and its end."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

from splitbrain import alive
from splitbrain.cli import execute
from tests.results.synth import make_run
from tests.splitbrain.helpers import ROOT


@contextmanager
def serve(*args):
    command = [sys.executable, "-P", "-m", "splitbrain", "serve", "--port", "0", *map(str, args)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)}
    ) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def test_it_says_where_serves_and_ends_at_once_with_a_page_that_follows_a_run(tmp_path):
    run = make_run(tmp_path, "killed", ops=200)
    path = run.relative_to(tmp_path).as_posix()
    with serve("--runs", tmp_path) as (process, url), (run / "spec.json").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as a run that is alive holds it
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=20) as page:
            assert b"in progress" in page.read()
        with urllib.request.urlopen(f"{url}live/{path}", timeout=20) as stream:
            assert stream.readline() == b"event: state\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 130
        said = process.stderr.read()
        assert "Traceback" not in said
        assert "Ctrl-C ends it" in said


def test_elsewhere_it_draws_a_token_and_says_it(tmp_path):
    make_run(tmp_path, "valid", ops=200)
    with serve("--runs", tmp_path, "--bind", "0.0.0.0") as (process, url):
        where, _, token = url.partition("?token=")
        assert len(token) >= 32
        here = f"http://127.0.0.1:{where.rstrip('/').rpartition(':')[2]}/"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(here, timeout=20)
        request = urllib.request.Request(here, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=20) as page:
            assert b"a1b2c3" in page.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 130
        assert token not in process.stderr.read()


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--token", "short"], 2, "a token of 5 characters; expected 16 or more"),
        (["--token", "x" * 30 + ";"], 2, "letters, digits"),
        (["--port", "99999"], 2, "port 99999: expected 0 to 65535"),
        (["--bind", "192.0.2.1"], 4, "cannot listen on 192.0.2.1"),
        (["--runs", "pyproject.toml"], 2, "pyproject.toml is no folder"),
    ],
)
def test_what_cannot_be_is_said(args, code, said, capfd, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert execute(["serve", "--port", "0", *args]) == code
    assert said in capfd.readouterr().err


def test_a_port_in_use(tmp_path, capfd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert execute(["serve", "--runs", str(tmp_path), "--port", port]) == 4
        assert "Address already in use; choose another with --port" in capfd.readouterr().err


def test_whether_a_run_goes_on_is_asked_without_getting_in_its_way(tmp_path):
    run = make_run(tmp_path, "killed", ops=200)
    assert not alive.goes_on(run)
    (run / "journal.jsonl").rename(run / "aside")
    assert alive.goes_on(run)  # it may be about to take its lock: nobody tries it
    (run / "aside").rename(run / "journal.jsonl")
    held = alive._lock(run)
    assert alive.goes_on(run)
    os.close(held)
    assert not alive.goes_on(run)
    (run / "spec.json").unlink()
    assert not alive.goes_on(run)
