"""The gate's level and power: how often it errs on models whose risk is known."""

from math import asin, pi, sqrt

import pytest
from scipy.stats import norm

pytestmark = pytest.mark.slow
ALPHA, NOISE = 0.05, 20.0
METRICS = [("rows", "rmse"), ("rows", "mae"), ("binary rows", "roc_auc"), ("binary rows", "log_loss"),
           ("days", "rmse"), ("days", "mae"), ("binary days", "roc_auc"), ("binary days", "log_loss")]


@pytest.mark.parametrize(("kind", "metric"), METRICS)
def test_a_model_of_equal_risk_is_called_better_at_the_level_of_the_gate(compare, judge, check_rate, kind, metric):
    found = judge(compare(f"{kind}, equal"), {"metric": metric, "margin": 0, "superior": True})
    check_rate(f"{kind}, {metric}: called better", found.count("pass"), len(found), ALPHA)
    check_rate(f"{kind}, {metric}: called worse", found.count("fail"), len(found), ALPHA)


@pytest.mark.parametrize(("kind", "metric"), METRICS)
def test_a_model_worse_by_just_the_margin_passes_at_the_level(compare, judge, check_rate, find_truth, kind, metric):
    study = f"{kind}, worse"
    found = judge(compare(study), {"metric": metric, "margin": -find_truth(study)[metric][1]})
    check_rate(f"{kind}, {metric}: passed at the margin", found.count("pass"), len(found), ALPHA)
    check_rate(f"{kind}, {metric}: failed at the margin", found.count("fail"), len(found), ALPHA)


def find_error(metric: str, rows: int, ours: float, theirs: float) -> float:
    """Return the standard error of the paired difference, for normal errors that share the noise of the market.

    The delta method for RMSE; for MAE the mean of a product of absolute values (Nabeya 1951).
    """
    first, second = (sqrt(NOISE**2 + error**2) for error in (ours, theirs))
    shared = NOISE**2 / (first * second)
    if metric == "rmse":
        return sqrt((first**2 / 2 + second**2 / 2 - shared**2 * first * second) / rows)
    both = 2 / pi * first * second * (sqrt(1 - shared**2) + shared * asin(shared) - 1)
    return sqrt(((first**2 + second**2) * (1 - 2 / pi) - 2 * both) / rows)


@pytest.mark.parametrize("power", [0.8, 0.95])
@pytest.mark.parametrize("metric", ["rmse", "mae"])
def test_a_regression_is_caught_with_the_power_that_normal_theory_gives(
        compare, judge, check_rate, find_truth, metric, power):
    distance = (norm.ppf(1 - ALPHA) + norm.ppf(power)) * find_error(metric, 150, 20, 10)
    margin = -find_truth("rows, worse")[metric][1] - distance
    assert margin > 0
    found = judge(compare("rows, worse"), {"metric": metric, "margin": margin})
    check_rate(f"{metric}, margin {margin:.2f}, worse by {margin + distance:.2f}: caught", found.count("fail"),
               len(found), power)
    assert found.count("pass") == 0
