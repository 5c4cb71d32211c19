"""Which alarms there are, that an alarm needs both size and evidence, and what is recommended."""

from dataclasses import replace

import numpy as np
import pytest

from cd4ml.data.drift import FeatureDrift
from cd4ml.model.evaluation import Interval
from cd4ml.production.alarms import (
    KINDS,
    Alarm,
    Doubts,
    Watch,
    find_doubts,
    find_failures,
    find_shifts,
    find_slowness,
    list_alarms,
    recommend,
)
from cd4ml.production.live import Performance, Rates


def moved(name: str = "x", psi: float = 0.5, **facts: float) -> FeatureDrift:
    return FeatureDrift(name, psi, **{"missing_then": 0.0, "missing_now": 0.0, "unseen": 0, "n": 900, "noise": 0.01,
                                      "p_value": 1e-9} | facts)


def test_far_without_evidence_and_evidence_without_far_are_no_alarms():
    assert find_shifts([moved()], (), Watch())[0].kind == "drift"
    assert find_shifts([moved(p_value=0.01)], (), Watch()) == ()
    assert find_shifts([moved(psi=0.2)], (), Watch()) == ()


def test_the_level_is_shared_by_all_that_is_watched():
    one = moved(p_value=0.001)
    assert len(find_shifts([one], (), Watch())) == 1
    assert find_shifts([one, *(moved(f"y{i}", 0.0, p_value=0.5) for i in range(30))], (), Watch()) == ()


def test_missing_values_are_told_once():
    gone = moved(psi=1.2, missing_now=0.4, p_missing=1e-9)
    assert [one.kind for one in find_shifts([gone], (), Watch())] == ["missing"]
    both = moved(psi=9.0, missing_now=0.4, p_missing=1e-9)
    assert [one.kind for one in find_shifts([both], (), Watch())] == ["drift", "missing"]
    assert find_shifts([moved(psi=0.1, missing_now=0.04, p_missing=1e-9)], (), Watch()) == ()


def test_values_that_are_new_are_told_however_little_the_index_moves():
    (alarm,) = find_shifts([moved(psi=0.05, unseen=20, p_unseen=1e-6)], (), Watch())
    assert (alarm.kind, alarm.threshold) == ("unseen", 0.01)
    assert "2.2% of the rows" in alarm.meaning


def test_answers_come_first_and_the_largest_of_a_kind_before_the_others():
    found = find_shifts([moved("a", 0.4), moved("b", 0.9)], [moved("probability")], Watch())
    assert [one.name for one in found] == ["probability", "b", "a"]


@pytest.mark.parametrize(("low", "high", "count"), [
    (0.06, 0.08, 1), (0.04, 0.08, 0), (-0.09, -0.06, 1), (-0.04, 0.04, 0)])
def test_the_gap_has_to_lie_beyond_what_is_allowed(low, high, count):
    gap = Interval((low + high) / 2, low, high, 0.95, 900)
    rates = Rates(0.3, Interval(0.2, 0.19, 0.21, 0.95, 900), gap)
    assert len(find_failures({}, rates, Watch())) == count
    assert find_failures({}, Rates(0.3, rates.observed, gap, scale=20.0), Watch()) == ()
    assert find_failures({}, rates, Watch(), known_gap=2 * gap.value) == (), "it was so when it was accepted"
    assert len(find_failures({}, rates, Watch(), known_gap=-gap.value)) == count, "it was the other way round"
    few = Rates(0.3, rates.observed, Interval(gap.value, low, high, 0.95, 9))
    assert find_failures({}, few, Watch()) == ()


def test_few_outcomes_break_no_promise():
    promised = Interval(0.7, 0.68, 0.72, 0.95, 900)
    few, many = (Performance(0.6, 0.58, 0.62, n, promised, True) for n in (199, 200))
    assert find_failures({"roc_auc": few}, None, Watch()) == ()
    (alarm,) = find_failures({"roc_auc": many}, None, Watch())
    assert (alarm.kind, alarm.name, alarm.threshold) == ("performance", "ROC AUC", 0.68)


def test_requests_are_slow_only_if_surely_more_than_five_of_a_hundred_are():
    seconds = np.r_[np.full(930, 0.01), np.full(70, 0.2)]
    assert find_slowness(seconds, Watch()) == ()
    assert find_slowness(seconds[-300:], Watch(alarm_latency=100))[0].value == pytest.approx(200)
    assert find_slowness(seconds[:940], Watch(alarm_latency=100)) == ()
    assert find_slowness(np.array([]), Watch(alarm_latency=100)) == ()


@pytest.mark.parametrize(("kinds", "rows", "told", "action"), [
    ((), 900, 900, "nothing"), ((), 900, 199, "wait"), ((), 10, 10, "wait"), (("drift",), 900, 0, "look"),
    (("drift",), 900, 900, "look"), (("predictions",), 900, 900, "look"), (("missing", "drift"), 900, 900, "look"),
    (("latency",), 900, 900, "look"), (("calibration",), 900, 900, "retrain"),
    (("performance", "missing"), 900, 900, "retrain")])
def test_what_is_recommended(kinds, rows, told, action):
    alarms = [Alarm(kind, f"of {kind}", 1.0, 0.5, "so it is") for kind in kinds]
    found, reason = recommend(alarms, rows, told, Watch())
    assert found == action
    assert all(f"of {kind}" in reason for kind in kinds if action == "retrain" or kind in ("missing", "latency"))
    assert reason.endswith(".")


def test_no_alarm_is_no_comfort_where_too_little_was_seen_to_raise_one():
    far = FeatureDrift("temp", 2.9, 0.0, 0.0, 0, 900, noise=3.0)
    near, known = FeatureDrift("age", 0.1, 0.0, 0.0, 0, 900), Alarm("drift", "seats", 1.0, 0.5, "moved")
    loud = FeatureDrift("seats", 1.0, 0.0, 0.0, 0, 900)
    day = Performance(0.7, float("nan"), float("nan"), 900, None, True)
    doubts = find_doubts([near, far, loud], {"roc_auc": day}, [known], Watch(), "1 day")
    assert doubts == Doubts("1 day", ("temp",), is_worth_open=True)
    assert recommend([], 900, 900, Watch(), doubts)[0] == "wait"
    assert "temp look different" in recommend([], 900, 900, Watch(), doubts)[1]
    assert "1 day cannot be judged" in recommend([], 900, 900, Watch(), doubts)[1]
    assert "which 9 days may by chance" in recommend([], 900, 900, Watch(), replace(doubts, span="9 days"))[1]
    assert "nobody knows" in recommend([known], 900, 900, Watch(), doubts)[1]
    assert "only 3 predictions" in recommend([], 900, 3, Watch(), doubts)[1]
    sure = find_doubts([near], {"roc_auc": replace(day, low=0.6, high=0.8)}, [], Watch(), "30 days")
    assert recommend([], 900, 900, Watch(), sure)[0] == "nothing"


def test_a_fault_on_the_way_is_looked_at_before_it_is_learned():
    alarms = [Alarm("performance", "RMSE", 1.0, 0.5, "bad"), Alarm("missing", "age", 1.0, 0.5, "gone")]
    assert "Look at missing values (age) first" in recommend(alarms, 900, 900, Watch())[1]


def test_alarms_are_listed_by_kind_and_escaped():
    text = list_alarms([Alarm("drift", "<x>", 1.0, 0.5, "a & b"), Alarm("drift", "y", 1.0, 0.5, "")])
    assert text.count(KINDS["drift"]) == 1
    assert "&lt;x&gt;" in text
    assert "a &amp; b" in text
