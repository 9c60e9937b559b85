"""A replicated store made of PySyncObj, and HTTP/1.1 with JSON in front of it: one node of the cluster under test.

A plain script, run by the host's Python with the unpacked library on its path; it imports nothing of splitbrain
and nothing that is not in the standard library, but for the library itself.

    python -P _pysyncobj_server.py '{"node": "n1", "nodes": {"n1": "10.0.0.1:4321", ...}, "http": "10.0.0.1:4320", ...}'

Everything replicated goes through one method, `Store.do`, which is a function of the state and its arguments
alone, so that every node that applies the same log holds the same. What it decides:

* A request to `/do` is one command for the log, and is answered when this node has applied it: by what the
  command returned, or with the library's own reason (FAIL_REASON) why it will not be. Nothing is tried again.
* `/local` reads what this node holds now, asking nobody: stale, whatever the node believes of itself.
* `revision` beside an answer is the index of its entry in the log.
* `/dump` gives what stood in the state when the entry of a given barrier was applied here, so that nodes which
  have gone on since can still be compared.

Keys and values are JSON texts and are kept as such: to Python 1, 1.0 and True are equal.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

from pysyncobj import (  # type: ignore[import-not-found,unused-ignore]
    FAIL_REASON,
    SyncObj,
    SyncObjConf,
    SyncObjConsumer,
    replicated,
)
from pysyncobj.batteries import _ReplLockManagerImpl  # type: ignore[import-not-found,unused-ignore]

WAIT_S = 10.0  # for a command to be applied; clients have given up long before
KEPT = 8  # barriers whose state is kept
WORDS = {v: k for k, v in vars(FAIL_REASON).items() if k.isupper()}


def text(value: Any) -> str:
    """The one JSON text of a value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


