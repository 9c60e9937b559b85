"""The server: GET and HEAD over the standard library's `http.server`, a thread a connection.

Why not a framework: there are eight addresses, none of which takes a body; a server of the standard library adds
nothing to install and nothing to keep patched beside it. What it lacks is here: a bound on connections, a limit of
time on each, headers that keep a browser from taking text for a program.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import socketserver
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from email.utils import formatdate
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote_to_bytes, urlencode

from harness.core.errors import InfrastructureError, UsageError
from results import browse, index
from results.browse import Query
from results.compare import compare, read_side
from results.index import Row
from results.report.html import plain
from results.report.values import NAME as VALUES
from results.rundir import LATEST, find_run, is_run
from results.web import beside, campaigns, files, pages
from results.web.comparison import compare_page
from results.web.files import Absent
from results.web.guard import Guard
from results.web.html import message
from results.web.live import Hub
from results.web.trends import trends_page

MOST_CONNECTIONS: Final = 64
TICK_S: Final = 1.0
_idle_s: Final = 15.0  # a connection that sends and takes nothing for so long is closed
_most_fields: Final = 30
_longest_path: Final = 8192
_own_policy: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_assets: Final = {
    "report.css": "text/css; charset=utf-8",
    "web.css": "text/css; charset=utf-8",
    "web.js": "text/javascript; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class Site:
    """What is served: a root of runs, one of campaigns, and whether a run is alive as `goes_on` says. With `only`
    (group, name) it is that run, and nothing else of the root."""

    def __init__(
        self,
        root: Path,
        goes_on: Callable[[Path], bool],
        campaigns: Path | None = None,
        only: tuple[str, str] | None = None,
    ) -> None:
        self.root = root
        self.only = only
        self.campaigns = root if campaigns is None else campaigns
        self.goes_on = goes_on
        self.hub = Hub(goes_on)
        self._lock = threading.Lock()

    def refresh(self) -> None:
        """Bring the index up to date; requests that come at once wait for one another."""
        with self._lock:
            index.refresh(self.root)

    def state(self, row: Row) -> str:
        """A row's state; an unfinished run is `running` or `cut`."""
        if row.state != "unfinished" or (self.root / row.path / "results.json").exists():
            return row.state
        return "running" if self.goes_on(self.root / row.path) else "cut"

    def folder(self, parts: list[str]) -> Path:
        """The directory of the run at `group/name`. Raises: Absent."""
        if len(parts) != 2 or not files.is_folder(self.root, parts):
            raise Absent
        path = self.root.joinpath(*parts)
        if not is_run(path):
            raise Absent
        return path

    def run(self, parts: list[str]) -> tuple[Row, Path]:
        """The run at `group/name`, and what is known of it. Raises: Absent."""
        path = self.folder(parts)
        row = browse.find(self.root, "/".join(parts)) or index.read_row(self.root, path)
        if row is None or (row.verdict is None and (path / "results.json").exists()):
            self.refresh()
            row = index.read_row(self.root, path)
        if row is None:
            raise Absent
        return row, path


