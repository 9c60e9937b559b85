"""Each source once against the real registry, and each with one that is down, lies, or lacks the version."""

from __future__ import annotations

import http.server
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from clusters.artifacts import Artifact, Artifacts, VersionRefused
from harness.core.errors import ArtifactError
from tests.splitbrain.helpers import ROOT, command

NATS = "github.com/nats-io/nats-server/v2"
ZOOKEEPER = "org.apache.zookeeper:zookeeper"
Obtain = Callable[[Artifacts], Artifact]


def nats(artifacts: Artifacts, version: str = "2.10.25") -> Artifact:
    return artifacts.go_copy("nats", version, module=NATS)


def zookeeper(artifacts: Artifacts, version: str = "3.4.13") -> Artifact:
    return artifacts.maven("zookeeper", version, roots=(f"{ZOOKEEPER}:{version}",), exclude=("jline:*",))


def pysyncobj(artifacts: Artifacts, version: str = "0.3.14") -> Artifact:
    return artifacts.pypi_tree("pysyncobj", version, project="pysyncobj")


def redis(artifacts: Artifacts, version: str | None = None) -> Artifact:
    packages = ("redis-server", "redis-tools", "libjemalloc2", "liblua5.1-0", "liblzf1", "libatomic1")
    return artifacts.debian_tree("redis", version, packages=packages)


