"""Measure what a delivery costs beside its peers, A and B in turn in one run; print medians and ratios.

Run it with `make bench`. `--quick` takes fewer turns, to see that it works.
"""

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
QUIET = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "PYTHONDONTWRITEBYTECODE": ""}
Job = Callable[[], object]


def time_pair(ours: Job, theirs: Job, turns: int) -> dict[str, float]:
    """Return the median seconds of both, called in turn after one call each that is not counted."""
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for turn in range(turns + 1):
        for name, job in (("ours", ours), ("theirs", theirs)):
            began = time.perf_counter()
            job()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    found = {name: statistics.median(values) for name, values in seconds.items()}
    return found | {"ratio": found["theirs"] / found["ours"]}


def command(*words: str, cwd: Path = ROOT) -> Job:
    """Return a job that runs a command and fails if it does."""
    return lambda: subprocess.run(words, cwd=cwd, env=QUIET, check=True, capture_output=True)


def measure_start(turns: int) -> dict[str, dict[str, float]]:
    """Measure what it takes until something happens."""
    python, papermill, mlflow = str(BIN / "python"), str(BIN / "papermill"), str(BIN / "mlflow")
    ours = command(str(BIN / "cd4ml"), "--help")
    return {
        "import cd4ml | python that does nothing": time_pair(command(python, "-c", "import cd4ml"),
                                                             command(python, "-c", "pass"), turns),
        "cd4ml --help | papermill --help": time_pair(ours, command(papermill, "--help"), turns),
        "cd4ml --help | mlflow --help": time_pair(ours, command(mlflow, "--help"), turns),
    }


def measure_unchanged(turns: int) -> dict[str, dict[str, float]]:
    """Measure a delivery of three steps in which nothing changed beside papermill on one empty notebook."""
    from nbformat import v4, write

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write(v4.new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "", "language": "python"}}),
              place / "in.ipynb")
        environ = {"CD4ML_RUN_STORE": f"{place}/run", "CD4ML_DATA_STORE": f"{place}/data",
                   "CD4ML_TRACKING_URI": f"sqlite:///{place}/mlflow.db"}
        QUIET.update(environ)
        ours = command(str(BIN / "cd4ml"), "run", "iris")
        ours()
        theirs = command(str(BIN / "papermill"), "in.ipynb", "out.ipynb", cwd=place)
        return {"cd4ml run, nothing changed | papermill, one empty notebook": time_pair(ours, theirs, turns)}


def measure_logging(turns: int) -> dict[str, dict[str, float]]:
    """Measure logging a model with the lock's requirements beside MLflow's own inference of them."""
    from dataclasses import replace

    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    from cd4ml.base.settings import load_settings
    from cd4ml.delivery.provenance import read_requirements
    from cd4ml.delivery.tracking import ModelLog, log_model, open_tracker
    from cd4ml.model.training import TRUSTED_TYPES

    X = pd.DataFrame({"length": [0.0, 1.0, 2.0, 3.0] * 50})
    model = LogisticRegression().fit(X, [0, 0, 1, 1] * 50)
    needed = read_requirements(ROOT / "requirements.lock", ("scikit-learn", "pandas", "numpy", "scipy", "skops"))
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        settings = replace(load_settings(ROOT), run_store=folder, tracking_uri=uri, registry_uri=uri)
        tracker = open_tracker(settings, "bench", "bench", {})
        ours = ModelLog(model, X.head(5), needed, TRUSTED_TYPES)
        theirs = replace(ours, requirements=[])  # none given: MLflow infers them
        jobs = (lambda: log_model(tracker, ours), lambda: log_model(tracker, theirs))
        return {"log a model, requirements from the lock | inferred by MLflow": time_pair(*jobs, turns)}


def measure_intervals(turns: int) -> dict[str, dict[str, float]]:
    """Measure intervals of four metrics over 31 days beside scipy's bootstrap with scikit-learn's metrics.

    scipy draws a twentieth of the resamples; its time is scaled up in proportion, which favours it, as the jackknife
    behind its BCa interval is left out.
    """
    import numpy as np
    import pandas as pd
    from scipy.stats import bootstrap
    from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

    from cd4ml.model.evaluation import Resampling, Scored, evaluate_predictions

    rng, n, drawn, share = np.random.default_rng(0), 28_000, 1000, 20
    chance, day = rng.random(n), rng.integers(0, 31, n)
    y = rng.random(n) < chance
    answers = pd.DataFrame({"prediction": chance > 0.5, "probability": chance})
    scored = Scored(pd.Series(y), answers, "binary", pd.Series(day))
    names = ("roc_auc", "log_loss", "brier", "average_precision")
    rows = [np.flatnonzero(day == one) for one in range(31)]

    def resample_with_scipy() -> None:
        for metric in (roc_auc_score, log_loss, brier_score_loss, average_precision_score):
            def measure(days: "np.ndarray", metric: Callable[..., float] = metric) -> float:
                chosen = np.concatenate([rows[one] for one in days])
                return metric(y[chosen], chance[chosen])
            bootstrap((np.arange(31),), measure, n_resamples=drawn // share, method="percentile", vectorized=False)

    resampling = Resampling(resamples=drawn)
    found = time_pair(lambda: evaluate_predictions(scored, names, resampling), resample_with_scipy, turns)
    scaled = found["theirs"] * share
    return {"intervals, 28,000 rows, 4 metrics, 1,000 resamples | scipy with scikit-learn":
            {"ours": found["ours"], "theirs": scaled, "ratio": scaled / found["ours"]}}


def show(results: dict[str, dict[str, float]]) -> None:
    """Print one row a pair."""
    from rich.console import Console
    from rich.table import Table

    table = Table("ours", "theirs", "ours [s]", "theirs [s]", "times faster")
    for name, one in results.items():
        ours, theirs = name.split(" | ")
        table.add_row(ours, theirs, f"{one['ours']:.3f}", f"{one['theirs']:.3f}", f"{one['ratio']:.1f}")
    Console(width=150).print(table)


def main() -> None:
    """Measure everything, print it and write it to results/latest.json, or where --out says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one turn each")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/latest.json")
    options = parser.parse_args()
    turns = 1 if options.quick else 5
    results = measure_start(turns) | measure_unchanged(turns) | measure_logging(min(turns, 3))
    results |= measure_intervals(1 if options.quick else 3)
    show(results)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}
    record = {"format": 1, "at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "machine": machine,
              "turns": turns, "results": results}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
