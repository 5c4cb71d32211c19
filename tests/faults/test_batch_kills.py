"""A batch job killed at random moments: no row lost, none doubled, nothing half written ever to be seen."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLER = '''
import json, os, random, signal, sys, time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from cd4ml.model.training import predict_rows
from cd4ml.production.batch import BatchJob, score_table
from cd4ml.production.requests import list_features
from cd4ml.production.scorer import Scorer

folder, seed = Path(sys.argv[1]), int(sys.argv[2])
dice, rng = random.Random(seed), np.random.default_rng(seed)
X = pd.DataFrame(rng.normal(size=(5_000, 3)), columns=["a", "b", "c"])
X.iloc[::397, 0] = np.inf
model = LogisticRegression().fit(X[1:390], X["b"][1:390] > 0)
scorer = Scorer(model, list_features([(name, "float64") for name in X], "The model"), "binary", 1)
X[1:390].to_parquet(folder / "warm.parquet")
score_table(scorer, BatchJob(folder / "warm.parquet", folder / "warm.csv", 100))  # imports what a fork needs
kills = resumed = 0


def start(job):
    child = os.fork()
    if child == 0:
        os._exit(10 if score_table(scorer, job).resumed else 0)
    return child


def finish(job, longest):
    """Start `job` until an attempt ends, each of the first dozen killed after up to `longest` seconds."""
    global kills, resumed
    for tries in range(13):
        child = start(job)
        if tries < 12:
            time.sleep(dice.uniform(0, longest))
        ended, status = os.waitpid(child, os.WNOHANG if tries < 12 else 0)
        if ended:
            resumed += os.waitstatus_to_exitcode(status) == 10
            assert os.waitstatus_to_exitcode(status) in (0, 10), status
            return
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1


def look(job):
    out = pd.read_parquet(job.target) if job.target.suffix == ".parquet" else pd.read_csv(job.target)
    aside = pd.read_csv(job.aside)
    assert sorted([*out["row"], *aside["row"]]) == list(range(5_000)), "a row is lost or doubled"
    assert aside["row"].tolist() == list(range(0, 5_000, 397))
    expected = predict_rows(model, X.loc[out["row"]], "binary")
    assert np.allclose(out["probability"], expected["probability"], rtol=0, atol=1e-15)
    assert not job.folder.exists()


for suffix in (".parquet", ".csv"):
    job = BatchJob(folder / f"in{suffix}", folder / f"out{suffix}", 100)
    X.to_parquet(job.source) if suffix == ".parquet" else X.to_csv(job.source, index=False)
    began = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(start(job), 0)[1]) == 0
    took = time.monotonic() - began
    for _ in range(4):
        job.target.unlink()
        job.aside.unlink()
        finish(job, took)
        look(job)
print(json.dumps({"kills": kills, "resumed": resumed}))
'''


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_no_row_is_lost_or_doubled_by_kills_at_random_moments(tmp_path: Path, seed: int) -> None:
    done = subprocess.run([sys.executable, "-c", KILLER, str(tmp_path), str(seed)], capture_output=True, text=True,
                          check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["kills"] >= 2, told
    assert told["resumed"] >= 1, told
