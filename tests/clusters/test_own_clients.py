"""The three kinds of client that a file can describe: one operation, one request; unknown is never known."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusters.systems._own_lines import ClientBroken, LinesClient
from clusters.systems.own import Own
from harness.core.cluster import Node
from harness.core.errors import Definite, Indeterminate, Mismatch
from harness.core.op import Reply
from tests.clusters.test_etcd_http import server
from tests.splitbrain.helpers import ROOT

HEAD = """
name = "it"
[ports]
client = 1
[run]
argv = ["true"]
"""
NOBODY = Node("n1", "127.0.0.1", None, 1)  # port 1: nobody listens


def own(folder: Path, text: str, **options: Any) -> Own:
    (folder / "it.toml").write_text(HEAD + text)
    return Own({"file": str(folder / "it.toml"), **options})


# HTTP.

REQUESTS = """
[option.token]
default = "t0"

[client]
headers = { X-Token = "${option.token}" }

[client.http.read]
path = "/kv/${key}?n=${key|base64}"
value = "kvs.0.v"
ext = { revision = "rev" }
null = [404]
fail = [{ status = 503, body = "no quorum" }]

[client.http.write]
method = "PUT"
path = "/kv/${key}"
body = '{"v": ${value}, "text": "${value|text}", "b": "${value|base64}"}'
fail = [400]

[client.http.cas]
method = "POST"
path = "/cas/${key}"
body = "[${old},${new}]"
mismatch = [409, { status = 200, body = "^false" }]

[client.http.set_add]
method = "PUT"
path = "/set/${key}/${value}"

[client.http.generate]
method = "POST"
path = "/id"
value = "."
value_as = "text"
"""
CALLS: dict[str, tuple[Any, ...]] = {
    "read": ("k/1",),
    "write": ("k", 5),
    "cas": ("k", None, "x"),
    "set_add": ("s", 7),
    "generate": (),
}


def answering(
    status: int, body: bytes, got: list[bytes] | None = None
) -> Callable[[socket.socket, int], None]:
    def handle(connection: socket.socket, _number: int) -> None:
        while data := connection.recv(65536):
            if got is not None:
                got.append(data)
            connection.sendall(b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))

    return handle


def asked(folder: Path, port: int, f: str, timeout_s: float = 2.0) -> Reply | None:
    client = own(folder, REQUESTS).client.open(Node("n1", "127.0.0.1", None, port), None, {}, timeout_s)
    try:
        return getattr(client, f)(*CALLS[f])  # type: ignore[no-any-return]
    finally:
        client.close()


@pytest.mark.parametrize(
    ("f", "head", "body"),
    [
        ("read", "GET /kv/k%2F1?n=ImsvMSI=", ""),
        ("write", "PUT /kv/k", '{"v": 5, "text": "5", "b": "NQ=="}'),
        ("cas", "POST /cas/k", '[null,"x"]'),
        ("set_add", "PUT /set/s/7", ""),
        ("generate", "POST /id", ""),
    ],
)
def test_what_is_sent(tmp_path: Path, f: str, head: str, body: str) -> None:
    got: list[bytes] = []
    with server(answering(200, b'{"kvs":[{"v":1}]}', got)) as port:
        asked(tmp_path, port, f)
    (request,) = got
    first, _, rest = request.decode().partition("\r\n")
    assert first == f"{head} HTTP/1.1"
    assert "\r\nX-Token: t0\r\n" in request.decode()
    assert rest.partition("\r\n\r\n")[2] == body


@pytest.mark.parametrize(
    ("f", "status", "body", "outcome"),
    [
        ("read", 200, '{"kvs":[{"v":[1]}],"rev":9}', ([1], {"revision": 9})),
        ("read", 200, '{"kvs":[{"v":null}]}', (None, {})),
        ("read", 404, "", None),
        ("read", 200, '{"kvs":[]}', Indeterminate("garbage: no kvs.0.v in the answer")),
        ("read", 200, "<html>", Indeterminate("garbage: b'<html>' is no JSON")),
        ("read", 503, "no quorum yet", Definite("status 503")),
        ("read", 503, "busy", Indeterminate("status 503")),
        ("read", 500, "", Indeterminate("status 500")),
        ("write", 201, "", None),
        ("write", 204, "", None),
        ("write", 302, "", Indeterminate("status 302")),
        ("write", 400, "", Definite("status 400")),
        ("cas", 200, "true", None),
        ("cas", 200, "false", Mismatch()),
        ("cas", 409, "", Mismatch()),
        ("generate", 200, "id-7", ("id-7", {})),
    ],
)
def test_what_answers_mean(tmp_path: Path, f: str, status: int, body: str, outcome: Any) -> None:
    with server(answering(status, body.encode())) as port:
        if isinstance(outcome, Exception):
            with pytest.raises(type(outcome)) as e:
                asked(tmp_path, port, f)
            assert (type(e.value), str(e.value)) == (type(outcome), str(outcome))
            return
        reply = asked(tmp_path, port, f)
    assert (None if reply is None else (reply.value, reply.ext)) == outcome


@pytest.mark.parametrize("f", CALLS)
def test_one_request_for_each_operation_also_when_the_connection_is_dropped(tmp_path: Path, f: str) -> None:
    got: list[bytes] = []

    def drop(connection: socket.socket, _number: int) -> None:
        got.append(connection.recv(65536))

    with server(drop) as port:
        with pytest.raises(Indeterminate, match=r"closed|reset"):
            asked(tmp_path, port, f)
        time.sleep(0.05)
    assert len(got) == 1


@pytest.mark.parametrize("f", CALLS)
def test_who_is_not_reached_did_nothing_and_who_does_not_answer_may_have(tmp_path: Path, f: str) -> None:
    with pytest.raises(Definite, match="refused"):
        asked(tmp_path, 1, f)
    over = threading.Event()
    with server(lambda _connection, _number: over.wait(5) and None) as port:
        with pytest.raises(Indeterminate, match="timeout"):
            asked(tmp_path, port, f, 0.1)
        over.set()


def test_status_by_a_get(tmp_path: Path) -> None:
    text = """
