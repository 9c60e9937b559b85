"""From file and flags to a spec, and back to a command line."""

import itertools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import UsageError
from splitbrain import registry
from splitbrain import spec as specs

FULL = """
format = 1
system = "etcd"
version = 3.6
workload = "register"
faults = ["kill", "pause:leader"]
nodes = 5
time = "2m"
rate = 50
concurrency = 4
seed = 7
expect = "invalid"

[opt]
reads = "serializable"

[opt.register]
ops_per_key = 40
"""


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "spec.toml"
    path.write_text(text)
    return path


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    spec = specs.resolve(toml(tmp_path, FULL), {})
    assert (spec.version, spec.faults, spec.nodes, spec.time_s) == ("3.6", ("kill", "pause:leader"), 5, 120.0)
    assert (spec.rate, spec.concurrency, spec.seed, spec.expect) == (50.0, 4, 7, "invalid")
    assert spec.of("etcd")["reads"] == "serializable"
    assert spec.of("register")["ops_per_key"] == 40
    assert spec.of("etcd")["heartbeat_ms"] == 50, "every value is filled in"


def test_flags_win(tmp_path: Path) -> None:
    flags = {"time": "10s", "faults": "partition", "opt": ["reads=linearizable"], "seed": "9", "rate": None}
    spec = specs.resolve(toml(tmp_path, FULL), flags)
    assert (spec.time_s, spec.faults, spec.seed, spec.rate) == (10.0, ("partition",), 9, 50.0)
    assert spec.of("etcd")["reads"] == "linearizable"
    assert spec.of("register")["ops_per_key"] == 40


def test_a_flag_wins_also_when_only_one_of_them_names_the_owner(tmp_path: Path) -> None:
    spec = specs.resolve(toml(tmp_path, FULL), {"opt": ["etcd.reads=linearizable"]})
    assert spec.of("etcd")["reads"] == "linearizable"


def test_defaults() -> None:
    spec = specs.resolve(None, {})
    assert spec.faults == specs.DEFAULT_FAULTS
    assert (spec.system, spec.workload, spec.provider, spec.nodes) == ("etcd", "register", "netns", 3)


def test_without_a_seed_one_is_drawn() -> None:
    assert len({specs.resolve(None, {"faults": "none"}).seed for _ in range(5)}) > 1


