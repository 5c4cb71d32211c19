import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.metrics

from cd4ml.base.errors import Cd4mlError, DataError, ParameterError
from cd4ml.model.comparison import compare_predictions
from cd4ml.model.evaluation import Interval, Resampling, Scored, evaluate_predictions, widen_quantiles
from cd4ml.model.gate import judge_rule
from cd4ml.model.metrics import METRICS, find_metric
from cd4ml.model.rules import Rule
from cd4ml.model.scorers import make_metric
from cd4ml.model.slices import Slice, evaluate_slices, measure_gap, select_rows
from cd4ml.model.statistic import Units
from cd4ml.model.training import predict_baseline


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def make_binary(n=300, seed=0, kind=bool):
    rng = np.random.default_rng(seed)
    chance = rng.random(n).round(1)  # rounded, so that there are ties
    y = pd.Series((rng.random(n) < chance).astype(kind))
    return y, pd.DataFrame({"prediction": (chance > 0.5).astype(kind), "probability": chance})


@pytest.mark.parametrize(("name", "reference", "column"), [
    ("roc_auc", sklearn.metrics.roc_auc_score, "probability"),
    ("average_precision", sklearn.metrics.average_precision_score, "probability"),
    ("log_loss", sklearn.metrics.log_loss, "probability"),
    ("brier", sklearn.metrics.brier_score_loss, "probability"),
    ("accuracy", sklearn.metrics.accuracy_score, "prediction"),
])
@pytest.mark.parametrize("kind", [bool, int])
def test_binary_metrics_equal_sklearns(name, reference, column, kind):
    y, predictions = make_binary(kind=kind)
    weights = np.random.default_rng(1).integers(0, 4, len(y)).astype(float)
    expected = reference(y, predictions[column], sample_weight=weights)
    by_row = METRICS[name].prepare(y.to_numpy(), predictions, Units.from_labels(None, len(y)))
    assert np.isclose(by_row(weights[None]), expected)


@pytest.mark.parametrize("name", ["roc_auc", "average_precision", "log_loss", "brier", "accuracy", "calibration_error"])
def test_few_units_give_what_their_rows_give(name):
    y, predictions = make_binary()
    rng = np.random.default_rng(2)
    units = Units.from_labels(pd.Series(rng.integers(0, 7, len(y))), len(y))
    weights = rng.integers(0, 4, (5, 7)).astype(float)
    by_unit = METRICS[name].prepare(y.to_numpy(), predictions, units)
    by_row = METRICS[name].prepare(y.to_numpy(), predictions, Units.from_labels(None, len(y)))
    assert np.allclose(by_unit(weights), by_row(units.spread(weights)))
    some = rng.permutation(len(y))[:150]
    part = METRICS[name].prepare(y.to_numpy()[some], predictions.iloc[some], units.select(some))
    alone = METRICS[name].prepare(y.to_numpy()[some], predictions.iloc[some], Units.from_labels(None, 150))
    assert np.allclose(part(weights), alone(units.spread(weights)[:, some]))


@pytest.mark.parametrize(("name", "reference"), [
    ("rmse", sklearn.metrics.root_mean_squared_error), ("mae", sklearn.metrics.mean_absolute_error),
    ("r2", sklearn.metrics.r2_score)])
def test_regression_metrics_equal_sklearns(name, reference):
    rng = np.random.default_rng(0)
    y, guess, weights = rng.normal(size=50), rng.normal(size=50), rng.integers(1, 4, 50).astype(float)
    measure = METRICS[name].prepare(y, pd.DataFrame({"prediction": guess}), Units.from_labels(None, 50))
    assert np.isclose(measure(weights[None]), reference(y, guess, sample_weight=weights))


def test_multiclass_metrics_equal_sklearns():
    rng = np.random.default_rng(0)
    y = rng.choice(["a", "b", "c"], 90)
    shares = pd.DataFrame(rng.dirichlet([1, 1, 1], 90), columns=[f"probability_{c}" for c in "abc"])
    guess = np.array(list("abc"))[shares.to_numpy().argmax(axis=1)]
    predictions, ones, rows = shares.assign(prediction=guess), np.ones((1, 90)), Units.from_labels(None, 90)
    assert np.isclose(METRICS["log_loss"].prepare(y, predictions, rows)(ones), sklearn.metrics.log_loss(y, shares))
    assert np.isclose(METRICS["macro_f1"].prepare(y, predictions, rows)(ones),
                      sklearn.metrics.f1_score(y, guess, average="macro"))


