"""JUnit XML as servers take it: the rules of Jenkins' junit-10.xsd, and what it leaves open of the counts."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

SAID = {"failure", "error", "skipped"}
# element -> (attributes it must have, those it may have, elements it may hold)
RULES: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors"},
        {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"},
        {"testsuite", "properties", "testcase", "system-out", "system-err"},
    ),
    "properties": (set(), set(), {"property"}),
    "property": ({"name", "value"}, set(), set()),
    "testcase": ({"name"}, {"time", "classname", "group"}, {*SAID, "system-out", "system-err"}),
    **{name: (set(), {"type", "message"}, set()) for name in SAID},
    "system-out": (set(), set(), set()),
    "system-err": (set(), set(), set()),
}
SECONDS = re.compile(r"\d{1,10}\.\d{3}")


def cases(text: str) -> dict[tuple[str, str], str]:
    """(class, name) -> what the case says, "" for passed; of a document that keeps the rules."""
    top = ET.fromstring(text)
    sound(top)
    found = [(str(c.get("classname")), str(c.get("name"))) for c in top.iter("testcase")]
    assert len(set(found)) == len(found), "a name is one case's"
    return {
        (str(case.get("classname")), str(case.get("name"))): " ".join(
            f"{child.tag}:{child.get('type') or ''}" for child in case
        )
        for case in top.iter("testcase")
    }


def sound(top: ET.Element) -> None:
    """Assert that a document keeps the schema, and that its counts are those of its cases."""
    assert top.tag == "testsuites"
    for element in top.iter():
        must, may, holds = RULES[element.tag]
        assert must <= set(element.keys()), (element.tag, element.attrib)
        assert set(element.keys()) <= must | may, (element.tag, element.attrib)
        assert {child.tag for child in element} <= holds, element.tag
        if element.tag in ("testsuites", "testsuite", "property", "properties") or len(element):
            assert not (element.text or "").strip(), f"{element.tag} holds no text"
        if "time" in element.keys():  # noqa: SIM118 - an element of a tree, no dict
            assert SECONDS.fullmatch(str(element.get("time")))
    for suite in [top, *top.iter("testsuite")]:
        told = {"tests": "testcase", "failures": "failure", "errors": "error", "skipped": "skipped"}
        for name, tag in told.items():
            if suite is not top or name != "skipped":
                assert suite.get(name) == str(sum(1 for _ in suite.iter(tag))), (suite.get("name"), name)
    for case in top.iter("testcase"):
        assert sum(child.tag in SAID for child in case) <= 1, "a case ends in one way"
