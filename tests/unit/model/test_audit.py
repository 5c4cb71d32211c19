import dataclasses

import numpy as np
import pandas as pd
import pytest

from cd4ml.base.errors import DataError, GateError, ParameterError
from cd4ml.data.profile import profile_frame
from cd4ml.model.audit import audit_drift, audit_split, score_features, stop_if_failed
from cd4ml.model.gate import judge_measured
from cd4ml.model.rules import Rule, parse_data_rules
from cd4ml.model.split import Split, split_at_random
from cd4ml.problems.houses import PROBLEM, simulate_houses

HOUSES = PROBLEM.prepare_rows({"sales": simulate_houses(2000, 0)}, None)


def audit(rows: pd.DataFrame, *rules: dict, problem=PROBLEM):
    return audit_split(problem, Split(rows[:1500], rows[1500:]), parse_data_rules(rules))


def test_what_always_holds_is_told_and_passes():
    decision = audit(HOUSES)
    assert (decision.status, [one.rule.gate for one in decision.results]) == ("pass", ["data"] * 3)


@pytest.mark.parametrize(("rule", "status"), [
    ({"measure": "train_rows", "at_least": 1000}, "pass"), ({"measure": "train_rows", "at_least": 2000}, "fail"),
    ({"measure": "holdout_rows", "at_least": 501}, "fail"), ({"measure": "missing", "at_most": 0.5}, "pass"),
    ({"measure": "single_feature", "at_most": 0.97}, "pass")])
def test_rows_and_gaps(rule, status):
    assert audit(HOUSES, rule).status == status


def test_a_leaking_feature_is_named():
    rng = np.random.default_rng(0)
    leaking = HOUSES.assign(garden=HOUSES[PROBLEM.target] * 1.02 + rng.normal(0, 1, len(HOUSES)))
    decision = audit(leaking, {"measure": "single_feature", "at_most": 0.97})
    assert decision.status == "fail"
    assert "(garden)" in decision.reason
    with pytest.raises(GateError, match="garden") as caught:
        stop_if_failed(decision)
    assert caught.value.exit_code == 1


def test_rows_in_both_splits_are_named():
    with pytest.raises(DataError, match="100 of 600 holdout rows are also in train"):
        audit_split(PROBLEM, Split(HOUSES[:1500], pd.concat([HOUSES[1500:], HOUSES[:100]])), parse_data_rules([]))


def test_a_name_with_few_rows_tells_nothing_by_itself():
    rng = np.random.default_rng(0)
    y = pd.Series(rng.random(3000) < 0.5)
    found = score_features(pd.DataFrame({"tail": [f"N{i}" for i in rng.integers(0, 1500, 3000)]}), y)["tail"]
    assert found.value < 0.56


@pytest.mark.parametrize("kind", ["middle", "codes", "number"])
def test_a_leak_that_does_not_grow_with_the_target_is_seen(kind):
    rng = np.random.default_rng(0)
    y = pd.Series(rng.normal(size=2000))
    target = {"middle": y.abs() < 0.7, "codes": pd.Series(rng.choice(list("abc"), 2000)), "number": y}[kind]
    leak = {"middle": y, "codes": target.map({"a": 2, "b": 1, "c": 3}) if kind == "codes" else None,
            "number": np.where(y > 0, rng.normal(size=2000) % 1, 3 * rng.choice([-1, 1], 2000))}[kind]
    found = score_features(pd.DataFrame({"leak": leak, "noise": rng.normal(size=2000)}), target)
    assert found["leak"].value > 0.98
    assert found["noise"].value < 0.57


PATIENTS = HOUSES.assign(patient=np.arange(2000) % 50)


def test_units_on_both_sides_fail_unless_a_rule_allows_them():
    problem = dataclasses.replace(PROBLEM, unit="patient")
    split = split_at_random(PATIENTS, 0.25, 0)
    decision = audit_split(problem, split, parse_data_rules([]))
    assert (decision.status, decision.results[-1].value) == ("fail", 1.0)
    assert "Share of the holdout's units that training has seen: 1" in decision.reason
    allowed = parse_data_rules([{"measure": "shared_units", "at_most": 1}])
    assert audit_split(problem, split, allowed).status == "pass"
    apart = split_at_random(PATIENTS, 0.25, 0, unit="patient")
    assert audit_split(problem, apart, parse_data_rules([])).status == "pass"
    assert audit_split(PROBLEM, split, allowed).status == "pass"


def test_a_number_of_its_own_does_not_make_a_row_another_one():
    twice = pd.concat([HOUSES[1500:], HOUSES[:100]]).assign(number=[f"n{i}" for i in range(600)])
    split = Split(HOUSES[:1500].assign(number=[f"m{i}" for i in range(1500)]), twice)
    decision = audit_split(PROBLEM, split, parse_data_rules([]))
    assert (decision.status, decision.results[-1].value) == ("fail", pytest.approx(100 / 600))
    assert audit_split(PROBLEM, split, parse_data_rules([{"measure": "alike_rows", "at_most": 0.2}])).status == "pass"


@pytest.mark.parametrize("target", [pd.Series(list("abc") * 100), pd.Series([True, False, False] * 100),
                                    pd.Series(np.arange(300.0)), pd.Series([0, 1, 1] * 100)])
def test_every_task_and_columns_without_values(target):
    X = pd.DataFrame({"empty": np.nan, "constant": 1.0, "words": ["x", None, "y"] * 100, "truth": target.astype(str)})
    found = score_features(X, target)
    assert all(0.5 <= one.value <= 1 for one in found.values())
    assert found["constant"].value == 0.5


def test_drift_names_the_feature_that_moved():
    before = profile_frame(HOUSES, list(PROBLEM.features)).to_dict()
    rule = Rule(measure="drift", at_most=0.2)
    assert judge_measured(rule, audit_drift(before, HOUSES)).status == "pass"
    moved = judge_measured(rule, audit_drift(before, HOUSES.assign(area=HOUSES["area"] * 1.5)))
    assert (moved.status, "(area)" in moved.reason) == ("fail", True)
    gone = judge_measured(rule, audit_drift(before, HOUSES.drop(columns="area")))
    assert (gone.status, "area" in gone.reason) == ("inconclusive", True)


@pytest.mark.parametrize("rule", [{"measure": "latency", "at_most": 1}, {"metric": "rmse", "at_most": 1},
                                  {"measure": "train_rows"}, {"measure": "train_row", "at_least": 1},
                                  {"measure": "train_rows", "margin": 1}])
def test_data_rules_that_mean_nothing(rule):
    with pytest.raises(ParameterError, match=r"prepare\.rules"):
        parse_data_rules([rule])
