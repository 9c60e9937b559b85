"""A node. Standard library only.

    POST /add   {"key": k, "amount": n}   200 once a majority has it; 504: nobody knows whether it will count
    POST /read  {"key": k}                200 {"sum": n}; 504: no majority answered, nothing was changed
    POST /merge {"key": k, "vector": v}   between nodes: learn v, answer with all that is known

An add is acknowledged when a majority has it on its disk. A read asks a majority, and where they differ it first
teaches a majority what it learned: so no later read returns less. There is no leader.
"""

import argparse
import http.client
import json
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from counter_service.store import Store, merged

PATIENCE_S = 0.5


class Peer:
    """Another node. Merging twice does no harm, so a connection that had gone stale is made anew once."""

    def __init__(self, address):
        self._address = address
        self._idle = []

    def merge(self, key, vector):
        body = json.dumps({"key": key, "vector": vector})
        for connection in [*([self._idle.pop()] if self._idle else []), None]:
            used = connection or http.client.HTTPConnection(self._address, timeout=PATIENCE_S)
            try:
                used.request("POST", "/merge", body)
                found = json.loads(used.getresponse().read())
            except (http.client.HTTPException, ConnectionError):
                used.close()
                if connection is None:
                    raise
            except BaseException:
                used.close()
                raise
            else:
                self._idle.append(used)
                return found
        raise AssertionError("a new connection answers or raises")


class Node:
    """What a node does with requests. `sloppy` is known bad: it asks nobody else."""

    def __init__(self, name, store, peers, *, sloppy):
        self._name, self._store, self._peers, self._sloppy = name, store, peers, sloppy
        self._majority = (len(peers) + 1) // 2 + 1
        self._pool = ThreadPoolExecutor(64)

    def add(self, key, amount):
        self._teach(key, self._store.add(key, self._name, amount))
        return {}

    def read(self, key):
        mine = self._store.merge(key, {})
        answers = self._teach(key, mine)
        known = mine
        for vector in answers:
            known = merged(known, vector)
        if any(vector != known for vector in (mine, *answers)):
            self._teach(key, self._store.merge(key, known))
        return {"sum": sum(known.values())}

    def merge(self, key, vector):
        return self._store.merge(key, vector)

    def _teach(self, key, vector):
        """Have a majority, with us, know the vector; what the others answered. Raises TimeoutError."""
        if self._sloppy:
            return []
        answers = []
        waiting = [self._pool.submit(peer.merge, key, vector) for peer in self._peers]
        for done in as_completed(waiting):
            if done.exception() is None:
                answers.append(done.result())
            if len(answers) + 1 >= self._majority:
                return answers
        raise TimeoutError("no majority answered")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # an answer leaves in one piece
    node = None

    def do_POST(self):
        given = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        try:
            if self.path == "/add":
                self.answer(200, self.node.add(given["key"], given["amount"]))
            elif self.path == "/read":
                self.answer(200, self.node.read(given["key"]))
            else:
                self.answer(200, self.node.merge(given["key"], given["vector"]))
        except TimeoutError as e:
            self.answer(504, {"error": str(e)})

    def answer(self, status, said):
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Nothing for each request."""


def main():
    words = argparse.ArgumentParser()
    words.add_argument("--node", required=True)
    words.add_argument("--listen", required=True)
    words.add_argument("--peers", required=True, help="HOST:PORT,...")
    words.add_argument("--data", type=Path, required=True)
    words.add_argument("--sloppy", choices=("true", "false"), default="false")
    given = words.parse_args()
    peers = [Peer(address) for address in given.peers.split(",") if address]
    Handler.node = Node(given.node, Store(given.data / "counters.log"), peers, sloppy=given.sloppy == "true")
    host, _, port = given.listen.rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    server.daemon_threads = True
    print(f"{given.node} counts with {len(peers)} others", file=sys.stderr, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