@pytest.mark.parametrize("none", ["none", "", " "])
def test_no_faults(none: str) -> None:
    spec = specs.resolve(None, {"faults": none, "time": "1s"})
    assert spec.faults == ()
    assert specs.schedule(spec) == ()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"system": "etdc"}, "unknown system 'etdc'; did you mean 'etcd'"),
        ({"workload": "registre"}, "unknown workload 'registre'; did you mean 'register'"),
        ({"provider": "netn"}, "unknown provider 'netn'; did you mean 'netns'"),
        ({"faults": "partitoin"}, "unknown fault 'partitoin'; did you mean 'partition'"),
        ({"faults": "pause:leadr"}, "unknown target of pause 'leadr'; did you mean 'leader'"),
        ({"faults": "kill:"}, "'kill:' has an empty target; expected kill alone or one of leader"),
        ({"faults": "kill,kill"}, "'kill' is named twice"),
        ({"faults": "kill:one,kill:one"}, "'kill:one' is named twice"),
        ({"faults": "kill,,pause"}, "an empty name"),
        ({"faults": "none,kill"}, "'none' stands alone"),
        ({"faults": "partition:bridge", "nodes": "2"}, "needs at least 3"),
        ({"faults": "partition", "nodes": "1"}, "use more nodes"),
        ({"nodes": "0"}, "nodes 0 is out of range; expected 1 to 9"),
        ({"nodes": "10"}, "nodes 10 is out of range"),
        ({"nodes": "three"}, "nodes = 'three': expected a whole number from 1 to 9"),
        ({"nodes": "2.5"}, "expected a whole number"),
        ({"rate": "-1"}, "rate -1.0 is out of range"),
        ({"rate": "1000001"}, "out of range; expected 0 to 1000000"),
        ({"rate": "nan"}, "rate nan is out of range"),
        ({"rate": "fast"}, "rate = 'fast': expected a number"),
        ({"concurrency": "0"}, "concurrency 0 is out of range; expected 1 to 1000"),
        ({"time": "0.5s"}, "time 0.5s is out of range; expected from 1s"),
        ({"time": "8d"}, "out of range"),
        ({"time": "soon"}, "time 'soon': expected seconds or a duration such as 30s"),
        ({"time": "inf"}, "time 'inf'"),
        ({"time": "1m nonsense"}, "time '1m nonsense'"),
        ({"time": "3s"}, "too short"),
        ({"seed": "-1"}, "seed -1 is out of range"),
        ({"seed": str(2**63)}, "out of range"),
        ({"expect": "maybe"}, "expect = 'maybe': expected valid or invalid"),
        ({"opt": ["reads"]}, "--opt reads: expected NAME=VALUE"),
        ({"opt": ["=1"]}, "expected NAME=VALUE"),
        ({"opt": ["reads=a", "reads=b"]}, "--opt reads is given twice"),
        ({"opt": ["raeds=serializable"]}, "unknown option 'raeds'; did you mean 'reads'"),
        ({"opt": ["reads=sometimes"]}, "expected one of linearizable, serializable"),
        ({"opt": ["ops_per_key=many"]}, "expected a whole number"),
        ({"opt": ["election_ms=60"]}, "expected at least 5 times heartbeat_ms"),
        (
            {"opt": ["clients=apart"], "faults": "kill"},
            "belongs to fault 'partition', which this run does not",
        ),
        ({"opt": ["partition.clients=apart"], "faults": "kill"}, "belongs to fault 'partition'"),
        ({"faults": "kill:n4"}, "there is no node 'n4' among 3 nodes; expected n1 to n3"),
        ({"faults": "kill:n1+n1"}, "node 'n1' is named twice"),
        ({"faults": "partition:n1+n2+n3"}, "no node is left to cut them off from"),
        ({"faults": "walk:kil"}, "unknown fault 'kil'; did you mean 'kill'"),
        ({"faults": "walk:kill+kill"}, "names kill twice"),
        ({"faults": "walk:kill,walk:pause"}, "name all states in one walk"),
        ({"faults": "walk:kill+pause,kill:all"}, "is a state of"),
        ({"faults": "walk:kill", "opt": ["down=4"]}, "expected minority, all, or a number from 1 to 3"),
        ({"faults": "kill:all", "opt": ["schedule=phases"]}, "takes out 3 nodes at once"),
        ({"faults": "kill:all", "opt": ["down=1"]}, "takes out more nodes than schedule.down=1"),
        ({"faults": "kill", "opt": ["schedule=chaos"]}, "expected one of interval, phases"),
        ({"faults": "kill", "opt": ["script=["]}, "expected JSON"),
        ({"faults": "kill", "opt": ['script=[{"do":"pause n1; resume"}]']}, "the schedule names pause:n1"),
    ],
)
def test_bad_flags_are_refused_in_a_sentence(flags: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as e:
        specs.resolve(None, flags)
    assert says in str(e.value)
    assert "\n" not in str(e.value)
    assert e.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sytem = 'etcd'", "unknown key 'sytem'; did you mean 'system'"),
        ("format = 2", "format = 2; this splitbrain reads format 1"),
        ("format = true", "format = True"),
        ("= 3", "expected TOML"),
        ("nodes = true", "nodes = True: expected a whole number"),
        ("nodes = 3.5", "nodes = 3.5: expected a whole number"),
        ("system = 3", "system = 3: expected a name"),
        ("faults = [1]", "faults = [1]: expected names"),
        ("faults = {kill = 1}", "expected names"),
        ("time = true", "time True"),
        ("schedule = 'phases'", "expected [[schedule]] entries"),
        ("[[schedule]]\nat = 1\ndo = 'kil n1'", "unknown fault 'kil'; did you mean 'kill'"),
        ("[[schedule]]\nat = 1\ndo = 'pause n1,n2; kill n2'", "both take hold of n2"),
        ("time = [1]", "time [1]"),
        ("version = true", "version = True"),
        ("opt = 'reads=x'", "expected a table"),
        ("opt = 3", "expected a table"),
        ("opt = {reads = [1]}", "option reads = [1]: expected text"),
        ("expect = 1", "expect = 1: expected valid or invalid"),
    ],
)
def test_bad_files_are_refused_in_a_sentence(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as e:
        specs.resolve(toml(tmp_path, text), {})
    assert says in str(e.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        specs.resolve(tmp_path / "nowhere.toml", {})
    with pytest.raises(UsageError, match="directory"):
        specs.resolve(tmp_path, {})
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="UTF-8"):
        specs.resolve(binary, {})


@pytest.mark.parametrize(
    ("given_", "seconds"),
    [
        ("30s", 30),
        ("2m", 120),
        ("1h30m", 5400),
        ("1500ms", 1.5),
        (45, 45),
        (1.5, 1.5),
        ("45", 45),
        ("1D", 86400),
    ],
)
def test_durations(given_: Any, seconds: float) -> None:
    assert specs.seconds(given_) == seconds


@given(st.floats(1, 7 * 86400))
def test_a_duration_is_read_back_as_it_was(time_s: float) -> None:
    assert specs.seconds(specs.duration(time_s)) == time_s


@given(
    seed=st.integers(0, 2**63 - 1),
    nodes=st.integers(3, 9),
    time_s=st.floats(30, 3600),
    rate=st.floats(0, 1_000_000),
    concurrency=st.integers(1, 1000),
    faults=st.lists(st.sampled_from(["kill", "pause:leader", "partition:halves"]), unique=True),
    options=st.sampled_from([[], ["reads=serializable"], ["ops_per_key=7", "binary=/a b/etcd"]]),
    expect=st.sampled_from([None, "valid", "invalid"]),
)
def test_the_command_line_repeats_the_run(
    seed: int,
    nodes: int,
    time_s: float,
    rate: float,
    concurrency: int,
    faults: list[str],
    options: list[str],
    expect: str | None,
) -> None:
    spec = specs.resolve(
        None,
        {
            "seed": seed,
            "nodes": nodes,
            "time": time_s,
            "rate": rate,
            "concurrency": concurrency,
            "faults": ",".join(faults),
            "opt": options,
            "expect": expect,
        },
    )
    words = shlex.split(specs.command_line(spec))
    assert words[:2] == ["splitbrain", "run"]
    flags: dict[str, Any] = {"opt": []}
    for name, value in zip(words[2::2], words[3::2], strict=True):
        if name == "--opt":
            flags["opt"].append(value)
        else:
            flags[name.removeprefix("--")] = value
    assert specs.resolve(None, flags) == spec


def test_the_schedule_is_a_function_of_the_seed() -> None:
    def of(seed: int) -> object:
        return specs.schedule(specs.resolve(None, {"seed": seed}))

    assert of(7) == of(7)
    assert of(7) != of(8)


def test_only_targets_that_exist_are_drawn() -> None:
    spec = specs.resolve(None, {"nodes": 1, "faults": "kill", "time": "10m", "seed": 1})
    assert {step.target for step in specs.schedule(spec)} == {"leader", "one"}


def test_successors() -> None:
    spec = specs.resolve(None, {"seed": 7, "faults": "none"})
    assert [s.seed for s in specs.successors(spec, 3)] == [7, 8, 9]
    with pytest.raises(UsageError, match="last of the repeated runs"):
        specs.successors(specs.resolve(None, {"seed": 2**63 - 1}), 2)


ATTACH = {"provider": "attach", "nodes": "db1:2379, 192.0.2.2:2379,[2001:db8::3]:2379", "seed": 1}


def test_a_cluster_that_exists_is_named_by_its_addresses_and_has_no_faults_by_itself(tmp_path: Path) -> None:
    spec = specs.resolve(None, ATTACH)
    assert spec.addresses == ("db1:2379", "192.0.2.2:2379", "[2001:db8::3]:2379")
    assert (spec.nodes, spec.faults, spec.version) == (3, (), None)
    words = shlex.split(specs.command_line(spec))
    assert words[words.index("--nodes") + 1] == "db1:2379,192.0.2.2:2379,[2001:db8::3]:2379"
    from_file = specs.resolve(toml(tmp_path, 'provider = "attach"\nnodes = ["db1:2379"]\n'), {})
    assert from_file.addresses == ("db1:2379",)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"nodes": None}, "nodes = None: provider 'attach' needs the addresses"),
        ({"nodes": "3"}, "node '3': expected HOST:PORT"),
        ({"nodes": "db1"}, "node 'db1': expected HOST:PORT"),
        ({"nodes": "db1:0"}, "node 'db1:0'"),
        ({"nodes": "root@db1:22"}, "node 'root@db1:22'"),
        ({"nodes": "db1:1,db1:1"}, "node 'db1:1' is named twice"),
        ({"nodes": ",".join(f"db{i}:1" for i in range(10))}, "nodes 10 is out of range"),
        ({"version": "3.6"}, "provider 'attach' installs nothing"),
    ],
)
def test_what_is_wrong_with_attaching(more: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        specs.resolve(None, {**ATTACH, **more})
    assert says in str(caught.value)


def test_addresses_are_for_a_cluster_that_exists() -> None:
    with pytest.raises(UsageError, match="nodes = 'db1:2379': expected a whole number"):
        specs.resolve(None, {"nodes": "db1:2379"})


def test_admission_is_true_or_false(tmp_path: Path) -> None:
    assert specs.resolve(None, {}).admission
    assert not specs.resolve(None, {"admission": False}).admission
    with pytest.raises(UsageError, match="admission = 'no': expected true or false"):
        specs.resolve(toml(tmp_path, 'admission = "no"'), {})


def test_fail_fast_is_asked_for_and_repeated(tmp_path: Path) -> None:
    assert not specs.resolve(None, {}).fail_fast
    assert "--fail-fast" not in specs.command_line(specs.resolve(None, {}))
    for spec in (
        specs.resolve(None, {"fail-fast": True}),
        specs.resolve(toml(tmp_path, "fail-fast = true"), {}),
    ):
        assert spec.fail_fast
        assert "--fail-fast" in shlex.split(specs.command_line(spec))
    with pytest.raises(UsageError, match="fail-fast = 1: expected true or false"):
        specs.resolve(toml(tmp_path, "fail-fast = 1"), {})


SSH = {"provider": "ssh", "nodes": "root@db1, root@db2:2222,me@[2001:db8::3]", "seed": 1}


def test_hosts_are_named_and_come_back_from_the_command_line(tmp_path: Path) -> None:
    spec = specs.resolve(None, SSH)
    assert spec.nodes == 3
    assert spec.hosts == ("root@db1", "root@db2:2222", "me@[2001:db8::3]")
    assert spec.addresses == ()
    assert spec.faults == specs.DEFAULT_FAULTS
    assert "--nodes 'root@db1,root@db2:2222,me@[2001:db8::3]' --provider ssh" in specs.command_line(spec)
    from_file = specs.resolve(toml(tmp_path, 'provider = "ssh"\nnodes = ["root@db1"]\n'), {"faults": "none"})
    assert from_file.hosts == ("root@db1",)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"nodes": None}, "nodes = None: provider 'ssh' needs the hosts of the nodes"),
        ({"nodes": "3"}, "nodes = 3: provider 'ssh' needs the hosts of the nodes"),
        ({"nodes": "root@db1,root@db1"}, "node 'root@db1' is named twice"),
        ({"nodes": "root@db1:0"}, "host 'root@db1:0': expected USER@HOST or USER@HOST:PORT"),
        ({"nodes": "root@db1/x"}, "host 'root@db1/x': expected"),
    ],
)
def test_what_is_wrong_with_hosts(more: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        specs.resolve(None, {**SSH, **more})


@pytest.mark.parametrize("workload", ["counter", "noop"])
def test_what_is_only_judged_at_the_end_cannot_fail_fast(workload: str) -> None:
    with pytest.raises(
        UsageError, match=f"workload '{workload}' has no check that can be made while it runs"
    ):
        specs.resolve(None, {"workload": workload, "fail-fast": True})


@pytest.mark.parametrize("workload", ["register", "kv"])
def test_what_is_checked_meanwhile_has_keys_that_end(workload: str) -> None:
    spec = specs.resolve(None, {"workload": workload, "fail-fast": True})
    made = registry.create("workloads", workload, spec.of(workload))(spec.concurrency, spec.seed)
    assert made.ops_per_key == 100
    assert made.infos_per_key is not None


SCRIPT = """
faults = ["kill:n1", "pause:leader"]
seed = 1
[[schedule]]
at = "3s"
fault = "kill:n1"
hold = "2500ms"
[[schedule]]
when = { log = "lost 'it'", node = "n2" }
do = "pause leader; wait 1.5s; resume"
"""


def test_a_script_becomes_a_command_line_that_repeats_it(tmp_path: Path) -> None:
    for text in (SCRIPT, SCRIPT.replace('faults = ["kill:n1", "pause:leader"]', "")):
        spec = specs.resolve(toml(tmp_path, text), {})
        assert spec.faults == ("kill:n1", "pause:leader")
        assert [(s.family, s.hold_s, s.when) for s in specs.schedule(spec)] == [
            ("kill", 2.5, None),
            ("pause", 1.5, {"log": "lost 'it'", "node": "n2"}),
        ]
        words = shlex.split(specs.command_line(spec))
        given: dict[str, Any] = {"opt": []}
        for flag, value in zip(words[2::2], words[3::2], strict=True):
            if flag == "--opt":
                given["opt"].append(value)
            else:
                given[flag.removeprefix("--")] = value
        assert specs.resolve(None, given) == spec


def test_what_is_survivable_is_what_the_system_promises() -> None:
    spec = specs.resolve(None, {"faults": "survivable", "time": "60s"})
    assert set(spec.faults) >= {"partition", "kill", "pause"}
    walks = specs.resolve(None, {"faults": "walk:survivable", "time": "120s", "nodes": "5"})
    # What takes nodes by name can be a state of a walk.
    assert {"partition", "kill", "pause"} <= set(walks.families) <= set(spec.faults)
    assert set(spec.faults) - set(walks.families) == {"admin", "membership", "packet"}
    assert walks.faults == (f"walk:{'+'.join(walks.families)}",)
    assert specs.limit(walks) == 2
    assert specs.limit(spec) is None


def test_the_examples_are_specs() -> None:
    examples = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))
    found = [path for path in examples if "[[matrix]]" not in path.read_text()]  # that is a campaign
    assert found
    for path in found:
        assert specs.schedule(specs.resolve(path, {"seed": 1}))


