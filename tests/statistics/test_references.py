"""The intervals beside those of others: SciPy's bootstrap, Wilson's, Student's and DeLong's."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, bootstrap, norm, t

from cd4ml.model.comparison import compare_predictions
from cd4ml.model.evaluation import Resampling, evaluate_predictions

pytestmark = pytest.mark.slow
MANY = Resampling(0.95, 5000, 1)  # two such bootstraps differ by some 3 % of the half-width


def measure_distance(interval, low, high):
    """Return how far apart the ends are, in half-widths of the other interval."""
    return max(abs(interval.low - low), abs(interval.high - high)) / ((high - low) / 2)


@pytest.mark.parametrize("metric", ["rmse", "mae"])
def test_the_interval_is_that_of_scipy(deal, metric):
    scored, _ = next(deal("rows, worse"))
    gaps = scored.predictions["prediction"].to_numpy() - scored.truth

    def measure(gaps, axis=-1):
        return np.sqrt((gaps**2).mean(axis)) if metric == "rmse" else abs(gaps).mean(axis)

    other = bootstrap((gaps,), measure, n_resamples=5000, method="BCa", rng=2).confidence_interval
    assert measure_distance(evaluate_predictions(scored, [metric], MANY)[metric], *other) < 0.12


@pytest.mark.parametrize("metric", ["rmse", "mae"])
def test_the_interval_of_a_paired_difference_is_that_of_scipy(deal, metric):
    scored, champion = next(deal("rows, worse"))
    ours, theirs = (answer["prediction"].to_numpy() - scored.truth for answer in (scored.predictions, champion))

    def measure(ours, theirs, axis=-1):
        if metric == "mae":
            return abs(theirs).mean(axis) - abs(ours).mean(axis)
        return np.sqrt((theirs**2).mean(axis)) - np.sqrt((ours**2).mean(axis))

    other = bootstrap((ours, theirs), measure, paired=True, n_resamples=5000, method="BCa", rng=2)
    found = compare_predictions(scored, champion, [metric], MANY)[metric]
    assert measure_distance(found, *other.confidence_interval) < 0.12


def test_the_interval_of_accuracy_is_nearly_wilsons(deal):
    for (scored, _), _ in zip(deal("binary rows, worse"), range(20), strict=False):
        found = evaluate_predictions(scored, ["accuracy"], Resampling(0.95, 2000, 1))["accuracy"]
        other = binomtest(round(found.value * found.n), found.n).proportion_ci(method="wilson")
        assert measure_distance(found, *other) < 0.15  # one row of 150 is 0.1 of the half-width


def test_the_interval_over_equal_days_is_nearly_students(deal):
    """Days of as many rows each: MAE is the mean of 31 daily means."""
    for (scored, champion), _ in zip(deal("days, worse"), range(20), strict=False):
        gaps = [abs(answer["prediction"].to_numpy() - scored.truth) for answer in (champion, scored.predictions)]
        daily = pd.Series(gaps[0] - gaps[1]).groupby(scored.unit.to_numpy()).mean()
        half = t.ppf(0.975, len(daily) - 1) * daily.sem()
        found = compare_predictions(scored, champion, ["mae"], Resampling(0.95, 2000, 1))["mae"]
        assert (found.n, found.units) == (310, 31)
        assert np.isclose(found.value, daily.mean())
        assert np.isclose((found.high - found.low) / 2, half, rtol=0.15)


def place_rows(truth, scores):
    """Return, for each positive and for each negative, the share of the others that it is in order with."""
    positives, negatives = scores[truth], scores[~truth]
    order = (positives[:, None] > negatives) + (positives[:, None] == negatives) / 2
    return order.mean(axis=1), order.mean(axis=0)


def vary_delong(truth, *scores):
    """Return the covariance of the areas under the curves (DeLong, DeLong and Clarke-Pearson 1988)."""
    parts = zip(*(place_rows(truth, each) for each in scores), strict=True)
    return sum(np.atleast_2d(np.cov(part)) / len(part[0]) for part in parts)


def test_the_interval_of_roc_auc_is_nearly_delongs(deal):
    distances = []
    for (scored, _), _ in zip(deal("binary rows, worse"), range(20), strict=False):
        error = np.sqrt(vary_delong(scored.truth, scored.predictions["probability"].to_numpy())[0, 0])
        found = evaluate_predictions(scored, ["roc_auc"], Resampling(0.95, 2000, 1))["roc_auc"]
        assert np.isclose((found.high - found.low) / 2, norm.ppf(0.975) * error, rtol=0.1)
        distances.append((found.low + found.high - 2 * found.value) / error)
    assert np.mean(distances) < 0  # below 1 there is less room: the interval leans down, which DeLong's cannot


def test_the_interval_of_a_difference_of_roc_auc_is_nearly_delongs(deal):
    for (scored, champion), _ in zip(deal("binary rows, worse"), range(20), strict=False):
        scores = [answers["probability"].to_numpy() for answers in (scored.predictions, champion)]
        error = np.sqrt(np.array([1, -1]) @ vary_delong(scored.truth, *scores) @ np.array([1, -1]))
        found = compare_predictions(scored, champion, ["roc_auc"], Resampling(0.95, 2000, 1))["roc_auc"]
        half = norm.ppf(0.975) * error
        assert measure_distance(found, found.value - half, found.value + half) < 0.2
        assert np.isclose((found.high - found.low) / 2, half, rtol=0.1)
