"""What `splitbrain systems` tells, with a third party's system that cannot be had here."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from textwrap import dedent

import pytest

from tests.splitbrain.helpers import command


def acme(folder: Path) -> Path:
    """An installed distribution with a system of jars, one that says nothing of versions, one
    that is broken, and one whose client library is not there."""
    info = folder / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[splitbrain.systems]\njarred = acme:JARRED\nplain = acme:PLAIN\nruin = acme:RUIN\n"
        "clientless = acme:CLIENTLESS\n"
    )
    (folder / "acme.py").write_text(
        dedent(
            """\
            from splitbrain import Descriptor, Promise, Source, Versions

            VERSIONS = Versions(
                default="1.2.3",
                sources=(Source(via="maven", what="acme:jarred", versions=("1.2.3",), least="1.0.0"),),
                needs=("java",),
            )
            JARRED = Descriptor(name="jarred", summary="in jars", target="acme:Jarred", versions=VERSIONS)
            PLAIN = Descriptor(name="plain", summary="plain", target="acme:Plain")
            RUIN = Descriptor(name="ruin", summary="broken", target="acme:ruin")


            CLIENTLESS = Descriptor(name="clientless", summary="no client", target="acme:clientless")


            class Jarred:
                promises = (
                    Promise(prop="durable", families=frozenset({"kill", "pause"}), unless={"fsync": "no"},
                            source="its manual", link="https://acme.invalid/manual"),
                )

                def __init__(self, options):
                    self.client = self

                def install(self, version, artifacts):
                    exact = VERSIONS.resolve("jarred", version)
                    artifacts.maven("jarred", exact, roots=(f"acme:jarred:{exact}",))


            class Plain(Jarred):
                promises = ()


            def ruin(options):
                raise ValueError("ruined")


            def clientless(options):
                import acme_client
            """
        )
    )
    return folder


def with_tools(tmp_path: Path, *programs: str) -> str:
    """A PATH with these programs and hardly any other: a `java` that says its version, a `mvn` that fails."""
    folder = tmp_path / "bin"
    folder.mkdir()
    scripts = {"java": "echo 'openjdk version \"17.0.1\"' >&2"}
    for program in programs:
        (folder / program).write_text(f"#!/bin/sh\n{scripts.get(program, 'exit 1')}\n")
        (folder / program).chmod(0o755)
    return str(folder)


def test_etcd_says_what_is_known_and_cached_and_promised(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "programs" / f"etcd-3.6.16-{platform.machine()}-0123abcd"
    folder.mkdir(parents=True)
    (folder / "origin.json").write_text('{"sha256": "", "origin": "somewhere"}')
    (folder.parent / f"etcd-3.6.15-{platform.machine()}-0123abcd.lock").write_text("")
    env = {"SPLITBRAIN_CACHE": str(tmp_path / "cache")}
    done = command("systems", "--json", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    row = next(row for row in json.loads(done.stdout)["systems"] if row["name"] == "etcd")
    assert row["versions"]["default"] in row["versions"]["known"]
    assert {source["via"] for source in row["versions"]["sources"]} == {"go", "pypi", "debian"}
    assert all("missing" in source for source in row["versions"]["sources"])
    assert {promise["prop"] for promise in row["promises"]} >= {"linearizable", "durable"}
    assert all(promise["link"].startswith("https://") for promise in row["promises"])
    text = command("systems", cwd=tmp_path, env=env).stdout
    assert "3.6.16" in text
    assert "not with" in text


def test_what_is_missing_here_is_one_sentence_each(tmp_path: Path) -> None:
    at = acme(tmp_path / "site")
    env = {"PATH": with_tools(tmp_path), "JAVA_HOME": "", "COLUMNS": "300"}
    rows = json.loads(command("systems", "--json", cwd=tmp_path, path=(at,), env=env).stdout)["systems"]
    found = {row["name"]: row for row in rows}
    assert found["jarred"]["runs_with"]["java"].startswith("no Java found")
    assert "install default-jre-headless" in found["jarred"]["versions"]["sources"][0]["missing"]
    assert found["plain"]["versions"] is None
    assert found["plain"]["promises"] == []
    assert found["ruin"]["promises"] is None
    assert "ruined" in found["ruin"]["problem"]
    assert found["clientless"]["problem"] == (
        "system 'clientless' cannot be made: No module named 'acme_client'; install again what provides it"
    )
    text = command("systems", cwd=tmp_path, path=(at,), env=env).stdout
    assert "what was acknowledged is there afterwards, through kill, pause of a minority of the nodes" in text
    assert "https://acme.invalid/manual" in text


@pytest.mark.parametrize(
    ("programs", "says"),
    [
        ((), "no Java found"),
        (
            ("java",),
            "Java is there (17.0.1), but no mvn to fetch the jars of jarred 1.2.3 with; install maven",
        ),
        (("java", "mvn"), "mvn does not run"),
    ],
)
def test_fetch_without_java_or_maven_is_exit_4_and_one_sentence(
    tmp_path: Path, programs: tuple[str, ...], says: str
) -> None:
    env = {"PATH": with_tools(tmp_path, *programs), "JAVA_HOME": "", "SPLITBRAIN_CACHE": str(tmp_path / "c")}
    done = command("fetch", "jarred", cwd=tmp_path, path=(acme(tmp_path / "site"),), env=env)
    assert done.returncode == 4
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_fetch_of_an_unknown_version_is_exit_2_with_the_nearest(tmp_path: Path) -> None:
    done = command("fetch", "jarred@0.9.0", cwd=tmp_path, path=(acme(tmp_path / "site"),))
    assert done.returncode == 2
    assert "unknown jarred version '0.9.0'; nearest known: 1.2.3" in done.stderr
