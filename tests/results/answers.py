"""What somebody who has only the report reads off its card."""

from __future__ import annotations

import html
import re
from pathlib import Path


def answers(page: Path) -> dict[str, str]:
    """`violated`, `by`, `on`, `under`, `at` from the box on the card, and `again`, the command."""
    source = page.read_text("utf-8")
    box = source[source.index('<div class="finding" id="answers">') :]
    box = box[: box.index("</dl>")]
    found = {
        name: _text(value)
        for name, value in re.findall(r"<div><dt>(\w+)</dt><dd>(.*?)</dd></div>", box, re.DOTALL)
    }
    command = re.search(r'<code id="command"[^>]*>(.*?)</code>', source, re.DOTALL)
    return {**found, "again": _text(command[1]) if command else ""}


def _text(markup: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub("<[^>]*>", " ", markup))).strip()