def says(*argv: str, **env: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True, env=os.environ | env)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def again_offline(cache: Path, obtain: Obtain, found: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was obtained is used without a network and without the tool that fetched it."""
    monkeypatch.setenv("PATH", str(cache))
    monkeypatch.setenv("JAVA_HOME", str(cache))
    assert obtain(Artifacts(cache, offline=True)) == found
    assert obtain(Artifacts(cache)) == found


@pytest.mark.slow
def test_a_go_program_from_a_copy_of_its_module(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = nats(Artifacts(cache))
    assert says(found.path, "--version").strip() == "nats-server: v2.10.25"
    assert b"not a dynamic" in subprocess.run(["ldd", found.path], capture_output=True, check=False).stderr
    again_offline(cache, nats, found, monkeypatch)


@pytest.mark.slow
def test_jars_with_what_they_need_and_without_what_is_left_out(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = zookeeper(Artifacts(cache))
    jars = {path.name for path in Path(found.path).iterdir()}
    assert {"zookeeper-3.4.13.jar", "slf4j-api-1.7.25.jar"} <= jars
    assert not any(name.startswith("jline") for name in jars)
    # Without a configuration it says how it is called: the class and all it is linked against was found.
    main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    done = subprocess.run(
        ["java", "-cp", f"{found.path}/*", main], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Usage: ZooKeeperServerMain configfile" in done.stdout + done.stderr
    again_offline(cache, zookeeper, found, monkeypatch)


@pytest.mark.slow
def test_python_code_for_a_server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = pysyncobj(Artifacts(cache))
    code = "import pysyncobj; print(pysyncobj.__file__)"
    where = says(sys.executable, "-c", code, PYTHONPATH=found.path, PYTHONDONTWRITEBYTECODE="")
    assert where.startswith(found.path)
    assert list(Path(found.path).rglob("__pycache__")), "bytecode was written, which is no damage"
    again_offline(cache, pysyncobj, found, monkeypatch)


@pytest.mark.slow
def test_debian_packages_unpacked_with_the_libraries_they_need(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = redis(Artifacts(cache))
    libraries = ":".join(str(path) for path in (Path(found.path) / "usr" / "lib").glob("*-linux-gnu*"))
    program = f"{found.path}/usr/bin/redis-server"
    assert f"v={found.version}" in says(program, "--version", LD_LIBRARY_PATH=libraries)
    monkeypatch.setenv("PATH", str(cache))
    assert redis(Artifacts(cache, offline=True)) == found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("obtain", "names"),
    [
        (lambda a: nats(a, "2.99.0"), rf"does not serve {NATS}@v2\.99\.0"),
        (lambda a: zookeeper(a, "3.9.99"), rf"does not serve {ZOOKEEPER}:3\.9\.99"),
        (lambda a: pysyncobj(a, "9.9"), r"PyPI has no pysyncobj 9\.9"),
        (lambda a: redis(a, "2.0.0"), r"this Debian has redis-server \S+, not 2\.0\.0"),
    ],
    ids=["go", "maven", "pypi", "debian"],
)
def test_a_version_that_does_not_exist(cache: Path, obtain: Obtain, names: str) -> None:
    with pytest.raises(VersionRefused, match=names) as caught:
        obtain(Artifacts(cache))
    assert ("PyPI" not in names) or "0.3.14" in caught.value.served
    assert not list((cache / "programs").glob("partial-*"))


# Sources that are down: nobody listens on port 1 of the loopback.


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    home = tmp_path / "home"
    (home / ".m2").mkdir(parents=True)
    (home / ".m2" / "settings.xml").write_text(
        "<settings><mirrors><mirror><id>down</id><mirrorOf>*</mirrorOf><url>http://127.0.0.1:1/</url></mirror>"
        "</mirrors></settings>"
    )
    monkeypatch.setenv("MAVEN_OPTS", f"-Duser.home={home}")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    "obtain",
    [
        nats,
        pytest.param(zookeeper, marks=pytest.mark.slow),
        pytest.param(pysyncobj, marks=pytest.mark.slow),
        pytest.param(redis, marks=pytest.mark.slow),
    ],
    ids=["go", "maven", "pypi", "debian"],
)
def test_a_source_that_is_down(tmp_path: Path, obtain: Obtain) -> None:
    with pytest.raises(
        ArtifactError, match="cannot be reached; what is in the cache works without"
    ) as caught:
        obtain(Artifacts(tmp_path / "cache"))
    assert not isinstance(caught.value, VersionRefused), "nothing was said about the version"
    assert [path.suffix for path in (tmp_path / "cache" / "programs").iterdir()] == [".lock"]


@pytest.mark.usefixtures("no_network")
def test_a_fetch_from_a_source_that_is_down_is_exit_4(tmp_path: Path) -> None:
    done = command("fetch", "etcd@3.6.15", cwd=tmp_path, env={"SPLITBRAIN_CACHE": str(tmp_path / "cache")})
    assert done.returncode == 4
    said = [line for line in done.stderr.splitlines() if line.startswith("splitbrain: ")]
    assert len(said) == 1
    assert "etcd 3.6.15 could not be obtained" in said[0]
    assert "connection refused" in done.stderr
    done = command("fetch", "etcd@9.9.9", "--offline", cwd=tmp_path, env={"SPLITBRAIN_CACHE": str(tmp_path)})
    assert done.returncode == 4
    assert "is not in the cache" in done.stderr


# Sources that announce another checksum than that of what they send.


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which it is served."""
    folder = tmp_path / "site"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_wheel_with_another_sum_than_its_index_says(
    tmp_path: Path, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = site
    wheel = "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(folder / wheel, "w") as archive:
        archive.writestr("thing.py", "")
        archive.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        archive.writestr(
            "thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("thing-1.0.dist-info/RECORD", "")
    (folder / "simple" / "thing").mkdir(parents=True)
    index = folder / "simple" / "thing" / "index.html"
    monkeypatch.setenv("PIP_INDEX_URL", f"{url}/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)

    def obtain() -> Artifact:
        return Artifacts(tmp_path / "cache").pypi_tree("thing", "1.0", project="thing")

    index.write_text(f'<a href="/{wheel}#sha256={"0" * 64}">{wheel}</a>')
    with pytest.raises(ArtifactError, match="it is not used; try another mirror"):
        obtain()
    assert [path.suffix for path in (tmp_path / "cache" / "programs").iterdir()] == [".lock"]
    index.write_text(f'<a href="/{wheel}">{wheel}</a>')
    assert (Path(obtain().path) / "thing.py").exists()


@pytest.mark.slow
def test_a_jar_with_another_sum_than_its_repository_says(
    tmp_path: Path, site: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = site
    at = folder / "invalid" / "acme" / "thing" / "1.0"
    at.mkdir(parents=True)
    head = "<modelVersion>4.0.0</modelVersion><groupId>invalid.acme</groupId><artifactId>thing</artifactId>"
    (at / "thing-1.0.pom").write_text(f"<project>{head}<version>1.0</version></project>")
    (at / "thing-1.0.jar").write_bytes(b"no jar, but nobody looks inside")
    for name in ("thing-1.0.pom", "thing-1.0.jar"):
        (at / f"{name}.sha1").write_text("0" * 40)
    home = tmp_path / "home"
    (home / ".m2").mkdir(parents=True)
    (home / ".m2" / "settings.xml").write_text(
        "<settings><profiles><profile><id>p</id><activation><activeByDefault>true</activeByDefault></activation>"
        f"<repositories><repository><id>site</id><url>{url}</url></repository></repositories></profile></profiles>"
        "</settings>"
    )
    monkeypatch.setenv("MAVEN_OPTS", f"-Duser.home={home}")
    with pytest.raises(ArtifactError, match="it is not used; try another mirror") as caught:
        Artifacts(tmp_path / "cache").maven("thing", "1.0", roots=("invalid.acme:thing:1.0",))
    assert not isinstance(caught.value, VersionRefused)


# No room.

FULL = """
import sys
from pathlib import Path
from clusters.artifacts import Artifacts
from harness.core.errors import ArtifactError

def make(work, folder):
    (folder / "big").write_bytes(bytes(1_000_000))
    return "made here"

try:
    Artifacts(Path(sys.argv[1])).obtain("thing", "1.2", ("test",), make, tree=True)
except ArtifactError as e:
    print(e)
print(*(p.suffix for p in (Path(sys.argv[1]) / "programs").iterdir()))
"""


@pytest.mark.netns
def test_a_disk_without_room(tmp_path: Path) -> None:
    mount = shutil.which("mount")
    assert mount is not None
    script = f'{mount} -t tmpfs -o size=256k none "$1" && exec "$0" -c "$2" "$1"'
    argv = ["unshare", "--mount", "sh", "-c", script, sys.executable, str(tmp_path), FULL]
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    said, left = done.stdout.splitlines()
    assert said.startswith("the disk is full: thing 1.2 could not be written to ")
    assert left == ".lock"
