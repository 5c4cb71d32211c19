import json
import math

import pytest

from cd4ml.base.errors import Cd4mlError, ParameterError
from cd4ml.model.evaluation import Interval
from cd4ml.model.gate import Decision, Measured, judge_rule, judge_rules
from cd4ml.model.rules import Rule, parse_rules


def make(value, lower, upper):
    return Interval(value, lower - 0.01, upper + 0.01, 0.95, 100, lower=lower, upper=upper)


@pytest.mark.parametrize(("rule", "bounds", "status"), [
    ({"at_least": 0.7}, (0.75, 0.70, 0.80), "pass"),
    ({"at_least": 0.7}, (0.75, 0.695, 0.80), "inconclusive"),  # the two-sided low is below, and does not count
    ({"at_least": 0.7}, (0.65, 0.60, 0.70), "inconclusive"),
    ({"at_least": 0.7}, (0.65, 0.60, 0.69), "fail"),
    ({"at_most": 0.3}, (0.25, 0.20, 0.30), "pass"),
    ({"at_most": 0.3}, (0.35, 0.31, 0.40), "fail"),
    ({"at_most": 0.3}, (0.30, 0.29, 0.31), "inconclusive"),
    ({"at_most": 0}, (0.5, 0.4, 0.6), "fail"),
    ({"margin": 0.01}, (0.0, -0.009, 0.02), "pass"),
    ({"margin": 0.01}, (0.0, -0.010, 0.02), "inconclusive"),
    ({"margin": 0.01}, (-0.03, -0.04, -0.011), "fail"),
    ({"margin": 0}, (0.0, 0.0, 0.0), "pass"),
    ({"margin": 0, "superior": True}, (0.0, 0.0, 0.0), "fail"),
    ({"margin": 0, "superior": True}, (0.02, 0.01, 0.03), "pass"),
    ({"at_least": 0.7}, (math.nan, math.nan, math.nan), "inconclusive"),
    ({"at_least": 0.7}, (0.9, math.nan, math.nan), "inconclusive"),
    ({"margin": 0.1}, (math.inf, 0.1, math.inf), "inconclusive"),
])
def test_status(rule, bounds, status):
    assert judge_rule(Rule(metric="roc_auc", **rule), make(*bounds)).status == status


def test_the_worst_rule_decides():
    rules = parse_rules([{"metric": "roc_auc", "at_least": 0.7}, {"metric": "brier", "at_most": 0.2}], "binary")
    good, open_, bad = make(0.8, 0.75, 0.85), make(0.2, 0.1, 0.3), make(0.3, 0.25, 0.35)
    assert judge_rules(rules, [Measured({"": good}), Measured({"": open_})]).status == "inconclusive"
    decision = judge_rules(rules, [Measured({"": make(0.7, 0.6, 0.8)}), Measured({"": bad})])
    assert decision.status == "fail"
    assert "Brier" in decision.reason


def test_no_champion_passes_and_says_so():
    decision = judge_rules([Rule(metric="roc_auc", margin=0.01)], [Measured(excuse="there is no champion yet")])
    assert decision.status == "pass"
    assert "no champion yet" in decision.results[0].reason
    read = Decision.from_dict(json.loads(json.dumps(decision.to_dict(), allow_nan=False)))
    assert read.to_dict() == decision.to_dict()
    assert read._repr_html_() == decision._repr_html_()


def test_an_empty_gate_is_an_error():
    with pytest.raises(ParameterError):
        judge_rules([], [])
    with pytest.raises(ParameterError):
        parse_rules([], "binary")


@pytest.mark.parametrize("rule", [
    {"metric": "roc_auc"}, {"metric": "roc_auc", "at_least": 0.7, "margin": 0.1}, {"metric": "rmse", "at_most": 1},
    {"metric": "roc_auc", "at_least": "high"}, {"metric": "roc_auc", "margin": -1}, {"at_least": 0.7}, {},
    {"metric": "roc_auc", "at_least": 0.7, "superior": True}, {"metric": "roc_auc", "at_least": math.nan}, "roc_auc"])
def test_rules_that_mean_nothing(rule):
    with pytest.raises(ParameterError, match="2 things"):
        parse_rules([rule, {"metric": "nothing", "at_least": 1}], "binary")


def test_an_unknown_format():
    with pytest.raises(Cd4mlError, match="format 1"):
        Decision.from_dict({"format": 2})


def test_html_escapes_names():
    rule = Rule(metric="roc_auc", at_least=0.7, name="<b>")
    assert "<b>" not in judge_rules([rule], [Measured({"": make(0.8, 0.7, 0.9)})])._repr_html_()
