"""The file of a system of the user's own: what it makes of a node, and all that can be wrong with it at once."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clusters.artifacts import Artifacts
from clusters.systems import _own_build
from clusters.systems import _own_file as schema
from clusters.systems._own_read import check, read
from clusters.systems._own_template import fill, parse, problems
from clusters.systems.own import Own
from harness.core.cluster import DATA_DIR, PROGRAM_DIR, Node, View
from harness.core.errors import ArtifactError, UsageError
from tests.splitbrain.helpers import ROOT

NODES = tuple(Node(f"n{i}", f"10.0.0.{i}") for i in (1, 2, 3))

WHOLE = """
name = "my-db"
summary = "a database"
version = "1.2"

[files]
server = "server.sh"
conf = "conf"

[ports]
client = 7000
peer = 7001

[list.peers]
of = "peers"
item = "${item.name}=${item.address}:${ports.peer} # not ${node.name}"
join = "\\n"

[run]
argv = ["${files.server}", "--id=${node.index}", "--of=${nodes.count}", "--fast=${option.fast}", "$HOME", "$${x}"]
env = { QUORUM = "${nodes.majority}" }
dirs = ["${data}/wal"]
stop_signal = "INT"

[[run.config]]
path = "${data}/my.conf"
template = "my.conf.template"

[[run.config]]
path = "${data}/id"
text = "${node.name} ${version}"

[option.fast]
default = false
caveat = "it does not sync"

[client]
command = ["python3", "client.py"]
operations = ["read", "write"]

[[log]]
kind = "election"
pattern = 'leads in term (?P<term>\\d+)'

[[promise]]
property = "linearizable"
faults = ["kill", "partition"]
unless = { fast = true }
"""

COMMAND = 'command = ["python3", "client.py"]\noperations = ["read", "write"]'


def system(folder: Path, text: str = WHOLE, **options: Any) -> Own:
    path = folder / "my.toml"
    path.write_text(text)
    (folder / "server.sh").write_text("#!/bin/sh\n")
    (folder / "conf").mkdir(exist_ok=True)
    (folder / "conf" / "a").write_text("1")
    (folder / "my.conf.template").write_text("me=${node.address}\n${list.peers}\n")
    return Own({"file": str(path), **options})


def launched(made: Own, node: Node = NODES[1]) -> Any:
    install = made.install(None, Artifacts())
    view = View(
        nodes=NODES,
        run="abcdef",
        version=install.version,
        options=made.options,
        program={name: f"{PROGRAM_DIR}/{name}" for name in install.program},
        data_dir=DATA_DIR,
    )
    (process,) = made.launch(node, view)
    return process


def test_what_runs_on_a_node(tmp_path: Path) -> None:
    process = launched(system(tmp_path))
    assert process.name == "my-db"
    assert process.argv == (f"{PROGRAM_DIR}/server", "--id=2", "--of=3", "--fast=false", "$HOME", "${x}")
    assert process.env == {"QUORUM": "2"}
    assert process.dirs == (DATA_DIR, f"{DATA_DIR}/wal")
    assert process.ports == (7000, 7001)
    assert process.stop_signal == "INT"
    assert hasattr(signal, f"SIG{process.stop_signal}")
    peers = "n1=10.0.0.1:7001 # not n2\nn3=10.0.0.3:7001 # not n2"
    assert process.files == {
        f"{DATA_DIR}/my.conf": f"me=10.0.0.2\n{peers}\n",
        f"{DATA_DIR}/id": "n2 1.2",
    }


def test_several_processes_of_a_node(tmp_path: Path) -> None:
    text = (
        WHOLE[: WHOLE.index("[run]")]
        + '[[run]]\nname = "a"\nargv = ["a"]\n[[run]]\nname = "b"\nargv = ["b"]\n'
    )
    made = system(tmp_path, text + WHOLE[WHOLE.index("[option.fast]") :])
    view = View(
        nodes=NODES, run="r", version="1", options={}, program={"server": "s", "conf": "c"}, data_dir="/d"
    )
    assert [(p.name, p.argv) for p in made.launch(NODES[0], view)] == [("a", ("a",)), ("b", ("b",))]


def test_install_promises_options_and_events(tmp_path: Path) -> None:
    made = system(tmp_path, fast=True)
    install = made.install(None, Artifacts())
    assert (install.version, sorted(install.program)) == ("1.2", ["conf", "server"])
    assert all(len(digest) == 64 for digest in install.sha256.values())
    assert install.caveats == ("fast=true: it does not sync",)
    (promise,) = made.promises
    assert (promise.prop, promise.unless) == ("linearizable", {"fast": "true"})
    assert promise.families == {"kill", "partition"}
    found = list(made.events("n1", [(5, "n1 leads in term 7"), (6, "idle"), (7, "panic: out of luck")]))
    assert [(e.time, e.kind, e.term) for e in found] == [(5, "election", 7), (7, "crash", None)]
    with pytest.raises(UsageError, match="leave --version out"):
        made.install("3.6", Artifacts())


def test_a_version_is_that_of_the_files_where_the_file_says_none(tmp_path: Path) -> None:
    text = WHOLE.replace('version = "1.2"', "").replace("${version}", "")
    first = system(tmp_path, text).install(None, Artifacts()).version
    assert first == system(tmp_path, text).install(None, Artifacts()).version
    (tmp_path / "server.sh").write_text("#!/bin/sh\nexit 1\n")
    assert Own({"file": str(tmp_path / "my.toml")}).install(None, Artifacts()).version != first


BROKEN = """
name = "My DB"
sumary = "x"

