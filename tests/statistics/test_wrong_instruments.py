"""The tests tested: instruments that are wrong in a known way miss the level, so the tests of it would tell."""

from dataclasses import replace

import numpy as np
import pytest

from cd4ml.model.comparison import compare_predictions
from cd4ml.model.evaluation import Resampling

pytestmark = pytest.mark.slow
ALPHA = 0.05
BETTER = {"metric": "mae", "margin": 0, "superior": True}


def check_missed(what, count, trials, limits):
    low, high = limits(trials, ALPHA)
    print(f"{what}: {count} of {trials}, {count / trials:.3f}; a right one {low} to {high}")
    return count < low or count > high


def test_a_bootstrap_of_rows_is_caught_where_days_share_an_error(deal, judge, limits):
    found = [compare_predictions(replace(scored, unit=None), champion, ["mae"], Resampling(1 - ALPHA, 400, i))
             for (scored, champion), i in zip(deal("days, equal"), range(400), strict=False)]
    passed = judge(found, BETTER).count("pass")
    assert check_missed("rows instead of days", passed, len(found), limits)
    assert passed > limits(len(found), 2 * ALPHA)[0]


def bound_unpaired(scored, champion, seed):
    """Return the lower bound of the difference in MAE when each model's rows are drawn by themselves."""
    rng, rows = np.random.default_rng(seed), len(scored.y)
    ours, theirs = (abs(answer["prediction"].to_numpy() - scored.truth)[rng.integers(0, rows, (500, rows))].mean(axis=1)
                    for answer in (scored.predictions, champion))
    return np.quantile(theirs - ours, ALPHA)


def test_an_unpaired_bootstrap_is_caught(deal, limits):
    bounds = [bound_unpaired(scored, champion, i) for i, (scored, champion) in enumerate(deal("rows, equal"))]
    assert check_missed("unpaired", sum(bound > 0 for bound in bounds), len(bounds), limits)


def test_a_gate_that_looks_at_the_value_alone_is_caught(compare, limits):
    values = [found["mae"].value for found in compare("rows, equal")]
    assert check_missed("the value alone", sum(value > 0 for value in values), len(values), limits)


def test_a_gate_that_lets_the_inconclusive_pass_is_caught(compare, judge, limits):
    found = judge(compare("rows, equal"), BETTER)
    assert check_missed("inconclusive passes", len(found) - found.count("fail"), len(found), limits)