[status]
http = "/status"
role = "raft.state"
leader = ["Leader", 1]
term = "raft.term"
leader_name = "raft.leader"
"""
    made = own(tmp_path, REQUESTS + text)
    assert made.roles
    body = b'{"raft":{"state":"Leader","term":4,"leader":"n2"}}'
    with server(answering(200, body)) as port:
        made.ports = {"client": port}
        status = made.status(Node("n1", "127.0.0.1"), 1.0)
    assert (status.role, status.term, status.leader, status.commit) == ("leader", 4, "n2", None)
    with server(answering(500, body)) as port:
        made.ports = {"client": port}
        with pytest.raises(Indeterminate, match="status 500"):
            made.status(Node("n1", "127.0.0.1"), 1.0)


def test_without_status_a_node_is_there_or_not(tmp_path: Path) -> None:
    made = own(tmp_path, REQUESTS)
    assert not made.roles
    with server(answering(200, b"")) as port:
        assert made.status(Node("n1", "127.0.0.1", None, port), 1.0).role == "unknown"
    with pytest.raises(OSError, match="refused"):
        made.status(NOBODY, 1.0)


# A command.

HELPER = """
import json, os, sys, time
log = open(os.environ["LOG"], "a")
def ask():
    line = sys.stdin.readline()
    if not line: raise SystemExit(0)
    q = json.loads(line)
    print(os.getpid(), q["f"], json.dumps([q["key"], q["value"]]), file=log, flush=True)
    return q
def say(id, type="ok", **more): print(json.dumps({"id": id, "type": type, **more}), flush=True)
q = ask()
"""
GOOD = "say(q['id'])\n"
LOOP = """
while True:
    q = ask()
    i = q["id"]
"""


def command(folder: Path, code: str, start_s: float = 5.0) -> Own:
    (folder / "client.py").write_text(HELPER + code)
    (folder / "log").touch()
    text = f"""
[option.mode]
default = "strict"
[client]
command = ["{sys.executable}", "client.py"]
operations = ["read", "write", "cas", "set_add", "generate"]
env = {{ LOG = "${{home}}/log" }}
start_s = {start_s}
"""
    return own(folder, text)


def said(folder: Path) -> list[str]:
    """The questions that processes of this test were asked, without their pids."""
    return [line.split(" ", 1)[1] for line in (folder / "log").read_text().splitlines()]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    clients: list[Any] = []

    def make(code: str, timeout_s: float = 1.0) -> Any:
        made = command(tmp_path, GOOD + LOOP + code)
        client: Any = made.client.open(NOBODY, None, made.options, timeout_s)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def test_what_a_command_is_told_first(tmp_path: Path) -> None:
    made = command(tmp_path, GOOD)
    made.client.open(NOBODY, None, made.options).close()
    (line,) = said(tmp_path)
    f, _, rest = line.partition(" ")
    about = msgspec.json.decode(rest)[1]
    assert f == "open"
    assert about == {
        "node": {"name": "n1", "address": "127.0.0.1"},
        "ports": {"client": 1},
        "options": {"mode": "strict"},
    }


def test_outcomes_of_a_command(opened: Callable[..., Any], tmp_path: Path) -> None:
    client = opened(
        """
    if q["f"] == "read": say(i, value=[1, None], ext={"revision": 3})
    elif q["f"] == "write": say(i, "info", error="lost")
    elif q["f"] == "cas": say(i, "fail", error="mismatch" if q["value"][0] == 1 else "refused")
    elif q["f"] == "set_add": say(i, "fail", error="mismatch")
    else: say(i)