[files]
server = "${biuld}/server"

[ports]
peer = 70000
other = "80"

[run]
argv = ["${files.server}", "${node.adress}", "${node.name"]
stop_signal = "STOP"

[[run.config]]
path = "${data}/a"

[client]
class = "module"
operations = ["read"]

[client.http.cas]
path = "kv"
body = "${value|b64}"
mismatch = [{ body = "(" }, 42]

[[promise]]
property = "linearisable"
faults = ["kill"]

[[promise]]
property = "durable"
faults = ["kil"]
unless = { fast = true }

[[log]]
kind = "crash"
pattern = "("
"""

WRONG = [
    (2, "name", "lower-case words"),
    (3, "sumary", "did you mean 'summary'"),
    (6, "files.server", "did you mean 'build'|Known: none"),
    (9, "ports.peer", "70000; expected `int` <= 65535"),
    (10, "ports.other", "expected `int`, got `str`"),
    (13, r"run.argv\[1\]", "did you mean 'node.address'"),
    (13, r"run.argv\[2\]", "does not end"),
    (14, "run.stop_signal", "invalid enum value 'STOP'"),
    (16, r"run.config\[0\]", "either template or text"),
    (19, "client", "one of class, command and http; there is class and http"),
    (20, "client.class", "expected module:Class"),
    (21, "client.operations", "only a command needs them"),
    (24, "client.http.cas.path", "begins with /"),
    (25, "client.http.cas.body", "did you mean|Known: "),
    (26, r"client.http.cas.mismatch\[1\]", "42; expected `int` >= 200"),
    (29, r"promise\[0\].property", "invalid enum value 'linearisable'"),
    (34, r"promise\[1\].faults", "did you mean 'kill'"),
    (35, r"promise\[1\].unless.fast", "unknown option 'fast'"),
    (39, r"log\[0\].pattern", "no regular expression"),
]


def test_all_that_is_wrong_is_told_at_once_with_line_and_field(tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(BROKEN)
    with pytest.raises(UsageError) as e:
        read(path, families=["kill", "pause"])
    told = str(e.value).splitlines()
    for line, field, what in WRONG:
        assert any(re.search(f"line {line}: {field}: .*({what})", t) for t in told), (
            line,
            field,
            str(e.value),
        )
    assert told[0] == f"{path} has {len(told) - 1} problems:"
    lines = [int(t.split()[1].rstrip(":")) for t in told[1:]]
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"${files.server}"', '"${files.sever}"', r"line \d+: run.argv\[0\]: .*did you mean 'files.server'"),
        ("${item.name}", "${list.peers}", "list.peers.item: unknown placeholder 'list.peers'"),
        ("client = 7000\n", "", "ports: there is no client"),
        ("peer = 7001", "peer = 7000", "7000 is the port client as well"),
        ('operations = ["read", "write"]', "", "expected the operations that the command knows"),
        ('["read", "write"]', '["read"]', "the client has no write; expected one of read"),
        ('["read", "write"]', '["open", "write"]', "'open' cannot name an operation"),
        ("default = false", "default = []", "option.fast.default"),
        ("[client]", "[client]\nport = 'clint'", "client.port: unknown port 'clint'; did you mean 'client'"),
        ("[run]", "[run]\nuser = 7", "run.user"),
        ("[option.fast]", "[option.prefix]\ndefault = 1\n[option.fast]", "splitbrain's own"),
        ('version = "1.2"', "format = 2", "reads format 1"),
    ],
)
def test_one_problem_is_one_sentence(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in WHOLE
    path = tmp_path / "my.toml"
    path.write_text(WHOLE.replace(old, new))
    with pytest.raises(UsageError, match=says) as e:
        read(path)
    assert len(str(e.value).splitlines()) == 1


def test_requests_are_looked_at_too(tmp_path: Path) -> None:
    path = tmp_path / "my.toml"
    text = WHOLE.replace(COMMAND, "")
    requests = """
