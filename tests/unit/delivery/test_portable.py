"""What answers from an ONNX file: it needs no scikit-learn, and refuses what is no file of ours or no row for it."""

import json
import subprocess
import sys
import threading

import numpy as np
import onnx
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from cd4ml.base.errors import DataError, ReleaseError
from cd4ml.delivery.export import export_model
from cd4ml.delivery.portable import (
    MISSING,
    STRANGE,
    Signature,
    load_portable,
    pack_rows,
    tell_scores,
    write_text,
)

X = pd.DataFrame({"a": np.linspace(-1, 1, 50), "b": np.linspace(5, 2, 50) ** 2})
MODEL = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, X["a"] > 0.2)
DATA = export_model(MODEL, X, "binary")


def test_answering_imports_neither_pandas_nor_scikit_learn(tmp_path):
    (tmp_path / "model.onnx").write_bytes(DATA)
    code = ("import sys, pathlib; from cd4ml.delivery.portable import load_portable\n"
            f"model = load_portable(pathlib.Path({str(tmp_path / 'model.onnx')!r}).read_bytes())\n"
            "model.answer_rows([{'a': 1.0, 'b': 2.0}])\n"
            "print(*sorted({name.split('.')[0] for name in sys.modules}))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"sklearn", "skl2onnx", "onnx", "pandas", "scipy", "skops", "matplotlib"}
    assert "onnxruntime" in done.stdout


def test_what_is_missing_is_refused_where_the_original_refuses_it():
    portable = load_portable(DATA)
    for row in ({"a": None, "b": 1.0}, {"a": 1.0, "b": None}):
        with pytest.raises(ValueError, match="missing"):
            portable.answer_rows([{"a": 1.0, "b": 1.0}, row])
    with pytest.raises(ValueError, match="missing"):
        portable.predict(pd.DataFrame({"a": [np.nan], "b": [1.0]}))


def test_frames_are_refused_for_what_they_lack_or_hold():
    portable = load_portable(DATA)
    with pytest.raises(DataError, match="b"):
        portable.predict(X[["a"]])
    with pytest.raises(DataError, match="texts for texts"):
        portable.predict(X.astype(str))
    with pytest.raises(DataError, match="infinite"):
        portable.predict(X.assign(a=np.inf))
    assert len(portable.predict(X.assign(extra=1).astype({"a": object}))) == 50


@pytest.mark.parametrize("data", [b"", b"no model", DATA[:-40], DATA[: len(DATA) // 2]])
def test_what_is_no_file_of_ours_is_refused(data):
    with pytest.raises(ReleaseError, match=r"ONNX file|portable model"):
        load_portable(data)


def test_other_files_are_refused():
    model = onnx.load_from_string(DATA)
    del model.metadata_props[:]
    with pytest.raises(ReleaseError, match="not a portable model"):
        load_portable(model.SerializeToString())
    onnx.helper.set_model_props(model, {"cd4ml": json.dumps({"format": 2})})
    with pytest.raises(ReleaseError, match="format 2"):
        load_portable(model.SerializeToString())


def test_a_text_that_spells_the_sign_for_missing_is_not_missing():
    assert write_text(MISSING, "str") == STRANGE
    assert write_text(None, "str") == MISSING
    assert write_text("hill", "str") == "hill"


def test_many_rows_are_answered_in_parts_as_if_they_were_few(monkeypatch):
    rows = pd.DataFrame({"size": np.arange(50.0), "place": ["hill", "lake"] * 25})
    columns = ColumnTransformer([("place", OneHotEncoder(), ["place"])], remainder="passthrough")
    model = make_pipeline(columns, LogisticRegression()).fit(rows, np.arange(50) > 20)
    portable = load_portable(export_model(model, rows, "binary"))
    whole = portable.predict(rows)
    monkeypatch.setattr("cd4ml.delivery.portable.MOST_AT_ONCE", 7)
    pd.testing.assert_frame_equal(portable.predict(rows), whole)
    answers = portable.answer_rows(rows.to_dict("records"))
    assert [one["probability"] for one in answers] == whole["probability"].tolist()


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_no_rows_get_no_answers(task):
    assert tell_scores([], Signature(task, ("a", "b"), "object", (("x", "float64"),))) == []


def test_threads_may_share_a_model():
    portable, rows = load_portable(DATA), X.to_dict("records")
    expected, found = portable.answer_rows(rows), []

    def ask():
        found.extend(portable.answer_rows(rows) == expected for _ in range(50))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 200


class Picky(dict):
    """A row whose class knows a way of its own to its values, in its own order."""

    names = ("c", "a", "b", "t", "none of the model's")

    @staticmethod
    def list_values(rows):
        return [tuple(row.get(name) for name in Picky.names) for row in rows]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("count", [1, 3, 150])
def test_rows_with_a_way_of_their_own_are_packed_as_those_asked_by_name(dtype, count):
    signature = Signature("regression", (), "float64", (("a", dtype), ("t", "str"), ("b", "float64"), ("c", "int64")))
    rows = [{"a": 0.1 * i, "t": None if i % 2 else f"t{i}", "b": None if i % 3 else 1.5, "c": i} for i in range(count)]
    expected = pack_rows(rows, signature)
    for given in ([Picky(row) for row in rows], [Picky(rows[0]), *rows[1:]]):
        found = pack_rows(given, signature)
        np.testing.assert_array_equal(found["numbers"], expected["numbers"])
        assert found["texts"].tolist() == expected["texts"].tolist()
    assert expected["numbers"].shape == (count, 3)
    assert expected["texts"][0, 0] == "t0"
