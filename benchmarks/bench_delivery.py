"""What starting, logging a model and honest intervals cost beside what others offer for it."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace

from pairs import ROOT, Row, command, make_row, time_pair


def measure(turns: int) -> Iterator[Row]:
    """Measure everything."""
    yield from measure_start(turns)
    yield measure_logging(min(turns, 3))
    yield measure_intervals(min(turns, 3))


def measure_start(turns: int) -> Iterator[Row]:
    """Measure what it takes until something happens."""
    bare, ours = command("python", "-c", "import cd4ml"), command("cd4ml", "--help")
    yield make_row("import cd4ml | python that does nothing", time_pair(bare, command("python", "-c", "pass"), turns))
    for peer in ("papermill", "mlflow"):
        yield make_row(f"cd4ml --help | {peer} --help", time_pair(ours, command(peer, "--help"), turns))


def measure_logging(turns: int) -> Row:
    """Measure logging a model with the lock's requirements beside MLflow's own inference of them."""
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
        return make_row("log a model, requirements from the lock | inferred by MLflow", time_pair(*jobs, turns))


def measure_intervals(turns: int) -> Row:
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
    ours, theirs = time_pair(lambda: evaluate_predictions(scored, names, resampling), resample_with_scipy, turns)
    return make_row("intervals, 28,000 rows, 4 metrics, 1,000 resamples | scipy with scikit-learn",
                    (ours, theirs * share), note=f"scipy draws one in {share}, scaled up")
