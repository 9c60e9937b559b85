"""Finding things by name, a third party's exactly as ours."""

import json
from pathlib import Path

import pytest

from harness.core.errors import UsageError
from splitbrain import registry
from tests.splitbrain.helpers import command, third_party


@pytest.mark.parametrize("group", registry.GROUPS)
def test_ours_are_sound(group: registry.Group) -> None:
    assert registry.broken(group) == []
    assert registry.names(group) == sorted(registry.names(group)) != []
    for name in registry.names(group):
        assert callable(registry.describe(group, name).load())


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown system 'etdc'; did you mean 'etcd'"):
        registry.describe("systems", "etdc")


def test_create_hands_over_the_options() -> None:
    fault = registry.create("faults", "partition", {"clients": "apart"})
    assert fault.name == "partition"


def test_owners_have_each_a_name() -> None:
    owners = registry.owner_options(("kill",), "etcd", "register", "netns")
    assert {"etcd", "register", "netns", "kill", "schedule", *registry.names("checkers")} == set(owners)
    assert "partition" not in owners


def test_third_parties_are_found_and_broken_ones_named(tmp_path: Path) -> None:
    acme = third_party(tmp_path / "acme")
    done = command("list", "--json", cwd=tmp_path, path=(acme,))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    faults = [row["name"] for row in found["faults"]]
    assert "gremlin" in faults
    assert faults.count("kill") == 1
    assert not {"ruined", "text"} & set(faults)
    broken = "\n".join(found["broken"])
    assert len(found["broken"]) == 3
    assert "'ruined' of acme (acme_missing:RUINED) cannot be loaded: ModuleNotFoundError" in broken
    assert "'text' of acme (acme_faults:TEXT) is a str" in broken
    assert "'kill' of acme" in broken
    assert "splitbrain provides a fault of that name already" in broken


def test_a_third_partys_fault_works_in_a_spec(tmp_path: Path) -> None:
    acme = third_party(tmp_path / "acme")
    words = ("run", "--dry-run", "--json", "--faults", "gremlin", "--opt", "teeth=3")
    done = command(*words, cwd=tmp_path, path=(acme,))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["spec"]["options"]["gremlin"] == {"teeth": 3}
    assert {step["family"] for step in found["schedule"]} == {"gremlin"}


def test_a_broken_one_that_is_asked_for_is_an_error(tmp_path: Path) -> None:
    acme = third_party(tmp_path / "acme")
    done = command("run", "--dry-run", "--faults", "ruined", cwd=tmp_path, path=(acme,))
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1
    assert "acme_missing" in done.stderr


def test_a_checker_called_like_its_workload_owns_options_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """`lock` is a workload and a checker; a bare name means the workload's."""
    from harness.core.descriptor import Descriptor
    from harness.core.options import Option
    from splitbrain import spec as specs

    options = (
        Option(name="fencing", default=True, summary=""),
        Option(name="drift", default=0.1, summary=""),
    )
    lock = Descriptor(name="lock", summary="", target="nowhere:at_all", options=options)
    real = registry.describe
    described = [real("checkers", name) for name in registry.names("checkers") if name != "lock"]
    monkeypatch.setattr(registry, "descriptors", lambda _: [*described, lock])
    monkeypatch.setattr(specs, "_refuse_what_the_client_cannot", lambda _: None)
    flags = {"workload": "lock", "faults": "none", "opt": ["fencing=false", "lock-checker.drift=0.2"]}
    spec = specs.resolve(None, flags)
    assert spec.of("lock")["fencing"] is False
    assert spec.of("lock-checker") == {"fencing": True, "drift": 0.2}
    monkeypatch.setattr(
        registry, "describe", lambda group, name: lock if group == "checkers" else real(group, name)
    )
    assert registry.checker_options("lock", {}, spec) == {"fencing": True, "drift": 0.2}
    assert registry.checker_options("lock", {"fencing": False}, spec) == {"fencing": False, "drift": 0.2}
    assert specs.resolve(None, {**flags, "opt": ["lock-checker.fencing=false"]}).of("lock")["fencing"] is True
    assert registry.checker_owner("lock", {"lock", "etcd"}) == "lock-checker"
    assert registry.checker_owner("lock", {"etcd"}) == "lock"
