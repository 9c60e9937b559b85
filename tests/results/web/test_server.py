"""Requests to a real server: what is answered, to whom, and what is never served."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from html.parser import HTMLParser
from urllib.parse import quote

import pytest

from harness.core.errors import InfrastructureError
from results.web import server as server_module
from results.web.server import Server, Site
from tests.results.synth import make_run
from tests.results.web.conftest import HOSTILE, SECRET, find, serving

TOKEN = "a-token-of-some-length"


class Links(HTMLParser):
    """Addresses and tags of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("href", "src") and v]
        assert not [k for k, _ in attrs if k.startswith("on") or k == "style"]


def test_the_list_names_every_run_with_what_is_known(served):
    page = served.ask("/")
    assert page.status == 200
    for word in (
        "run000",
        "run001",
        "run002",
        "valid",
        "invalid",
        "cut off",
        "etcd 3.6.16 · register",
        "3 runs",
    ):
        assert word in page.text, word
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"


def test_every_link_of_every_page_is_answered(served, path_of):
    waiting = ["/", "/trends", "/campaigns", f"/compare?r={path_of('run000')}&r={path_of('run001')}"]
    seen = set()
    while waiting and len(seen) < 150:
        link = waiting.pop()
        if link in seen or link.startswith("#"):
            continue
        seen.add(link)
        answer = served.ask(link)
        assert answer.status == 200, link
        if answer.headers["content-type"].startswith("text/html") and not link.startswith("/file"):
            waiting += [found if found[0] in "/#" else "/" + found for found in Links(answer.text).links]
    assert len([link for link in seen if link.startswith("/run/")]) == 3
    assert len([link for link in seen if link.startswith("/file/")]) > 20


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("q=run001", ["run001"]),
        ("state=valid", ["run000"]),
        ("state=unfinished", ["run002"]),
        ("fault=partition&state=invalid", ["run001"]),
        ("system=redis", []),
        ("sort=state&order=asc", ["run001", "run002", "run000"]),
    ],
)
def test_search_filters_and_order_by_address(served, asked, expected):
    text = served.ask(f"/?{asked}").text
    assert re.findall(r'aria-label="compare (\w+)"', text) == expected


@pytest.mark.parametrize(
    "asked",
    [
        "sort=seed",
        "page=0",
        "page=x",
        "page=99999999999999",
        "state=good",
        "order=up",
        "&".join("a=1" for _ in range(50)),
    ],
)
def test_what_is_not_understood_is_said(served, asked):
    page = served.ask(f"/?{asked}")
    assert page.status == 400
    assert "Not understood" in page.text


