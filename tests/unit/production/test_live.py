"""What came of answers: who was asked, what is told, what it was worth, and what cannot be said."""

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cd4ml.delivery.manifest import Release
from cd4ml.model.evaluation import Interval, Resampling
from cd4ml.model.metrics import find_metrics
from cd4ml.production.live import (
    Performance,
    count_ages,
    find_turns,
    measure_performance,
    measure_periods,
    measure_rates,
    measure_slices,
    name_units,
    score_outcomes,
    select_sent,
)

FEW = Resampling(resamples=300, seed=1)


def make_release(task: str, classes: tuple[Any, ...] = (False, True)) -> Release:
    return Release("toy", 1, "2026-01-02", task, "y", (), classes, {}, {}, None, {})


def make_log(n: int, every: str = "1h", **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"prediction_id": [f"p{i}" for i in range(n)], "release": 1, "role": "champion",
                         "at": pd.date_range("2013-07-01", periods=n, freq=every, tz="UTC"), **columns})


def test_numbers_told_as_text_are_read_and_others_counted():
    log = make_log(4, prediction=[1.0, 2.0, 3.0, 4.0])
    scored, rows, unread = score_outcomes(log, {"p0": 1.5, "p1": "2.5", "p2": "many", "p9": 1.0},
                                          make_release("regression", ()))
    assert (rows.tolist(), unread) == ([0, 1], 1)
    assert scored.y.tolist() == [1.5, 2.5]


def test_an_outcome_that_is_no_class_is_not_taken_for_one():
    log = make_log(3, prediction=["a", "b", "a"], probability_a=0.6, probability_b=0.4)
    scored, rows, unread = score_outcomes(log, {"p0": "a", "p1": "c"}, make_release("multiclass", ("a", "b")))
    assert (rows.tolist(), unread) == ([0], 1)
    assert list(scored.predictions) == ["prediction", "probability_a", "probability_b"]


def test_nothing_told_is_nothing_scored():
    assert score_outcomes(make_log(3, prediction=1.0), {}, make_release("regression", ()))[0] is None
    assert score_outcomes(make_log(0), {"p0": 1.0}, make_release("regression", ()))[0] is None


@pytest.mark.parametrize(("unit", "count"), [("row", None), ("day", 10), ("week", 2)])
def test_units_are_days_or_weeks(unit, count):
    units = name_units(make_log(240)["at"], unit)
    assert (units if units is None else units.nunique()) == count


def test_days_that_share_their_luck_give_wider_intervals_than_rows():
    rng = np.random.default_rng(2)
    day = np.repeat(rng.uniform(0.1, 0.9, 40), 24)
    log = make_log(960, prediction=False, probability=0.5)
    told = {f"p{i}": bool(rng.random() < p) for i, p in enumerate(day)}
    wide, narrow = (measure_rates(score_outcomes(log, told, make_release("binary"), unit)[0], FEW).observed
                    for unit in ("day", "row"))
    assert wide.value == narrow.value
    assert wide.high - wide.low > 1.8 * (narrow.high - narrow.low)


def test_a_promise_is_broken_only_on_the_worse_side():
    promised = Interval(0.7, 0.68, 0.72, 0.95, 900)
    assert Performance(0.6, 0.58, 0.62, 900, promised, True).is_broken
    assert not Performance(0.8, 0.78, 0.82, 900, promised, True).is_broken
    assert Performance(0.8, 0.78, 0.82, 900, promised, False).is_broken
    assert not Performance(0.66, 0.63, 0.69, 900, promised, True).is_broken
    assert not Performance(float("nan"), float("nan"), float("nan"), 900, promised, True).is_broken
    assert not Performance(0.6, 0.58, 0.62, 900, None, True).is_broken


def test_a_metric_that_the_outcomes_do_not_define_is_undefined():
    log = make_log(300, prediction=False, probability=np.linspace(0, 1, 300))
    scored, *_ = score_outcomes(log, {f"p{i}": False for i in range(300)}, make_release("binary"))
    found = measure_performance(scored, find_metrics(["roc_auc", "brier"], "binary"), {}, FEW)
    assert not found["roc_auc"].interval.is_defined
    assert found["brier"].interval.is_defined


@pytest.mark.parametrize(("n", "every", "span", "count"), [(1, "1h", 1, 1), (240, "1h", 1, 10), (600, "3h", 7, 11),
                                                            (900, "12h", 30, 15), (900, "2D", 100, 18)])
def test_a_window_has_at_most_eighteen_periods(n, every, span, count):
    log = make_log(n, every, prediction=1.0)
    periods = measure_periods(log, None, np.array([], dtype=int), find_metrics(["mae"], "regression")[0], FEW)
    assert (periods[0].days, len(periods)) == (span, count)
    assert sum(one.asked for one in periods) == n
    assert all(one.metric is None for one in periods)


def test_a_period_of_few_outcomes_has_no_figures():
    log = make_log(480, prediction=1.0)
    scored, rows, _ = score_outcomes(log, {f"p{i}": 2.0 for i in range(34)}, make_release("regression", ()), "day")
    periods = measure_periods(log, scored, rows, find_metrics(["mae"], "regression")[0], FEW)
    assert [one.told for one in periods[:3]] == [34, 0, 0]
    assert periods[0].metric is None


def test_ages_count_all_predictions_once():
    log = make_log(1000, "1h")
    until = log["at"].iloc[-1].to_pydatetime()
    ages = count_ages(log["at"], np.arange(1000) < 500, until)
    assert sum(one.asked for one in ages) == 1000
    assert sum(one.told for one in ages) == 500
    later = count_ages(log["at"], np.arange(1000) < 500, until + dt.timedelta(days=365))
    assert [one.label for one in later] == ["over 30 days"]
    assert count_ages(log["at"], np.zeros(1000, bool), until - dt.timedelta(days=99))[0].asked == 1000


def test_slices_that_the_log_does_not_know_are_left_out():
    log = make_log(500, prediction=1.0, town=["a"] * 300 + ["b"] * 150 + [None] * 50)
    scored, rows, _ = score_outcomes(log, {f"p{i}": 1.5 for i in range(500)}, make_release("regression", ()))
    found, small = measure_slices(log, scored, rows, ["street", "town"], (find_metrics(["mae"], "regression")[0], FEW))
    assert list(found) == ["town a"]
    assert small == {"town b": 150, "town (missing)": 50}
    assert measure_slices(log, scored, rows, ["street"], (find_metrics(["mae"], "regression")[0], FEW)) == ({}, {})


def test_turns_are_of_champions_and_of_whole_days():
    log = make_log(96, role=["champion"] * 48 + ["shadow"] * 24 + ["champion"] * 24,
                   release=[1] * 40 + [2] * 8 + [9] * 24 + [2] * 24)
    assert find_turns(log) == (("2013-07-01", 1), ("2013-07-04", 2))
    assert len(select_sent(log)) == 72


def test_the_intervals_of_several_metrics_hold_together():
    log = make_log(400, prediction=False, probability=np.linspace(0.1, 0.9, 400))
    told = {f"p{i}": i % 3 == 0 for i in range(400)}
    scored, *_ = score_outcomes(log, told, make_release("binary"))
    alone, many = (measure_performance(scored, find_metrics(names, "binary"), {}, FEW)["brier"]
                   for names in (["brier"], ["brier", "roc_auc", "log_loss", "average_precision"]))
    assert (alone.confidence, many.confidence) == (0.95, 0.9875)
    assert many.low < alone.low
    assert many.high > alone.high
