"""Values that would make a page too large stand beside it: whole, in parts, and only where they are needed."""

import json
import re
import zlib

import numpy as np
import pytest

from results.report import payload as report_payload
from results.report import values
from results.report.ops import read_operations
from results.report.page import write_report
from tests.results.synth import make_run
from tests.results.test_report import Page


def unpacked(run, beside):
    """(asked, answered) of all operations, as the page's script would read them of the file."""
    data, asked, answered = (run / values.NAME).read_bytes(), [], []
    for start, past in zip(beside["at"], beside["at"][1:], strict=False):
        member = zlib.decompress(data[start:past], wbits=31)
        assert member[:8].hex() == beside["mark"]
        member, n = member[8:], min(beside["chunk"], 9000 - len(asked))
        ends = np.cumsum(np.frombuffer(member[: 2 * n], np.uint8).astype(int))
        texts = [member[2 * n :][a:b] for a, b in zip([0, *ends], ends, strict=False)]
        asked += texts[:n]
        answered += texts[n:]
    return asked, answered


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run of which the page has room for all but the values."""
    run = make_run(tmp_path_factory.mktemp("beside"), "invalid", ops=9000)
    patch = pytest.MonkeyPatch()
    patch.setattr(report_payload, "LIMIT_BYTES", 60_000)
    write_report(run)
    patch.undo()
    return run


def test_every_value_is_beside_the_page_in_parts_of_its_own(made):
    page = Page(made / "report.html")
    given = page.meta()["ops"]
    asked, answered = unpacked(made, given["beside"])
    ops = read_operations(made, [])
    assert (asked, answered) == (ops.asked, ops.answered)
    assert len(given["beside"]["at"]) == 1 + -(-9000 // values.CHUNK_OPS)
    assert given["beside"]["at"][-1] == (made / values.NAME).stat().st_size
    assert len(page.meta()["packed"]) == 1, "none of them in the page"
    assert "report.values" in page.text
    assert "splitbrain open a1b2c3" in page.text
    assert not list(made.glob(".*part"))


def test_values_of_failing_keys_stay_in_the_page(made):
    page = Page(made / "report.html")
    (anomaly,) = json.loads((made / "results.json").read_text())["checks"]["linearizable"]["anomalies"]
    ops = read_operations(made, [])
    failing = [row for row in range(len(ops)) if ops.keys[ops.key[row]] == b'"%s"' % anomaly["key"].encode()]
    kept = page.meta()["ops"]["kept"]
    assert kept["rows"] == failing
    assert len(failing) > 20
    assert kept["asked"] == [ops.asked[row].decode() for row in failing]
    assert kept["answered"] == [ops.answered[row].decode() for row in failing]


def test_a_page_with_room_has_no_file_beside_it_and_asks_for_nothing(made, tmp_path):
    run = make_run(tmp_path, "valid", ops=500)
    (run / values.NAME).write_bytes(b"of an earlier report")
    page = Page(write_report(run))
    assert not (run / values.NAME).exists()
    assert "beside" not in page.meta()["ops"]
    policies = [
        re.search(r'Policy" content="([^"]*)"', p.source)[1] for p in (page, Page(made / "report.html"))
    ]
    assert ["connect-src" in policy for policy in policies] == [False, True]


def test_two_reports_of_one_run_are_the_same_bytes(made, monkeypatch):
    monkeypatch.setattr(report_payload, "LIMIT_BYTES", 60_000)
    before = [(made / name).read_bytes() for name in ("report.html", values.NAME)]
    write_report(made)
    assert before == [(made / name).read_bytes() for name in ("report.html", values.NAME)]


def test_without_room_for_the_values_the_page_has_the_rest(tmp_path, monkeypatch):
    def full(ops, file):
        file.write(b"a part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_payload, "LIMIT_BYTES", 10_000)
    monkeypatch.setattr(values, "write_beside", full)
    run = make_run(tmp_path, "valid", ops=3000)
    page = Page(write_report(run))
    assert page.meta()["ops"]["n"] == 3000
    assert "the others were left out" in page.text
    assert not list(run.glob("*report.values*"))


def test_a_long_value_is_cut_at_a_character_and_says_its_length(tmp_path):
    run = make_run(tmp_path, "valid", ops=300)
    lines = (run / "history.jsonl").read_text().splitlines()
    text = "é" * 5_000_000
    lines[0] = re.sub(r'"value": [^}]*', f'"value": "{text}"', lines[0])
    (run / "history.jsonl").write_text("\n".join(lines) + "\n")
    asked = read_operations(run, []).asked[0].decode()
    assert asked == f'"{"é" * 49}… (10,000,002 bytes)'
    assert len(asked.encode()) < 256
