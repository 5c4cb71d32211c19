"""Bad input to a gate: each has a clear outcome, never a traceback and never a silent pass."""
import dataclasses

import numpy as np
import pandas as pd
import pytest

from cd4ml.base.errors import DataError, ParameterError, StoreError
from cd4ml.model.evaluation import Interval, Resampling, Scored
from cd4ml.model.evidence import Case, ask_champion, measure_rules
from cd4ml.model.gate import Measured, judge_rules
from cd4ml.model.rules import Rule, parse_rules
from cd4ml.model.scorers import make_metric
from cd4ml.model.training import predict_baseline

RNG = np.random.default_rng(0)
FEW = Resampling(resamples=300)


def make_case(rows: int = 1200, champion: bool = True, **changes) -> Case:
    signal = RNG.normal(size=rows)
    y = pd.Series(RNG.random(rows) < 1 / (1 + np.exp(-2 * signal)))
    chance = 1 / (1 + np.exp(-2 * signal))
    answers = pd.DataFrame({"prediction": chance > 0.5, "probability": chance})
    frame = pd.DataFrame({"place": RNG.choice(["a", "b", "c"], rows), "year": 2013})
    baseline = predict_baseline(pd.Series([True, False]), y.index, "binary")
    case = Case(Scored(y, answers, "binary"), frame, baseline, answers if champion else None)
    return dataclasses.replace(case, **changes)


def judge(case: Case, **rule):
    one = Rule(**rule)
    return judge_rules([one], measure_rules([one], case, FEW)).results[0]


@pytest.mark.parametrize(("rule", "status", "words"), [
    ({"metric": "roc_auc", "at_least": 0.6}, "pass", "ROC AUC"),
    ({"metric": "roc_auc", "margin": 0.01}, "pass", "champion"),
    ({"metric": "roc_auc", "margin": 0, "superior": True}, "fail", "must be more than 0"),
    ({"metric": "log_loss", "margin": 0, "superior": True, "against": "baseline"}, "pass", "baseline"),
    ({"metric": "roc_auc", "margin": 0.01, "slices": ["place"]}, "pass", "3 of 3 slices"),
    ({"metric": "roc_auc", "margin": 0.01, "slices": ["place"], "min_rows": 5000}, "inconclusive", "has 5000 rows"),
    ({"metric": "roc_auc", "margin": 0.01, "slices": ["year"]}, "inconclusive", "one value"),
    ({"metric": "accuracy", "at_most": 0.2, "across": "place"}, "pass", "gap"),
    ({"metric": "accuracy", "at_most": 0.2, "across": "year"}, "inconclusive", "fewer than two"),
    ({"metric": "balanced_accuracy", "at_least": 0.6}, "pass", "Balanced accuracy"),
    ({"measure": "latency", "at_most": 5}, "inconclusive", "not measured"),
    ({"measure": "size_ratio", "at_most": 2}, "inconclusive", "not measured"),
])
def test_each_kind_of_rule(rule, status, words):
    result = judge(make_case(), **rule)
    assert (result.status, words in result.reason) == (status, True), result.reason


@pytest.mark.parametrize("rule", [{"metric": "roc_auc", "margin": 0.01}, {"measure": "size_ratio", "at_most": 2},
                                  {"metric": "roc_auc", "margin": 0.01, "slices": ["place"]}])
def test_no_champion_passes_and_one_that_cannot_be_asked_does_not(rule):
    assert judge(make_case(champion=False), **rule).status == "pass"
    result = judge(make_case(champion=False, fault="the champion cannot be asked: 1 of 4 columns are missing"), **rule)
    assert (result.status, "cannot be asked" in result.reason) == ("inconclusive", True)


@pytest.mark.parametrize("champion", [True, False])
@pytest.mark.parametrize("rule", [{"margin": 0.01, "slices": ["plaice"]}, {"at_most": 0.1, "across": "plaice"}])
def test_a_slice_column_that_is_missing_is_an_error_that_names_the_nearest(champion, rule):
    with pytest.raises(DataError, match="Did you mean 'place'"):
        judge(make_case(champion=champion), metric="roc_auc", **rule)