OUTSIDE = [
    "/file/{run}/../../../secret.txt",
    "/file/{run}/..%2f..%2f..%2fsecret.txt",
    "/file/{run}/%2e%2e/%2e%2e/%2e%2e/secret.txt",
    "/file/{run}/%252e%252e/secret.txt",
    "/file/{run}//etc/passwd",
    "/file//etc/passwd",
    "/file/etc/passwd",
    "/file/%2fetc%2fpasswd",
    "/file/{run}/data/secret.log",  # a symbolic link
    "/file/{run}/data/up/secret.txt",  # below one
    "/file/{run}/data/pipe.log",
    "/file/{run}/data",
    "/file/{run}/spec.json%00.log",
    "/file/{run}/./spec.json",
    "/file/{run}/logs/..%5c..%5csecret.txt",
    "/file/../secret.txt",
    "/file/..",
    "/file/index.db",
    "/file/etcd-register",
    "/run/../..",
    "/run/{run}/data",
    "/live/../..",
    "/campaign/../secret.txt",
    "/campaign/etcd-register/{name}/spec.json",
    "/assets/../report.py",
    "/assets/report.html",
    "/assets/..%2findex.py",
    "/compare?r=../..&r=/etc",
    "/nothing",
    "/file/{run}/" + "a/" * 3000,
    "/%ff%fe",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_outside_is_served(served, path_of, path):
    run = path_of("run001")
    answer = served.ask(path.format(run=run, name=run.split("/")[1]))
    assert answer.status == 404
    assert SECRET not in answer.text
    assert "root:" not in answer.text
    assert served.ask(f"/file/{run}/spec.json").status == 200


@pytest.mark.parametrize(
    "line", ["GET http://evil.example/ HTTP/1.1", "GET secret.txt HTTP/1.1", "GET * HTTP/1.1"]
)
def test_requests_that_name_no_path(served, line):
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(f"{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert b" 404 " in connection.makefile("rb").readline()


def test_files_are_text_or_are_saved_and_the_report_stands_in_a_sandbox(served, path_of):
    run = f"/file/{path_of('run001')}"
    log = served.ask(f"{run}/logs/n1/odd.log")
    assert log.headers["content-type"] == "text/plain; charset=utf-8"
    assert log.body.startswith(HOSTILE.encode())
    assert served.ask(f"{run}/data/page.html").headers["content-type"].startswith("text/plain")
    binary = served.ask(f"{run}/data/member.db")
    assert binary.body == bytes(range(256))
    assert binary.headers["content-disposition"] == "attachment; filename*=UTF-8''member.db"
    report = served.ask(f"{run}/report.html")
    policy = report.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'; script-src 'sha256-")
    assert "allow-same-origin" not in policy
    assert "'unsafe-inline'" not in policy.split("style-src")[0]
    for answer in (log, binary, report):
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in log.headers["content-security-policy"]


def test_a_report_that_names_no_script_runs_none(served, runs, path_of):
    (find(runs, "run002") / "report.html").write_text("<script>parent.owned = 1</script>")
    try:
        policy = served.ask(f"/file/{path_of('run002')}/report.html").headers["content-security-policy"]
    finally:
        (find(runs, "run002") / "report.html").unlink()
    assert "script-src 'none'" in policy


def test_head_is_get_without_a_body(served, path_of):
    for path in ("/", f"/run/{path_of('run000')}", f"/file/{path_of('run000')}/report.html", "/nothing"):
        get, head = served.ask(path), served.ask(path, "HEAD")
        assert (head.status, head.body) == (get.status, b"")
        assert head.headers["content-length"] == str(len(get.body))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_only_get_and_head(served, method):
    answer = served.ask("/", method)
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_a_request_with_a_body_is_refused_and_the_connection_ends(served):
    answer = served.ask("/", Content_Length="5")
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert served.ask("/", Transfer_Encoding="chunked").status == 400


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:1", 200), ("127.0.0.1:8470", 200), ("127.9.9.9", 200), ("[::1]:80", 200),
        ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("localhost.evil.example", 421), ("", 421),
        ("10.0.0.1", 421), ("localhost@evil.example", 421), ("[::2]", 421),
    ],
)  # fmt: skip
def test_names_of_others_are_not_answered_on_loopback(served, host, status):
    assert served.ask("/", host=host).status == status


def test_with_a_token_nothing_is_said_without_it(runs, path_of):
    with serving(runs, TOKEN) as served:
        for path in ("/", f"/run/{path_of('run000')}", f"/file/{path_of('run000')}/spec.json", "/assets/web.js",
                     f"/live/{path_of('run002')}", "/nothing"):  # fmt: skip
            answer = served.ask(path)
            assert answer.status == 401, path
            assert "run000" not in answer.text
        for wrong in ("", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "é"):
            assert served.ask(f"/?token={quote(wrong)}").status in (401, 403)
            assert served.ask("/", Authorization=f"Bearer {quote(wrong)}").status == 401
        enter = served.ask(f"/run/{path_of('run000')}?token={TOKEN}&x=1")
        assert (enter.status, enter.headers["location"]) == (303, f"/run/{path_of('run000')}?x=1")
        assert TOKEN not in enter.headers["location"]
        cookie = enter.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie
        assert served.ask("/", Cookie=cookie.split(";")[0]).status == 200
        assert served.ask("/", Cookie="splitbrain-1=" + TOKEN).status == 401
        assert served.ask("/", Cookie="\x01=;;;=").status == 401
        assert served.ask("/", Authorization=f"Bearer {TOKEN}", host="any.example").status == 200


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "/%5cevil.example", "/%2fevil.example"]
)
def test_entering_leads_nowhere_else(runs, path):
    with serving(runs, TOKEN) as served:
        assert served.ask(f"{path}?token={TOKEN}").headers["location"] == "/evil.example"


