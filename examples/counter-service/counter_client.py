"""The client that splitbrain drives the service with: one request to one node, never sent twice.

`counter_add` and `counter_read` are what workload `counter` calls.
"""

import http.client
import json

from splitbrain import Definite, Indeterminate


class CounterClient:
    """A connection to one node."""

    def open(self, node, place, options, timeout_s=1.0):
        made = CounterClient()
        made._connection = http.client.HTTPConnection(node.address, node.port, timeout=timeout_s)
        return made

    def close(self):
        self._connection.close()

    def counter_add(self, key, amount):
        self._ask("/add", {"key": key, "amount": amount})

    def counter_read(self, key):
        return self._ask("/read", {"key": key})["sum"]

    def _ask(self, path, question):
        if self._connection.sock is None:
            try:
                self._connection.connect()
            except OSError as e:
                raise Definite(f"connect: {type(e).__name__}") from e  # nothing was asked
        try:
            self._connection.request("POST", path, json.dumps(question))
            answer = self._connection.getresponse()
            said = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as e:
            self._connection.close()  # a late answer must not reach the next question
            raise Indeterminate(type(e).__name__) from e
        if answer.status == 200:
            return said
        if path == "/read":
            raise Definite(f"status {answer.status}")  # a read changes nothing
        raise Indeterminate(f"status {answer.status}")  # a minority may have it
