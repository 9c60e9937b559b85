"""`splitbrain check history.edn` and `splitbrain export --jepsen`, as a shell meets them."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import HistoryError, UsageError
from results.export import FORMS
from splitbrain.exporting import export
from splitbrain.runner import check
from tests.checkers.brute import history, linearizable, write_keys
from tests.splitbrain.helpers import command

KEPT = Path(__file__).resolve().parents[1] / "data" / "format-1"

# Two clients write at once while a third reads what neither of them wrote; the last read is one that fits.
NEVER_WRITTEN = """\
({:type :invoke, :f :write, :value 10, :process 7}
 {:type :ok, :f :write, :value 10, :process 7}
 {:type :invoke, :f :read, :value nil, :process 8}
 {:type :invoke, :f :write, :value 14,
  :process 9}
 {:type :ok, :f :read, :value 13, :process 8}
 {:type :ok, :f :write, :value 14, :process 9}
 {:type :invoke, :f :read, :value nil, :process 7}
 {:type :ok, :f :read, :value 14, :process 7})
"""
# A compare-and-set that failed where it could only have succeeded: no effect, and no evidence.
FAILED = """\
{:process 0, :type :invoke, :f :write, :value 1}
{:process 0, :type :ok, :f :write, :value 1}
{:process 1, :type :invoke, :f :cas, :value [1 2]}
{:process 1, :type :fail, :f :cas, :value [1 2], :error ERROR}
{:process 2, :type :invoke, :f :cas, :value [1 3]}
{:process 2, :type :info, :f :cas, :value :timeout, :error :timeout}
{:process 3, :type :invoke, :f :read}
{:process 3, :type :ok, :f :read, :value 3}
"""


def judged(path: Path, text: str, **options: Any) -> dict[str, Any]:
    path.write_text(text)
    return check(path, **options)


def test_a_violation_names_the_events_of_the_file(tmp_path: Path) -> None:
    results = judged(tmp_path / "history.edn", NEVER_WRITTEN)
    assert (results["verdict"], results["ops"]) == ("invalid", 4)
    assert results["history"] == str(tmp_path / "history.edn")
    (anomaly,) = results["checks"]["linearizable"]["anomalies"]
    assert anomaly["kind"] == "never-written"
    assert [(o["invoke"], o["complete"]) for o in anomaly["window"]] == [(2, 4)]
    assert judged(tmp_path / "history.edn", NEVER_WRITTEN.replace("13", "10"))["verdict"] == "valid"


@pytest.mark.parametrize(("error", "verdict"), [(":mismatch", "valid"), (":splitbrain/mismatch", "invalid")])
def test_a_failed_compare_and_set_is_no_evidence_unless_it_is_ours(
    tmp_path: Path, error: str, verdict: str
) -> None:
    assert judged(tmp_path / "history.edn", FAILED.replace("ERROR", error))["verdict"] == verdict


def test_other_models_are_judged_too(tmp_path: Path) -> None:
    text = "".join(
        f"{{:process {p}, :type {t}, :f {f}, :value nil}}\n"
        for p, t, f in ((0, ":invoke", ":acquire"), (0, ":ok", ":acquire"), (1, ":invoke", ":acquire"))
    )
    path = tmp_path / "history.edn"
    assert judged(path, text, model="mutex")["verdict"] == "valid"
    both = text + "{:process 1, :type :ok, :f :acquire, :value nil}\n"
    assert judged(path, both, model="mutex")["verdict"] == "invalid"


def test_what_the_engine_refuses_is_named_by_the_line_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match=r"history\.edn, line 4: .*expected one of acquire") as refused:
        judged(tmp_path / "history.edn", "; a word\n\n[\n" + NEVER_WRITTEN[1:-2] + "]", model="mutex")
    assert refused.value.line == 4


def test_how_to_read_edn_is_no_question_of_other_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--keyed says how an EDN history"):
        judged(tmp_path / "history.jsonl", "", keyed=True)


@pytest.mark.parametrize("seed", range(3))
def test_ours_there_and_back_has_the_same_verdict(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    histories = {f"k{i}": history(rng, f"k{i}") for i in range(40)}
    bad = sorted(key for key, events in histories.items() if not linearizable(events))
    ours, edn = tmp_path / "history.jsonl", tmp_path / "history.edn"
    write_keys(ours, histories)
    export(ours, next(form for form in FORMS if form.name == "jepsen"), edn)
    here, there = check(ours), check(edn)
    for results in (here, there):
        found = results["checks"]["linearizable"]["anomalies"]
        assert sorted(a["key"] for a in found) == bad
    assert there["ops"] == here["ops"]
    windows = [[a["window"] for a in r["checks"]["linearizable"]["anomalies"]] for r in (here, there)]
    assert windows[0] == windows[1]


def test_a_run_is_exported_and_judged_from_the_shell(tmp_path: Path) -> None:
    run_dir = tmp_path / "runs" / "etcd-register" / "20261124T030625Z-3-fjegfk"
    shutil.copytree(KEPT, run_dir)
    of_the_journal = command("export", str(run_dir), "--jepsen", cwd=tmp_path)
    assert not (run_dir / "history.jsonl").exists()
    ops = check(run_dir)["ops"]
    done = command("export", "fjegfk", "--jepsen", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == of_the_journal.stdout
    lines = done.stdout.splitlines()
    assert len(lines) == len((run_dir / "history.jsonl").read_text().splitlines())
    assert all(line.startswith("{:index ") for line in lines)
    done = command("export", str(run_dir), "--jepsen", "--out", "of-it.edn", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    done = command("check", "of-it.edn", "--json", cwd=tmp_path)
    results = json.loads(done.stdout)
    assert (done.returncode, results["verdict"], results["ops"]) == (0, "valid", ops)
    assert results["history"] == "of-it.edn"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("check", "nowhere.edn"), 2, "cannot read nowhere.edn"),
        (("check", "bad.edn"), 2, "bad.edn, line 2: } closes nothing"),
        (("check", "keyed.edn"), 2, "say --keyed"),
        (("check", "keyed.edn", "--keyed"), 0, ""),
        (("export", "bad.edn"), 2, "expected one of --csv"),
        (("export", "bad.edn", "--jepsen"), 2, "has this form already"),
        (("export", "nowhere", "--jepsen"), 2, "no run 'nowhere'"),
    ],
)
def test_exit_codes(tmp_path: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    (tmp_path / "bad.edn").write_text("{:process 0, :type :invoke, :f :read}\n}\n")
    (tmp_path / "keyed.edn").write_text("{:process 0, :type :invoke, :f :read, :value [1 nil]}\n")
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
