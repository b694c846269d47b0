import pytest

from benchmarks.samples import LEAST_ROUNDS, WARM_UP_ROUNDS, Samples, interleave, median


def test_percentiles_lie_between_the_nearest_ranks():
    samples = Samples.of([4.0, 1.0, 3.0, 2.0, 5.0])

    assert (samples.p50, samples.percentile(0), samples.percentile(100)) == (3.0, 1.0, 5.0)
    assert samples.p90 == pytest.approx(4.6)
    assert samples.p99 == pytest.approx(4.96)


def test_one_sample_is_every_percentile():
    samples = Samples.of([0.25])

    assert samples.as_milliseconds() == {
        "samples": 1,
        "p50_ms": 250.0,
        "p90_ms": 250.0,
        "p95_ms": 250.0,
        "p99_ms": 250.0,
    }


def test_of_nothing_nothing_can_be_said():
    with pytest.raises(ValueError, match="no sample"):
        Samples.of([])


def test_the_median_of_an_even_number_is_half_way():
    assert median([1.0, 10.0, 2.0, 3.0]) == 2.5


def test_rounds_take_each_source_once_settle_before_each_and_begin_with_another_one():
    events: list[str] = []

    def source(name: str):
        return lambda: events.append(name) or 1.0

    interleave(
        {"a": source("a"), "b": source("b")},
        rounds=1,
        seconds=1e9,
        settle=lambda: events.append("-"),
        clock=lambda: 0.0,
    )

    assert "".join(events) == "-a-b-b-a-a-b-b-a"


def test_the_first_rounds_are_not_counted():
    values = iter([100.0] * WARM_UP_ROUNDS + [1.0, 2.0, 3.0])

    taken = interleave({"a": lambda: next(values)}, rounds=3, seconds=1e9, settle=lambda: None, clock=lambda: 0.0)

    assert taken["a"].seconds == (1.0, 2.0, 3.0)


def test_time_ends_it_but_never_before_the_least_number_of_rounds():
    clock = iter(range(10_000))

    taken = interleave({"a": lambda: 1.0}, rounds=500, seconds=0.0, settle=lambda: None, clock=lambda: next(clock))

    assert taken["a"].count == LEAST_ROUNDS
