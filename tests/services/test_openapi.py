"""A server is held to its own OpenAPI document: each call, with right and wrong requests by the hundred."""

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from server_process import PROBLEM, promote, serve, write_release
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from cd4ml.base.store import Store
from cd4ml.data.profile import profile_frame
from cd4ml.production.outcomes import read_outcomes
from cd4ml.production.predictions import summarise_log

pytestmark = [pytest.mark.slow, pytest.mark.services]
BIN = Path(sys.executable).parent


def keep_release(store: Store, task: str, is_portable: bool) -> None:
    rng = np.random.default_rng(3)
    rows = pd.DataFrame({"hour": rng.integers(5, 23, 400), "temp": rng.normal(60, 10, 400),
                         "is_hub": rng.random(400) < 0.5, "carrier": rng.choice(["AA", "B6", "UA"], 400)})
    rows["carrier"] = rows["carrier"].where(rows["hour"] != 8)
    late = rows["hour"] * 1.5 if task == "regression" else rng.random(400) < rows["hour"] / 25
    encode = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1)
    trees = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    model = make_pipeline(make_column_transformer((encode, ["carrier"]), remainder="passthrough"), trees(max_iter=5))
    model.fit(rows, late)
    more = {"reports/evaluate.html": b"<!doctype html><title>report</title>",
            "profile.json": json.dumps(profile_frame(rows).to_dict()).encode()}
    write_release(store, model, rows, is_portable=is_portable, more=more)
    promote(store)


@pytest.mark.parametrize(("task", "is_portable", "key"), [("binary", True, "a-key"), ("regression", False, "")])
def test_no_request_out_of_a_thousand_breaks_the_document(tmp_path: Path, task: str, is_portable: bool,
                                                          key: str) -> None:
    """No 5xx; status, type, headers and body as documented; wrong data refused, right data taken; keys asked for."""
    keep_release(store := Store(str(tmp_path / "releases")), task, is_portable)
    with serve(store, **({"CD4ML_API_KEYS": key} if key else {})) as (_, address):
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
