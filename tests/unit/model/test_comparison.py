import numpy as np
import pandas as pd
import pytest

from cd4ml.base.errors import DataError
from cd4ml.model.comparison import compare_predictions, compare_slices
from cd4ml.model.evaluation import Resampling, Scored, evaluate_predictions

RNG = np.random.default_rng(0)
Y = pd.Series(RNG.normal(size=400))
GOOD = pd.DataFrame({"prediction": Y + RNG.normal(0, 0.5, 400)})
BAD = pd.DataFrame({"prediction": Y + RNG.normal(0, 1.0, 400)})


def test_better_is_positive_whatever_the_direction_of_the_metric():
    for interval in compare_predictions(Scored(Y, GOOD, "regression"), BAD, ["rmse", "r2"]).values():
        assert interval.low > 0
    for interval in compare_predictions(Scored(Y, BAD, "regression"), GOOD, ["rmse", "r2"]).values():
        assert interval.high < 0


def test_the_difference_is_that_of_the_figures_and_known_better():
    nearly = GOOD + 0.05
    metrics = [evaluate_predictions(Scored(Y, guess, "regression"), ["rmse"])["rmse"] for guess in (GOOD, nearly)]
    difference = compare_predictions(Scored(Y, GOOD, "regression"), nearly, ["rmse"])["rmse"]
    assert np.isclose(difference.value, metrics[1].value - metrics[0].value)
    assert difference.high - difference.low < (metrics[0].high - metrics[0].low) / 2


def test_two_equal_models_rarely_differ():
    alarms = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        y, a, b = (pd.Series(rng.normal(size=80)) for _ in "yab")
        scored = Scored(y, pd.DataFrame({"prediction": a}), "regression")
        found = compare_predictions(scored, pd.DataFrame({"prediction": b}), ["mae"], Resampling(0.95, 200, seed))
        alarms += not found["mae"].low <= 0 <= found["mae"].high
    assert alarms <= 12  # 5 of 100 expected


def test_slices_with_missing_values_and_too_few_rows():
    values = pd.Series(["a"] * 250 + [None] * 149 + ["b"], name="place")
    found = compare_slices(Scored(Y, GOOD, "regression"), BAD, values, "rmse", Resampling(resamples=200))
    assert list(found.differences) == ["a"]
    assert found.too_small == {"(missing)": 149, "b": 1}
    assert found.differences["a"].n == 250
    with pytest.raises(DataError):
        compare_slices(Scored(Y, GOOD, "regression"), BAD, values[1:], "rmse")
