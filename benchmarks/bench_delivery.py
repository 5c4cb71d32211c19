"""What starting and logging a model cost beside what others offer for it."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace

from pairs import ROOT, Row, command, make_row, time_pair


def measure(turns: int) -> Iterator[Row]:
    """Measure everything."""
    yield from measure_start(turns)
    yield measure_logging(min(turns, 3))


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
