"""What an answer of the ONNX form of a model costs, beside scikit-learn's own: one row, and a hundred."""

from collections.abc import Iterator
from itertools import cycle
from typing import Any

from pairs import ROOT, Row, at_most, faster, make_row, time_pair


def measure(turns: int) -> Iterator[Row]:
    """Measure the model of flights, and a random forest on its columns; with one turn those of houses."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
    from sklearn.pipeline import make_pipeline

    from cd4ml.model.problem import find_problem

    name = "flights" if turns > 1 else "houses"
    problem, rows = find_problem(name), read_rows(name)
    X, y = rows[list(problem.features)], rows[problem.target]
    model = problem.build_model(problem.params().train).fit(X, y)
    kind = RandomForestRegressor if problem.task == "regression" else RandomForestClassifier
    forest = make_pipeline(model[0], kind(100, min_samples_leaf=20, n_jobs=1, random_state=0))
    forest.fit(X[:20_000], y[:20_000])
    yield from measure_model(f"{name}, boosting", model, X, turns)
    yield from measure_model(f"{name}, forest of 100 trees", forest, X, turns)


def read_rows(name: str) -> Any:
    """Return the rows that the model of the problem `name` learns from."""
    from cd4ml.data.catalog import load_dataset
    from cd4ml.model.problem import find_problem

    problem = find_problem(name)
    params = problem.params().prepare
    frames = {one.name: load_dataset(one, ROOT) for one in problem.datasets}
    return problem.split_rows(problem.prepare_rows(frames, params), params).train


def measure_model(title: str, model: Any, X: Any, turns: int) -> Iterator[Row]:
    """Measure answers to checked rows as a request holds them; scikit-learn is spared to make a frame of each."""
    from threadpoolctl import threadpool_limits

    from cd4ml.delivery.export import export_model
    from cd4ml.delivery.portable import load_portable
    from cd4ml.model.training import predict_rows

    task = "binary" if hasattr(model, "classes_") else "regression"
    portable = load_portable(export_model(model, X, task))
    asked = X.sample(2000, random_state=0)
    plain = asked.astype(object).where(asked.notna(), None).to_dict("records")
    for count, bounds in ((1, (at_most(40e-6), faster(10))), (100, ())):
        few = cycle([plain[i: i + count] for i in range(0, 2000, count)])
        frames = cycle([asked.iloc[i: i + count] for i in range(0, 2000, count)])
        many, some = (10_000 // count, 50) if turns > 1 else (200, 20)

        def answer(few: Any = few, many: int = many) -> None:
            for _ in range(many):
                portable.answer_rows(next(few))

        def predict(frames: Any = frames, some: int = some) -> None:
            with threadpool_limits(1, "openmp"):
                for _ in range(some):
                    predict_rows(model, next(frames), task)

        ours, theirs = time_pair(answer, predict, turns)
        yield make_row(f"{title}, {count} row{'s' * (count > 1)}, ONNX | scikit-learn, frames ready-made",
                       (ours / many, theirs / some), *bounds)