"""
    )
    reply = client.read("k")
    assert (reply.value, reply.ext) == ([1, None], {"revision": 3})
    with pytest.raises(Mismatch):
        client.cas("k", 1, 2)
    with pytest.raises(Definite, match="refused") as e:
        client.cas("k", 3, 2)
    assert type(e.value) is Definite
    with pytest.raises(Definite) as e:  # no evidence: it compares nothing
        client.set_add("k", 3)
    assert type(e.value) is Definite
    with pytest.raises(Indeterminate, match="lost"):
        client.write("k", 5)
    assert client.generate().value is None
    asked_for = [line for line in said(tmp_path) if not line.startswith("open")]
    assert asked_for == [
        'read ["k", null]',
        'cas ["k", [1, 2]]',
        'cas ["k", [3, 2]]',
        'set_add ["k", 3]',
        'write ["k", 5]',
        "generate [null, null]",
    ]


BREAKS = {
    "nonsense": ("print('hello', flush=True)", "client's answer is none"),
    "another type": ("say(i, 'okay')", "client's answer is none"),
    "no object": ("print(7, flush=True)", "client's answer is none"),
    "bytes": ("os.write(1, b'\\xff\\n')", "client's answer is none"),
    "a wrong id": ("say(i + 1)", "client answers another question"),
    "its last id": ("say(i - 1)", "client answers another question"),
    "two lines": ('os.write(1, b\'{"id":%d,"type":"ok"}\\n{}\\n\' % i)', "more than one line"),
    "silence": ("time.sleep(60)", "timeout"),
    "half a line": ("os.write(1, b'{\"id\":'); time.sleep(60)", "timeout"),
    "an end": ("raise SystemExit(3)", "ended with exit code 3"),
    "a crash": ("os.abort()", "ended by signal 6"),
    "a closed stdout": ("os.close(1); time.sleep(60)", "closed its stdout"),
}


@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("f", ["read", "cas"])
def test_who_breaks_the_protocol_leaves_an_unknown_outcome_and_is_ended(
    opened: Callable[..., Any], tmp_path: Path, how: str, f: str
) -> None:
    code, says = BREAKS[how]
    client = opened(f"    {code}", timeout_s=0.3)
    began = time.monotonic()
    with pytest.raises(Indeterminate, match=says):
        getattr(client, f)(*CALLS[f])
    assert time.monotonic() - began < 3
    (pid,) = {line.split()[0] for line in (tmp_path / "log").read_text().splitlines()}
    assert not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]
    assert len(said(tmp_path)) == 2, "it was asked once"
    with pytest.raises(Indeterminate, match="ended"):
        client.read("k")
    assert len(said(tmp_path)) == 2


def test_who_talks_out_of_turn(opened: Callable[..., Any]) -> None:
    client = opened("    say(i); time.sleep(0.2); say(i)")
    assert client.write("k", 1).value is None
    time.sleep(0.5)
    with pytest.raises(Indeterminate, match="talks out of turn"):
        client.write("k", 2)


def test_splitbrains_own_modules_are_not_in_a_commands_way(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}/elsewhere")
    client = opened("    say(i, value=os.environ['PYTHONPATH'])")
    assert client.read("k").value == "/elsewhere"


def test_a_flood_on_stderr_blocks_nobody(opened: Callable[..., Any]) -> None:
    client = opened("    sys.stderr.write('x' * 500_000); sys.stderr.flush(); say(i, value=q['value'])")
    big = "y" * 500_000  # neither does a question, or an answer, that is larger than a pipe
    assert client.write("k", big).value == big


def test_what_a_client_has_started_ends_with_it(opened: Callable[..., Any], tmp_path: Path) -> None:
    client = opened(
        "    import subprocess; c = subprocess.Popen(['sleep', '60']); say(i, value=c.pid)",
    )
    pid = client.read("k").value
    os.kill(pid, 0)
    client.close()
    for _ in range(100):
        with suppress(ProcessLookupError, FileNotFoundError):
            if Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
                time.sleep(0.02)
                continue
        break
    else:
        raise AssertionError("it lives")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("print('hello')", "client's answer is none: b'hello'"),
        ("print('no module', file=sys.stderr); raise SystemExit(1)", "exit code 1.*\n.*stderr:\n  no module"),
        ("time.sleep(60)", "said nothing within 0.5 s.*\n  it said nothing on stderr"),
        ("say(7)", "its id is 7, asked was 0"),
    ],
)
def test_a_command_that_cannot_say_its_first_word(tmp_path: Path, code: str, says: str) -> None:
    made = command(tmp_path, code, start_s=0.5)
    prototype = made.client
    assert isinstance(prototype, LinesClient)
    with pytest.raises(ClientBroken, match=f"(?s)the client of n1, `.*client.py`, .*{says}") as e:
        prototype.begin(NOBODY, {}, 1.0)
    assert e.value.exit_code == 4
    assert "expected a line of JSON" in str(e.value)
    with pytest.raises(Indeterminate):  # later in a run nothing was asked, and that is all
        prototype.open(NOBODY, None, {}, 1.0)


@pytest.mark.parametrize(
    ("argv", "says"), [("nowhere", "nowhere is not there"), ("./client.txt", "client.txt is not executable")]
)
def test_a_command_that_cannot_be_started(tmp_path: Path, argv: str, says: str) -> None:
    (tmp_path / "client.txt").touch()
    made = own(tmp_path, f'[client]\ncommand = ["{argv}"]\noperations = ["write"]\n')
    assert isinstance(made.client, LinesClient)
    with pytest.raises(ClientBroken, match=f"cannot be started: .*{says}"):
        made.client.begin(NOBODY, {}, 1.0)


def test_a_command_that_is_not_ready_is_asked_again(tmp_path: Path) -> None:
    made = command(tmp_path, "say(q['id'], 'fail', error='no session yet')")
    with pytest.raises(Indeterminate, match="no session yet"):
        made.client.open(NOBODY, None, {}, 1.0)


# Readiness.


def test_ready_means_that_somebody_listens_and_an_operation_succeeds(tmp_path: Path) -> None:
    made = command(tmp_path, GOOD + LOOP + "    say(i) if q['f'] == 'write' else say(i, 'fail')")
    with pytest.raises(OSError, match="refused"):
        made.ready(NOBODY, 1.0)
    assert said(tmp_path) == []
    with server(answering(200, b"")) as port:
        made.ready(Node("n1", "127.0.0.1", None, port), 1.0)
    assert said(tmp_path)[1:] == ['write ["splitbrain-ready-n1", 1]']


def test_a_broken_client_is_told_again_to_who_did_not_wait_for_it(tmp_path: Path) -> None:
    made = command(tmp_path, "time.sleep(60)", start_s=1.0)
    with server(answering(200, b"")) as port:
        node = Node("n1", "127.0.0.1", None, port)

        def first() -> None:
            with suppress(ClientBroken):
                made.ready(node, 1.0)

        thread = threading.Thread(target=first)
        thread.start()
        time.sleep(0.2)
        began = time.monotonic()
        with pytest.raises(ClientBroken, match=r"said nothing within 1 s"):
            made.ready(node, 1.0)
        assert time.monotonic() - began < 0.95, "it has not been started anew"
        thread.join()


def test_ready_by_a_get(tmp_path: Path) -> None:
    made = own(tmp_path, REQUESTS + '\n[ready]\nhttp = "/health"\nstatus = [204]\n')
    got: list[bytes] = []
    with server(answering(204, b"", got)) as port:
        made.ports = {"client": port}
        made.ready(Node("n1", "127.0.0.1", None, port), 1.0)
    assert b"".join(got).startswith(b"GET /health ")
    with server(answering(503, b"")) as port:
        made.ports = {"client": port}
        with pytest.raises(Indeterminate, match="status 503"):
            made.ready(Node("n1", "127.0.0.1", None, port), 1.0)


# A Python class: the harness calls it once.

COUNTING = """
class Mine:
    calls = []
    def open(self, node, place, options, timeout_s=1.0): return Mine()
    def close(self): pass
    def write(self, key, value):
        Mine.calls.append((key, value))
        raise ConnectionResetError("dropped")
"""


def test_a_class_is_called_once_for_each_operation(tmp_path: Path) -> None:
    (tmp_path / "own_counting.py").write_text(COUNTING)
    made = own(tmp_path, '[client]\nclass = "own_counting:Mine"\n')
    client: Any = made.client.open(NOBODY, None, {}, 1.0)
    with pytest.raises(ConnectionResetError):
        client.write("k", 1)
    assert client.calls == [("k", 1)]
