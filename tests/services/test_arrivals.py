"""Files that arrive in a folder, a real Spark that answers them, and a kill in between."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from cd4ml.model.training import dump_model, predict_rows

pytestmark = [pytest.mark.slow, pytest.mark.services]
X = pd.DataFrame(np.random.default_rng(3).normal(size=(600, 2)), columns=["temp", "wind"])
MODEL = LogisticRegression().fit(X, X["temp"] > 0)
RUN = """
import sys
from pathlib import Path
from cd4ml.model.training import load_model
from cd4ml.production.arrivals import Arrivals, answer_arrivals
from cd4ml.production.requests import list_features
from cd4ml.production.scorer import Scorer

folder, is_endless = Path(sys.argv[1]), sys.argv[2] == "endless"
model = load_model((folder / "model.skops").read_bytes())
features = list_features([("temp", "float64"), ("wind", "float64")], "The model")
scorer = Scorer(model, features, "binary", 3, None, ("flight",))
arrivals = Arrivals(folder / "in", folder / "out", 1, is_endless)
answer_arrivals(scorer, arrivals, announce=lambda batch: print(batch, flush=True))
"""


def arrive(folder: Path, number: int) -> None:
    rows = X[number * 100:(number + 1) * 100].reset_index(drop=True)
    rows["flight"] = [f"{number}-{i}" for i in range(100)]
    rows.loc[7, "temp"] = np.inf
    rows.to_parquet(folder / "part")
    (folder / "part").rename(folder / "in" / f"{number}.parquet")


def test_every_file_is_answered_though_the_stream_is_killed(tmp_path: Path, find_tool) -> None:
    find_tool("java")
    (tmp_path / "in").mkdir()
    (tmp_path / "model.skops").write_bytes(dump_model(MODEL))
    for number in range(3):
        arrive(tmp_path, number)
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    with open(tmp_path / "log", "w") as log:
        first = subprocess.Popen([*command, "endless"], stdout=subprocess.PIPE, stderr=log, text=True,
                                 start_new_session=True)
        assert first.stdout.readline().strip() == "0", (tmp_path / "log").read_text()
        arrive(tmp_path, 3)
        time.sleep(0.5)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    for number in (4, 5):
        arrive(tmp_path, number)
    done = subprocess.run([*command, "once"], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    out = pd.read_parquet(tmp_path / "out" / "answers")
    assert len(out) == len(out.drop_duplicates(["file", "row"])) == 594
    assert set(out["file"]) == {f"{number}.parquet" for number in range(6)}
    out = out.sort_values(["file", "row"])
    assert (out["flight"] == out["file"].str[0] + "-" + out["row"].astype(str)).all()
    asked = X.drop([number * 100 + 7 for number in range(6)])
    expected = predict_rows(MODEL, asked, "binary")["probability"]
    np.testing.assert_allclose(out["probability"], expected, rtol=0, atol=1e-12)
    assert set(out["release"]) == {3}
    aside = pd.read_parquet(tmp_path / "out" / "aside")
    assert aside["row"].tolist() == [7] * 6
    assert aside["reason"].str.contains("finite").all()