class Server(ThreadingHTTPServer):
    """Bound and ready when made; `serve_forever` until an exception, then `server_close`.

    Raises: InfrastructureError when it cannot be bound.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, site: Site, bind: str, port: int, token: str | None) -> None:
        self.site = site
        self.address_family = socket.AF_INET6 if ":" in bind else socket.AF_INET
        self._places = threading.BoundedSemaphore(MOST_CONNECTIONS)
        try:
            super().__init__((bind, port), Handler)
        except OverflowError:
            raise UsageError(f"port {port}: expected 0 to 65535, where 0 is any that is free") from None
        except OSError as e:
            raise InfrastructureError(
                f"cannot listen on {bind} port {port}: {e.strerror or e}; choose another with --port"
                " (0: any that is free), or another address with --bind"
            ) from None
        self.beside = beside.Beside()
        self.guard = Guard(bind=bind, port=self.server_address[1], token=token)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's asks the name service, which may take long
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread was started: its place is free again
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # who leaves is no error
            traceback.print_exc()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "splitbrain"
    sys_version = ""
    timeout = _idle_s
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(code)d %(message)s\n"
    wbufsize = 65_536

    @property
    def site(self) -> Site:
        return self.server.site

    def finish(self) -> None:
        """Close both directions; what could not be sent to who has left is lost with them."""
        try:
            with contextlib.suppress(OSError):
                super().finish()
        finally:
            self.rfile.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
        """Nothing: addresses may carry a token."""

    def do_GET(self) -> None:
        try:
            self._answer()
        except Absent:
            self._page(
                message("Not here", "There is nothing of that name, or no more.", _home), HTTPStatus.NOT_FOUND
            )
        except UsageError as e:
            self._page(message("Not understood", str(e), _home), HTTPStatus.BAD_REQUEST)
        except InfrastructureError as e:
            self._page(message("Cannot say", str(e), _home), HTTPStatus.SERVICE_UNAVAILABLE)
        except (OSError, ValueError) as e:
            if isinstance(e, ConnectionError | TimeoutError):
                raise
            traceback.print_exc()
            self.close_connection = True
            self._page(
                message("Failed", f"This page could not be made ({type(e).__name__}).", _home),
                HTTPStatus.INTERNAL_SERVER_ERROR,
            )

    def do_HEAD(self) -> None:
        self.do_GET()

    def _refuse(self) -> None:
        self.close_connection = True  # whatever it wanted to send is not read
        self._send(
            b"only GET and HEAD\n",
            "text/plain; charset=utf-8",
            HTTPStatus.METHOD_NOT_ALLOWED,
            {"Allow": "GET, HEAD"},
        )

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_CONNECT = do_TRACE = _refuse  # noqa: N815 - as above

    def _answer(self) -> None:
        if self.headers.get("Transfer-Encoding") or (self.headers.get("Content-Length") or "0") != "0":
            self.close_connection = True
            raise UsageError("a request with a body; expected none")
        guard = self.server.guard
        if not guard.knows_host(self.headers.get("Host")):
            self.close_connection = True
            text = (
                "This server answers as localhost only, so that no other site reads it through your browser."
            )
            self._send(text.encode() + b"\n", "text/plain; charset=utf-8", HTTPStatus.MISDIRECTED_REQUEST)
            return
        raw, _, asked = self.path.partition("?")
        if len(self.path) > _longest_path or not raw.startswith("/"):
            raise Absent
        try:
            fields = parse_qs(asked, max_num_fields=_most_fields, errors="replace")
        except ValueError:
            raise UsageError(f"more than {_most_fields} fields in an address") from None
        if guard.token is not None and "token" in fields:
            self._enter(raw, fields)
            return
        if raw.startswith("/values/"):  # from a page without an origin, with which no cookie goes
            self._values(files.parts_of(raw)[1:], fields)
            return
        if not guard.admits(self.headers.get("Cookie"), self.headers.get("Authorization")):
            self._page(
                message(
                    "Token needed",
                    "Open the address that `splitbrain serve` printed when it started; it carries the token.",
                ),
                HTTPStatus.UNAUTHORIZED,
                {"WWW-Authenticate": "Bearer"},
            )
            return
        parts = files.parts_of(raw)
        kind = parts[0] if parts else ""
        route = self._routes.get(kind)
        if route is None:
            raise Absent
        only = self.site.only
        if only is not None and kind != "assets" and (kind != "file" or tuple(parts[1:3]) != only):
            raise Absent
        route(parts[1:], fields)

    def _enter(self, raw: str, fields: Mapping[str, list[str]]) -> None:
        """The first visit: the token moves from the address into a cookie."""
        guard = self.server.guard
        if not guard.right(fields["token"][0]):
            self._page(
                message("Wrong token", "Open the address that `splitbrain serve` printed when it started."),
                HTTPStatus.FORBIDDEN,
            )
            return
        rest = urlencode({k: v for k, v in fields.items() if k != "token"}, doseq=True)
        path = "/" + quote(unquote_to_bytes(raw).lstrip(b"/\\"), safe="/")
        self._redirect(path + (f"?{rest}" if rest else ""), {"Set-Cookie": guard.set_cookie()})

    @cached_property
    def _routes(self) -> dict[str, Callable[[list[str], Mapping[str, list[str]]], None]]:
        return {
            "": self._list,
            "run": self._run,
            "file": self._file,
            "live": self._live,
            "compare": self._compare,
            "trends": self._trends,
            "campaigns": self._campaigns,
            "campaign": self._campaign,
            "latest": self._latest,
            "assets": self._asset,
        }

    def _list(self, parts: list[str], fields: Mapping[str, list[str]]) -> None:
        asked = _query(fields)
        self.site.refresh()
        found = browse.search(self.site.root, asked)
        self._page(pages.runs_page(found, asked, self.site.root, self.site.state))

    def _run(self, parts: list[str], fields: Mapping[str, list[str]]) -> None:
        row, path = self.site.run(parts)
        listed = sorted(files.listing(path), key=lambda item: (item[0].count("/"), item[0]))
        before = browse.before(self.site.root, row)
        state = self.site.state(row)
        if not any(name == "report.html" for name, _ in listed) and self.site.goes_on(path):
            state = "running"  # there may be results already: its report is being written
        self._page(pages.run_page(row, state, listed, before))

    def _file(self, parts: list[str], fields: Mapping[str, list[str]]) -> None:
        self.site.folder(parts[:2])
        self._send_file("file", parts, page=parts[2:] == ["report.html"])

    def _compare(self, parts: list[str], fields: Mapping[str, list[str]]) -> None:
        asked = fields.get("r", [])
        if len(asked) != 2:
            raise UsageError(f"{len(asked)} runs to compare; choose two in the list")
        (a, path_a), (b, path_b) = (self.site.run(path.split("/")) for path in asked)
        self._page(compare_page(a, b, compare(read_side(path_a), read_side(path_b))))

    def _trends(self, parts: list[str], fields: Mapping[str, list[str]]) -> None:
        asked = _query(fields)
        self.site.refresh()
        facets = browse.search(self.site.root, asked, per_page=1)
        self._page(trends_page(browse.trend(self.site.root, asked), facets, asked))

    def _campaigns(self, parts: list[str], fields: Mapping[str, list[str]]) -> None:
        self._page(pages.campaigns_page(campaigns.nights(self.site.campaigns), self.site.campaigns))

    def _campaign(self, parts: list[str], fields: Mapping[str, list[str]]) -> None:
        if len(parts) < 3 or not campaigns.is_night(self.site.campaigns, parts[:2]):
            raise Absent
        self._send_file("campaign", parts, page=parts[-1] in ("index.html", "report.html"))

    def _latest(self, parts: list[str], fields: Mapping[str, list[str]]) -> None:
        root = self.site.root.resolve()
        path = find_run(root, LATEST)
        if path.parent.parent != root:
            raise Absent
        self._redirect("/" + "/".join(quote(part, safe="") for part in ("run", path.parent.name, path.name)))

    def _asset(self, parts: list[str], fields: Mapping[str, list[str]]) -> None:
        if len(parts) != 1 or parts[0] not in _assets:
            raise Absent
        data = resources.files("results").joinpath("assets", parts[0]).read_bytes()
        self._send(data, _assets[parts[0]])

    def _live(self, parts: list[str], fields: Mapping[str, list[str]]) -> None:
        """A stream of server-sent events, one look a second, until the run is over or the client leaves."""
        _, path = self.site.run(parts)
        self.close_connection = True
        with self.site.hub.watching(path) as watcher:
            if watcher is None:
                self._send(
                    b"too many pages follow runs\n",
                    "text/plain; charset=utf-8",
                    HTTPStatus.SERVICE_UNAVAILABLE,
                )
                return
            self._head(HTTPStatus.OK, "text/event-stream; charset=utf-8", {"Connection": "close"})
            since = 0
            while self.command != "HEAD":
                event, data = self.site.hub.look(watcher, since)
                since = max((int(row[0]) - 1 for row in data["series"]), default=since)
                self.wfile.write(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())
                self.wfile.flush()
                if event != "state":
                    return
                time.sleep(TICK_S)

    def _values(self, parts: list[str], fields: Mapping[str, list[str]]) -> None:
        """A part of the values beside a report, for whom the report was handed to."""
        sign, start, past = (fields.get(name, [""])[0] for name in ("sign", "from", "to"))
        more = {"Content-Security-Policy": "default-src 'none'; sandbox", **beside.READABLE}
        text = "text/plain; charset=utf-8"
        if not self.server.beside.right(sign, parts):
            self._send(b"not signed by this server\n", text, HTTPStatus.FORBIDDEN, more)
            return
        try:
            fd, found = files.open_below(self._root(parts[0]), parts[1:])
        except Absent:
            self._send(b"not here any more\n", text, HTTPStatus.NOT_FOUND, more)
            return
        with os.fdopen(fd, "rb") as file:
            wanted = beside.stretch(start, past, found.st_size)
            if wanted is None:
                self._send(b"no such stretch\n", text, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, more)
                return
            file.seek(wanted[0])
            self._send(file.read(wanted[1]), "application/octet-stream", HTTPStatus.OK, more)

    def _root(self, kind: str) -> Path:
        return self.site.root if kind == "file" else self.site.campaigns

    def _send_file(self, where: str, parts: list[str], *, page: bool) -> None:
        """A file below a root; a `page` of ours in a sandbox, text as text, anything else to be saved."""
        root, tail = self._root(where), b""
        fd, found = files.open_below(root, parts)
        with os.fdopen(fd, "rb") as file:
            if page:
                kind: str | None = "text/html; charset=utf-8"
                asks = parts[-1] == "report.html" and files.is_file(root, [*parts[:-1], VALUES])
                more = {"Content-Security-Policy": files.report_policy(fd, asks=asks)}
                tail = self.server.beside.tail([where, *parts]) if asks else b""
            else:
                kind = files.content_type(parts[-1])
                more = {"Content-Security-Policy": "default-src 'none'; sandbox"}
            if kind is None:
                name = quote(plain(parts[-1], 120), safe="")
                more["Content-Disposition"] = f"attachment; filename*=UTF-8''{name}"
            more["Content-Length"] = str(found.st_size + len(tail))
            more["Last-Modified"] = formatdate(found.st_mtime, usegmt=True)
            self._head(HTTPStatus.OK, kind or "application/octet-stream", more)
            if self.command == "HEAD":
                return
            left = found.st_size  # it may grow meanwhile: what was announced is what is sent
            while left and (block := file.read(min(left, 1 << 18))):
                self.wfile.write(block)
                left -= len(block)
            if left:
                self.close_connection = (
                    True  # it was cut meanwhile: the client sees that something is missing
                )
            else:
                self.wfile.write(tail)

    def _page(
        self, text: str, status: HTTPStatus = HTTPStatus.OK, more: Mapping[str, str] | None = None
    ) -> None:
        self._send(text.encode("utf-8", "replace"), "text/html; charset=utf-8", status, more)

    def _redirect(self, where: str, more: Mapping[str, str] | None = None) -> None:
        self._send(
            b"", "text/plain; charset=utf-8", HTTPStatus.SEE_OTHER, {"Location": where, **(more or {})}
        )

    def _send(
        self,
        data: bytes,
        kind: str,
        status: HTTPStatus = HTTPStatus.OK,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self._head(status, kind, {"Content-Length": str(len(data)), **(more or {})})
        if self.command != "HEAD":
            self.wfile.write(data)

    def _head(self, status: HTTPStatus, kind: str, more: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in more.items():
            self.send_header(name, value)
        if "Content-Security-Policy" not in more:
            self.send_header("Content-Security-Policy", _own_policy)
        if self.close_connection and "Connection" not in more:
            self.send_header("Connection", "close")
        self.end_headers()

    def end_headers(self) -> None:
        """What every answer says, those of the base class as well."""
        for name, value in (
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        super().end_headers()


_home: Final = '<p><a href="/">All runs</a></p>'


def _query(fields: Mapping[str, list[str]]) -> Query:
    """Raises: UsageError for a value that there is not; fields that are none of ours are left alone."""
    asked: dict[str, Any] = {name: fields[name][0] for name in Query.__struct_fields__ if name in fields}
    if "page" in asked:
        text = asked["page"]
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise UsageError(f"page {plain(text, 40)!r}: expected a number from 1 on")
        asked["page"] = int(text)
    return Query(**asked)
