"""What is personal is in no file of the log, whichever way a row came; without the key nobody serves."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from cd4ml.base.errors import SettingsError
from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.settings import Settings, load_settings
from cd4ml.base.store import Store
from cd4ml.data.profile import profile_frame
from cd4ml.delivery.history import Event, add_event
from cd4ml.delivery.manifest import Release
from cd4ml.model.training import dump_model
from cd4ml.production.champion import load_champion
from cd4ml.production.personal import KEY
from cd4ml.production.predictions import read_predictions
from cd4ml.production.service import ServeOptions
from cd4ml.production.serving import make_app
from cd4ml.production.stream import StreamService

ROOT = Path(__file__).parents[3]
ROWS = [{"x": 1.0, "name": "Ada-Lovelace-1815", "phone": "555-0199-77"},
        {"x": 2.0, "name": None, "phone": "555-0199-77"},
        {"x": 3.0, "name": "Ada-Lovelace-1815", "phone": None}]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv(KEY, "k" * 40)
    store, rows = Store(str(tmp_path / "releases")), pd.DataFrame(
        {"x": [1.0, 2.0, 3.0], "name": ["Hopper-1906", "Noether-1882", "b"], "phone": ["555-0100", "555-0101", "3"]})
    codes = OneHotEncoder(handle_unknown="ignore")
    encode = make_column_transformer((codes, ["name", "phone"]), remainder="passthrough")
    files = {"model/model.skops": dump_model(make_pipeline(encode, LinearRegression()).fit(rows, [2.0, 4.0, 6.0])),
             "profile.json": json.dumps(profile_frame(rows).to_dict()).encode(),
             "personal.json": json.dumps({"format": 1, "columns": {"name": "mask", "phone": "drop"}}).encode()}
    release = Release("toy", 1, "", "regression", "y", (("x", "float64"), ("name", "str"), ("phone", "str")), (),
                      {"decision": {"status": "pass"}, "metrics": {}}, {}, None,
                      {path: hash_bytes(data) for path, data in files.items()})
    for path, data in (files | {"manifest.json": release.to_json()}).items():
        store.write(f"toy/1/{path}", data)
    add_event(store, "toy", lambda number, _: Event(number, "promote", 1, None, "", "ada", "", "ci"))
    return replace(load_settings(ROOT), release_store=store.url, prediction_log=str(tmp_path / "log"))


def read_files(settings: Settings) -> bytes:
    place = Path(settings.prediction_log).parent
    return b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file() and "releases" not in path.parts)


def test_the_values_are_nowhere_in_the_files_of_the_log(settings: Settings) -> None:
    with TestClient(make_app(settings, "toy")) as client:
        assert client.post("/predict", json={"rows": ROWS}).status_code == 200
        assert client.post("/invocations", json={"dataframe_records": ROWS}).status_code == 200
        assert b"masked:" in read_files(settings)
        assert not any(secret in read_files(settings) for secret in (b"Lovelace", b"555-0199", b"phone"))
    with StreamService(settings, "toy") as service:
        asyncio.run(service.answer_message(json.dumps({"rows": ROWS}).encode(), {}))
        assert not any(secret in read_files(settings) for secret in (b"Lovelace", b"555-0199", b"phone"))
    df = read_predictions(settings.prediction_log, "toy")
    assert len(df) == 9
    assert df["name"].nunique() == 1, "the same value has the same mask"
    assert df["name"].isna().sum() == 3
    assert "phone" not in df
    assert df["x"].tolist() == [1.0, 2.0, 3.0] * 3


def test_the_pages_that_need_no_key_show_none_of_the_values_of_the_training(settings: Settings) -> None:
    with TestClient(make_app(settings, "toy", ServeOptions(keys=("k",)))) as client:
        for path in ("/", "/docs", "/openapi.json"):
            told = client.get(path)
            assert told.status_code == 200
            assert "phone" in told.text  # it must be given
            assert not any(value in told.text for value in ("Hopper", "Noether", "555-01"))
        assert "1 to 3 in training" in client.get("/docs").text


def test_without_the_key_the_release_does_not_serve_and_says_why(
        settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY)
    with pytest.raises(SettingsError, match=KEY):
        load_champion(Store(settings.release_store), "toy", 1)
    with TestClient(make_app(settings, "toy")) as client:
        ready = client.get("/health/ready")
        assert ready.status_code == 503
        assert "columns to be masked" in ready.json()["fault"]
        assert client.post("/predict", json={"rows": ROWS}).status_code == 503
