from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from cd4ml.base.errors import DataError
from cd4ml.delivery.export import export_model
from cd4ml.delivery.portable import load_portable
from cd4ml.model.training import predict_rows
from cd4ml.production.requests import list_features
from cd4ml.production.scorer import Scorer, answer_chunk, ask_rows, check_chunk, check_table
from cd4ml.production.tables import open_table, read_chunks

X = pd.DataFrame({"carrier": ["AA", "UA", "B6", "UA"] * 25, "hour": range(100)})


def make_scorer(task: str, target: list) -> Scorer:
    model = LinearRegression() if task == "regression" else LogisticRegression()
    columns = ["hour"] if task == "regression" else ["carrier"]
    fitted = (model if task == "regression" else make_pipeline(OneHotEncoder(), model)).fit(X[columns], target)
    return Scorer(fitted, list_features([(name, str(X[name].dtype)) for name in columns], "The model"), task, 4)


@pytest.mark.parametrize("is_quick", [False, True])
@pytest.mark.parametrize("wrong", [[], [0], [99], [3, 4, 50], list(range(100))])
def test_only_the_rows_that_the_model_refuses_stay_without_an_answer(wrong: list[int], is_quick: bool) -> None:
    scorer = make_scorer("binary", [True, False] * 50)
    if is_quick:
        scorer = replace(scorer, quick=load_portable(export_model(scorer.model, X[["carrier"]], "binary")))
    df = X[["carrier"]].copy()
    df.loc[wrong, "carrier"] = "ZZ"
    answers, refused = ask_rows(scorer.predict, df)
    assert list(refused) == wrong
    pd.testing.assert_frame_equal(answers, predict_rows(scorer.model, df.drop(wrong), "binary"), rtol=1e-12)


@pytest.mark.parametrize(("task", "target"), [
    ("binary", [True, False] * 50), ("binary", [0, 1] * 50), ("multiclass", ["a", "b", "c", "d"] * 25),
    ("regression", np.arange(100.0))])
def test_answers_have_the_promised_columns_even_if_there_are_none(tmp_path: Path, task: str, target: list) -> None:
    scorer = make_scorer(task, target)
    X.to_csv(tmp_path / "in.csv", index=False)
    (tmp_path / "bad.csv").write_text("carrier,hour\nZZ,late\n")
    for name, answered in (("in.csv", 100), ("bad.csv", 0)):
        table = open_table(tmp_path / name)
        schema = check_table(scorer, table)
        (chunk,) = read_chunks(table, scorer.columns, 100)
        answers, aside = answer_chunk(scorer, *check_chunk(scorer, chunk), schema)
        assert answers.schema == schema
        assert (answers.num_rows, aside.num_rows) == (answered, chunk.rows.num_rows - answered)
        assert set(answers["release"].to_pylist()) <= {4}
    expected = predict_rows(scorer.model, X, task)
    assert [name for name in schema.names if name not in ("row", "release")] == list(expected)


def test_columns_to_keep_are_carried_over_beside_their_rows(tmp_path: Path) -> None:
    scorer = replace(make_scorer("binary", [True, False] * 50), keep=("hour", "carrier", "hour"))
    X.assign(carrier=X["carrier"].where(X["hour"] != 1, "ZZ")).to_parquet(tmp_path / "in.parquet")
    table = open_table(tmp_path / "in.parquet")
    schema = check_table(scorer, table)
    assert schema.names == ["row", "hour", "carrier", "prediction", "probability", "release"]
    (chunk,) = read_chunks(table, scorer.columns, 100)
    answers, aside = answer_chunk(scorer, *check_chunk(scorer, chunk), schema)
    assert answers["hour"].to_pylist() == answers["row"].to_pylist() == [0, *range(2, 100)]
    assert "the model refuses it: Found unknown categories" in aside["reason"][0].as_py()
    for keep in ("prediction", "release", "hours"):
        with pytest.raises(DataError):
            check_table(replace(scorer, keep=(keep,)), table)