def test_bca_agrees_with_scipy():
    rng = np.random.default_rng(0)
    y = pd.Series(rng.lognormal(size=80))
    scored = Scored(y, pd.DataFrame({"prediction": np.zeros(80)}), "regression")
    ours = evaluate_predictions(scored, ["mae"], Resampling(0.9, 20_000, 0))["mae"]
    wide = float(1 - 2 * scipy.stats.norm.cdf(widen_quantiles([0.05], 80)[0]))  # scipy does not correct for few units
    theirs = scipy.stats.bootstrap((y.to_numpy(),), np.mean, confidence_level=wide, n_resamples=20_000, rng=1)
    low, high = theirs.confidence_interval
    assert np.allclose([ours.low, ours.high], [low, high], rtol=0.015)
    wider = evaluate_predictions(scored, ["mae"], Resampling(0.95, 20_000, 0))["mae"]
    assert np.allclose([wider.lower, wider.upper], [ours.low, ours.high])  # one-sided 95 % are the ends of 90 %


def test_the_lower_bound_covers_as_often_as_it_says():
    missed = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scored = Scored(pd.Series(rng.normal(1, 1, 60)), pd.DataFrame({"prediction": np.zeros(60)}), "regression")
        missed += evaluate_predictions(scored, ["bias"], Resampling(0.9, 300, seed))["bias"].lower > 1
    assert 8 <= missed <= 36  # 20 of 200 expected


def test_days_that_differ_widen_the_interval():
    rng = np.random.default_rng(0)
    day = pd.Series(np.repeat(range(20), 50))
    y = pd.Series(rng.normal(size=20)[day] + rng.normal(0, 0.1, 1000))
    predictions = pd.DataFrame({"prediction": np.zeros(1000)})
    by_day, by_row = (evaluate_predictions(Scored(y, predictions, "regression", unit), ["rmse"])["rmse"]
                      for unit in (day, None))
    assert by_day.high - by_day.low > 4 * (by_row.high - by_row.low)
    assert (by_day.units, by_row.units) == (20, 1000)


def test_one_class_leaves_auc_undefined_and_the_rest_defined():
    y, predictions = make_binary()
    found = evaluate_predictions(Scored(y & False, predictions, "binary"))
    assert str(found["roc_auc"]) == "undefined"
    assert found["roc_auc"].to_dict()["low"] is None
    assert found["brier"].is_defined


def test_one_row_one_unit_and_constant_predictions():
    y, predictions = make_binary()
    assert "undefined" in str(evaluate_predictions(Scored(y[:1], predictions[:1], "binary"), ["brier"])["brier"])
    one_day = Scored(y, predictions, "binary", pd.Series(["monday"] * len(y)))
    assert "undefined" in str(evaluate_predictions(one_day)["roc_auc"])
    constant = evaluate_predictions(Scored(y, predictions.assign(probability=0.4), "binary"), ["roc_auc"])["roc_auc"]
    assert (constant.value, constant.low, constant.high) == (0.5, 0.5, 0.5)


def test_all_right_is_not_certainty():
    y = pd.Series(["a", "b"] * 15)
    scored = Scored(y, pd.DataFrame({"prediction": y}), "multiclass")
    found = evaluate_predictions(scored, ["accuracy"])["accuracy"]
    assert np.isclose(found.lower, 0.05 ** (1 / 30))
    assert found.low < found.lower < 1 == found.high


def make_perfect(n, task="binary"):
    y = pd.Series(np.arange(n) >= n / 2)
    if task == "multiclass":
        letters = y.map({True: "a", False: "b"})
        return Scored(letters, pd.DataFrame({"prediction": letters}), task)
    return Scored(y, pd.DataFrame({"prediction": y, "probability": y.astype(float)}), task)


@pytest.mark.parametrize(("metric", "task"), [
    ("roc_auc", "binary"), ("average_precision", "binary"), ("balanced_accuracy", "binary"), ("f1", "binary"),
    ("accuracy", "binary"), ("macro_f1", "multiclass"), ("accuracy", "multiclass")])
def test_six_rows_that_are_all_right_prove_nothing(metric, task):
    few = evaluate_predictions(make_perfect(6, task), [metric])[metric]
    assert few.value == 1
    assert judge_rule(Rule(metric=metric, at_least=0.99), few).status == "inconclusive"


@pytest.mark.parametrize("metric", ["brier", "calibration_error", "log_loss"])
def test_six_rows_without_a_loss_prove_nothing(metric):
    few = evaluate_predictions(make_perfect(6), [metric])[metric]
    assert few.value == pytest.approx(0, abs=1e-12)
    assert judge_rule(Rule(metric=metric, at_most=0.01), few).status == "inconclusive"


@pytest.mark.parametrize(("metric", "task"), [("roc_auc", "binary"), ("balanced_accuracy", "binary"),
                                              ("macro_f1", "multiclass")])
