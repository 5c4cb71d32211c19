"""A server is held to its own OpenAPI document: each call, with right and wrong requests by the hundred."""

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from cd4ml.base.fingerprint import hash_bytes
from cd4ml.base.store import Store
from cd4ml.data.profile import profile_frame
from cd4ml.delivery.export import export_model
from cd4ml.delivery.history import Event, add_event
from cd4ml.delivery.manifest import Release
from cd4ml.model.training import dump_model
from cd4ml.production.outcomes import read_outcomes
from cd4ml.production.predictions import summarise_log

pytestmark = [pytest.mark.slow, pytest.mark.services]
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PROBLEM = "flights"  # a name that the command knows


def write_release(store: Store, task: str, is_portable: bool) -> None:
    rng = np.random.default_rng(3)
    rows = pd.DataFrame({"hour": rng.integers(5, 23, 400), "temp": rng.normal(60, 10, 400),
                         "is_hub": rng.random(400) < 0.5, "carrier": rng.choice(["AA", "B6", "UA"], 400)})
    rows["carrier"] = rows["carrier"].where(rows["hour"] != 8)
    late = rows["hour"] * 1.5 if task == "regression" else rng.random(400) < rows["hour"] / 25
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    trees = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    model = make_pipeline(make_column_transformer((encode, ["carrier"]), remainder="passthrough"), trees(max_iter=5))
    model.fit(rows, late)
    files = {"model/model.skops": dump_model(model), "reports/evaluate.html": b"<!doctype html><title>report</title>",
             "profile.json": json.dumps(profile_frame(rows).to_dict()).encode()}
    files |= {"model/model.onnx": export_model(model, rows, task)} if is_portable else {}
    run = {"decision": {"status": "pass"}, "metrics": {}, "report": "reports/evaluate.html"}
    release = Release(PROBLEM, 1, "2026-01-02T03:04:05+00:00", task, "late",
                      tuple((name, str(kind)) for name, kind in rows.dtypes.items()),
                      () if task == "regression" else tuple(value.item() for value in model.classes_), run, {}, None,
                      {path: hash_bytes(data) for path, data in files.items()})
    for path, data in {**files, "manifest.json": release.to_json()}.items():
        store.write(f"{release.folder}/{path}", data)
    add_event(store, PROBLEM, lambda number, champion: Event(number, "promote", 1, champion, "", "ada", "", "ci"))


@contextmanager
def serve(folder: Path, *options: str, **environ: str) -> Iterator[str]:
    places = {"CD4ML_ROOT": str(ROOT), "CD4ML_RELEASE_STORE": str(folder / "releases"),
              "CD4ML_PREDICTION_LOG": str(folder / "predictions")}
    process = subprocess.Popen([str(BIN / "cd4ml"), "serve", PROBLEM, "--port", "0", *options], text=True,
                               env=os.environ | places | environ, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        said = ""
        while not (found := re.search(r"(https?://\S+?)/ ", said)):
            line = process.stderr.readline()
            assert line, said
            said += line
        yield found[1]
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("task", "is_portable", "key"), [("binary", True, "a-key"), ("regression", False, "")])
def test_no_request_out_of_a_thousand_breaks_the_document(tmp_path: Path, task: str, is_portable: bool,
                                                          key: str) -> None:
    """No 5xx; status, type, headers and body as documented; wrong data refused, right data taken; keys asked for."""
    write_release(Store(str(tmp_path / "releases")), task, is_portable)
    with serve(tmp_path, **({"CD4ML_API_KEYS": key} if key else {})) as address:
        urllib.request.urlopen(f"{address}/openapi.json", timeout=120).close()  # it has put its framework together
        command = [str(BIN / "st"), "--config-file", str(Path(__file__).with_name("schemathesis.toml")), "run",
                   f"{address}/openapi.json", "--seed", "1", "-n", "80", "--continue-on-failure", "--no-color",
                   "--request-timeout", "60", "--report", "json", "--report-json-path", str(tmp_path / "report.json")]
        header = ["-H", f"X-API-Key: {key}"] if key else []
        done = subprocess.run([*command, *header], capture_output=True, text=True, cwd=tmp_path, timeout=500)
    shown = "\n".join(line[:300] for line in (done.stdout + done.stderr).splitlines())
    assert done.returncode == 0, shown
    told = json.loads((tmp_path / "report.json").read_text())
    assert told["operations"]["tested"] == told["operations"]["total"] == 11
    assert told["test_cases"]["generated"] >= 1000
    assert told["test_cases"]["with_failures"] == told["test_cases"]["errored"] == 0
    taken = {call: sum(phase["accepted"] for phase in phases.values())
             for call, phases in told["valid_rates"].items()}
    assert min(taken["POST /predict"], taken["POST /invocations"]) >= 30, taken
    log = tmp_path / "predictions"
    assert summarise_log(log, PROBLEM).count >= taken["POST /predict"]
    assert len(read_outcomes(log)) >= 3  # by the link from an answer to what came of it
