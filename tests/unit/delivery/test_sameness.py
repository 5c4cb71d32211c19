"""What is the same: bits by default, a tolerance if it is given, and no rule on time."""

import math

import pandas as pd
import pytest

from cd4ml.base.store import Store
from cd4ml.data.snapshot import write_snapshot
from cd4ml.delivery.sameness import Side, compare_sides
from cd4ml.model.gate import Decision, RuleResult
from cd4ml.model.rules import Rule

RULES = (Rule(metric="accuracy", at_least=0.8), Rule(measure="latency_ratio", at_most=2))


def judge(*statuses):
    results = tuple(RuleResult(rule, status, 1.0, 0.9, 1.1, 0.8, 9, "") for rule, status in zip(RULES, statuses,
                                                                                              strict=True))
    return Decision(min(statuses, key=("fail", "inconclusive", "pass").index), results, "").to_dict()


def make_run(accuracy=0.9, decision=None, params=None):
    none = {"value": None, "low": None, "high": None}
    return {"metrics": {"accuracy": {"value": accuracy, "low": 0.8, "high": 0.95}, "none": none},
            "decision": decision or judge("pass", "pass"), "params": params or {"train": {"C": 1.0}}}


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


def compare(store, again=None, frame=None, model="a", tolerance=0.0, train="t", keep=True):
    ours = pd.DataFrame({"id": ["x", "y"], "probability": [0.25, math.nan]})
    kept = write_snapshot(ours, store).sha256
    if not keep:
        store.delete(f"snapshots/{kept}.parquet")
    got = write_snapshot(frame, store).sha256 if frame is not None else kept
    sides = (Side(make_run(), "a", {"train": "t", "predictions": kept}, store),
             Side(again or make_run(), model, {"train": train, "predictions": got}, store))
    found = compare_sides(*sides, tolerance)
    return {check.subject: check for check in found}


def list_others(found):
    return {subject: check.status for subject, check in found.items() if check.status != "equal"}


def test_what_is_equal_is_equal(store):
    found = compare(store)
    assert list_others(found) == {}
    assert set(found) == {"snapshot train", "parameters", "model", "predictions", "accuracy", "none",
                          "rule: Accuracy ≥ 0.8", "decision"}


def test_a_rule_on_latency_is_left_out_and_does_not_decide(store):
    assert list_others(compare(store, make_run(decision=judge("pass", "fail")))) == {}
    assert list_others(compare(store, make_run(decision=judge("fail", "pass")))) == {
        "rule: Accuracy ≥ 0.8": "differs", "decision": "differs"}


def test_bits_count_unless_a_tolerance_is_given(store):
    close = pd.DataFrame({"id": ["x", "y"], "probability": [0.25 + 1e-12, math.nan]})
    strict = compare(store, make_run(0.9 + 1e-12), close, model="b")
    assert list_others(strict) == {"predictions": "differs", "model": "differs", "accuracy": "differs"}
    assert "differ by up to 1e-12" in strict["predictions"].again
    assert list_others(compare(store, make_run(0.9 + 1e-12), close, model="b", tolerance=1e-9)) == {
        "predictions": "near", "model": "near", "accuracy": "near"}


@pytest.mark.parametrize("frame", [
    pd.DataFrame({"id": ["x", "z"], "probability": [0.25, math.nan]}),
    pd.DataFrame({"id": ["x", "y"], "probability": [0.25, 0.5]}),
    pd.DataFrame({"id": ["x"], "probability": [0.25]}), pd.DataFrame({"probability": [0.25, math.nan]}),
    pd.DataFrame({"id": ["x", "y"], "probability": ["0.25", None]})])
def test_no_tolerance_covers_other_rows_texts_or_gaps(store, frame):
    assert compare(store, frame=frame, tolerance=1e9)["predictions"].status == "differs"


def test_snapshots_and_parameters_know_no_tolerance(store):
    found = compare(store, make_run(params={"train": {"C": 1.0000001}}), train="u", model="b", tolerance=1.0)
    assert {name: found[name].status for name in ("snapshot train", "parameters")} == {
        "snapshot train": "differs", "parameters": "differs"}


def test_metrics_that_are_gone_or_new_differ(store):
    again = make_run()
    again["metrics"] = {"accuracy": {"value": None, "low": None, "high": None}, "new": again["metrics"]["accuracy"]}
    assert list_others(compare(store, again, tolerance=1.0)) == {"accuracy": "differs", "new": "differs"}


def test_predictions_whose_rows_are_gone_differ_and_say_so(store):
    other = pd.DataFrame({"id": ["x", "y"], "probability": [0.3, math.nan]})
    assert "are gone" in compare(store, frame=other, keep=False, tolerance=1.0)["predictions"].again
