import sys

import numpy as np
import pyarrow as pa
import pytest

import cd4ml
from cd4ml.base.errors import Cd4mlError
from cd4ml.production.scorer import Scorer
from cd4ml.production.spark import MISFIT, ROW, Shipment, _take_chunk, open_spark, quote_name


def test_a_worker_finds_numbers_names_and_lines_that_are_no_rows() -> None:
    rows = pa.table({"c0": ["1", None, "3"], MISFIT: [None, 'a,"b,c",d', None], ROW: [7, 8, 9]})
    chunk = _take_chunk(rows, Shipment(Scorer(None, (), "binary", keep=("n.1",)), "", "", 2, b""))
    assert chunk.rows.to_pydict() == {"n.1": ["1", "3"]}
    np.testing.assert_array_equal(chunk.numbers, [7, 9])
    assert chunk.misfits == ((8, "must have 2 fields: 3", 'a,"b,c",d'),)


def test_any_name_of_a_column_can_be_said() -> None:
    assert quote_name("a.b`c") == "`a.b``c`"


def test_spark_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyspark.sql", None)
    with pytest.raises(Cd4mlError, match=r"cd4ml\[spark\]"):
        with open_spark():
            pass


def test_pandera_is_kept_from_loading_a_part_of_spark_that_cannot_be_loaded() -> None:
    assert cd4ml.__version__
    assert sys.modules["pyspark.pandas"] is None