def test_many_rows_that_are_all_right_pass(metric, task):
    many = evaluate_predictions(make_perfect(1000, task), [metric], Resampling(resamples=200))[metric]
    assert many.lower == pytest.approx(0.05 ** (1 / 500))
    assert judge_rule(Rule(metric=metric, at_least=0.99), many).status == "pass"


def test_the_bound_of_an_area_of_one_holds():
    """With a true area of 0.8 a sample of 6 and 6 has an area of 1 now and then, and its bound must be below 0.8."""
    rng, all_right = np.random.default_rng(0), 0
    y = pd.Series([True] * 6 + [False] * 6)
    for _ in range(300):
        chance = 1 / (1 + np.exp(-rng.normal(1.19 * y, 1)))
        scored = Scored(y, pd.DataFrame({"prediction": chance > 0.5, "probability": chance}), "binary")
        if sklearn.metrics.roc_auc_score(y, chance) == 1:
            all_right += 1
            assert evaluate_predictions(scored, ["roc_auc"], Resampling(resamples=200))["roc_auc"].lower < 0.8
    assert all_right


def test_slices_and_gaps_that_are_all_right():
    scored, parts = make_perfect(40), [Slice("", "odd", np.arange(0, 40, 2)), Slice("", "even", np.arange(1, 40, 2))]
    assert evaluate_slices(scored, parts, "roc_auc")["odd"].lower == pytest.approx(0.05 ** (1 / 10))
    assert measure_gap(scored, parts, "roc_auc").upper == pytest.approx(1 - 0.05 ** (1 / 10))


def test_the_same_predictions_differ_by_exactly_nothing():
    scored = make_perfect(6)
    same = compare_predictions(scored, scored.predictions, ["roc_auc", "accuracy"])
    assert {(one.low, one.high) for one in same.values()} == {(0.0, 0.0)}
    assert judge_rule(Rule(metric="roc_auc", margin=0), same["roc_auc"]).status == "pass"


def test_few_rows_that_are_all_better_prove_little():
    scored = make_perfect(6)
    flat = compare_predictions(scored, scored.predictions.assign(probability=0.5), ["roc_auc"])["roc_auc"]
    assert flat.value == 0.5
    assert judge_rule(Rule(metric="roc_auc", margin=0, superior=True), flat).status == "inconclusive"
    many = make_perfect(200)
    flat = compare_predictions(many, many.predictions.assign(probability=0.5), ["roc_auc"])["roc_auc"]
    assert judge_rule(Rule(metric="roc_auc", margin=0, superior=True), flat).status == "pass"


@pytest.mark.parametrize("labels", [(1, 2), ("late", "on time"), (False, True), (0, 1)])
@pytest.mark.parametrize("kept", [0, 1])
def test_a_part_with_one_class_knows_which_one_it_is(labels, kept):
    truth, predictions = make_binary()
    words = dict(zip((False, True), labels, strict=True))
    scored = Scored(truth.map(words), predictions.assign(prediction=predictions["prediction"].map(words)), "binary")
    rows = np.flatnonzero(truth == bool(kept))
    part = select_rows(scored, rows)
    guess = part.predictions.assign(prediction=labels[kept])
    for one in (part, Scored(part.y, guess, "binary", None, labels)):
        assert set(one.read_scores()[1]) == {kept}
        found = evaluate_predictions(one, ["roc_auc", "brier"], Resampling(resamples=50))
        assert "undefined" in str(found["roc_auc"])
        assert found["brier"].value == pytest.approx(((predictions["probability"][rows] - kept) ** 2).mean())
    alone = evaluate_slices(scored, [Slice("", "one", rows)], "brier")["one"]
    assert alone.value == pytest.approx(found["brier"].value)


@pytest.mark.parametrize("labels", [["only"], ["a", "b", "c"], [1, 2, 3]])
def test_a_binary_problem_has_two_classes(labels):
    y = pd.Series(labels)
    with pytest.raises(DataError, match="two classes"):
        Scored(y, pd.DataFrame({"prediction": y, "probability": 0.5}), "binary")


def test_a_metric_of_ones_own_sees_the_labels():
    y, predictions = make_binary()
    words = {True: "late", False: "in time"}
    own = make_metric("late", lambda y, df: float(((y == "late") & (df["prediction"] == "late")).mean()), True)
    named = Scored(y.map(words), predictions.assign(prediction=predictions["prediction"].map(words)), "binary")
    assert evaluate_predictions(named, [own])["late"].value == (y & predictions["prediction"]).mean()


