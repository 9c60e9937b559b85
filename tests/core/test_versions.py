"""Which version is meant, and what is said of one that cannot be had."""

from __future__ import annotations

import pytest

from harness.core.errors import UsageError
from harness.core.versions import Source, Versions, order

KEEPER = Versions(
    default="3.9.5",
    sources=(
        Source(
            via="maven", what="a:keeper", versions=("3.4.6", "3.9.4", "3.9.5", "3.10.0-beta"), least="3.4.6"
        ),
        Source(via="debian", what="keeper", versions=("3.8.0",)),
    ),
    needs=("java",),
)
RELEASE = Versions(default="", sources=(Source(via="debian", what="memory"),))


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (None, "3.9.5"),
        ("3.9", "3.9.5"),
        ("3.8", "3.8.0"),
        ("3", "3.10.0-beta"),
        ("v3.4.6", "3.4.6"),
        ("3.5.7", "3.5.7"),  # not listed, and may be served
        ("3.9.0-alpha", "3.9.0-alpha"),
    ],
)
def test_versions_that_have_a_source(asked: str | None, meant: str) -> None:
    assert KEEPER.resolve("keeper", asked) == meant


@pytest.mark.parametrize(("asked", "near"), [("3.4.5", "3.4.6"), ("2.1", "3.4.6"), ("3.7", "3.8.0")])
def test_versions_without_a_source_are_refused_with_the_nearest(asked: str, near: str) -> None:
    with pytest.raises(
        UsageError, match=f"unknown keeper version '{asked}'; nearest known: {near}"
    ) as caught:
        KEEPER.resolve("keeper", asked)
    assert "from 3.4.6 on a Maven repository is asked for any" in str(caught.value)


@pytest.mark.parametrize("asked", ["", "newest", "3.9.5.1", "3.x", "../3.9.5", "3.9-beta", "3.9.5/.."])
def test_what_is_no_version_is_refused(asked: str) -> None:
    with pytest.raises(UsageError, match=r"expected one such as 3\.9\.5 or 3\.9"):
        KEEPER.resolve("keeper", asked)


def test_each_version_is_asked_for_where_it_is_listed() -> None:
    for version, via in (("3.8.0", "debian"), ("3.9.5", "maven"), ("3.5.7", "maven")):
        source = KEEPER.source(version)
        assert source is not None
        assert source.via == via
    assert KEEPER.source("3.4.5") is None
    assert list(KEEPER.known) == sorted(KEEPER.known, key=order)


def test_a_refusal_names_the_nearest_that_is_served_before_one_that_is_known() -> None:
    said = str(KEEPER.refused("keeper", "3.9.9", "nobody has it"))
    assert said == "keeper 3.9.9 cannot be had: nobody has it; nearest known: 3.9.5"
    said = str(KEEPER.refused("keeper", "3.9.9", "nobody has it", ("3.9.7", "3.10.1")))
    assert said.endswith("nearest served: 3.9.7")


def test_a_system_whose_source_decides_the_version() -> None:
    assert RELEASE.resolve("memory", None) == ""
    assert RELEASE.known == ()
    assert RELEASE.resolve("memory", "7.0.15") == "7.0.15"  # as a replay asks: it is there, or refused
    with pytest.raises(UsageError, match=r"unknown memory version '7'\."):
        RELEASE.resolve("memory", "7")
    assert str(RELEASE.refused("memory", "1.2.3", "no")) == "memory 1.2.3 cannot be had: no"
    said = str(RELEASE.refused("memory", "1.2.3", "no", ("7.0.15",)))
    assert said == "memory 1.2.3 cannot be had: no; nearest served: 7.0.15"
