"""Secrets taken out of text before it is handed to somebody else: values that are known, and what looks like one.

Known are the values of options that are secret, of options and environment variables that are called like a secret,
each also as JSON, a URL and base64 spell it. What looks like one: `password=...` in the spellings of command lines,
configuration and JSON, an authorization header, a URL with a password in it, a private key. Whole numbers stay: a
fencing token is no secret, and a history without it could not be judged again.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote

from harness.core.secrets import HIDDEN
from results.rundir import redact

LEAST_CHARS: Final = 4  # of a known value; what is shorter would be taken out of every word
_env_chars: Final = 8
_folders: Final = ("PWD", "OLDPWD")  # of the shell's, where it stands
_called: Final = (
    r"pass(?:word|wd|phrase)|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?"
    r"|requirepass|masterauth|auth[_-]?pass"
)
_named: Final = re.compile(_called, re.IGNORECASE)
_quoted: Final = r"(?:\\*[\"'])?"
_value: Final = (
    r"(?!\d+(?:[\s\"'\\,;&}\])]|$))(?!(?:null|true|false|none)\b)(?!\[redacted\])[^\s\"'\\,;&}\])]+"
)
_assigned: Final = re.compile(
    rf"((?:{_called}){_quoted}\s*[:=]\s*{_quoted}|--?[\w-]*(?:{_called})\s+)({_value})", re.IGNORECASE
)
_bearer: Final = re.compile(r"\b(bearer|basic)(\s+)([A-Za-z0-9._~+/=-]{8,})", re.IGNORECASE)
_userinfo: Final = re.compile(r"(://)[^/\s:@\"']*:[^/\s@\"']+(@)")
_pem: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL
)
_begin, _end = "PRIVATE KEY-----", "-----END "


class Redactor:
    """Takes secrets out of lines; `count` is in how many lines there were some."""

    def __init__(self, hidden: Iterable[str] = ()) -> None:
        known = {text for text in hidden if len(text) >= LEAST_CHARS and text != HIDDEN}
        spelled = {
            s
            for text in known
            for s in (text, quote(text, safe=""), base64.b64encode(text.encode()).decode())
        }
        self._hidden = sorted(spelled, key=len, reverse=True)
        self.count = 0

    def text(self, text: str) -> str:
        """The text without secrets.

        >>> Redactor(["hunter2"]).text('x hunter2 --token abc "password": "p" token=33 http://me:pw@host')
        'x [redacted] --token [redacted] "password": "[redacted]" token=33 http://[redacted]@host'
        """
        found = redact(text, self._hidden)
        found = _pem.sub(HIDDEN, found)
        found = _bearer.sub(rf"\1\2{HIDDEN}", found)
        found = _userinfo.sub(rf"\1{HIDDEN}\2", found)
        found = _assigned.sub(rf"\1{HIDDEN}", found)
        self.count += found != text
        return found

    def lines(self, lines: Iterable[str]) -> Iterator[str]:
        """Lines without secrets; a private key may go over several."""
        inside = False
        for line in lines:
            if inside:
                inside = _end not in line
                continue
            inside = "-----BEGIN " in line and _begin in line and _end not in line
            yield self.text(line)


def secret_values(options: Mapping[str, Mapping[str, Any]], environment: Mapping[str, str]) -> set[str]:
    """The values of options (owner -> name -> value) and environment variables that are called like a secret."""
    found = {
        str(value)
        for values in options.values()
        for name, value in values.items()
        if _named.search(name) and isinstance(value, str) and value
    }
    return found | {
        value
        for name, value in environment.items()
        if _named.search(name) and name not in _folders and len(value) >= _env_chars
    }