@pytest.mark.parametrize("change", ["rows", "nan", "none", "column"])
def test_what_cannot_be_scored(change):
    y, predictions = make_binary()
    y, predictions = {"rows": (y, predictions[1:]), "none": (y[:0], predictions[:0]),
                      "nan": (y.astype("boolean").where(y), predictions),
                      "column": (y, predictions[["prediction"]])}[change]
    with pytest.raises(DataError):
        Scored(y, predictions, "binary")


@pytest.mark.parametrize("seed", [0, 1])
def test_same_seed_same_interval(seed):
    scored = Scored(*make_binary(), "binary")
    assert evaluate_predictions(scored, (), Resampling(seed=seed)) == evaluate_predictions(
        scored, (), Resampling(seed=seed))


def test_unknown_metric():
    with pytest.raises(ParameterError, match="Did you mean 'rmse'"):
        find_metric("rmsee", "regression")


@pytest.mark.parametrize(("target", "task"), [
    (pd.Series([True, False, False]), "binary"), (pd.Series([True, True]), "binary"),
    (pd.Series(list("aab")), "multiclass"), (pd.Series([1.0, 2.0]), "regression")])
def test_baseline_can_be_scored(target, task):
    predictions = predict_baseline(target, target.index, task)
    assert evaluate_predictions(Scored(target, predictions, task))
    with pytest.raises(Cd4mlError):
        predict_baseline(target[:0], target.index, task)


@pytest.mark.parametrize(("interval", "text"), [
    (Interval(0, 0, 0, 0.95, 5), "0 ± 0"), (Interval(-0.0003, -0.02, 0.02, 0.95, 5), "0.00 ± 0.02"),
    (Interval(-1.5, -1.7, -1.3, 0.95, 5), "−1.5 ± 0.2"), (Interval(0.5, 0.4051, 0.5949, 0.95, 5), "0.50 ± 0.09"),
    (Interval(1e6, 0.9e6, 1.1e6, 0.95, 5), "1,000,000 ± 100,000")])
def test_rounding(interval, text):
    assert str(interval) == text


@pytest.mark.parametrize(("name", "task", "reference"), [
    ("balanced_accuracy", "binary", sklearn.metrics.balanced_accuracy_score),
    ("matthews_corrcoef", "binary", sklearn.metrics.matthews_corrcoef),
    ("neg_brier_score", "binary", lambda y, p: -sklearn.metrics.brier_score_loss(y, p)),
    ("neg_median_absolute_error", "regression", lambda y, p: -sklearn.metrics.median_absolute_error(y, p))])
def test_any_scorer_of_sklearn_by_name(name, task, reference):
    y, predictions = make_binary()
    if task == "regression":
        y, predictions = y.astype(float), predictions[["probability"]].set_axis(["prediction"], axis=1)
    found = evaluate_predictions(Scored(y, predictions, task), [name], Resampling(resamples=200))[name]
    column = "probability" if "brier" in name else "prediction"
    assert np.isclose(found.value, reference(y, predictions[column]))
    assert found.low < found.value < found.high


def test_scorers_know_classes_that_are_words():
    y, predictions = make_binary()
    words = {True: "late", False: "in time"}  # "late" is the second in sorted order
    named = Scored(y.map(words), predictions.assign(prediction=predictions["prediction"].map(words)), "binary")
    for name in ("f1", "roc_auc", "neg_log_loss"):
        assert np.isclose(evaluate_predictions(named, [name])[name].value,
                          evaluate_predictions(Scored(y, predictions, "binary"), [name])[name].value)


def test_a_multiclass_scorer_in_which_draws_lack_a_class():
    y = pd.Series(list("aabbcc") * 10)
    names = [f"probability_{c}" for c in "abc"]
    shares = pd.DataFrame(np.random.default_rng(0).dirichlet([1, 1, 1], 60), columns=names)
    scored = Scored(y, shares.assign(prediction="a"), "multiclass")
    assert evaluate_predictions(scored, ["roc_auc_ovr"], Resampling(resamples=200))["roc_auc_ovr"].is_defined
    few = Scored(y[:6], shares[:6].assign(prediction="a"), "multiclass")
    assert not evaluate_predictions(few, ["roc_auc_ovr"], Resampling(resamples=200))["roc_auc_ovr"].is_defined


def test_a_metric_of_ones_own_sees_the_rows_of_each_draw():
    y, predictions = make_binary()
    own = make_metric("wrong", lambda y, df: float((y != df["prediction"]).mean()), higher_is_better=False)
    found = evaluate_predictions(Scored(y, predictions, "binary"), [own, "accuracy"], Resampling(resamples=300))
    assert np.isclose(found["wrong"].low, 1 - found["accuracy"].high, atol=1e-3)
    assert own.label == "Wrong"
