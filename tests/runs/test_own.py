"""Real runs of systems that a file describes: examples/abd in Go, and all the ways in which one can fail to start."""

import shutil
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.runs.commands import ROOT, Done, lines, splitbrain

ABD = ROOT / "examples" / "abd"
ON = ("--opt", "register.cas=false", "--seed", "1")
FAULTS = ("--faults", "partition,kill,pause", "--time", "9s")


def run(*args: object, out: Path) -> Done:
    return splitbrain("run", *args, "--out", out, "--json")


@pytest.mark.netns
def test_a_replicated_service_in_go_with_a_client_in_go(out: Path) -> None:
    done = run("--system", ABD / "abd.toml", *ON, *FAULTS, out=out)
    results = done.results
    assert (done.code, results["verdict"]) == (0, "valid"), results["reason"]
    assert {fault: told["effective"] for fault, told in results["faults"].items()} == {
        "partition": 1,
        "kill": 1,
        "pause": 1,
    }
    assert results["holes"] == []
    assert f"--system {ABD / 'abd.toml'}" in results["command"]
    assert "file=" not in results["command"]
    run_dir = Path(results["run"])
    assert run_dir.parent.name == "abd-register"
    kinds = [e["kind"] for e in lines(run_dir / "events.jsonl")]
    assert kinds.count("start") == 4, "three nodes, one of them twice"
    assert (run_dir / "system.toml").read_text() == (ABD / "abd.toml").read_text()


@pytest.mark.netns
@pytest.mark.slow
def test_a_run_is_judged_again_when_its_file_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    assert splitbrain("new", "system", "mine", cwd=tmp_path).code == 0
    folder.mkdir()
    for path in tmp_path.glob("*mine*"):
        if path.is_file():
            path.rename(folder / path.name)
    (tmp_path / "spec.toml").write_text('system = "mine/mine.toml"\nfaults = []\ntime = "1s"\nseed = 1\n')
    done = run(tmp_path / "spec.toml", out=tmp_path / "runs")
    assert (done.code, done.results["verdict"]) == (0, "valid"), done.results["reason"]
    shutil.rmtree(folder)
    again = splitbrain("check", done.results["run"], "--json")
    assert (again.code, again.results["verdict"]) == (0, "valid")
    assert again.results["command"] == done.results["command"]


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.parametrize("system", ["abd", "abd-http"])
def test_known_bad_is_found(out: Path, system: str) -> None:
    done = run(
        "--system",
        ABD / f"{system}.toml",
        *ON,
        *FAULTS,
        "--opt",
        "sloppy=true",
        "--expect",
        "invalid",
        out=out,
    )
    assert (done.code, done.results["verdict"]) == (0, "invalid"), done.results["reason"]
    assert "positive control" in " ".join(done.results["caveats"])


@pytest.mark.netns
@pytest.mark.slow
def test_the_same_service_by_http_requests(out: Path) -> None:
    done = run("--system", ABD / "abd-http.toml", *ON, *FAULTS, out=out)
    assert (done.code, done.results["verdict"]) == (0, "valid"), done.results["reason"]


@pytest.mark.docker
@pytest.mark.slow
def test_on_docker(out: Path) -> None:
    done = run("--system", ABD / "abd.toml", *ON, *FAULTS, "--provider", "docker", out=out)
    assert (done.code, done.results["verdict"]) == (0, "valid"), done.results["reason"]


# What cannot begin, or does not go on.

SERVER = """
import socket, sys, time
print("the server has this to say", file=sys.stderr, flush=True)
{then}
listener = socket.create_server((sys.argv[1], 7000))
while True: listener.accept()[0].close()
"""
CLIENT = """
import json, sys, time
print("the client has this to say", file=sys.stderr, flush=True)
n = 0
for line in sys.stdin:
    q = json.loads(line); n += 1
    {then}
    print(json.dumps({{"id": q["id"], "type": "ok", "value": 0 if q["f"] == "read" else None}}), flush=True)
"""


def made(folder: Path, *, server: str = "pass", client: str = "pass", start_s: float = 5.0) -> Path:
    (folder / "server.py").write_text(SERVER.format(then=server))
    (folder / "client.py").write_text(CLIENT.format(then=client))
    path = folder / "odd.toml"
    path.write_text(
        dedent(
            f"""
            name = "odd"
            [files]
            server = "server.py"
            [ports]
            client = 7000
            [run]
            argv = ["python3", "${{files.server}}", "${{node.address}}"]
            [client]
            command = ["{sys.executable}", "client.py"]
            operations = ["read", "write"]
            start_s = {start_s}
            """
        )
    )
    return path


QUICK = ("--opt", "register.cas=false", "--faults", "none", "--time", "2s", "--seed", "1")


@pytest.mark.netns
@pytest.mark.parametrize(
    ("how", "says"),
    [
        pytest.param(
            {"server": "raise SystemExit(7)"},
            ("odd on n", "ended by itself with exit code 7", "the server has this"),
            marks=pytest.mark.slow,
        ),
        (
            {"client": "print('hello', flush=True)"},
            ("the client of n1", "answer", "the client has this"),  # none, or more than one line: as read
        ),
        pytest.param(
            {"client": "raise SystemExit(3)"},
            ("ended with exit code 3", "the client has this"),
            marks=pytest.mark.slow,
        ),
        ({"client": "time.sleep(60)", "start_s": 1.0}, ("said nothing within 1 s", "the client has this")),
    ],
)
def test_what_cannot_begin_is_an_error_with_its_last_words(
    tmp_path: Path, how: dict[str, str], says: tuple[str, ...]
) -> None:
    done = run("--system", made(tmp_path, **how), *QUICK, out=tmp_path / "runs")  # type: ignore[arg-type]
    assert done.code == 4
    for text in says:
        assert text in done.results["error"]


@pytest.mark.netns
@pytest.mark.slow
@pytest.mark.parametrize("then", ["time.sleep(60)", "print('hello', flush=True)", "raise SystemExit(3)"])
def test_a_client_that_breaks_off_in_the_middle_leaves_unknown_outcomes(tmp_path: Path, then: str) -> None:
    path = made(tmp_path, client=f"if n == 12: {then}")
    done = run("--system", path, *QUICK, out=tmp_path / "runs")
    assert done.results["error"] is None
    outcomes = done.results["outcomes"]
    assert sum(kinds["info"] for kinds in outcomes.values()) > 5
    assert sum(kinds["ok"] for kinds in outcomes.values()) > 50
    log = (Path(done.results["run"]) / "logs" / "controller.log").read_text()
    assert then == "time.sleep(60)" or "the client has this to say" in log


def test_a_file_that_is_wrong_is_told_before_anything_is_made(tmp_path: Path) -> None:
    path = made(tmp_path)
    text = path.read_text().replace("client = 7000", "client = 700000").replace("node.address", "node.adress")
    path.write_text(text)
    done = splitbrain("run", "--dry-run", "--system", path)
    assert done.code == 2
    assert "has 2 problems" in done.err
    assert "line 6: ports.client: 700000" in done.err
    assert "did you mean 'node.address'" in done.err
