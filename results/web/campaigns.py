"""The nights of campaigns below the root: `NAME/NNNN-<UTC time>/`, with `plan.json` and, when they have ended,
`summary.json` and `index.html`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from results.report.html import plain
from results.rundir import read_object
from results.web import files
from results.web.html import address

_night: Final = re.compile(r"\d{4,}-\d{8}T\d{6}Z")
_verdicts: Final = ("valid", "invalid", "unknown", "error")
_most: Final = 500


def is_night(root: Path, parts: Sequence[str]) -> bool:
    """Whether `NAME/NIGHT` is a campaign's night, with no link on the way."""
    return (
        len(parts) == 2
        and _night.fullmatch(parts[1]) is not None
        and files.is_folder(root, parts)
        and root.joinpath(*parts, "plan.json").is_file()
    )


def nights(root: Path) -> list[dict[str, Any]]:
    """What there is to list, the latest first: `name`, `night`, `page` (None: no page yet), `verdict`, `reason`."""
    found = []
    for path in root.glob("*/*/plan.json"):
        night = path.parent
        if not is_night(root, (night.parent.name, night.name)):
            continue
        summary = read_object(night / "summary.json")
        verdict = (summary or {}).get("verdict")
        reason = (summary or {}).get("reason") if summary else "no summary: it goes on, or was cut off"
        page = address("campaign", f"{night.parent.name}/{night.name}", "index.html")
        found.append(
            {
                "name": plain(night.parent.name, 80),
                "night": plain(night.name, 80),
                "page": page if (night / "index.html").is_file() else None,
                "verdict": verdict if verdict in _verdicts else "unknown" if summary else "unfinished",
                "reason": plain(reason or "", 300),
            }
        )
    return sorted(found, key=lambda n: (str(n["night"]).partition("-")[2], str(n["name"])), reverse=True)[
        :_most
    ]
