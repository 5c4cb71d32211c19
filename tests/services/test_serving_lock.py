"""The lock of a bundle is enough to serve it, and names all that a serving process imports."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from server_process import ROOT, promote, serve, write_release
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from cd4ml.base.store import Store
from cd4ml.data.profile import profile_frame
from cd4ml.delivery.release import write_serving_lock
from cd4ml.model.training import predict_rows

pytestmark = [pytest.mark.slow, pytest.mark.services]
# What is imported only because it is there: an optional part of uvicorn, and what .pth files of this environment start.
BY_THE_WAY = {"watchfiles", "setuptools", "coverage", "cd4ml"}
SERVER = """
import sys
from importlib import metadata
from cd4ml.cli.main import main
try:
    main(sys.argv[1:])
finally:
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    for one in metadata.distributions():
        place = str(one.locate_file(""))
        if any(f"{place}/{line.partition(',')[0]}" in files for line in (one.read_text("RECORD") or "").splitlines()):
            print(one.name)
"""


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return pd.DataFrame({"hour": rng.integers(5, 23, 400), "temp": rng.normal(60, 10, 400),
                         "carrier": rng.choice(["AA", "B6", "UA"], 400)})


@pytest.fixture(scope="module")
def model(rows: pd.DataFrame) -> object:
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    columns = make_column_transformer((encode, ["carrier"]), remainder="passthrough")
    return make_pipeline(columns, HistGradientBoostingClassifier(max_iter=5)).fit(rows, rows["hour"] > 12)


def keep_release(folder: Path, model: object, rows: pd.DataFrame, is_portable: bool) -> Store:
    more = {"reports/evaluate.html": b"<!doctype html><title>report</title>",
            "profile.json": json.dumps(profile_frame(rows).to_dict()).encode()}
    store = Store(str(folder / "releases"))
    write_release(store, model, rows, is_portable=is_portable, more=more)
    promote(store)
    return store


def ask(address: str, data: bytes | None = None, kind: str = "application/json") -> bytes:
    with urllib.request.urlopen(urllib.request.Request(address, data, {"Content-Type": kind}), timeout=30) as reply:
        return reply.read()


def ask_everything(address: str, rows: pd.DataFrame) -> list[float]:
    """Return the probabilities of `rows`, after every kind of answer and page was asked for."""
    for path in ("/health/ready", "/", "/docs", "/openapi.json", "/model", "/models", "/metrics", "/reports/1"):
        assert ask(address + path), path
    told = json.loads(ask(f"{address}/predict", json.dumps({"rows": rows.to_dict("records")}).encode()))
    assert json.loads(ask(f"{address}/invocations", rows.to_csv(index=False).encode(), "text/csv"))["release"] == 1
    first = told["predictions"][0]["prediction_id"]
    outcome = json.dumps({"prediction_id": first, "outcome": True}).encode()
    assert json.loads(ask(f"{address}/feedback", outcome))["kept"] == 1
    return [one["probability"] for one in told["predictions"]]


def test_the_lock_names_all_that_a_serving_process_imports(tmp_path: Path, model: object, rows: pd.DataFrame) -> None:
    store = keep_release(tmp_path, model, rows, is_portable=True)
    with serve(store, start=(sys.executable, "-c", SERVER)) as (process, address):
        ask_everything(address, rows.head(50))
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=30)[0].split()
    lock = write_serving_lock(ROOT / "requirements.lock", is_portable=True).decode()
    named = {line.partition("==")[0] for line in lock.split()}
    imported = {re.sub(r"[-_.]+", "-", name).lower() for name in said}
    assert {"uvicorn", "fastapi", "msgspec", "onnxruntime"} <= imported
    assert imported - named - BY_THE_WAY == set()


@pytest.mark.parametrize("is_portable", [True, False])
def test_with_its_lock_alone_a_release_is_served(
        tmp_path: Path, model: object, rows: pd.DataFrame, is_portable: bool) -> None:
    """In an environment that has nothing else; cd4ml itself comes from here."""
    store = keep_release(tmp_path, model, rows, is_portable)
    lock = tmp_path / "serving.lock"
    lock.write_bytes(write_serving_lock(ROOT / "requirements.lock", is_portable))
    uv, python = [sys.executable, "-m", "uv", "--quiet"], tmp_path / "venv" / "bin" / "python"
    for words in (["venv", "--python", sys.executable, str(tmp_path / "venv")],
                  ["pip", "install", "--python", str(python), "--no-deps", "--only-binary", ":all:", "-r", str(lock)],
                  ["pip", "check", "--python", str(python)]):  # nothing that a package of it needs is missing
        subprocess.run([*uv, *words], check=True, timeout=300)
    with serve(store, start=(str(python), "-c", SERVER), PYTHONPATH=str(ROOT)) as (_, address):
        told = ask_everything(address, rows.head(50))
    assert told == pytest.approx(predict_rows(model, rows.head(50), "binary")["probability"].tolist(), abs=1e-12)
