"""Files that arrive in a folder, a real Spark that answers them, files that are none, and a kill in between."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from waiting import wait_until

from cd4ml.model.training import dump_model, predict_rows

pytestmark = [pytest.mark.slow, pytest.mark.services]
X = pd.DataFrame(np.random.default_rng(3).normal(size=(400, 2)), columns=["temp", "wind"])
MODEL = LogisticRegression().fit(X, X["temp"] > 0)
RUN = """
import os, signal, sys
from pathlib import Path
from cd4ml.model.training import load_model
from cd4ml.production.arrivals import Arrivals, answer_arrivals
from cd4ml.production.requests import list_features
from cd4ml.production.scorer import Scorer

folder, last = Path(sys.argv[1]), int(sys.argv[2])
model = load_model((folder / "model.skops").read_bytes())
features = list_features([("temp", "float64"), ("wind", "float64")], "The model")

def announce(batch, refused):
    print(batch, *refused, flush=True)
    if batch == last:  # its answers are written, and Spark has not noted it
        os.killpg(0, signal.SIGKILL)

arrivals = Arrivals(folder / "in", folder / "out", 1, is_endless=last >= 0)
answer_arrivals(Scorer(model, features, "binary", 3), arrivals, announce=announce)
"""


def arrive(folder: Path, name: str, rows: pd.DataFrame | bytes) -> None:
    """Move a file into the folder that is watched when it is whole."""
    if isinstance(rows, bytes):
        (folder / "part").write_bytes(rows)
    else:
        rows.reset_index(drop=True).to_parquet(folder / "part")
    (folder / "part").rename(folder / "in" / f"{name}.parquet")


def take_rows(number: int) -> pd.DataFrame:
    rows = X[number * 100:(number + 1) * 100].reset_index(drop=True)
    rows.loc[7, "temp"] = np.inf
    return rows


def test_every_good_file_is_answered_though_the_stream_is_killed_and_bad_ones_come(tmp_path: Path, find_tool) -> None:
    find_tool("java")
    (tmp_path / "in").mkdir()
    (tmp_path / "model.skops").write_bytes(dump_model(MODEL))
    command, spark = [sys.executable, "-c", RUN, str(tmp_path)], tmp_path / "out" / ".checkpoint" / "spark"
    with open(tmp_path / "log", "w") as log:
        first = subprocess.Popen([*command, "1"], stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
        wait_until((spark / "metadata").exists, "Spark waits for a file", 300)
        arrive(tmp_path, "0", take_rows(0))
        assert first.stdout.readline().strip() == "0", (tmp_path / "log").read_text()
        arrive(tmp_path, "nonsense", b"no parquet!")
        assert "1 nonsense.parquet: The table cannot be read" in first.stdout.readline()
        assert first.wait(60) == -signal.SIGKILL
    assert (spark / "offsets" / "1").exists()
    assert not (spark / "commits" / "1").exists()
    arrive(tmp_path, "lacks", take_rows(1)[["temp"]])
    arrive(tmp_path, "texts", take_rows(1).assign(wind="mild"))
    for number in (1, 2, 3):
        arrive(tmp_path, str(number), take_rows(number).assign(more=number))
    done = subprocess.run([*command, "-1"], capture_output=True, text=True, timeout=900, start_new_session=True)
    assert done.returncode == 0, done.stderr[-3000:]
    out = pd.read_parquet(tmp_path / "out" / "answers").sort_values(["file", "row"])
    assert out["file"].tolist() == [f"{number}.parquet" for number in range(4) for _ in range(99)]
    assert out["row"].tolist() == [row for _ in range(4) for row in range(100) if row != 7]
    expected = predict_rows(MODEL, X.drop([number * 100 + 7 for number in range(4)]), "binary")["probability"]
    np.testing.assert_allclose(out["probability"], expected, rtol=0, atol=1e-12)
    assert set(out["release"]) == {3}
    aside = pd.read_parquet(tmp_path / "out" / "aside").set_index("file").sort_index()
    assert aside["row"].fillna(-1).to_dict() == {f"{number}.parquet": 7 for number in range(4)} | {
        f"{name}.parquet": -1 for name in ("lacks", "nonsense", "texts")}
    for name, reason in (("0", "finite"), ("nonsense", "cannot be read"), ("lacks", "'wind' is missing"),
                         ("texts", "'wind' is")):
        assert reason in aside["reason"][f"{name}.parquet"]