[client.http.read]
path = "kv/${kye}"
mismatch = [409]
fail = [{ body = "(" }]

[client.http.write]
path = "/kv"
body = "${value|b64}"
"""
    path.write_text(text.replace("[[log]]", f"{requests}\n[[log]]"))
    with pytest.raises(UsageError) as e:
        read(path)
    for says in (
        "client.http.read.path: unknown placeholder 'kye'; did you mean 'key'",
        "client.http.read.path: 'kv/${kye}'; expected a path that begins with /",
        "client.http.read.value: missing",
        "client.http.read.mismatch: only a cas",
        "client.http.read.fail[0].body: '(' is no regular expression",
        "client.http.write.body: unknown way to write a value 'b64'",
    ):
        assert says in str(e.value)


def test_what_it_refers_to_must_be_there(tmp_path: Path) -> None:
    made = system(tmp_path)
    (tmp_path / "server.sh").unlink()
    (tmp_path / "my.conf.template").write_text("one\n${nodee.name}\n")
    with pytest.raises(UsageError) as e:
        check(made.file)
    assert f"files.server: there is no {tmp_path}/server.sh" in str(e.value)
    assert "my.conf.template, line 2: unknown placeholder 'nodee.name'; did you mean 'node.name'" in str(
        e.value
    )
    (tmp_path / "my.conf.template").unlink()
    with pytest.raises(UsageError, match=r"cannot read .*my\.conf\.template: No such file"):
        check(made.file)


def test_docs_name_every_field() -> None:
    text = (ROOT / "docs" / "own-system.md").read_text()
    fields = text[text.index("## The fields") :]
    kinds = [v for v in vars(schema).values() if isinstance(v, type) and issubclass(v, msgspec.Struct)]
    assert len(kinds) > 12
    for kind in kinds:
        for field in msgspec.structs.fields(kind):
            if kind.__module__ == schema.__name__ and field.type is not Path:
                name = field.encode_name
                assert re.search(rf"`{name}`|[\[.]{name}\b|\b{name} = ", fields), f"{kind.__name__}.{name}"
    for name in ("node.name", "nodes.majority", "data", "run", "version", "item.index", "home", "go"):
        assert f"`{name}`" in text


def test_templates() -> None:
    assert fill("a${b}c$$d$e", {"b": "${x}"}) == "a${x}c$d$e"
    assert [p.name for p in parse("${ a }${b|json}").places] == ["a", "b"]
    assert problems("${a}", ["a"]) == []
    assert "only requests" in problems("${a|json}", ["a"])[0]


# Building.

BUILT = WHOLE.replace(
    '[files]\nserver = "server.sh"',
    f"[build]\nargv = ['{sys.executable}', 'make.py', '${{build}}']\ninputs = ['*.py']\n\n"
    "[files]\nserver = '${build}/out'",
)
MAKE = "import sys, pathlib\npathlib.Path(sys.argv[1], 'out').write_text('built')\nprint('made')\n"


def test_a_build_is_made_once_and_again_when_its_inputs_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLITBRAIN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "make.py").write_text(MAKE)
    said: list[str] = []
    artifacts = Artifacts(say=said.append)
    made = system(tmp_path, BUILT)
    first = made.install(None, artifacts).program["server"]
    assert Path(first).read_text() == "built"
    assert made.install(None, artifacts).program["server"] == first
    assert said == ["building my-db"]
    (tmp_path / "make.py").write_text(MAKE + "#")
    assert made.install(None, artifacts).program["server"] != first
    assert len(said) == 2


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            "print('first'); print('no such header'); raise SystemExit(3)",
            "make.py .* ended with 3:\n    first\n    no such header",
        ),
        ("pass", "files.server: .*: its build did not make it"),
    ],
)
def test_a_build_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, says: str) -> None:
    monkeypatch.setenv("SPLITBRAIN_CACHE", str(tmp_path / "cache"))
    (tmp_path / "make.py").write_text(code)
    with pytest.raises(ArtifactError, match=says):
        system(tmp_path, BUILT).install(None, Artifacts())
    (tmp_path / "make.py").unlink()
    with pytest.raises(UsageError, match=r"build.inputs: \*.py match no file"):
        system(tmp_path, BUILT).install(None, Artifacts())
    assert _own_build.folder


# A Python class.

NEEDY = """
class Mine:
    def __init__(self, more): pass
    def open(self): pass
    def close(self): pass