class Store(SyncObjConsumer):  # type: ignore[misc,unused-ignore]
    """The replicated state. `data` is name -> JSON text, or a container of JSON texts.

    Locks are the library's own (the class behind ReplLockManager): whoever acquires says what time it is.
    """

    def __init__(self, locks: Any) -> None:
        super().__init__()
        self.data: dict[str, Any] = {}
        self.tokens: dict[str, int] = {}  # of locks: the index of the entry that granted it last
        # Not replicated: what reads of this node need.
        self._kept: dict[int, dict[str, str]] = {}
        self._guard = threading.Lock()
        self._locks = locks

    def _serialize(self) -> dict[str, Any]:
        return {"data": self.data, "tokens": self.tokens}

    def _deserialize(self, data: dict[str, Any]) -> None:
        with self._guard:
            self.data, self.tokens = data["data"], data["tokens"]

    @replicated  # type: ignore[untyped-decorator,unused-ignore]
    def do(self, f: str, name: str, args: list[Any]) -> list[Any]:
        """Do one operation: [index of the entry, None or what was wrong, value as JSON text]."""
        index = int(self._syncObj.raftLastApplied) + 1
        with self._guard:
            try:
                wrong, value = getattr(self, f"_do_{f}")(name, index, *args)
            except Exception as e:  # noqa: BLE001 - the library applies an entry that raised again and again, for ever
                wrong, value = f"bad command: {type(e).__name__}", "null"
        return [index, wrong, value]

    def read(self, f: str, name: str, args: list[Any]) -> list[Any]:
        """The same from what this node holds, for operations that change nothing."""
        with self._guard:
            wrong, value = getattr(self, f"_do_{f}")(name, 0, *args)
        return [0, wrong, value]

    def dump(self, index: int) -> dict[str, str] | None:
        with self._guard:
            return self._kept.get(index)

    # Operations: (what was wrong, value as JSON text).

    def _do_barrier(self, name: str, index: int) -> tuple[str | None, str]:
        content = {
            k: v if isinstance(v, str) else text(v) for k, v in self.data.items() if k.startswith(name)
        }
        self._kept[index] = content
        for old in sorted(self._kept)[:-KEPT]:
            del self._kept[old]
        return None, str(index)

    def _do_tidy(self, name: str, _index: int) -> tuple[str | None, str]:
        for key in [k for k in self.data if k.startswith(name)]:
            del self.data[key]
        return None, "null"

    def _do_read(self, name: str, _index: int) -> tuple[str | None, str]:
        return None, self.data.get(name, "null")

    def _do_write(self, name: str, _index: int, value: str) -> tuple[str | None, str]:
        self._set(name, value)
        return None, "null"

    def _do_cas(self, name: str, _index: int, old: str, new: str) -> tuple[str | None, str]:
        if self.data.get(name, "null") != old:
            return "mismatch", "null"
        self._set(name, new)
        return None, "null"

    def _set(self, name: str, value: str) -> None:
        if value == "null":  # no key and null are the same thing
            self.data.pop(name, None)
        else:
            self.data[name] = value

    def _do_kv_txn(self, name: str, _index: int, micros: list[list[str]]) -> tuple[str | None, str]:
        held: dict[str, str] = self.data.get(name, {})
        after, found = dict(held), []
        for f, sub, *values in micros:
            if f == "r":
                found.append(after.get(sub, "null"))
                continue
            if f == "cas" and after.get(sub, "null") != values[0]:
                return "mismatch", "null"
            after[sub] = values[-1]
            if after[sub] == "null":
                del after[sub]
            found.append("null")
        if after != held:
            self.data[name] = after
        return None, f"[{','.join(found)}]"

    def _do_kv_read(self, name: str, _index: int) -> tuple[str | None, str]:
        held: dict[str, str] = self.data.get(name, {})
        return None, f"[{','.join(f'[{sub},{value}]' for sub, value in held.items())}]"

    def _do_set_add(self, name: str, _index: int, element: str) -> tuple[str | None, str]:
        self.data.setdefault(name, {})[element] = "true"
        return None, "null"

    def _do_set_read(self, name: str, _index: int) -> tuple[str | None, str]:
        return None, f"[{','.join(self.data.get(name, ()))}]"

    def _do_counter_add(self, name: str, _index: int, amount: int) -> tuple[str | None, str]:
        self.data[name] = str(int(self.data.get(name, "0")) + amount)
        return None, "null"

    def _do_counter_read(self, name: str, _index: int) -> tuple[str | None, str]:
        return None, self.data.get(name, "0")

    def _do_generate(self, _name: str, index: int) -> tuple[str | None, str]:
        return None, str(index)

    def _do_enqueue(self, name: str, _index: int, value: str) -> tuple[str | None, str]:
        self.data.setdefault(name, []).append(value)
        return None, "null"

    def _do_dequeue(self, name: str, _index: int) -> tuple[str | None, str]:
        waiting: list[str] = self.data.get(name, [])
        return None, waiting.pop(0) if waiting else "null"

    def _do_queue_read(self, name: str, _index: int) -> tuple[str | None, str]:
        return None, f"[{','.join(self.data.get(name, ()))}]"

    # Locks. `now` is the clock of the node that was asked, which is what the library wants.

    def _do_acquire(self, name: str, index: int, lease: str, now: float) -> tuple[str | None, str]:
        if not self._locks.acquire(name, lease, now, _doApply=True):
            return "held", "null"
        self.tokens[name] = index
        return None, str(index)

    def _do_revoke(self, name: str, _index: int, lease: str) -> tuple[str | None, str]:
        for lock in self._locks._serialize().get("_ReplLockManagerImpl__locks", {}).copy():  # noqa: SLF001
            if lock.startswith(name):
                self._locks.release(lock, lease, _doApply=True)
        return None, "null"

    def _do_leader(self, name: str, _index: int, now: float) -> tuple[str | None, str]:
        held = self._locks._serialize().get("_ReplLockManagerImpl__locks", {}).get(name)  # noqa: SLF001
        if held is None or not self._locks.isAcquired(name, held[0], now):
            return None, "null"
        return None, str(self.tokens[name])

    def _do_write_fenced(
        self, name: str, _index: int, lock: str, value: str, token: int
    ) -> tuple[str | None, str]:
        if self.tokens.get(lock) != token:
            return "stale token", "null"
        self._set(name, value)
        return None, "null"


READS = frozenset(
    {"read", "kv_read", "set_read", "counter_read", "queue_read"}
)  # that may be answered by a node alone
CLOCKED = frozenset({"acquire", "leader"})  # that are told what time it is here