def test_hostile_names_are_text(tmp_path):
    group, name = "etcd-<b>x", "20260101T000000Z-1-a'\"><script>x"
    run = tmp_path / group / name
    run.mkdir(parents=True)
    results = {
        "verdict": "invalid", "reason": HOSTILE, "system": HOSTILE, "workload": "\u202ex", "started": HOSTILE,
        "faults": {HOSTILE: {}}, "checks": {HOSTILE: {"verdict": HOSTILE}}, "version": "\x1b[31m\x00",
    }  # fmt: skip
    (run / "results.json").write_text(json.dumps(results))
    (run / "journal.jsonl").write_text("")
    (run / os.fsdecode(b"\xff<script>.log")).write_text("x")
    (tmp_path / os.fsdecode(b"\xff") / name).mkdir(parents=True)
    (tmp_path / os.fsdecode(b"\xff") / name / "results.json").write_text("{}")
    with serving(tmp_path) as served:
        listed = Links(served.ask("/").text)
        (link,) = {found for found in listed.links if found.startswith("/run/")}
        assert "script" not in Links(served.ask(link).text).tags
        page = Links(served.ask(link).text)
        files = [found for found in page.links if found.startswith("/file/")]
        assert len(files) == 3
        assert {served.ask(found).status for found in files} == {200}
        path = "/".join(link.split("/")[2:])
        both = served.ask(f"/compare?r={path}&r={path}").text
        for text in (served.ask("/").text, both, served.ask("/trends").text):
            assert "<script>document" not in text
            assert "\u202e" not in text
            assert "\x1b" not in text
            Links(text)


def test_no_runs_and_no_folder(tmp_path):
    for root in (tmp_path, tmp_path / "nowhere"):
        with serving(root) as served:
            page = served.ask("/")
            assert page.status == 200
            assert "No runs yet" in page.text
            assert served.ask("/trends").status == 200
            assert served.ask("/latest").status == 400
    assert not (tmp_path / "nowhere").exists()


def test_a_run_that_appears_is_broken_and_disappears(tmp_path):
    run = make_run(tmp_path, "valid", ops=200)
    path = run.relative_to(tmp_path).as_posix()
    with serving(tmp_path) as served:
        assert "a1b2c3" in served.ask("/").text
        assert served.ask("/latest").headers["location"] == f"/run/{path}"
        (run / "results.json").write_text('{"verdict": "val')
        (run / "spec.json").write_text("[]")
        assert "results.json cannot be read" in served.ask("/").text
        page = served.ask(f"/run/{path}")
        assert page.status == 200
        assert "splitbrain report" in page.text
        assert served.ask(f"/compare?r={path}&r={path}").status == 200
        shutil.rmtree(run)
        assert served.ask(f"/run/{path}").status == 404
        assert served.ask(f"/file/{path}/spec.json").status == 404
        assert "No runs yet" in served.ask("/").text


def test_links_and_pipes_in_the_place_of_a_runs_files_are_not_read(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.json").write_text(json.dumps({"verdict": "valid", "reason": SECRET, "seed": SECRET}))
    root = tmp_path / "runs"
    run = make_run(root, "killed", ops=200)
    path = run.relative_to(root).as_posix()
    for name in ("results.json", "env.json", "spec.json", "incremental.jsonl"):
        (run / name).unlink(missing_ok=True)
        (run / name).symlink_to(outside / "secret.json")
    for name in ("admission.json", "faults.jsonl", "monitor.jsonl"):
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)
    with serving(root) as served:
        for asked in ("/", f"/run/{path}", f"/live/{path}", f"/compare?r={path}&r={path}", "/trends"):
            answer = served.ask(asked)
            assert answer.status == 200
            assert SECRET not in answer.text


