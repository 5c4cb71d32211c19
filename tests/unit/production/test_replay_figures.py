"""What a replay claims to have gained holds for all metrics together, and its marks ask for something."""

import datetime as dt

import numpy as np
import pandas as pd

from cd4ml.model.evaluation import Interval, Resampling
from cd4ml.model.metrics import find_metrics
from cd4ml.production.replay_figures import Arms, find_marks, measure_gain, tell_gain

FEW = Resampling(resamples=400, seed=3)


def make_arms(seed: int, gain: float = 0.0) -> Arms:
    """Return 40 days of rows that two models answer with errors of their own."""
    rng = np.random.default_rng(seed)
    at = pd.Series(pd.date_range("2013-07-01", periods=40, tz="UTC").repeat(10))
    truth = pd.Series(rng.normal(size=len(at)))
    served, frozen = (pd.DataFrame({"prediction": truth + rng.normal(scale=scale, size=len(at))})
                      for scale in (1 - gain, 1))
    return Arms(pd.DataFrame({"at": at, "release": 1, "outcome": truth}), served, frozen, "regression")


def test_looking_at_more_metrics_makes_each_interval_wider() -> None:
    metrics = find_metrics(["mae", "rmse", "r2"], "regression")
    alone, together = (measure_gain(make_arms(1), some, FEW)["mae"] for some in (metrics[:1], metrics))
    assert together.low < alone.low
    assert together.high > alone.high
    assert together.value == alone.value


def test_a_gain_is_found_where_there_is_one_and_seldom_where_there_is_none() -> None:
    metrics = find_metrics(["mae", "rmse", "r2"], "regression")
    assert all(one.low > 0 for one in measure_gain(make_arms(0, gain=0.4), metrics, FEW).values())
    claims = sum(any(one.low > 0 or one.high < 0 for one in measure_gain(make_arms(seed), metrics, FEW).values())
                 for seed in range(60))
    assert claims <= 8  # of 60 at a level of 0.05; more than 8 by chance once in 300 runs of other seeds


def test_only_alarms_about_more_than_what_was_asked_are_marked() -> None:
    def look(day: int, *kinds: str, **attempt: object) -> dict[str, object]:
        turn = {"attempt": attempt} if attempt else None
        return {"at": f"2013-07-{day:02}T00:00:00", "alarms": [{"kind": kind, "name": "x"} for kind in kinds],
                "turn": turn}

    looks = [look(8, "drift"), look(15, "drift", "performance"), look(22), look(29, release=2, is_promoted=True)]
    assert find_marks(looks) == ([(dt.date(2013, 7, 29), "release 2")], [dt.date(2013, 7, 15)])


def test_the_gain_is_told_in_a_sentence() -> None:
    plan, gain = {"since": "2013-07-01", "until": "2013-08-01"}, {"mae": Interval(0.2, 0.1, 0.3, 0.95, 900),
                                                                  "rmse": Interval(0.2, -0.1, 0.3, 0.95, 900)}
    assert "no new release came" in tell_gain(plan, gain, [], 900)
    told = tell_gain(plan, gain, [(dt.date(2013, 7, 8), "release 2")], 900)
    assert "with 1 new release on the way, what was served was better in Mean absolute error than" in told
