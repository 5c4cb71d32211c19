"""Which of its two forms a release is served in, and that both answer the same."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from cd4ml.base.errors import ReleaseError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.store import Store
from cd4ml.delivery.export import export_model
from cd4ml.delivery.manifest import Release
from cd4ml.model.training import dump_model
from cd4ml.production.champion import PORTABLE, load_champion
from cd4ml.production.rounds import answer_rows
from cd4ml.production.wire import write_request

RNG = np.random.default_rng(9)
X = pd.DataFrame({"hour": RNG.integers(0, 24, 300), "temp": RNG.normal(50, 20, 300),
                  "carrier": RNG.choice(["AA", "UA", "B6"], 300)})
X.loc[::7, ["temp", "carrier"]] = None
ENCODER = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
MODEL = make_pipeline(make_column_transformer((ENCODER, ["carrier"]), remainder="passthrough"),
                      HistGradientBoostingClassifier(max_iter=8)).fit(X, X["hour"] > 11)


def write_release(folder: Path, **files: bytes) -> Store:
    store, bundle = Store(str(folder)), {f"model/model.{kind}": data for kind, data in files.items()}
    dtypes = tuple((name, str(kind)) for name, kind in X.dtypes.items())
    release = Release("toy", 1, "", "binary", "y", dtypes, (False, True), {"decision": {}, "metrics": {}}, {}, None,
                      {path: hash_bytes(data) for path, data in bundle.items()})
    for path, data in {**bundle, "manifest.json": release.to_json()}.items():
        store.write(f"toy/1/{path}", data)
    return store


def test_the_portable_form_serves_where_there_is_one_and_answers_the_same(tmp_path: Path) -> None:
    original = load_champion(write_release(tmp_path / "a", skops=dump_model(MODEL)), "toy", 1)
    portable = load_champion(write_release(tmp_path / "b", skops=dump_model(MODEL),
                                           onnx=export_model(MODEL, X, "binary")), "toy", 1)
    assert (original.is_quick, portable.is_quick) == (False, True)
    assert PORTABLE in portable.release.files
    rows = portable.decoder.read_asked(write_request(X), 1000).rows
    ours, theirs = (answer_rows(one.model, one.features, "binary", rows) for one in (portable, original))
    assert [one["prediction"] for one in ours] == [one["prediction"] for one in theirs]
    assert np.allclose([one["probability"] for one in ours], [one["probability"] for one in theirs], rtol=0, atol=1e-6)
    assert json.dumps(ours[0])


def test_a_portable_form_with_other_features_or_none_at_all_does_not_serve(tmp_path: Path) -> None:
    fewer = make_pipeline(HistGradientBoostingClassifier(max_iter=2)).fit(X[["hour"]], X["hour"] > 11)
    store = write_release(tmp_path / "a", skops=dump_model(MODEL), onnx=export_model(fewer, X[["hour"]], "binary"))
    with pytest.raises(ReleaseError, match="other features"):
        load_champion(store, "toy", 1)
    store = write_release(tmp_path / "b", skops=dump_model(MODEL), onnx=b"no model")
    with pytest.raises(ReleaseError):
        load_champion(store, "toy", 1)
