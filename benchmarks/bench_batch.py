"""What answering a whole table costs: `cd4ml score`, checks and files included, beside scikit-learn's own predict."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairs import ROOT, Row, make_row, time_pair, within

if TYPE_CHECKING:
    import pandas as pd

SHARE = 0.9  # of scikit-learn's speed on all cores


def measure(turns: int) -> Iterator[Row]:
    """Measure Parquet and CSV; with one turn, on a few thousand rows."""
    from cd4ml.delivery.export import export_model
    from cd4ml.delivery.portable import load_portable
    from cd4ml.model.problem import find_problem
    from cd4ml.production.batch import BatchJob, score_table
    from cd4ml.production.requests import list_features
    from cd4ml.production.scorer import Scorer

    problem = find_problem("flights")
    rows = prepare_flights(problem)
    features = list(problem.features)
    model = problem.build_model(problem.params().train).fit(rows[features][:100_000], rows["late"][:100_000])
    asked = rows[features] if turns > 1 else rows[features][:5_000]
    kinds = list_features([(name, str(kind)) for name, kind in asked.dtypes.items()], "The model")
    quick = load_portable(export_model(model, asked[:1000], problem.task))
    scorer = Scorer(model, kinds, problem.task, 1, problem.contracts()["rows"], quick=quick)
    with tempfile.TemporaryDirectory() as place:
        for suffix, bounds in ((".parquet", (within(1 / SHARE),) if turns > 1 else ()), (".csv", ())):
            job = BatchJob(Path(place) / f"in{suffix}", Path(place) / f"out{suffix}")
            asked.to_parquet(job.source) if suffix == ".parquet" else asked.to_csv(job.source, index=False)
            seconds = time_pair(lambda job=job: score_table(scorer, job), lambda: model.predict_proba(asked), turns)
            yield make_row(f"flights, {len(asked):,} rows, {suffix[1:]} in and out, checked | predict_proba in memory",
                           seconds, *bounds, note=f"{len(asked) / seconds[0]:,.0f} rows/s")


def prepare_flights(problem: Any) -> "pd.DataFrame":
    """Return the prepared rows of flights."""
    from cd4ml.data.catalog import load_dataset

    frames = {one.name: load_dataset(one, ROOT) for one in problem.datasets}
    return problem.prepare_rows(frames, None)
