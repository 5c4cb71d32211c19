"""The same table answered by this process and by a real, local Spark."""

from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from cd4ml.base.errors import Cd4mlError
from cd4ml.model.training import predict_rows
from cd4ml.production.batch import BatchJob, score_table
from cd4ml.production.requests import list_features
from cd4ml.production.scorer import Scorer
from cd4ml.production.spark import ask_by_spark, open_spark, score_on_spark

pytestmark = [pytest.mark.slow, pytest.mark.services]


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame({"hour": rng.integers(5, 23, 1000), "temp": rng.normal(60, 10, 1000),
                         "carrier": rng.choice(["AA", "B6", None], 1000)})


@pytest.fixture(scope="module")
def scorer(rows: pd.DataFrame) -> Scorer:
    encode = OrdinalEncoder(encoded_missing_value=-1)  # a carrier that it does not know is refused
    columns = make_column_transformer((encode, ["carrier"]), remainder="passthrough")
    model = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=5)).fit(rows, rows["hour"] > 15)
    contract = pa.DataFrameSchema({"temp": pa.Column(float, pa.Check.in_range(-60, 130), nullable=True)})
    features = list_features([(name, str(kind)) for name, kind in rows.dtypes.items()], "The model")
    return Scorer(model, features, "binary", 7, contract, ("flight no.", "day"))


def write_tables(folder: Path, rows: pd.DataFrame) -> None:
    asked = rows.assign(**{"flight no.": [f"A{i}" for i in range(1000)], "day": pd.Timestamp("2013-07-01 12:00")})
    asked.loc[[3, 999], "temp"] = [900.0, np.inf]
    asked.loc[500, "carrier"] = "ZZ"
    asked.to_parquet(folder / "in.parquet", row_group_size=300)
    asked.to_csv(folder / "in.csv", index=False)
    lines = (folder / "in.csv").read_text().splitlines()
    lines[11], lines[21] = "1,2", '7,,"",,'
    lines[20] = '12,late,AA,"a ""quoted"", name\nof two lines",2013-07-01'
    (folder / "in.csv").write_text("\n".join([*lines, "", "1,2,3,4,5,6"]) + "\n")


def test_answers_and_what_is_set_aside_are_the_same(
        tmp_path: Path, find_tool, rows: pd.DataFrame, scorer: Scorer) -> None:
    find_tool("java")
    write_tables(tmp_path, rows)
    for source in ("in.parquet", "in.csv"):
        here, there = (BatchJob(tmp_path / source, tmp_path / f"{name}.parquet", 100) for name in ("here", "there"))
        ours, theirs = score_table(scorer, here), score_on_spark(scorer, there)
        assert (ours.answered, ours.set_aside) == (theirs.answered, theirs.set_aside)
        assert ours.set_aside == {"in.parquet": 3, "in.csv": 6}[source]
        pd.testing.assert_frame_equal(pd.read_parquet(here.target), pd.read_parquet(there.target), check_exact=True)
        assert here.aside.read_text() == there.aside.read_text()
        assert not list(tmp_path.glob(".*"))


def test_a_frame_is_answered_as_in_the_notebook(find_tool, rows: pd.DataFrame, scorer: Scorer) -> None:
    find_tool("java")
    ask = ask_by_spark(scorer.model, rows, "binary")
    pd.testing.assert_frame_equal(ask(rows), predict_rows(scorer.model, rows, "binary"), check_exact=True)


def test_what_keeps_spark_from_working_is_said(find_tool) -> None:
    find_tool("java")
    with pytest.raises(Cd4mlError, match="Spark does not start"):
        with open_spark("no-such-master"):
            pass
    with pytest.raises(Cd4mlError, match="Spark failed"):
        with open_spark() as spark:
            spark.read.parquet("nowhere.parquet")
