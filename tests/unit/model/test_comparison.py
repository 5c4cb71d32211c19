import numpy as np
import pandas as pd

from cd4ml.model.comparison import compare_predictions, compare_slices, correct_chances
from cd4ml.model.evaluation import Resampling, Scored, evaluate_predictions
from cd4ml.model.slices import cut_slices, part_slices

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
    places = cut_slices(pd.DataFrame({"place": ["a"] * 250 + [None] * 149 + ["b"]}), ["place"])
    large, too_small = part_slices(places)
    found = compare_slices(Scored(Y, GOOD, "regression"), BAD, large, "rmse", Resampling(resamples=200))
    assert list(found.differences) == ["place a"]
    assert too_small == {"place (missing)": 149, "place b": 1}
    assert found.differences["place a"].n == found.differences["place a"].units == 250
    alone = compare_predictions(Scored(Y[:250], GOOD[:250], "regression"), BAD[:250], ["rmse"])["rmse"]
    assert np.isclose(found.differences["place a"].value, alone.value)
    assert np.isclose(found.differences["place a"].lower, alone.lower, atol=0.05)


def test_a_slice_by_chance_is_not_flagged_and_a_bad_one_is():
    rng = np.random.default_rng(1)
    y, flagged = pd.Series(rng.normal(size=6000)), []
    places = cut_slices(pd.DataFrame({"place": np.repeat([f"p{i:02}" for i in range(20)], 300)}), ["place"])
    for bad in (0.0, 0.5):
        ours = pd.DataFrame({"prediction": y + rng.normal(0, 1, 6000)})
        ours[:300] += rng.normal(0, 1 + bad, (300, 1)) * bad
        theirs = pd.DataFrame({"prediction": y + rng.normal(0, 1, 6000)})
        flagged.append(compare_slices(Scored(y, ours, "regression"), theirs, places, "rmse").worse)
    assert flagged == [(), ("place p00",)]


def test_the_same_predictions_are_not_worse():
    place = cut_slices(pd.DataFrame({"place": ["a"] * 400}), ["place"])
    found = compare_slices(Scored(Y, GOOD, "regression"), GOOD, place, "rmse")
    assert (found.differences["place a"].value, found.worse) == (0, ())


def test_holm_steps_down():
    assert correct_chances({"a": 0.2, "b": 0.01}) == {"a": 0.2, "b": 0.02}
    assert correct_chances({}) == {}
