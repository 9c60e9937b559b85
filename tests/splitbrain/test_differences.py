"""`splitbrain diff A B`, as it is typed."""

import json

from splitbrain.cli import execute
from tests.results.synth import make_run


def test_two_runs_on_the_terminal_and_as_an_object(tmp_path, capfd):
    a = make_run(tmp_path, "valid", ops=200, seed=1, run="aaaaaa")
    b = make_run(tmp_path, "invalid", ops=300, seed=2, run="bbbbbb")
    assert execute(["diff", str(a), str(b)]) == 0
    out = capfd.readouterr().out
    assert "A is valid, B is invalid." in out
    assert "+50%" in out
    assert execute(["diff", str(a), str(b), "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["format"], found["a"]["state"], found["b"]["state"]) == (1, "valid", "invalid")
    assert {s["name"] for s in found["sections"]} >= {"verdict", "spec", "figures", "faults"}


def test_a_run_that_there_is_not(tmp_path, capfd):
    a = make_run(tmp_path, "valid", ops=200)
    assert execute(["diff", str(a), str(tmp_path / "nowhere"), "--json"]) == 2
    assert "nowhere" in json.loads(capfd.readouterr().out)["error"]
