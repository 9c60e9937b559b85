"""What needs no cluster."""

from counter_service.store import Store, merged


def test_merging_is_the_same_in_any_order_and_any_number_of_times():
    a, b = {"n1": 3}, {"n1": 1, "n2": 2}
    assert merged(a, b) == merged(b, a) == merged(merged(a, b), b) == {"n1": 3, "n2": 2}


def test_what_was_kept_is_there_after_a_crash_and_what_was_torn_is_not(tmp_path):
    path = tmp_path / "counters.log"
    store = Store(path)
    store.add("c", "n1", 3)
    store.merge("c", {"n2": 2})
    with path.open("ab") as log:
        log.write(b'["c", {"n1": 99')
    assert Store(path).merge("c", {}) == {"n1": 3, "n2": 2}
