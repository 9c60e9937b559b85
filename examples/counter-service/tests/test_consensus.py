"""The service on three nodes, under faults."""

import pytest

counter = pytest.mark.consensus(system="../counter.toml", workload="counter", rate=60, time_s=6)


@counter
@pytest.mark.consensus(faults="kill", time_s=4)
def test_counts_survive_crashes():
    """The run is judged by its verdict; there is nothing more to say."""


@pytest.mark.slow
@counter
@pytest.mark.consensus(faults="partition,pause")
def test_counts_survive_partitions_and_pauses(run_test):
    assert run_test.verdict == "valid", run_test.reason
    assert run_test.outcomes["add"]["ok"] > 100
    assert run_test.faults["partition"]["effective"] > 0


@pytest.mark.slow
@counter
@pytest.mark.consensus(faults="partition", options={"sloppy": True}, expect="invalid:counter")
def test_a_node_that_counts_for_itself_is_found():
    """A positive control: were this not found, the tests above would mean nothing."""


@pytest.mark.slow
@pytest.mark.consensus(system="../counter.toml", workload="counter", faults="partition,kill")
def test_a_node_that_is_cut_off_learns_what_it_missed(cluster):
    """Written by hand: what is asked of whom, and when, is said here."""
    one, two = cluster.client("n1"), cluster.client("n2")
    one.add("visits", 3)
    with cluster.fault("partition", "n1"):
        assert one.call("add", "visits", 10).type == "info", "no majority acknowledges it"
        two.add("visits", 4)
        assert two.read("visits") in (7, 17)
    with cluster.fault("kill", "n2"):
        assert one.read("visits") in (7, 17)
    assert two.read("visits") == one.read("visits")
    verdict = cluster.check()
    assert verdict.verdict == "valid", verdict.reason
