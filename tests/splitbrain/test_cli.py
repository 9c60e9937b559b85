"""The command line as scripts meet it: exit codes, one sentence, one object."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clusters.means import cgroup
from splitbrain import registry
from tests.splitbrain.helpers import ROOT, command

BAD = [
    (("run", "--system", "etdc"), "did you mean 'etcd'"),
    (("run", "--workload", "registre"), "did you mean 'register'"),
    (("run", "--faults", "partitoin"), "did you mean 'partition'"),
    (("run", "--opt", "raeds=x"), "did you mean 'reads'"),
    (("run", "--nodes", "99"), "expected 1 to 9"),
    (("run", "--rate", "-1"), "out of range"),
    (("run", "--time", "-5"), "out of range"),
    (("run", "nowhere.toml"), "cannot read spec nowhere.toml"),
    (("run", "--version", "99.9", "--offline"), "unknown etcd version '99.9'"),
    (("run", "--repeat", "0"), "'--repeat'"),
    (("run", "--bogus"), "no such option: --bogus"),
    (("run", "a.toml", "b.toml"), "unexpected extra argument"),
    (("runn",), "no such command 'runn'"),
    ((), "a command is missing"),
    (("check",), "missing argument"),
    (("check", "nowhere.jsonl"), "cannot read nowhere.jsonl"),
    (("show", "nowhere"), "no run 'nowhere'"),
    (("report", "nowhere"), "no run 'nowhere'"),
    (("open", "nowhere"), "no run 'nowhere'"),
    (("fetch", "etdc"), "did you mean 'etcd'"),
    (("fetch", "etcd@"), "the version is empty"),
]


@pytest.mark.parametrize(("arguments", "says"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_is_one_sentence(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert list(tmp_path.iterdir()) == [], "nothing is made for a request that is refused"


@pytest.mark.parametrize(
    "arguments", [("run", "--system", "etdc"), ("run", "--bogus"), ("runn",), ("check",)]
)
def test_an_error_is_one_object_with_json(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = command(*arguments, "--json", cwd=tmp_path)
    assert done.returncode == 2
    found = json.loads(done.stdout)
    assert found["verdict"] == "unknown"
    assert found["error"] == found["reason"]
    assert found["error"] in done.stderr
    assert {"format", "ops", "seconds", "seed", "run", "faults", "checks"} <= set(found)


def test_an_error_after_the_spec_was_resolved_names_the_seed(tmp_path: Path) -> None:
    done = command("run", "--seed", "7", "--opt", "binary=/nowhere/etcd", "--json", cwd=tmp_path)
    assert done.returncode == 4
    found = json.loads(done.stdout)
    assert (found["seed"], found["system"]) == (7, "etcd")
    assert "/nowhere/etcd" in found["error"]


def test_a_broken_line_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text(
        '{"index":0,"time":1,"process":0,"type":"invoke","f":"read","value":null}\n{\n'
    )
    done = command("check", "history.jsonl", cwd=tmp_path)
    assert done.returncode == 2
    assert "line 2" in done.stderr
    assert "Traceback" not in done.stderr


def test_dry_run_is_a_function_of_the_seed(tmp_path: Path) -> None:
    first, again, other = (command("run", "--dry-run", "--seed", s, "--json", cwd=tmp_path) for s in "778")
    assert first.stdout == again.stdout != other.stdout
    found = json.loads(first.stdout)
    assert found["spec"]["seed"] == 7
    assert {step["family"] for step in found["schedule"]} == {"partition", "kill", "pause"}
    assert found["command"].endswith("--seed 7")
    assert list(tmp_path.iterdir()) == []


def test_dry_run_for_people(tmp_path: Path) -> None:
    done = command("run", "--dry-run", "--seed", "7", cwd=tmp_path)
    assert done.returncode == 0
    assert "splitbrain run --system etcd" in done.stdout
    assert "partition" in done.stdout


def test_list_shows_the_matrix(tmp_path: Path) -> None:
    done = command("list", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "system x workload" in done.stdout
    assert "no runs in runs yet" in done.stdout
    found = json.loads(command("list", "--json", cwd=tmp_path).stdout)
    assert found["matrix"]["etcd"]["register"] == []
    assert found["runs"] == []


@pytest.mark.parametrize("group", ["systems", "workloads", "faults"])
def test_details(tmp_path: Path, group: registry.Group) -> None:
    text = command(group, cwd=tmp_path).stdout
    found = json.loads(command(group, "--json", cwd=tmp_path).stdout)[group]
    for row in found:
        assert row["name"] in text
        assert all(option["name"] in text for option in row["options"])


def run_with(tmp_path: Path, results: object) -> Path:
    run_dir = tmp_path / "runs" / "etcd-register" / "20260131T120000Z-7-a1b2c3"
    run_dir.mkdir(parents=True)
    (run_dir / "spec.json").write_text("{}")
    if results is not None:
        (run_dir / "results.json").write_text(json.dumps(results))
    return run_dir


def test_show(tmp_path: Path) -> None:
    run_with(tmp_path, {"format": 1, "verdict": "invalid", "reason": "a stale read", "checks": {}})
    done = command("show", "a1b2c3", cwd=tmp_path)
    assert done.returncode == 0
    assert "✘ INVALID" in done.stdout
    assert json.loads(command("show", "a1b2c3", "--json", cwd=tmp_path).stdout)["verdict"] == "invalid"


@pytest.mark.parametrize(("results", "says"), [(None, "has no results.json"), ([1], "is no JSON object")])
def test_show_without_results(tmp_path: Path, results: object, says: str) -> None:
    run_with(tmp_path, results)
    done = command("show", "a1b2c3", cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr
    assert "splitbrain check" in done.stderr


def test_open_says_the_path(tmp_path: Path) -> None:
    run_dir = run_with(tmp_path, {"verdict": "valid"})
    done = command("open", "a1b2c3", cwd=tmp_path)
    assert done.returncode == 2
    assert "splitbrain report a1b2c3" in done.stderr
    (run_dir / "report.html").touch()
    done = command("open", "a1b2c3", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{run_dir / 'report.html'}\n")


def test_open_serves_a_report_whose_values_stand_beside_it(tmp_path: Path) -> None:
    run_dir = run_with(tmp_path, {"verdict": "valid"})
    (run_dir / "report.html").write_text("<p>the report</p>\n")
    (run_dir / "report.values").write_bytes(b"0123456789")
    done = command("open", "a1b2c3", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{run_dir / 'report.html'}\n")
    assert f"splitbrain serve --runs {tmp_path / 'runs'}" in done.stderr
    browser = tmp_path / "browser.py"  # which stays in the foreground, asks as the page would, and is closed
    browser.write_text(
        "import json, os, re, signal, sys, urllib.request as ask\n"
        "page = ask.urlopen(sys.argv[1]).read().decode()\n"
        "where = json.loads(re.search('id=\"served\">(.*?)</script>', page)[1])['values']\n"
        "root = sys.argv[1].partition('/file/')[0]\n"
        "values = ask.urlopen(root + where + '&from=2&to=5').read().decode()\n"
        "open('seen', 'w').write(json.dumps([page.splitlines()[0], values]))\n"
        "os.kill(os.getppid(), signal.SIGINT)\n"
    )
    done = command("open", "a1b2c3", cwd=tmp_path, env={"BROWSER": f"{sys.executable} {browser} %s"})
    assert (done.returncode, done.stdout) == (130, f"{run_dir / 'report.html'}\n")
    assert json.loads((tmp_path / "seen").read_text()) == ["<p>the report</p>", "234"]
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["etcd-register"], (
        "no index is made for one report"
    )
    assert "Traceback" not in done.stderr


def test_doctor_says_what_each_room_says(tmp_path: Path) -> None:
    done = command("doctor", "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["error"] is None else 4)
    assert set(found["providers"]) == set(registry.names("providers"))
    assert {"engine", "go", "cache"} <= set(found)
    assert "Traceback" not in done.stderr


def test_a_code_of_130_is_not_reported_twice(tmp_path: Path) -> None:
    """A run that was interrupted has printed its object; there must not be another."""
    done = in_process("c.app = lambda **_: 130", tmp_path)
    assert (done.returncode, done.stdout) == (130, "")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_before_a_run_is_130_and_one_object(tmp_path: Path, name: str) -> None:
    done = in_process(f"c.app = lambda **_: os.kill(os.getpid(), signal.{name})", tmp_path)
    assert done.returncode == 130
    assert name in json.loads(done.stdout)["reason"]
    assert "Traceback" not in done.stderr


def test_a_bug_of_ours_is_4_and_one_object(tmp_path: Path) -> None:
    done = in_process("c.app = lambda **_: [][0]", tmp_path)
    assert done.returncode == 4
    assert "IndexError" in json.loads(done.stdout)["error"]
    assert "Traceback" in done.stderr, "the one kind of error that needs it"


def in_process(patch: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = f"import os, signal, sys, splitbrain.cli as c; {patch}; sys.exit(c.execute(['run', '--json']))"
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.netns
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_real_run_that_is_interrupted(tmp_path: Path, name: str) -> None:
    """Healed, collected, judged and reported; one object on stdout; nothing is left."""
    words = ("run", "--time", "60s", "--faults", "pause,partition", "--seed", "7", "--json")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "splitbrain", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        ledger = tmp_path / "runs" / "latest" / "faults.jsonl"
        deadline = time.monotonic() + 300  # the first time etcd is built
        while not (ledger.exists() and b'"event":"applied"' in ledger.read_bytes()):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.Signals[name])
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, err
    found = json.loads(out)
    assert (found["verdict"], found["interrupted"], found["seed"]) == ("unknown", True, 7)
    run_dir = (tmp_path / "runs" / "latest").resolve()
    assert b'"event":"undone"' in (run_dir / "faults.jsonl").read_bytes()
    assert (run_dir / "report.html").exists()
    assert json.loads((run_dir / "results.json").read_text()) == found
    run_id = run_dir.name.rpartition("-")[2]
    assert [group for group in cgroup.leftovers() if run_id in group.name] == []


@pytest.mark.parametrize(("command", "code"), [("list", 0), ("check", 4)])
def test_a_reader_that_has_left_is_no_violation(tmp_path: Path, command: str, code: int) -> None:
    history = tmp_path / "h.jsonl"
    history.write_text(
        '{"index":0,"time":1,"process":1,"type":"invoke","f":"write","key":"k","value":1}\n'
        '{"index":1,"time":2,"process":1,"type":"ok","f":"write","key":"k","value":1}\n'
    )
    more = [] if command == "list" else [str(history), "--model", "register"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "splitbrain", command, *more, "--json"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=writing,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.returncode == code
