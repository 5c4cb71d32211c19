"""Holdouts of a market whose truth is known, two models of a stated risk, and what a right instrument may count."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import pi, sqrt
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr
from scipy.stats import binom

from cd4ml.model.comparison import compare_predictions
from cd4ml.model.evaluation import Interval, Resampling, Scored, evaluate_predictions
from cd4ml.model.gate import Measured, judge_rules
from cd4ml.model.rules import parse_rules
from cd4ml.problems.houses import price_houses, simulate_houses

NOISE = 20.0  # of the market [thousand euros]: the best possible RMSE
ALPHA = 0.05  # the gate's level, 1 - confidence
RESAMPLES = 400
SOME, MANY = 400, 1300  # of MANY, an honest 95 % interval holds the truth in 93 to 97 %, 999 times in 1000
Pair = tuple[Scored, pd.DataFrame]
Intervals = list[dict[str, Interval]]


@dataclass(frozen=True)
class Study:
    """Say how many holdouts there are and of what shape, and how large the models' own errors are [thousand euros].

    A model answers the expected price, plus an error of its own in each row, plus one that the rows of a day share.
    In a binary study it gives the probability that a house costs more than the median.
    """

    candidate: float
    champion: float
    count: int
    metrics: tuple[str, ...] = ("rmse", "mae")
    rows: int = 150
    days: int = 0  # 0: each row is drawn by itself
    day_error: float = 0.0
    is_binary: bool = False
    seed: int = 2013


BINARY: dict[str, Any] = {"metrics": ("roc_auc", "log_loss"), "is_binary": True}
SHARES: dict[str, Any] = {"metrics": ("roc_auc", "accuracy"), "is_binary": True}
DAYS: dict[str, Any] = {"rows": 310, "days": 31}
STUDIES = {
    "rows, equal": Study(10, 10, SOME),
    "rows, worse": Study(20, 10, MANY),
    "days, equal": Study(10, 10, SOME, day_error=20, **DAYS),
    "days, worse": Study(20, 10, MANY, day_error=20, **DAYS),
    "binary rows, equal": Study(50, 50, SOME, **BINARY),
    "binary rows, worse": Study(70, 50, SOME, **BINARY),
    "binary rows, alone": Study(60, 60, MANY, **SHARES),
    "binary days, equal": Study(40, 40, SOME, day_error=40, **BINARY, **DAYS),
    "binary days, worse": Study(60, 40, SOME, day_error=40, **BINARY, **DAYS),
    "binary days, alone": Study(40, 40, MANY, day_error=40, **SHARES, **DAYS),
}


@dataclass(frozen=True, eq=False)
class Market:
    """Hold sales that are drawn once and dealt out as holdouts which share no row."""

    prices: np.ndarray
    expected: np.ndarray
    districts: np.ndarray
    middle: float

    @classmethod
    def simulate(cls, rows: int, seed: int = 2013) -> "Market":
        """Return a market of so many sales."""
        houses = simulate_houses(rows, seed, noise=NOISE)
        expected = price_houses(houses).to_numpy()
        return cls(houses["price"].to_numpy(), expected, houses["district"].to_numpy(), float(np.median(expected)))

    def deal(self, study: Study) -> Iterator[Pair]:
        """Yield each holdout as what the candidate scored and what the champion predicted there."""
        rng = np.random.default_rng(study.seed)
        days = np.arange(study.rows) % study.days if study.days else None
        for i in range(study.count):
            part = slice(i * study.rows, (i + 1) * study.rows)
            answers = [self.expected[part] + error * rng.standard_normal(study.rows)
                       for error in (study.candidate, study.champion)]
            if days is not None:
                answers = [answer + study.day_error * rng.standard_normal(study.days)[days] for answer in answers]
            yield self.score(study, self.prices[part], answers, days)

    def score(self, study: Study, prices: np.ndarray, answers: Sequence[np.ndarray], days: np.ndarray | None) -> Pair:
        """Return the pair of one holdout."""
        unit = None if days is None else pd.Series(days)
        if not study.is_binary:
            ours, theirs = (pd.DataFrame({"prediction": answer}) for answer in answers)
            return Scored(pd.Series(prices), ours, "regression", unit), theirs
        middle, spread = self.middle, sqrt(NOISE**2 + study.champion**2 + study.day_error**2)
        ours, theirs = (pd.DataFrame({"prediction": answer > middle, "probability": ndtr((answer - middle) / spread)})
                        for answer in answers)
        return Scored(pd.Series(prices > middle), ours, "binary", unit), theirs


@pytest.fixture(scope="session")
def market() -> Market:
    """Return the market that all studies deal from."""
    return Market.simulate(MANY * 310)


@pytest.fixture(scope="session")
def deal(market: Market) -> Callable[[str], Iterator[Pair]]:
    """Return the function that yields the holdouts of a study."""
    return lambda name: market.deal(STUDIES[name])


@pytest.fixture(scope="session")
def compare(market: Market) -> Callable[[str], Intervals]:
    """Return the function that compares the two models on each holdout of a study."""
    @functools.cache
    def run(name: str) -> Intervals:
        study = STUDIES[name]
        return [compare_predictions(scored, champion, study.metrics, Resampling(1 - ALPHA, RESAMPLES, i))
                for i, (scored, champion) in enumerate(market.deal(study))]

    return run


@pytest.fixture(scope="session")
def evaluate(market: Market) -> Callable[[str], Intervals]:
    """Return the function that evaluates the candidate on each holdout of a study."""
    @functools.cache
    def run(name: str) -> Intervals:
        study = STUDIES[name]
        return [evaluate_predictions(scored, study.metrics, Resampling(1 - ALPHA, RESAMPLES, i))
                for i, (scored, _) in enumerate(market.deal(study))]

    return run


@pytest.fixture(scope="session")
def find_truth(market: Market) -> Callable[[str], dict[str, tuple[float, float]]]:
    """Return the function that gives the candidate's true risk in a study, and its true difference to the champion.

    RMSE and MAE of normal errors have a closed form; the others are those of one holdout of all the sales.
    """
    @functools.cache
    def find(name: str) -> dict[str, tuple[float, float]]:
        study = STUDIES[name]
        if not study.is_binary:
            ours, theirs = (sqrt(NOISE**2 + error**2 + study.day_error**2) for error in
                            (study.candidate, study.champion))
            return {"rmse": (ours, theirs - ours), "mae": (ours * sqrt(2 / pi), (theirs - ours) * sqrt(2 / pi))}
        rows = len(market.prices)
        whole = replace(study, count=1, rows=rows, days=rows if study.days else 0)
        scored, champion = next(market.deal(whole))
        plain, few = Scored(scored.y, scored.predictions, "binary"), Resampling(resamples=2)
        risks, gaps = evaluate_predictions(plain, study.metrics, few), compare_predictions(
            plain, champion, study.metrics, few)
        return {metric: (risks[metric].value, gaps[metric].value) for metric in study.metrics}

    return find


@pytest.fixture(scope="session")
def judge() -> Callable[[Intervals, dict[str, Any]], list[str]]:
    """Return the function that gives the gate's decision on each comparison, by one rule as `params` hold it."""
    def run(differences: Intervals, rule: dict[str, Any]) -> list[str]:
        rules = parse_rules([rule], "regression" if rule["metric"] in ("rmse", "mae") else "binary")
        return [judge_rules(rules, [Measured({"": found[rule["metric"]]})]).status for found in differences]

    return run


@pytest.fixture(scope="session")
def limits() -> Callable[[int, float], tuple[int, int]]:
    """Return the function that gives the counts between which a right instrument stays 999 times in 1000."""
    return lambda trials, share: tuple(int(count) for count in binom.ppf([0.0005, 0.9995], trials, share))


@pytest.fixture(scope="session")
def check_rate(limits: Callable[[int, float], tuple[int, int]]) -> Callable[[str, int, int, float], None]:
    """Return the function that holds a count against the rate that is claimed; `pytest -rP` shows the figures."""
    def check(what: str, count: int, trials: int, share: float) -> None:
        low, high = limits(trials, share)
        told = f"{what}: {count} of {trials}, {count / trials:.3f}; claimed {share:.3f}, so {low} to {high}"
        print(told)
        assert low <= count <= high, told

    return check
