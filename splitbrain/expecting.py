"""What is expected of a run: a verdict, and of an invalid one whose finding.

    expect = "invalid"                                        any violation
    expect = "invalid:linearizable"                           one that this check finds, and nothing else
    expect = "invalid:etcd/linearizable/stale-read/*"         one under this signature (`results.findings`)
    [expect]                                                  the same as a table; checker and signature may be lists
    verdict = "invalid"
    checker = "linearizable"

Who names a finding expects that one and no other: a second one is news, and not what was expected.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from harness.core.errors import UsageError, unknown_name
from harness.core.spec import Spec, families_of
from results.findings import NOTHING, PARTS, Finding, findings, matches
from splitbrain import registry

_verdicts: Final = ("valid", "invalid")
_members: Final = ("verdict", "checker", "signature")
_near: Final = 0.75  # so alike that it is a slip


def read(value: Any) -> tuple[Any, tuple[str, ...]]:
    """(verdict, checkers and signatures) of what a flag or a spec says; (None, ()) of nothing.

    Raises: UsageError for what is neither a verdict nor a table, for an unknown check, and for what is no signature.
    """
    if value is None:
        return None, ()
    words: list[str] = []
    verdict = value
    if isinstance(value, Mapping):
        for key in value:
            if key not in _members:
                raise unknown_name("key of [expect]", str(key), _members)
        words = [w for key in _members[1:] for w in _listed(key, value.get(key, []))]
        verdict = value.get("verdict", "invalid")
    elif isinstance(value, str) and ":" in value:
        verdict, _, rest = value.partition(":")
        words = [word.strip() for word in _split(rest)]
    if verdict not in _verdicts:
        raise UsageError(
            f"expect = {value!r}: expected valid or invalid, or invalid:CHECKER, or invalid:SIGNATURE"
        )
    if words and verdict != "invalid":
        raise UsageError(f"expect = {value!r}: a valid run has no findings; leave out {', '.join(words)}")
    for word in words:
        check_word(word)
    return verdict, tuple(words)


def _listed(key: str, value: Any) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not all(isinstance(v, str) and v for v in values):
        raise UsageError(f"expect: {key} = {value!r}: expected a name or a list of them")
    return list(values)


def _split(text: str) -> list[str]:
    """Words by commas: a signature of a crash may hold colons, none holds a comma."""
    words = text.split(",")
    if not all(word.strip() for word in words):
        raise UsageError(f"expect: {text!r}: an empty name; expected invalid:CHECKER or invalid:SIGNATURE")
    return words


def flag(spec: Spec) -> str:
    """What `--expect` says of a spec that expects something."""
    return ":".join(filter(None, (spec.expect, ",".join(spec.expect_found))))


def check_names() -> set[str]:
    """What a check of a run may be called: each checker's name, and what the workloads call theirs."""
    named = {"members", *registry.names("checkers")}
    for d in registry.descriptors("workloads"):
        options = {option.name: option.default for option in d.options}
        named.update(registry.create("workloads", d.name, options)(1, 0).checkers)
    return named


def check_word(text: str) -> None:
    """Raises: UsageError for the name of a check that there is none of, and for a signature that cannot be met."""
    if "/" not in text and text != "*":
        known = check_names()
        if text not in known:
            raise unknown_name("check", text, known)
        return
    parts = text.split("/")
    if len(parts) > len(PARTS) or (len(parts) < len(PARTS) and not parts[-1].endswith("*")):
        raise UsageError(
            f"signature {text!r}: expected {'/'.join(p.upper() for p in PARTS)} as a run's results tell them, where *"
            " stands for anything, at the end also for several parts"
        )
    told = dict(zip(PARTS, parts, strict=False))
    _near_miss("system", told["system"], registry.names("systems"), text)
    if not _open(checker := told.get("checker", "*")) and checker not in (known := check_names()):
        raise UsageError(f"signature {text!r}: {unknown_name('check', checker, known)}")
    for family in told.get("faults", "*").split("+"):
        if not _open(family) and family != NOTHING and family not in (families := registry.names("faults")):
            raise UsageError(f"signature {text!r}: {unknown_name('fault', family, families)}")


def _open(part: str) -> bool:
    return any(c in part for c in "*?[")


def _near_miss(what: str, given: str, known: Iterable[str], text: str) -> None:
    """A name that is nearly one we know is a slip; any other may be the user's own."""
    known = list(known)
    if given not in known and not _open(given):
        near = difflib.get_close_matches(given, known, n=1, cutoff=_near)
        if near:
            raise UsageError(f"signature {text!r}: unknown {what} {given!r}; did you mean {near[0]!r}?")


def is_named(finding: Finding, words: Iterable[str]) -> bool:
    """Whether one of `words`, checks and signatures, names the finding."""
    return any(
        matches(word, finding.signature) if "/" in word or word == "*" else word == finding.checker
        for word in words
    )


def unmet(results: Mapping[str, Any], words: Iterable[str], known: Iterable[str] = ()) -> str | None:
    """Why the findings of an invalid run are not those that were expected; None where they are.

    `known` are signatures of findings that may be there besides.
    """
    words, known = list(words), set(known)
    found = findings(results)
    if not words or results.get("verdict") != "invalid":
        return None
    others = [f.signature for f in found if not is_named(f, words) and f.signature not in known]
    if not any(is_named(f, words) for f in found):
        there = ", ".join(f.signature for f in found) or "no finding that has a signature"
        return f"expected a finding of {', '.join(words)}; found {there}"
    if others:
        return f"besides what was expected ({', '.join(words)}) there is {', '.join(others)}"
    return None


def families(faults: Iterable[str]) -> str:
    """The last part of the signatures of runs under these faults.

    >>> families(["kill:leader", "partition"]), families([])
    ('kill+partition', 'none')
    """
    return "+".join(sorted({family for fault in faults for family in families_of(fault)})) or NOTHING
