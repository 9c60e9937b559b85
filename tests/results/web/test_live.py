"""The stream of a run while it goes on: over a directory that grows as a real one does."""

from __future__ import annotations

import json
import shutil
import socket

import msgspec
import pytest

from results.web import server as server_module
from results.web.live import Hub, Watcher
from tests.results.web.conftest import HOSTILE, serving

S = 1_000_000_000


def lines(path, *objects):
    with path.open("ab") as file:
        for value in objects:
            file.write(msgspec.json.encode(value) + b"\n")


@pytest.fixture
def run(tmp_path):
    run = tmp_path / "etcd-register" / "20260131T120000Z-1-abcdef"
    run.mkdir(parents=True)
    (run / "spec.json").write_text(json.dumps({"system": "etcd", "workload": "register", "time_s": 30}))
    lines(
        run / "journal.jsonl",
        {"format": 1, "run": "abcdef", "epoch_mono_ns": 0, "epoch_real_ns": 1},
        {"phase": "load", "time": S},
    )
    return run


def done(second, ms, kind="ok"):
    at = int((second + 0.5) * S)
    return {
        "time": at,
        "started": at - int(ms * 1e6),
        "process": 1,
        "type": kind,
        "f": "read",
        "value": None,
        "node": "n1",
    }


def plan(name, second):
    return [
        {"event": "plan", "time": second * S, "fault": name, "family": "kill", "label": "kill", "glyph": "x",
         "colour": "process", "says": HOSTILE},
        {"event": "applied", "time": second * S, "fault": name},
    ]  # fmt: skip


def test_rates_latencies_and_faults_by_the_second(run):
    lines(
        run / "journal.jsonl",
        *(done(2, ms) for ms in (1, 2, 3)),
        done(2, 9, "fail"),
        done(3, 9, "info"),
        {"phase": "heal", "time": 6 * S},
    )
    lines(
        run / "faults.jsonl",
        *plan("f1", 2),
        {"event": "undone", "time": 4 * S, "fault": "f1"},
        *plan("f2", 5),
    )
    lines(
        run / "monitor.jsonl",
        {"time": 1, "node": "n1", "ok": True, "role": "leader", "term": 7},
        {"time": 1, "node": "n2", "ok": False, "error": "refused"},
    )
    lines(run / "incremental.jsonl", {"time": 1, "key": "k", "verdict": "invalid", "reason": ""})
    watcher = Watcher(run)
    watcher.poll_now_and_then()
    found = watcher.snapshot(0, alive=False)
    assert found["series"] == [[2, 3, 1, 0, 2.0, pytest.approx(2.98)], [3, 0, 0, 1, None, None]]
    assert watcher.snapshot(3, alive=False)["series"] == [[3, 0, 0, 1, None, None]]
    assert [(b["from_s"], b["to_s"]) for b in found["bands"]] == [(2, 4), (5, None)]
    assert [f["label"] for f in found["faults"]] == ["kill"]
    assert (found["leader"], found["term"], found["violations"]) == ("n1", 7, 1)
    assert (found["ok"], found["fail"], found["info"], found["elapsed_s"]) == (3, 1, 1, 6.0)
    assert found["nodes"][1] == {"node": "n2", "ok": False, "error": "refused"}
    watcher.close()


def test_what_grows_is_bounded(run):
    lines(run / "journal.jsonl", *(done(second, 1) for second in range(2000)))
    watcher = Watcher(run)
    watcher.poll_now_and_then()
    assert len(watcher.snapshot(0, alive=False)["series"]) == 600
    assert watcher.snapshot(0, alive=False)["series"][-1][0] == 1999
    watcher.close()


def test_odd_lines_stop_nothing(run):
    (run / "monitor.jsonl").write_text(
        '{"node":"n1","ok":true,"role":["x"],"term":"\\u202e","time":"x"}\n[1]\nnot json\n'
    )
    (run / "faults.jsonl").write_text(
        '{"event":"plan","fault":"f"}\n{"event":"applied","fault":"f","time":"soon"}\n{"event":"undone","fault":"f"}\n'
    )
    with (run / "journal.jsonl").open("ab") as file:
        file.write(b'{"time":99999999999999999999,"started":1,"type":"ok"}\n\xff\xfe\n{"time":1,"sta')
    watcher = Watcher(run)
    watcher.poll_now_and_then()
    found = watcher.snapshot(0, alive=True)
    assert json.dumps(found)
    assert found["nodes"][0]["term"] == "[U+202E]"
    watcher.close()


