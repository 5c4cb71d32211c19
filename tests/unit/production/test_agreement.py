"""Rows from the holdout or from the profile, implementations that are not there, and those that part."""

import contextlib
import importlib.util
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from cd4ml.base.errors import ReleaseError, SettingsError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.settings import load_settings
from cd4ml.base.store import Store
from cd4ml.data.profile import profile_frame
from cd4ml.data.snapshot import write_snapshot
from cd4ml.delivery.export import export_model
from cd4ml.delivery.golden import make_golden_rows
from cd4ml.delivery.manifest import Release
from cd4ml.model.training import dump_model, predict_rows
from cd4ml.production import agreement
from cd4ml.production.agreement import (
    NotThere,
    draw_rows,
    open_batch,
    open_module,
    open_portable,
    open_rest,
    open_spark,
    open_stream,
    open_trial,
    try_release,
)

RNG = np.random.default_rng(3)
ROWS = pd.DataFrame({"hour": RNG.integers(5, 23, 300), "temp": RNG.normal(60, 10, 300).round(1),
                     "is_hub": RNG.random(300) < 0.5, "carrier": pd.Series(RNG.choice(["AA", "B6", None], 300),
                                                                         dtype="str")})
ROWS["temp"] = ROWS["temp"].where(ROWS["hour"] != 7)
ENCODE = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
MODEL = make_pipeline(make_column_transformer((ENCODE, ["carrier"]), remainder="passthrough"),
                      HistGradientBoostingClassifier(max_iter=10, random_state=0)).fit(
    ROWS, ROWS["temp"].fillna(70) + ROWS["hour"] > 75)
WHOLE = {"model/model.skops": dump_model(MODEL), "model/model.onnx": export_model(MODEL, ROWS, "binary"),
         "profile.json": json.dumps(profile_frame(ROWS).to_dict()).encode()}


def keep(folder, files=WHOLE, data=None):
    """Write a release of the model, and return settings that find it."""
    store = Store(str(folder))
    kinds = tuple((name, str(kind)) for name, kind in ROWS.dtypes.items())
    release = Release("toy", 1, "2026-01-02T03:04:05+00:00", "binary", "late", kinds, (False, True),
                      {"decision": {"status": "pass"}, "metrics": {}, "params": {"evaluate": {"seed": 5}}}, data or {},
                      None, {path: hash_bytes(content) for path, content in files.items()})
    for path, content in files.items():
        store.write(f"{release.folder}/{path}", content)
    store.write(f"{release.folder}/manifest.json", release.to_json())
    return load_settings(environ={"CD4ML_RELEASE_STORE": str(folder), "CD4ML_DATA_STORE": str(folder)})


def test_rows_come_from_the_holdout_and_are_the_golden_rows_of_the_evaluation(tmp_path):
    store = Store(str(tmp_path))
    data = {"holdout": write_snapshot(ROWS.assign(late=True), store).sha256,
            "predictions": write_snapshot(predict_rows(MODEL, ROWS, "binary"), store).sha256}
    trial = open_trial(keep(tmp_path, data=data), "toy", 1)
    assert trial.source == "its holdout"
    pd.testing.assert_frame_equal(make_golden_rows(trial.X, trial.seed).rows, make_golden_rows(ROWS, 5).rows)
    found = try_release(trial, 100, {"module": open_module, "ONNX": open_portable})
    assert [(one.name, one.status) for one in found.parity.implementations] == [
        ("module", "agree"), ("ONNX", "agree"), ("notebook", "agree")]
    assert found.absent == {}
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["agrees"]


def test_what_the_notebook_said_is_held_against_the_model(tmp_path):
    store, said = Store(str(tmp_path)), predict_rows(MODEL, ROWS, "binary")
    data = {"holdout": write_snapshot(ROWS, store).sha256,
            "predictions": write_snapshot(said.assign(probability=said["probability"] + 1e-8), store).sha256}
    found = try_release(open_trial(keep(tmp_path, data=data), "toy", 1), 100, {})
    assert [(one.name, one.status) for one in found.parity.implementations] == [("notebook", "parts")]
    assert not found.agrees


