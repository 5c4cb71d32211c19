"""What must not pass on the market is stopped, and what stops it names the culprit."""

import numpy as np
import pandas as pd
import pytest

from cd4ml.base.errors import DataError, StoreError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.store import Store
from cd4ml.delivery.results import Result, Step
from cd4ml.model.audit import audit_split
from cd4ml.model.evaluation import Scored
from cd4ml.model.evidence import Case, ask_champion, measure_rules
from cd4ml.model.gate import Decision, judge_rules
from cd4ml.model.rules import parse_data_rules, parse_rules
from cd4ml.model.split import Split
from cd4ml.model.training import dump_model, load_predictor, predict_baseline, train_model
from cd4ml.problems.houses import PROBLEM, simulate_houses

pytestmark = pytest.mark.slow
TARGET = PROBLEM.target
PARAMS = PROBLEM.params.model_fields["train"].annotation


@pytest.fixture(scope="module")
def houses() -> pd.DataFrame:
    return PROBLEM.prepare_rows({"sales": simulate_houses(6000, 2013)}, None)


def judge_model(train: pd.DataFrame, holdout: pd.DataFrame) -> Decision:
    """Return what the rule "better than the baseline" says of the problem's model."""
    predict = load_predictor(dump_model(train_model(PROBLEM, train, PARAMS(max_iter=50))), "regression")
    baseline = predict_baseline(train[TARGET], holdout.index, "regression")
    case = Case(Scored(holdout[TARGET], predict(holdout), "regression"), holdout, baseline)
    rules = parse_rules([{"metric": "rmse", "margin": 0, "superior": True, "against": "baseline"}], "regression")
    return judge_rules(rules, measure_rules(rules, case))


def test_a_leaking_feature(houses: pd.DataFrame) -> None:
    rules = parse_data_rules([{"measure": "single_feature", "at_most": 0.95}])
    assert audit_split(PROBLEM, Split(houses[:4500], houses[4500:]), rules).status == "pass"
    tax = houses.assign(garden=0.03 * houses[TARGET] + np.random.default_rng(0).normal(0, 0.3, len(houses)))
    decision = audit_split(PROBLEM, Split(tax[:4500], tax[4500:]), rules)
    assert (decision.status, "(garden)" in decision.reason) == ("fail", True)


def test_a_shuffled_target(houses: pd.DataFrame) -> None:
    assert judge_model(houses[:4500], houses[4500:]).status == "pass"
    shuffled = houses.assign(**{TARGET: houses[TARGET].sample(frac=1, random_state=1).to_numpy()})
    decision = judge_model(shuffled[:4500], shuffled[4500:])
    assert decision.status != "pass", "nothing was to be learned"
    assert "baseline" in decision.reason


def test_rows_in_both_splits(houses: pd.DataFrame) -> None:
    twice = pd.concat([houses[4500:], houses[:7]])
    with pytest.raises(DataError, match="7 of 1507 holdout rows are also in train"):
        audit_split(PROBLEM, Split(houses[:4500], twice), parse_data_rules([]))


def test_a_tampered_champion(houses: pd.DataFrame, tmp_path) -> None:
    data = dump_model(train_model(PROBLEM, houses[:1000], PARAMS(max_iter=5)))
    (tmp_path / "model.skops").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    known = Result("champion", "model", hash_bytes(data), str(tmp_path / "model.skops"), about={"release": 1})
    step = Step("evaluate", tmp_path, {"champion": known}, Store(str(tmp_path)))
    with pytest.raises(StoreError, match=r"model\.skops"):
        ask_champion(lambda: load_predictor(step.read_file("champion"), "regression")(houses))