class Stream:
    """Events as the browser reads them."""

    def __init__(self, served, path):
        self.connection = socket.create_connection(("127.0.0.1", served.port), timeout=20)
        self.connection.sendall(f"GET /live/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        self.file = self.connection.makefile("rb")
        self.status = self.file.readline()
        self.head = b"".join(iter(self.file.readline, b"\r\n"))

    def event(self):
        name = self.file.readline().decode().removeprefix("event: ").strip()
        data = json.loads(self.file.readline().decode().removeprefix("data: "))
        assert self.file.readline() == b"\n"
        return name, data

    def close(self):
        self.file.close()
        self.connection.close()


@pytest.fixture
def served(run, monkeypatch):
    monkeypatch.setattr(server_module, "TICK_S", 0.05)
    monkeypatch.setattr("results.web.live._fresh_s", 0.0)
    with serving(run.parent.parent) as found:
        found.path = run.relative_to(found.root).as_posix()
        found.alive.add(run)
        yield found


def until(stream, wanted):
    for _ in range(100):
        name, data = stream.event()
        if wanted(name, data):
            return data
    raise AssertionError(f"never seen; the last was {name} {data}")


def test_a_run_is_followed_to_its_end(served, run):
    assert 'data-state="running"' in served.ask("/").text
    assert "data-stream" in served.ask(f"/run/{served.path}").text
    stream = Stream(served, served.path)
    assert b"text/event-stream" in stream.head
    assert stream.event()[1]["words"] == "load and faults"
    lines(run / "journal.jsonl", done(2, 5))
    assert until(stream, lambda _, data: data["ok"] == 1)["series"][0][0] == 2
    lines(run / "faults.jsonl", *plan("f1", 3))
    until(stream, lambda _, data: data["faults"])
    (run / "results.json").write_text('{"verdict": "valid", "reason": "fine"}')
    assert [stream.event()[0] for _ in range(3)] == ["state"] * 3  # the report is still being written
    assert "data-stream" in served.ask(f"/run/{served.path}").text
    (run / "report.html").write_text("<!doctype html>")
    until(stream, lambda name, _: name == "over")
    assert stream.file.read() == b""
    stream.close()
    assert "<iframe" in served.ask(f"/run/{served.path}").text


def test_a_run_that_is_killed_and_one_that_disappears(served, run):
    stream = Stream(served, served.path)
    stream.event()
    served.alive.clear()
    until(stream, lambda name, _: name == "cut")
    stream.close()
    assert "it was killed" in served.ask(f"/run/{served.path}").text
    served.alive.add(run)
    stream = Stream(served, served.path)
    stream.event()
    shutil.rmtree(run)
    until(stream, lambda name, _: name == "gone")
    stream.close()


def test_those_who_watch_share_one_reader_and_who_leaves_is_forgotten(served, run):
    watchers = served.site.hub._watchers
    streams = [Stream(served, served.path) for _ in range(3)]
    for stream in streams:
        stream.event()
    ((watcher, users),) = watchers.values()
    assert users == 3
    for stream in streams:
        stream.close()
    for _ in range(400):  # each notices at its next word or the one after
        if not watchers:
            break
        served.ask("/assets/icon.svg")
    assert not watchers
    assert watcher._journal._file.closed


def test_too_many_streams_are_refused(served, run):
    served.site.hub = Hub(served.site.goes_on, most=1)
    stream = Stream(served, served.path)
    stream.event()
    assert served.ask(f"/live/{served.path}").status == 503
    stream.close()


def test_streams_of_what_is_no_run(served):
    assert served.ask("/live/etcd-register/nothing").status == 404
    assert served.ask(f"/live/{served.path}", "HEAD").headers["content-type"].startswith("text/event-stream")
