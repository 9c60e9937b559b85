"""The connection and the client against a server that misbehaves: nothing is sent twice, nothing is guessed."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from clusters.systems._nats_wire import Wire, head
from clusters.wire import Lost, NotSent
from harness.core.errors import Definite, Indeterminate
from tests.clusters.fake_nats import Fake, Request, client, msg, serving, status

CHANGES: list[tuple[str, tuple[Any, ...]]] = [
    ("write", ("k", 1)),
    ("write", ("k", None)),
    ("cas", ("k", None, 1)),
    ("set_add", ("k", 1)),
    ("counter_add", ("k", 2)),
    ("log_publish", ("k", 1)),
    ("enqueue", ("k", 1)),
    ("dequeue", ("k",)),
]
READS: list[tuple[str, tuple[Any, ...]]] = [
    ("read", ("k",)),
    ("set_read", ("k",)),
    ("counter_read", ("k",)),
    ("log_read", ("k",)),
    ("log_read", ("k", 3)),
    ("queue_read", ("k",)),
]


def ack(seq: int, **more: Any) -> bytes:
    return json.dumps({"stream": "S", "seq": seq, **more}).encode()


def error(code: int) -> bytes:
    return json.dumps({"error": {"code": 400, "err_code": code, "description": "said so"}, "seq": 0}).encode()


@pytest.mark.parametrize(("f", "args"), CHANGES)
def test_a_change_whose_answer_is_lost_was_sent_once_and_is_indeterminate(f: str, args: Any) -> None:
    fake = Fake(lambda _request, _n: None)
    with serving(fake) as port:
        c = client(port)
        with pytest.raises(Indeterminate):
            getattr(c, f)(*args)
        c.close()
    assert (len(fake.requests), fake.connections) == (1, 1)


@pytest.mark.parametrize("reads", ["checked", "leader", "direct"])
@pytest.mark.parametrize(("f", "args"), READS)
def test_a_read_whose_answer_is_lost_was_sent_once_and_fails(f: str, args: Any, reads: str) -> None:
    pages = f == "log_read" and reads != "checked"  # asks for many messages at once
    fake = Fake(lambda _request, _n: None)
    with serving(fake) as port:
        c = client(port, reads=reads)
        with pytest.raises(Definite):
            getattr(c, f)(*args)
        c.close()
    assert fake.connections == 1
    assert len({r.reply for r in fake.requests}) == len(fake.requests)
    assert len(fake.requests) == 1 or pages


@pytest.mark.parametrize(("f", "args"), CHANGES)
def test_a_change_that_is_not_answered_in_time_is_indeterminate(f: str, args: Any) -> None:
    fake = Fake(lambda _request, _n: b"")
    with serving(fake) as port:
        c = client(port, timeout_s=0.1)
        with pytest.raises(Indeterminate, match="timeout"):
            getattr(c, f)(*args)
        c.close()
    assert len(fake.requests) == 1


@pytest.mark.parametrize(("f", "args"), [*CHANGES, *READS])
def test_nobody_there_means_nothing_was_done(f: str, args: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(Definite, match="refused"):
        getattr(client(port), f)(*args)


@pytest.mark.parametrize(("f", "args"), CHANGES)
def test_no_responders_means_that_nobody_got_it(f: str, args: Any) -> None:
    fake = Fake(lambda request, _n: msg(request, b"", status("503")))
    with serving(fake) as port:
        c = client(port)
        with pytest.raises(Definite, match=r"no responders"):
            getattr(c, f)(*args)
        c.close()
    assert len(fake.requests) == 1


@pytest.mark.parametrize(("f", "args"), CHANGES)
@pytest.mark.parametrize("said", [b"", b"nonsense", b"{}", b"\xff\xfe"])
def test_nonsense_is_no_answer(f: str, args: Any, said: bytes) -> None:
    fake = Fake(lambda request, _n: msg(request, said))
    with serving(fake) as port:
        c = client(port)
        with pytest.raises(Indeterminate):
            getattr(c, f)(*args)
        c.close()


@pytest.mark.parametrize("code", [10077, 10023, 10002, 10008, 10158, 12345])
def test_errors_that_prove_nothing(code: int) -> None:
    fake = Fake(lambda request, _n: msg(request, error(code)))
    with serving(fake) as port, pytest.raises(Indeterminate):
        client(port).write("k", 1)
    assert len(fake.requests) == 1


def test_a_message_too_large_was_not_stored() -> None:
    fake = Fake(lambda request, _n: msg(request, error(10054)))
    with serving(fake) as port, pytest.raises(Definite, match="too large"):
        client(port).write("k", 1)


class TestAConditionalPublishThatIsRefused:
    """Who refuses may be a deposed leader; the fence with the same id tells."""

    def run(self, fence: bytes | None) -> tuple[Any, Fake]:
        def answers(request: Request, n: int) -> bytes | None:
            if n == 1:
                return msg(request, error(10071))
            return fence if fence is None else msg(request, fence)

        fake = Fake(answers)
        with serving(fake) as port:
            c = client(port)
            try:
                outcome: Any = c.cas("k", None, 1)
            except (Definite, Indeterminate) as e:
                outcome = e
            c.close()
        one, two = fake.requests
        assert one.subject != two.subject
        assert ids(one) == ids(two)
        return outcome, fake

    def test_it_was_not_stored_and_never_will_be(self) -> None:
        outcome, _ = self.run(ack(7))
        assert isinstance(outcome, Definite)
        assert outcome.text == "wrong last sequence"

    def test_it_was_stored_after_all(self) -> None:
        outcome, _ = self.run(ack(6, duplicate=True))
        assert (outcome.value, outcome.ext) == ([None, 1], {"sequence": 6})

    @pytest.mark.parametrize("fence", [None, error(10158), b"nonsense"])
    def test_without_the_fence_nothing_is_known(self, fence: bytes | None) -> None:
        outcome, _ = self.run(fence)
        assert isinstance(outcome, Indeterminate)


def ids(request: Request) -> list[bytes]:
    return [line for line in request.head.split(b"\r\n") if line.startswith(b"Nats-Msg-Id")]


class TestReadsThatAreChecked:
    """The state that is read holds the mark, or it is no answer."""

    def run(self, states: list[int]) -> tuple[Any, Fake]:
        def answers(request: Request, _n: int) -> bytes:
            if not request.subject.startswith("$JS"):
                return msg(request, ack(9))
            seen = states.pop(0) if len(states) > 1 else states[0]
            subject = json.loads(request.body)["multi_last"]
            value = {"Nats-Subject": subject[0], "Nats-Sequence": "4"}
            mark = {"Nats-Subject": subject[1], "Nats-Sequence": str(seen)}
            return (
                msg(request, b"5", status("", **value))
                + msg(request, b"", status("", **mark))
                + msg(request, b"", status("204 EOB"))
            )

        fake = Fake(answers)
        with serving(fake) as port:
            c = client(port, timeout_s=0.3)
            try:
                outcome: Any = c.read("k")
            except Definite as e:
                outcome = e
            c.close()
        return outcome, fake

    def test_a_replica_that_is_behind_is_asked_again(self) -> None:
        outcome, fake = self.run([3, 9])
        assert (outcome.value, outcome.ext) == (5, {"sequence": 4})
        assert len(fake.requests) == 3

    def test_one_that_stays_behind_gives_no_answer(self) -> None:
        outcome, _ = self.run([8])
        assert isinstance(outcome, Definite)
        assert outcome.text in ("behind", "timeout before sending"), "which one is the machine's"


class TestLogsOfWhichOneReplicaIsBehind:
    """The one has messages 1 to 5, number 2 missing and 5 a mark; the other one only number 1."""

    def run(self, behind: Callable[[int], bool], reads: str = "checked", timeout_s: float = 0.5) -> Any:
        def answers(request: Request, n: int) -> bytes:
            if not request.subject.startswith("$JS.API.DIRECT"):
                return msg(request, ack(5))
            asked = json.loads(request.body)
            there = [1] if behind(n) else [1, 3, 4, 5]
            seq = asked["seq"]
            if "next_by_subj" in asked:
                seq = min((at for at in there if at >= seq), default=0)
            if seq not in there:
                return msg(request, b"", status("404 Message Not Found"))
            subject = "splitbrain.log.k" + (".~mark" if seq == 5 else "")
            said = {"Nats-Subject": subject, "Nats-Sequence": str(seq)}
            return msg(request, b"" if seq == 5 else b"%d" % seq, status("", **said))

        with serving(Fake(answers)) as port:
            c = client(port, timeout_s=timeout_s, reads=reads)
            try:
                return c.log_read("k").value
            except Definite as e:
                return e.text
            finally:
                c.close()

    def test_what_it_does_not_have_is_not_taken_for_missing(self) -> None:
        # It answers for all but the mark at first, and for one in two after that.
        said = self.run(lambda n: n < 6 or n % 2 == 0)
        assert said == {"from": 1, "messages": [[1, 1], [3, 3], [4, 4]], "next": 6}

    def test_where_it_alone_answers_there_is_no_answer_though_the_mark_was_met(self) -> None:
        assert self.run(lambda n: n != 6, timeout_s=0.2) in ("behind", "timeout")

    def test_an_unchecked_read_ends_before_what_nobody_told_of(self) -> None:
        # The first page and the next: numbers 1 and 4 were there, 3 was not.
        assert self.run(lambda n: n != 4, "direct") == {"from": 1, "messages": [[1, 1]], "next": 2}


def test_a_dequeue_is_done_when_its_acknowledgement_is_confirmed() -> None:
    def answering(outcome: bytes | None) -> Fake:
        def answers(request: Request, n: int) -> bytes | None:
            if n == 1:
                subject = "splitbrain.queue.k.e.7"
                return msg(
                    request, b"", reply="$JS.ACK.splitbrain_queue_k.worker.1.12.1.5.0", subject=subject
                )
            return outcome if outcome is None else msg(request, b"", outcome)

        return Fake(answers)

    for outcome, expected in ((b"", 7), (None, Indeterminate), (status("503"), Definite)):
        fake = answering(outcome)
        with serving(fake) as port:
            c = client(port)
            if isinstance(expected, int):
                reply = c.dequeue("k")
                assert (reply.value, reply.ext) == (expected, {"sequence": 12})
            else:
                with pytest.raises(expected):
                    c.dequeue("k")
            c.close()
        assert [r.body for r in fake.requests] == [b'{"batch":1,"no_wait":true}', b"+ACK"]


def test_a_dequeue_of_an_empty_queue_returns_null() -> None:
    fake = Fake(lambda request, _n: msg(request, b"", status("404 No Messages")))
    with serving(fake) as port:
        c = client(port)
        assert c.dequeue("k").value is None
        c.close()


def test_a_stream_that_cannot_be_created_leaves_the_message_unsent() -> None:
    fake = Fake(lambda _request, _n: None)
    with serving(fake) as port:
        c = client(port)
        with pytest.raises(Definite):
            c.log_publish("new", 1)
        c.close()
    (only,) = fake.requests
    assert only.subject == "$JS.API.STREAM.CREATE.splitbrain_log_new"


class TestWire:
    def test_a_late_answer_reaches_nobody(self) -> None:
        asked: list[Request] = []

        def answers(request: Request, n: int) -> bytes:
            asked.append(request)
            return b"" if n == 1 else msg(asked[0], b"late") + msg(request, b"own")

        fake = Fake(answers)
        with serving(fake) as port:
            wire = Wire("127.0.0.1", port)
            with pytest.raises(Lost, match="timeout"):
                wire.request("a", b"", 0.1)
            assert wire.request("b", b"", 1.0).body == b"own"
            wire.close()
        assert fake.connections == 2

    def test_pings_are_answered_and_news_is_ignored(self) -> None:
        noise = b'PING\r\nINFO {"version":"2.15.0"}\r\n+OK\r\n'
        fake = Fake(lambda request, _n: noise + msg(request, b"x") + b"PING\r\n")
        with serving(fake) as port:
            wire = Wire("127.0.0.1", port)
            for _ in range(3):
                assert wire.request("a", b"", 1.0).body == b"x"
            wire.close()
        assert fake.connections == 1
        assert fake.pongs >= 3

    def test_a_connection_that_was_closed_meanwhile_is_made_anew_before_anything_is_sent(self) -> None:
        fake = Fake(lambda request, _n: msg(request, b"x"))
        with serving(fake) as port:
            wire = Wire("127.0.0.1", port)
            wire.request("a", b"", 1.0)
            assert wire._sock is not None
            wire._sock.shutdown(socket.SHUT_RD)
            assert wire.request("a", b"", 1.0).body == b"x"
            wire.close()
        assert (fake.connections, len(fake.requests)) == (2, 2)

    @pytest.mark.parametrize(
        "said", [b"-ERR 'Permissions Violation'\r\n", b"MSG x\r\n", b"MSG a b c d e f\r\n", b"HELLO\r\n"]
    )
    def test_nonsense_ends_the_connection(self, said: bytes) -> None:
        fake = Fake(lambda _request, _n: said)
        with serving(fake) as port:
            wire = Wire("127.0.0.1", port)
            with pytest.raises(Lost, match=r"server|garbage"):
                wire.request("a", b"", 1.0)

    def test_a_server_that_greets_with_nonsense_was_sent_nothing(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            wire = Wire("127.0.0.1", listener.getsockname()[1])
            with pytest.raises(NotSent, match="timeout"):
                wire.request("a", b"", 0.1)

    def test_a_message_in_many_pieces(self) -> None:
        body = bytes(range(256)) * 2000
        fake = Fake(lambda request, _n: msg(request, body, head(A_b="c")))
        with serving(fake) as port:
            wire = Wire("127.0.0.1", port)
            answer = wire.request("a", b"", 2.0)
            wire.close()
        assert (answer.body, answer.fields) == (body, {"a-b": "c"})
