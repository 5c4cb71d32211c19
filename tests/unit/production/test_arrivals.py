from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LinearRegression

from cd4ml.base.errors import DataError
from cd4ml.production.arrivals import Arrivals, answer_arrivals, answer_file
from cd4ml.production.requests import list_features
from cd4ml.production.scorer import Scorer, describe_answers

FEATURES = list_features([("n", "float64"), ("temp", "float64")], "The model")
X = pd.DataFrame({"n": [1.0, 2.0, float("inf")], "temp": [3.0, 5.0, 8.0]})
SCORER = Scorer(LinearRegression().fit(X[:2], [1.0, 2.0]), FEATURES, "regression", 3)


def answer(path: Path) -> list[dict]:
    tables = answer_file(path, SCORER, describe_answers(SCORER, pa.schema([])))
    return [row for table in tables for row in table.to_pylist()]


def test_rows_of_a_file_are_answered_or_set_aside(tmp_path: Path) -> None:
    X.to_parquet(tmp_path / "a.parquet")
    told = {row["row"]: (row["prediction"], row["reason"]) for row in answer(tmp_path / "a.parquet")}
    assert told[0] == (pytest.approx(1.0), None)
    assert told[1] == (pytest.approx(2.0), None)
    assert told[2] == (None, "n must be a finite number or null: inf")


def test_a_file_of_other_columns_is_set_aside_as_a_whole_and_not_answered_with_missing_values(tmp_path: Path) -> None:
    X[["n"]].to_parquet(tmp_path / "lacks.parquet")
    X.assign(temp="mild").to_parquet(tmp_path / "texts.parquet")
    (tmp_path / "nonsense.parquet").write_bytes(b"no parquet!")
    for name, reason in (("lacks", "'temp' is missing"), ("texts", "'temp' is"), ("nonsense", "cannot be read")):
        (told,) = answer(tmp_path / f"{name}.parquet")
        assert (told["row"], told["prediction"]) == (None, None)
        assert reason in told["reason"]


def test_a_file_that_breaks_off_is_not_half_answered(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.Table.from_pandas(pd.concat([X] * 60_000, ignore_index=True))
    pq.write_table(table, path, row_group_size=60_000, compression="zstd", use_dictionary=False)
    last = pq.read_metadata(path).row_group(2).column(0)
    with open(path, "r+b") as file:
        file.seek(last.data_page_offset)
        file.write(b"\xff" * last.total_compressed_size)
    (told,) = answer(path)
    assert told["row"] is None
    assert "cannot be read" in told["reason"]


def test_what_cannot_be_begun_is_told_before_spark_is_started(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        answer_arrivals(SCORER, Arrivals(tmp_path / "in", tmp_path / "out"), "no-such-master")
    with pytest.raises(DataError, match="to keep"):
        answer_arrivals(Scorer(None, FEATURES, "binary", keep=("n",)), Arrivals(tmp_path, tmp_path / "out"), "no-such")
    assert not (tmp_path / "out").exists()
