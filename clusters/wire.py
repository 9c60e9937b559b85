"""What clients on sockets of their own share: to connect, send and receive within a deadline, and to say
whether a request left us.

Definiteness hangs on that one thing:

* `NotSent`: no byte of the request was handed to the kernel. It certainly has no effect.
* `Lost`: some byte was, and no whole answer came back. It may take effect, now or later.

Deadlines are on `time.monotonic`. Nothing is ever sent twice, and a socket that raised is for its owner to close.
"""

from __future__ import annotations

import errno
import socket
from time import monotonic
from typing import Final

_words: Final = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.ECONNABORTED: "reset",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.ETIMEDOUT: "timeout",  # the kernel gave up resending
}


class NotSent(OSError):
    """No byte of the request was sent; `text` says why in a word or two."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Lost(OSError):
    """The request was sent, at least in part, and no whole answer came."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def family(address: str) -> socket.AddressFamily:
    """That of a literal address.

    >>> family("::1").name, family("127.0.0.1").name
    ('AF_INET6', 'AF_INET')
    """
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def connect(address: str, port: int, deadline: float) -> socket.socket:
    """A new connection, whose timeout is what is left until `deadline`.

    Raises: NotSent.
    """
    left = deadline - monotonic()
    if left <= 0:
        raise NotSent("timeout before sending")
    sock = socket.socket(family(address), socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(left)
        sock.connect((address, port))
        if sock.getsockname() == sock.getpeername():  # a port of this host may connect to itself
            raise NotSent("refused")
        # The rest of the deadline, not the whole of it once more.
        sock.settimeout(max(deadline - monotonic(), 0.001))
    except TimeoutError:
        sock.close()
        raise NotSent("connect timeout") from None
    except NotSent:
        sock.close()
        raise
    except OSError as e:
        sock.close()
        raise NotSent(_said(e, "connect")) from None
    return sock


def send(sock: socket.socket, data: bytes) -> None:
    """All of `data`, within the socket's timeout.

    Raises: NotSent, Lost.
    """
    sent = 0
    try:
        # `send`, not `sendall`: the latter does not tell whether a first part had gone out.
        while sent < len(data):
            sent += sock.send(data[sent:] if sent else data)
    except OSError as e:
        text = "timeout" if isinstance(e, TimeoutError) else _said(e, "send")
        raise (Lost(text) if sent else NotSent(text)) from None


def receive(sock: socket.socket, most: int, deadline: float | None, *, closed: str = "closed") -> bytes:
    """The next bytes, at least one and at most `most`. `deadline` None: the socket's timeout is still that of the
    call. `closed` is what is said where the other side has ended the connection.

    Raises: Lost.
    """
    if deadline is not None:
        left = deadline - monotonic()
        if left <= 0:
            raise Lost("timeout")
        sock.settimeout(left)
    try:
        new = sock.recv(most)
    except TimeoutError:
        raise Lost("timeout") from None
    except OSError as e:
        raise Lost(_said(e, "receive")) from None
    if not new:
        raise Lost(closed)
    return new


def _said(e: OSError, doing: str) -> str:
    return _words.get(e.errno or 0, f"{doing}: {e.strerror or e}")
