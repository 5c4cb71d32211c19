"""What honest intervals, the gate and its report cost: beside scipy's bootstrap, and beside the training itself."""

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairs import BIN, ROOT, Row, isolate, make_row, time_pair

if TYPE_CHECKING:
    from cd4ml.model.evaluation import Scored

NAMES = ("roc_auc", "average_precision", "log_loss", "brier")
SHARE = 50  # scipy draws one resample in so many; its time is scaled up


def measure(turns: int) -> Iterator[Row]:
    """Measure everything; with one turn, on small data."""
    yield from measure_intervals(turns)
    yield from measure_gate(turns)


def measure_intervals(turns: int) -> Iterator[Row]:
    """Measure 2,000 resamples of four metrics, on all rows and in each of ten slices, beside scipy's plain loop.

    By day, as for flights, and by row. scipy's time is scaled up in proportion, which favours it: its BCa interval
    would also need a jackknife, and ours has one.
    """
    import numpy as np
    import pandas as pd

    from cd4ml.model.evaluation import Resampling, Scored, evaluate_predictions
    from cd4ml.model.slices import cut_slices, evaluate_slices

    rng, n = np.random.default_rng(0), 28_000 if turns > 1 else 2_000
    chance, day = rng.random(n), pd.Series(rng.integers(0, 31, n))
    y, place = pd.Series(rng.random(n) < chance), pd.DataFrame({"place": rng.integers(0, 10, n)})
    answers = pd.DataFrame({"prediction": chance > 0.5, "probability": chance})
    resampling, slices = Resampling(resamples=2000 if turns > 1 else 200), cut_slices(place, ["place"])
    for kind, unit in (("day", day), ("row", None)):
        scored = Scored(y, answers, "binary", unit)

        def resample(scored: Scored = scored) -> None:
            evaluate_predictions(scored, NAMES, resampling)
            for name in NAMES:
                evaluate_slices(scored, slices, name, resampling)

        parts = [np.arange(n), *(one.rows for one in slices)]
        ours, theirs = time_pair(resample, lambda scored=scored, parts=parts: resample_with_scipy(
            scored, parts, max(resampling.resamples // SHARE, 2)), min(turns, 3))
        yield make_row(f"intervals by {kind}, {n:,} rows, 4 metrics, all and 10 slices | scipy with scikit-learn",
                       (ours, theirs * SHARE), note=f"scipy draws one in {SHARE}, scaled up")


def resample_with_scipy(scored: "Scored", parts: list[Any], drawn: int) -> None:
    """Draw `drawn` resamples of the units of each of `parts` for four metrics of scikit-learn."""
    import numpy as np
    from scipy.stats import bootstrap
    from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

    y, chance, codes = scored.truth, scored.predictions["probability"].to_numpy(), scored.units.codes
    for part in parts:
        units = np.unique(codes[part])
        rows = {unit: part[codes[part] == unit] for unit in units} if len(units) < len(part) else None
        for metric in (roc_auc_score, log_loss, brier_score_loss, average_precision_score):
            def measure(drawn: "np.ndarray", metric: Callable[..., float] = metric, rows: Any = rows) -> float:
                chosen = drawn if rows is None else np.concatenate([rows[one] for one in drawn])
                return metric(y[chosen], chance[chosen])

            bootstrap((units,), measure, n_resamples=drawn, method="percentile", vectorized=False)


def measure_gate(turns: int) -> Iterator[Row]:
    """Measure the evaluation of a candidate beside a champion, and its report, beside the training that it judges."""
    problem = "flights" if turns > 1 else "iris"
    found: dict[str, list[float]] = {"evaluate": [], "train": []}
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as place:
            environ = isolate(Path(place))
            run_step_times("release", problem, environ)
            seconds = run_step_times("run", problem, environ, "-p", "train.seed=1")
        for name, known in found.items():
            known.append(seconds[name])
    ours, theirs = (sorted(known)[len(known) // 2] for known in found.values())
    yield make_row(f"{problem}: gate, figures and report beside a champion | the training itself", (ours, theirs))


def run_step_times(word: str, problem: str, environ: dict[str, str], *more: str) -> dict[str, float]:
    """Return the seconds that each step of `cd4ml word problem` took."""
    done = subprocess.run([BIN / "cd4ml", word, problem, "--json", *more], env=environ, cwd=ROOT, capture_output=True,
                          text=True, check=False)
    data = json.loads(done.stdout)
    return {step["name"]: step["seconds"] for step in data.get("run", data)["steps"]}