"""

CLASS = """
class Mine:
    def open(self, node, place, options, timeout_s=1.0):
        new = Mine()
        new.at = (node.address, node.port, options["fast"])
        return new

    def close(self):
        pass

    def read(self, key):
        return [key, *self.at]

    def write(self, key, value):
        pass
"""


def classy(folder: Path, module: str, code: str, target: str = "Mine") -> Own:
    (folder / f"{module}.py").write_text(code)
    text = WHOLE.replace(
        'command = ["python3", "client.py"]\noperations = ["read", "write"]', f'class = "{module}:{target}"'
    )
    return system(folder, text)


def test_a_python_class(tmp_path: Path) -> None:
    made = classy(tmp_path, "own_client_of_this_test", CLASS)
    client = made.client.open(NODES[0], None, made.options)
    assert client.read("k") == ["k", "10.0.0.1", 7000, False]  # type: ignore[attr-defined]
    assert made.operations == ("read", "write")


@pytest.mark.parametrize(
    ("module", "code", "target", "says"),
    [
        ("own_ruined", "raise RuntimeError('boom')", "Mine", "RuntimeError: boom"),
        ("own_other", "class Other: pass", "Mine", "AttributeError.*Mine"),
        (
            "own_needy",
            NEEDY,
            "Mine",
            "TypeError",
        ),
        ("own_poor", "class Mine: pass", "Mine", "has no open and no close"),
    ],
)
def test_a_class_that_cannot_be_used(tmp_path: Path, module: str, code: str, target: str, says: str) -> None:
    with pytest.raises(UsageError, match=f"client.class: {module}:{target} .*{says}"):
        classy(tmp_path, module, code, target).client  # noqa: B018 - it is made when it is asked for
