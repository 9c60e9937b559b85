"""Counters as vectors: how much each node has added. Of two numbers the larger one counts, so vectors are merged in any
order and any number of times."""

import json
import os
import threading


def merged(one, other):
    """The vector that holds what either knows.

    >>> merged({"n1": 3}, {"n1": 1, "n2": 2})
    {'n1': 3, 'n2': 2}
    """
    return {node: max(one.get(node, 0), other.get(node, 0)) for node in sorted({*one, *other})}


class Store:
    """The vectors of a node, in memory and in a log that is on the disk before anybody hears of them."""

    def __init__(self, path):
        self._lock = threading.Lock()
        self._vectors = {}
        self._log = path.open("a+b")
        self._log.seek(0)
        whole = 0
        for line in self._log:
            if not line.endswith(b"\n"):
                break  # torn by a crash, and never acknowledged
            key, vector = json.loads(line)
            self._vectors[key] = vector
            whole += len(line)
        self._log.truncate(whole)
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)  # the file's name must survive as well
        os.close(folder)

    def add(self, key, node, amount):
        """Count `amount` more for a node; the vector from then on."""
        with self._lock:
            vector = self._vectors.get(key, {})
            return self._keep(key, {**vector, node: vector.get(node, 0) + amount})

    def merge(self, key, vector):
        """Learn what another node knows; the vector from then on."""
        with self._lock:
            known = self._vectors.get(key, {})
            found = merged(known, vector)
            return known if found == known else self._keep(key, found)

    def _keep(self, key, vector):
        self._log.write(json.dumps([key, vector]).encode() + b"\n")
        self._log.flush()
        os.fsync(self._log.fileno())
        self._vectors[key] = vector
        return vector
