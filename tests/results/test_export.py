"""Exports: what stands in each form, of runs that ended in any way; what cannot be had is said."""

import csv
import json
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import HistoryError, InfrastructureError, UsageError
from results.export import FORMS, Form
from splitbrain.exporting import export, form_of
from splitbrain.runner import check
from tests.splitbrain.helpers import ROOT, command

KEPT = Path(__file__).resolve().parents[1] / "data" / "format-1"
BY_NAME = {form.name: form for form in FORMS}
MARK = "\u202e=cmd|' /C calc'!A0$\\frac$<script>\x00"


def write(path: Path, *events: dict[str, Any]) -> Path:
    lines = [json.dumps({"index": i, "time": 1000 * i, **event}) for i, event in enumerate(events)]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def op(process: int, kind: str, f: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"process": process, "type": kind, "f": f, "value": value, **more}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that has been judged: `unknown`, for too little happened."""
    path = tmp_path / "runs" / "etcd-register" / "20261124T030625Z-3-fjegfk"
    shutil.copytree(KEPT, path)
    return path


@pytest.fixture
def violated(tmp_path: Path) -> Path:
    """A history of a read that saw what nobody wrote, and of an operation that never came back."""
    return write(
        tmp_path / "bad.jsonl",
        op(0, "invoke", "write", -5, node="n1", key=MARK),
        op(1, "invoke", "read", None, node="n2", key=MARK),
        op(1, "ok", "read", "=1+1", node="n2", key=MARK, ext={"revision": 2**60}),
        op(2, "invoke", "write", 6, node="n1", key=MARK),
        op(0, "info", "write", -5, node="n1", key=MARK, error="@SUM(A1)"),
    )


def made(path: Path, name: str, out: Path) -> Path:
    written = export(path, BY_NAME[name], out)
    assert written == out
    assert list(out.parent.glob("*.part")) == []
    return out


def test_csv_has_every_operation_and_no_formula(violated: Path, tmp_path: Path) -> None:
    text = made(violated, "csv", tmp_path / "o.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert [(r["invoke"], r["complete"], r["value"], r["result"], r["outcome"]) for r in rows] == [
        ("0", "4", "-5", "-5", "info"),
        ("1", "2", "", '"=1+1"', "ok"),
        ("3", "", "6", "", "info"),
    ]
    assert rows[0]["error"] == "'@SUM(A1)"
    assert json.loads(rows[0]["key"]) == MARK
    assert json.loads(rows[1]["ext"]) == {"revision": 2**60}
    cells = [cell for line in csv.reader(text.splitlines()) for cell in line]
    assert [c for c in cells if c.startswith(("=", "+", "-", "@", "\t", "\r"))] == ["-5", "-5"]


def test_parquet_has_the_same_rows_in_types(violated: Path, run: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(made(violated, "parquet", tmp_path / "o.parquet"))
    assert [str(table.schema.field(n).type) for n in ("start_ns", "complete", "value")] == [
        "int64",
        "int64",
        "string",
    ]
    assert table.column("complete").to_pylist() == [4, 2, None]
    assert [json.loads(key) for key in table.column("key").to_pylist()] == [MARK] * 3
    table = pq.read_table(made(run, "parquet", tmp_path / "run.parquet"))
    about = json.loads(table.schema.metadata[b"splitbrain"])
    assert (about["system"], about["seed"], table.num_rows) == ("etcd", 3, check(run)["ops"])


def trace(path: Path) -> list[dict[str, Any]]:
    """The events of a trace, each as the format wants it; slices of one track nest or stand apart."""
    events: list[dict[str, Any]] = json.loads(path.read_text())["traceEvents"]
    tracks: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for event in events:
        assert isinstance(event["name"], str)
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        assert event["ph"] in ("X", "B", "i", "M")
        if event["ph"] == "M":
            assert event["name"] in ("process_name", "thread_name")
            continue
        assert event["ts"] >= 0
        assert event["ph"] != "i" or event["s"] in ("g", "p", "t")
        if event["ph"] == "X":
            tracks.setdefault((event["pid"], event["tid"]), []).append(
                (event["ts"], event["ts"] + event["dur"])
            )
    named = {(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"}
    assert named.issuperset(tracks)
    for spans in tracks.values():
        spans.sort()
        assert all(end <= start + 0.001 for (_, end), (start, _) in pairwise(spans)), spans
    return events


def test_perfetto_has_tracks_of_clients_nodes_and_faults(run: Path, tmp_path: Path) -> None:
    events = trace(made(run, "perfetto", tmp_path / "t.json"))
    groups = {e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert groups == {"faults", "cluster", *(f"clients of n{i}" for i in (1, 2, 3))}
    kinds = {e["cat"].partition(",")[0] for e in events if "cat" in e}
    assert {"fault", "role", "operation", "leader"} <= kinds
    assert sum(e.get("cat", "").startswith("operation") for e in events) == check(run)["ops"]
    (kill,) = [e for e in events if e.get("cat") == "fault"]
    assert kill["args"]["took effect"] is True


def test_perfetto_has_violations_as_instants(run: Path, tmp_path: Path) -> None:
    results = check(run)
    window = [{"invoke": 0, "complete": 1, "f": "read", "start_ns": 5_000, "end_ns": 7_000}]
    results["checks"]["linearizable"] |= {
        "anomalies": [{"key": MARK, "explanation": "gone", "window": window}]
    }
    (run / "results.json").write_text(json.dumps(results))
    found = [e for e in trace(made(run, "perfetto", tmp_path / "t.json")) if e.get("cat") == "violation"]
    assert [(e["ph"], e.get("s")) for e in found] == [("X", None), ("i", "g")]
    assert found[1]["args"]["explanation"] == "gone"


def test_perfetto_leaves_open_what_never_completed(violated: Path, tmp_path: Path) -> None:
    events = trace(made(violated, "perfetto", tmp_path / "t.json"))
    assert [e["args"]["value"] for e in events if e["ph"] == "B"] == ["6"]


@pytest.mark.parametrize("form", ["svg", "png"])
def test_plots_are_pictures_and_the_same_each_time(run: Path, tmp_path: Path, form: str) -> None:
    pytest.importorskip("matplotlib")
    results = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(results | {"version": "$\\frac$</text><script>"}))
    first = made(run, form, tmp_path / f"1.{form}").read_bytes()
    assert first.startswith(b"<?xml" if form == "svg" else b"\x89PNG")
    assert b"<script" not in first
    if form == "svg":
        assert made(run, form, tmp_path / f"2.{form}").read_bytes() == first


@pytest.mark.parametrize("form", [form for form in FORMS if form.extra is None], ids=lambda form: form.name)
@pytest.mark.parametrize("how", ["torn", "no-results", "only-a-spec"])
def test_of_runs_that_were_killed(run: Path, tmp_path: Path, form: Form, how: str) -> None:
    (run / "results.json").unlink()
    journal = run / "journal.jsonl"
    if how == "torn":
        journal.write_bytes(journal.read_bytes()[:-300])
    if how == "only-a-spec":
        for path in run.iterdir():
            if path.name != "spec.json":
                path.unlink()
        if form.name in ("csv", "jepsen"):
            with pytest.raises(UsageError, match="ended before its first operation"):
                export(run, form, tmp_path / "out")
            assert not (tmp_path / "out").exists()
            return
    assert made(run, form.name, tmp_path / "out").stat().st_size
    assert not (run / "history.jsonl").exists()


def test_an_optional_part_that_is_missing_is_named(run: Path, tmp_path: Path) -> None:
    (tmp_path / "pyarrow.py").write_text("raise ModuleNotFoundError(name='pyarrow')")
    script = "import sys; sys.path.insert(0, sys.argv.pop(1)); from splitbrain.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), "export", str(run), "--parquet"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "`pip install 'splitbrain[parquet]'` brings it" in done.stderr


def test_what_a_bare_history_does_not_know(violated: Path, tmp_path: Path) -> None:
    for form in FORMS:
        if form.run_only:
            with pytest.raises(UsageError, match="is a bare history; name a run"):
                export(violated, form, tmp_path / "out")


def test_a_history_that_breaks_the_format_is_refused_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path / "h.jsonl", op(0, "invoke", "read", None), op(1, "ok", "read", 1))
    for name in ("csv", "perfetto"):
        with pytest.raises(
            HistoryError, match=r"/h\.jsonl, line 2: process 1 completes without an invocation"
        ):
            export(path, BY_NAME[name], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_jepsens_histories_are_exported_too(tmp_path: Path) -> None:
    path = tmp_path / "history.edn"
    path.write_text(
        "{:process 0, :type :invoke, :f :write, :value [:x 1]}\n; a word\n"
        "{:process 0, :type :ok, :f :write, :value [:x 1]}\n{:process 1, :type :ok, :f :read, :value [:x 1]}\n"
    )
    with pytest.raises(HistoryError, match=r"history\.edn, line 4: process 1 completes read .ok. without"):
        export(path, BY_NAME["csv"], tmp_path / "out", keyed=True)
    path.write_text("\n".join(path.read_text().splitlines()[:3]))
    export(path, BY_NAME["csv"], tmp_path / "out", keyed=True)
    (row,) = csv.DictReader((tmp_path / "out").read_text().splitlines())
    assert (row["key"], row["value"], row["outcome"]) == ('"x"', "1", "ok")
    with pytest.raises(UsageError, match="has this form already"):
        export(path, BY_NAME["jepsen"], tmp_path / "out")


def test_from_the_shell(run: Path, tmp_path: Path) -> None:
    done = command("export", "fjegfk", "--csv", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith('"invoke","complete"')
    done = command("export", "fjegfk", "--bundle", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "etcd-register-fjegfk.tar.gz\n")


def test_a_reader_that_goes_early_is_no_failure(tmp_path: Path) -> None:
    events = [op(0, kind, "write", "x" * 100) for _ in range(2000) for kind in ("invoke", "ok")]
    path = write(tmp_path / "long.jsonl", *events)
    argv = [sys.executable, "-P", "-m", "splitbrain", "export", str(path), "--csv"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b'"invoke"')
        process.stdout.close()
        assert process.wait(60) == 0


def test_requests_that_cannot_be_met(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a file, such as .*etcd-register-fjegfk\.csv"):
        export(run, BY_NAME["csv"], tmp_path)
    with pytest.raises(UsageError, match="one form, and was given --csv and --junit"):
        form_of({"csv": True, "junit": True})
    (tmp_path / "file").touch()
    with pytest.raises(InfrastructureError, match="choose another file with --out"):
        export(run, BY_NAME["csv"], tmp_path / "file" / "x.csv")
