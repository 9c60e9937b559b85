"""Who may ask: addresses, hosts and tokens, as pure functions of a request's headers.

On loopback there is no token, and the enemy is a page of somebody else's in the same browser, whose name was made
to resolve to 127.0.0.1 (DNS rebinding): it sends its own name as `Host`, so only names of this machine's loopback
are answered. Elsewhere there is a token, in the first address that is opened and in a cookie from then on.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import Final

import msgspec

_host: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::(\d{1,5}))?")
_bytes: Final = 24
LEAST_TOKEN: Final = 16  # characters


def new_token() -> str:
    """A token that nobody guesses, fit for an address."""
    return secrets.token_urlsafe(_bytes)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach an address to bind to; of names only `localhost` is."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address.lower() == "localhost"


class Guard(msgspec.Struct, frozen=True, kw_only=True):
    """The rules of one server. `token` None: none is needed, which is for loopback only."""

    bind: str
    port: int
    token: str | None = None

    @property
    def cookie(self) -> str:
        """The cookie's name; browsers share cookies between the ports of a host."""
        return f"splitbrain-{self.port}"

    def knows_host(self, host: str | None) -> bool:
        """Whether a request was meant for us. The port may differ: it does behind a tunnel."""
        if self.token is not None:
            return True  # whoever has the token may use any name
        match = _host.fullmatch(host or "")
        return match is not None and is_loopback(match[1].strip("[]"))

    def right(self, token: str | None) -> bool:
        """Whether this is the token, in time that does not depend on how much of it is right."""
        given = (token or "").encode("utf-8", "replace")
        return self.token is None or hmac.compare_digest(given, self.token.encode())

    def admits(self, cookie: str | None, authorization: str | None) -> bool:
        """Whether a request carries the token, in its cookie or as `Authorization: Bearer`."""
        if self.token is None:
            return True
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() == "bearer" and self.right(given.strip()):
            return True
        try:
            found = SimpleCookie(cookie or "").get(self.cookie)
        except CookieError:
            return False
        return found is not None and self.right(found.value)

    def set_cookie(self) -> str:
        """The header that keeps the token. Lax: a link in a sandboxed report is a link from elsewhere."""
        return f"{self.cookie}={self.token}; Path=/; HttpOnly; SameSite=Lax"
