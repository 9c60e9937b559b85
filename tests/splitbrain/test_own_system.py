"""A system that a file describes, as the front door takes it: by its path, and then by its name."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from splitbrain import doctor, listing, registry
from splitbrain import spec as specs

TEXT = """
name = "odd"
summary = "answers"
[ports]
client = 7000
[run]
argv = ["true", "--fast=${option.fast}"]
[option.fast]
default = false
[client]
command = ["./client"]
operations = ["read", "write"]
[[promise]]
property = "linearizable"
faults = ["kill", "pause"]
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_adopted", {})


def file(folder: Path, old: str = "", new: str = "") -> Path:
    assert old in TEXT
    path = folder / "odd.toml"
    path.write_text(TEXT.replace(old, new) if old else TEXT)
    return path


def resolved(path: Path, **flags: Any) -> Any:
    usual = {"system": str(path), "faults": "none", "opt": {"cas": "false"}, "seed": 1}
    return specs.resolve(None, {**usual, **flags})


def test_it_goes_by_its_name(tmp_path: Path) -> None:
    path = file(tmp_path)
    spec = resolved(path, opt={"cas": "false", "odd.fast": "true"})
    assert spec.system == "odd"
    assert spec.of("odd") == {"fast": True, "file": str(path)}
    line = specs.command_line(spec)
    assert f"--system {path} " in line
    assert "--opt odd.fast=true" in line
    assert "odd.file" not in line
    assert registry.file_of(spec) == path
    assert "odd" in registry.names("systems")


def test_a_path_in_a_spec_starts_at_the_spec(tmp_path: Path) -> None:
    file(tmp_path)
    (tmp_path / "spec.toml").write_text('system = "./odd.toml"\nfaults = []\n[opt]\ncas = false\n')
    spec = specs.resolve(tmp_path / "spec.toml", {})
    assert spec.of("odd")["file"] == str(tmp_path / "odd.toml")


def test_what_it_promises_is_survivable(tmp_path: Path) -> None:
    spec = resolved(file(tmp_path), faults="walk:survivable", time="60s")
    assert spec.faults == ("walk:kill+pause",)


def test_another_process_knows_it_by_the_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = file(tmp_path)
    spec = resolved(path)
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    path.rename(run_dir / registry.COPY)
    monkeypatch.setattr(registry, "_adopted", {})
    registry.adopt_again(spec, run_dir)
    made = registry.create("systems", "odd", spec.of("odd"))
    assert (made.file.path, made.file.home) == (run_dir / registry.COPY, tmp_path)
    assert f"--system {path} " in specs.command_line(spec)


def test_what_it_can_do_is_listed(tmp_path: Path) -> None:
    name = specs.system_named(str(file(tmp_path)))
    assert registry.operations_of(name) == ("read", "write")
    assert listing.matrix()["odd"]["register"] == ["cas"]
    told = doctor.examine_system(str(tmp_path / "odd.toml"))
    assert told["operations"] == ["read", "write"]
    assert told["workloads"] == {"register": ["--opt register.cas=false"]}
    assert told["promises"] == [{"property": "linearizable", "faults": ["kill", "pause"], "most": "minority"}]
    assert json.dumps(told)


@pytest.mark.parametrize(
    ("old", "new", "flags", "says"),
    [
        ("", "", {"opt": {}}, "its client has no cas; --opt cas=false does without"),
        ("", "", {"workload": "kv", "opt": {}}, "its client has no kv_read, kv_txn; `splitbrain list`"),
        ("", "", {"faults": "kill:leader"}, r"'odd' does not say who leads; give .*odd.toml a \[status\]"),
        ("", "", {"faults": "pause:followers"}, "'odd' does not say who leads"),
        ("", "", {"opt": {"cas": "false", "fats": "1"}}, "did you mean 'fast'"),
        ("", "", {"provider": "attach", "nodes": "127.0.0.1:1"}, "it has no option prefix"),
        ('"odd"', '"etcd"', {}, "name: there is a system 'etcd' already"),
        ('"odd"', '"register"', {}, "are both called 'register'"),
        (
            '"odd"',
            '"odd"\nimage = "odd:1"',
            {},
            "comes as the image odd:1; expected --provider docker, not 'netns'",
        ),
        (
            '["kill", "pause"]',
            '["kil"]',
            {},
            r"promise\[0\].faults: unknown fault 'kil'; did you mean 'kill'",
        ),
        ('["true"', '["tr"]\nuser = ["x"', {}, "run.user"),
    ],
)
def test_what_is_refused(tmp_path: Path, old: str, new: str, flags: dict[str, Any], says: str) -> None:
    path = file(tmp_path, old, new)
    with pytest.raises(UsageError, match=says):
        resolved(path, **flags)


def test_a_bare_family_leaves_out_the_targets_that_roles_decide(tmp_path: Path) -> None:
    spec = resolved(file(tmp_path), faults="kill", time="60s", opt={"cas": "false", "rounds": "5"})
    assert {step.target for step in specs.schedule(spec)} == {"one", "minority"}


def test_an_image_is_what_docker_makes_nodes_from(tmp_path: Path) -> None:
    path = file(tmp_path, '"odd"', '"odd"\nimage = "odd:1"')
    assert resolved(path, provider="docker").of("docker")["image"] == "odd:1"
    other = resolved(path, provider="docker", opt={"cas": "false", "image": "mine:2"})
    assert other.of("docker")["image"] == "mine:2"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read system .*nowhere.toml: No such file"):
        resolved(tmp_path / "nowhere.toml")
    with pytest.raises(UsageError, match=r"expected the file of a system of your own, such as \./etcd\.toml"):
        doctor.examine_system("etcd")