class Handler(StreamRequestHandler):
    """One connection of a client; POST alone, and what it says is in the body.

    By hand, since the standard library's HTTP server takes a third of a second to import, which is time that a
    node that was killed is away, and longer for the head of a request than for all the rest.
    """

    disable_nagle_algorithm = True
    store: Store
    raft: Any
    names: dict[str, str]
    stopped: threading.Event

    def handle(self) -> None:
        """Answer one request after the other."""
        try:
            while (request := self._request()) is not None:
                self._answer(*request)
        except OSError:  # the client has gone away
            pass

    def _request(self) -> tuple[str, bytes] | None:
        """Path and body; None when there is no more."""
        line = self.rfile.readline(1000).split()
        if len(line) != 3:
            return None
        length = 0
        while (header := self.rfile.readline(1000)).strip():
            name, _, value = header.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return line[1].decode(), self.rfile.read(length)

    def _answer(self, path: str, body: bytes) -> None:
        try:
            what = path.strip("/")
            if what not in ("do", "local", "grant", "status", "dump"):
                raise ValueError(what)
            status, answer = getattr(self, f"_{what}")(json.loads(body or b"{}"))
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            status, answer = 400, text({"error": f"bad request: {type(e).__name__}"})
        except RuntimeError:  # the library's own thread changed what was being looked at
            status, answer = 503, text({"error": "BUSY"})
        data = answer.encode()
        self.wfile.write(
            b"HTTP/1.1 %d -\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (status, len(data), data)
        )

    def _do(self, asked: dict[str, Any]) -> tuple[int, str]:
        """Have the log order a command, and wait until it is applied here."""
        done = threading.Event()
        outcome: list[Any] = []

        def told(result: Any, reason: Any) -> None:
            outcome.extend((result, reason))
            done.set()

        if self.stopped.is_set():
            return 503, text({"error": "STOPPING"})
        f, args = asked["f"], asked.get("args", [])
        if f in CLOCKED:
            args = [*args, time.time()]
        self.store.do(f, asked["name"], args, callback=told)
        if not done.wait(WAIT_S):
            return 504, text({"error": "TIMEOUT"})
        result, reason = outcome
        if reason != FAIL_REASON.SUCCESS:
            return 503, text({"error": WORDS.get(reason, f"reason {reason}")})
        return self._result(result)

    def _local(self, asked: dict[str, Any]) -> tuple[int, str]:
        """Look at what this node holds."""
        if asked["f"] not in READS:
            return 400, text({"error": "bad request: not a read"})
        return self._result(self.store.read(asked["f"], asked["name"], asked.get("args", [])))

    @staticmethod
    def _result(result: list[Any]) -> tuple[int, str]:
        index, wrong, value = result
        if wrong:
            return 409, text({"error": wrong})
        return 200, f'{{"revision":{index},"value":{value}}}'

    def _grant(self, _asked: dict[str, Any]) -> tuple[int, str]:
        """A name for a holder; nothing is replicated before it takes a lock."""
        return 200, f'{{"revision":0,"value":"{os.urandom(8).hex()}"}}'

    def _status(self, _asked: dict[str, Any]) -> tuple[int, str]:
        said = self.raft.getStatus()
        leader = said["leader"]
        return 200, text(
            {
                "role": ("follower", "candidate", "leader")[said["state"]],
                "term": said["raft_term"],
                "leader": None if leader is None else self.names.get(str(leader)),
                "commit": said["commit_idx"],
                "applied": said["last_applied"],
                "library": said["version"],
            }
        )

    def _dump(self, asked: dict[str, Any]) -> tuple[int, str]:
        """What stood in the state when the barrier at a revision was applied."""
        content = self.store.dump(int(asked["revision"]))
        if content is None:
            return 404, text({"error": "no such barrier"})
        return 200, text({"content": content})


class Server(ThreadingTCPServer):
    """Many clients may connect at once."""

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True


def say(line: str) -> None:
    """One line for the log."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Run a node until it is told to end."""
    given = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    node, names = given["node"], {address: name for name, address in given["nodes"].items()}
    own = given["nodes"][node]
    locks = _ReplLockManagerImpl(given["lock_s"])
    store = Store(locks)
    held: list[Any] = []  # the library, once it is made

    def changed(_before: int, after: int) -> None:
        if held and after == 2:
            say(f"became leader at term {held[0].raftCurrentTerm}")

    seen: list[Any] = [None]

    def looked() -> None:
        leader = held[0]._getLeader() if held else None  # noqa: SLF001 - there is no other way to ask
        if leader != seen[0]:
            seen[0] = leader
            term = held[0].raftCurrentTerm
            who = names.get(str(leader))
            say(
                f"leader is {who} at term {term}" if leader is not None else f"lost the leader at term {term}"
            )

    conf = SyncObjConf(
        bindAddress=own,
        journalFile=given["journal"],
        fullDumpFile=given["journal"] and f"{given['journal']}.dump",
        onStateChanged=changed,
        maxBindRetries=3,
        **given["conf"],
    )
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    Handler.store, Handler.names, Handler.stopped = store, names, stopped
    raft = SyncObj(own, [a for a in names if a != own], conf, consumers=[store, locks])
    Handler.raft = raft
    held.append(raft)
    raft.addOnTickCallback(looked)
    raft.waitBinded()
    say(f"starting PySyncObj {raft.getStatus()['version']} as {node} at {own}, journal {given['journal']}")
    host, _, port = given["http"].rpartition(":")
    server = Server((host, int(port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ticks = raft._SyncObj__thread  # noqa: SLF001 - without it nothing is ever answered again
    while not stopped.wait(0.5):
        if not ticks.is_alive():
            say("fatal: the library's thread has ended")
            os._exit(1)
    say("stopping")
    raft.destroy()
    time.sleep(0.2)  # the library's own thread lets go of its files
    os._exit(0)


if __name__ == "__main__":
    try:
        main()
    except Exception as e:
        logging.getLogger("server").exception("the server ended")
        say(f"fatal: {type(e).__name__}: {e}")  # last, where the end of a log is looked for
        os._exit(1)
