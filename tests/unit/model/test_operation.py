import gc
import json

import numpy as np
import pandas as pd
import pytest

from cd4ml.base.errors import DataError
from cd4ml.model.evaluation import Resampling
from cd4ml.model.operation import (
    BATCH,
    BATCH_ROUNDS,
    ROUNDS,
    Operation,
    Stopwatch,
    Subject,
    _bound_quantiles,
    count_rounds,
    format_size,
    measure_operation,
)

X = pd.DataFrame({"x": np.arange(300.0), "word": "a"})
FEW = Resampling(resamples=200)


class Clock:
    def __init__(self):
        self.now, self.asked = 0.0, []

    def __call__(self):
        return self.now

    def make_subject(self, name, row, batch=0.01, *, size=1000, loads=(0.1,) * 4):
        """A model whose answers take `row()` seconds; each one is noted."""
        remaining = list(loads)

        def predict(df):
            self.asked.append((name, len(df), tuple(df["x"][:1]), gc.isenabled()))
            self.now += row() if len(df) == 1 else batch
            return df

        def load():
            self.now += remaining.pop(0)
            return predict

        return Subject(size, load)


def test_the_ratio_is_known_exactly():
    clock = Clock()
    new = clock.make_subject("new", lambda: 0.003, 0.02)
    old = clock.make_subject("old", lambda: 0.0015, 0.04, size=4000)
    operation = measure_operation(new, old, X, Stopwatch(clock, 100), FEW)
    bounds = [operation.ratio.low, operation.ratio.value, operation.ratio.upper]
    assert bounds == pytest.approx([2] * 3)
    assert operation.candidate.p50.value == pytest.approx(3)
    assert operation.champion.p95.upper == pytest.approx(1.5)
    assert operation.champion.batch.value == pytest.approx(40)
    assert operation.intervals["size"].value == 0.001
    assert operation.intervals["size_ratio"].upper == 0.25
    assert operation.intervals["latency_ratio"] == operation.ratio
    assert (operation.ratio.n, operation.candidate.batch.n) == (ROUNDS, BATCH_ROUNDS)


def test_models_answer_the_same_varied_rows_in_turns_and_without_collections():
    clock = Clock()
    new, old = clock.make_subject("new", lambda: 0.001), clock.make_subject("old", lambda: 0.001)
    measure_operation(new, old, X, Stopwatch(clock, 100), FEW)
    assert gc.isenabled()
    pairs = list(zip(clock.asked[::2], clock.asked[1::2], strict=True))
    assert all(one[1:] == other[1:] and one[0] != other[0] for one, other in pairs)
    timed = pairs[6:]  # after the warm-up
    assert [one[0] for one, _ in timed[:4]] == ["new", "old", "new", "old"]
    assert not any(is_enabled for pair in pairs for *_, is_enabled in pair)
    assert len({one[2] for one, _ in timed[:ROUNDS]}) > 100
    assert [one[1] for one, _ in timed[ROUNDS:]] == [BATCH] * BATCH_ROUNDS


def test_collections_go_on_when_a_model_fails_and_stay_off_if_they_were():
    def fail(df):
        if not gc.isenabled():
            raise ValueError("no")
        return df

    with pytest.raises(ValueError, match="no"):
        measure_operation(Subject(1, lambda: fail), None, X, Stopwatch(Clock()))
    assert gc.isenabled()
    gc.disable()
    try:
        measure_operation(Clock().make_subject("a", lambda: 0), None, X, Stopwatch(Clock()), FEW)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_budget_ends_it_and_what_is_not_known_is_undefined():
    clock = Clock()
    slow = [clock.make_subject(name, lambda: 1 / 16, 1 / 8) for name in ("new", "old")]
    operation = measure_operation(*slow, X, Stopwatch(clock, 2), FEW)
    assert operation.candidate.p95.n == 34  # rounds of 1/8 s in 3 times 0.7 of 2 s
    assert not operation.candidate.p95.is_defined
    assert not operation.ratio.is_defined
    assert operation.ratio.value == pytest.approx(1)
    assert operation.candidate.p50.is_defined  # a median needs 5
    assert operation.candidate.batch.n == 5  # rounds of 1/4 s, beyond the 0.6 s that they should take


def test_the_budget_is_overrun_only_for_what_a_bound_needs():
    clock = Clock()
    models = [clock.make_subject(name, lambda: 1 / 64, 1 / 64) for name in ("new", "old")]
    assert measure_operation(*models, X, Stopwatch(clock, 2), FEW).ratio.n == 59  # where 45 took the budget
    assert measure_operation(*models, X, Stopwatch(clock, 4), FEW).ratio.n == 90


def test_at_least_one_round_is_timed():
    clock = Clock()
    operation = measure_operation(clock.make_subject("a", lambda: 9, 9), None, X[:1], Stopwatch(clock, 0), FEW)
    assert (operation.candidate.p95.value, operation.candidate.batch.n) == (9000, 1)


def test_the_faster_of_two_loads_counts():
    clock = Clock()
    new = clock.make_subject("new", lambda: 0.001, loads=(2.0, 0.5))
    assert measure_operation(new, None, X, Stopwatch(clock, 100), FEW).candidate.load == 0.5


def test_of_two_like_models_the_upper_bound_of_the_ratio_is_seldom_below_one():
    """The A/A test of the latency rule: at 95 %, one bound in twenty may miss."""
    missed = 0
    for seed in range(200):
        times = np.random.default_rng(seed).lognormal(0, 0.3, (120, 2))
        missed += _bound_quantiles(times, 0.95, Resampling(resamples=200, seed=seed))[2].upper < 1
    assert missed <= 20


def test_a_clock_too_coarse_to_see_anything_harms_nothing():
    clock = Clock()
    models = [clock.make_subject(name, lambda: 0, 0) for name in ("a", "b")]
    operation = measure_operation(*models, X, Stopwatch(clock), FEW)
    json.dumps(operation.to_dict(), allow_nan=False)
    assert operation._repr_html_()


@pytest.mark.parametrize("has_champion", [True, False])
@pytest.mark.parametrize("budget", [0, 100])
def test_a_file_of_it_reads_the_same(has_champion, budget):
    clock = Clock()
    new, old = (clock.make_subject(name, lambda: 0.001) for name in ("a", "b"))
    operation = measure_operation(new, old if has_champion else None, X, Stopwatch(clock, budget), FEW)
    read = Operation.from_dict(json.loads(json.dumps(operation.to_dict(), allow_nan=False)))
    assert repr(read) == repr(operation)  # what is undefined equals nothing
    assert ("champion" in operation._repr_html_()) == has_champion


def test_no_rows_are_an_error():
    with pytest.raises(DataError, match="no rows"):
        measure_operation(Clock().make_subject("a", lambda: 0), None, X[:0], Stopwatch(Clock()))


@pytest.mark.parametrize(("share", "confidence", "rounds"), [(0.95, 0.95, 59), (0.5, 0.95, 5), (0.95, 0.99, 90)])
def test_rounds_that_a_quantile_needs(share, confidence, rounds):
    assert count_rounds(share, confidence) == rounds


@pytest.mark.parametrize(("size", "text"), [(0, "0 bytes"), (12_345, "12.3 kB"), (123_456_789, "123 MB"),
                                            (5 * 10**12, "5000 GB")])
def test_sizes_are_told_with_three_digits(size, text):
    assert format_size(size) == text