def test_a_holdout_with_one_class_is_inconclusive_not_a_pass():
    case = make_case()
    scored = Scored(case.scored.y | True, case.scored.predictions, "binary")
    result = judge(dataclasses.replace(case, scored=scored), metric="roc_auc", at_least=0.5)
    assert (result.status, "undefined" in result.reason) == ("inconclusive", True)


def test_constant_predictions_fail_what_they_cannot_reach():
    case = make_case()
    flat = case.scored.predictions.assign(probability=0.5, prediction=True)
    case = dataclasses.replace(case, scored=Scored(case.scored.y, flat, "binary"))
    assert judge(case, metric="roc_auc", at_least=0.6).status == "fail"
    assert judge(case, metric="roc_auc", margin=0.01).status == "fail"
    assert judge(case, metric="log_loss", margin=0, superior=True, against="baseline").status == "fail"


def test_scores_that_are_not_numbers_are_an_error():
    case = make_case()
    with pytest.raises(DataError, match="not numbers"):
        Scored(case.scored.y, case.scored.predictions.assign(probability=np.nan), "binary")


@pytest.mark.parametrize("rows", [1, 5])
def test_few_rows_are_inconclusive_or_refuted_never_passed_by_luck(rows):
    case = make_case(rows)
    for rule in ({"metric": "brier", "at_most": 0.01}, {"metric": "roc_auc", "at_least": 0.99},
                 {"metric": "accuracy", "at_least": 0.9}):
        assert judge(case, **rule).status in ("inconclusive", "fail")
    with pytest.raises(DataError, match="no rows"):
        make_case(0)


def test_an_unknown_metric_is_refused_before_anything_is_measured():
    with pytest.raises(ParameterError, match="Did you mean 'roc_auc'"):
        parse_rules([{"metric": "roc_acu", "at_least": 0.5}], "binary")


def test_a_metric_of_the_problem_can_be_asked_for():
    own = make_metric("cost", lambda y, df: float((y != df["prediction"]).mean()), higher_is_better=False)
    rules = parse_rules([{"metric": "cost", "at_most": 0.4}, {"metric": "cost", "margin": 0.01}], "binary", [own])
    found = judge_rules(rules, measure_rules(rules, make_case(own=[own]), FEW))
    assert found.status == "pass", found.reason


def test_a_champion_that_was_altered_stops_everything():
    def read():
        raise StoreError("'model.skops' was altered")

    with pytest.raises(StoreError):
        ask_champion(read)


def test_a_champion_whose_own_code_breaks_is_told_in_one_line():
    def read():
        raise AttributeError("'Booster' has no attribute 'x'\nsecond line")

    assert ask_champion(read) == (None, "the champion cannot be asked: AttributeError: 'Booster' has no attribute 'x'")


def test_past_the_budget_of_a_holdout_nothing_is_decided():
    def count(uses: int) -> dict[str, Measured]:
        return {"holdout_uses": Measured({"": Interval(uses, uses, uses, 0.95, 1200)})}

    rule = {"measure": "holdout_uses", "at_most": 10}
    assert judge(make_case(measures=count(10)), **rule).status == "pass"
    result = judge(make_case(measures=count(11)), **rule)
    assert (result.status, "fresh holdout" in result.reason) == ("inconclusive", True)


def test_inconclusive_says_what_these_rows_could_find_and_how_many_would_decide():
    rng = np.random.default_rng(1)
    error = rng.normal(size=100)
    scored = Scored(pd.Series(error), pd.DataFrame({"prediction": np.zeros(100)}), "regression")
    case = Case(scored, pd.DataFrame(index=range(100)), scored.predictions)
    value = float(np.abs(error).mean())
    result = judge(case, metric="mae", at_most=value + 0.05)
    spread, distance = np.abs(error).std() / 10, 0.05
    needed = 100 * (spread * (1.645 + 0.842) / distance) ** 2  # normal theory
    told = float(result.reason.split("about ")[1].split()[0].replace(",", ""))
    assert (result.status, abs(told / needed - 1) < 0.25) == ("inconclusive", True), (result.reason, needed)