@pytest.mark.parametrize("family", ["partition", "kill", "pause", "slow-disk"])
def test_a_zone_needs_zones(family: str) -> None:
    given = {"faults": f"{family}:zone", "time": "60s"}
    with pytest.raises(UsageError, match=f"fault '{family}:zone' needs a cluster in two zones or more"):
        specs.resolve(None, given)
    assert specs.resolve(None, {**given, "opt": ["zones=eu:n1,n2;us:n3"]}).faults == (f"{family}:zone",)


def test_what_is_too_rare_to_be_proven_is_refused_when_the_spec_is_read() -> None:
    for faults in ("packet", "packet:loss"):
        with pytest.raises(UsageError, match=r"option packet\.loss_percent=0\.5: too little to be proven"):
            specs.resolve(None, {"faults": faults, "time": "120s", "opt": ["loss_percent=0.5"]})
    with pytest.raises(UsageError, match="rate_kbit"):
        specs.resolve(None, {"faults": "packet:rate", "time": "60s", "opt": ["rate_kbit=50000"]})


TRACING = [d.name for d in registry.descriptors("faults") if "trace" in d.needs]


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations_with_replacement(TRACING, 2)))
def test_a_node_has_one_tracer_at_a_time(one: str, other: str) -> None:
    """Two faults that trace are refused on one node, when the spec is read; walks and phases never pick two."""
    together = [
        {"at": "1s", "fault": f"{one}:n1", "hold": "4s"},
        {"at": "3s", "fault": f"{other}:n1", "hold": "4s"},
    ]
    with pytest.raises(UsageError, match="contradict each other: both take hold of n1 at 3 s"):
        specs.resolve(None, {"schedule": together, "time": "30s"})
    apart = [together[0], {**together[1], "fault": f"{other}:n2"}]
    assert len(specs.schedule(specs.resolve(None, {"schedule": apart, "time": "30s"}))) == 2


@pytest.mark.parametrize("seed", range(20))
def test_a_walk_never_has_two_tracers_on_a_node(seed: int) -> None:
    given = {"faults": f"walk:{'+'.join(TRACING)}", "time": "120s", "nodes": "5", "seed": str(seed)}
    steps = specs.schedule(specs.resolve(None, given))
    for a, b in itertools.combinations(steps, 2):
        if a.target == b.target:
            first, second = sorted((a, b), key=lambda s: s.at_s)
            assert first.at_s + first.hold_s <= second.at_s + 0.0011, "times are rounded to the millisecond"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"system": "zookeeper"}, "'zookeeper' has no interface for administrators"),
        ({"faults": ["membership", "restore"]}, "'membership' and 'restore' do not go together"),
        ({"provider": "attach", "nodes": "10.0.0.1:2379"}, "starts nothing"),
        ({"faults": "upgrade"}, "expected --opt upgrade.to=VERSION"),
        ({"faults": "membership:grow", "opt": ["membership.spares=0"]}, "needs a node that is no member yet"),
    ],
)
def test_members_are_changed_only_where_somebody_can(flags: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        specs.resolve(None, {"faults": "membership", "time": "60s", **flags})