def test_an_index_that_cannot_be_used_is_said(tmp_path):
    make_run(tmp_path, "valid", ops=200)
    (tmp_path / "index.db").mkdir()
    with serving(tmp_path) as served:
        page = served.ask("/")
        assert page.status == 503
        assert "cannot use the index" in page.text


def test_compare_needs_two(served, path_of):
    for asked in ("", f"r={path_of('run000')}", "&".join([f"r={path_of('run000')}"] * 3)):
        page = served.ask(f"/compare?{asked}")
        assert page.status == 400
        assert "choose two" in page.text
    both = served.ask(f"/compare?r={path_of('run000')}&r={path_of('run001')}").text
    assert "A is valid, B is invalid." in both


def test_campaigns_that_have_ended_go_on_or_are_none(tmp_path):
    night = tmp_path / "nightly" / "0001-20260101T010000Z"
    (night / "runs").mkdir(parents=True)
    (night / "plan.json").write_text("{}")
    with serving(tmp_path) as served:
        assert "goes on, or was cut off" in served.ask("/campaigns").text
        (night / "summary.json").write_text(
            json.dumps({"verdict": "invalid", "reason": f"one new finding {HOSTILE}"})
        )
        (night / "index.html").write_text("<!doctype html><p>night")
        page = served.ask("/campaigns")
        assert "one new finding" in page.text
        (link,) = (found for found in Links(page.text).links if found.startswith("/campaign/"))
        assert served.ask(link).headers["content-security-policy"].startswith("sandbox")
        assert served.ask("/campaign/nightly/0001-20260101T010000Z/plan.json").status == 200
        assert served.ask("/campaign/nightly/plan.json").status == 404


def test_more_runs_than_a_page_holds(tmp_path):
    for n in range(120):
        run = tmp_path / "etcd-register" / f"20260101T000000Z-{n}-r{n:05}"
        run.mkdir(parents=True)
        (run / "results.json").write_text(json.dumps({"verdict": "valid", "seed": n, "ops": n}))
    with serving(tmp_path) as served:
        first, last = served.ask("/?sort=ops"), served.ask("/?sort=ops&page=3")
        assert first.text.count('aria-label="compare ') == 50
        assert last.text.count('aria-label="compare ') == 20
        assert "page 3 of 3" in last.text
        assert 'href="?sort=ops&amp;page=2"' in first.text


def test_a_port_that_is_taken_is_said(served):
    with pytest.raises(
        InfrastructureError, match=f"port {served.port}: Address already in use; choose another"
    ):
        Server(Site(served.root, lambda _: False), "127.0.0.1", served.port, None)
    with pytest.raises(InfrastructureError, match=r"cannot listen on 192\.0\.2\.1"):
        Server(Site(served.root, lambda _: False), "192.0.2.1", 0, None)


def test_too_many_connections_are_turned_away(tmp_path, monkeypatch):
    monkeypatch.setattr(server_module, "MOST_CONNECTIONS", 2)
    with serving(tmp_path) as served:
        held = [socket.create_connection(("127.0.0.1", served.port), timeout=20) for _ in range(2)]
        for connection in held:  # answered once: it is one of the two, and kept
            connection.sendall(b"GET /assets/icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as third:
            assert third.recv(1) == b""
        for connection in held:
            connection.close()


def test_requests_at_once_are_all_answered(served):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(served.ask("/").status)) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 12


def test_the_pages_import_nothing_until_they_are_served():
    code = "import sys, splitbrain.cli; print([m for m in sys.modules if m.startswith(('results', 'http.server'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
