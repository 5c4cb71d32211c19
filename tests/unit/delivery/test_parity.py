"""Implementations that part from the original in a known way: the row and the feature named must be the right ones."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cd4ml.base.errors import DataError, ReleaseError
from cd4ml.delivery.golden import make_golden_rows, sample_rows
from cd4ml.delivery.parity import (
    ParityReport,
    ask_by_row,
    compare_implementations,
    join_reports,
    measure_parity,
    read_back,
)
from cd4ml.delivery.parity_figures import draw_parity
from cd4ml.model.gate import judge_measured
from cd4ml.model.rules import parse_rules
from cd4ml.model.training import predict_rows
from cd4ml.problems import houses, iris

RNG = np.random.default_rng(3)
X = pd.DataFrame({"whole": RNG.integers(1, 9, 60).astype(float), "tenth": RNG.integers(11, 99, 60) / 10,
                  "idle": RNG.normal(size=60), "place": RNG.choice(["hill", "east"], 60)})
GOLDEN = make_golden_rows(X, seed=1)
RAISE = {"hill": 5.0, "east": -5.0}


def price(df):
    place = df["place"].map(RAISE).astype(float).fillna(0.0)
    return pd.DataFrame({"prediction": 3.0 * df["whole"] + 2.0 * df["tenth"] + place}, index=df.index)


def decide(df):
    chance = 1 / (1 + np.exp(0.0 - df["whole"]))
    return pd.DataFrame({"prediction": chance > 0.5, "probability": chance}, index=df.index)


def compare(other, reference=price, task="regression", golden=GOLDEN, tolerance=1e-9):
    report = compare_implementations(reference, {"other": other}, golden, task, tolerance)
    assert str(ParityReport.from_dict(json.loads(json.dumps(report.to_dict(), allow_nan=False)))) == str(report)
    assert "Traceback" not in report._repr_html_()
    draw_parity(report)
    return report.implementations[0]


def first(*cases):
    return min(GOLDEN.cases.index(case) for case in cases)


def fill(df, value=0.0):
    return df.fillna({"whole": value, "tenth": value})


def test_the_same_agrees_exactly():
    found = compare(price)
    assert (found.status, found.difference, found.relative, found.flips, found.refused) == ("agree", 0, 0, 0, 0)
    assert found.parting is None
    assert found.rows == len(GOLDEN) - 2, "numbers as text: nobody answers"


def test_two_features_are_swapped():
    found = compare(lambda df: price(df.rename(columns={"whole": "tenth", "tenth": "whole"})))
    assert (found.status, found.parting.row, found.parting.case) == ("parts", 0, "real")
    assert found.parting.feature in ("whole", "tenth")


def test_missing_is_taken_for_zero():
    found = compare(lambda df: price(fill(df)))
    assert found.status == "parts"
    assert found.parting.row == first("whole missing", "tenth missing", "all missing")
    assert (found.parting.feature, found.parting.value) == ("whole", "missing")
    assert found.flips == 3, "one says a number where the other says none"
    assert math.isinf(found.difference)
    quiet = compare(lambda df: price(fill(df, 1.0)), reference=lambda df: price(fill(df)))
    assert (quiet.difference, quiet.flips, quiet.parting.feature) == (5.0, 0, "whole")


def test_missing_in_one_feature_of_real_rows_with_several_gaps():
    gappy = X.assign(idle=X["idle"].where(X.index % 2 == 0), tenth=X["tenth"].where(X.index % 3 > 0))
    golden = make_golden_rows(gappy, seed=1)
    found = compare(lambda df: price(df.fillna({"tenth": 1.0})), reference=lambda df: price(fill(df)), golden=golden)
    assert found.parting.feature == "tenth"
    assert pd.isna(golden.rows["tenth"].iloc[found.parting.row])
    assert found.parting.row == int(np.flatnonzero(golden.rows["tenth"].isna())[0])


def test_digits_are_rounded_away():
    found = compare(lambda df: price(df.astype({"tenth": "float32", "whole": "float32"}).astype({"tenth": "float64"})))
    exact = [float(np.float32(value)) == value for value in GOLDEN.rows["tenth"][:24]]
    assert (found.status, found.parting.row, found.parting.feature) == ("parts", exact.index(False), "tenth")
    assert 0 < found.difference < 1e-4
    assert 0 < found.relative < 1e-6
    assert found.parting.expected != found.parting.got, "as many digits as it takes to see it"
    assert compare(lambda df: price(df.astype({"tenth": "float32"})), tolerance=1.0).status == "agree"


def test_a_tie_is_flipped():
    def flip(df):
        answers = decide(df)
        return answers.assign(prediction=answers["probability"] >= 0.5)

    found = compare(flip, decide, "binary")
    ties = int((GOLDEN.rows["whole"] == 0).sum())
    assert (found.status, found.difference, found.flips) == ("parts", 0, ties)
    assert (found.parting.case, found.parting.feature, found.parting.value) == ("whole zero", "whole", "0")
    assert (found.parting.expected, found.parting.got) == ("says False, probability 0.5", "says True, probability 0.5")


def test_an_unseen_category_is_taken_for_a_known_one():
    found = compare(lambda df: price(df.replace({"place": {"never seen": "hill"}})))
    assert (found.parting.case, found.parting.feature, found.parting.value) == ("place unseen", "place", "'never seen'")


def test_what_is_raised_on_all_rows_is_told_in_its_words():
    def fail(df):
        raise RuntimeError("no connection\nTraceback: line 3")

    found = compare(fail)
    assert (found.status, found.rows, found.refused, found.stricter) == ("refuses", 0, len(GOLDEN) - 6, 4)
    assert found.error == "RuntimeError: no connection"
    assert math.isnan(found.difference)
    assert (found.parting.row, found.parting.feature) == (0, "")
    assert "no feature can be named" in found.parting.note
    silent = compare(lambda df: (_ for _ in ()).throw(KeyError()))
    assert silent.error == "KeyError"


def test_what_is_raised_on_some_rows():
    def limit(df):
        if (df["tenth"] > 20).any():
            raise DataError("Too large", got="tenth")
        return price(df)

    found = compare(limit)
    assert (found.status, found.refused, found.difference) == ("refuses", 1, 0)
    assert found.error == "Too large. Got: tenth."
    assert (found.parting.case, found.parting.feature) == ("tenth far above", "tenth")
    assert found.parting.got == "refuses (Too large. Got: tenth.)"


def test_both_refuse_the_same_rows():
    def refuse(df):
        if df.isna().any(axis=None):
            raise ValueError("gaps")
        return price(df)

    assert compare(lambda df: refuse(df), refuse).status == "agree"
    found = compare(price, refuse)
    assert (found.status, found.error) == ("parts", ""), "an answer where the original gives none"
    assert found.parting.expected == "refuses (ValueError: gaps)"


def test_a_refusal_of_wrong_types_is_allowed_and_told():
    def check(df):
        if (df.drop(columns="place").dtypes != "float64").any():
            raise TypeError("numbers, please")
        return price(df)

    found = compare(check)
    assert (found.status, found.stricter, found.refused) == ("agree", 4, 0)
    assert compare(price, check).status == "parts", "the reverse is not"


def test_wrong_types_that_are_read_otherwise_are_found():
    def read(df):
        return price(df.assign(tenth=df["tenth"].astype(float)) if df["tenth"].dtype != bool else df.assign(tenth=0.0))

    found = compare(read)
    assert (found.parting.case, found.parting.feature) == ("booleans for numbers", "tenth")


@pytest.mark.parametrize(("drop", "feature"), [(lambda df: df.dropna(), "whole"),
                                               (lambda df: df[~(df["tenth"] > 20)], "tenth")])
def test_too_few_rows(drop, feature):
    found = compare(lambda df: price(fill(drop(df))), reference=lambda df: price(fill(df)))
    assert (found.status, found.error) == ("refuses", "gives 0 answers to 1 row")
    assert found.parting.feature == feature
    assert found.parting.case == ("whole missing" if feature == "whole" else "tenth far above")


def test_rows_are_sorted():
    found = compare(lambda df: price(df.sort_values("tenth")))
    assert (found.status, found.parting.row, found.parting.feature) == ("parts", 0, "")
    assert "depends on the rows beside it" in found.parting.note


def test_one_row_too_few_only_when_asked_together():
    found = compare(lambda df: price(df[:-1] if len(df) > 1 else df))
    assert found.status == "refuses"
    assert found.error.startswith("with other rows: gives ")
    assert "beside it" in found.parting.note


@pytest.mark.parametrize(("answer", "error"), [
    (lambda df: price(df)["prediction"], "answers with Series, not with a frame"),
    (lambda df: None, "answers with NoneType, not with a frame"),
    (lambda df: price(df).rename(columns={"prediction": "price"}), "the answer has no column 'prediction'")])
def test_what_is_no_answer_is_a_refusal(answer, error):
    found = compare(answer)
    assert (found.status, found.error) == ("refuses", error)


@pytest.mark.parametrize("value", ["cheap", pd.NA, None, [1, 2]])
def test_what_is_no_number_parts(value):
    found = compare(lambda df: pd.DataFrame({"prediction": [value] * len(df)}))
    assert found.status == "parts"
    assert math.isinf(found.difference)
    flipped = compare(lambda df: decide(df).assign(prediction=[value] * len(df)), decide, "binary")
    assert flipped.flips == flipped.rows


def test_answers_are_compared_by_place_and_frames_are_not_shared():
    assert compare(lambda df: price(df).reset_index(drop=True)).status == "agree"

    def spoil(df):
        answers = price(df)
        df["whole"] = 0.0
        return answers

    assert compare(spoil, spoil).status == "agree"


def test_an_answer_at_random_is_told_without_a_feature():
    rng = np.random.default_rng(0)
    found = compare(lambda df: price(df) + rng.normal(size=(len(df), 1)))
    assert found.status == "parts"


def test_infinities_are_equal_and_more_classes_are_compared_column_by_column():
    def sort(df):
        return pd.DataFrame({"prediction": "a", "probability_a": np.inf, "probability_b": 0.25}, index=df.index)

    same = compare(sort, sort, "multiclass")
    assert (same.status, same.difference) == ("agree", 0)
    found = compare(lambda df: sort(df).assign(probability_b=0.5), sort, "multiclass")
    assert (found.difference, found.relative, found.flips) == (0.25, 0.5, 0)
    assert found.parting.got == "says 'a', probability_b 0.5"


def test_an_unsure_feature_is_not_blamed_on_an_extreme_one():
    """On extreme rows a classifier is sure of its answer, so that every mistake goes unseen there."""
    frame = pd.DataFrame(RNG.normal(size=(200, 4)), columns=list("abcd"))
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(frame, frame.sum(axis=1) > 0)
    found = compare(lambda df: predict_rows(model, df.assign(d=df["d"] * 1.01), "binary"),
                    lambda df: predict_rows(model, df, "binary"), "binary", make_golden_rows(frame, 0))
    assert (found.parting.case, found.parting.feature) == ("real", "d")


def test_what_the_gate_is_told():
    rules = parse_rules([{"measure": "parity_difference", "at_most": 1e-6}, {"measure": "parity_flips", "at_most": 0}],
                        "regression")

    def judge(**others):
        measured = measure_parity(compare_implementations(price, others, GOLDEN, "regression"))
        return [judge_measured(rule, measured[rule.measure]).status for rule in rules]

    assert judge(same=price) == ["pass", "pass"]
    assert judge(same=price, more=lambda df: price(df) + 1) == ["fail", "pass"]
    assert judge(gone=lambda df: 1 / 0) == ["inconclusive", "fail"]
    assert judge(filled=lambda df: price(fill(df))) == ["inconclusive", "fail"]
    assert judge() == ["inconclusive", "inconclusive"]


def make_case(problem):
    if problem is houses:
        rows = houses.simulate_houses(800, 1)
        model = houses.build_model(houses.HousesTrain(max_iter=20))
    else:
        rng = np.random.default_rng(0)
        rows = pd.DataFrame(rng.uniform(1, 7, (90, 4)).round(1), columns=list(iris.FEATURES))
        rows = rows.assign(species=np.resize(iris.SPECIES, 90))
        model = iris.build_model(iris.IrisTrain())
    features, target = list(problem.PROBLEM.features), problem.PROBLEM.target
    return model.fit(rows[features], rows[target]), rows[features], problem.PROBLEM.task


@pytest.mark.slow
@pytest.mark.parametrize("problem", [iris, houses])
def test_models_agree_with_their_file_and_row_by_row(problem):
    from cd4ml.production.wire import ask_by_json

    model, rows, task = make_case(problem)
    report = compare_implementations(lambda df: predict_rows(model, df, task), {
        "model file": read_back(model, task), "row by row": ask_by_row(model, task),
        "REST": ask_by_json(model, rows, task)}, make_golden_rows(rows, 1, n=6), task)
    assert report.agrees, report
    assert [one.name for one in report.implementations if one.stricter] == ["REST"]


def test_each_implementation_is_held_to_its_own_tolerance():
    def near(df):
        return price(df) + 1e-7

    report = compare_implementations(price, {"near": near, "loose": near}, GOLDEN, "regression", {"loose": 1e-6})
    assert [one.status for one in report.implementations] == ["parts", "agree"]
    assert [one.tolerance for one in report.implementations] == [1e-9, 1e-6]
    draw_parity(report)


def test_a_sample_of_real_rows_is_joined_with_the_golden_ones():
    sample = sample_rows(X, seed=2, n=40)
    assert len(sample_rows(X, seed=2)) == 60
    with pytest.raises(DataError):
        sample_rows(X[:0], seed=2)
    ways = {"sampled only": lambda df: price(df) + 1.0 * (len(df) == 40), "same": price}
    golden = compare_implementations(price, ways | {"slow": price}, GOLDEN, "regression")
    real = compare_implementations(price, ways, sample, "regression")
    joined = join_reports(golden, real)
    assert (joined.rows, joined.sampled) == (len(GOLDEN), 40)
    assert [one.status for one in joined.implementations] == ["parts", "agree", "agree"]
    assert joined.implementations[0].difference == pytest.approx(1.0)
    assert (joined.implementations[0].parting.row, joined.implementations[0].parting.case) == (0, "sampled")
    assert joined.implementations[1].rows == golden.implementations[1].rows + 40
    assert "40 real ones" in joined._repr_html_()
    assert measure_parity(joined)["parity_flips"].intervals["same"].n == len(GOLDEN) + 40


def test_a_report_of_old_is_still_read():
    old = compare_implementations(price, {"other": price}, GOLDEN, "regression").to_dict()
    for one in old["implementations"]:
        del one["tolerance"]
    del old["sampled"]
    found = ParityReport.from_dict(old | {"format": 1, "tolerance": 1e-7})
    assert (found.implementations[0].tolerance, found.sampled, found.rows) == (1e-7, 0, len(GOLDEN))


def test_a_model_that_cannot_be_kept_is_an_error():
    with pytest.raises(ReleaseError):
        read_back(lambda df: df, "regression")
