from pathlib import Path

import pandas as pd
import pytest

from cd4ml.base.errors import DataError
from cd4ml.production.arrivals import Arrivals, answer_arrivals, open_first
from cd4ml.production.requests import list_features
from cd4ml.production.scorer import Scorer


def test_the_first_file_says_what_the_columns_are(tmp_path: Path) -> None:
    arrivals = Arrivals(tmp_path, tmp_path / "out")
    with pytest.raises(DataError, match="No file has arrived yet"):
        open_first(arrivals)
    (tmp_path / "note.txt").write_text("no table")
    pd.DataFrame({"n": [1]}).to_parquet(tmp_path / "b.parquet")
    pd.DataFrame({"m": [1]}).to_parquet(tmp_path / "a.parquet")
    assert open_first(arrivals).schema.names == ["m"]
    assert arrivals.checkpoint.parent == arrivals.target


def test_wrong_columns_are_told_before_spark_is_started(tmp_path: Path) -> None:
    pd.DataFrame({"n": ["x"]}).to_parquet(tmp_path / "a.parquet")
    scorer = Scorer(None, list_features([("n", "int64"), ("temp", "float64")], "The model"), "binary")
    with pytest.raises(DataError, match="'temp' is missing"):
        answer_arrivals(scorer, Arrivals(tmp_path, tmp_path / "out"), "no-such-master")
    assert not (tmp_path / "out").exists()
