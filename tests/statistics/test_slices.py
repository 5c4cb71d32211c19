"""Slice rules: a candidate that is worse in one place passes no more often than the level, however many there are."""

import numpy as np
import pandas as pd
import pytest

from cd4ml.model.evaluation import Resampling, Scored
from cd4ml.model.evidence import Case, measure_rules
from cd4ml.model.gate import judge_rules
from cd4ml.model.rules import parse_rules
from cd4ml.problems.houses import DISTRICTS

pytestmark = pytest.mark.slow
ALPHA, NOISE, ROWS = 0.05, 20.0, 500
CHAMPION, WORSE, BETTER = 15.0, 25.0, 1.0  # own errors of the models [thousand euros]
MARGIN = (np.hypot(NOISE, WORSE) - np.hypot(NOISE, CHAMPION)) * np.sqrt(2 / np.pi)  # in MAE


def judge_holdouts(market, errors, count):
    """Return the decisions of one rule for all districts, for a candidate whose own error depends on the district."""
    rules = parse_rules([{"metric": "mae", "margin": MARGIN, "slices": ["district"], "min_rows": 30}], "regression")
    rng, statuses = np.random.default_rng(2013), []
    for i in range(count):
        part = slice(i * ROWS, (i + 1) * ROWS)
        prices, expected, places = market.prices[part], market.expected[part], market.districts[part]
        own = np.array([errors[place] for place in places])
        ours, theirs = (pd.DataFrame({"prediction": expected + error * rng.standard_normal(ROWS)})
                        for error in (own, CHAMPION))
        case = Case(Scored(pd.Series(prices), ours, "regression"), pd.DataFrame({"district": places}), theirs, theirs)
        decision = judge_rules(rules, measure_rules(rules, case, Resampling(1 - ALPHA, 400, i)))
        assert f"of {len(DISTRICTS)} slices" in decision.results[0].reason
        statuses.append(decision.status)
    return statuses


def test_one_district_at_the_margin_and_the_others_far_from_it_pass_at_the_level(market, check_rate):
    """The least favourable case: nothing but the one district stands against a pass (Berger 1982)."""
    found = judge_holdouts(market, dict.fromkeys(DISTRICTS, BETTER) | {"hill": WORSE}, 400)
    check_rate("hill at the margin, the others better: passed", found.count("pass"), len(found), ALPHA)


def test_several_districts_at_the_margin_pass_more_rarely(market, limits):
    found = judge_holdouts(market, dict.fromkeys(DISTRICTS, WORSE), 100)
    print(f"all districts at the margin: {found.count('pass')} of {len(found)} passed")
    assert found.count("pass") <= limits(len(found), ALPHA**2)[1]  # five that are independent: far below two
