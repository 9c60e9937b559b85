"""Known findings: a file that says which, why they are left alone, and until when.

    # splitbrain-baseline.toml
    [[known]]
    signature = "etcd/linearizable/stale-read/read+write/partition"     # `*` stands for anything
    reason = "reads are serializable on purpose until the proxy is gone"
    expires = 2027-01-31
    link = "https://..."                                                # may be left out

A run whose findings are all known ends as if the checks that found them had been valid: exit 0 where the rest of it is
good, 3 where the rest is unknown. Its verdict stays what it is. An entry that has expired excuses nothing.
"""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from harness.core.checker import worst
from harness.core.errors import UsageError, unknown_name
from results.findings import PARTS, findings, matches
from splitbrain import expecting

FILE: Final = "splitbrain-baseline.toml"
_required: Final = ("signature", "reason", "expires")
_keys: Final = (*_required, "link")


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """One entry. It counts to the end of the day `expires`, in UTC."""

    signature: str
    reason: str
    expires: dt.date
    link: str | None = None

    def expired(self, today: dt.date) -> bool:
        return today > self.expires

    def could_meet(self, system: str, faults: str) -> bool:
        """Whether a run of the system under these families could come upon it."""
        parts = self.signature.split("/")
        return matches(parts[0], system) and (len(parts) < len(PARTS) or matches(parts[-1], faults))


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """The entries of a file, in its order."""

    file: str
    known: tuple[Known, ...]


def read(path: Path) -> Baseline:
    """The baseline that a file holds.

    Raises: UsageError for a file that cannot be read, and for whatever is wrong with an entry, with the nearest word.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(f"cannot read baseline {path}: {e.strerror}; expected a TOML file") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
        raise UsageError(f"cannot read baseline {path}: {e}; expected TOML in UTF-8") from None
    for key in table:
        if key not in ("format", "known"):
            raise UsageError(f"baseline {path}: {unknown_name('key', key, ('format', 'known'))}")
    if table.get("format", 1) != 1:
        raise UsageError(f"baseline {path}: format = {table['format']!r}; this splitbrain reads format 1")
    entries = table.get("known", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"baseline {path}: known: expected [[known]] entries")
    found: dict[str, Known] = {}
    for number, entry in enumerate(entries, 1):
        try:
            one = _entry(entry)
        except UsageError as e:
            raise UsageError(f"baseline {path}, entry {number}: {e}") from None
        if one.signature in found:
            raise UsageError(f"baseline {path}, entry {number}: {one.signature!r} is there already")
        found[one.signature] = one
    return Baseline(file=str(path), known=tuple(found.values()))


def _entry(entry: Mapping[str, Any]) -> Known:
    for key in entry:
        if key not in _keys:
            raise unknown_name("key", key, _keys)
    for key in _required:
        if key not in entry:
            raise UsageError(f"{key} is missing; an entry has {', '.join(_required)}, and may have link")
    expires = entry["expires"]
    if isinstance(expires, str):
        try:
            expires = dt.date.fromisoformat(expires)
        except ValueError:
            expires = None
    if not isinstance(expires, dt.date) or isinstance(expires, dt.datetime):
        raise UsageError(f"expires = {entry['expires']!r}: expected a date such as 2027-01-31")
    for key in ("signature", "reason", "link"):
        if key in entry and (not isinstance(entry[key], str) or not entry[key].strip()):
            raise UsageError(f"{key} = {entry[key]!r}: expected text")
    signature = entry["signature"].strip()
    if "/" not in signature:
        raise UsageError(f"signature {signature!r}: expected one as results tell them, such as etcd/lock/*")
    expecting.check_word(signature)
    return Known(signature=signature, reason=entry["reason"], expires=expires, link=entry.get("link"))


def weigh(results: Mapping[str, Any], baseline: Baseline, today: dt.date | None = None) -> dict[str, Any]:
    """The results with what the baseline says about them, as `baseline`:

    `file`; `verdict`, what is left of the run's without the known findings; `known`, the entries that were met; `new`,
    the signatures of the other findings; `expired`, entries that are (`met`: by a finding, which is new then);
    `unmatched`, signatures of entries that this run could have met and did not.
    """
    today = today or dt.datetime.now(dt.UTC).date()
    found = findings(results)
    live = [k for k in baseline.known if not k.expired(today)]
    met: dict[str, Known] = {}
    known: set[str] = set()
    for finding in found:
        for entry in live:
            if matches(entry.signature, finding.signature):
                met[entry.signature] = entry
                known.add(finding.signature)
    new = [f.signature for f in found if f.signature not in known]
    system = str(results.get("system") or "").replace("/", "-")
    faults = expecting.families(results.get("faults") or ())
    left: dict[str, Any] = {
        "file": baseline.file,
        "verdict": str(results.get("verdict")) if new or not known else rest(results),
        "known": [_plain(entry) for entry in met.values()],
        "new": new,
        "expired": [
            {**_plain(k), "met": any(matches(k.signature, f.signature) for f in found)}
            for k in baseline.known
            if k.expired(today)
        ],
        "unmatched": [k.signature for k in live if k.signature not in met and k.could_meet(system, faults)],
    }
    named = results.get("expected") or ()
    return {**results, "baseline": left, "unmet": expecting.unmet(results, named, known)}


def rest(results: Mapping[str, Any]) -> str:
    """The verdict of an invalid run without its findings, all of them known. What is left has to mean something by
    itself."""
    verdict = str(results.get("verdict"))
    if verdict != "invalid":
        return verdict
    checks = (results.get("checks") or {}).values()
    verdicts = [c["verdict"] for c in checks if c["verdict"] != "invalid"]
    vacuous = (results.get("meaning") or {}).get("vacuous")
    cut = vacuous or results.get("error") or results.get("interrupted")
    return worst([*verdicts, "unknown"] if cut else verdicts)


def _plain(entry: Known) -> dict[str, Any]:
    return {**msgspec.structs.asdict(entry), "expires": entry.expires.isoformat()}


def lines(results: Mapping[str, Any]) -> list[str]:
    """What there is to say about expectation and baseline, one sentence a line."""
    told = [f"not as expected: {results['unmet']}"] if results.get("unmet") else []
    found = results.get("baseline")
    if not found:
        return told
    for entry in found["known"]:
        more = f", {entry['link']}" if entry.get("link") else ""
        told.append(f"known until {entry['expires']}: {entry['signature']} ({entry['reason']}{more})")
    told += [f"new: {signature}" for signature in found["new"]]
    for entry in found["expired"]:
        but = ", and was found again" if entry["met"] else "; remove it"
        told.append(f"expired on {entry['expires']}: {entry['signature']} ({entry['reason']}){but}")
    told += [
        f"known and not met by this run: {signature}; where it is gone for good, remove it"
        for signature in found["unmatched"]
    ]
    return told