def test_without_a_holdout_the_rows_are_drawn_from_the_profile(tmp_path):
    trial = open_trial(keep(tmp_path, data={"holdout": "0" * 64}), "toy", 1)
    assert "profile" in trial.source
    assert trial.X.dtypes.equals(ROWS.dtypes)
    assert set(trial.X["carrier"].dropna()) == {"AA", "B6"}
    assert trial.X["hour"].between(5, 22).all()
    assert abs(trial.X["temp"].isna().mean() - ROWS["temp"].isna().mean()) < 0.05
    assert open_trial(keep(tmp_path), "toy", 1).X.equals(trial.X), "the same rows whenever they are asked"
    assert list(try_release(trial, 50, {"ONNX": open_portable}).absent) == ["notebook"]


def test_columns_of_every_kind_are_drawn():
    rows = pd.DataFrame({"none": [np.nan] * 20, "same": [3] * 20, "maybe": pd.array([1, None] * 10, "Int64"),
                         "kind": pd.Categorical(["a", "b"] * 10), "flag": [True, False] * 10,
                         "objects": pd.Series(["x", None] * 10, dtype=object)})
    kinds = {name: str(kind) for name, kind in rows.dtypes.items()}
    drawn = draw_rows(profile_frame(rows), kinds, seed=1, n=50)
    assert {name: str(kind) for name, kind in drawn.dtypes.items()} == kinds
    assert drawn["none"].isna().all()
    assert set(drawn["same"]) == {3}


def test_an_implementation_that_is_not_there_is_told_and_nothing_has_parted(tmp_path):
    without = {path: data for path, data in WHOLE.items() if path != "model/model.onnx"}
    reason = json.dumps({"format": 1, "exists": False, "reason": "it is a spline"}).encode()
    for files, words in ((without, "made before"), (without | {"model/onnx.json": reason}, "it is a spline")):
        found = try_release(open_trial(keep(tmp_path / words, files), "toy", 1), 20, {"ONNX": open_portable})
        assert words in found.absent["ONNX"]
        assert found.agrees
        assert words in found._repr_html_()


def test_a_broken_implementation_is_caught_and_the_feature_named(tmp_path):
    @contextlib.contextmanager
    def open_broken(trial):
        yield lambda df: predict_rows(MODEL, df.assign(temp=df["temp"].astype(float) * 1.5), "binary")

    found = try_release(open_trial(keep(tmp_path), "toy", 1), 50, {"ONNX": open_portable, "broken": open_broken})
    agrees, broken = found.parity.implementations
    assert (agrees.status, broken.status, broken.parting.feature) == ("agree", "parts", "temp")


def test_a_server_that_does_not_start_says_why(tmp_path):
    trial = open_trial(keep(tmp_path), "toy", 1)  # there is no such problem in the workbench
    with pytest.raises(SettingsError, match=r"does not start.*toy"), open_rest(trial):
        pass


def test_damaged_releases_and_those_that_are_not_there_are_refused(tmp_path):
    settings = keep(tmp_path)
    with pytest.raises(ReleaseError, match="serves"):
        open_trial(settings, "toy")
    Store(str(tmp_path)).write("toy/1/model/model.onnx", b"another")
    with pytest.raises(ReleaseError, match=r"model\.onnx"):
        open_trial(settings, "toy", 1)


def test_what_is_added_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "IMPLEMENTATIONS", {"added": open_portable})
    monkeypatch.setattr(agreement, "SLOW", {})
    found = try_release(open_trial(keep(tmp_path), "toy", 1), 20)
    assert [(one.name, one.tolerance) for one in found.parity.implementations] == [("added", 1e-6)]


def test_tables_and_messages_take_their_own_way_to_the_same_answers(tmp_path):
    openers = {"batch": open_batch, "stream": open_stream}
    found = try_release(open_trial(keep(tmp_path), "toy", 1), 50, openers).parity.implementations
    assert [(one.name, one.status) for one in found] == [("batch", "agree"), ("stream", "agree")]
    assert all(one.rows > 50 for one in found)


def test_without_spark_there_is_nothing_to_compare_and_what_failed_once_is_not_asked_again(tmp_path, monkeypatch):
    trial, asked = open_trial(keep(tmp_path), "toy", 1), []

    def fail(df):
        asked.append(len(df))
        raise ValueError("no Java")

    monkeypatch.setattr(agreement, "ask_by_spark", lambda *_: fail)
    found, = try_release(trial, 30, {"Spark": open_spark}).parity.implementations
    assert (found.status, len(asked)) == ("refuses", 1)
    assert "no Java" in found.error
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotThere, match="not installed"), open_spark(trial):
        pass
