"""The client of examples/abd: a program in Go that speaks JSON lines."""

import socket
import subprocess
import time
from typing import Any

import pytest

from clusters.artifacts import Artifacts
from clusters.systems.own import Own
from harness.core.cluster import Node
from harness.core.errors import Definite, Indeterminate
from harness.core.golang import build_env, require_go
from tests.clusters.test_etcd_http import server
from tests.clusters.test_own_clients import answering
from tests.splitbrain.helpers import ROOT

FOLDER = ROOT / "examples" / "abd"
CALLS: dict[str, tuple[Any, ...]] = {"read": ("k/1",), "write": ("k/1", {"a": None})}


@pytest.fixture(scope="module")
def abd() -> Own:
    made = Own({"file": str(FOLDER / "abd.toml")})
    made.install(None, Artifacts())
    return made


def asked(abd: Own, port: int, f: str, timeout_s: float = 2.0) -> Any:
    client: Any = abd.client.open(Node("n1", "127.0.0.1", None, port), None, {}, timeout_s)
    try:
        return getattr(client, f)(*CALLS[f]).value
    finally:
        client.close()


@pytest.mark.slow
def test_its_own_tests_pass() -> None:
    go = str(require_go((1, 21)))
    for words in (("vet", "./..."), ("test", "./...")):
        done = subprocess.run(
            [go, *words],
            cwd=FOLDER,
            env=build_env(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("f", CALLS)
def test_one_request_also_when_the_connection_is_dropped(abd: Own, f: str) -> None:
    got: list[bytes] = []

    def drop(connection: socket.socket, _number: int) -> None:
        got.append(connection.recv(65536))

    with server(drop) as port:
        with pytest.raises(Indeterminate, match="connection lost"):
            asked(abd, port, f)
        time.sleep(0.05)
    assert len(got) == 1


def test_what_answers_mean(abd: Own) -> None:
    with server(answering(200, b'{"value": [7], "stamp": 1}')) as port:
        assert asked(abd, port, "read") == [7]
        assert asked(abd, port, "write") is None
    with server(answering(200, b'{"value": null}')) as port:
        assert asked(abd, port, "read") is None
    with server(answering(503, b"no majority answered")) as port:
        with pytest.raises(Definite, match="503"):
            asked(abd, port, "read")
        with pytest.raises(Indeterminate, match="503"):
            asked(abd, port, "write")
    for f in CALLS:
        with pytest.raises(Definite, match="refused"):
            asked(abd, 1, f)


def test_a_time_out_is_unknown(abd: Own) -> None:
    with server(lambda _connection, _number: time.sleep(0.6)) as port:
        for f in CALLS:
            with pytest.raises(Indeterminate, match="timeout"):
                asked(abd, port, f, 0.2)
