"""One connection to a Redis or a Sentinel by redis-py, stripped of what it does unasked.

One command is one request: no retry, no reconnect, no pool, no health check, no handshake. What it decides is
whether a request left us: `NotSent` when it certainly did not, `Lost` when some of it may have and no answer came.
A connection that raised either is closed, and so is one that says something before it was asked.
"""

from __future__ import annotations

import select
from time import monotonic
from typing import Any, Final

from clusters.wire import Lost, NotSent

_words: Final = (
    ("refused", "refused"),
    ("reset", "reset"),
    ("Broken pipe", "reset"),
    ("unreachable", "unreachable"),
    ("closed by server", "closed"),
    ("Timeout", "timeout"),
    ("timed out", "timeout"),
)


class Wire:
    """To one address and port, for one thread. Connects on the first command."""

    def __init__(self, address: str, port: int) -> None:
        self._to = (address, port)
        self._connection: Any = None

    def close(self) -> None:
        """Let go of the socket, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()

    def idle(self) -> bool:
        """Whether there is a connection on which nobody has said anything unasked, the end included."""
        sock = None if self._connection is None else self._connection._sock  # noqa: SLF001 - there is no other way
        if sock is None:
            return False
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return not poll.poll(0)

    def connect(self, deadline: float) -> None:
        """Raises: NotSent."""
        from redis.backoff import NoBackoff
        from redis.connection import Connection
        from redis.exceptions import RedisError
        from redis.retry import Retry

        self.close()
        left = deadline - monotonic()
        if left <= 0:
            raise NotSent("timeout before sending")
        make: Any = Connection  # the library tells no types of it
        connection = make(
            host=self._to[0],
            port=self._to[1],
            protocol=2,
            socket_timeout=left,
            socket_connect_timeout=left,
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
            health_check_interval=0,
            redis_connect_func=_no_handshake,
        )
        try:
            connection.connect()
        except (RedisError, OSError) as e:
            connection.disconnect()
            text = _word(e)
            raise NotSent("connect timeout" if text == "timeout" else text) from None
        self._connection = connection

    def ask(self, deadline: float, *command: Any) -> Any:
        """The answer to one command on the connection that there is.

        Raises: Lost; what redis-py makes of an answer that is an error.
        """
        from redis import exceptions as x

        connection = self._connection
        try:
            connection._sock.settimeout(max(deadline - monotonic(), 0.001))  # noqa: SLF001
            connection.send_command(*command, check_health=False)
            return connection.read_response(timeout=max(deadline - monotonic(), 0.001))
        except (x.ResponseError, x.BusyLoadingError):
            raise
        except (x.RedisError, OSError) as e:
            self.close()
            raise Lost("garbage" if isinstance(e, x.InvalidResponse) else _word(e)) from None
        except BaseException:
            self.close()
            raise


def _no_handshake(connection: Any) -> None:
    """Instead of HELLO and CLIENT SETINFO, which are requests of their own."""
    connection._parser.on_connect(connection)  # noqa: SLF001


def _word(error: BaseException) -> str:
    """A failure in a word or two, the same whatever address it was."""
    said = str(error)
    return next((word for part, word in _words if part in said), type(error).__name__)
